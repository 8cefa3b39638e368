"""The one write path: snapshots and tombstones become rows, parts and changes, wherever they came from.

`models.mirror.prepare` does all that needs no lock, outside any transaction; `apply` writes inside the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models import exact, redaction
from models.mirror import diff, schema_evolution
from models.mirror.statements import Insert, RowStatements, Update
from models.values import Change, ChangeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from models.db.database import Tx
    from models.mirror.rows import Prepared, Row
    from models.mirror.statements import RowState, StoredObject
    from models.mirror.target import Target


def apply(
    tx: Tx,
    target: Target,
    prepared: Prepared,
    *,
    tombstones: Sequence[str] = (),
    revision: int,
    now: datetime,
    listed: Mapping[str, str] | None = None,
    point: bool,
    meanwhile: Callable[[], None] | None = None,
) -> list[Change]:
    """Write a batch inside the caller's transaction. Returns the changes, in the order of the keys.

    `listed`: the keys' tokens in a listing of names. `point`: each key was read by itself, so an unchanged row counts
    as observed. A row that a higher revision wrote stays as it is; an equal object that is not deleted changes nothing.
    `meanwhile` is called, once or more, just before waiting for the database. Raises `NeedsLayoutError` if an object
    that was not laid out differs from its row.
    """
    schema = schema_evolution.lock_rows(tx, target)
    if schema is None:
        if prepared.rows:
            raise NeedsLayoutError(prepared.rows)
        return []
    writer = RowStatements(tx, schema, target.connection)
    gone = {exact.storable_text(key) for key in tombstones} - prepared.rows.keys()
    if meanwhile is not None and not prepared.laid_out:
        meanwhile()  # most rows are unchanged, so start prefetching now
    # An object that is known again by its bytes needs nothing, unless a token or the time has to be stored.
    sent = {} if point or listed else {key: row.sent_hash for key, row in prepared.rows.items() if row.undecoded}
    differing = writer.differing(sent, revision=revision)
    rows = [row for key, row in prepared.rows.items() if key not in sent or key in differing]
    old = writer.states({*(row.key for row in rows), *gone})
    plan = _MergePlan(old, revision, now, listed or {})
    for row in rows:
        plan.add_snapshot(row)
    for key in sorted(gone):
        plan.add_tombstone(key)
    plan.require_layout(prepared.laid_out)
    changes = plan.changes(writer.stored(plan.differing), target.omit)
    if meanwhile is not None:
        meanwhile()
    writer.write(plan.inserts(), plan.updates(), prepared, revision=revision, now=now)
    writer.mark_deleted(plan.deleted, revision=revision, now=now)
    if point:
        writer.mark_observed(plan.observed, revision=revision, now=now)
    writer.set_listed(plan.new_listed)
    writer.set_sent_hashes(plan.new_sent_hashes)
    return changes


class NeedsLayoutError(Exception):
    """These objects differ from their rows, so they have to be laid out first."""

    def __init__(self, keys: Iterable[str]) -> None:
        super().__init__()
        self.keys = frozenset(keys)


@dataclass(slots=True)
class _MergePlan:
    """What to write for each key of a batch, collected by `add_snapshot` and `add_tombstone`.

    `states`: the existing rows. `listed`: tokens in a listing of names. `written`: rows to insert or rewrite.
    `observed`: keys of unchanged rows. `new_listed`, `new_sent_hashes`: what changes in those. `same_object`: rows that
    are rewritten although the object is equal, because the rules changed; known after `changes`.
    """

    states: Mapping[str, RowState]
    revision: int
    now: datetime
    listed: Mapping[str, str]
    written: dict[str, Row] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    observed: list[str] = field(default_factory=list)
    new_listed: dict[str, str] = field(default_factory=dict)
    new_sent_hashes: dict[str, str] = field(default_factory=dict)
    same_object: dict[str, StoredObject] = field(default_factory=dict)

    @property
    def differing(self) -> list[str]:
        """The keys whose live rows are rewritten."""
        return [key for key in self.written if key in self.states and self.states[key].live]

    def add_snapshot(self, row: Row) -> None:
        old = self.states.get(row.key)
        if old is None:
            self.written[row.key] = row
        elif old.revision <= self.revision:
            if old.live and (old.hash == row.hash or (row.sent_hash is not None and old.sent_hash == row.sent_hash)):
                self._keep(old, self._token(row))
                if row.sent_hash is not None and row.sent_hash != old.sent_hash:
                    self.new_sent_hashes[row.key] = row.sent_hash
            else:
                self.written[row.key] = row

    def add_tombstone(self, key: str) -> None:
        old = self.states.get(key)
        if old is None or old.revision > self.revision:
            return
        if old.live:
            self.deleted.append(key)
            if key in self.listed:
                self.new_listed[key] = self.listed[key]
        else:
            self._keep(old, self.listed.get(key))

    def changes(self, stored: Mapping[str, StoredObject], omit: Sequence[str]) -> list[Change]:
        """The journal entries. `stored`: the objects of `differing`."""
        changes = [Change(key, ChangeKind.DELETED, None, None) for key in self.deleted]
        for key, row in self.written.items():
            if key not in stored:
                kind = ChangeKind.RESTORED if key in self.states else ChangeKind.CREATED
                changes.append(Change(key, kind, None, row.raw, row.text))
            elif exact.same(stored[key].raw, row.raw):
                self.same_object[key] = stored[key]  # only the rules changed: the object is equal
            else:
                # A new `omit` rule applies to the earlier values too: they would put the secret into the journal.
                before = diff.between(exact.storable(redaction.redact(stored[key].raw, omit)), row.raw)
                changes.append(Change(key, ChangeKind.UPDATED, before, row.raw, row.text))
        return sorted(changes, key=lambda change: change.key)

    def require_layout(self, laid_out: Mapping[str, int]) -> None:
        """Raise `NeedsLayoutError` if a row to be written was not laid out."""
        if lacking := self.written.keys() - laid_out.keys():
            raise NeedsLayoutError(lacking)

    def inserts(self) -> list[Insert]:
        return [Insert(row, self._token(row)) for key, row in self.written.items() if key not in self.states]

    def updates(self) -> list[Update]:
        return [self._update(row) for key, row in self.written.items() if key in self.states]

    def _update(self, row: Row) -> Update:
        token, changed_at = self._token(row), self.now
        if row.key in self.same_object:
            token, changed_at = token or self.states[row.key].listed, self.same_object[row.key].changed_at
        return Update(row, token, self.revision, changed_at, self.now)

    def _keep(self, old: RowState, token: str | None) -> None:
        self.observed.append(old.key)
        if token is not None and token != old.listed:
            self.new_listed[old.key] = token

    def _token(self, row: Row) -> str | None:
        return row.listed if row.listed is not None else self.listed.get(row.key)
