"""Whatever is lost, doubled or killed when: the mirror of quiet vendors equals them, and the journal tells it.

What happens is drawn from a seed; in which moment it strikes is left to the machine.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from models import tables
from models.database import Database
from tests import processes
from tests.processes import LOOKS, READS, Installation, children, equal, installed, kill_group, signal_group, until
from tests.serving import served
from tests.test_story import alive, replayed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from tests.mirroring import Mirror

LOST, DOUBLED = 0.2, 0.2
TIMEOUT = 3
"""Seconds. A request that its process did not survive keeps the gate for fifteen more."""

VERBS = {"receiver": ("receiver",), "looks": LOOKS, "more looks": LOOKS, "reads": READS, "beat": ("beat",)}


class Postbox:
    """Stands between the vendor and the receiver and remembers every packet that was answered 200."""

    def __init__(self) -> None:
        self.receiver = ""
        self.accepted: Counter[str] = Counter()
        self.refused = 0
        self.app = Starlette(routes=[Route("/", self.post)])

    async def post(self, request: Request) -> Response:
        status = 503
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            with suppress(httpx.TransportError):
                status = (await client.get(self.receiver, params=request.query_params)).status_code
        if status == 200:
            self.accepted[request.query_params["packet"]] += 1
        else:
            self.refused += 1
        return Response(status_code=status)


class Crew:
    """The running processes by name; each can be killed, paused, and started again."""

    def __init__(self, installation: Installation, mirror: Mirror, random: Random) -> None:
        self.installation, self.mirror, self.random = installation, mirror, random
        self.running = {name: installation.start(*verb) for name, verb in VERBS.items()}
        self.struck: Counter[str] = Counter()
        self._next = cycle(VERBS)

    def strike(self, blow: Callable[[], str]) -> None:
        self.struck[blow()] += 1
        self.revive()

    def revive(self) -> None:
        """What is dead is started again, as `erpmirror up` does."""
        for name, process in self.running.items():
            if process.poll() is not None:
                self.running[name] = self.installation.start(*VERBS[name])

    def kill_one_with_its_children(self) -> str:
        name = next(self._next)
        kill_group(self.running[name])
        return f"{name} killed"

    def kill_a_parent(self) -> str:
        process = self._worker()
        process.kill()
        process.wait()
        return "parent killed, its children left"

    def kill_a_child(self) -> str:
        process = self._worker()
        until(lambda: children(process), seconds=30, what="the worker forks")
        forked = children(process)
        with suppress(ProcessLookupError):
            os.kill(self.random.choice(forked), signal.SIGKILL)
        return "child killed"

    def pause_one_past_its_lease(self) -> str:
        process = self._worker()
        signal_group(process, signal.SIGSTOP)
        self.leases_run_out()
        time.sleep(0.5)
        signal_group(process, signal.SIGCONT)
        return "paused past its lease"

    def leases_run_out(self) -> str:
        leases_run_out(self.mirror.database)
        return "leases ran out"

    def _worker(self) -> subprocess.Popen[bytes]:
        return self.running[self.random.choice(["looks", "more looks", "reads"])]


def leases_run_out(database: Database) -> None:
    """As if so much time had passed: whoever holds one is late, whoever died does not keep the others waiting."""
    turn, until_ = tables.leases.c.turn, tables.leases.c.until
    with database.begin() as connection:
        # Who is committing right now may be paused, too, and its row is locked.
        free = sa.select(turn).with_for_update(skip_locked=True)
        past = database.now(connection) - timedelta(seconds=1)
        connection.execute(sa.update(tables.leases).where(turn.in_(free)).values({until_: past}))


def leases(database: Database) -> list[bool]:
    """Whether each has run out."""
    with database.read() as connection:
        now = database.now(connection)
        return [until_ <= now for until_ in connection.execute(sa.select(tables.leases.c.until)).scalars()]


class Edits(threading.Thread):
    """Everyday edits at every vendor, until told to stop."""

    def __init__(self, mirror: Mirror, seed: int) -> None:
        super().__init__(daemon=True)
        self._mirror, self._random, self._over = mirror, Random(seed), threading.Event()
        self.count = 0

    def run(self) -> None:
        while not self._over.wait(0.05):
            self._random.choice(list(self._mirror.sandboxes.values())).edit(self._random)
            self.count += 1

    def stop(self) -> None:
        self._over.set()
        self.join(10)


@contextmanager
def stage(
    database: Database, folder: Path, broker: str, url: sa.URL | None = None
) -> Iterator[tuple[Installation, Mirror, Postbox]]:
    """The installation with a postbox before its receiver. Deletions are not held: the mirror would rightly differ."""
    postbox = Postbox()
    with ExitStack() as stack:
        hooks = {"webhook_url": stack.enter_context(served(postbox.app)), "lost": LOST, "doubled": DOUBLED}
        systems: dict[str, dict[str, Any]] = {"dilovod": {"seed": 4, **hooks}, "directo": {"seed": 4}}
        options = {"timeout": f"{TIMEOUT}s", "max_deletions": 1}
        installation, mirror = stack.enter_context(
            installed(database, folder, broker=broker, systems=systems, url=url, **options)
        )
        postbox.receiver = f"{installation.address}/hooks/dilovod"
        yield installation, mirror, postbox


def rage(crew: Crew, blows: list[Callable[[], str]], *, times: int, pause: float) -> int:
    """Strike so many times while edits go on; how many edits there were."""
    edits = Edits(crew.mirror, seed=crew.random.randrange(1000))
    edits.start()
    for number in range(times):
        crew.strike(blows[number % len(blows)])
        time.sleep(pause * crew.random.random())
    edits.stop()
    crew.revive()
    crew.mirror.sandboxes["dilovod"].drain()
    return edits.count


def assert_promises_kept(mirror: Mirror, postbox: Postbox) -> None:
    """Section by section what the product promises."""
    assert {} == mirror.differences()
    database = mirror.database
    with database.read() as connection:
        entries = connection.execute(sa.select(tables.changes).order_by(tables.changes.c.id)).all()
        packets = Counter(connection.execute(sa.select(tables.notices.c.packet)).scalars())
        aside = connection.execute(sa.select(tables.inbox).where(tables.inbox.c.state != "due")).all()
        parked = connection.execute(sa.select(tables.streams).where(tables.streams.c.state != "open")).all()
    assert postbox.accepted <= packets
    assert postbox.accepted.total() > 0
    assert [] == aside
    assert [] == parked
    assert list(range(1, len(entries) + 1)) == [entry.id for entry in entries]
    last: dict[tuple[str, str, str], int] = {}
    for entry in entries:
        key = (entry.connection, entry.resource, entry.key)
        assert last.get(key, 0) <= entry.turn, key
        last[key] = entry.turn
    for name in mirror.sandboxes:
        desk = mirror.desk(name)
        for resource in desk.resources.values():
            assert alive(database, desk.target(resource, None)) == replayed(database, resource.name), resource.name


def note(folder: Path, edits: int, crew: Crew, postbox: Postbox) -> None:
    """What happened, for whoever asks."""
    told = {"edits": edits, "accepted": postbox.accepted.total(), "refused": postbox.refused, **crew.struck}
    (folder / "chaos.json").write_text(json.dumps(told, indent=1))


def settle(mirror: Mirror) -> None:
    """The vendors are quiet: wait until nothing differs and nothing waits."""
    until(lambda: equal(mirror), seconds=100, what=lambda: processes.waiting(mirror))


@pytest.mark.redis
@pytest.mark.postgresql
def test_no_blow_makes_the_mirror_differ_on_postgresql_and_redis(tmp_path: Path) -> None:
    with processes.own_postgresql() as database, processes.own_redis() as broker:
        marked = database.url.update_query_dict({"application_name": tmp_path.name})
        with (
            redis.Redis.from_url(broker) as client,
            stage(database, tmp_path, broker, url=marked) as (installation, mirror, postbox),
        ):

            def flush_the_broker() -> str:
                client.flushdb()
                return "broker flushed"

            def break_the_connections() -> str:
                with database.begin() as connection:
                    ours = sa.column("application_name") == tmp_path.name
                    sessions = sa.select(sa.func.pg_terminate_backend(sa.column("pid")))
                    connection.execute(sessions.select_from(sa.table("pg_stat_activity")).where(ours))
                return "connections broken"

            crew = Crew(installation, mirror, Random(4))
            until(installation.answers, seconds=60, what="the receiver answers")
            blows = [
                crew.kill_a_child,
                crew.pause_one_past_its_lease,
                break_the_connections,
                crew.kill_one_with_its_children,
                crew.leases_run_out,
                crew.kill_a_child,
                flush_the_broker,
                crew.kill_a_parent,
                crew.kill_one_with_its_children,
                crew.leases_run_out,
            ]
            edits = rage(crew, blows, times=30, pause=1.2)
            settle(mirror)
            assert_promises_kept(mirror, postbox)
            note(tmp_path, edits, crew, postbox)


def test_no_blow_makes_the_mirror_differ_on_the_embedded_defaults(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    with stage(database, tmp_path, processes.FILES) as (installation, mirror, postbox):
        crew = Crew(installation, mirror, Random(5))
        until(installation.answers, seconds=60, what="the receiver answers")
        blows = [crew.kill_a_child, crew.leases_run_out, crew.kill_one_with_its_children, crew.kill_a_parent]
        edits = rage(crew, [*blows, crew.leases_run_out], times=10, pause=1.0)
        settle(mirror)
        assert_promises_kept(mirror, postbox)
        note(tmp_path, edits, crew, postbox)
    database.close()


@pytest.mark.redis
@pytest.mark.postgresql
def test_what_a_worker_read_before_it_was_paused_past_its_lease_is_discarded(tmp_path: Path) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        stage(database, tmp_path, broker) as (installation, mirror, postbox),
    ):
        shop, random = mirror.sandboxes["dilovod"], Random(6)
        beat, sleeper = installation.start("beat"), installation.start("worker", "--concurrency", "1")
        installation.start("receiver")
        settle(mirror)
        kill_group(beat)  # from now on only webhooks ring
        shop.lost, shop.latency = 0.0, 0.5  # long enough to be stopped in

        def stopped_while_it_asks() -> bool:
            if False not in leases(database):
                shop.edit(random)
                return False
            signal_group(sleeper, signal.SIGSTOP)
            leases_run_out(database)
            if leases(database) == [True]:
                return True
            signal_group(sleeper, signal.SIGCONT)  # it had its answer already
            return False

        until(stopped_while_it_asks, seconds=60, what="the worker asks")
        for _ in range(5):
            shop.edit(random)
        shop.latency = 0.0
        for verb in (("beat",), LOOKS, READS):
            installation.start(*verb)
        settle(mirror)
        signal_group(sleeper, signal.SIGCONT)
        until(lambda: "lease lost" in installation.logs(), seconds=30, what="the sleeper notices")
        settle(mirror)
        assert_promises_kept(mirror, postbox)
