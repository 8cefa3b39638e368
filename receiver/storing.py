"""Keeping letters in the database, and the one question behind it: does it dislike a letter, or is it away?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models import notices
from models.notices import Letter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.database import Database, Tx

log = structlog.get_logger(__name__)

_FAILURES = (sa.exc.SQLAlchemyError, OSError, ValueError)
"""What a database says when it is away or dislikes a row (text that a driver cannot encode is a ValueError)."""


class Away(Exception):  # noqa: N818 - says how the database is
    """The database takes no letters now; the text is only the kind of its error, which could repeat a row."""


def store(database: Database, letters: Sequence[Letter]) -> list[Letter]:
    """Commit the letters; returns those that the database refuses while it takes others. Raises `Away`.

    What was refused together is tried one by one.
    """
    if _append(database, letters) is None:
        return []
    refused = [letter for letter in letters if _refuses(database, letter)]
    log.warning("notices refused one by one", notices=len(letters), refused=len(refused))
    return refused


def require(database: Database) -> None:
    """Return if the database takes letters, without leaving one there. Raises `Away`."""
    try:
        with database.begin() as tx:
            _probe(tx)
    except _FAILURES as error:
        raise Away(type(error).__name__) from None


def _append(database: Database, letters: Sequence[Letter]) -> Exception | None:
    """What the database says against it. Raises `Away` where that cannot be about the letters."""
    try:
        with database.begin() as tx:
            notices.append(tx, letters)
    except _FAILURES as error:
        if _is_about_the_database(error):
            raise Away(type(error).__name__) from None
        return error
    return None


def _refuses(database: Database, letter: Letter) -> bool:
    """Whether this letter is not taken, by a database that takes another one in the same transaction."""
    if _append(database, [letter]) is None:
        return False
    try:
        with database.begin() as tx:
            refused = _is_refused(tx, letter)
            _probe(tx)
    except _FAILURES as error:
        raise Away(type(error).__name__) from None
    return refused


def _is_refused(tx: Tx, letter: Letter) -> bool:
    try:
        with tx.begin_nested():
            notices.append(tx, [letter])
    except _FAILURES as error:
        if _is_about_the_database(error):
            raise
        return True
    return False


def _probe(tx: Tx) -> None:
    with tx.begin_nested() as attempt:
        notices.append(tx, [Letter("", "", reason="a probe")])
        attempt.rollback()


def _is_about_the_database(error: Exception) -> bool:
    """Whether it is broken, away, busy, full, ...: what drivers call operational is never a row's fault."""
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.TimeoutError | OSError)
