"""Years 1 to 9999 are stored in one width and come back as they were, in every column of ours and of the mirror."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.db import tables
from tests.models.write_path import TABLE, rows, write

if TYPE_CHECKING:
    from models.db.database import Database

YEARS = ("0001", "0099", "0999", "2026", "9999")


def test_every_year_is_stored_in_one_width_and_sorts_by_time(database: Database) -> None:
    sent = {
        year: {
            "instant": f"{year}-01-01T00:00:00.5Z",
            "local": f"{year}-01-01T00:00:00",
            "day": f"{year}-01-01",
        }
        for year in YEARS
    }
    write(database, sent)
    for column in ("instant", "local", "day"):
        with database.read() as tx:
            stored = tx.execute(sa.text(f"SELECT _key, CAST({column} AS text) FROM {TABLE} ORDER BY {column}")).all()
        assert list(YEARS) == [key for key, _ in stored]
        assert 1 == len({len(text) for _, text in stored}), stored
        assert all(text.startswith(key) for key, text in stored)


def test_every_year_is_read_back(database: Database) -> None:
    moments = {year: datetime(int(year), 1, 1, 12, tzinfo=UTC) for year in YEARS}
    write(
        database,
        {
            year: {"instant": f"{at.isoformat()}", "local": at.isoformat()[:-6], "day": f"{at.date()}"}
            for year, at in moments.items()
        },
    )
    found = {row["_key"]: (row["instant"], row["local"], row["day"]) for row in rows(database)}
    assert {year: (at, at.replace(tzinfo=None), at.date()) for year, at in moments.items()} == found


@pytest.mark.parametrize("year", [1, 9999])
def test_our_own_tables_hold_every_year(database: Database, year: int) -> None:
    at = datetime(year, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    entry = {"at": at, "connection": "books", "resource": "items", "table_name": "t", "path": "p", "kind": "column"}
    with database.begin() as tx:
        tx.execute(sa.insert(tables.schema_changes).values(entry))
        earlier = sa.select(sa.func.count()).where(tables.schema_changes.c.at < at)
        assert 0 == tx.execute(earlier).scalar_one()
        assert at == tx.execute(sa.select(tables.schema_changes.c.at)).scalar_one()


def test_an_instant_that_an_earlier_version_wrote_without_zeros_is_read(sqlite: Database) -> None:
    write(sqlite, {"A": {"seen": "2026-01-01T00:00:00Z"}})
    with sqlite.begin() as tx:
        tx.execute(sa.text(f"UPDATE {TABLE} SET seen = '1-01-01 00:00:00.000000+00:00'"))
    assert [datetime(1, 1, 1, tzinfo=UTC)] == [row["seen"] for row in rows(sqlite)]
