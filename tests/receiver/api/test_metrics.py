from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.bookkeeping import commands, journal, stream_plans, subscriptions
from models.bookkeeping.commands import NewCommand
from models.bookkeeping.stream_plans import Plan
from models.db import tables
from models.values import Cause, Change, ChangeKind, ObjectRef
from tests.receiver.wakers import FailingWaker
from workers.queue import canary

if TYPE_CHECKING:
    import httpx

    from models.db.database import Database
    from tests.receiver.conftest import Open

PACKET = '{"action":"objectChanged","params":{"objectName":"catalogs.goods","id":"1100300000000001"}}'
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
IGNORED = '{"action":"objectPraised"}'


def _samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """(name, the values of its labels in the order of their names) -> value."""
    page = client.get("/metrics")
    assert 200 == page.status_code
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
    }


def test_webhooks_are_counted_by_connection_and_outcome(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, shop='webhook_sources = ["127.0.0.1"]\nwebhook_secret = "s3cret"') as client:
        for content in (PACKET, PACKET, IGNORED, "{"):
            client.post("/hooks/shop/s3cret", content=content)
        client.post("/hooks/shop", content=PACKET)
        client.post("/hooks/unknown", content=PACKET)
        client.post("/hooks/books", content=PACKET)
        samples = _samples(client)
    counted = {key[1:]: value for key, value in samples.items() if key[0] == "erpmirror_webhooks_total"}
    assert {
        ("shop", "accepted"): 2,
        ("shop", "ignored"): 1,
        ("shop", "malformed"): 1,
        ("shop", "secret"): 1,
        ("", "unknown_connection"): 2,
    } == counted
    assert 3 == samples["erpmirror_webhook_batch_size_sum",]


def test_wakeups_that_the_broker_did_not_take_are_counted(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, waker=FailingWaker()) as client:
        client.post("/hooks/shop", content=PACKET)
        for _ in range(1000):
            if _samples(client)["erpmirror_wakeup_failures_total",]:
                return
    pytest.fail("the failure was not counted")


def test_each_resource_has_the_figures_of_its_status(sqlite: Database, opened: Open) -> None:
    with sqlite.begin() as tx:
        hour = timedelta(hours=1)
        plans = [Plan("catalogs.goods", hour, polls=False)]
        stream_plans.sync(tx, connection="shop", system="dilovod", plans=plans)
    with opened(sqlite) as client:
        client.post("/hooks/shop", content=PACKET)
        samples = _samples(client)
    labels = ("shop", "catalogs.goods", "dilovod")
    assert 1 == samples["erpmirror_database_up",]
    assert (0, 1, 0, 0, 3600, 0) == tuple(
        samples[f"erpmirror_resource_{name}", *labels]
        for name in ("rows", "pending", "parked", "held", "bound_seconds", "failing")
    )
    assert ("erpmirror_resource_last_sync_timestamp_seconds", *labels) not in samples


def test_the_last_answer_of_a_worker_is_a_metric_by_queue(sqlite: Database, opened: Open) -> None:
    canary.record_answer(sqlite, "sync", worker="sync@host")
    [answered_at] = [health.answered_at for health in canary.queue_health(sqlite) if health.queue == "sync"]
    assert answered_at is not None
    with opened(sqlite) as client:
        samples = _samples(client)
    name = "erpmirror_worker_last_answer_timestamp_seconds"
    assert {(name, "sync"): answered_at.timestamp()} == {key: each for key, each in samples.items() if key[0] == name}


def test_commands_that_are_not_final_are_counted_by_state(sqlite: Database, opened: Open) -> None:
    with sqlite.begin() as tx:
        for number in range(4):
            ref = ObjectRef("catalogs.goods", str(number))
            new = NewCommand("shop", "setDelMark", None, None, ref, f"key-{number}", b"", {}, {}, "")
            stored = commands.accept(tx, new)[0]
            if number == 1:
                commands.doubt(tx, stored, reason="no answer", due_at=tx.now)
            elif number == 2:
                commands.doubt(tx, stored, reason="no answer", due_at=None)
            elif number == 3:
                commands.refuse(tx, stored, reason="no")
    with opened(sqlite, shop='commands = ["setDelMark"]') as client:
        samples = _samples(client)
    shown = {key[1:]: count for key, count in samples.items() if key[0] == "erpmirror_commands"}
    counts = {"waiting": 1, "sending": 0, "uncertain": 2, "needs_person": 1}
    assert {("shop", state): count for state, count in counts.items()} == shown


