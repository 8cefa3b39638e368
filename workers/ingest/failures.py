"""What happens to work whose request failed: the slot goes back, the work moves, the gate may shut."""

from __future__ import annotations

import traceback
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog

from models.bookkeeping import inbox, streams
from models.mirror import schema_evolution
from models.values import Cause
from workers.errors import Busy, Closed, NotForUs, SetAside, TryLater, VendorError
from workers.gate import gate
from workers.ingest.unit_of_work import BackOff, proved, release, release_unanswered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from models.bookkeeping.inbox import Item
    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from workers.context import ConnectionContext
    from workers.gate.gate import Lease
    from workers.ingest.unit_of_work import Proof

log = structlog.get_logger()

_MISREAD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What a connector raises when an answer is not what it was written for."""


_CLOSED_AT_LEAST = timedelta(minutes=5)
"""A vendor who is closed while his hours say that he is open is not asked again at once."""

ATTEMPTS = 8
"""So often in a row a key may fail while others are answered, for four minutes at least; then it is a person's."""

_PROGRAM_LIMITS = "54"
"""PostgreSQL's class of errors for rows and index entries that are too large (SQLSTATE)."""


@contextmanager
def classify(desk: ConnectionContext) -> Iterator[None]:
    """Give a fate to what may go wrong between a request and its transaction, and keep secrets out of its words.

    No change on the vendor's side stops ingestion: an answer that nobody understood is set aside, for a person.
    """
    try:
        yield
    except VendorError as fate:
        fate.args = (desk.redact_text(str(fate)),)
        raise
    except schema_evolution.TableLockedError:
        raise TryLater("the table is locked by somebody's long query", shuts_gate=False, of_vendor=False) from None
    except _MISREAD as error:
        log.error("answer not understood", connection=desk.name, exception=desk.redact_text(traceback.format_exc()))  # noqa: TRY400 - a traceback may repeat a secret
        raise SetAside(f"the answer was not understood: {desk.redact_text(one_line(error))}") from None


def fail_key(desk: ConnectionContext, slot: Lease, item: Item, fate: VendorError, *, own: bool = True) -> None:
    """A fetch failed, or (not its `own`) what had to be asked before it."""
    _log(desk, item.resource, fate, key=item.key)
    proof = _proof(fate, failures=item.attempts)
    with proved(slot, proof) as tx:
        if isinstance(fate, TryLater):
            until = _rests_until(tx, fate, proof, failures=item.attempts)
            _postpone(tx, desk, item, fate, until=until, own=own)
        elif isinstance(fate, NotForUs):
            inbox.finish(tx, item)
        elif isinstance(fate, SetAside) and fate.whole_resource:
            _park_resource(tx, desk, item.resource, fate)
            inbox.postpone(tx, item, until=item.due_at, reason=None, counts=False)
        else:
            inbox.park(tx, item, reason=str(fate))


def _postpone(tx: Tx, desk: ConnectionContext, item: Item, fate: TryLater, *, until: datetime, own: bool) -> None:
    """Later again, or aside: what fails time after time while the others are answered will not heal by itself."""
    counts = _counts(fate)
    alone = counts and own and _is_of_key(fate) and desk.gate.answered_since(tx, item.tried_at)
    if alone and item.lone_failures + 1 >= ATTEMPTS and item.cause is not Cause.DOCUMENT:
        inbox.park(tx, item, reason=f"failed {ATTEMPTS} times while others were answered: {fate}")
    else:
        inbox.postpone(tx, item, until=until, reason=str(fate), counts=counts, lone=alone)


def _is_of_key(fate: TryLater) -> bool:
    """Whether it may be this key's own fault: one request too many (429), or nobody there, is nobody's."""
    return fate.of_vendor and not fate.refused


