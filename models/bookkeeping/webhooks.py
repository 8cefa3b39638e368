"""Webhooks as received: stored before they are answered, folded into the inbox later."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models import failpoints
from models.bookkeeping import inbox
from models.db.tables import webhooks
from models.exact import storable_text
from models.failpoints import Point
from models.values import Cause, Lane, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from models.db.database import Tx


def _new_id() -> str:
    # It begins with the time, so that its index grows at one end.
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


@dataclass(frozen=True, slots=True)
class AcceptedWebhook:
    """One webhook. `packet`: its text as received. Either `resource` and `key`, or the `reason` why it is ignored.

    `id` is drawn once, when the webhook is accepted: storing it twice makes one row.
    """

    connection: str
    packet: str
    resource: str | None = None
    key: str | None = None
    reason: str | None = None
    id: str = field(default_factory=_new_id)


def append(tx: Tx, accepted: Iterable[AcceptedWebhook]) -> None:
    """Store webhooks by one insert. Those that are stored already stay as they are."""
    now, rows = tx.now, [_row(webhook) for webhook in accepted]
    if rows and tx.is_sqlite:
        insert = tx.insert(webhooks).on_conflict_do_nothing(index_elements=[webhooks.c.accepted_id])
        tx.execute(insert, [{"at": now, **row} for row in rows])
    elif rows:
        tx.exec_driver_sql(APPEND, (now, _as_json(rows)))
    failpoints.hit(Point.WEBHOOKS_INSERTED)


def as_json(accepted: Iterable[AcceptedWebhook]) -> str:
    """The webhooks as the JSON parameter of `APPEND`."""
    return _as_json([_row(webhook) for webhook in accepted])


def _as_json(rows: list[dict[str, str | None]]) -> str:
    return json.dumps(rows, ensure_ascii=False)


def _row(webhook: AcceptedWebhook) -> dict[str, str | None]:
    return {
        "connection": webhook.connection,
        "state": "new" if webhook.reason is None else "ignored",
        "resource": _storable(webhook.resource),
        "key": _storable(webhook.key),
        "packet": storable_text(webhook.packet),
        "reason": _storable(webhook.reason),
        "accepted_id": webhook.id,
    }


APPEND = """
INSERT INTO erpmirror_webhooks (at, connection, state, resource, key, packet, reason, accepted_id)
SELECT coalesce(CAST(%s AS timestamptz), clock_timestamp()),
    connection, state, resource, key, packet, reason, accepted_id
FROM json_to_recordset(CAST(%s AS json)) AS accepted (
    connection text, state text, resource text, key text, packet text, reason text, accepted_id text
)
ON CONFLICT (accepted_id) DO NOTHING
""".strip()
"""`append` on PostgreSQL: all webhooks as one JSON parameter, and the time, or NULL for the server's clock."""


# A CTE that locks rows is evaluated once; a plain subquery could be evaluated again and lock more than the limit.
_taken = (
    sa.select(webhooks.c.id)
    .where(webhooks.c.connection == sa.bindparam("its_connection"), webhooks.c.state == "new")
    .order_by(webhooks.c.id)
    .limit(sa.bindparam("max_rows", type_=sa.Integer))
    .with_for_update(skip_locked=True)
    .cte("taken")
)
_TAKE = (
    sa.update(webhooks)
    .where(webhooks.c.id.in_(sa.select(_taken.c.id)))
    .values(state="folded")
    .returning(webhooks.c.resource, webhooks.c.key)
)


def fold(tx: Tx, *, connection: str, limit: int) -> int:
    """Enqueue the objects of up to `limit` new webhooks, oldest first; returns how many webhooks that were.

    Webhooks that another worker is folding are left to it.
    """
    folded = tx.execute(_TAKE, {"its_connection": connection, "max_rows": limit}).all()
    failpoints.hit(Point.WEBHOOKS_TAKEN)
    refs = {ObjectRef(resource, key) for resource, key in folded}
    if len(refs) > 1:  # a writer of a single row holds nothing while it waits, so it cannot deadlock
        inbox.lock(tx, connection=connection)
    inbox.enqueue(
        tx,
        connection=connection,
        refs=refs,
        lane=Lane.LIVE,
        cause=Cause.WEBHOOK,
    )
    failpoints.hit(Point.WEBHOOKS_FOLDED)
    return len(folded)


def trim(tx: Tx, before: datetime, *, limit: int) -> int:
    """Remove at most `limit` webhooks received before then, except those not folded yet; returns how many."""
    old = sa.select(webhooks.c.id).where(webhooks.c.at < before, webhooks.c.state != "new").order_by(webhooks.c.at)
    return tx.execute(sa.delete(webhooks).where(webhooks.c.id.in_(old.limit(limit)))).rowcount


def _storable(text: str | None) -> str | None:
    return None if text is None else storable_text(text)
