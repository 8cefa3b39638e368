"""Vendors may name fields anything: no name breaks, hides or overwrites another."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from models import exact
from models.db import tables
from models.mirror import naming
from models.values import Kind
from tests.models.mirror.identifiers import (
    NASTY,
    TARGET,
    Witness,
    assert_kept,
    assert_sound,
    escaped,
    found,
    is_legal,
    leaves,
    parts_of,
    row_of,
    visible,
)
from tests.models.write_path import fields, row, rows, schema_changes, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.db.database import Database
    from models.values import JsonObject


def test_there_are_many_names_to_test() -> None:
    assert len(NASTY) >= 180


PLACES: dict[str, Callable[[list[str]], JsonObject]] = {
    "field": lambda some: {name: f"v{number}" for number, name in enumerate(some)},
    "nested": lambda some: {"o": {name: f"v{number}" for number, name in enumerate(some)}},
    "above": lambda some: {name: {"x": f"v{number}"} for number, name in enumerate(some)},
    "line": lambda some: {"p": [{name: f"v{number}" for number, name in enumerate(some)}]},
    "list": lambda some: {name: [f"v{number}", number] for number, name in enumerate(some)},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_field_of_any_name_has_a_column_of_its_own(database: Database, place: str) -> None:
    witness, raw = Witness(database, TARGET), PLACES[place](NASTY)
    write(database, {"1": raw}, target=TARGET, revision=3)
    assert_sound(database, TARGET)
    shown, seen = row_of(database, TARGET, "1"), found(database, TARGET, "1")
    assert escaped(raw) == shown["_raw"]
    assert dict.fromkeys([f"v{number}" for number in range(len(NASTY))], 1) == {
        leaf: count for leaf, count in seen.items() if leaf.startswith("v")
    }
    witness.assert_untouched()


@pytest.mark.parametrize("place", ["part", "deeper"])
def test_a_part_of_any_name_has_a_table_of_its_own(database: Database, place: str) -> None:
    witness = Witness(database, TARGET)
    for number, start in enumerate(range(0, len(NASTY), 80)):
        target = replace(TARGET, resource=f"many{number}")
        parts = {name: [{"x": f"v{count}"}] for count, name in enumerate(NASTY[start : start + 80])}
        raw = parts if place == "part" else {"p": [parts]}
        write(database, {"1": raw}, target=target, revision=3)
        assert_sound(database, target)
        assert_kept(database, target, "1", raw, revision=3)
        assert len(parts_of(database, target)) == len(parts) + 1 + (place == "deeper")
    witness.assert_untouched()


def test_a_value_that_does_not_fit_is_in_the_sibling_column_whatever_the_name(database: Database) -> None:
    witness = Witness(database, TARGET)
    write(database, {"1": {name: number + 1000 for number, name in enumerate(NASTY)}}, target=TARGET, revision=2)
    raw = {name: f"v{number}" for number, name in enumerate(NASTY)}
    write(database, {"1": raw}, target=TARGET, revision=3)
    assert_sound(database, TARGET)
    assert_kept(database, TARGET, "1", raw, revision=3)
    assert len(NASTY) == len(schema_changes(database, "overflow"))
    witness.assert_untouched()


def test_a_declared_field_of_any_name_has_its_column(database: Database) -> None:
    paths = {naming.step(name): Kind.TEXT for name in NASTY if visible(name) == name}
    target = replace(TARGET, shape={"": paths, "p": paths})
    witness = Witness(database, target)
    raw = {name: f"v{number}" for number, name in enumerate(NASTY)}
    write(
        database, {"1": {**raw, "p": [{name: f"w{value}" for name, value in raw.items()}]}}, target=target, revision=3
    )
    assert_sound(database, target)
    assert set(raw.values()) <= found(database, target, "1").keys()
    witness.assert_untouched()


@pytest.mark.parametrize("resource", NASTY)
def test_a_resource_of_any_name_has_a_legal_table_apart_from_parts_and_bookkeeping(resource: str) -> None:
    table = naming.table("directo", resource)
    assert is_legal(table)
    assert table.startswith("directo_")
    assert "__" not in table
    assert table not in tables.metadata.tables


def test_a_resource_of_any_name_is_written_and_read(database: Database) -> None:
    witness = Witness(database, TARGET)
    met: set[str] = set()
    for name in [each for each in NASTY if visible(each) == each][::5]:  # a name of the settings file, which is UTF-8
        target = replace(TARGET, resource=name, connection="mine")
        if target.table not in met:
            met.add(target.table)
            raw = {"name": "v1", "rows": [{"x": "v2"}]}
            write(database, {"1": raw}, target=target, revision=3)
            assert_sound(database, target)
            assert_kept(database, target, "1", raw, revision=3)
    assert len(met) > 20
    witness.assert_untouched()


def test_an_object_of_any_key_is_written_and_read(database: Database) -> None:
    objects = {key: {"name": f"v{number}"} for number, key in enumerate(NASTY) if visible(key) == key}
    write(database, objects, target=TARGET, revision=3)
    assert {key: raw["name"] for key, raw in objects.items()} == {
        each["_key"]: each["name"] for each in rows(database, TARGET)
    }


def test_names_that_are_one_once_they_are_storable_stay_two(database: Database) -> None:
    raw = {
        "\0": "nul",
        "\\u0000": "text",
        "\0\\u0000": "both",
        "\\u0000\0": "turned",
        "in": {"\ud800": 1, "\\ud800": 2},
    }
    write(database, {"1": raw}, target=TARGET)
    shown = row(database, "1", TARGET)
    assert Counter(["nul", "text", "both", "turned", "1", "2"]) == Counter(leaves(fields(shown)))
    assert "text" == shown["_raw"]["\\u0000"]
    assert exact.same(shown["_raw"], exact.storable(shown["_raw"])), "once is enough"


def test_more_declared_fields_than_a_table_takes_stop_nothing(database: Database) -> None:
    many = {f"f{number}": Kind.NUMBER for number in range(2500)}
    target = replace(TARGET, shape={"": many, "p": many})
    raw = {**dict.fromkeys(many, 1), "p": [dict.fromkeys(many, 2)]}
    write(database, {"1": raw}, target=target)
    write(database, {"1": {**raw, "another": 1}}, target=target, revision=2)
    assert {**raw, "another": 1} == row(database, "1", target)["_raw"]
    assert {"directo_items", "directo_items__p"} == {table for table, _, _ in schema_changes(database, "capped")}


def test_a_table_full_of_declared_fields_has_no_room_for_what_does_not_fit(database: Database) -> None:
    many = {f"f{number}": Kind.NUMBER for number in range(1400)}
    target = replace(TARGET, shape={"": many})
    write(database, {"1": dict.fromkeys(many, 1)}, target=target)
    for revision in (2, 3):
        write(database, {"1": {**dict.fromkeys(many, "x"), "revision": revision}}, target=target, revision=revision)
    shown = row(database, "1", target)
    assert {**dict.fromkeys(many, "x"), "revision": 3} == shown["_raw"]
    assert 1 == len(schema_changes(database, "capped"))
    assert all(value != 1 for value in fields(shown).values()), "no value of an earlier state"
