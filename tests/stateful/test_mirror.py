"""The whole mirror: edits, webhooks, fetches, listings, deaths and retries in any order, one transaction at a time."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from models.bookkeeping import due, inbox, journal, streams, webhooks
from models.bookkeeping import parked as parked_rows
from models.db import tables
from models.settings.load import Settings
from tests.mirroring import table
from tests.stateful import simulated_vendor
from tests.stateful.interleaving import Died, InterleavedDatabase, MonotonicClock, Worker, interleaved
from tests.stateful.mirror_rules import NAME, RESOURCES, Watch, parts
from tests.stateful.state_machines import BY_SEEDS, ON_BOTH, STATEFUL_TIMEOUT, Counted, run
from tests.workers.vendor_harness import connectors_in
from workers import configuration, context
from workers.context import ConnectionContext
from workers.demo.compare import compare
from workers.gate import gate
from workers.ingest import loop
from workers.queue import due_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.db.database import Database
    from workers.connectors.contract import Sandbox
    from workers.context import WorkSession

ADDRESS = "http://vendor.example"
ONE_DAY = timedelta(days=1)
LEASE = 45
WORKERS = 3

resources = st.sampled_from(RESOURCES)
KEYS = [f"{number:02}" for number in range(14)]
keys = st.sampled_from(KEYS)
chosen = st.integers(0, WORKERS - 1)


class Timed(ConnectionContext):
    """A connection context whose workers wait by the clock that the test sets."""

    database: InterleavedDatabase

    @cached_property
    def gate(self) -> gate.Gate:
        return gate.Gate(self.database, self.options, timer=MonotonicClock(self.database.clock))


class Mirroring(Counted):
    """A mirror, its vendor, and up to three workers under way."""

    def __init__(self, database: InterleavedDatabase, settings: Settings) -> None:
        super().__init__()
        database.empty()
        self.database, self.settings = database, settings
        self.vendor = simulated_vendor.vendors[ADDRESS] = simulated_vendor.Vendor(database.clock)
        with database.read() as tx:
            self.watch = Watch(database, self.vendor, last_id=journal.bounds(tx)[1])
        self.workers: list[Worker] = []
        context.sync_streams(database, settings)

    @property
    def context(self) -> ConnectionContext:
        return Timed(self.database, self.settings, self.settings.connections[NAME])

    # The vendor.

    @initialize(stocked=st.dictionaries(resources, st.sets(keys), max_size=4), read=st.booleans())
    def opens(self, stocked: dict[str, set[str]], read: bool) -> None:  # noqa: FBT001
        for resource, some in sorted(stocked.items()):
            for key in sorted(some):
                self.vendor.edit(resource, key)
        if read:
            self._work()

    @rule(resource=resources, key=keys, announced=st.booleans())
    def edit(self, resource: str, key: str, announced: bool) -> None:  # noqa: FBT001
        self.vendor.edit(resource, key)
        self._announce(resource, key, announced)

    @rule(resource=resources, key=keys, announced=st.booleans())
    def revert(self, resource: str, key: str, announced: bool) -> None:  # noqa: FBT001
        self.vendor.revert(resource, key)
        self._announce(resource, key, announced)

    @rule(resource=resources, key=keys, announced=st.booleans())
    def delete(self, resource: str, key: str, announced: bool) -> None:  # noqa: FBT001
        self.vendor.delete(resource, key)
        self._announce(resource, key, announced)

    @rule(key=keys, announced=st.booleans())
    def mark(self, key: str, announced: bool) -> None:  # noqa: FBT001
        self.vendor.mark("goods", key)
        self._announce("goods", key, announced)

    @rule(resource=resources)
    def delete_everything(self, resource: str) -> None:
        for key in sorted(self.vendor.things[resource]):
            self.vendor.delete(resource, key)

    @rule(resource=resources)
    def stock_up(self, resource: str) -> None:
        for key in KEYS:
            self.vendor.edit(resource, key)

    def _announce(self, resource: str, key: str, announced: bool) -> None:  # noqa: FBT001
        if announced and resource in simulated_vendor.PAGED:
            self.vendor.hooks.append((resource, key))

    @precondition(lambda self: self.vendor.hooks)
    @rule(which=st.integers(0, 5), times=st.integers(0, 2), stays=st.booleans())
    def hook(self, which: int, times: int, stays: bool) -> None:  # noqa: FBT001
        """A webhook arrives: out of order, doubled, later again, or never."""
        hooks = self.vendor.hooks
        resource, key = hooks[which % len(hooks)]
        accepted = [webhooks.AcceptedWebhook(NAME, "{}", resource, key) for _ in range(times)]
        with self.database.begin() as tx:
            webhooks.append(tx, accepted[:1])
            webhooks.append(tx, accepted)
        if not stays:
            hooks.remove((resource, key))

    @rule(resource=resources, failure=st.sampled_from(sorted(simulated_vendor.FAILURES)), middle=st.booleans())
    def fails(self, resource: str, failure: str, middle: bool) -> None:  # noqa: FBT001
        self.vendor.failures[resource].append(("in the middle of a reply: " if middle else "") + failure)

    @rule(resource=resources, count=st.integers(1, simulated_vendor.PAGE))
    def lacks(self, resource: str, count: int) -> None:
        self.vendor.lack(resource, count)

    # The mirror.

    @rule(seconds=st.sampled_from([1, 3, 30, 50, 70, 330, 700]))
    def time_passes(self, seconds: int) -> None:
        self.database.clock.pass_by(seconds)

    @rule(resource=resources, again=st.booleans())
    def request_sync(self, resource: str, again: bool) -> None:  # noqa: FBT001
        now = streams.backfill_now if again else streams.poll_now
        with self.database.begin() as tx:
            now(tx, connection=NAME, resource=resource)

    @rule(resource=resources)
    def retry(self, resource: str) -> None:
        self._retry(resource)

    @rule(resource=resources)
    def drop(self, resource: str) -> None:
        with self.database.begin() as tx:
            waiting = parked_rows.rows(tx, connection=NAME)
            parked_rows.drop(tx, connection=NAME, resource=resource)
        self.watch.dropped |= {(row.resource, row.key) for row in waiting if row.resource == resource}

    @precondition(lambda self: len(self.workers) < WORKERS)
    @rule(work=st.sampled_from([loop.sync, loop.full_sync]), steps=st.integers(1, 25))
    def starts(self, work: Callable[..., WorkSession], steps: int) -> None:
        worker = Worker(partial(work, self.context, budget=ONE_DAY))
        self.workers.append(worker)
        self._step(worker, steps)

    @precondition(lambda self: self.workers)
    @rule(which=chosen, steps=st.integers(1, 12))
    def goes_on(self, which: int, steps: int) -> None:
        self._step(self.workers[which % len(self.workers)], steps)

    @precondition(lambda self: self.workers)
    @rule(which=chosen)
    def finishes(self, which: int) -> None:
        self._step(self.workers[which % len(self.workers)], 1_000)

    @precondition(lambda self: self.vendor.asked and self._paused())
    @rule(which=chosen, seconds=st.sampled_from([1, 60]))
    def is_overtaken(self, which: int, seconds: int) -> None:
        """While an answer is on its way the object changes, is announced, and another worker may fetch it first."""
        worker = self._paused()[which % len(self._paused())]
        resource, key = self.vendor.asked[-1]
        self.edit(resource, key, announced=True)
        self.hook(len(self.vendor.hooks) - 1, times=1, stays=False)
        self.time_passes(seconds)
        self.starts(loop.sync, steps=1_000)
        self._step(worker, 1_000)

    def _paused(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.at == "an answer on its way"]

    @precondition(lambda self: self.workers)
    @rule(which=chosen, in_a_transaction=st.booleans())
    def dies(self, which: int, in_a_transaction: bool) -> None:  # noqa: FBT001
        worker = self.workers[which % len(self.workers)]
        worker.die(in_a_transaction=in_a_transaction)
        self._step(worker, 0)

    def _step(self, worker: Worker, steps: int) -> None:
        for _ in range(steps):
            if not worker.done:
                worker.step()
                self.watch.check()
        if worker.done:
            self.workers.remove(worker)
            if (
                worker.error is not None
                and not isinstance(worker.error, Died)
                and not simulated_vendor.expected(worker.error)
            ):
                raise worker.error

    @invariant()
    def holds(self) -> None:
        self.watch.check()

    # The end.

    def teardown(self) -> None:
        for worker in list(self.workers):
            worker.die() if worker is self.workers[0] else worker.finish()
        self.vendor.failures.clear()
        self.vendor.lacking.clear()
        try:
            self._settle()
            self._check_polled()
            self._sync_fully()
            self._is_equal(besides=self._parked())
            for _ in range(5):
                if self._parked():
                    for resource in RESOURCES:
                        self._retry(resource)
                    self._settle()
                    self._sync_fully()
            self._is_equal(besides=set())
        finally:
            del simulated_vendor.vendors[ADDRESS]

    def _settle(self) -> None:
        """Work until nothing waits for a lease, a closed gate or its next attempt."""
        for _ in range(30):
            self.database.clock.pass_by(60)
            self._work()
            self.watch.check()
            if not self._unfinished():
                return

    def _unfinished(self) -> bool:
        with self.database.read() as tx:
            rows = streams.open_streams(tx, connection=NAME)
            waiting = inbox.due(tx, connection=NAME, now=self.database.clock.now + ONE_DAY)
        return bool(waiting) or any(row.failures for row in rows)

    def _check_polled(self) -> None:
        """Polls alone bring every change, not in pages, whose rows move, nor after a first load that lacked rows."""
        if "debtors" not in self.vendor.has_lacked:
            truth = {("debtors", key): raw for key, raw in self.vendor.truth("debtors").items()}
            late = {key for key, raw in truth.items() if self.watch.states.get(key) != raw}
            assert set() == late - self._parked()

    def _sync_fully(self) -> None:
        """One poll and one full sync, and the second request for the keys that it lacked."""
        with self.database.begin() as tx:
            now = self.database.now(tx)
            for resource in RESOURCES:
                streams.update(tx, NAME, resource, due_at=now, full_due_at=now)
        self._work()
        self.database.clock.pass_by(60)
        self._work()
        self.watch.check()

    def _work(self) -> None:
        for _ in range(100):
            to_poll, to_read = due_work.has_work(self.context, due.load(self.database))
            if to_poll:
                loop.sync(self.context, budget=ONE_DAY)
            if to_read:
                loop.full_sync(self.context, budget=ONE_DAY)
            if not (to_poll or to_read):
                return

    def _retry(self, resource: str) -> None:
        with self.database.begin() as tx:
            streams.reopen(tx, connection=NAME, resource=resource)
            parked_rows.retry(tx, connection=NAME, resource=resource)

    def _parked(self) -> set[tuple[str, str]]:
        with self.database.read() as tx:
            rows = {(row.resource, row.key) for row in parked_rows.rows(tx, connection=NAME)}
            found = {name: streams.get(tx, NAME, name) for name in RESOURCES}
            parked = {name for name, stream in found.items() if stream is not None and stream.state == "parked"}
        return rows | {(name, key) for name in parked for key in KEYS}

    def _is_equal(self, *, besides: set[tuple[str, str]]) -> None:
        found = compare(self.database, [self.context], {NAME: cast("Sandbox", self.vendor)})
        differing = {(row.resource, key) for row in found for key in row.differences}
        assert set() == differing - besides
        with self.database.read() as tx:
            waiting = tx.execute(tables.inbox.select()).all()
        assert {} == {(row.resource, row.key): row.state for row in waiting if (row.resource, row.key) not in besides}
        for resource in RESOURCES:
            truth = {key: raw["rows"] for key, raw in self.vendor.truth(resource).items() if raw["rows"]}
            assert {key for key in truth if (resource, key) not in besides} <= parts(self.database, resource).keys()
            for key, rows in parts(self.database, resource).items():
                assert (resource, key) in besides or truth[key] == rows


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """The settings of a connection to the simulated vendor."""
    file = tmp_path / "erpmirror.toml"
    file.write_text(table(NAME, {"system": "simulated", "url": ADDRESS, "api_key": "very-secret"}), encoding="utf-8")
    with connectors_in(Path(__file__).parent / "systems"):
        yield configuration.load(file)


@STATEFUL_TIMEOUT
@BY_SEEDS
@ON_BOTH
def test_in_any_order_of_events_the_mirror_never_goes_backwards_and_ends_equal_to_the_vendor(
    database: Database, settings: Settings, seeds: tuple[int, ...]
) -> None:
    mirror = interleaved(database)
    run(lambda: Mirroring(mirror, settings), seeds=seeds, examples=40 if mirror.is_sqlite else 10, steps=40)
    mirror.close()
