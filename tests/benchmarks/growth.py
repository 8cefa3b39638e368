"""Whether a webhook becomes a row as fast as before once there are millions of rows and archived webhooks."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models import exact
from models.db.tables import webhooks
from tests.benchmarks import quiet_installation
from tests.benchmarks.measure import Answer, quotients, say
from tests.processes import own_postgresql, own_redis

if TYPE_CHECKING:
    from models.db.database import Database

QUESTION = "one webhook to its row among 5,000,000 rows and 1,000,000 archived webhooks (some minutes, 6 GB)"

_MANY, _FEW = (5_000_000, 1_000_000), (50_000, 10_000)
"""Rows and archived webhooks."""

_AT_ONCE = 500_000
_ALTERNATIONS = 60
_PAUSES = (0.04, 0.12)


def answers(rounds: int) -> list[Answer]:
    """Two installations side by side, which receive webhooks alternately."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        large, small = (
            _running(stack, folder / name, rows=rows, archived=archived)
            for name, (rows, archived) in (("large", _MANY), ("small", _FEW))
        )
        _alternately(large, small, alternations=20)
        many, few = [], []
        for number in range(rounds):
            ours, theirs = _alternately(large, small, alternations=_ALTERNATIONS)
            many.append(ours)
            few.append(theirs)
            say(f"  round {number + 1} of {rounds}, among many {ours:.4g}, among few {theirs:.4g} ms")
    return [
        Answer(
            question="webhook to row among 5,000,000 rows and 1,000,000 webhooks, p50",
            against="the same among 50,000 rows and 10,000 webhooks",
            better="lower",
            must=1.3,
            aim=1.1,
            unit="ms",
            ours=many,
            reference=few,
            ratios=quotients(many, few),
            versions={name: version(name) for name in ("sqlalchemy", "psycopg")},
        )
    ]


def _running(stack: ExitStack, folder: Path, *, rows: int, archived: int) -> quiet_installation.Mirror:
    vendor = stack.enter_context(quiet_installation.vendor())
    database, broker = stack.enter_context(own_postgresql()), stack.enter_context(own_redis())
    grow = partial(_grow, rows=rows, archived=archived)
    return stack.enter_context(quiet_installation.mirror(database, folder, broker=broker, source=vendor, grow=grow))


def _alternately(
    large: quiet_installation.Mirror, small: quiet_installation.Mirror, *, alternations: int
) -> tuple[float, float]:
    took: dict[int, list[float]] = {0: [], 1: []}
    for number in range(alternations):
        for side, mirror in random.sample(list(enumerate((large, small))), 2):
            time.sleep(random.uniform(*_PAUSES))
            key = random.choice(mirror.vendor.keys)
            took[side].append(1000 * mirror.webhook_to_row(key, f"{number} {time.time()}"))
    return statistics.median(took[0]), statistics.median(took[1])


def _grow(database: Database, *, rows: int, archived: int) -> None:
    """Rows like those that are there, under keys that the vendor does not have, and the webhooks of a month."""
    with database.begin() as tx:
        table = sa.Table(quiet_installation.TABLE, sa.MetaData(), autoload_with=tx)
        sample = dict(tx.execute(sa.select(table).limit(1)).mappings().one())
    for start in range(1, rows + 1, _AT_ONCE):
        last = min(start + _AT_ONCE - 1, rows)
        with database.begin() as tx:
            number = sa.func.generate_series(start, last).column_valued("number")
            tx.execute(sa.insert(table).from_select(list(sample), _alike(table, sample, number)))
        say(f"  {last} of {rows} rows")
    with database.begin() as tx:
        number = sa.func.generate_series(1, archived).column_valued("number")
        tx.execute(sa.insert(webhooks).from_select(list(_WEBHOOK), _archived(number)))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as link:
        for name in (quiet_installation.TABLE, webhooks.name):
            link.exec_driver_sql(f"VACUUM ANALYZE {name}")
        link.exec_driver_sql("CHECKPOINT")


def _alike(table: sa.Table, sample: dict[str, object], number: sa.ColumnElement[int]) -> sa.Select[tuple[object, ...]]:
    key = sa.func.concat("1109", sa.func.lpad(sa.cast(number + 900_000_000_000, sa.Text), 12, "0"))
    header = sa.func.jsonb_build_object("id", key, "number", number, "remark", sample["remark"] or "")
    own = {"_key": key, "_raw": sa.func.jsonb_build_object("header", header), "_hash": sa.func.md5(key)}
    return sa.select(*[own.get(name, sa.literal(value, table.c[name].type)) for name, value in sample.items()])


_WEBHOOK = ("at", "connection", "state", "resource", "key", "packet", "accepted_id")


def _archived(number: sa.ColumnElement[int]) -> sa.Select[tuple[object, ...]]:
    key = sa.cast(number % 5000 + 1109900000000000, sa.Text)
    packet = exact.dumps(
        {"action": "objectChanged", "params": {"objectName": quiet_installation.RESOURCE, "id": "1109900000000000"}}
    )
    ago = sa.func.make_interval(0, 0, 0, number % 29)
    values = (
        sa.func.now() - ago,
        "shop",
        "folded",
        quiet_installation.RESOURCE,
        key,
        packet,
        sa.func.md5(sa.cast(number, sa.Text)),
    )
    return sa.select(*[value if isinstance(value, sa.ColumnElement) else sa.literal(value) for value in values])
