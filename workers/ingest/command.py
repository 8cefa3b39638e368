"""Sends one command at most once, and finds out what became of one that may have arrived.

The state `sending` is committed before the request leaves. A worker that holds the lease and finds that state knows
that the sender died or was too late: the command is `uncertain`, and is read back before anything else is done with it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
import structlog

from models import exact, failpoints
from models.bookkeeping import command_order, commands, inbox, streams
from models.bookkeeping.commands import State
from models.failpoints import Point
from models.values import Cause, Lane, ObjectRef
from workers.connectors.commands import GoneType
from workers.errors import BusyError, ClosedError, RefusedError, SetAside, TryLater, VendorError
from workers.gate import gate, timing
from workers.ingest import command_before, command_words, failures
from workers.ingest.unit_of_work import BackOff, release, renew, under_lease

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from models.bookkeeping.commands import Command
    from models.db.database import Tx
    from models.values import JsonObject
    from workers.connectors.commands import Action, CommandClient, Sent
    from workers.context import ConnectionContext, WorkSession
    from workers.gate.gate import Lease

log = structlog.get_logger()

_MAX_FAILURES = 8
"""How often in a row a command may fail for a reason of its own, which takes some four minutes; then it is refused."""

_MAX_ATTEMPTS = 8
"""How often a command is sent that did not arrive; then a person decides."""

_DATABASE_POLL = 0.5
"""Seconds between two attempts to keep the vendor's answer."""

_SECOND_LOOK = timedelta(minutes=2)
"""The least time between two looks that find nothing: a slow vendor may still be at it."""

_WAIT_FOR_RIGHTS = timedelta(minutes=5)
"""The wait after the vendor refused the account or the connection's role: a person has to give it the right."""

_WAIT_FOR_NEWER = timedelta(minutes=1)
"""The wait for a worker of another version or with other settings if this one does not know the action."""


def advance(session: WorkSession, command: Command) -> None:
    """Send a command that waits, or read back one that may have arrived. Raises `GateClosed`."""
    context = session.context
    action = context.actions.get((command.action, command.named))
    if action is None:
        with context.database.begin() as tx:
            reason = f"this worker knows no action {command.action}"
            commands.postpone(tx, command, due_at=tx.now + _WAIT_FOR_NEWER, reason=reason)
        return
    try:
        with session.acquire(_subject(command)) as lease:
            _Step(session, lease, action, command).take()
    except gate.LeaseLost:
        log.warning("lease lost", connection=context.name, command=command.id)  # it is still due, or read back later


def _subject(command: Command) -> str:
    """What the lease is for: the object, so that it is not fetched while it is written."""
    return f"command\n{command.id}" if command.key is None else f"{command.resource}\n{command.key}"


