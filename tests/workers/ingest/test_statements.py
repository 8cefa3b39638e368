"""How many statements and transactions one webhook's update and one page cost: they must not grow unnoticed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

import psycopg
import sqlalchemy as sa

from models.bookkeeping import webhooks
from tests.mirroring import mirrored
from tests.workers import vendor_harness
from workers.ingest import loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database

GOODS = "catalogs.goods"

UPDATE = {"sqlite": (23, 4), "postgresql": (22, 4)}
PAGE = {"sqlite": (33, 6), "postgresql": (36, 7)}
"""Dialect -> statements and transactions. Change a number only on purpose."""


_COPY = psycopg.Cursor.copy


@dataclass
class Traffic:
    """What went to the database; `statements` leaves out what only begins a transaction."""

    statements: list[str] = field(default_factory=list)
    transactions: int = 0

    def executes(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            self.statements.append(" ".join(statement.split()))

    def begins(self, _connection: Any) -> None:
        self.transactions += 1

    def figures(self) -> tuple[int, int]:
        return len(self.statements), self.transactions


@contextmanager
def counted(database: Database) -> Iterator[Traffic]:
    """Count what the block sends to the database."""
    traffic = Traffic()
    listeners = (("before_cursor_execute", traffic.executes), ("begin", traffic.begins))
    for name, listener in listeners:
        sa.event.listen(database.engine, name, listener)

    def copy(cursor: psycopg.Cursor[Any], statement: str) -> Any:
        """SQLAlchemy has no event for COPY, which is the driver's own."""
        traffic.executes(None, cursor, statement)
        return _COPY(cursor, statement)

    with mock.patch.object(psycopg.Cursor, "copy", copy):
        yield traffic
    for name, listener in listeners:
        sa.event.remove(database.engine, name, listener)


def test_one_webhooks_update(database: Database, tmp_path: Path) -> None:
    """`sync` moves one webhook into the inbox, fetches its object and writes what changed."""
    knobs = {"seed": 2, "objects": 6, "options": {"resources": [GOODS]}}
    with mirrored(database, tmp_path, dilovod=knobs) as mirror:
        mirror.work()
        mirror.sandboxes["dilovod"]._edit_good(Random(1))
        hook = mirror.sandboxes["dilovod"].sent_webhooks[-1]["params"]
        with database.begin() as tx:
            webhooks.append(tx, [webhooks.AcceptedWebhook("dilovod", "{}", hook["objectName"], hook["id"])])
        context = mirror.context("dilovod")
        with counted(database) as traffic:
            session = loop.sync(context)
        assert (1, 1) == (session.requests, session.changes)
        assert {} == mirror.differences()
    assert UPDATE[database.engine.dialect.name] == traffic.figures(), "\n".join(traffic.statements)


def test_a_full_sync_of_one_page(database: Database, tmp_path: Path) -> None:
    """`full_sync` lists six objects on one page, one of which has changed."""
    with vendor_harness.connected(database, tmp_path) as six:
        database._clock = None  # the database's own, which has to be asked
        six.vendor.objects["goods"] = {str(number): {"v": number} for number in range(6)}
        six.full_sync()
        six.vendor.objects["goods"]["1"] = {"v": 10}
        six.change(full_due_at=vendor_harness.START)
        with counted(database) as traffic:
            session = six.full_sync()
        assert (1, 1) == (session.requests, session.changes)
        assert {"v": 10} == six.live()["1"]
    assert PAGE[database.engine.dialect.name] == traffic.figures(), "\n".join(traffic.statements)
