"""The state of a resource: the cursor moves with a complete run only, and complete_as_of when nothing waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import full_syncs, inbox, parked, stream_plans, streams
from models.db import tables
from models.values import Batch, Cause, Lane, ObjectRef

if TYPE_CHECKING:
    from models.bookkeeping.streams import Stream
    from models.db.database import Database, Tx

HOUR = timedelta(hours=1)


def sync(database: Database, *resources: str, bound: timedelta = HOUR, selection: str = "") -> None:
    plans = [stream_plans.Plan(name, bound, polls=True, selection=selection) for name in resources]
    with database.begin() as tx:
        stream_plans.sync(tx, connection="books", system="directo", plans=plans)


def get(database: Database, resource: str = "items") -> Stream:
    with database.read() as tx:
        found = streams.get(tx, "books", resource)
    assert found is not None
    return found


def full_sync(database: Database, *, cursor: str) -> None:
    with database.begin() as tx:
        now = database.now(tx)
        run = full_syncs.begin(tx, get(database), revision=1, cause=Cause.BACKFILL, now=now)
        full_syncs.finish(tx, get_in(tx), run=run, cursor=cursor, next_at=now + HOUR, now=now)


def get_in(tx: Tx) -> Stream:
    found = streams.get(tx, "books", "items")
    assert found is not None
    return found


def complete_as_of(database: Database) -> object:
    with database.begin() as tx:
        streams.mark_complete(tx, connection="books")
        return tx.execute(sa.select(tables.streams.c.complete_as_of)).scalar_one()


def test_a_new_resource_is_due_for_a_full_sync_at_once(database: Database) -> None:
    sync(database, "items")
    stream = get(database)
    assert ("open", None) == (stream.state, stream.cursor)
    with database.read() as tx:
        assert stream.full_due_at <= database.now(tx)


def test_syncing_the_same_configuration_twice_changes_nothing(database: Database) -> None:
    sync(database, "items")
    full_sync(database, cursor="c")
    before = get(database)
    sync(database, "items")
    assert before == get(database)


PLANNED = stream_plans.Plan("items", HOUR, polls=True, selection="chosen", omit=("secret",), settings="key")


@pytest.mark.parametrize("state", ["open", "parked", "retired"])
@pytest.mark.parametrize(
    "configured",
    [
        [PLANNED],
        [],
        [PLANNED, replace(PLANNED, resource="orders")],
        [replace(PLANNED, bound=2 * HOUR)],
        [replace(PLANNED, polls=False)],
        [replace(PLANNED, selection="")],
        [replace(PLANNED, settings="another key")],
        [replace(PLANNED, omit=("secret", "more"))],
        [replace(PLANNED, omit=())],
        [replace(PLANNED, omit=("SECRET", "secret"))],
    ],
    ids=str,
)
def test_a_connection_matches_exactly_if_syncing_it_would_change_nothing(
    database: Database, configured: list[stream_plans.Plan], state: str
) -> None:
    def rows(tx: Tx) -> list[object]:
        return [tuple(row) for row in tx.execute(sa.select(tables.streams).order_by(tables.streams.c.resource))]

    with database.begin() as tx:
        stream_plans.sync(tx, connection="books", system="directo", plans=[PLANNED])
        streams.update(tx, "books", "items", state=state, refused_settings="key" if state == "parked" else None)
        before = rows(tx)
        matching = stream_plans.matching(tx, {"books": configured})
        stream_plans.sync(tx, connection="books", system="directo", plans=configured)
        assert ({"books"} if rows(tx) == before else set()) == matching


def test_another_selection_of_the_vendors_objects_starts_again(database: Database) -> None:
    sync(database, "items", selection="warehouse=AALTR")
    full_sync(database, cursor="c")
    sync(database, "items", selection="warehouse=AALTR")
    assert "c" == get(database).cursor
    sync(database, "items", selection="warehouse=AIPM")
    with database.read() as tx:
        now = database.now(tx)
    assert (None, True) == (get(database).cursor, get(database).is_due(now, full=True))


def test_a_resource_that_left_the_configuration_is_retired_and_starts_again_when_it_returns(database: Database) -> None:
    sync(database, "items", "orders")
    full_sync(database, cursor="c")
    sync(database, "orders")
    assert "retired" == get(database).state
    with database.read() as tx:
        assert ["orders"] == [row.resource for row in streams.open_streams(tx, connection="books")]
    sync(database, "items", "orders")
    assert ("open", None) == (get(database).state, get(database).cursor)


def test_a_connection_that_left_the_configuration_is_retired(database: Database) -> None:
    sync(database, "items")
    with database.begin() as tx:
        stream_plans.retire(tx, configured=["shop"])
    assert "retired" == get(database).state


def test_a_shorter_bound_applies_at_once(database: Database) -> None:
    sync(database, "items", bound=24 * HOUR)
    with database.begin() as tx:
        later = database.now(tx) + 24 * HOUR
        streams.update(tx, "books", "items", full_due_at=later)
    sync(database, "items", bound=HOUR)
    assert get(database).full_due_at < later


def test_a_full_sync_does_not_set_a_polls_cursor_back(database: Database) -> None:
    sync(database, "items")
    with database.begin() as tx:
        now = database.now(tx)
        run = full_syncs.begin(tx, get_in(tx), revision=1, cause=Cause.BACKFILL, now=now)
        streams.finish_poll(tx, get_in(tx), cursor="later", next_at=now, now=now)
        full_syncs.finish(tx, get_in(tx), run=run, cursor="earlier", next_at=now + HOUR, now=now)
    assert "later" == get(database).cursor


def test_a_full_sync_moves_the_cursor_of_polls_that_never_end(database: Database) -> None:
    sync(database, "items")
    full_sync(database, cursor="long ago")
    full_sync(database, cursor="just now")
    assert "just now" == get(database).cursor


def test_complete_as_of_waits_for_what_the_full_sync_enqueued(database: Database) -> None:
    sync(database, "items")
    with database.begin() as tx:
        inbox.enqueue(
            tx,
            connection="books",
            refs=[ObjectRef("items", "1")],
            lane=Lane.BULK,
            cause=Cause.RECONCILE,
        )
    full_sync(database, cursor="c")
    assert complete_as_of(database) is None
    with database.begin() as tx:
        (item,) = inbox.due(tx, connection="books", now=database.now(tx))
        inbox.park(tx, item, reason="odd")
    assert complete_as_of(database) is None, "what is parked is not complete either"
    with database.begin() as tx:
        parked.drop(tx, connection="books")
    assert complete_as_of(database) is not None


def test_complete_as_of_does_not_wait_for_keys_enqueued_after_the_full_sync(database: Database) -> None:
    sync(database, "items")
    full_sync(database, cursor="c")
    with database.begin() as tx:
        inbox.enqueue(
            tx,
            connection="books",
            refs=[ObjectRef("items", "1")],
            lane=Lane.LIVE,
            cause=Cause.WEBHOOK,
        )
    assert complete_as_of(database) is not None


def test_another_selection_is_not_complete_because_the_earlier_one_was(database: Database) -> None:
    sync(database, "items", selection="some")
    full_sync(database, cursor="c")
    assert complete_as_of(database) is not None
    full_sync(database, cursor="d")
    sync(database, "items", selection="all")
    assert complete_as_of(database) is None
    full_sync(database, cursor="e")
    assert complete_as_of(database) is not None


def park(tx: Tx, resource: str, *, settings: str = "") -> None:
    """Park it for an hour."""
    refusal = streams.Refusal("API not enabled", streams.LISTING, settings)
    streams.park(tx, "books", resource, refusal, until=tx.now + HOUR, by_full_sync=True)


def test_poll_now_reopens_a_parked_resource(database: Database) -> None:
    sync(database, "items", "orders")
    with database.begin() as tx:
        park(tx, "items")
    with database.begin() as tx:
        assert 2 == streams.poll_now(tx, connection="books")
        now = tx.now
    assert ("open", now) == (get(database).state, get(database).full_due_at)


@pytest.mark.parametrize("corrected", [False, True])
def test_a_resource_that_other_settings_were_refused_for_opens_at_the_next_start(
    database: Database, *, corrected: bool
) -> None:
    plan = stream_plans.Plan("items", HOUR, polls=True, settings="wrong key")
    with database.begin() as tx:
        stream_plans.sync(tx, connection="books", system="directo", plans=[plan])
        park(tx, "items", settings="wrong key")
    plan = replace(plan, settings="right key" if corrected else "wrong key")
    with database.begin() as tx:
        stream_plans.sync(tx, connection="books", system="directo", plans=[plan])
        now = tx.now
    stream = get(database)
    assert ("open" if corrected else "parked") == stream.state
    assert corrected == stream.is_due(now, full=True)


def test_a_parked_resource_is_due_again_by_a_full_sync_and_never_polled(database: Database) -> None:
    sync(database, "items")
    full_sync(database, cursor="c")
    with database.begin() as tx:
        park(tx, "items")
        now = tx.now
    stream = get(database)
    assert not stream.is_due(now + HOUR / 2, full=True)
    assert stream.is_due(now + HOUR, full=True)
    assert not stream.is_due(now + HOUR, full=False)


def test_poll_now_of_an_unknown_resource_changes_nothing(database: Database) -> None:
    with database.begin() as tx:
        assert 0 == streams.poll_now(tx, connection="books", resource="nothing")


def test_a_batch_that_failed_is_tried_again_after_a_while_and_one_that_was_refused_after_new_metadata(
    database: Database,
) -> None:
    sync(database, "items")
    with database.begin() as tx:
        streams.record_batch_attempt(tx, get_in(tx))
        now = tx.now
    assert [False, True] == [get(database).may_batch(now + timedelta(seconds=seconds)) for seconds in (0, 2)]
    with database.begin() as tx:
        streams.finish_batch(tx, get_in(tx), Batch(plan="learned"))
    assert (True, "learned", 0) == (
        get(database).may_batch(now),
        get(database).batch_plan,
        get(database).batch_failures,
    )
    with database.begin() as tx:
        streams.finish_batch(tx, get_in(tx), Batch(refusal="it differs"))
    assert (False, None) == (get(database).may_batch(now + HOUR), get(database).batch_plan)
    with database.begin() as tx:
        streams.record_metadata(tx, "books", "items", {})
    assert get(database).may_batch(now)


def test_where_batches_are_distrusted_nothing_is_complete_and_a_full_sync_is_due(database: Database) -> None:
    sync(database, "items")
    full_sync(database, cursor="c")
    assert None is not complete_as_of(database)
    with database.begin() as tx:
        streams.finish_batch(tx, get_in(tx), Batch(refusal="it differs", distrusted=True))
        now = tx.now
    assert None is complete_as_of(database)
    assert get(database).is_due(now, full=True)
