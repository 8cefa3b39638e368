"""What happens to work whose request failed: nothing is dropped, no vendor is flooded, and no secret is shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import structlog

from models.bookkeeping import parked, streams
from models.db import tables
from tests.workers import vendor_harness
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness

SECRET = "very-secret"  # the key in `vendor_harness.connected`


@pytest.fixture
def six(connect: Connect) -> Iterator[Harness]:
    with connect(kinds={"goods": {}, "orders": {}}) as connected:
        connected.vendor.objects["goods"] = {"1": {"v": 1}}
        connected.vendor.objects["orders"] = {"7": {"v": 1}}
        yield connected


def _closed_until(six: Harness) -> Any:
    with six.database.read() as tx:
        return tx.execute(sa.select(tables.gates.c.closed_until)).scalar_one()


def _always(six: Harness, path: str, status: int, body: str = "", **headers: str) -> None:
    six.vendor.stuck = True
    six.vendor.instead[path] = [(status, headers, body)]


def test_a_failing_key_is_tried_after_1_s_doubling_to_5_min_and_never_given_up(six: Harness) -> None:
    _always(six, "goods/1", 500, "broken")
    six.enqueue("1")
    waits = []
    for _ in range(11):
        asked = len(six.vendor.asked)
        six.sync()
        six.sync()
        assert asked + 1 == len(six.vendor.asked), "once, not twice"
        until = six.inbox()["1"].due_at
        waits.append((until - six.clock.now).total_seconds())
        six.clock.now = until
    assert [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] == waits
    six.vendor.instead.clear()
    six.sync()
    assert {"1": {"v": 1}} == six.live()


def test_a_failing_listing_waits_likewise_and_says_why(six: Harness) -> None:
    _always(six, "goods", 503, "under maintenance")
    six.change("orders", full_due_at=six.clock.now + timedelta(days=1))
    waits = []
    for _ in range(3):
        six.full_sync()
        waits.append((six.stream().full_due_at - six.clock.now).total_seconds())
        six.clock.now = six.stream().full_due_at
    assert [1, 2, 4] == waits
    assert "HTTP 503 under maintenance" == six.column("last_error")
    six.vendor.instead.clear()
    six.full_sync()
    assert (0, None) == (six.stream().failures, six.column("last_error"))


def test_retry_after_is_honoured_by_the_whole_account(six: Harness) -> None:
    _always(six, "goods/1", 429, "slow down", **{"Retry-After": "77"})
    six.enqueue("1")
    six.enqueue("7", resource="orders")
    six.sync()
    assert ["goods/1"] == six.vendor.asked
    until = six.clock.now + timedelta(seconds=77)
    assert (until, until) == (six.inbox()["1"].due_at, _closed_until(six))


def test_a_vendor_that_says_to_retry_at_once_is_not_asked_without_end(six: Harness) -> None:
    _always(six, "goods/1", 429, "slow down", **{"Retry-After": "0"})
    six.enqueue("1")
    six.sync()
    assert ["goods/1"] == six.vendor.asked


def test_busy_does_not_count_as_an_attempt(six: Harness) -> None:
    _always(six, "goods/1", 409, "multithread")
    six.enqueue("1")
    for _ in range(5):
        six.sync()
        six.clock.advance(seconds=1)
    assert 5 == len(six.vendor.asked)
    assert 0 == six.inbox()["1"].attempts


def test_closed_does_not_count_and_does_not_close_the_gate(six: Harness) -> None:
    opening = six.clock.now + timedelta(hours=5)
    six.vendor.instead["goods"] = [(423, {}, opening.isoformat())]
    six.work()
    assert (opening, 0) == (six.stream().full_due_at, six.stream().failures)
    assert (None, "closed") == (six.column("last_error"), six.column("warning"))
    assert {"7"} == six.live("orders").keys()


def test_a_vendor_that_is_closed_during_its_opening_hours_is_not_asked_again_at_once(six: Harness) -> None:
    six.vendor.instead["goods"] = [(423, {}, vendor_harness.START.isoformat())]
    six.change(full_due_at=vendor_harness.START)
    six.full_sync()
    assert vendor_harness.START < six.stream().full_due_at
    assert 1 == six.vendor.asked.count("goods")


def test_an_answer_that_is_no_json_does_not_close_the_gate(six: Harness) -> None:
    _always(six, "goods/1", 200, "<html>proxy</html>")
    six.enqueue("1")
    six.enqueue("7", resource="orders")
    six.sync()
    assert ["goods/1", "orders/7"] == sorted(six.vendor.asked)
    assert 1 == six.inbox()["1"].attempts


def test_a_refused_object_is_parked_in_the_vendors_words_and_the_others_go_on(six: Harness) -> None:
    six.vendor.objects["goods"]["2"] = {"v": 1}
    six.vendor.instead["goods/1"] = [(400, {}, "Ви не маєте доступу")]
    six.enqueue("1", "2")
    six.sync()
    assert {"2"} == six.live().keys()
    assert ("parked", "Ви не маєте доступу") == (six.states()["1"], six.inbox()["1"].reason)
    assert 1 == six.retry("1")
    six.sync()
    assert {"1", "2"} == six.live().keys()


def test_a_refused_resource_is_parked_once_its_keys_wait_with_it_and_the_others_go_on(six: Harness) -> None:
    _always(six, "goods/1", 403, "access denied")
    six.enqueue("1", "2", "3")
    six.enqueue("7", resource="orders")
    six.sync()
    assert ["goods/1", "orders/7"] == sorted(six.vendor.asked)
    assert ("parked", "access denied") == (six.stream().state, six.column("last_error"))
    assert dict.fromkeys("123", "due") == six.states()
    six.full_sync()
    assert "goods" not in six.vendor.asked
    six.vendor.instead.clear()
    with six.database.begin() as tx:
        assert 1 == streams.reopen(tx, connection="six")
    six.sync()
    assert ({"1"}, {}) == (set(six.live()), six.states())


def test_an_answer_that_cannot_be_decoded_parks_that_key_alone(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(200, {}, '{"no": "raw"}')]
    six.enqueue("1")
    six.sync()
    assert {"1": "parked"} == six.states()
    assert "not understood" in six.inbox()["1"].reason
    assert 0 == six.leases()


@pytest.mark.parametrize("reply", [(200, {}, '[{"fail": "no such thing"}]'), (200, {}, "{}"), (400, {}, "odd words")])
def test_a_stray_reply_to_a_listing_stops_nothing(six: Harness, reply: tuple[int, dict[str, str], str]) -> None:
    six.vendor.instead["goods"] = [reply] * 3
    six.work()
    assert ("open", "open") == (six.stream().state, six.stream("orders").state)
    assert 1 == six.stream().failures
    assert six.column("last_error")
    assert "no such thing" not in six.column("last_error"), "it may quote the answer"
    assert {"7"} == six.live("orders").keys()
    six.run_for(1 / 60)
    assert {"1"} == six.live().keys()
    assert (0, None) == (six.stream().failures, six.column("last_error"))


def test_a_stray_reply_to_a_request_for_metadata_parks_no_key(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.vendor.instead["goods/metadata"] = [(400, {}, "odd words")]
        six.change(full_due_at=six.clock.now + timedelta(days=1))
        six.enqueue("1")
        six.sync()
        assert ({"1": "due"}, "open") == (six.states(), six.stream().state)
        six.clock.advance(seconds=1)
        six.sync()
        assert {"1": {"v": 1}} == six.live()


# A refused resource


HOURLY = {"goods": {"full_every": 3600, "every": 300}}


def test_a_refused_resource_is_tried_again_once_in_full_every_and_leaves_parked_by_itself(connect: Connect) -> None:
    with connect(kinds=HOURLY) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.full_sync()
        _always(six, "goods", 403, "the role lost its right")
        six.clock.advance(minutes=5)
        six.work()
        refused_at, asked = six.clock.now, len(six.vendor.asked)
        assert ("parked", "the role lost its right") == (six.stream().state, six.column("last_error"))
        assert refused_at + timedelta(hours=1) == six.column("retry_at")
        six.run_for(59 / 60)
        assert asked == len(six.vendor.asked)
        six.run_for(2.5)
        assert ("parked", asked + 3) == (six.stream().state, len(six.vendor.asked))
        six.vendor.objects["goods"]["1"] = {"v": 2}
        six.vendor.instead.clear()
        six.run_for(1)
        assert ("open", None, None) == (six.stream().state, six.column("last_error"), six.column("retry_at"))
        assert {"1": {"v": 2}} == six.live()


def test_a_vendor_that_is_away_when_a_refused_resource_is_tried_again_is_tried_later(connect: Connect) -> None:
    with connect(kinds=HOURLY) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.vendor.instead["goods"] = [(403, {}, "denied"), (503, {}, "away"), (503, {}, "away")]
        six.full_sync()
        six.run_for(62 / 60)
        assert ("open", {"1"}) == (six.stream().state, set(six.live()))


def test_webhooks_of_a_resource_whose_listing_is_refused_are_fetched(six: Harness) -> None:
    _always(six, "goods", 403, "the role may not list")
    six.full_sync()
    assert "parked" == six.stream().state
    six.webhook("1")
    six.sync()
    assert ({"1": {"v": 1}}, {}) == (six.live(), six.inbox())
    assert ("parked", "the role may not list") == (six.stream().state, six.column("last_error"))


def test_a_webhook_that_is_answered_again_brings_the_keys_that_were_refused(six: Harness) -> None:
    six.vendor.objects["goods"]["2"] = {"v": 2}
    six.change(full_due_at=six.clock.now + timedelta(days=9))
    six.vendor.instead["goods/1"] = [(403, {}, "denied")]
    six.enqueue("1", "2")
    six.sync()
    assert ("parked", ["goods/1"], {"1", "2"}) == (six.stream().state, six.vendor.asked, set(six.inbox()))
    six.webhook("2")
    six.sync()
    assert ("open", {"1": {"v": 1}, "2": {"v": 2}}) == (six.stream().state, six.live())


def test_corrected_settings_open_what_was_refused_at_the_next_start(six: Harness) -> None:
    _always(six, "goods", 403, "wrong key")
    six.full_sync()
    six.context.sync_streams()
    assert "parked" == six.stream().state
    six.vendor.instead.clear()
    file = six.settings.file
    file.write_text(file.read_text(encoding="utf-8").replace(SECRET, "right-key"), encoding="utf-8")
    corrected = replace(six, settings=configuration.load(file))
    corrected.context.sync_streams()
    corrected.full_sync()
    assert ("open", {"1"}) == (six.stream().state, set(six.live()))
    with six.database.read() as tx:
        assert SECRET not in str(tx.execute(sa.select(tables.streams)).all())


def test_what_is_not_for_us_is_finished(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(410, {}, "another company's")]
    six.enqueue("1")
    six.sync()
    assert ({}, {}) == (six.inbox(), six.live())


@pytest.mark.parametrize("path", ["goods/1", "goods"])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, f"your key {SECRET} is blocked"),
        (403, f"<b>{SECRET}</b>"),
        (500, f"Traceback: key={SECRET}"),
        (429, SECRET),
        (409, f"busy with {SECRET}"),
        (200, f"<html>{SECRET}"),
        (200, f'[{{"fail": "{SECRET}"}}]'),
    ],
)
def test_no_secret_reaches_a_table_or_the_log(six: Harness, path: str, status: int, body: str) -> None:
    _always(six, path, status, body)
    with structlog.testing.capture_logs() as logs:
        if path == "goods":
            six.full_sync()
        else:
            six.enqueue("1")
            six.sync()
    texts = [str(entry) for entry in logs]
    with six.database.read() as tx:
        for table in (tables.inbox, tables.streams, tables.gates):
            texts += [str(row) for row in tx.execute(sa.select(table))]
    assert path in six.vendor.asked
    assert not [text for text in texts if SECRET in text]


def test_messages_with_characters_that_no_database_takes_are_kept_escaped(database: Database, tmp_path: Path) -> None:
    with vendor_harness.connected(database, tmp_path) as six:
        six.vendor.instead["goods/1"] = [(400, {}, "odd \x00 words")]
        six.enqueue("1")
        six.sync()
        assert "odd \\u0000 words" == six.inbox()["1"].reason


def test_a_key_enqueued_during_a_failing_request_is_not_postponed(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(400, {}, "odd")]
    six.vendor.meanwhile["goods/1"] = lambda: six.enqueue("1")
    six.enqueue("1")
    six.sync()
    assert {"1": {"v": 1}} == six.live()
    with six.database.read() as tx:
        assert [] == parked.rows(tx)