def fail_stream(desk: ConnectionContext, slot: Lease, stream: Stream, fate: VendorError, *, full: bool) -> None:
    """A listing, or the question for a resource's metadata, failed."""
    _log(desk, stream.resource, fate)
    proof = _proof(fate, failures=stream.failures)
    with proved(slot, proof) as tx:
        if not isinstance(fate, TryLater):
            _park_resource(tx, desk, stream.resource, fate)
            return
        until = _rests_until(tx, fate, proof, failures=stream.failures)
        due = {"full_due_at": until} if full else {"due_at": until}
        told: dict[str, Any] = {"last_error": str(fate), "last_error_at": tx.now}
        if isinstance(fate, Closed):  # nothing is wrong
            told = {"warning": str(fate)}
        failures = stream.failures + _counts(fate)
        streams.change(tx, desk.name, stream.resource, failures=failures, **due, **told)


def crash_key(desk: ConnectionContext, item: Item, error: Exception) -> None:
    """A crash of ours, or a database that went away: the key waits its turn again, behind the others."""
    with suppress(sa.exc.SQLAlchemyError), desk.database.begin() as tx:
        until = tx.now + gate.closed_for(item.attempts)
        ours = not isinstance(error, sa.exc.SQLAlchemyError)
        reason = f"broke off: {type(error).__name__}"
        inbox.postpone(tx, item, until=until, reason=reason, counts=True, lone=ours)


def crash_stream(desk: ConnectionContext, stream: Stream, error: Exception, *, full: bool) -> None:
    """The same for a reading. A tick that took too long for its task goes on as a full reading, which may take long.

    A database that broke off says nothing about the tick: that is only asked again.
    """
    with suppress(sa.exc.SQLAlchemyError), desk.database.begin() as tx:
        now = tx.now
        until = now + gate.closed_for(stream.failures)
        due = {"full_due_at": until} if full else {"due_at": until}
        if not full and not isinstance(error, sa.exc.SQLAlchemyError):
            due["full_due_at"] = now
        told = {"last_error": f"broke off: {type(error).__name__}", "last_error_at": now}
        streams.change(tx, desk.name, stream.resource, failures=stream.failures + 1, **due, **told)


def one_line(error: BaseException | None) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def is_refusal(error: sa.exc.DBAPIError) -> bool:
    """Whether the database takes every row but this one: no such number, too large, a rule that its owner made."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    return isinstance(error, sa.exc.DataError | sa.exc.IntegrityError) or state.startswith(_PROGRAM_LIMITS)


def refusal(error: sa.exc.DBAPIError) -> str:
    """Why the database did not take a row, without the row, which PostgreSQL repeats in its detail."""
    said = getattr(getattr(error.orig, "diag", None), "message_primary", None) or str(error.orig)
    return f"the database refused a value: {' '.join(said.split())[:200]}"


def _proof(fate: VendorError, *, failures: int) -> Proof:
    """How the lease ends: the gate shuts where the failure says something about the whole account."""
    if not isinstance(fate, TryLater):
        return release
    if isinstance(fate, Closed) or not fate.shuts_gate:
        return release_unanswered
    # Only news makes the gate shut for longer: what fails again by itself must not keep the others out for minutes.
    return BackOff(str(fate), fate.after, counts=_counts(fate) and not failures)


def _rests_until(tx: Tx, fate: TryLater, proof: Proof, *, failures: int) -> datetime:
    """Until when this work rests: as long as the gate is shut, at least."""
    if isinstance(fate, Closed):
        return max(fate.until, tx.now + _CLOSED_AT_LEAST)
    rests = tx.now + gate.closed_for(failures, fate.after)
    return max(rests, proof.until) if isinstance(proof, BackOff) and proof.until is not None else rests


def _counts(fate: TryLater) -> bool:
    return not isinstance(fate, Busy | Closed)


def _park_resource(tx: Tx, desk: ConnectionContext, resource: str, fate: VendorError) -> None:
    streams.park(tx, desk.name, resource, reason=str(fate), now=tx.now)


def _log(desk: ConnectionContext, resource: str, fate: VendorError, **key: str) -> None:
    kind = type(fate).__name__
    log.warning("not answered", connection=desk.name, resource=resource, **key, fate=kind, reason=str(fate))
