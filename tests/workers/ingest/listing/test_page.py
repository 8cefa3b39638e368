"""What a page writes, enqueues and finishes, and what becomes of rows that cannot be decoded or written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import inbox
from models.values import Cause, Lane, ObjectRef
from tests import services
from tests.workers import vendor_harness
from workers import configuration

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Chunks


def test_what_is_equal_as_a_value_changes_and_journals_nothing(anywhere: Connect) -> None:
    with anywhere() as six:
        listed: list[Chunks] = [
            [{"snapshots": {"1": {"a": 1, "b": "2"}}, "end": {"cursor": "d", "complete": True}}],
            [{"snapshots": {"1": {"b": "2", "a": 1}}, "end": {"cursor": "d", "complete": True}}],
        ]
        six.vendor.listing["goods"] = lambda _: listed.pop(0)
        six.full_sync()
        changed_at = six.row("1")["_changed_at"]
        six.clock.advance(hours=1)
        six.full_sync_again()
        assert 1 == len(six.journal())
        assert changed_at == six.row("1")["_changed_at"]


def test_a_new_omit_rule_rewrites_what_it_touches(connect: Connect, sqlite: Database, tmp_path: Path) -> None:
    with connect() as six:
        six.vendor.objects["goods"]["1"] = {"v": 1, "secret": "x"}
        six.work()
        file = tmp_path / "erpmirror.toml"
        file.write_text(file.read_text(encoding="utf-8") + 'omit = ["secret"]\n', encoding="utf-8")
        ruled = vendor_harness.Harness(sqlite, configuration.load(file), six.vendor, six.clock)
        ruled.full_sync_again()
        assert {"1": {"v": 1}} == ruled.live()
        assert ["created", "updated"] == [kind for _, kind, _ in ruled.journal()]


def test_references_to_another_resource_are_enqueued_if_it_is_configured(connect: Connect) -> None:
    with connect(kinds={"goods": {}, "orders": {}}) as six:
        six.vendor.objects["orders"]["7"] = {"v": 1}
        refs = [["orders", "7"], ["invoices", "8"]]
        six.vendor.listing["goods"] = lambda _: [{"refs": refs, "end": {"cursor": "d", "complete": True}}]
        six.vendor.listing["orders"] = lambda _: vendor_harness.named({})
        six.work()
        assert {"7": {"v": 1}} == six.live("orders")
        assert {} == six.inbox("invoices")


def test_a_listing_finishes_keys_enqueued_before_its_request(connect: Connect) -> None:
    with connect() as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.enqueue("1", "2", lane=Lane.BULK)
        six.vendor.meanwhile["goods"] = lambda: six.enqueue("2", lane=Lane.BULK)
        six.full_sync()
        assert ["2"] == list(six.inbox()), "a key enqueued during the request still waits"


def test_rows_are_written_in_the_order_of_their_keys_byte_by_byte(connect: Connect) -> None:
    with connect() as six:
        written: list[list[str]] = []

        def seen(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if statement.startswith("INSERT INTO erpmirror_inbox"):
                written.append([value for value in parameters if value in keys])

        keys = {"b", "a", "B", "é", "Z", "_", "10", "9"}
        sa.event.listen(six.database.engine, "before_cursor_execute", seen)
        with six.database.begin() as tx:
            refs = [ObjectRef("goods", key) for key in ("b", "é", "a", "B", "Z", "_", "9", "10")]
            inbox.enqueue(
                tx,
                connection="six",
                refs=refs,
                lane=Lane.LIVE,
                cause=Cause.WEBHOOK,
            )
        assert [sorted(keys, key=str.encode)] == written


def test_a_truncated_object_is_requested_again_and_the_gate_stays_open(anywhere: Connect) -> None:
    with anywhere() as six:
        sent = {"1": '{"v": 1}', "2": '{"v": 1}'}
        six.vendor.listing["goods"] = lambda _: [{"received": sent, "end": {"cursor": "done", "complete": True}}]
        six.full_sync()
        six.clock.advance(minutes=1)
        for half in ('{"v": 2', '{"v": 2'):
            sent["2"] = half
            six.full_sync_again()
            assert "the answer is not JSON: 2 is not JSON" == six.column("last_error")
            assert ("open", 0) == (six.stream().state, six.leases())
            six.clock.advance(hours=1)
        sent["2"] = '{"v": 2}'
        six.full_sync_again()
        assert {"1": {"v": 1}, "2": {"v": 2}} == six.live()
        assert [("1", "created"), ("2", "created"), ("2", "updated")] == [entry[:2] for entry in six.journal()]


def test_an_unreadable_row_is_parked_without_what_is_never_stored(connect: Connect) -> None:
    with connect(omit=["password"]) as six:
        row = ["?1", "no key", {"a": 1, "password": "p"}]
        six.vendor.listing["goods"] = lambda _: [{"unreadable": [row], "end": {"cursor": "d", "complete": True}}]
        six.full_sync()
        (waits,) = six.inbox().values()
        assert ("parked", "1 record is not mirrored: no key") == (waits.state, waits.reason)
        assert [{"a": 1}] == waits.unreadable_raw["samples"]


def test_a_key_that_no_index_holds_is_parked_and_the_others_go_on(anywhere: Connect) -> None:
    with anywhere() as six:
        long = "x" * 4000
        six.vendor.listing["goods"] = lambda _: [
            {"snapshots": {long: {"v": 1}, "1": {"v": 1}}, "refs": [["goods", long]]},
            {"end": {"cursor": "done", "complete": True}},
        ]
        six.full_sync()
        assert {"1": {"v": 1}} == six.live()
        (row,) = six.inbox().values()
        assert ("parked", "1 record is not mirrored: its key is too long") == (row.state, row.reason)


def test_keys_and_reasons_with_characters_no_database_takes_stop_nothing(anywhere: Connect) -> None:
    with anywhere() as six:
        odd = "a\x00b\ud800"
        six.vendor.listing["goods"] = lambda _: [
            {
                "snapshots": {odd: {"v": odd}, "ok": {"v": 1}},
                "lines": [[odd + "2", "1"]],
                "unreadable": [[odd + "3", odd, {"v": odd}]],
                "end": {"cursor": "d", "complete": True},
            }
        ]
        six.full_sync()
        assert "open" == six.stream().state
        assert 2 == len(six.live())
        assert ["due", "parked"] == sorted(six.states().values())


def test_numbers_of_any_size_and_nesting_of_any_depth_stop_nothing(anywhere: Connect) -> None:
    deep = "[" * 900 + "]" * 900
    chunk = '[{"snapshots": {"1": {"n": 1e200000, "d": %s}, "2": {"n": 2}}, "end": {"cursor": "d"}}]'
    with anywhere() as six:
        six.vendor.instead["goods"] = [(200, {}, chunk % deep)]
        six.full_sync()
        assert ({"1", "2"}, {}) == (set(six.live()), six.inbox())


@services.ON_POSTGRESQL
def test_of_a_page_the_refused_row_alone_is_parked(anywhere: Connect) -> None:
    """A rule that the mirror's owner made."""
    with anywhere() as six:
        objects = six.vendor.objects["goods"] = {f"{number}": {"price": number + 1} for number in range(8)}
        six.full_sync()
        with six.database.begin() as tx:
            tx.execute(sa.text("ALTER TABLE sixth_goods ADD CONSTRAINT dear CHECK (price > 0) NOT VALID"))
        six.vendor.objects["goods"] = {key: {"price": 20} for key in objects} | {"5": {"price": -1}}
        six.full_sync_again()
        assert {key: 6 if key == "5" else 20 for key in objects} == {k: raw["price"] for k, raw in six.live().items()}
        assert {"5": "parked"} == six.states()
        assert ("open", None) == (six.stream().state, six.stream().full_run)
        with six.database.begin() as tx:
            tx.execute(sa.text("ALTER TABLE sixth_goods DROP CONSTRAINT dear"))
        assert 1 == six.retry("5"), "once the rule is gone a person can retry it"
        six.sync()
        assert -1 == six.live()["5"]["price"]
