"""`/metrics` for Prometheus: webhooks and how they were stored, wake-ups, resources, commands, subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import prometheus_client
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models import status
from models.bookkeeping import open_commands
from models.bookkeeping.open_commands import OpenCounts
from workers.deliveries import standing
from workers.deliveries.standing import Verdict
from workers.queue import canary, wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from prometheus_client.core import Metric
    from starlette.requests import Request

    from models.db.database import Database
    from models.settings.load import Settings
    from models.status import ResourceStatus
    from receiver.webhooks.spool import Spool
    from workers.deliveries.standing import Standing
    from workers.queue.canary import QueueHealth

_LABELS = ("connection", "system", "resource")
_BATCHES = (1, 2, 5, 10, 20, 50, 100, 250)

_GAUGES: dict[str, tuple[str, Callable[[ResourceStatus], float | None]]] = {
    "rows": ("Live objects in the mirror.", lambda row: row.rows or 0),
    "pending": ("Keys in the inbox.", lambda row: row.pending),
    "parked": ("Parked work that waits for a person.", lambda row: row.parked),
    "held": ("Deletions that wait for a person.", lambda row: row.held),
    "bound_seconds": ("Time within which the mirror equals the ERP again.", lambda row: row.bound),
    "last_sync_timestamp_seconds": (
        "When the resource was last polled or fully synced.",
        lambda row: _stamp(row.last_read),
    ),
    "complete_as_of_timestamp_seconds": (
        "As of when the mirror is known to be complete.",
        lambda row: _stamp(row.complete_as_of),
    ),
    "failing": ("1 while there is a last error.", lambda row: float(row.last_error is not None)),
}


class Metrics:
    """`/metrics`. The registry is the app's own, so that two apps in one process count separately."""

    def __init__(self, settings: Settings, *, database: Database, spool: Spool) -> None:
        self._registry = CollectorRegistry()
        self.webhooks = Counter(
            "erpmirror_webhooks",
            "Webhooks by outcome.",
            ["connection", "outcome"],
            registry=self._registry,
        )
        self.batches = Histogram(
            "erpmirror_webhook_batch_size",
            "Webhooks that shared one commit or one write to the spool.",
            buckets=_BATCHES,
            registry=self._registry,
        )
        self.wakeup_failures = Counter(
            "erpmirror_wakeup_failures", "Wake-ups that the broker did not accept.", registry=self._registry
        )
        self.spooled = Counter(
            "erpmirror_webhooks_spooled", "Webhooks that went to the spool.", registry=self._registry
        )
        waiting = Gauge("erpmirror_spool_waiting", "Webhooks that wait in this host's spool.", registry=self._registry)
        waiting.set_function(spool.waiting)
        refused = Gauge(
            "erpmirror_spool_refused",
            "Webhooks that the database refused, kept in this host's spool for a person.",
            registry=self._registry,
        )
        refused.set_function(spool.refused)
        self._registry.register(_DatabaseCollector(settings, database))

    @property
    def route(self) -> Route:
        """The route."""
        return Route("/metrics", self.show)

    async def show(self, _: Request) -> Response:
        """Prometheus' text format."""
        page = await run_in_threadpool(prometheus_client.generate_latest, self._registry)
        return Response(page, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


class _DatabaseCollector:
    """Queries the database at each scrape, so that all receivers report the same figures."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing. Without this method the registry would call `collect`, and so connect, on registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What `erpmirror status` shows. Without a database the other metrics are still served."""
        try:
            rows = status.resources(self._database, self._settings)
            queues = canary.queue_health(self._database, wakeup.queues_of(self._settings))
            with self._database.read() as tx:
                commands = open_commands.counts(tx)
                subscriptions = standing.every(tx, self._settings.subscriptions)
        except sa.exc.SQLAlchemyError:
            rows, queues, commands, subscriptions = None, [], {}, []
        up = "Whether the database answered this scrape."
        yield GaugeMetricFamily("erpmirror_database_up", up, value=float(rows is not None))
        for name, (meaning, value) in _GAUGES.items():
            yield _gauge(name, meaning, rows or [], value)
        yield _last_answers(queues)
        if rows is not None:
            yield self._commands(commands)
            yield from _subscriptions(subscriptions)

    def _commands(self, found: Mapping[str, OpenCounts]) -> GaugeMetricFamily:
        """Of each connection that takes commands, or has open ones."""
        meaning = "Commands that are not final; needs_person: of those, how many wait for a person."
        family = GaugeMetricFamily("erpmirror_commands", meaning, labels=["connection", "state"])
        taking = {name for name, each in self._settings.connections.items() if getattr(each, "commands", ())}
        for name in sorted(taking | found.keys()):
            counts = found.get(name, OpenCounts())
            states = {"waiting": counts.waiting, "sending": counts.sending, "uncertain": counts.uncertain}
            for state, count in (states | {"needs_person": counts.for_person}).items():
                family.add_metric([name, state], count)
        return family


def _subscriptions(every: Sequence[Standing]) -> Iterator[Metric]:
    """Of each that is configured and was started."""
    of_each = ["subscription"]
    deliveries = CounterMetricFamily(
        "erpmirror_deliveries", "Attempts to deliver a change, by outcome.", labels=[*of_each, "outcome"]
    )
    undelivered = GaugeMetricFamily(
        "erpmirror_subscription_undelivered", f"Changes to be delivered, up to {standing.COUNTED}.", labels=of_each
    )
    oldest = GaugeMetricFamily(
        "erpmirror_subscription_oldest_undelivered_seconds", "How old the oldest of them is.", labels=of_each
    )
    paused = GaugeMetricFamily("erpmirror_subscription_paused", "1 while nothing is delivered.", labels=of_each)
    for each in every:
        if each.row is None or each.verdict in {Verdict.REMOVED, Verdict.NOT_STARTED}:
            continue
        deliveries.add_metric([each.name, "delivered"], each.row.delivered)
        deliveries.add_metric([each.name, "failed"], each.row.failed)
        undelivered.add_metric([each.name], each.backlog.count)
        oldest.add_metric([each.name], each.age.total_seconds())
        paused.add_metric([each.name], float(each.verdict is Verdict.PAUSED))
    yield from (deliveries, undelivered, oldest, paused)


def _last_answers(queues: Iterable[QueueHealth]) -> GaugeMetricFamily:
    meaning = "When a worker last took a message from the queue."
    family = GaugeMetricFamily("erpmirror_worker_last_answer_timestamp_seconds", meaning, labels=["queue"])
    for queue in queues:
        if (answered := _stamp(queue.answered_at)) is not None:
            family.add_metric([queue.queue], answered)
    return family


def _gauge(
    name: str, meaning: str, rows: Iterable[ResourceStatus], value: Callable[[ResourceStatus], float | None]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"erpmirror_resource_{name}", meaning, labels=_LABELS)
    for row in rows:
        current = value(row)
        if current is not None:
            family.add_metric([row.connection, row.system, row.resource], current)
    return family


def _stamp(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
