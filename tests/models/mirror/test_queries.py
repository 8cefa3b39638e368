"""Queries, exports and rebuilds of a resource's rows; the journal replays to the same rows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.db import tables
from models.db.database import Database
from models.mirror import queries, rebuild
from tests.models.write_path import INVOICE, TABLE, TARGET, kinds, live, moment, replayed, rows, write


def test_two_connections_share_a_table_and_nothing_else(database: Database) -> None:
    other = replace(TARGET, connection="other")
    write(database, {"7": INVOICE})
    assert [("7", "created")] == kinds(write(database, {"7": INVOICE}, target=other))
    write(database, tombstones=["7"], revision=2)
    with database.begin() as tx:
        assert (0, 1) == (
            queries.count_live(tx, TARGET),
            queries.count_live(tx, other),
        )
        forgotten = {"connection": "books", "system": "directo", "resource": "invoices"}
        assert 1 == rebuild.forget(tx, **forgotten)
    assert ["other"] == [each["_connection"] for each in rows(database)]
    assert ["other", "other"] == [each["_connection"] for each in rows(database, part="rows")]


def test_a_resource_that_was_never_written_is_empty_everywhere(database: Database) -> None:
    with database.begin() as tx:
        assert 0 == queries.count_live(tx, TARGET)
        assert {} == queries.listed_tokens(tx, TARGET, ["1"])
        assert [] == list(queries.keys_absent(tx, TARGET, before_revision=9))
        assert [] == list(queries.export(tx, TARGET))
        assert 0 == rebuild.forget(tx, connection="books", system="directo", resource="invoices")


def test_absent_keys_are_live_unseen_and_older_than_the_full_sync(database: Database) -> None:
    write(database, {key: {"n": 1} for key in ("1", "2", "3", "4")})
    write(database, tombstones=["2"], revision=2)
    write(database, {"3": {"n": 2}}, revision=9)
    with database.begin() as tx:
        for keys in (["4"], ["4", "none of ours"], ["\\u0000", 'a "quote"', "õ"]):
            seen = {"connection": "books", "resource": "invoices", "keys": keys}
            tx.execute(sa.insert(tables.seen_keys).values(seen))
        tx.execute(sa.insert(tables.seen_keys).values(seen | {"connection": "shop", "keys": ["1"]}))
        assert ["1"] == list(queries.keys_absent(tx, TARGET, before_revision=9))


def test_an_export_shows_every_object_deleted_ones_included(database: Database) -> None:
    write(database, {key: {"n": Decimal("1.10")} for key in ("2", "1")})
    write(database, tombstones=["2"], revision=2)
    with database.read() as tx:
        exported = list(queries.export(tx, TARGET))
    assert [("1", None, {"n": Decimal("1.10")}), ("2", moment(2), {"n": Decimal("1.10")})] == exported


def test_a_rebuild_makes_columns_and_parts_anew_from_raw(database: Database) -> None:
    write(database, {str(number): {**INVOICE, "number": number} for number in range(1200)})
    write(database, tombstones=["5"], revision=2)
    before, parts = rows(database), rows(database, part="rows")
    with database.begin() as tx:
        tx.execute(sa.text(f"UPDATE {TABLE} SET total = NULL, customer__code = 'x'"))
        tx.execute(sa.text(f"DELETE FROM {TABLE}__rows"))
    progress: list[int] = []
    assert 1200 == rebuild.rebuild(database, TARGET, progress=progress.append)
    assert [500, 1000, 1200] == progress
    assert before == rows(database)
    assert parts == rows(database, part="rows")


def test_a_rebuild_applies_new_omit_rules_and_the_journal_still_gives_the_rows(database: Database) -> None:
    write(database, {"7": {"n": 1, "secret": "s"}, "8": {"n": 1}})
    rebuild.rebuild(database, replace(TARGET, omit=("secret",)), progress=lambda _: None)
    assert [None, None] == [each["secret"] for each in rows(database)]
    assert live(database) == replayed(database)
    assert {"7": {"n": 1}, "8": {"n": 1}} == live(database)


QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


keys = st.sampled_from(["1", "2", "3"])


batches = st.tuples(
    st.dictionaries(keys, st.fixed_dictionaries({}, optional={"n": st.integers(0, 2), "rows": st.just([{"a": 1}])})),
    st.lists(keys, unique=True),
    st.integers(-2, 3),
)


@QUICK
@given(st.lists(batches, max_size=8))
def test_replaying_the_journal_gives_the_live_rows(database: Database, script: list[Any]) -> None:
    with database.begin() as tx:
        forgotten = {"connection": "books", "system": "directo", "resource": "invoices"}
        rebuild.forget(tx, **forgotten)
        tx.execute(sa.delete(tables.changes))
    for number, (objects, gone, late) in enumerate(script):
        write(database, objects, tombstones=gone, revision=number * 2 - late, point=bool(late % 2))
    assert live(database) == replayed(database)
