"""Rows of the inbox that wait for a person: parked keys and held deletions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db.tables import inbox
from models.exact import storable_text
from models.values import Cause, Lane

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.db.database import Tx
    from models.values import Unreadable


REFUSED_BY_DATABASE = "the database refused a value"
"""How the reason of a row begins that was parked because the database, or a rule of its owner, refused it."""


def retry_refused(tx: Tx, *, connection: str, resource: str) -> None:
    """Try the rows again that the database refused: its owner may have removed the rule, and tells nobody."""
    c = inbox.c
    chosen = sa.select(c.key).where(
        c.connection == connection,
        c.resource == resource,
        c.state == "parked",
        c.reason.startswith(REFUSED_BY_DATABASE),
    )
    for key in tx.execute(chosen.order_by(c.key)).scalars().all():
        retry(tx, connection=connection, resource=resource, key=key)


def postpone_resource(tx: Tx, *, connection: str, resource: str, until: datetime, reason: str) -> None:
    """Have all due keys of a resource wait whose table a person has to see to. The caller holds `inbox.lock`."""
    c = inbox.c
    here = (c.connection == connection, c.resource == resource, c.state == "due", c.due_at < until)
    tx.execute(sa.update(inbox).where(*here).values(due_at=until, reason=reason))


def hold_missing(
    tx: Tx,
    *,
    connection: str,
    resource: str,
    keys: Sequence[str],
    cause: Cause,
    reason: str,
) -> None:
    """Hold the deletion of keys that a complete reply did not name, whether or not they are in the inbox."""
    _insert(
        tx,
        connection=connection,
        resource=resource,
        rows=[{"key": key, "state": "held", "cause": cause, "reason": reason} for key in keys],
    )


def park_unreadable(
    tx: Tx,
    *,
    connection: str,
    resource: str,
    unreadable: Sequence[Unreadable],
    cause: Cause,
) -> None:
    """Park rows of a listing by their keys, by which they can be retried. Those without a key: `unkeyed.record`."""
    rows = {}
    for row in unreadable:
        key, reason = storable_text(row.key), storable_text(row.reason)
        rows[key] = {"key": key, "state": "parked", "cause": cause, "reason": reason}
    ordered = [rows[key] for key in sorted(rows, key=str.encode)]
    _insert(tx, connection=connection, resource=resource, rows=ordered)


def _insert(tx: Tx, *, connection: str, resource: str, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    wanted, now = tx.draw_now()
    constants = {
        "connection": connection,
        "resource": resource,
        "wanted": wanted,
        "lane": Lane.BULK,
        "due_at": now,
        "first_enqueued_at": now,
        "attempts": 0,
        "approved": False,
    }
    insert = tx.insert(inbox)
    tx.execute(
        insert.on_conflict_do_update(
            index_elements=[inbox.c.connection, inbox.c.resource, inbox.c.key],
            set_={name: insert.excluded[name] for name in ("state", "reason")},
        ),
        [constants | row for row in rows],
    )


def any_other_deletion_held(tx: Tx, *, connection: str, resource: str, key: str) -> bool:
    """Whether a deletion of another key of this resource is held, or was approved and not carried out yet."""
    other = sa.exists().where(
        inbox.c.connection == connection,
        inbox.c.resource == resource,
        inbox.c.key != key,
        sa.or_(inbox.c.state == "held", inbox.c.approved),
    )
    return bool(tx.execute(sa.select(other)).scalar_one())


def rows(tx: Tx, *, connection: str | None = None) -> list[sa.Row[Any]]:
    """What is parked or held: connection, resource, key, state, reason, first_enqueued_at, unreadable_raw."""
    statement = (
        sa.select(
            inbox.c.connection,
            inbox.c.resource,
            inbox.c.key,
            inbox.c.state,
            inbox.c.reason,
            inbox.c.first_enqueued_at,
            inbox.c.unreadable_raw,
        )
        .where(inbox.c.state != "due")
        .order_by(inbox.c.connection, inbox.c.resource, inbox.c.key)
    )
    if connection is not None:
        statement = statement.where(inbox.c.connection == connection)
    return list(tx.execute(statement))


def retry(
    tx: Tx,
    *,
    connection: str,
    resource: str | None = None,
    key: str | None = None,
) -> int:
    """Make what is parked due again; returns how many rows. It approves the deletions among them that are held."""
    statement = (
        sa.update(inbox)
        .where(_chosen(connection, resource, key), inbox.c.unreadable_raw.is_(None))
        .values(
            state="due",
            due_at=tx.now,
            attempts=0,
            lone_failures=0,
            wanted=tx.draw(),
            approved=sa.or_(inbox.c.approved, inbox.c.state == "held"),
        )
    )
    return tx.execute(statement).rowcount


def drop(tx: Tx, *, connection: str, resource: str | None = None, key: str | None = None) -> int:
    """Remove what is parked or held; returns how many rows. The mirror's rows stay as they are."""
    return tx.execute(sa.delete(inbox).where(_chosen(connection, resource, key))).rowcount


def _chosen(connection: str, resource: str | None, key: str | None) -> sa.ColumnElement[bool]:
    conditions = [inbox.c.connection == connection, inbox.c.state != "due"]
    if resource is not None:
        conditions.append(inbox.c.resource == resource)
    if key is not None:
        conditions.append(inbox.c.key == key)
    return sa.and_(*conditions)
