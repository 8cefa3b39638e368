"""A subscription while processes are killed, the receiver restarts and the endpoint is away for an hour.

The endpoint verifies each delivery with the library of the scheme. In the end it has been told of every change once, by
its ids, and each object's changes came in their order.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import deliveries
from models.db import outgoing_tables, tables
from models.failpoints import Point
from tests.chaos.harness import ChaosHarness, on
from tests.processes import DELIVER, until
from tests.serving import served
from tests.workers.deliveries.harness import NAME, OK, SECRET, Listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from tests.chaos.results import FaultResult, Results
    from tests.workers.deliveries.harness import Posted, Reply

STEPS = [point for point in Point if point.startswith("deliver")]
"""The steps of a delivery's way."""

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

_HOUR = timedelta(hours=1)


@dataclass
class Subscriber:
    """The endpoint of the subscription. `is_away`: it answers 503."""

    listening: Listening = field(default_factory=Listening)
    is_away: bool = False
    refused: int = 0

    def __post_init__(self) -> None:
        self.listening.reply = self._reply

    def _reply(self, _: Posted) -> Reply:
        if self.is_away:
            self.refused += 1
            return 503, b"closed for the night", {}
        return OK

    def told(self) -> set[int]:
        """The changes that it was told of."""
        return {*self.listening.changes}

    def check(self, harness: ChaosHarness, result: FaultResult) -> None:
        """Count what it was not told, what came under two ids, and what came before an earlier change of its object."""
        entries = _entries(harness)
        ids: dict[int, set[str]] = defaultdict(set)
        last: dict[Any, int] = defaultdict(int)
        for posted in [*self.listening.posted]:
            change, of = posted.data["id"], (posted.data["connection"], posted.data["resource"], posted.data["key"])
            assert entries[change] == of
            is_new = change not in ids
            ids[change].add(posted.id)
            if is_new:
                result.backwards += change < last[of]
                last[of] = change
        result.lost += len(entries.keys() - ids.keys())
        result.doubled += sum(len(each) > 1 for each in ids.values())
        result.doubled += len(ids) - len({identifier for each in ids.values() for identifier in each})


def _entries(harness: ChaosHarness) -> dict[int, tuple[str, str, str]]:
    c = tables.changes.c
    with harness.mirror.database.read() as tx:
        rows = tx.execute(sa.select(c.id, c.connection, c.resource, c.key))
        return {row.id: (row.connection, row.resource, row.key) for row in rows}


@contextmanager
def _telling(kind: str, folder: Path, results: Results, random: Random) -> Iterator[tuple[ChaosHarness, Subscriber]]:
    subscriber = Subscriber()
    with served(subscriber.listening.app) as address:
        more = (
            f'[subscriptions.{NAME}]\nurl = "{address}/hooks"\nsecret = "{SECRET}"\nallow_private = true\n'
            'from = "start"\ntimeout = "3s"\n'
        )
        with on(kind, folder, results=results, random=random, more=more) as harness:
            harness.verbs["deliver"] = DELIVER
            harness.verbs["more deliver"] = DELIVER
            yield harness, subscriber


def _hurry(harness: ChaosHarness) -> None:
    """Make due what waits for its retry, to save the time."""
    database, s, u = harness.mirror.database, outgoing_tables.subscriptions, outgoing_tables.undelivered
    with database.begin() as tx:
        waiting = sa.select(s.c.name).with_for_update(skip_locked=True)
        tx.execute(sa.update(s).where(s.c.name.in_(waiting), s.c.due_at > tx.now).values(due_at=tx.now))
        later = sa.select(u.c.change).where(u.c.due_at > tx.now).with_for_update(skip_locked=True)
        tx.execute(sa.update(u).where(u.c.change.in_(later)).values(due_at=tx.now))


@contextmanager
def _fault(harness: ChaosHarness, subscriber: Subscriber, name: str) -> Iterator[FaultResult]:
    """As the harness's fault, and in the end everything was told."""
    with harness.fault(name, hurried=True) as result:
        yield result
        harness.revive()
        harness.leases_run_out()

    def is_told() -> bool:
        harness.revive()
        _hurry(harness)
        return subscriber.told() == _entries(harness).keys()

    until(is_told, seconds=150, what=lambda: _report(harness, subscriber), every=0.4)
    subscriber.check(harness, result)
    assert (0, 0, 0) == (result.lost, result.doubled, result.backwards), result