@dataclass
class _Step:
    """One step with a command, under a lease."""

    session: WorkSession
    lease: Lease
    action: Action
    command: Command

    @property
    def context(self) -> ConnectionContext:
        """The connection."""
        return self.session.context

    @property
    def client(self) -> CommandClient:
        """The vendor's client."""
        return cast("CommandClient", self.session.client)

    @property
    def payload(self) -> JsonObject:
        """The arguments as they are sent."""
        return self.command.payload or {}

    def take(self) -> None:
        """Send it, doubt it, or read it back."""
        with self.context.database.autocommit() as tx:
            current = commands.get(tx, self.command.id)
        if current is None or (current.state, current.attempts) != (self.command.state, self.command.attempts):
            with under_lease(self.lease):  # another worker was quicker
                return
        self.command = current
        if current.state is State.WAITING:
            self._send()
        elif current.state is State.SENDING:
            with under_lease(self.lease) as tx:
                self._doubt(tx, "the worker that sent it ended before the answer was kept")
        else:
            self._read_back()

    # Sending.

    def _send(self) -> None:
        """Commit `sending`, make the request, and commit what became of it."""
        try:
            with failures.classify(self.context):
                # Asked before it is sent: a worker that is killed afterwards could not ask any more.
                asks = self.action.may_change_others
                others = self.client.also_changes(self.action, self.payload) if asks else ()
                before = command_before.known_before(self.context, self.client, self.action, self.command)
        except VendorError as failure:
            self._not_taken(failure)
            return
        if not self._begin_sending(others, before):
            return
        failpoints.hit(Point.COMMAND_SENDING)
        try:
            with failures.classify(self.context):
                sent = self.client.send(self.action, self.payload)
        except VendorError as failure:
            self._fail(failure)
            return
        failpoints.hit(Point.COMMAND_ANSWERED)
        self._succeed(sent)

    def _begin_sending(self, others: Sequence[ObjectRef], before: JsonObject | None) -> bool:
        """Commit `sending`; False if the command may not be sent any more, and then the lease is released."""
        with self.context.database.begin() as tx:
            renew(tx, self.lease)
            until = tx.now + self.context.options.timeout + timing.GRACE
            if not commands.begin_sending(tx, self.command, until=until, before=before, also_changes=others):
                release(tx, self.lease)
                return False
        pairs = [[each.resource, each.key] for each in others]
        attempts = self.command.attempts + 1
        self.command = replace(self.command, state=State.SENDING, attempts=attempts, also_changes=pairs)
        return True

    def _succeed(self, sent: Sent) -> None:
        """The vendor says that it has done it. Kept as soon as the database is there, while the lease lasts."""
        deadline = time.monotonic() + timing.GRACE.total_seconds()
        while True:
            try:
                self._keep(sent)
            except sa.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_DATABASE_POLL)
            else:
                return

    def _keep(self, sent: Sent) -> None:
        """Commit what the vendor has answered."""
        answer = command_words.redacted(self.context, self.command, sent.answer)
        with self._under_lease_if_held() as tx:
            if self.action.needs_proof(self.payload):
                reason = "the vendor answered ok; it is read back, because such an answer proves little"
                commands.doubt(tx, self.command, reason=reason, due_at=tx.now, answer=answer)
                return
            created = self.action.creates(self.payload)
            ref = sent.ref or self.command.ref or (None if created is None else ObjectRef(created, ""))
            self._finish(tx, answer=answer, ref=ref)
            failpoints.hit(Point.COMMAND_FINISHED)
        failpoints.hit(Point.COMMAND_COMMITTED)

    def _finish(self, tx: Tx, *, answer: Any, ref: ObjectRef | None) -> None:
        """Record that the vendor has done it, and have what it changed fetched."""
        is_news = commands.finish(tx, self.command, answer=answer, ref=ref)
        fetch_changed(tx, self.context, _written(self.command, ref))
        log.info("command done", **self._names, key=None if ref is None else ref.key, news=is_news)

    @contextmanager
    def _under_lease_if_held(self) -> Iterator[Tx]:
        """A transaction that releases the lease. What the vendor has answered is true, whoever holds the lease now."""
        with self.context.database.begin() as tx:
            with suppress(gate.LeaseLost):
                release(tx, self.lease)
            yield tx

    def _fail(self, failure: VendorError) -> None:
        """The vendor said no, certainly did not take it, or it may have arrived."""
        failure.args = (command_words.without_omitted(self.command, str(failure)),)
        log.warning("command failed", **self._names, failure=type(failure).__name__, reason=str(failure))
        if isinstance(failure, RefusedError):
            with self._under_lease_if_held() as tx:
                commands.refuse(tx, self.command, reason=str(failure))
        elif _was_not_taken(failure):
            self._not_taken(failure)
        else:
            step = failures.end_of_lease(failure, failures=self.command.failures)
            with under_lease(self.lease, step) as tx:
                due_at = step.until if isinstance(step, BackOff) else None
                self._doubt(tx, str(failure), due_at=due_at)

    def _not_taken(self, failure: VendorError) -> None:
        """Nothing was written: have it sent again, or refuse it after too many attempts of its own."""
        command, is_its_own = self.command, _is_its_own(failure)
        reason, count = command_words.without_omitted(command, str(failure)), command.failures + is_its_own
        step = failures.end_of_lease(failure, failures=command.failures)
        with under_lease(self.lease, step) as tx:
            if count >= _MAX_FAILURES:
                commands.refuse(tx, command, reason=f"not taken in {count} attempts: {reason}")
                return
            due_at = failures.next_try(tx, failure, step, failures=command.failures)
            if isinstance(failure, SetAside) and failure.whole_resource:
                due_at = tx.now + _WAIT_FOR_RIGHTS
            # Busy and unreachable vendors cost no attempt.
            attempts = command.attempts - (command.state is State.SENDING and not is_its_own)
            commands.return_to_waiting(tx, command, due_at=due_at, reason=reason, failures=count, attempts=attempts)

    def _doubt(self, tx: Tx, reason: str, *, due_at: datetime | None = None) -> None:
        """It may have arrived: it is read back if it can be, now or, at `due_at`, when the gate opens again."""
        if self._can_be_read_back:
            commands.doubt(tx, self.command, reason=reason, due_at=due_at or tx.now)
        else:
            self._leave_to_a_person(tx, reason)

    # Reading back.

    @property
    def _can_be_read_back(self) -> bool:
        created = self.action.creates(self.payload)
        return self.action.expected is not None if created is None else self._finds(created) is not None

    def _finds(self, resource: str) -> tuple[str, ...] | None:
        return command_before.unique_path(self.context, self.action, self.command, resource)

    def _read_back(self) -> None:
        """Find out whether it arrived: it is done, sent again, or left to a person."""
        command, created = self.command, self.action.creates(self.payload)
        try:
            with failures.classify(self.context):
                found = self._compare() if created is None else self._find(created)
        except VendorError as failure:
            self._read_back_later(failure)
            return
        failpoints.hit(Point.COMMAND_READ_BACK)
        with under_lease(self.lease) as tx:
            if isinstance(found, ObjectRef):
                self._finish(tx, answer=command.answer, ref=found)
            elif isinstance(found, str):
                self._leave_to_a_person(tx, f"{command.reason}; {found}")
            elif command.answer is not None:  # see `Action.needs_proof`
                commands.refuse(tx, command, reason="the vendor answered ok, but did not do it")
            else:
                self._did_not_arrive(tx)

    def _read_back_later(self, failure: VendorError) -> None:
        """It could not be read back: another attempt, or, where that will not help, a person."""
        command, reason = self.command, command_words.without_omitted(self.command, str(failure))
        log.warning("reading back failed", **self._names, reason=reason)
        step = failures.end_of_lease(failure, failures=command.failures)
        with under_lease(self.lease, step) as tx:
            is_hopeless = isinstance(failure, SetAside) and not failure.whole_resource
            if is_hopeless or (_is_its_own(failure) and command.failures + 1 >= _MAX_FAILURES):
                self._leave_to_a_person(tx, f"{command.reason}; reading it back failed: {reason}")
                return
            due_at = failures.next_try(tx, failure, step, failures=command.failures)
            commands.read_back_later(tx, command, due_at=due_at, failures=command.failures + 1)

    def _leave_to_a_person(self, tx: Tx, reason: str) -> None:
        command = self.command
        commands.doubt(tx, command, reason=reason, due_at=None, answer=command.answer)
        fetch_changed(tx, self.context, _written(command, command.ref))  # it may have arrived

    def _find(self, resource: str) -> ObjectRef | Unchanged | str:
        """The object that was created, by its unique field; words for a person where that does not tell."""
        path = self._finds(resource)
        if path is None:
            return f"no field of `unique` finds it: set one for {resource} before you send more"
        had = command_before.had_its_value(self.command, path)
        if had is None:
            return f"nobody has looked which objects had its {path[-1]} before it was sent"
        keys = self.client.find(self.action, self.payload, path)
        with self.context.database.read() as tx:
            others = command_order.written_by_others(tx, self.command, resource=resource, keys=keys)
        new = [key for key in keys if key not in others and key not in had]
        if len(new) > 1:
            return f"{len(new)} new objects have its {path[-1]}: {', '.join(sorted(new)[:5])}"
        return ObjectRef(resource, new[0]) if new else UNCHANGED

    def _compare(self) -> ObjectRef | Unchanged | str:
        """The object that was written, if it shows what was sent; words for a person where that does not tell."""
        action, ref = self.action, self.command.ref
        if action.expected is None or ref is None:
            return "what it writes cannot be read back"
        found, expected = self.client.read_back(action, self.payload), action.expected(self.payload)
        if isinstance(found, GoneType):
            return ref if isinstance(expected, GoneType) else self._verdict_on_gone(expected)
        if isinstance(expected, GoneType):
            return self._verdict(found, {}, ["whether it exists"])
        visible = found if action.shown is None else action.shown(self.payload, found)
        differing = [path for path, value in expected.items() if not exact.same(value, visible.get(path))]
        return self._verdict(found, visible, differing) if differing else ref

    def _verdict(self, found: JsonObject, visible: JsonObject, differing: Sequence[str]) -> Unchanged | str:
        """Whether the object is as before, or only a person can tell."""
        is_ignored = self.command.answer is not None and self._only_ignored(visible, differing)
        if is_ignored or command_before.is_as_before(self.context, self.command, found):
            return UNCHANGED
        what = "was changed since" if self.command.before else "nobody knows what it had before"
        return f"the object does not show what was sent, and {what}: {', '.join(differing)}"

    def _verdict_on_gone(self, expected: JsonObject) -> Unchanged | str:
        """Of an object that is gone, or marked as deleted: after an ok to nothing but that, it was not unmarked."""
        if self.command.answer is None:
            return "the object does not exist any more"
        if len(list(command_words.leaves(expected))) == 1:
            return UNCHANGED
        return "the vendor answered ok, but it is still marked as deleted, so it does not show what else was saved"

    def _only_ignored(self, visible: JsonObject, differing: Sequence[str]) -> bool:
        """Whether the vendor, who answered ok, left all that differs as it was before."""
        before = command_before.shown_before(self.command)
        return all(path in before and exact.same(visible.get(path), before[path]) for path in differing)

    def _did_not_arrive(self, tx: Tx) -> None:
        """It is as it was before. The vendor may still be at it, so only a second look, some time later, counts."""
        command, wait = self.command, max(self.context.options.timeout, _SECOND_LOOK)
        seen_at = command.unchanged_at
        if seen_at is None or tx.now < seen_at + wait:
            commands.saw_unchanged(tx, command, at=seen_at or tx.now, due_at=(seen_at or tx.now) + wait)
        elif command.attempts >= _MAX_ATTEMPTS:
            reason = f"{command.reason}; sent {command.attempts} times, and it never arrived"
            self._leave_to_a_person(tx, reason)
        else:
            commands.send_again(tx, command)

    @property
    def _names(self) -> dict[str, Any]:
        return {"connection": self.context.name, "command": self.command.id, "action": self.command.action}