def _of_subscriptions(samples: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    begin = ("erpmirror_subscription_", "erpmirror_deliveries_")
    return {key: value for key, value in samples.items() if key[0].startswith(begin)}


def test_each_subscription_has_its_counters_and_what_waits_for_it(sqlite: Database, opened: Open) -> None:
    tables_of = "\n".join(
        f'[subscriptions.{name}]\nurl = "https://crm.example/hooks"\nsecret = "{SECRET}"\n{lines}'
        for name, lines in {"crm": 'kinds = ["created"]', "idle": 'kinds = ["deleted"]', "new": ""}.items()
    )
    with sqlite.begin() as tx:
        names = ("crm", "idle", "left")
        subscriptions.sync(tx, [subscriptions.Plan(name, from_start=True, target="") for name in names])
        row = subscriptions.claim(tx, "crm", lasts=timedelta(0))
        assert row is not None
        assert row.lease is not None
        subscriptions.write(tx, "crm", row.lease, {"delivered": 7, "failed": 2})
        subscriptions.pause(tx, "crm", by=subscriptions.PausedBy.PERSON, reason="")
        subscriptions.sync(tx, [subscriptions.Plan(name, from_start=True, target="") for name in names[:2]])
        made = [Change(key, ChangeKind.CREATED, None, {}) for key in "12"]
        at = tx.now - timedelta(hours=1)
        journal.append(tx, "shop", "catalogs.goods", made, revision=tx.draw(), cause=Cause.POLL, now=at)
    with opened(sqlite, shop=f'webhook_sources = ["127.0.0.1"]\n{tables_of}') as client:
        samples = _of_subscriptions(_samples(client))
    assert 3600 <= samples.pop(("erpmirror_subscription_oldest_undelivered_seconds", "crm"))
    assert {
        ("erpmirror_deliveries_total", "delivered", "crm"): 7,
        ("erpmirror_deliveries_total", "failed", "crm"): 2,
        ("erpmirror_deliveries_total", "delivered", "idle"): 0,
        ("erpmirror_deliveries_total", "failed", "idle"): 0,
        ("erpmirror_subscription_undelivered", "crm"): 2,
        ("erpmirror_subscription_undelivered", "idle"): 0,
        ("erpmirror_subscription_oldest_undelivered_seconds", "idle"): 0,
        ("erpmirror_subscription_paused", "crm"): 1,
        ("erpmirror_subscription_paused", "idle"): 0,
    } == samples


def test_without_subscriptions_there_are_no_samples_of_them(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        assert {} == _of_subscriptions(_samples(client))


def test_without_tables_the_other_metrics_are_still_served(sqlite: Database, opened: Open) -> None:
    with sqlite.begin() as tx:
        tables.metadata.drop_all(tx)
    with opened(sqlite) as client:
        client.post("/hooks/shop", content=PACKET)
        client.post("/hooks/shop", content=IGNORED)
        samples = _samples(client)
    assert 0 == samples["erpmirror_database_up",]
    assert not [key for key in samples if key[0] == "erpmirror_commands"], "0 would end an alert"
    assert 1 == samples["erpmirror_webhooks_total", "shop", "accepted"]
    assert (2, 2, 0) == tuple(
        samples[f"erpmirror_{name}",] for name in ("webhooks_spooled_total", "spool_waiting", "spool_refused")
    )


def test_two_receivers_in_one_process_count_separately(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as first, opened(sqlite) as second:
        first.post("/hooks/shop", content=PACKET)
        assert ("erpmirror_webhooks_total", "shop", "accepted") in _samples(first)
        assert ("erpmirror_webhooks_total", "shop", "accepted") not in _samples(second)
