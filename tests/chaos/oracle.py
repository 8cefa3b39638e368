"""Whether the promises were kept: the vendors' own books and the journal are the only witnesses."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import exact
from models.db import tables
from models.values import ChangeKind
from tests.test_story import alive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.db.database import Database
    from tests.chaos.webhook_proxy import WebhookProxy
    from tests.mirroring import Mirror

Entry = sa.Row[Any]


def lost(mirror: Mirror, webhook_proxy: WebhookProxy) -> int:
    """Webhooks answered 200 of which nothing is kept, and objects that differ from their vendor's."""
    unkept = webhook_proxy.accepted - packets(mirror.database)
    differing = sum(len(keys) for keys in mirror.differences().values())
    return unkept.total() + differing + len(_parked(mirror.database))


class Watch:
    """Observes the vendors' objects while they are edited. `gone`: the objects that disappeared.

    No other may be journaled as deleted. Registers' rows come and go, and documents are not the vendor's to delete.
    """

    def __init__(self, mirror: Mirror) -> None:
        self.gone: set[tuple[str, str, str]] = set()
        self._mirror = mirror
        self._had: dict[tuple[str, str], set[str]] = {}
        self._objects = {
            name: [
                each.name for each in mirror.context(name).resources.values() if not (each.register or each.handed_in)
            ]
            for name in mirror.sandboxes
        }

    def observe(self, name: str) -> None:
        """Record the objects that this vendor had at the last observation and has no longer."""
        for resource in self._objects[name]:
            has = set(self._mirror.sandboxes[name].truth(resource))
            self.gone |= {(name, resource, key) for key in self._had.get((name, resource), set()) - has}
            self._had[name, resource] = has

    def wrongly_deleted(self) -> int:
        """The number of objects journaled as deleted although their vendor always had them."""
        watched = {(name, resource) for name, resources in self._objects.items() for resource in resources}
        deleted = {
            (entry.connection, entry.resource, entry.key)
            for entry in _entries(self._mirror.database)
            if entry.kind == ChangeKind.DELETED and (entry.connection, entry.resource) in watched
        }
        return len(deleted - self.gone)


def doubled(mirror: Mirror, webhook_proxy: WebhookProxy) -> int:
    """Webhooks kept more often than they were sent, and journal entries that repeat the one before or leave a gap."""
    surplus = packets(mirror.database) - webhook_proxy.sent
    entries = _entries(mirror.database)
    repeated: int = sum(_repeats(one, other) for one, other in _successive(entries))
    gaps: int = sum(other.id != one.id + 1 for one, other in pairwise(entries))
    return surplus.total() + repeated + gaps


def backwards(mirror: Mirror, *, stamps_rise: bool = True) -> int:
    """Entries older than the one before, and resources whose rows are not what the replayed journal gives.

    `stamps_rise`: no vendor's clock was set back.
    """
    pairs = _successive(_entries(mirror.database))
    older = sum(_is_older(one, other, stamps_rise=stamps_rise) for one, other in pairs)
    return older + sum(not _replays_to_rows(mirror, name) for name in mirror.sandboxes)


def packets(database: Database) -> Counter[str]:
    """Every webhook that is kept, by how often."""
    with database.read() as tx:
        return Counter(tx.execute(sa.select(tables.webhooks.c.packet)).scalars())


def _parked(database: Database) -> list[Entry]:
    """What is parked or held; no chaos test should leave any."""
    with database.read() as tx:
        keys = tx.execute(sa.select(tables.inbox).where(tables.inbox.c.state != "due")).all()
        whole = tx.execute(sa.select(tables.streams).where(tables.streams.c.state == "parked")).all()
    return [*keys, *whole]


def _entries(database: Database) -> list[Entry]:
    with database.read() as tx:
        return list(tx.execute(sa.select(tables.changes).order_by(tables.changes.c.id)))


def _successive(entries: Iterable[Entry]) -> Iterable[tuple[Entry, Entry]]:
    """Each two entries of one object that follow each other."""
    by_key: defaultdict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        by_key[entry.connection, entry.resource, entry.key].append(entry)
    for history in by_key.values():
        yield from pairwise(history)


def _repeats(one: Entry, other: Entry) -> bool:
    if one.after is None or other.after is None:
        return one.after is other.after
    return exact.canonical(one.after) == exact.canonical(other.after)


def _is_older(one: Entry, other: Entry, *, stamps_rise: bool) -> bool:
    before, after = (_version(entry.after, stamps_rise=stamps_rise) for entry in (one, other))
    return other.revision < one.revision or (before is not None and after is not None and after < before)


def _version(raw: Any, *, stamps_rise: bool) -> Any:
    """What only rises while an object lives, where its vendor shows such a thing: Dilovod's counter, Directo's ts."""
    if not isinstance(raw, dict):
        return None
    header = raw.get("header")
    if isinstance(header, dict) and str(header.get("version", "")).isdigit():
        return int(header["version"])
    return raw.get("ts") if stamps_rise else None


def _replays_to_rows(mirror: Mirror, name: str) -> bool:
    """Whether the journal, replayed, gives this connection's live rows."""
    context, database = mirror.context(name), mirror.database
    replayed: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for entry in _entries(database):
        if entry.connection == name:
            replayed[entry.resource][entry.key] = entry.after
    targets = [context.target(resource, None) for resource in context.resources.values()]
    return all(alive(database, target) == _live(replayed[target.resource]) for target in targets)


def _live(replayed: dict[str, Any]) -> dict[str, Any]:
    return {key: after for key, after in replayed.items() if after is not None}
