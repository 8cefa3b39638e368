"""What a command costs more than the same write by a program that calls the vendor itself.

A command passes `POST /commands/NAME`, the database, a wake-up, a worker and the vendor, and what it changed is fetched
into the mirror. A bare client (`commands_vendors`) makes the same requests to the same sandbox, in alternation. The
sandbox answers at once, which is the hardest reference: nothing of ours hides behind a slow vendor. Only the last rates
are those at a vendor that takes its time, as every real one does.

Neither side is paced: `requests_per_minute` stays unset, as by default, and `commands_per_minute` is out of reach. Both
make one request at a time, as both systems demand of an account: the gate sees to it for us, the bare client is a
single loop. Listings come once a day, because Dilovod would refuse the bare client while one is read, and
`max_deletions` is 1, because the deletions are meant.

After each round the vendor must have received each write exactly once, and the mirror must show each object that a
command wrote as the vendor has it.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.benchmarks import commands_installation, commands_vendors
from tests.benchmarks.commands_installation import Way
from tests.benchmarks.commands_vendors import SYSTEMS
from tests.benchmarks.first_load import SCALE
from tests.benchmarks.measure import Answer, Measured, percentile, quotients, say
from tests.benchmarks.vendors import LATENCY
from tests.processes import own_postgresql, own_redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.benchmarks.commands_installation import Mirror
    from tests.benchmarks.commands_vendors import Bare, System, Write

QUESTION = "a command from its POST to the vendor and to its row, against a bare client of the vendor"

_ALTERNATIONS = max(int(40 * SCALE), 5)
"""Of each write in a round."""

_PAUSES = (0.03, 0.08)
"""Seconds between two writes, so that none queues behind another."""

_STAGES = ("accepted", "done", "row")
"""Of a command's way: what is measured."""

_ANSWERS = {
    "row": ("POST to its row", "its write and its read of the object", (15, 8)),
}
"""The stage that is an answer: in words, what of the bare client's it is compared with, what the ratio must reach.

The others, and the late ones (p95), are only printed.
"""


@dataclass(frozen=True, slots=True)
class _Run:
    """So many commands at once, to a vendor that answers after so many seconds. `stages`: whose rates are measured."""

    count: int
    latency: float
    stages: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.count:,} at once" + (f" at {1000 * self.latency:.0f} ms a request" if self.latency else "")


_AT_ONCE = _Run(max(int(400 * SCALE), 50), 0, _STAGES)
_SLOWLY = _Run(max(int(100 * SCALE), 20), LATENCY, ("done", "row"))
_RUNS = (_AT_ONCE, _SLOWLY)

_DONE_AT_ONCE = (0.4, 0.8)
"""What the rate of commands at once that are done must reach, and its aim, of the bare client's at a slow vendor."""

_Round = dict[str, tuple[list[Way], list[Way]]]
"""Write -> the ways of our commands and of the bare client's writes."""

_Burst = tuple[Way, float]
"""The way of many commands at once, and the seconds of as many bare writes."""


def answers(rounds: int) -> list[Answer]:
    """For each system: one command after the other, then many at once."""
    found = []
    for name, system in SYSTEMS.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            vendor = stack.enter_context(commands_vendors.vendor(name, objects=2 * _AT_ONCE.count))
            database, broker = stack.enter_context(own_postgresql()), stack.enter_context(own_redis())
            mirror = stack.enter_context(commands_installation.running(name, vendor, database, broker, folder))
            bare = stack.enter_context(closing(system.bare(vendor.url)))
            found += _of_system(name, _Sides(system, mirror, bare), rounds)
    return found


def _of_system(name: str, sides: _Sides, rounds: int) -> list[Answer]:
    sides.alternately(5)  # warm-up: fresh workers have empty caches
    single: list[_Round] = []
    many: list[list[_Burst]] = [[] for _ in _RUNS]
    for number in range(rounds):
        single.append(sides.alternately(_ALTERNATIONS))
        for run, figures in zip(_RUNS, many, strict=True):
            figures.append(sides.at_once(run, ours_first=number % 2 == 0))
        sides.check()
        say(f"  {name}: round {number + 1} of {rounds}")
    latencies = [_latency(name, stage, single) for stage in _ANSWERS]
    rates = {
        (run.name, stage): _rates(run, stage, figures)
        for run, figures in zip(_RUNS, many, strict=True)
        for stage in run.stages
    }
    _print(name, single, rates)
    return [*latencies, _rate(name, *rates[_SLOWLY.name, "done"])]


