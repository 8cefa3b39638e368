"""Delivering to an endpoint that works: once each, in order per object, signed, from where it was."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import journal, subscriptions, undelivered
from models.bookkeeping.subscriptions import PausedBy, State
from models.db import outgoing_tables
from models.values import Cause, Change, ChangeKind
from tests.workers.deliveries.harness import NAME, OK, SECRET, Listening, Posted, Reply, settings, telling
from workers.deliveries import deliver, message, plans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.deliveries.harness import Told

SECOND = "whsec_" + "YW5vdGhlci1zZWNyZXQtYW5vdGhlci1zZWNyZXQ="


@pytest.fixture
def listening() -> Listening:
    return Listening()


@pytest.fixture
def told(database: Database, tmp_path: Path, listening: Listening) -> Iterator[Told]:
    with telling(database, tmp_path, listening) as found:
        yield found


@pytest.fixture
def told_here(sqlite: Database, tmp_path: Path, listening: Listening) -> Iterator[Told]:
    """On SQLite only, for what does not differ between databases."""
    with telling(sqlite, tmp_path, listening) as found:
        yield found


def test_each_change_is_delivered_once_and_recorded(told: Told, listening: Listening) -> None:
    told.change("1", "2", "3")
    result = told.deliver()
    assert (3, 0) == (result.delivered, result.failed)
    assert [1, 2, 3] == sorted(listening.changes)
    assert [("delivered", 1, 204)] * 3 == [(each.outcome, each.attempt, each.status) for each in told.attempts]
    assert (3, 3, 0) == (told.row.position, told.row.delivered, told.row.failed)
    assert (0, 0) == (told.deliver().delivered, len(told.waiting))


def test_a_delivery_is_the_journal_row_with_its_table_and_what_it_was_before(told: Told, listening: Listening) -> None:
    change = Change("7", ChangeKind.UPDATED, {"price": 1}, {"id": "7", "price": 12345678901234567890})
    with told.database.begin() as tx:
        journal.append(tx, "shop", "catalogs.goods", [change], revision=42, cause=Cause.POLL, now=tx.now)
        at = tx.now
    told.deliver()
    assert {
        "type": "dilovod.catalogs.goods.updated",
        "timestamp": at.isoformat(),
        "data": {
            "id": 1,
            "at": at.isoformat(),
            "connection": "shop",
            "resource": "catalogs.goods",
            "key": "7",
            "kind": "updated",
            "revision": 42,
            "cause": "poll",
            "table": "dilovod_catalogs_goods",
            "before": {"price": 1},
            "after": {"id": "7", "price": 12345678901234567890},
        },
    } == listening.posted[0].body


def test_a_deletion_has_no_object(told: Told, listening: Listening) -> None:
    with told.database.begin() as tx:
        change = Change("7", ChangeKind.DELETED, None, None)
        journal.append(tx, "shop", "catalogs.goods", [change], revision=1, cause=Cause.WEBHOOK, now=tx.now)
    told.deliver()
    data = listening.posted[0].data
    assert ("deleted", None, None) == (data["kind"], data["before"], data["after"])


def test_thin_deliveries_leave_out_the_object(sqlite: Database, tmp_path: Path, listening: Listening) -> None:
    with telling(sqlite, tmp_path, listening, payload="thin") as told:
        told.change("1")
        told.deliver()
    assert not {"before", "after"} & listening.posted[0].data.keys()
    assert "1" == listening.posted[0].data["key"]


def test_cloudevents_attributes_are_headers(sqlite: Database, tmp_path: Path, listening: Listening) -> None:
    with telling(sqlite, tmp_path, listening, cloudevents=True) as told:
        told.change('мед "5%"')
        told.deliver()
    headers = listening.posted[0].headers
    assert ("1.0", "dilovod.catalogs.goods.created") == (headers["ce-specversion"], headers["ce-type"])
    assert "catalogs.goods/%D0%BC%D0%B5%D0%B4%20%225%25%22" == headers["ce-subject"]
    assert (headers["webhook-id"], "/erpmirror/shop") == (headers["ce-id"], headers["ce-source"])
    assert listening.posted[0].data["at"] == headers["ce-time"]


def test_while_a_secret_is_rotated_both_verify(sqlite: Database, tmp_path: Path) -> None:
    for secret in (SECRET, SECOND):
        listening = Listening(secret=secret)
        folder = tmp_path / secret[6:10]
        folder.mkdir()
        with telling(sqlite, folder, listening, secret=[SECOND, SECRET]) as told:
            told.change("1")
            told.deliver()
            assert 1 == len(listening.posted)


def test_changes_of_one_object_come_one_after_the_other(told: Told, listening: Listening) -> None:
    for _ in range(20):
        told.change("1", "2")
    told.deliver()
    assert 40 == len(listening.posted)
    listening.require_order()


def test_objects_are_delivered_side_by_side(told_here: Told, listening: Listening) -> None:
    both = threading.Barrier(2, timeout=30)

    def reply(_: Posted) -> Reply:
        both.wait()  # breaks unless the other object's request arrives meanwhile
        return OK

    listening.reply = reply
    told_here.change("1", "2")
    assert 2 == told_here.deliver().delivered


def test_a_new_subscription_begins_now_or_at_the_start(sqlite: Database, tmp_path: Path) -> None:
    for begin, expected in (("now", [3]), ("start", [1, 2, 3])):
        listening = Listening()
        with telling(sqlite, tmp_path, Listening()) as told:
            told.change(*["1", "2"][: 2 * (begin == "now")])
            with sqlite.begin() as tx:
                tx.execute(sa.delete(outgoing_tables.subscriptions))
        with telling(sqlite, tmp_path, listening, **{"from": begin}) as told:
            if begin == "now":
                told.change("3")
            told.deliver()
        assert expected == sorted(listening.changes)


def test_the_filter_lets_only_its_changes_through(sqlite: Database, tmp_path: Path, listening: Listening) -> None:
    chosen = {"connections": ["shop"], "resources": ["catalogs.goods"], "kinds": ["created"]}
    with telling(sqlite, tmp_path, listening, **chosen) as told:
        told.change("1")
        told.change("2", resource="catalogs.persons")
        told.change("3", connection="other")
        with told.database.begin() as tx:
            change = Change("1", ChangeKind.DELETED, None, None)
            journal.append(tx, "shop", "catalogs.goods", [change], revision=1, cause=Cause.POLL, now=tx.now)
        told.change("4")
        told.deliver()
        assert [1, 5] == sorted(listening.changes)
        assert 5 == told.row.position


def test_many_more_changes_than_fit_into_memory_are_delivered(told: Told, listening: Listening) -> None:
    for start in range(0, 1500, 300):
        told.change(*(str(number % 400) for number in range(start, start + 300)))
    assert 1500 == told.deliver().delivered
    assert [*range(1, 1501)] == sorted(listening.changes)
    listening.require_order()


def test_a_lingering_session_hears_of_a_commit(told: Told, listening: Listening) -> None:
    came = threading.Event()

    def reply(_: Posted) -> Reply:
        came.set()
        return OK

    listening.reply = reply
    session = threading.Thread(target=told.deliver, kwargs={"linger": timedelta(minutes=5), "stopping": came.is_set})
    session.start()
    told.change("1")
    session.join(60)
    assert not session.is_alive()
    assert [1] == listening.changes


def test_one_session_at_a_time_delivers(told: Told) -> None:
    told.change("1")
    with told.database.begin() as tx:
        claimed = subscriptions.claim(tx, NAME, lasts=timedelta(minutes=1))
    assert claimed is not None
    assert 0 == told.deliver().delivered
    told.later(timedelta(minutes=2))  # the other worker is dead
    assert 1 == told.deliver().delivered


def test_a_session_that_has_lost_its_lease_writes_nothing(told: Told, listening: Listening) -> None:
    def reply(_: Posted) -> Reply:
        with told.database.begin() as tx:
            tx.execute(sa.update(outgoing_tables.subscriptions).values(lease=99))
        return OK

    listening.reply = reply
    told.change("1")
    told.deliver()
    assert (0, 0, []) == (told.row.position, told.row.delivered, told.attempts)


def test_after_a_restart_the_same_change_has_the_same_id(told: Told, listening: Listening) -> None:
    told.change("1")
    told.deliver()
    told.set(position=0)
    told.deliver()
    first, second = listening.posted
    assert (first.id, first.body) == (second.id, second.body)


def test_another_subscription_or_another_entry_of_the_same_number_has_another_id(told_here: Told) -> None:
    now = told_here.clock.now
    ids = {
        message.message_id("crm", 1, now),
        message.message_id("erp", 1, now),
        message.message_id("crm", 1, now + timedelta(seconds=1)),
        message.message_id("crm", 2, now),
    }
    assert 4 == len(ids)
    assert not any("." in each for each in ids)  # what is signed has dots between its parts


def test_what_is_sent_again_by_hand_comes_with_the_same_id_and_in_order(told: Told, listening: Listening) -> None:
    told.change("1", "2")
    told.change("1")
    told.deliver()
    with told.database.begin() as tx:
        found = undelivered.send_again(tx, NAME, [], position=told.row.position, limit=1000)
    assert (3, None) == found
    told.change("2")
    assert 4 == told.deliver().delivered
    assert listening.posted[0].id in {each.id for each in listening.posted[3:]}
    assert sorted([1, 2, 3]) == sorted(listening.changes[:3])
    of_two = [each.data["id"] for each in listening.posted[3:] if each.data["key"] == "2"]
    assert [2, 4] == of_two
    assert {} == told.waiting


def test_a_paused_subscription_is_told_nothing_and_goes_on_where_it_was(told: Told) -> None:
    with told.database.begin() as tx:
        assert subscriptions.pause(tx, NAME, by=PausedBy.PERSON, reason="by hand")
    told.change("1")
    assert 0 == told.deliver().delivered
    with told.database.begin() as tx:
        assert subscriptions.resume(tx, NAME)
    assert 1 == told.deliver().delivered


def test_a_pause_during_a_session_ends_it(told_here: Told, listening: Listening) -> None:
    def reply(_: Posted) -> Reply:
        with told_here.database.begin() as tx:
            subscriptions.pause(tx, NAME, by=PausedBy.PERSON, reason="by hand")
        return OK

    listening.reply = reply
    told_here.change("1")
    told_here.deliver(linger=timedelta(minutes=5))
    assert State.PAUSED is told_here.row.state
    assert 1 == told_here.row.position


def test_a_subscription_that_leaves_the_settings_and_comes_back_goes_on(
    sqlite: Database, tmp_path: Path, listening: Listening
) -> None:
    with telling(sqlite, tmp_path, listening) as told:
        with told.database.begin() as tx:
            subscriptions.sync(tx, [])
        assert "removed" == told.row.state.value
        told.change("1")
        assert 0 == told.deliver().delivered
        plans.sync(told.database, told.settings)
        assert "active" == told.row.state.value
        assert 1 == told.deliver().delivered


def test_a_narrower_filter_also_drops_what_waited(sqlite: Database, tmp_path: Path, listening: Listening) -> None:
    listening.reply = lambda _: (500, b"", {})
    with telling(sqlite, tmp_path, listening) as told:
        told.change("1")
        told.change("2", resource="catalogs.persons")
        told.deliver()
        assert {1, 2} == told.waiting.keys()
        listening.reply = lambda _: OK
        told.later(timedelta(minutes=1))
        url = told.settings.subscriptions[NAME].url
        told.settings = settings(tmp_path, url, sqlite, resources=["catalogs.goods"])
        listening.posted.clear()
        told.deliver()
        assert ([1], {}) == (listening.changes, told.waiting)


def test_a_session_with_every_filter_reads_on(database: Database, tmp_path: Path, listening: Listening) -> None:
    filters = {"connections": ["shop"], "resources": ["catalogs.goods"], "kinds": ["created", "deleted"]}
    with telling(database, tmp_path, listening) as told:
        url = told.settings.subscriptions[NAME].url
        told.settings = settings(tmp_path, url, database, **filters)
        told.change("1")
        told.change("2", resource="catalogs.persons")

        def add(posted: Posted) -> Reply:
            if posted.data["key"] == "1":
                told.change("3", resource="catalogs.persons")
                told.change("4")
            return OK

        listening.reply = add
        told.deliver(linger=timedelta(seconds=2))
        assert [1, 4] == listening.changes
        assert (4, 2) == (told.row.position, told.row.delivered)


def test_a_wakeup_for_a_subscription_of_other_settings_does_nothing(told_here: Told) -> None:
    result = deliver.deliver(told_here.database, told_here.settings, "unknown")
    assert (0, 0, False) == (result.delivered, result.failed, result.has_more)


def test_large_objects_are_delivered_too(told_here: Told, listening: Listening) -> None:
    changes = [Change(str(number), ChangeKind.CREATED, None, {"text": "x" * 3_000_000}) for number in range(12)]
    with told_here.database.begin() as tx:
        journal.append(tx, "shop", "catalogs.goods", changes, revision=1, cause=Cause.WEBHOOK, now=tx.now)
    assert 12 == told_here.deliver().delivered
    assert {3_000_000} == {len(each.data["after"]["text"]) for each in listening.posted}
