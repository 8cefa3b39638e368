"""How long a webhook takes to become a row, against a bare Celery message, which it needs anyway."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from models.db.database import Database
from tests.benchmarks import quiet_installation
from tests.benchmarks.measure import Answer, percentile, quotients, say
from tests.processes import own_postgresql, own_redis

QUESTION = "from one webhook sent to its row committed, less the vendor's own time, on a quiet system"

_ALTERNATIONS = 200
_FEWER = 40
_PAUSES = (0.04, 0.12)
"""Seconds between two webhooks, so that none queues behind another: a task that ends still asks for more due work."""

_FILES = "filesystem:///var/broker"


def answers(rounds: int) -> list[Answer]:
    """On PostgreSQL and Redis the median and the 99th percentile, on the embedded default the median."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(own_postgresql())
        ours, theirs = (stack.enter_context(own_redis()) for _ in range(2))
        served = _measured(database, folder, ours, theirs, rounds=rounds, alternations=_ALTERNATIONS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'mirror.db'}")
        embedded = _measured(database, folder, _FILES, _FILES, rounds=rounds, alternations=_FEWER)
        database.close()
    redis, files = "Celery alone on the same Redis", "Celery alone on the filesystem broker"
    return [
        _answer("webhook to row, PostgreSQL and Redis, p50", redis, served, share=0.5, must=6, aim=4),
        _answer("webhook to row, PostgreSQL and Redis, p99", redis, served, share=0.99, must=10, aim=5),
        _answer("webhook to row, embedded default, p50", files, embedded, share=0.5, must=2, aim=1.3),
    ]


_Rounds = list[tuple[list[float], list[float]]]
"""Ours and the reference's milliseconds, round by round."""


def _measured(database: Database, folder: Path, broker: str, plain: str, *, rounds: int, alternations: int) -> _Rounds:
    with (
        quiet_installation.vendor() as vendor,
        quiet_installation.mirror(database, folder, broker=broker, source=vendor) as mirror,
        quiet_installation.plain_worker(plain, folder) as hop,
    ):
        _alternately(mirror, hop, alternations=20)  # warm-up: a fresh worker has empty caches
        measured = []
        for number in range(rounds):
            measured.append(_alternately(mirror, hop, alternations=alternations))
            figures = [f"{statistics.median(each):.4g}, p99 {percentile(each, 0.99):.4g} ms" for each in measured[-1]]
            say(f"  round {number + 1} of {rounds}, ours {figures[0]}, reference {figures[1]}")
        return measured


def _alternately(
    mirror: quiet_installation.Mirror, hop: quiet_installation.Hop, *, alternations: int
) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    for number in range(alternations):
        key = random.choice(mirror.vendor.keys)
        time.sleep(random.uniform(*_PAUSES))
        ours.append(1000 * mirror.webhook_to_row(key, f"телефонував {number} раз, {time.time()}"))
        time.sleep(random.uniform(*_PAUSES))
        theirs.append(1000 * hop())
    return ours, theirs


def _answer(question: str, against: str, measured: _Rounds, *, share: float, must: float, aim: float) -> Answer:
    ours, theirs = ([percentile(each[side], share) for each in measured] for side in (0, 1))
    return Answer(
        question=question,
        against=f"{against}: delay() to the task's first line (Celery {version('celery')})",
        better="lower",
        must=must,
        aim=aim,
        unit="ms",
        ours=ours,
        reference=theirs,
        ratios=quotients(ours, theirs),
        versions={name: version(name) for name in ("celery", "kombu", "redis")},
    )
