"""What a person did to the tables is told by `status` and `check`, and mended by `migrate`, `rebuild` and `forget`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from models.db import tables
from tests.workers.cli.runner import GOODS, database, ok, refused, rows_of, run, write_settings

TABLE = "dilovod_catalogs_goods"


def execute(*statements: str) -> None:
    with database() as opened, opened.begin() as tx:
        for statement in statements:
            tx.execute(sa.text(statement))


def count(table: str) -> int:
    with database() as opened, opened.read() as tx:
        return int(tx.execute(sa.text(f'SELECT count(*) FROM "{table}"')).scalar_one())


def part() -> str:
    """A part's table that has rows."""
    with database() as opened, opened.read() as tx:
        chosen = sa.select(tables.parts.c.table_name).where(tables.parts.c.owner == TABLE, tables.parts.c.path != "")
        names: list[str] = list(tx.execute(chosen).scalars())
    return next(name for name in names if count(name))


def of_goods() -> dict[str, Any]:
    return next(row for row in json.loads(ok("status", "--json").stdout) if row["resource"] == GOODS)


@pytest.fixture
def polled(shop: Any) -> Any:
    ok("poll", "shop", GOODS)
    return shop


@pytest.mark.usefixtures("polled")
@pytest.mark.parametrize("verb", [["migrate"], ["rebuild", "shop", GOODS], ["rebuild", "shop"]])
def test_a_dropped_part_is_told_and_mended(verb: list[str]) -> None:
    name = part()
    before = count(name)
    execute(f"DROP TABLE {name}")
    assert f"the table {name} is missing; run `erpmirror migrate`" in of_goods()["last_error"]
    assert f"the table {name} is missing → run `erpmirror migrate`" in " ".join(run("check").stdout.split())
    assert f"the table {name} is missing: made anew" in ok(*verb).stderr
    assert (before, None) == (count(name), of_goods()["last_error"])


@pytest.mark.parametrize("verb", [["migrate"], ["rebuild", "shop", GOODS]])
def test_dropped_objects_come_back_from_the_journal(polled: Any, verb: list[str]) -> None:
    execute(f"DROP TABLE {TABLE}")
    assert f"the table {TABLE} is missing" in of_goods()["last_error"]
    assert "They are back as the journal has them, and a full sync begins" in ok(*verb).stderr
    assert len(polled.truth(GOODS)) == count(TABLE)
    ok("poll", "shop", GOODS)
    assert len(polled.truth(GOODS)) == rows_of(GOODS)


def test_forget_removes_what_is_left(polled: Any) -> None:
    execute(f"DROP TABLE {part()}")
    ok("forget", "shop", GOODS, "--yes")
    ok("migrate")
    ok("poll", "shop", GOODS)
    assert len(polled.truth(GOODS)) == rows_of(GOODS)


@pytest.mark.usefixtures("polled")
def test_what_a_person_has_to_do_first_is_said() -> None:
    name = part()
    execute(f"ALTER TABLE {name} RENAME TO mine", f"CREATE VIEW {name} AS SELECT * FROM mine")
    for verb in (["migrate"], ["rebuild", "shop", GOODS]):
        assert f"{name} is no table of erpmirror's any more: rename or drop it" in refused(*verb)


VERBS = (
    ["migrate"],
    ["up"],
    ["backfill", "shop"],
    ["poll", "shop"],
    ["rebuild", "shop"],
    ["status"],
    ["parked", "list"],
)


def test_a_persons_table_of_our_name_is_no_traceback() -> None:
    write_settings('[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nresources = ["catalogs.goods"]\n')
    Path("var").mkdir()
    with sqlite3.connect("var/erpmirror.db") as own:
        own.execute("CREATE TABLE erpmirror_inbox (mine text)")
    own.close()
    for verb in VERBS:
        said = refused(*verb)
        assert "has erpmirror_inbox already, which erpmirror did not make: rename or drop it" in said
    assert "erpmirror_inbox already" in " ".join(run("check").stdout.split())


@pytest.mark.usefixtures("polled")
def test_another_programs_open_transaction_is_said_in_words() -> None:
    own = sqlite3.connect("var/erpmirror.db", isolation_level=None)
    own.execute("BEGIN IMMEDIATE")
    assert "another program holds the database, perhaps with an open transaction: end it there" in refused(
        "rebuild", "shop", GOODS
    )
    assert 0 < rows_of(GOODS), "SQLite's readers do not wait"
    own.close()


@pytest.mark.usefixtures("polled")
def test_a_rule_that_came_late_is_told_until_rebuild_has_cleared_all() -> None:
    write_settings(Path("erpmirror.toml").read_text(encoding="utf-8") + 'omit = ["header.code"]\n')
    ok("poll", "shop", "catalogs.units")  # as a worker that starts with the new settings
    goods = of_goods()
    assert goods["rows"] == goods["unredacted_rows"] == goods["unredacted_entries"] > 0
    assert "run `erpmirror rebuild shop catalogs.goods`, which removes it" in " ".join(ok("status").stdout.split())
    assert f"omit {GOODS}" in run("check").stdout
    ok("rebuild", "shop", GOODS)
    goods = of_goods()
    assert (0, 0, None) == (goods["unredacted_rows"], goods["unredacted_entries"], goods["warning"])
    with database() as opened, opened.read() as tx:
        c = tables.changes.c
        kept = tx.execute(sa.select(c.after).where(c.resource == GOODS)).scalars().all()
    assert [] == [after for after in kept if "code" in after["header"]]
