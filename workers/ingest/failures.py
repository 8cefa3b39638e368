"""What happens to work whose request failed: it is postponed or parked, the lease is released, the gate may close."""

from __future__ import annotations

import traceback
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog

from models.bookkeeping import commands, inbox, parked, refused_keys, streams
from models.bookkeeping.commands import State
from models.db import faults
from models.db.faults import Fault
from models.mirror import schema_evolution
from models.values import Cause
from workers.errors import BusyError, ClosedError, NotForUs, SetAside, TooLargeError, TryLater, VendorError
from workers.gate import timing
from workers.ingest.unit_of_work import BackOff, release, release_unanswered, under_lease

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from models.bookkeeping.commands import Command
    from models.bookkeeping.inbox import Item
    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from workers.context import ConnectionContext
    from workers.gate.gate import Lease
    from workers.ingest.unit_of_work import LeaseStep

log = structlog.get_logger()

DECODING_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What a connector's decoding raises when an answer is not of the expected form."""

_MIN_CLOSED = timedelta(minutes=5)
"""The least wait if a vendor answers that it is closed although its stated opening hours say otherwise."""

_MAX_BATCH_FAILURES = 5
"""How often in a row a batch may fail while others are answered; then each object is fetched by itself."""

MAX_ATTEMPTS = 8
"""How often in a row a key may fail while others are answered, which takes four minutes or more; then it is parked."""


class TableError(TryLater):
    """A table cannot be written or read now, whatever the object: it is locked or missing, or a right is."""

    def __init__(self, message: str) -> None:
        super().__init__(message, closes_gate=False, vendors_fault=False)


@contextmanager
def classify(context: ConnectionContext) -> Iterator[None]:
    """Turn what goes wrong between a request and its transaction into a `VendorError` without secrets in its message.

    No change on the vendor's side stops ingestion: a key whose answer cannot be decoded is parked, for a person; a
    listing is tried again.
    """
    try:
        yield
    except VendorError as failure:
        failure.args = (context.redact_text(str(failure)),)
        raise
    except schema_evolution.TableLockedError as error:
        raise TableError(str(error)) from None
    except sa.exc.DBAPIError as error:
        if faults.of(error) is Fault.AWAY:
            raise
        raise TableError(faults.remedy(error, context.database)) from None
    except DECODING_ERRORS as error:
        # Of the error only its type and the places in our code: its message may quote the answer.
        places = "".join(traceback.format_tb(error.__traceback__))
        kind = type(error).__name__
        log.error("answer not understood", connection=context.name, exception=f"{kind}\n{places}")  # noqa: TRY400
        raise SetAside(f"the answer was not understood: {kind} {_place(error)}") from None


def fail_key(
    context: ConnectionContext, lease: Lease, item: Item, failure: VendorError, *, of_key: bool = True
) -> None:
    """A fetch failed: release the lease, and postpone, park or finish the key.

    `of_key`: the request for the key itself failed, not one for metadata before it.
    """
    _log(context, item.resource, failure, key=item.key)
    lease_step = end_of_lease(failure, failures=item.attempts)
    with under_lease(lease, lease_step) as tx:
        if isinstance(failure, TryLater):
            until = next_try(tx, failure, lease_step, failures=item.attempts)
            _postpone(tx, context, item, failure, until=until, of_key=of_key)
            if isinstance(failure, TableError):  # each of its other keys would wait for the table likewise
                inbox.lock(tx, connection=context.name)
                where = {"connection": context.name, "resource": item.resource}
                parked.postpone_resource(tx, **where, until=until, reason=str(failure))
        elif isinstance(failure, NotForUs):
            inbox.finish(tx, item)
        elif isinstance(failure, SetAside) and failure.whole_resource:
            inbox.lock(tx, connection=context.name)
            until = _park_resource(tx, context, item.resource, failure, request=streams.FETCH)
            refused_keys.wait_until_allowed(tx, item, until=until)
        else:
            inbox.park(tx, item, reason=str(failure))


