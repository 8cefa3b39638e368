"""What a person dropped or renamed is found, made anew, and filled from what is stored."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.mirror import damages, mending, rebuild
from tests import services
from tests.models.mirror.test_own_objects import execute
from tests.models.write_path import TABLE, TARGET, live, replayed, rows, write

if TYPE_CHECKING:
    from models.db.database import Database

PART = f"{TABLE}__rows"
OBJECTS: dict[str, Any] = {
    "1": {"total": Decimal("12.50"), "rows": [{"x": 1}, {"x": 2}]},
    "2": {"total": "many", "rows": [{"x": 3}]},
}
OF_PARTS = {
    "a part's table": (f"DROP TABLE {PART}", f"the table {PART} is missing"),
    "a renamed part": (f"ALTER TABLE {PART} RENAME TO mine", f"the table {PART} is missing"),
    "a part's column": (f"ALTER TABLE {PART} DROP COLUMN x", f"the table {PART} lacks x"),
    "a column": (f"ALTER TABLE {TABLE} DROP COLUMN total", f"the table {TABLE} lacks total"),
    "a column for what does not fit": (
        f"ALTER TABLE {TABLE} DROP COLUMN total__text",
        f"the table {TABLE} lacks total__text",
    ),
    "a column of ours": (f"ALTER TABLE {TABLE} DROP COLUMN _listed", f"the table {TABLE} lacks _listed"),
    "a column of ours with a value": (
        f"ALTER TABLE {TABLE} DROP COLUMN _changed_at",
        f"the table {TABLE} lacks _changed_at",
    ),
}
OF_OBJECTS = {
    "the objects' table": (f"DROP TABLE {TABLE}", f"the table {TABLE} is missing"),
    "the renamed table": (f"ALTER TABLE {TABLE} RENAME TO mine", f"the table {TABLE} is missing"),
}


def found(database: Database) -> list[str]:
    with database.read() as tx:
        return [str(damage) for damage in damages.find(tx)]


def values(database: Database, part: str = "") -> list[dict[str, Any]]:
    """The rows without their times."""
    return [
        {name: value for name, value in each.items() if not name.endswith("_at")} for each in rows(database, part=part)
    ]


@pytest.fixture
def mirror(database: Database) -> Database:
    write(database, {"1": {"total": 1}})
    write(database, OBJECTS, revision=2)
    return database


@pytest.mark.parametrize(("damage", "words"), OF_PARTS.values(), ids=OF_PARTS)
def test_parts_and_columns_are_made_anew_and_filled_from_raw(mirror: Database, damage: str, words: str) -> None:
    before = [values(mirror), values(mirror, "rows")]
    execute(mirror, damage)
    assert [words] == found(mirror)
    assert [words] == [str(each) for each in mending.mend(mirror)]
    rebuild.rebuild(mirror, TARGET, progress=lambda _: None)
    assert ([], before) == (found(mirror), [values(mirror), values(mirror, "rows")])
    write(mirror, {"1": {"total": 3, "rows": []}}, revision=3)


@pytest.mark.parametrize(("damage", "words"), OF_OBJECTS.values(), ids=OF_OBJECTS)
def test_the_objects_come_back_from_the_journal(mirror: Database, damage: str, words: str) -> None:
    write(mirror, {"3": {"total": 9}}, revision=3)
    write(mirror, tombstones=["3"], revision=4)
    execute(mirror, damage)
    assert [words] == [str(each) for each in mending.mend(mirror)]
    rebuild.restore(mirror, TARGET)
    rebuild.rebuild(mirror, TARGET, progress=lambda _: None)
    assert (OBJECTS, OBJECTS) == (live(mirror), replayed(mirror))
    assert [1, 2, 3] == [each["x"] for each in values(mirror, "rows")]


@pytest.mark.parametrize("column", ["_raw", "_hash"])
def test_objects_whose_rows_are_left_come_back_too(mirror: Database, column: str) -> None:
    execute(mirror, f"ALTER TABLE {TABLE} DROP COLUMN {column}")
    (damage,) = mending.mend(mirror)
    assert damage.loses_objects
    rebuild.restore(mirror, TARGET)
    assert OBJECTS == live(mirror)
    assert [1, 2, 3] == [each["x"] for each in values(mirror, "rows")]


def test_what_is_whole_is_left_alone(mirror: Database) -> None:
    execute(mirror, f"ALTER TABLE {TABLE} ADD COLUMN own text")
    assert ([], []) == (found(mirror), mending.mend(mirror))


def test_a_view_in_the_place_of_a_table_is_named(mirror: Database) -> None:
    execute(mirror, f"ALTER TABLE {PART} RENAME TO mine", f"CREATE VIEW {PART} AS SELECT * FROM mine")
    with pytest.raises(mending.CannotMendError, match=f"{PART} is no table of erpmirror's any more: rename or drop it"):
        mending.mend(mirror)
    execute(mirror, f"DROP VIEW {PART}")
    assert 1 == len(mending.mend(mirror))


@pytest.mark.parametrize("table", [TABLE, PART])
def test_forgetting_removes_what_is_there(mirror: Database, table: str) -> None:
    execute(mirror, f"DROP TABLE {table}")
    with mirror.begin() as tx:
        rebuild.forget(tx, connection="books", system="directo", resource="invoices")
    mending.mend(mirror)
    assert ([], []) == (rows(mirror), rows(mirror, part="rows"))


@services.ON_POSTGRESQL
def test_a_dropped_key_is_made_anew(mirror: Database) -> None:
    execute(mirror, f"ALTER TABLE {PART} DROP CONSTRAINT pk_{PART}")
    assert [f"the table {PART} lacks its primary key"] == [str(each) for each in mending.mend(mirror)]
    assert [] == found(mirror)


@services.ON_POSTGRESQL
def test_a_column_of_the_key_cannot_be_made_anew(mirror: Database) -> None:
    execute(mirror, f"ALTER TABLE {PART} DROP COLUMN _position")
    with pytest.raises(
        mending.CannotMendError, match="lacks _position, part of its primary key: rename or drop the table"
    ):
        mending.mend(mirror)
    execute(mirror, f"DROP TABLE {PART}")
    mending.mend(mirror)
    rebuild.rebuild(mirror, TARGET, progress=lambda _: None)
    assert [1, 2, 3] == [each["x"] for each in values(mirror, "rows")]


@services.ON_POSTGRESQL
def test_a_table_that_is_read_now_is_not_waited_for(mirror: Database) -> None:
    execute(mirror, f"ALTER TABLE {TABLE} DROP COLUMN total")
    with mirror.begin() as tx:
        tx.execute(sa.text(f"SELECT 1 FROM {TABLE}"))
        with pytest.raises(Exception, match=f"locks the table {TABLE}"):
            mending.mend(mirror)
    assert 1 == len(mending.mend(mirror))
