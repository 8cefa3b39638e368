"""An installation with changes in its journal and subscriptions that were told of some of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from models.bookkeeping import deliveries, journal, subscriptions, undelivered
from models.bookkeeping.deliveries import Attempt
from models.bookkeeping.subscriptions import Plan
from models.bookkeeping.undelivered import Object, Waiting
from models.db import migration
from models.db.database import Database
from models.values import Cause, Change, ChangeKind
from tests.workers.cli.runner import GOODS, write_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import sqlalchemy as sa

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
URL = "https://crm.example/hooks"


@dataclass
class Mirror:
    """`database` is that of `erpmirror.toml` in the working directory."""

    database: Database

    def configure(self, **tables: str) -> None:
        """Write the settings: subscription -> further lines of its table."""
        url = self.database.url.render_as_string(hide_password=False)
        connections = "".join(
            f'[connections.{name}]\nsystem = "dilovod"\napi_key = "KEY-OF-{name}"\nresources = ["{GOODS}"]\n'
            for name in ("shop", "other")
        )
        subscribers = "".join(
            f'[subscriptions.{name}]\nurl = "{URL}?key=k3y"\nsecret = "{SECRET}"\n{lines}\n'
            for name, lines in tables.items()
        )
        write_settings(f'[database]\nurl = "{url}"\n{connections}{subscribers}')

    def start(self, *names: str) -> None:
        """As processes do that start with these subscriptions."""
        with self.database.begin() as tx:
            subscriptions.sync(tx, [Plan(name, from_start=True, target="") for name in names])

    def change(self, *keys: str, connection: str = "shop", ago: timedelta = timedelta(), **values: Any) -> None:
        """Write a change of each of these objects."""
        kind = values.pop("kind", ChangeKind.CREATED)
        before, after = values.pop("before", None), values.pop("after", {"name": "Nail"})
        with self.database.begin() as tx:
            made = [Change(key, kind, before, after) for key in keys]
            journal.append(tx, connection, GOODS, made, revision=tx.draw(), cause=Cause.POLL, now=tx.now - ago)

    def told(self, name: str, position: int, **values: Any) -> None:
        """What a worker writes after it has delivered up to this change."""
        with self.database.begin() as tx:
            row = subscriptions.claim(tx, name, lasts=timedelta(0))
            assert row is not None
            assert row.lease is not None
            subscriptions.write(tx, name, row.lease, {"position": position, **values})

    def fails(self, name: str, change: int, key: str, *, reason: str = "503 Service Unavailable") -> None:
        """The endpoint has refused this change twice."""
        with self.database.begin() as tx:
            later, earlier = tx.now + timedelta(minutes=30), tx.now - timedelta(minutes=5)
            waiting = Waiting(change, Object("shop", GOODS, key), later, 2, earlier, reason)
            undelivered.put(tx, name, [waiting])
            for attempt in (1, 2):
                answer = Attempt(change, attempt, deliveries.FAILED, tx.now, 0.5, 503, reason, "<h1>busy\x1b[2J</h1>")
                deliveries.record(tx, name, [answer])
        self.told(
            name, change, failures=2, failed=2, failing_since=earlier, due_at=later, reason=reason, delivered_at=earlier
        )

    def trim(self) -> None:
        """Retention deletes every change that is older than an hour."""
        with self.database.begin() as tx:
            journal.trim(tx, tx.now - timedelta(hours=1))

    def row(self, name: str = "crm") -> subscriptions.Subscriber:
        """The row of a subscription."""
        with self.database.read() as tx:
            found = subscriptions.get(tx, name)
        assert found is not None
        return found

    def waiting(self, name: str = "crm") -> dict[int, datetime]:
        """Change -> when it is due, of those that wait."""
        with self.database.read() as tx:
            return {each.change: each.due_at for each in undelivered.listed(tx, name, limit=10_000)}


@contextmanager
def installed(url: sa.URL) -> Iterator[Mirror]:
    """A migrated database, and settings with the subscription `crm`, which was not started yet."""
    database = Database(url)
    migration.migrate(database)
    mirror = Mirror(database)
    mirror.configure(crm="")
    yield mirror
    database.close()
