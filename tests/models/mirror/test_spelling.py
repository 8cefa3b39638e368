"""A field is one column however its name is cased."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from models.mirror.spelling import Spellings
from models.notation import respelled
from models.values import Kind
from tests.models.write_path import TARGET, fields, row, rows, schema_changes, write

if TYPE_CHECKING:
    from models.db.database import Database
    from models.values import JsonObject

DECLARED = replace(
    TARGET, shape={"": {"Id": Kind.NUMBER, "Config.DirectPay": Kind.BOOLEAN}, "Contacts": {"FirstName": Kind.TEXT}}
)


@pytest.mark.parametrize(
    ("expected", "known", "item"),
    [
        ({"Id": 1}, ["Id"], {"id": 1}),
        ({"Id": 1}, ["Id"], {"ID": 1}),
        ({"Id": 1}, ["Id"], {"Id": 1}),
        ({"other": 1}, ["Id"], {"other": 1}),
        ({"Id": 1, "id": 2}, ["Id"], {"Id": 1, "id": 2}),
        ({"id": 2, "Id": 1}, ["Id"], {"id": 2, "Id": 1}),
        ({"id": 2}, ["Id", "id"], {"id": 2}),
        ({"Id": 2}, ["Id", "id"], {"ID": 2}),
        ({"a.B": 1}, ["a\\.B"], {"A.b": 1}),
        ({"Config": {}}, ["Config.Id"], {"config": {}}),
    ],
)
def test_a_known_field_takes_the_known_spelling(expected: JsonObject, known: list[str], item: JsonObject) -> None:
    assert expected == respelled(item, Spellings({"": known}).of_keys("", "", item))


def test_fields_of_objects_and_parts_have_the_columns_of_their_declaration(database: Database) -> None:
    sent = {"id": 7, "config": {"directpay": "true"}, "contacts": [{"firstName": "Anna"}, {"FIRSTNAME": "Jaan"}]}
    write(database, {"7": sent}, target=DECLARED)
    assert {"id": 7, "config__direct_pay": True} == fields(row(database, "7", DECLARED))
    assert ["Anna", "Jaan"] == [each["first_name"] for each in rows(database, DECLARED, "Contacts")]


@pytest.mark.parametrize(
    "batches",
    [
        [{"A": {"Name": "a"}}, {"B": {"name": "b"}, "C": {"NAME": "c"}}],
        [{"A": {"Name": "a"}}, {"B": {"Name": "b"}, "C": {"name": "c"}}],
    ],
)
def test_a_server_that_changes_the_case_of_its_names_fills_the_same_columns(
    database: Database, batches: list[dict[str, JsonObject]]
) -> None:
    for revision, batch in enumerate(batches, start=1):
        write(database, batch, revision=revision)
    assert {"A": "a", "B": "b", "C": "c"} == {each["_key"]: each["name"] for each in rows(database)}
    assert ["name"] == [name for name in row(database, "A") if "name" in name]


def test_the_raw_object_keeps_the_names_as_sent(database: Database) -> None:
    write(database, {"7": {"id": 7}}, target=DECLARED)
    assert {"id": 7} == row(database, "7", DECLARED)["_raw"]


def test_two_fields_of_one_object_that_differ_only_in_case_stay_two_columns(database: Database) -> None:
    both: dict[str, Any] = {"7": {"Note": "one", "note": "other"}}
    write(database, both)
    write(database, both, revision=2)
    assert {"one", "other"} == set(fields(row(database, "7")).values())
    assert 1 == len(schema_changes(database, "table"))
