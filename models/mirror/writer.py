"""The only way from a request to the mirror's rows: what it writes is of one revision, and is journaled last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.bookkeeping import journal
from models.mirror import apply, queries
from models.mirror.rows import Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from models.db.database import Tx
    from models.mirror.target import Target
    from models.values import Cause, Change

_NOTHING = Prepared({})


class MirrorWriter:
    """Writes rows inside one transaction and collects what changed; `close` journals it as the last statement.

    Never backwards: rows are compared under one lock, and one that a higher revision wrote stays as it is.
    """

    def __init__(self, tx: Tx, target: Target, *, revision: int, cause: Cause) -> None:
        self.tx, self.target, self.revision, self.cause = tx, target, revision, cause
        self.changes: list[Change] = []

    def apply(
        self,
        prepared: Prepared,
        *,
        listed: Mapping[str, str] | None = None,
        point: bool,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[Change]:
        """Write snapshots; see `records.apply`, whose `Stale` it raises. What changed by this call."""
        return self._apply(prepared, (), listed=listed, point=point, meanwhile=meanwhile)

    def delete(self, keys: Sequence[str], *, listed: Mapping[str, str] | None = None, point: bool) -> list[Change]:
        """Write tombstones. Likewise."""
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

    def close(self) -> None:
        """Journal what changed, in the order of the keys; the transaction is to end with this."""
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
