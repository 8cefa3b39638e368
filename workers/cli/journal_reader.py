"""Reads the journal for a person who watches: nothing is missed or repeated, and what cannot be shown is said."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import journal
from models.bookkeeping.journal_news import JournalNews
from models.db import faults
from models.db.faults import Fault
from models.db.tables import changes
from workers.cli import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from models.bookkeeping.subscriptions import Filter
    from models.db.database import Database, Tx

_PAGE = 500
_WAIT = 2.0
"""Seconds until a follower looks whether anyone still reads what it prints."""

_REMEMBERED = 1000
"""Entries by which a journal that was set back is recognised, and the place from which its history differs."""


class JournalReader:
    """The entries that match, page by page. `note`: takes what a person should know beside them."""

    def __init__(self, database: Database, wanted: Filter, *, key: str | None, note: Callable[[str], None]) -> None:
        self._database = database
        self._conditions = [*wanted.conditions(), *([] if key is None else [changes.c.key == key])]
        self._note = note
        self._after = 0
        self._seen: deque[tuple[int, datetime]] = deque(maxlen=_REMEMBERED)

    def latest(self, limit: int) -> Sequence[Any]:
        """The latest entries, oldest first."""
        with self._database.read() as tx:
            _, newest, _ = journal.bounds(tx)
            c = changes.c
            chosen = sa.select(changes).where(c.id <= newest, *self._conditions).order_by(c.id.desc()).limit(limit)
            rows = tx.execute(chosen).all()[::-1]
            self._remember(tx, rows, newest)
        return rows

    def since(self, place: int | datetime, *, limit: int | None) -> Iterator[Sequence[Any]]:
        """Pages of the entries after that id, or from that time on."""
        with self._database.read() as tx:
            oldest, newest, _ = journal.bounds(tx)
            if isinstance(place, datetime):
                self._after = self._before(tx, place, oldest=oldest, newest=newest)
            elif place > newest:
                self._note(f"the journal ends at {newest}, so a backup was restored since {place} was read, if it was")
                self._after = newest
            else:
                self._after = place or oldest - 1
        left = limit
        while rows := self.page(_PAGE if left is None else min(left, _PAGE)):
            yield rows
            left = None if left is None else left - len(rows)
            if left == 0:
                return

    def _before(self, tx: Tx, at: datetime, *, oldest: int, newest: int) -> int:
        c = changes.c
        if oldest > 1 and self._written_at(tx, [oldest]).get(oldest, at) > at:
            self._note(f"changes before {oldest} were deleted (`keep_changes`)")
        first = tx.execute(sa.select(sa.func.min(c.id)).where(c.at >= at)).scalar()
        return newest if first is None else first - 1

    def page(self, limit: int = _PAGE) -> Sequence[Any]:
        """The next entries; none at the journal's end."""
        with self._database.read() as tx:
            # The newest id is read before the entries: all entries up to it are visible then. The oldest id is read
            # after them, so that trimming in between is detected.
            oldest, newest, _ = journal.bounds(tx)
            self._recognise(tx, oldest, newest)
            chosen = sa.select(changes).where(changes.c.id > self._after, *self._conditions)
            rows = tx.execute(chosen.order_by(changes.c.id).limit(limit)).all()
            oldest, _, _ = journal.bounds(tx)
            if oldest > self._after + 1:
                self._note(
                    f"changes {self._after + 1} to {oldest - 1} were deleted (`keep_changes`) before they were shown"
                )
            is_full = len(rows) == limit
            self._remember(tx, rows, rows[-1].id if is_full else max(newest, *(row.id for row in rows), oldest - 1))
        return rows

    def follow(self) -> Generator[Sequence[Any], None, None]:
        """New entries as they come, also after the database was away; now and then an empty page where none comes."""
        news = JournalNews(self._database)
        is_away = False
        try:
            while True:
                try:
                    rows = self.page()
                except sa.exc.DBAPIError as error:
                    if faults.of(error) not in {Fault.AWAY, Fault.LOCKED}:
                        raise
                    if not is_away:
                        self._note(f"{database_errors.explained(error)}. This goes on when it is back.")
                    is_away, rows = True, []
                else:
                    if is_away:
                        self._note("the database answers again")
                    is_away = False
                yield rows
                if not rows:
                    news.wait(_WAIT)
        finally:
            news.close()

    def _recognise(self, tx: Tx, oldest: int, newest: int) -> None:
        """Go back to where the history still is the one that was shown, if a backup was restored."""
        if self._seen:
            last, at = self._seen[-1]
            is_other = last >= oldest and self._written_at(tx, [last]).get(last) != at
            if last <= newest and not is_other:
                return
        elif self._after <= newest:
            return
        written = self._written_at(tx, [id_ for id_, _ in self._seen])
        alike = [id_ for id_, at in self._seen if written.get(id_) == at]
        first = self._seen[0][0] if self._seen else newest + 1
        self._after = max(alike, default=min(newest, first - 1))
        self._seen = deque(((id_, at) for id_, at in self._seen if id_ <= self._after), maxlen=_REMEMBERED)
        self._note(f"the journal was set back to {self._after} (a backup was restored); what follows comes after that")

    def _remember(self, tx: Tx, rows: Sequence[Any], last: int) -> None:
        self._after = max(self._after, last)
        self._seen.extend((row.id, row.at) for row in rows)
        if not self._seen or self._seen[-1][0] < self._after:
            self._seen.extend(self._written_at(tx, [self._after]).items())

    def _written_at(self, tx: Tx, ids: Sequence[int]) -> dict[int, datetime]:
        c = changes.c
        return {row.id: row.at for row in tx.execute(sa.select(c.id, c.at).where(c.id.in_(ids)))}