def _postpone(
    tx: Tx, context: ConnectionContext, item: Item, failure: TryLater, *, until: datetime, of_key: bool
) -> None:
    """Postpone the key; park it if it has failed `MAX_ATTEMPTS` times while other requests were answered."""
    counts = _counts_as_attempt(failure)
    alone = counts and of_key and _may_be_this_keys_fault(failure) and context.gate.answered_since(tx, item.tried_at)
    if alone and item.lone_failures + 1 >= MAX_ATTEMPTS and item.cause is not Cause.DOCUMENT:
        inbox.park(tx, item, reason=f"failed {MAX_ATTEMPTS} times while others were answered: {failure}")
    else:
        inbox.postpone(tx, item, until=until, reason=str(failure), counts=counts, lone=alone)


def _may_be_this_keys_fault(failure: TryLater) -> bool:
    """Whether the object itself may be the cause. It is not if the vendor was unreachable or answered 429."""
    return failure.vendors_fault and not failure.refused


def fail_stream(context: ConnectionContext, lease: Lease, stream: Stream, failure: VendorError, *, full: bool) -> None:
    """A listing or a request for metadata failed: release the lease, and postpone the stream or park the resource.

    One stray reply must not stop a resource, so only what the vendor refuses in its own words parks it, and a reply
    that is too large, because each further one would be loaded in vain.
    """
    _log(context, stream.resource, failure)
    lease_step = end_of_lease(failure, failures=stream.failures)
    with under_lease(lease, lease_step) as tx:
        if isinstance(failure, TooLargeError) or (isinstance(failure, SetAside) and failure.whole_resource):
            _park_resource(tx, context, stream.resource, failure, request=streams.LISTING)
            return
        until = next_try(tx, failure, lease_step, failures=stream.failures)
        due = {"full_due_at": until} if full else {"due_at": until}
        values: dict[str, Any] = {"last_error": str(failure), "last_error_at": tx.now}
        if isinstance(failure, ClosedError):  # closed hours are not an error
            values = {"warning": str(failure)}
        if stream.state == "parked":
            values["retry_at"] = until
        failures = stream.failures + _counts_as_attempt(failure)
        streams.update(tx, context.name, stream.resource, failures=failures, **due, **values)


def fail_batch(context: ConnectionContext, lease: Lease, stream: Stream, failure: VendorError) -> None:
    """A batch failed: release the lease. Its keys stay due, and until its backoff is over they are fetched one by one.

    What refuses the whole resource is left to such a fetch, which parks it. `stream`: as it was before the attempt.
    """
    _log(context, stream.resource, failure)
    lease_step = end_of_lease(failure, failures=stream.batch_failures)
    with under_lease(lease, lease_step) as tx:
        count = stream.batch_failures + _counts_as_attempt(failure)
        values: dict[str, Any] = {"batch_failures": count}
        if isinstance(failure, SetAside) and not failure.whole_resource:
            values["unbatched"] = str(failure)
        elif count >= _MAX_BATCH_FAILURES and context.gate.answered_since(tx, stream.batch_tried_at):
            values["unbatched"] = f"batches failed {count} times: {failure}"
        streams.update(tx, context.name, stream.resource, **values)


def crash_key(context: ConnectionContext, item: Item, error: Exception) -> None:
    """Our own code crashed, or the database went away: postpone the key behind the others."""
    with suppress(sa.exc.SQLAlchemyError), context.database.begin() as tx:
        until = tx.now + timing.retry_delay(item.attempts)
        is_crash = not isinstance(error, sa.exc.SQLAlchemyError)
        inbox.postpone(tx, item, until=until, reason=_crash(error), counts=True, lone=is_crash)


