"""The harness of the chaos tests: all processes of an installation, edits at its vendors, and the faults injected."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import failpoints
from models.bookkeeping import parked
from models.db import outgoing_tables, tables
from models.db.database import Database
from tests import processes
from tests.chaos import oracle
from tests.chaos.results import FaultResult, Results
from tests.chaos.webhook_proxy import WebhookProxy
from tests.processes import FULL_SYNC, SYNC, Installation, children, equal, installed, kill_group, signal_group, until
from tests.serving import served

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.mirroring import Mirror

LOST, DOUBLED = 0.2, 0.2
"""Shares of Dilovod's webhooks."""

TIMEOUT = 3
"""Seconds. The lease of a killed process's request holds the gate for fifteen more."""

VERBS = {"receiver": ("receiver",), "sync": SYNC, "more sync": SYNC, "full_sync": FULL_SYNC, "beat": ("beat",)}


@dataclass
class ChaosHarness:
    """One installation, its vendors, and what happens to them.

    `stamps_rise`: no vendor's clock was set back. `attended`: the connection whose parked work a person retries.
    """

    installation: Installation
    mirror: Mirror
    webhook_proxy: WebhookProxy
    results: Results
    random: Random
    armed: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    verbs: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(VERBS))
    stamps_rise: bool = True
    attended: str | None = None

    def __post_init__(self) -> None:
        self.watch = oracle.Watch(self.mirror)

    # Processes.

    def start(self) -> None:
        """Start everything and wait for the first load."""
        self.revive()
        until(self.installation.answers, seconds=60, what=lambda: f"the receiver answers: {self.installation.logs()}")
        self.settle()

    def revive(self) -> None:
        """Start every process that is missing or dead, as `erpmirror up` does."""
        for name, verb in self.verbs.items():
            process = self.running.get(name)
            if process is None or process.poll() is not None:
                self.running[name] = self.installation.start(*verb, **{failpoints.VARIABLE: str(self.armed)})

    def kill(self, name: str) -> None:
        """SIGKILL a process and its children."""
        kill_group(self.running[name])

    def kill_a_parent(self) -> str:
        """SIGKILL a worker and leave its children."""
        name = self.random.choice([name for name, verb in self.verbs.items() if verb[0] == "worker"])
        self.running[name].kill()
        self.running[name].wait()
        return "worker parent killed"

    def kill_a_child(self) -> str:
        """SIGKILL one of a worker's children."""
        name = self.random.choice([name for name, verb in self.verbs.items() if verb[0] == "worker"])
        forked = children(self.running[name])
        if forked:
            with suppress(ProcessLookupError):
                os.kill(self.random.choice(forked), signal.SIGKILL)
        return "worker child killed"

    def kill_everything(self) -> None:
        """SIGKILL all of them."""
        for name in self.running:
            self.kill(name)

    def pause(self, name: str) -> None:
        """SIGSTOP a process and its children."""
        signal_group(self.running[name], signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        signal_group(self.running[name], signal.SIGCONT)

    def leases_run_out(self) -> None:
        """Expire all leases: a holder that still runs loses its lease, and a dead one blocks no other."""
        database, revision, until_ = self.mirror.database, tables.leases.c.revision, tables.leases.c.until
        with database.begin() as tx:
            now = database.now(tx)
            # A process that is paused in its commit keeps its row locked.
            free = sa.select(revision).with_for_update(skip_locked=True)
            past = now - timedelta(seconds=1)
            tx.execute(sa.update(tables.leases).where(revision.in_(free)).values({until_: past}))
        with database.begin() as tx:
            asked = tables.inbox.c.state == "due"
            tx.execute(sa.update(tables.inbox).where(asked).values({tables.inbox.c.due_at: now}))
        c = outgoing_tables.commands.c
        with database.begin() as tx:
            sent = sa.select(c.id).where(c.state == "sending").with_for_update(skip_locked=True)
            tx.execute(sa.update(outgoing_tables.commands).where(c.id.in_(sent)).values({c.due_at: now}))
        s = outgoing_tables.subscriptions.c
        with database.begin() as tx:
            told = sa.select(s.name).with_for_update(skip_locked=True)
            tx.execute(sa.update(outgoing_tables.subscriptions).where(s.name.in_(told)).values({s.leased_until: past}))

    # Failpoints.

    def arm(self, point: failpoints.Point, signal_name: str = "") -> None:
        """The first process to reach the point gets the signal (SIGKILL by default)."""
        self.armed.joinpath(point).write_text(signal_name)

    def was_hit(self, point: failpoints.Point) -> bool:
        """Whether a process has reached the armed point."""
        return not self.armed.joinpath(point).exists()

    # What the vendors and the mirror do.

    @contextmanager
    def edits(self, *, pause: float = 0.05, at: Sequence[str] = ()) -> Iterator[Edits]:
        """Everyday edits at these vendors (none: at all) while the block runs."""
        for name in self.mirror.sandboxes:
            self.watch.observe(name)
        edits = Edits(self, Random(self.random.random()), pause=pause, at=at or list(self.mirror.sandboxes))
        edits.start()
        try:
            yield edits
        finally:
            edits.stop()

    def settle(self) -> float:
        """Wait, without edits, until nothing differs and nothing is pending; return the seconds that took."""
        for sandbox in self.mirror.sandboxes.values():
            if hasattr(sandbox, "drain"):
                sandbox.drain()
        began = time.monotonic()
        until(self._is_equal, seconds=120, what=self.report, every=0.4)
        return time.monotonic() - began

    def _is_equal(self) -> bool:
        self.revive()  # a worker whose child was killed may exit a moment later
        if self.attended is not None and self.is_parked(self.attended):
            self.retry_parked(self.attended)
        return equal(self.mirror)

    def is_parked(self, connection: str) -> bool:
        """Whether some work of this connection is parked."""
        with self.mirror.database.read() as tx:
            return bool(parked.rows(tx, connection=connection))

    def retry_parked(self, connection: str) -> None:
        """Retry all parked work of this connection, as a person decides."""
        retried = self.installation.start("parked", "retry", connection, "--yes")
        assert 0 == retried.wait(60)

    def report(self) -> str:
        """Everything that a failing test should show."""
        return f"{processes.unfinished(self.mirror)}\n{self.installation.logs()[-8000:]}"

    @contextmanager
    def fault(
        self, name: str, *, hurried: bool = False, pause: float = 0.05, at: Sequence[str] = ()
    ) -> Iterator[FaultResult]:
        """Edit while the block injects the fault (it counts `times`), then check the promises and record the result.

        `hurried`: a dead process's lease expires at once, to save the time. `pause`, `at`: see `edits`.
        """
        result, before = FaultResult(name), self.webhook_proxy.sent.total()
        with self.edits(pause=pause, at=at) as edits:
            yield result
        self.revive()
        if hurried:
            self.leases_run_out()
        result.edits += edits.count
        try:
            result.seconds = self.settle()
        finally:  # what is not equal in time is lost, and belongs in the table, too
            result.webhooks = self.webhook_proxy.sent.total() - before
            result.lost += oracle.lost(self.mirror, self.webhook_proxy) + self.watch.wrongly_deleted()
            result.doubled += oracle.doubled(self.mirror, self.webhook_proxy)
            result.backwards += oracle.backwards(self.mirror, stamps_rise=self.stamps_rise)
            self.results.record(result)


class Edits(threading.Thread):
    """Everyday edits at some vendors, until stopped."""

    def __init__(self, harness: ChaosHarness, random: Random, *, pause: float, at: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._harness, self._random, self._pause, self._at = harness, random, pause, at
        self._over = threading.Event()
        self.count = 0

    def run(self) -> None:
        """Edit vendors at random."""
        while not self._over.wait(self._pause):
            name = self._random.choice(self._at)
            self._harness.mirror.sandboxes[name].edit(self._random)
            self._harness.watch.observe(name)
            self.count += 1

    def stop(self) -> None:
        """Stop editing."""
        self._over.set()
        self.join(20)


@contextmanager
def chaos_harness(
    database: Database,
    folder: Path,
    broker: str,
    *,
    results: Results,
    random: Random,
    url: sa.URL | None = None,
    systems: dict[str, dict[str, Any]] | None = None,
    wrappers: dict[str, Callable[[Any], Any]] | None = None,
    more: str = "",
    **options: Any,
) -> Iterator[ChaosHarness]:
    """An installation with a proxy for its webhooks; no process runs yet.

    Deletions are not held, because the mirror would rightly differ. `systems`: sandbox -> options. `wrappers`: wrappers
    around a sandbox's app. `more`: further tables of the settings. `options`: of all connections.
    """
    webhook_proxy = WebhookProxy()
    with ExitStack() as stack:
        hooks = {"webhook_url": stack.enter_context(served(webhook_proxy.app)), "lost": LOST, "doubled": DOUBLED}
        chosen: dict[str, dict[str, Any]] = systems or {"dilovod": {"seed": 4}, "directo": {"seed": 4}}
        known = {name: knobs | (hooks if name == "dilovod" else {}) for name, knobs in chosen.items()}
        given = {"timeout": f"{TIMEOUT}s", "max_deletions": 1} | options
        installation, mirror = stack.enter_context(
            installed(database, folder, broker=broker, systems=known, url=url, wrappers=wrappers, more=more, **given)
        )
        webhook_proxy.forward_to([f"{installation.address}/hooks/dilovod"])
        armed = folder / "armed"
        armed.mkdir()
        yield ChaosHarness(installation, mirror, webhook_proxy, results, random, armed)


@contextmanager
def on(kind: str, folder: Path, *, results: Results, random: Random, **options: Any) -> Iterator[ChaosHarness]:
    """A `chaos_harness` on SQLite with files, or on PostgreSQL with a Redis of its own or with RabbitMQ."""
    with ExitStack() as stack:
        if kind == "SQLite":
            database = Database(f"sqlite:///{folder / 'mirror.db'}")
            stack.callback(database.close)
            broker = f"filesystem:///{folder / 'broker'}"
        else:
            database = stack.enter_context(processes.own_postgresql())
            rabbitmq = kind == "RabbitMQ"
            broker = processes.emptied_rabbitmq() if rabbitmq else stack.enter_context(processes.own_redis())
        harness = chaos_harness(database, folder, broker, results=results, random=random, **options)
        yield stack.enter_context(harness)
