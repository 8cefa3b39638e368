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
from tests.benchmarks import vendors
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
    """What is loaded of a vendor, and how much faster than dlt it must be and is to be: first, and again."""

    vendor: str
    objects: int
    what: str
    first: tuple[float, float]
    again: tuple[float, float]

    @property
    def count(self) -> int:
        return max(int(self.objects * SCALE), 200)


_LOADS = (
    _Load("directo", 100_000, "Directo items in JSON", first=(3, 5), again=(10, 25)),
    _Load("directo-xml", 50_000, "Directo items in XML", first=(1.5, 3), again=(1.5, 5)),
    _Load("easyflor", 30_000, "EasyFlor debtors", first=(3, 5), again=(10, 25)),
    _Load("wisedat", 1_000, "Wisedat products, each by its id", first=(1, 1.5), again=(10, 25)),
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


@dataclass
class _Seconds:
    """Of each round: (first, again); of the COPY: (text, binary). `requests`: of the last round, for both loads."""

    ours: list[list[float]] = field(default_factory=list)
    dlt: list[list[float]] = field(default_factory=list)
    copy: list[list[float]] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)


def answers(rounds: int) -> list[Answer]:
    """Each round loads twice with both, in alternating order; of the first vendor it also copies the rows of ours."""
    return [answer for number, load in enumerate(_LOADS) for answer in _answers(load, rounds, copies=number == 0)]


def _answers(load: _Load, rounds: int, *, copies: bool) -> list[Answer]:
    seconds = _Seconds()
    with vendors.serving(load.vendor, load.count) as (url, source):
        for number in range(rounds):
            sides = ["ours", "dlt"]
            for side in sides if number % 2 == 0 else reversed(sides):
                _measure(side, url, source, seconds, copies=copies)
            of_round = [each[-1] for each in (seconds.ours, seconds.dlt, seconds.copy) if each]
            say(f"  {load.what}: round {number + 1} of {rounds}: {of_round}")
    dlt = {"dlt": version("dlt"), "psycopg2-binary": version("psycopg2-binary")}
    note = f"requests for both loads: ours {seconds.requests['ours']}, dlt's {seconds.requests['dlt']}"
    named = f"{load.count:,} {load.what}"
    found = [
        Answer(
            f"{how} of {named}",
            f"dlt {dlt['dlt']} merge",
            "higher",
            *bounds,
            "s",
            *pair,
            times_faster(*pair),
            note,
            dlt,
        )
        for place, (how, bounds) in enumerate((("first load", load.first), ("full sync without changes", load.again)))
        for pair in [([each[place] for each in seconds.ours], [each[place] for each in seconds.dlt])]
    ]
    return [found[0], _against_copy(named, seconds), found[1]] if copies else found


def _against_copy(named: str, seconds: _Seconds) -> Answer:
    first, copied = [each[0] for each in seconds.ours], [min(each) for each in seconds.copy]
    psycopg = {"psycopg": version("psycopg")}
    return Answer(
        f"first load of {named}",
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


def _measure(side: str, url: str, source: Source, seconds: _Seconds, *, copies: bool) -> None:
    with _schema() as (server, schema):
        before = vendors.requests(url)
        getattr(seconds, side).append(_run(side, url, source, server, schema))
        seconds.requests[side] = vendors.requests(url) - before
        if copies and side == "ours":
            seconds.copy.append(_run("copy", url, source, server, schema))


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


def _run(side: str, url: str, source: Source, server: str, schema: str) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        described = json.dumps(asdict(source))
        command = [sys.executable, "-m", "tests.benchmarks.loading", side, url, described, server, schema, folder]
        environment = os.environ | (_DLT if side == "dlt" else {})
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path.cwd(), env=environment)
    return [float(each) for each in json.loads(done.stdout.splitlines()[-1])]
