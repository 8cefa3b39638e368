"""What the database's owner made there keeps its name; what the vendor sends later gets another one."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests import services
from tests.models.write_path import TABLE, fields, live, row, rows, schema_changes, write

if TYPE_CHECKING:
    from models.db.database import Database


def execute(database: Database, *statements: str) -> None:
    with database.begin() as tx:
        for statement in statements:
            tx.execute(sa.text(statement))


@pytest.mark.parametrize("own", ["margin numeric", '"Margin" numeric', "margin text DEFAULT 'mine'"])
def test_a_field_whose_name_the_owner_gave_to_a_column_gets_another_one(database: Database, own: str) -> None:
    write(database, {"1": {"code": "A"}, "2": {"code": "B"}})
    execute(database, f"ALTER TABLE {TABLE} ADD COLUMN {own}")
    write(database, {"1": {"code": "A", "margin": Decimal("12.5")}, "2": {"code": "edited"}}, revision=2)
    (_, name, path) = schema_changes(database, "column")[-1]
    assert name is not None
    assert (True, "margin") == (re.fullmatch(r"margin_[0-9a-f]{8}", name) is not None, path)
    assert [(Decimal("12.5"), "A"), (None, "edited")] == [(each[name], each["code"]) for each in rows(database)]


def test_likewise_a_generated_column_and_one_for_values_that_do_not_fit(database: Database) -> None:
    write(database, {"1": {"total": 1}})
    stored = "" if database.is_sqlite else "STORED"
    execute(
        database,
        f"ALTER TABLE {TABLE} ADD COLUMN margin text GENERATED ALWAYS AS (_key) {stored}",
        f"ALTER TABLE {TABLE} ADD COLUMN total__text text",
    )
    write(database, {"1": {"total": "many", "margin": "x"}}, revision=2)
    found = {name.rpartition("_")[0]: value for name, value in fields(row(database, "1")).items()}
    assert {"": None, "margin": "x", "total__text": "many"} == found


def test_likewise_on_the_table_of_a_part(database: Database) -> None:
    write(database, {"1": {"rows": [{"x": 1}]}})
    execute(database, f"ALTER TABLE {TABLE}__rows ADD COLUMN margin numeric")
    write(database, {"1": {"rows": [{"x": 1, "margin": 2}]}}, revision=2)
    (found,) = (fields(each) for each in rows(database, part="rows"))
    assert [Decimal(1), Decimal(2)] == sorted(found.values())
    assert "margin" not in found


OBJECTS = {
    "a table": 'CREATE TABLE "{}" (mine text)',
    "a view": 'CREATE VIEW "{}" AS SELECT 1 AS mine',
    "an index": 'CREATE TABLE person (mine text); CREATE INDEX "{}" ON person (mine)',
}
ON_A_SERVER = {
    "a type": "CREATE TYPE {} AS ENUM ('mine')",
    "a sequence": "CREATE SEQUENCE {}",
    "a key's index": "CREATE TABLE person (mine text CONSTRAINT pk_{} PRIMARY KEY)",
}


def _mirrored_beside(database: Database, statement: str) -> None:
    execute(database, *statement.split("; "))
    write(database, {"1": {"code": "A", "rows": [{"x": 1}]}})
    assert ({"1": {"code": "A", "rows": [{"x": 1}]}}, {"code": "A"}) == (live(database), fields(row(database, "1")))
    assert [{"x": Decimal(1)}] == [fields(each) for each in rows(database, part="rows")]
    made = {name: path for name, _, path in schema_changes(database, "table")}
    assert [True, True] == [name.startswith(f"{TABLE}_") or name == TABLE for name in made]
    assert 1 == len(made.keys() - {TABLE, f"{TABLE}__rows"}), "the other table has its usual name"


@pytest.mark.parametrize("name", [TABLE, TABLE.upper(), f"{TABLE}__rows"])
@pytest.mark.parametrize("statement", OBJECTS.values(), ids=OBJECTS)
def test_a_table_whose_name_is_taken_gets_another_one(database: Database, statement: str, name: str) -> None:
    _mirrored_beside(database, statement.format(name))


@pytest.mark.parametrize("statement", OBJECTS.values(), ids=OBJECTS)
def test_an_index_whose_name_is_taken_is_left_out(database: Database, statement: str) -> None:
    execute(database, *statement.format(f"ix_{TABLE}_del").split("; "))
    write(database, {"1": {"code": "A"}})
    assert {"1": {"code": "A"}} == live(database)
    assert [] == sa.inspect(database.engine).get_indexes(TABLE)


@services.ON_POSTGRESQL
@pytest.mark.parametrize("name", [TABLE, f"{TABLE}__rows"])
@pytest.mark.parametrize("statement", ON_A_SERVER.values(), ids=ON_A_SERVER)
def test_likewise_what_only_a_server_has(database: Database, statement: str, name: str) -> None:
    _mirrored_beside(database, statement.format(name))
