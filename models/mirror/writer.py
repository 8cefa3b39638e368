"""Writes the result of one request: all rows with one revision, their journal entries last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.bookkeeping import journal
from models.mirror import apply, queries
from models.mirror.rows import Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from models.db.database import Tx
    from models.mirror.target import Target
    from models.values import Cause, Change

_NOTHING = Prepared({})


class MirrorWriter:
    """Writes rows inside one transaction, as a context manager: what changed is journaled when its block ends.

    So the journal's entries are the last statements: nothing may follow but the commit. Never backwards: rows are
    compared under one lock, and a row that a higher revision wrote stays as it is.
    """

    def __init__(self, tx: Tx, target: Target, *, revision: int, cause: Cause) -> None:
        self.tx, self.target, self.revision, self.cause = tx, target, revision, cause
        self.changes: list[Change] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed is None:
            self._journal()

    def apply(
        self,
        prepared: Prepared,
        *,
        listed: Mapping[str, str] | None = None,
        point: bool,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Change]:
        """Write snapshots and return what changed. Raises `NeedsLayoutError`, see `models.mirror.apply`."""
        return self._apply(prepared, (), listed=listed, point=point, meanwhile=meanwhile)

    def delete(self, keys: Sequence[str], *, listed: Mapping[str, str] | None = None, point: bool) -> list[Change]:
        """Write tombstones and return what changed."""
        return self._apply(_NOTHING, keys, listed=listed, point=point) if keys else []

    def _apply(
        self,
        prepared: Prepared,
        tombstones: Sequence[str],
        *,
        listed: Mapping[str, str] | None,
        point: bool,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Change]:
        changes = apply.apply(
            self.tx,
            self.target,
            prepared,
            tombstones=tombstones,
            revision=self.revision,
            now=self.tx.now,
            listed=listed,
            point=point,
            meanwhile=meanwhile,
        )
        self.changes += changes
        return changes

    def _journal(self) -> None:
        self.changes.sort(key=lambda change: change.key)
        journal.append(
            self.tx,
            self.target.connection,
            self.target.resource,
            self.changes,
            revision=self.revision,
            cause=self.cause,
            now=self.tx.now,
            rows=queries.table_of(self.tx.database, self.target),
        )