@dataclass
class _Sides:
    """Ours and the bare client, each with objects of its own: nobody tells the mirror what the bare client changes.

    `ours`, `theirs`: how often each object was written.
    """

    system: System
    mirror: Mirror
    bare: Bare
    ours: Counter[str] = field(default_factory=Counter)
    theirs: Counter[str] = field(default_factory=Counter)
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        keys = sorted(self.mirror.vendor.truth(self.system.writes[1].resource))
        self._my_keys, self._their_keys = keys[0 : 2 * _AT_ONCE.count : 2], keys[1 : 2 * _AT_ONCE.count : 2]
        self._pairs = cycle(zip(self._my_keys, self._their_keys, strict=True))

    def alternately(self, alternations: int) -> _Round:
        """One write after the other: what is created is deleted again."""
        found: _Round = {write.name: ([], []) for write in self.system.writes}
        create, change, delete = self.system.writes
        for _ in range(alternations):
            pair = next(self._pairs)
            created = self._both(create, pair, found)
            self._both(change, pair, found)
            self._both(delete, created, found)
        return found

    def _both(self, write: Write, keys: tuple[str, str], found: _Round) -> tuple[str, str]:
        time.sleep(random.uniform(*_PAUSES))
        mine, way = self.mirror.send(write, keys[0])
        self.ours[mine] += 1
        found[write.name][0].append(way)
        time.sleep(random.uniform(*_PAUSES))
        theirs, way = self._bare(write, keys[1])
        self.theirs[theirs] += 1
        found[write.name][1].append(way)
        return mine, theirs

    def _bare(self, write: Write, key: str) -> tuple[str, Way]:
        began = time.perf_counter()
        written = self.bare.write(write.request(key, next(self._numbers)), key)
        wrote = time.perf_counter()
        self.bare.read(write.resource, written)
        return written, Way(began, wrote, wrote, time.perf_counter())

    def at_once(self, run: _Run, *, ours_first: bool) -> _Burst:
        """Change different objects without a pause, each side by itself."""
        self.mirror.vendor.answer_after(run.latency)
        seconds = 0.0 if ours_first else self._theirs_at_once(run)
        self.ours.update(self._my_keys[: run.count])
        way = self.mirror.send_many(self.system.writes[1], self._my_keys[: run.count])
        seconds = seconds or self._theirs_at_once(run)
        self.mirror.vendor.answer_after(0)
        return way, seconds

    def _theirs_at_once(self, run: _Run) -> float:
        change, keys = self.system.writes[1], self._their_keys[: run.count]
        began = time.perf_counter()
        for key in keys:
            self.bare.write(change.request(key, next(self._numbers)), key)
        self.theirs.update(keys)
        return time.perf_counter() - began

    def check(self) -> None:
        """Each write arrived once, and was done; the mirror shows what commands wrote."""
        arrived = self.mirror.vendor.arrived()
        assert [] == [key for key, executed in arrived if not executed]
        assert self.ours + self.theirs == Counter(key for key, _ in arrived)
        assert set() == self.mirror.differences() & self.ours.keys()


def _figures(rounds: Sequence[_Round], stage: str, share: float, write: str | None = None) -> Measured:
    """Our and the bare client's milliseconds to a stage, round by round: of one write, or of all."""
    ours, theirs = (
        [
            percentile(
                [1000 * way.seconds(stage) for name in found if write in {None, name} for way in found[name][side]],
                share,
            )
            for found in rounds
        ]
        for side in (0, 1)
    )
    return ours, theirs


def _latency(name: str, stage: str, rounds: Sequence[_Round]) -> Answer:
    ours, theirs = _figures(rounds, stage, 0.5)
    what, against, (must, aim) = _ANSWERS[stage]
    return Answer(
        question=f"{name.title()} command, {what}, p50",
        against=f"a bare httpx client: {against}",
        better="lower",
        must=must,
        aim=aim,
        unit="ms",
        ours=ours,
        reference=theirs,
        ratios=quotients(ours, theirs),
        note=f"{', '.join(rounds[0])}, {_ALTERNATIONS} of each in a round; the sandbox answers at once",
        versions={"httpx": version("httpx")},
    )


def _rates(run: _Run, stage: str, rows: Sequence[_Burst]) -> Measured:
    """Our commands and the bare client's writes a second, round by round."""
    return [run.count / way.seconds(stage) for way, _ in rows], [run.count / seconds for _, seconds in rows]


def _rate(name: str, ours: list[float], theirs: list[float]) -> Answer:
    must, aim = _DONE_AT_ONCE
    return Answer(
        question=f"{name.title()} commands, {_SLOWLY.name}: done a second",
        against="a bare httpx client: writes a second, one after the other",
        better="higher",
        must=must,
        aim=aim,
        unit="/s",
        ours=ours,
        reference=theirs,
        ratios=quotients(ours, theirs),
        versions={"httpx": version("httpx")},
    )


def _print(name: str, rounds: Sequence[_Round], rates: Mapping[tuple[str, str], Measured]) -> None:
    """Each write by itself, in milliseconds, then the rates; ratios with their spread."""
    printed = Table(title=f"{name}: commands against a bare client", box=None, pad_edge=False)
    printed.add_column("write")
    for column in ("until", "ours", "bare", "p50", "spread", "p95", "spread"):
        printed.add_column(column, justify="left" if column == "until" else "right", no_wrap=True)
    for write in rounds[0]:
        for stage in _STAGES:
            middle, late = (_figures(rounds, stage, share, write) for share in (0.5, 0.95))
            printed.add_row(write, stage, *_cells(*middle), *_cells(*late)[2:])
    for (run, stage), (ours, theirs) in rates.items():
        printed.add_row(run, f"{stage}/s", *_cells(ours, theirs))
    Console(width=80).print(printed)


def _cells(ours: list[float], theirs: list[float]) -> tuple[str, ...]:
    ratios = quotients(ours, theirs)
    middles = [f"{statistics.median(each):.3g}" for each in (ours, theirs, ratios)]
    return *middles, f"{min(ratios):.3g}…{max(ratios):.3g}"