def _report(harness: ChaosHarness, subscriber: Subscriber) -> str:
    with harness.mirror.database.read() as tx:
        row = tx.execute(sa.select(outgoing_tables.subscriptions)).one()
    missing = sorted(_entries(harness).keys() - subscriber.told())[:20]
    return f"not told of {missing}: {row} {harness.report()}"


KINDS = [
    "SQLite",
    pytest.param("Redis", marks=[pytest.mark.redis, pytest.mark.postgresql]),
    pytest.param("RabbitMQ", marks=[pytest.mark.rabbitmq, pytest.mark.postgresql, pytest.mark.xdist_group("rabbitmq")]),
]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_each_step_of_a_delivery_each_change_is_told_once_by_id_and_in_order(
    kind: str, tmp_path: Path, results: Results, random: Random
) -> None:
    with _telling(kind, tmp_path, results, random) as (harness, subscriber):
        harness.start()
        with _fault(harness, subscriber, f"killed at each step of a delivery's way ({kind})") as result:
            for point in STEPS:
                harness.arm(point)
                until(
                    lambda point=point: _is_passed(harness, point),  # type: ignore[misc]
                    seconds=150,
                    what=lambda point=point: f"{point} is reached: {_report(harness, subscriber)}",  # type: ignore[misc]
                )
                result.times += 1


def _is_passed(harness: ChaosHarness, point: Point) -> bool:
    harness.revive()
    harness.leases_run_out()
    return harness.was_hit(point)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_and_with_an_endpoint_that_is_away_for_an_hour_each_change_is_told_once_by_id(
    kind: str, tmp_path: Path, results: Results, random: Random
) -> None:
    with _telling(kind, tmp_path, results, random) as (harness, subscriber):
        harness.start()
        name = f"two receivers' and some workers' deaths, an endpoint away for an hour ({kind})"
        with _fault(harness, subscriber, name) as result:
            for victim in ("deliver", "receiver", "sync"):
                time.sleep(random.uniform(0.3, 1.5))
                harness.kill(victim)
                result.times += 1
                harness.revive()
                harness.leases_run_out()
            subscriber.is_away = True
            _let_an_hour_pass(harness, subscriber)
            subscriber.is_away = False
            for victim in ("receiver", "more deliver", "deliver"):
                harness.kill(victim)
                result.times += 1
                harness.revive()
                harness.leases_run_out()
                time.sleep(random.uniform(0.3, 1.5))
    assert subscriber.refused, "the endpoint was asked while it was away"


def _let_an_hour_pass(harness: ChaosHarness, subscriber: Subscriber) -> None:
    """Wait for each attempt of an hour's outage; the pauses between them are skipped, so the hour takes seconds."""
    passed, s = timedelta(), outgoing_tables.subscriptions.c
    while passed < _HOUR:
        seen = subscriber.refused
        until(lambda seen=seen: subscriber.refused > seen, seconds=60, what=lambda: _report(harness, subscriber))  # type: ignore[misc]
        until(lambda: _waits(harness), seconds=60, what=lambda: _report(harness, subscriber))
        with harness.mirror.database.begin() as tx:
            due_at = tx.execute(sa.select(s.due_at)).scalar_one()
            passed += max(due_at - tx.now, timedelta(seconds=1))
        _hurry(harness)
    with harness.mirror.database.read() as tx:
        failed = [each for each in deliveries.recent(tx, NAME, limit=1000) if each.outcome == deliveries.FAILED]
    assert all(each.status == 503 and each.answer == "closed for the night" for each in failed)


def _waits(harness: ChaosHarness) -> bool:
    """Whether the subscription backs off, or no session serves it."""
    s = outgoing_tables.subscriptions.c
    harness.revive()
    with harness.mirror.database.read() as tx:
        row = tx.execute(sa.select(s.due_at, s.failures, s.lease)).one()
        return bool(row.failures) and (row.due_at > tx.now or row.lease is None)
