"""Documents that people handed in: each is stored, sent to its vendor at most once, and becomes a row of the mirror."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import failpoints
from models.bookkeeping import inbox
from models.db import tables
from models.db.tables import documents
from models.exact import storable_text
from models.failpoints import Point
from models.values import Cause, Document, Lane, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.bookkeeping.inbox import Item
    from models.db.database import Tx

MAX_ORDER_ID_LENGTH = 200
"""Characters of an order's id at the vendor."""

_MAX_NAME_LENGTH = 255
_MAGIC, _EOF = b"%PDF-", b"%%EOF"
_SEARCHED = 1024
"""Bytes. PDF readers search so far for the magic from the beginning, because mail programs and scanners write things
before it, and for the end marker from the end, less what `_PADDING` has.
"""

_PADDING = b"\0\t\n\f\r \xef\xbb\xbf"
"""White space, a byte order mark, and the NULs with which some programs fill the last block of a file."""

NO_PDF = f"it has no {_MAGIC.decode()} within its first {_SEARCHED:,} bytes"
"""Why `is_pdf` is false, for a person."""


class State(StrEnum):
    """The state of a document. `sending` is committed before the request: what may have arrived is not sent again."""

    WAITING = "waiting"
    SENDING = "sending"
    INTERPRETED = "interpreted"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """The answer to a document that was handed in. `sha256`: of its content, in lower-case hex; the row's key."""

    sha256: str
    new: bool


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document without its content. `size`: bytes.

    `inbox_state` (due or parked), `due_at` and `reason` are those of its row of the inbox, None where there is none. A
    parked document whose inbox row is due is tried again, because a person asked for it.
    """

    sha256: str
    name: str
    order_id: str | None
    size: int
    state: State
    received_at: datetime
    sent_at: datetime | None
    answered_at: datetime | None
    inbox_state: str | None
    due_at: datetime | None
    reason: str | None


def is_pdf(content: bytes) -> bool:
    """Whether the content begins like a PDF, perhaps after something else; the same for every way in."""
    return _MAGIC in content[:_SEARCHED]


def may_become_pdf(content: bytes) -> bool:
    """Whether content that is still arriving may begin like a PDF."""
    return _MAGIC.startswith(content[:_SEARCHED].lstrip(_PADDING))


def has_end(content: bytes) -> bool:
    """Whether the end marker is where PDF readers search for it."""
    return _EOF in content.rstrip(_PADDING)[-_SEARCHED:]


def hand_in(
    tx: Tx,
    *,
    connection: str,
    kind: str,
    name: str,
    content: bytes,
    order_id: str | None,
    again: bool = True,
) -> StoredDocument:
    """Store a document and enqueue it. A known one is enqueued only if it has no inbox row and was not interpreted yet.

    `kind`: the resource. `name`: the file's. `order_id`: the vendor's order that it belongs to. `again`: a person hands
    it in, not a watched folder.

    A parked document stays parked until a person retries it. One that a person dropped is enqueued only with `again`,
    which may also set or remove the order id of a parked one. While a document waits, an order id may be added.
    """
    _lock_kind(tx, connection, kind, shared=True)
    sha256 = hashlib.sha256(content).hexdigest()
    row = {
        "connection": connection,
        "kind": kind,
        "sha256": sha256,
        "name": storable_text(name)[:_MAX_NAME_LENGTH],
        "order_id": None if order_id is None else storable_text(order_id),
        "size": len(content),
        "content": content,
        "state": State.WAITING,
        "received_at": tx.now,
    }
    insert = tx.insert(documents).values(row).on_conflict_do_nothing().returning(documents.c.sha256)
    new = tx.execute(insert).first() is not None
    if new or _needs_enqueuing(tx, row, again=again):
        inbox.enqueue(
            tx,
            connection=connection,
            refs=[ObjectRef(kind, sha256)],
            lane=Lane.LIVE,
            cause=Cause.DOCUMENT,
        )
    failpoints.hit(Point.DOCUMENT_KEPT)
    return StoredDocument(sha256, new)


def _needs_enqueuing(tx: Tx, row: Mapping[str, Any], *, again: bool) -> bool:
    """Whether a known document has to be enqueued. Stores the order id that was given now."""
    here = _is_document(row["connection"], row["kind"], row["sha256"])
    state = tx.execute(sa.select(documents.c.state).where(here).with_for_update()).scalar()
    if state is None or state == State.INTERPRETED:
        return False  # None: it was forgotten just now
    if (again and state == State.PARKED) or (row["order_id"] is not None and state == State.WAITING):
        tx.execute(sa.update(documents).where(here).values(order_id=row["order_id"]))
    enqueued = sa.exists().where(_is_inbox_row(row["connection"], row["kind"], row["sha256"]))
    pending = tx.execute(sa.select(enqueued)).scalar_one()
    return not pending and (again or state != State.PARKED)


def get(tx: Tx, *, connection: str, kind: str, sha256: str) -> DocumentRow | None:
    """A document without its content; None if it is not known."""
    c = documents.c
    ref = sa.and_(
        tables.inbox.c.connection == c.connection, tables.inbox.c.resource == c.kind, tables.inbox.c.key == c.sha256
    )
    found = tx.execute(
        sa.select(
            c.sha256,
            c.name,
            c.order_id,
            c.size,
            c.state,
            c.received_at,
            c.sent_at,
            c.answered_at,
            tables.inbox.c.state.label("inbox_state"),
            tables.inbox.c.due_at,
            tables.inbox.c.reason,
        )
        .select_from(documents.outerjoin(tables.inbox, ref))
        .where(_is_document(connection, kind, sha256))
    ).one_or_none()
    return None if found is None else DocumentRow(**{**found._mapping, "state": State(found.state)})  # noqa: SLF001 - SQLAlchemy's public name


def waiting(tx: Tx, *, connection: str, kind: str) -> set[str]:
    """The sha256 of every document of a kind that is due or being sent."""
    c = tables.inbox.c
    mine = (c.connection == connection, c.resource == kind, c.state == "due")
    return set(tx.execute(sa.select(c.key).where(*mine)).scalars())


def state(tx: Tx, item: Item) -> State | None:
    """The state of an enqueued document, locked until this transaction ends; None if it was forgotten."""
    found = tx.execute(sa.select(documents.c.state).where(_is_document_of(item)).with_for_update()).scalar()
    return None if found is None else State(found)


def load(tx: Tx, item: Item) -> Document:
    """The document of an inbox row, with its content."""
    c = documents.c
    found = tx.execute(sa.select(c.sha256, c.name, c.content, c.order_id).where(_is_document_of(item))).one()
    return Document(*found)


def begin_sending(tx: Tx, item: Item, *, now: datetime, until: datetime) -> None:
    """Record that the request follows, and may arrive. The inbox row is due again at `until`, when it has ended."""
    tx.execute(sa.update(documents).where(_is_document_of(item)).values(state=State.SENDING, sent_at=now))
    _postpone(tx, item, until=until)


def mark_interpreted(tx: Tx, item: Item, *, now: datetime) -> bool:
    """Record that the vendor has interpreted it. False if it was forgotten meanwhile."""
    values = {"state": State.INTERPRETED, "answered_at": now}
    return tx.execute(sa.update(documents).where(_is_document_of(item)).values(values)).rowcount == 1


def park(tx: Tx, item: Item, *, reason: str) -> None:
    """Park it for a person."""
    tx.execute(sa.update(documents).where(_is_document_of(item)).values(state=State.PARKED))
    inbox.park(tx, item, reason=reason)


def return_to_waiting(tx: Tx, item: Item, *, now: datetime) -> None:
    """Record that the vendor certainly did not accept it: it waits as if it had not been sent."""
    tx.execute(sa.update(documents).where(_is_document_of(item)).values(state=State.WAITING, sent_at=None))
    _postpone(tx, item, until=now)


def forget(tx: Tx, *, connection: str, kind: str) -> None:
    """Remove every document of a kind. None is handed in until this transaction ends, which removes inbox rows, too."""
    _lock_kind(tx, connection, kind, shared=False)
    tx.execute(sa.delete(documents).where(documents.c.connection == connection, documents.c.kind == kind))


def _lock_kind(tx: Tx, connection: str, kind: str, *, shared: bool) -> None:
    """Lock a kind: shared to hand in, exclusive to forget.

    A document that is stored between the removal of documents and of inbox rows would lose its row, and never be sent.
    """
    tx.lock(f"documents {connection} {kind}", shared=shared)


def _postpone(tx: Tx, item: Item, *, until: datetime) -> None:
    here = _is_inbox_row(item.connection, item.resource, item.key)
    unchanged = tables.inbox.c.wanted == item.wanted
    tx.execute(sa.update(tables.inbox).where(here, unchanged).values(due_at=until, reason=None))


def _is_document_of(item: Item) -> sa.ColumnElement[bool]:
    return _is_document(item.connection, item.resource, item.key)


def _is_document(connection: str, kind: str, sha256: str) -> sa.ColumnElement[bool]:
    c = documents.c
    return sa.and_(c.connection == connection, c.kind == kind, c.sha256 == sha256)


def _is_inbox_row(connection: str, kind: str, sha256: str) -> sa.ColumnElement[bool]:
    c = tables.inbox.c
    return sa.and_(c.connection == connection, c.resource == kind, c.key == sha256)
