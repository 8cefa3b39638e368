"""What must hold of a mirror at every moment, checked against all earlier states of the vendor's objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import exact
from models.db import tables
from models.db.database import Tx
from models.mirror import schema_evolution

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tests.stateful.interleaving import InterleavedDatabase
    from tests.stateful.simulated_vendor import Vendor

NAME = "simulated"
RESOURCES = ("goods", "orders", "debtors", "stock")

_Key = tuple[str, str]


@dataclass
class Watch:
    """The observed states of a mirror. `dropped`: keys that a person dropped, so they may differ."""

    database: InterleavedDatabase
    vendor: Vendor
    last_id: int
    commits: int = -1
    states: dict[_Key, Any] = field(default_factory=dict)
    positions: dict[_Key, int] = field(default_factory=dict)
    revisions: dict[_Key, int] = field(default_factory=dict)
    entry_revisions: dict[_Key, int] = field(default_factory=dict)
    complete: dict[str, datetime] = field(default_factory=dict)
    dropped: set[_Key] = field(default_factory=set)

    def check(self) -> None:
        """Check what was written since the last check."""
        if self.commits == self.database.commits:
            return
        self.commits = self.database.commits
        with self.database.read() as tx:
            self._journal(tx)
            for resource in RESOURCES:
                self._rows(tx, resource)
            self._completeness(tx)

    def _journal(self, tx: Tx) -> None:
        c = tables.changes.c
        for entry in tx.execute(sa.select(tables.changes).where(c.id > self.last_id).order_by(c.id)):
            assert self.last_id + 1 == entry.id, "ids have no gaps"
            self.last_id = entry.id
            key, earlier = (entry.resource, entry.key), self.states.get((entry.resource, entry.key))
            assert earlier != entry.after, f"{key} repeats its predecessor's state"
            assert _kind(key in self.states, earlier, entry.after) == entry.kind, key
            assert self.entry_revisions.get(key, 0) <= entry.revision, f"a revision of {key} fell"
            self.entry_revisions[key] = entry.revision
            self._forward(key, entry.after)
            self.states[key] = entry.after

    def _forward(self, key: _Key, state: Any) -> None:
        history = self.vendor.history.get(key, [])
        later = [at for at in range(self.positions.get(key, -1) + 1, len(history)) if exact.same(history[at][1], state)]
        assert later, f"{key} went backwards, or shows what never was: {state}, after {self.states.get(key)}"
        self.positions[key] = later[0]

    def _rows(self, tx: Tx, resource: str) -> None:
        schema = schema_evolution.current(tx, f"{NAME}_{resource}")
        c = None if schema is None else schema.root.sql.c
        rows: Iterable[Any] = (
            [] if c is None else tx.execute(sa.select(c["_key"], c["_deleted_at"], c["_raw"], c["_revision"]))
        )
        live = {}
        for key, deleted_at, raw, revision in rows:
            assert self.revisions.get((resource, key), 0) <= revision, f"the revision of {resource} {key} fell"
            self.revisions[resource, key] = revision
            if deleted_at is None:
                live[key] = raw
        replayed = {
            key: state for (owner, key), state in self.states.items() if owner == resource and state is not None
        }
        assert replayed == live, "the journal, replayed, is not what the rows show"

    def _completeness(self, tx: Tx) -> None:
        c = tables.streams.c
        for resource, as_of in tx.execute(sa.select(c.resource, c.complete_as_of)):
            if as_of is not None and as_of != self.complete.get(resource):
                assert self.complete.get(resource, as_of) <= as_of
                self.complete[resource] = as_of
                self._complete(resource, as_of)

    def _complete(self, resource: str, as_of: datetime) -> None:
        """Each object that the mirror has is as it was at that time, or later."""
        for key, history in self.vendor.history.items():
            if key[0] != resource or key not in self.states or key in self.dropped:
                continue
            then = max(at for at, (when, _) in enumerate(history) if when < as_of or at == 0)
            assert any(exact.same(state, self.states[key]) for _, state in history[then:]), (
                f"{resource} calls itself complete as of {as_of}, and {key} is older: {self.states[key]}"
            )


def _kind(known: bool, before: Any, after: Any) -> str:  # noqa: FBT001
    if after is None:
        return "deleted"
    if before is not None:
        return "updated"
    return "restored" if known else "created"


def parts(database: InterleavedDatabase, resource: str) -> dict[str, list[Any]]:
    """The rows of the part `rows` by the key of their object, in their order."""
    found: dict[str, list[Any]] = {}
    with database.read() as tx:
        schema = schema_evolution.current(tx, f"{NAME}_{resource}")
        if schema is None or "rows" not in schema.tables:
            return found
        c = schema.tables["rows"].sql.c
        for key, line, qty in tx.execute(sa.select(c["_key"], c["line"], c["qty"]).order_by(c["_key"], c["_position"])):
            found.setdefault(key, []).append({"line": line, "qty": qty})
    return found
