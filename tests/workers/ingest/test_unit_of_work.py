"""The one unit of work: the lease is proved before anything is written, the journal is written after everything."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import inbox, journal
from models.db import tables
from models.mirror import prepare, queries
from models.mirror.rows import Prepared
from models.mirror.target import Target
from models.values import Cause, Lane, ObjectRef, Snapshot
from tests.workers.gate.test_gate import Account, Clock
from tests.workers.ingest.test_statements import counted
from workers.gate import gate
from workers.ingest.unit_of_work import BackOff, UnitOfWork, renew, under_lease

if TYPE_CHECKING:
    from models.db.database import Database

TARGET = Target("books", "directo", "items")


class _BrokenError(Exception):
    """What broke a block off."""


@pytest.fixture
def clock(database: Database) -> Clock:
    """The database's clock, which the test moves."""
    database._clock = made = Clock()
    return made


@pytest.fixture
def door(database: Database, clock: Clock) -> gate.Gate:
    """A gate of an account that may be asked twice at once."""
    assert database._clock is clock
    return gate.Gate(database, Account(name="books", concurrency=2))


def prepared(database: Database, **objects: Any) -> Prepared:
    return prepare.prepare(database, TARGET, [Snapshot(key, {"n": value}) for key, value in objects.items()])


def journaled(database: Database) -> list[tuple[str, str, int]]:
    """Key, kind and revision of each entry."""
    with database.read() as tx:
        return [(entry.key, entry.kind, entry.revision) for entry in journal.read(tx, after=0, limit=100)]


def raws(database: Database) -> dict[str, Any]:
    with database.read() as tx:
        return {key: raw["n"] for key, gone, raw in queries.export(tx, TARGET) if gone is None}


def test_the_journal_is_the_last_that_a_unit_executes(database: Database, door: gate.Gate) -> None:
    lease, batch = door.acquire(), prepared(database, a=1, b=2)
    with counted(database) as traffic, UnitOfWork.under(lease, TARGET, Cause.POLL) as work:
        work.apply(batch, point=False)
        inbox.enqueue(work.tx, connection="books", refs=[ObjectRef("items", "c")], lane=Lane.BULK, cause=work.cause)
    assert [("a", "created", lease.revision), ("b", "created", lease.revision)] == journaled(database)
    first, last = traffic.statements[0], traffic.statements[-1]
    assert first.startswith("DELETE FROM erpmirror_leases")
    assert re.match("(INSERT INTO|COPY) erpmirror_changes ", last), last


def test_under_a_lease_that_ran_out_the_block_does_not_run(door: gate.Gate, clock: Clock) -> None:
    lease, begun = door.acquire(), []
    clock.pass_by(hours=1)
    with pytest.raises(gate.LeaseLost), UnitOfWork.under(lease, TARGET, Cause.POLL) as work:
        begun.append(work)
    assert [] == begun


def test_a_block_that_breaks_off_leaves_no_row_no_entry_and_its_lease(database: Database, door: gate.Gate) -> None:
    lease, batch = door.acquire(), prepared(database, a=1)
    with suppress(_BrokenError), UnitOfWork.under(lease, TARGET, Cause.POLL) as work:
        work.apply(batch, point=False)
        raise _BrokenError
    assert ({}, []) == (raws(database), journaled(database))
    with UnitOfWork.under(lease, TARGET, Cause.POLL) as work:
        work.apply(batch, point=False)
    assert {"a": 1} == raws(database)


def test_a_lower_revision_never_overwrites_a_higher(database: Database, door: gate.Gate) -> None:
    earlier, later = door.acquire("items\n1"), door.acquire("items\n2")
    old, new = prepared(database, a=1, b=1), prepared(database, a=2, b=2)
    with UnitOfWork.under(later, TARGET, Cause.POLL) as work:
        work.apply(new, point=False)
    with UnitOfWork.under(earlier, TARGET, Cause.WEBHOOK) as work:
        assert [] == work.apply(old, point=True)
        assert [] == work.delete(["b"], point=True)
    assert {"a": 2, "b": 2} == raws(database)
    assert {later.revision} == {revision for _, _, revision in journaled(database)}


def test_what_several_calls_changed_is_journaled_in_the_order_of_the_keys(database: Database, door: gate.Gate) -> None:
    first, second = prepared(database, b=1), prepared(database, a=1)
    with UnitOfWork.under(door.acquire(), TARGET, Cause.POLL) as work:
        work.apply(first, point=False)
    with UnitOfWork.under(door.acquire(), TARGET, Cause.POLL) as work:
        work.delete(["b"], point=False)
        work.apply(second, point=False)
    assert ["b", "a", "b"] == [key for key, _, _ in journaled(database)]


def test_a_renewed_lease_is_checked_again_by_the_next_unit(door: gate.Gate, clock: Clock) -> None:
    lease = door.acquire()
    for _ in range(3):
        clock.pass_by(seconds=40)
        with under_lease(lease, renew):
            pass
    clock.pass_by(hours=1)
    with pytest.raises(gate.LeaseLost), under_lease(lease, renew):
        pass


def test_backing_off_closes_the_gate_in_the_same_transaction(database: Database, door: gate.Gate) -> None:
    proof = BackOff("busy", timedelta(seconds=30), counts=True)
    with suppress(_BrokenError), under_lease(lease := door.acquire(), proof):
        raise _BrokenError
    with under_lease(lease, proof) as tx:
        until = tx.now + timedelta(seconds=30)
    assert until == proof.until
    with pytest.raises(gate.GateClosed) as closed:
        door.acquire()
    assert until == closed.value.until
    with database.read() as tx:
        assert 1 == tx.execute(sa.select(tables.gates.c.failures)).scalar_one()
