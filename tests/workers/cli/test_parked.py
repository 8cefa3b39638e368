"""`parked` lists, retries and drops what needs a person's decision."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.bookkeeping import inbox, streams
from models.values import Cause, Lane, ObjectRef
from tests.workers.cli.runner import GOODS, database, ok, run
from workers.cli import common

if TYPE_CHECKING:
    from collections.abc import Callable


def enqueue_and_settle(key: str, settle: Callable[..., None], reason: str) -> None:
    with database() as opened, opened.begin() as tx:
        inbox.enqueue(
            tx,
            connection="shop",
            refs=[ObjectRef(GOODS, key)],
            lane=Lane.LIVE,
            cause=Cause.WEBHOOK,
        )
        (item,) = inbox.due(tx, connection="shop", now=opened.now(tx))
        settle(tx, item, reason=reason)


@pytest.mark.usefixtures("shop")
def test_the_list_contains_key_and_reason() -> None:
    enqueue_and_settle("1", inbox.park, "the vendor's own words")
    assert "the vendor's own words" in ok("parked").output
    listed = json.loads(ok("parked", "list", "shop", "--json").output)
    assert [("shop", GOODS, "1", "parked")] == [
        (row["connection"], row["resource"], row["key"], row["state"]) for row in listed
    ]
    assert [] == json.loads(ok("parked", "list", "books", "--json").output)


@pytest.mark.usefixtures("shop", "terminal")
def test_nothing_is_cut_on_a_narrow_terminal() -> None:
    key, reason = "9d63" * 16, "the vendor's own words about it, " * 4 + "0123456789" * 12
    enqueue_and_settle(key, inbox.park, reason)
    name, whole_key, _, *below = ok("parked").output.splitlines()
    assert [f"shop {GOODS}", key] == [name, whole_key.split()[0]]
    assert {"    "} == {line[:4] for line in below}
    assert max(map(len, below)) <= 80
    assert reason.replace(" ", "") == "".join("".join(below).split())


@pytest.mark.usefixtures("shop")
def test_retry_makes_a_parked_key_due_and_wakes_the_workers() -> None:
    enqueue_and_settle("1", inbox.park, "no")
    ok("parked", "retry", "shop", GOODS, "1")
    assert "Nothing is parked" in ok("parked").output
    assert [] != list(Path("var/broker/messages").iterdir())


@pytest.mark.usefixtures("shop")
def test_retry_approves_held_deletions_only_after_confirmation() -> None:
    enqueue_and_settle("1", inbox.hold, "too many")
    assert 0 != run("parked", "retry", "shop", answer="n\n").exit_code
    assert "held" in ok("parked").output
    ok("parked", "retry", "shop", "--yes")
    with database() as opened, opened.read() as tx:
        (item,) = inbox.due(tx, connection="shop", now=opened.now(tx))
        assert item.approved


@pytest.mark.usefixtures("shop")
def test_a_dropped_key_is_no_longer_listed() -> None:
    enqueue_and_settle("1", inbox.park, "no")
    enqueue_and_settle("2", inbox.park, "no")
    ok("parked", "drop", "shop", GOODS, "1", "--yes")
    assert ["2"] == [row["key"] for row in json.loads(ok("parked", "list", "--json").output)]


@pytest.mark.usefixtures("shop")
def test_a_parked_resource_is_listed_and_retried() -> None:
    ok("poll", "shop", "catalogs.units")
    with database() as opened, opened.begin() as tx:
        refusal, until = streams.Refusal("the role may not", streams.LISTING, ""), tx.now + timedelta(hours=1)
        streams.park(tx, "shop", "catalogs.units", refusal, until=until, by_full_sync=True)
    listed = ok("parked").output
    assert "(all of it)  parked since" in listed
    assert f", tried again at {until:%Y-%m-%d %H:%M} UTC" in listed
    assert [until.isoformat()] == [row["retry_at"] for row in json.loads(ok("parked", "list", "--json").output)]
    ok("parked", "retry", "shop", "catalogs.units")
    assert "Nothing is parked" in ok("parked").output


def test_a_sample_with_a_decimal_number_is_printed_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    common.print_json([{"since": moment, "samples": ({"price": Decimal("1234567890123456.0001"), "name": "õ"},)}])
    printed = capsys.readouterr().out
    assert '"price": 1234567890123456.0001' in printed
    assert '"name": "õ"' in printed
    assert [{"since": "2026-03-01T12:00:00+00:00"}] == [{"since": row["since"]} for row in json.loads(printed)]
