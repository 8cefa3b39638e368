"""How fast a first load is, against dlt's and a bare COPY of the rows; and how fast a full sync without changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tests import services
from tests.benchmarks import paged
from tests.benchmarks.measure import Answer, say, times_faster
from tests.conftest import fresh_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTION = "a first load and a full sync without changes: seconds against dlt's merge and a bare COPY"

OBJECTS = int(os.environ.get("ERPMIRROR_BENCHMARK_OBJECTS", "100000"))
"""20 fields, nested objects and two lists each; set fewer for a quick run."""

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
    ours: list[list[float]] = field(default_factory=list)
    dlt: list[list[float]] = field(default_factory=list)
    copy: list[list[float]] = field(default_factory=list)


def answers(rounds: int) -> list[Answer]:
    """Each round loads twice with both, in alternating order, then copies the rows that ours wrote."""
    seconds = _Seconds()
    with paged.serving(OBJECTS) as source:
        for number in range(rounds):
            sides = [_round_of_ours, _round_of_dlt]
            for measure in sides if number % 2 == 0 else reversed(sides):
                measure(source, seconds)
            say(f"  round {number + 1} of {rounds}: {seconds.ours[-1]}, {seconds.dlt[-1]}, {seconds.copy[-1]}")
    first, again = ([each[place] for each in seconds.ours] for place in (0, 1))
    dlt_first, dlt_again = ([each[place] for each in seconds.dlt] for place in (0, 1))
    copied = [min(each) for each in seconds.copy]  # as text or as binary, whichever is faster
    dlt = {"dlt": version("dlt"), "psycopg2-binary": version("psycopg2-binary")}
    loaded, against = f"first load of {OBJECTS:,} objects", f"dlt {dlt['dlt']} merge"
    psycopg = {"psycopg": version("psycopg")}
    return [
        Answer(loaded, against, "higher", 3, 5, "s", first, dlt_first, times_faster(first, dlt_first), versions=dlt),
        Answer(
            loaded,
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
        ),
        Answer(
            f"full sync of the same {OBJECTS:,} objects",
            against,
            "higher",
            10,
            25,
            "s",
            again,
            dlt_again,
            times_faster(again, dlt_again),
            versions=dlt,
        ),
    ]


def _round_of_ours(source: str, seconds: _Seconds) -> None:
    with _schema() as (server, schema):
        seconds.ours.append(_run("ours", source, server, schema))
        seconds.copy.append(_run("copy", source, server, schema))


def _round_of_dlt(source: str, seconds: _Seconds) -> None:
    with _schema() as (server, schema):
        seconds.dlt.append(_run("dlt", source, server, schema, **_DLT))


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


def _run(side: str, source: str, server: str, schema: str, **environment: str) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.loading", side, source, server, schema, folder]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path.cwd(), env=os.environ | environment
        )
    return [float(each) for each in json.loads(done.stdout.splitlines()[-1])]
