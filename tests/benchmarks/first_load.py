"""How fast the connectors load: first loads and full syncs without changes, against dlt's of the same answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tests import services
from tests.benchmarks import loading, vendors
from tests.benchmarks.measure import Answer, say, times_faster
from tests.conftest import fresh_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.source import Source

QUESTION = "first loads and full syncs without changes, of real connectors: seconds against dlt's merge"

SCALE = float(os.environ.get("ERPMIRROR_BENCHMARK_SCALE", "1"))
"""Less than 1 for a quick run."""


@dataclass(frozen=True, slots=True)
class _Load:
    """What is loaded of a vendor, and how much faster than dlt it must be and is to be: first, and again.

    `by_requests`: not in seconds but in requests, for a vendor that is asked for each object: its answers take longer
    than all else, and we ask for one at a time, which dlt does not.
    """

    vendor: str
    objects: int
    what: str
    first: tuple[float, float]
    again: tuple[float, float]
    by_requests: bool = False

    @property
    def count(self) -> int:
        return max(int(self.objects * SCALE), 200)


_LOADS = (
    _Load("directo", 100_000, "Directo items in JSON", first=(3, 5), again=(10, 25)),
    _Load("directo-xml", 50_000, "Directo items in XML", first=(1.5, 3), again=(1.5, 5)),
    _Load("easyflor", 30_000, "EasyFlor debtors", first=(3, 5), again=(10, 25)),
    _Load("dilovod", 300, "Dilovod goods, persons and orders each, at 50 ms a request", first=(3, 10), again=(10, 25)),
    _Load("wisedat", 1_000, "Wisedat products, each by its id", first=(0.95, 1), again=(10, 25), by_requests=True),
)

_DLT = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "NORMALIZE__WORKERS": "2",
    "NORMALIZE__START_METHOD": "spawn",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "20000",  # or one worker would normalize all
    "EXTRACT__DATA_WRITER__BUFFER_MAX_ITEMS": "5000",
    "NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS": "5000",
}
"""As dlt's page on performance recommends, for two cores."""


_Measured = list[tuple[float, int]]
"""Of the first load and the second, or of the COPY as text and as binary: seconds, requests."""


@dataclass
class _Rounds:
    """What each side measured, round by round."""

    ours: list[_Measured] = field(default_factory=list)
    dlt: list[_Measured] = field(default_factory=list)
    copy: list[_Measured] = field(default_factory=list)


def answers(rounds: int) -> list[Answer]:
    """Each round loads twice with both, in alternating order; of the first vendor it also copies the rows of ours."""
    return [answer for number, load in enumerate(_LOADS) for answer in _answers(load, rounds, copies=number == 0)]


def _answers(load: _Load, rounds: int, *, copies: bool) -> list[Answer]:
    measured = _Rounds()
    with vendors.serving(load.vendor, load.count) as (url, source):
        for number in range(rounds):
            sides = ["ours", "dlt"]
            for side in sides if number % 2 == 0 else reversed(sides):
                _measure(side, url, source, measured, copies=copies)
            of_round = [each[-1] for each in (measured.ours, measured.dlt, measured.copy) if each]
            say(f"  {load.what}: round {number + 1} of {rounds}: {of_round}")
    first, again = _against_dlt(load, measured, 0), _against_dlt(load, measured, 1)
    return [first, _against_copy(load, measured), again] if copies else [first, again]


def _against_dlt(load: _Load, measured: _Rounds, place: int) -> Answer:
    dlt = {"dlt": version("dlt"), "psycopg2-binary": version("psycopg2-binary")}
    how, (must, aim) = (("first load", load.first), ("full sync without changes", load.again))[place]
    which = 1 if load.by_requests else 0
    ours, theirs = ([float(each[place][which]) for each in side] for side in (measured.ours, measured.dlt))
    requests = [side[-1][place][1] for side in (measured.ours, measured.dlt)]
    return Answer(
        f"{'requests for a ' if load.by_requests else ''}{how} of {load.count:,} {load.what}",
        f"dlt {dlt['dlt']} merge",
        "higher",
        must=must,
        aim=aim,
        unit="requests" if load.by_requests else "s",
        ours=ours,
        reference=theirs,
        ratios=times_faster(ours, theirs),
        note="" if load.by_requests else f"requests: ours {requests[0]}, dlt's {requests[1]}",
        versions=dlt,
    )


def _against_copy(load: _Load, measured: _Rounds) -> Answer:
    first = [each[0][0] for each in measured.ours]
    copied = [min(seconds for seconds, _ in each) for each in measured.copy]
    psycopg = {"psycopg": version("psycopg")}
    return Answer(
        f"first load of {load.count:,} {load.what}",
        f"psycopg {psycopg['psycopg']} COPY of the finished rows",
        "higher",
        0.5,
        0.85,
        "s",
        first,
        copied,
        times_faster(first, copied),
        "COPY goes into tables without index or constraint, from memory; its seconds are divided by ours",
        versions=psycopg,
    )


def _measure(side: str, url: str, source: Source, measured: _Rounds, *, copies: bool) -> None:
    with _schema() as (server, schema):
        getattr(measured, side).append(_run(side, url, source, server, schema))
        if copies and side == "ours":
            measured.copy.append(_run("copy", url, source, server, schema))


@contextmanager
def _schema() -> Iterator[tuple[str, str]]:
    """The server's address and the name of an empty schema there."""
    server = sa.make_url(services.need(services.POSTGRESQL))
    _, engine, schema = fresh_schema(server)
    try:
        yield server.render_as_string(hide_password=False), schema
    finally:
        with engine.connect() as tx:
            for each in (schema, f"{schema}_staging"):  # dlt makes a second one
                tx.execute(sa.text(f"DROP SCHEMA IF EXISTS {each} CASCADE"))
            tx.execute(sa.text("CHECKPOINT"))  # so that no side starts with another one's dirty pages


def _run(side: str, url: str, source: Source, server: str, schema: str) -> _Measured:
    with tempfile.TemporaryDirectory() as folder:
        described = json.dumps(asdict(source))
        command = [sys.executable, "-m", "tests.benchmarks.loading", side, url, described, server, schema, folder]
        environment = os.environ | (_DLT if side == "dlt" else {})
        before = loading.requests_so_far(url)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path.cwd(), env=environment)
    measured: _Measured = []
    for seconds, so_far in json.loads(done.stdout.splitlines()[-1]):
        measured.append((seconds, so_far - before))
        before = so_far
    return measured
