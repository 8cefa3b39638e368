"""Stores accepted webhooks in the database, and tells a refused webhook from a database that is down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models.bookkeeping import webhooks
from models.bookkeeping.webhooks import AcceptedWebhook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.db.database import Database, Tx

log = structlog.get_logger(__name__)

_FAILURES = (sa.exc.SQLAlchemyError, OSError, ValueError)
"""What a driver raises when the database is down or refuses a row; text that it cannot encode is a ValueError."""


class DatabaseDownError(Exception):
    """The database takes no webhooks now. The text is only the driver's error type: its message could repeat a row."""


def store(database: Database, accepted: Sequence[AcceptedWebhook]) -> list[AcceptedWebhook]:
    """Commit the webhooks; returns those that the database refuses while it takes others. Raises `DatabaseDownError`.

    After a refused batch each of its webhooks is tried alone.
    """
    if _append(database, accepted) is None:
        return []
    refused = [webhook for webhook in accepted if _refuses(database, webhook)]
    log.warning("batch refused, webhooks stored one by one", webhooks=len(accepted), refused=len(refused))
    return refused


def ensure_writable(database: Database) -> None:
    """Insert one webhook and roll it back. Raises `DatabaseDownError` if the database takes none."""
    try:
        with database.begin() as tx:
            _probe(tx)
    except _FAILURES as error:
        raise DatabaseDownError(type(error).__name__) from None


def _append(database: Database, accepted: Sequence[AcceptedWebhook]) -> Exception | None:
    """The error with which the database refused the batch, or None. Raises `DatabaseDownError` if it is down."""
    try:
        with database.begin() as tx:
            webhooks.append(tx, accepted)
    except _FAILURES as error:
        if _is_about_the_database(error):
            raise DatabaseDownError(type(error).__name__) from None
        return error
    return None


def _refuses(database: Database, webhook: AcceptedWebhook) -> bool:
    """Whether the database refuses this webhook while it takes another in the same transaction."""
    if _append(database, [webhook]) is None:
        return False
    try:
        with database.begin() as tx:
            refused = _is_refused(tx, webhook)
            _probe(tx)
    except _FAILURES as error:
        raise DatabaseDownError(type(error).__name__) from None
    return refused


def _is_refused(tx: Tx, webhook: AcceptedWebhook) -> bool:
    try:
        with tx.begin_nested():
            webhooks.append(tx, [webhook])
    except _FAILURES as error:
        if _is_about_the_database(error):
            raise
        return True
    return False


def _probe(tx: Tx) -> None:
    with tx.begin_nested() as savepoint:
        webhooks.append(tx, [AcceptedWebhook("", "", reason="a probe")])
        savepoint.rollback()


def _is_about_the_database(error: Exception) -> bool:
    """Whether the database is down, busy or full. Drivers raise operational errors for that, never for a bad row."""
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.TimeoutError | OSError)