def _written(command: Command, ref: ObjectRef | None) -> list[ObjectRef]:
    """What the command has changed, or may have: the object, and what it changes beside it."""
    return [*([] if ref is None else [ref]), *(ObjectRef(*each) for each in command.also_changes or ())]


class Unchanged:
    """The type of `UNCHANGED`."""


UNCHANGED = Unchanged()
"""The object is as it was before the command, or was not created."""


def _was_not_taken(failure: VendorError) -> bool:
    """Whether it is certain that the vendor wrote nothing."""
    if isinstance(failure, TryLater):
        return failure.refused or isinstance(failure, BusyError | ClosedError)
    return isinstance(failure, SetAside) and failure.whole_resource


def _is_its_own(failure: VendorError) -> bool:
    """Whether the object itself may be the cause (it is locked), not the vendor's state or the account."""
    if isinstance(failure, SetAside):
        return not failure.whole_resource
    return isinstance(failure, TryLater) and not (failure.closes_gate or isinstance(failure, BusyError | ClosedError))


def fetch_changed(tx: Tx, context: ConnectionContext, refs: Sequence[ObjectRef]) -> None:
    """Have the objects fetched that a command changed, as far as they are mirrored.

    A vendor tells nobody of what its API changed. What no point read brings is polled, or read in full.
    """
    mirrored = [(context.resources[each.resource], each) for each in refs if each.resource in context.resources]
    fetched = [each for resource, each in mirrored if each.key and resource.fetches(each.key)]
    inbox.enqueue(tx, connection=context.name, refs=fetched, lane=Lane.LIVE, cause=Cause.COMMAND)
    for resource in {resource.name: resource for resource, each in mirrored if each not in fetched}.values():
        if resource.every is None:
            streams.request_full_sync(tx, context.name, resource.name)
        else:
            streams.poll_now(tx, connection=context.name, resource=resource.name)