def crash_command(context: ConnectionContext, command: Command, error: Exception) -> None:
    """Our own code crashed, or the database went away: postpone the command, unless it was sent by then."""
    with suppress(sa.exc.SQLAlchemyError), context.database.begin() as tx:
        due_at = tx.now + timing.retry_delay(command.failures)
        # What is uncertain keeps the words about the attempt that made it so.
        reason = _crash(error) if command.state is State.WAITING else command.reason
        commands.postpone_crashed(tx, command, due_at=due_at, reason=reason)


def crash_stream(context: ConnectionContext, stream: Stream, error: Exception, *, full: bool) -> None:
    """Our own code crashed, or the database went away: postpone the poll or full sync.

    A poll that crashed also makes a full sync due, because it may have been too long for its task's time limit, and
    full syncs have none. Not if the database went away: that says nothing about the poll.
    """
    with suppress(sa.exc.SQLAlchemyError), context.database.begin() as tx:
        now = tx.now
        until = now + timing.retry_delay(stream.failures)
        due = {"full_due_at": until} if full else {"due_at": until}
        if not full and not isinstance(error, sa.exc.SQLAlchemyError):
            due["full_due_at"] = now
        values = {"last_error": _crash(error), "last_error_at": now}
        streams.update(tx, context.name, stream.resource, failures=stream.failures + 1, **due, **values)


def _place(error: BaseException) -> str:
    """Where in our code it was raised."""
    raised = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {raised.name} ({Path(raised.filename).name}, line {raised.lineno})"


def of_database(context: ConnectionContext, error: sa.exc.DBAPIError) -> VendorError:
    """What an error of the database means for one object's work. Raises the error if the database is away."""
    found = faults.of(error)
    if found is Fault.AWAY:
        raise error
    return SetAside(refusal(context, error)) if found is Fault.REFUSED else TableError(faults.remedy(error))


def refusal(context: ConnectionContext, error: sa.exc.DBAPIError) -> str:
    """Why the database refuses a row, without the row itself."""
    return f"{parked.REFUSED_BY_DATABASE}: {faults.words(error, context.database)}"


def _crash(error: Exception) -> str:
    words = faults.remedy(error) if isinstance(error, sa.exc.DBAPIError) else type(error).__name__
    return f"broke off: {words}"


def end_of_lease(failure: VendorError, *, failures: int) -> LeaseStep:
    """How to end the lease: with a backoff if the failure concerns the whole account."""
    if not isinstance(failure, TryLater):
        return release
    if isinstance(failure, ClosedError) or not failure.closes_gate:
        return release_unanswered
    # Only a first failure lengthens the backoff: one key that fails again and again must not stop all others.
    return BackOff(str(failure), failure.after, counts=_counts_as_attempt(failure) and not failures)


def next_try(tx: Tx, failure: VendorError, lease_step: LeaseStep, *, failures: int) -> datetime:
    """When to try this work again: not before the gate opens."""
    if isinstance(failure, ClosedError):
        return max(failure.until, tx.now + _MIN_CLOSED)
    retry_at = tx.now + timing.retry_delay(failures, failure.after if isinstance(failure, TryLater) else None)
    return (
        max(retry_at, lease_step.until)
        if isinstance(lease_step, BackOff) and lease_step.until is not None
        else retry_at
    )


def _counts_as_attempt(failure: VendorError) -> bool:
    return not isinstance(failure, BusyError | ClosedError)


def _park_resource(tx: Tx, context: ConnectionContext, name: str, failure: VendorError, *, request: str) -> datetime:
    """Park the resource; returns when it is tried again."""
    resource = context.resources[name]
    until = tx.now + resource.refused_for
    refusal = streams.Refusal(str(failure), request, context.settings_fingerprint)
    streams.park(tx, context.name, name, refusal, until=until, by_full_sync=not resource.handed_in)
    return until


def _log(context: ConnectionContext, resource: str, failure: VendorError, **key: str) -> None:
    kind = type(failure).__name__
    log.warning("request failed", connection=context.name, resource=resource, **key, failure=kind, reason=str(failure))
