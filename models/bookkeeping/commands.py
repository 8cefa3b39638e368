"""Commands: writes to a vendor, in the order of their acceptance, and what became of each.

    waiting ──► sending ──► done
       │ ▲         ├──────► refused
       │ │         └──────► uncertain ──► done; once it is known that it did not arrive: waiting, or canceled
       ▼ └─────────┘ the vendor certainly did not take it
    canceled

`sending` is committed before the request leaves. A command of an object waits until all earlier ones of that object
are final, an uncertain one included; one that creates an object waits for none, unless the caller chooses its key.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import exact
from models.db.outgoing_tables import DOUBTFUL, OPEN, commands
from models.values import ObjectRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.db.database import Tx
    from models.values import JsonObject

_MINUTE = timedelta(minutes=1)
_BATCH = 500

COMMAND_LINE = "command line"
"""The caller of commands that a person sends; `per_minute` does not limit them."""


class State(StrEnum):
    """What became of a command so far."""

    WAITING = "waiting"
    SENDING = "sending"
    DONE = "done"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"
    CANCELED = "canceled"


FINAL = (State.DONE, State.REFUSED, State.CANCELED)
"""States that a command keeps."""


class KeyReusedError(Exception):
    """The idempotency key belongs to a command with other content. `id`: of that command."""

    def __init__(self, command: int) -> None:
        super().__init__()
        self.id = command


class TooManyError(Exception):
    """More commands were sent within a minute than the settings allow."""


@dataclass(frozen=True, slots=True)
class NewCommand:
    """A command that was checked, and is to be stored.

    `named`: the resource that the caller named beside the action. `ref`: the object that it writes; None for one that
    it creates and whose key the vendor chooses; that is of `resource`, where that is known. `digest`: of what the
    caller sent. `arguments`: for people, redacted; `payload`: as they are sent.
    """

    connection: str
    action: str
    named: str | None
    resource: str | None
    ref: ObjectRef | None
    idempotency_key: str
    digest: bytes
    arguments: JsonObject
    payload: JsonObject
    caller: str


@dataclass(frozen=True, slots=True)
class Command:
    """A stored command. `payload`: the arguments as they are sent; None once they cannot be sent again."""

    id: int
    connection: str
    action: str
    named: str | None
    resource: str | None
    key: str | None
    idempotency_key: str
    arguments: JsonObject
    payload: JsonObject | None
    state: State
    due_at: datetime | None
    attempts: int
    failures: int
    accepted_at: datetime
    caller: str
    before: JsonObject | None
    also_changes: list[list[str]] | None
    sent_at: datetime | None
    unchanged_at: datetime | None
    answered_at: datetime | None
    answer: Any
    result_key: str | None
    reason: str | None

    @property
    def ref(self) -> ObjectRef | None:
        """The object that it writes; None for one that it creates and whose key the vendor chooses."""
        return None if self.key is None or self.resource is None else ObjectRef(self.resource, self.key)

    @property
    def waits_for_person(self) -> bool:
        """Whether nothing more happens to it until a person decides."""
        return self.state is State.UNCERTAIN and self.due_at is None


def accept(tx: Tx, new: NewCommand, *, per_minute: int | None = None) -> tuple[Command, bool]:
    """Store a command; returns it, and whether it is new: the same key with the same content is stored once.

    Raises `KeyReusedError`, and `TooManyError` above `per_minute`.
    """
    known = _same_key(tx, new)
    if known is not None:
        return known, False
    tx.lock(f"commands {new.connection}")  # ids in the order of the commits: the later id is the later command
    now = tx.now
    if per_minute is not None and _accepted_since(tx, new.connection, now - _MINUTE) >= per_minute:
        raise TooManyError
    ref = new.ref
    row = {
        "connection": new.connection,
        "action": new.action,
        "named": new.named,
        "resource": new.resource if ref is None else ref.resource,
        "key": None if ref is None else ref.key,
        "idempotency_key": new.idempotency_key,
        "digest": new.digest,
        "arguments": new.arguments,
        "payload": exact.dumps(new.payload),
        "state": State.WAITING,
        "due_at": now,
        "attempts": 0,
        "failures": 0,
        "accepted_at": now,
        "caller": new.caller,
    }
    insert = tx.insert(commands).values(row).on_conflict_do_nothing()  # another request may have the same key
    inserted = tx.execute(insert.returning(commands)).one_or_none()
    if inserted is not None:
        return _command(inserted), True
    stored = _same_key(tx, new)
    assert stored is not None  # noqa: S101 - inserted by the other request
    return stored, False


def _same_key(tx: Tx, new: NewCommand) -> Command | None:
    return same_key(tx, connection=new.connection, idempotency_key=new.idempotency_key, digest=new.digest)


def same_key(tx: Tx, *, connection: str, idempotency_key: str, digest: bytes) -> Command | None:
    """The command that has this key; None if none has it. Raises `KeyReusedError` if its content is another."""
    c = commands.c
    here = (c.connection == connection, c.idempotency_key == idempotency_key)
    row = tx.execute(sa.select(commands).where(*here)).one_or_none()
    if row is None:
        return None
    if bytes(row.digest) != digest:
        raise KeyReusedError(row.id)
    return _command(row)


def _accepted_since(tx: Tx, connection: str, moment: datetime) -> int:
    c = commands.c
    counted = (c.accepted_at > moment, c.accepted_at <= tx.now, c.caller != COMMAND_LINE)
    recent = sa.select(sa.func.count()).where(c.connection == connection, *counted)
    return tx.execute(recent).scalar_one()


def get(tx: Tx, command: int, *, connection: str | None = None) -> Command | None:
    """One command by its id, of this connection if one is named."""
    chosen = sa.select(commands).where(commands.c.id == command)
    if connection is not None:
        chosen = chosen.where(commands.c.connection == connection)
    return one(tx, chosen)


def get_all(tx: Tx, ids: Sequence[int]) -> list[Command]:
    """Commands by their ids, in the order of these; those that there are."""
    found: dict[int, Command] = {}
    for start in range(0, len(ids), _BATCH):
        chosen = sa.select(commands).where(commands.c.id.in_(ids[start : start + _BATCH]))
        found |= {row.id: _command(row) for row in tx.execute(chosen)}
    return [found[each] for each in ids if each in found]


def listed(
    tx: Tx, *, connection: str | None = None, states: Sequence[State] = (), limit: int | None = None
) -> list[Command]:
    """Commands, the newest first."""
    chosen = sa.select(commands).order_by(commands.c.id.desc()).limit(limit)
    if connection is not None:
        chosen = chosen.where(commands.c.connection == connection)
    if states:
        chosen = chosen.where(commands.c.state.in_(states))
    return [_command(row) for row in tx.execute(chosen)]


def next_due(tx: Tx, *, connection: str, now: datetime) -> Command | None:
    """The command to read back, or else to send, next: the longest due that no earlier one of its object holds up.

    What may have arrived comes first: the longer it waits, the less its object tells.
    """
    c = commands.c
    for conditions in ((sa.and_(DOUBTFUL), c.due_at <= now), is_due(now)):
        chosen = sa.select(commands).where(c.connection == connection, *conditions)
        if (found := one(tx, chosen.order_by(c.due_at, c.id).limit(1))) is not None:
            return found
    return None


def is_due(now: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions: a command can be sent, or read back, at `now`, a time or an expression of one."""
    return sa.and_(OPEN), commands.c.due_at <= now, ~_held_up()


def _held_up() -> sa.ColumnElement[bool]:
    """The condition: an earlier command of the same object is not final.

    Not EXISTS: without statistics PostgreSQL turns that into a join with all open commands of the connection.
    """
    earlier, c = commands.alias("earlier"), commands.c
    open_ones = sa.text("earlier.state IN ('waiting', 'sending', 'uncertain')")
    same = (earlier.c.connection == c.connection, earlier.c.resource == c.resource, earlier.c.key == c.key)
    probe = sa.select(sa.literal(1)).where(*same, open_ones, earlier.c.id < c.id).limit(1)
    return probe.correlate(commands).scalar_subquery().is_not(None)


def begin_sending(
    tx: Tx, command: Command, *, until: datetime, before: JsonObject | None, also_changes: Sequence[ObjectRef]
) -> bool:
    """Record that the request follows, and may arrive; False if it may not be sent any more, or not yet.

    `until`: when the request has ended, whatever became of it. `before`: what the mirror shows of the object at the
    places that the command changes.
    """
    c = commands.c
    here = (c.id == command.id, c.state == State.WAITING, c.attempts == command.attempts, ~_held_up())
    values = {
        "state": State.SENDING,
        "due_at": until,
        "attempts": command.attempts + 1,
        "sent_at": tx.now,
        "before": before,
        "also_changes": [[each.resource, each.key] for each in also_changes] or None,
        "unchanged_at": None,
        "reason": None,
    }
    return tx.execute(sa.update(commands).where(*here).values(values)).rowcount == 1


def finish(tx: Tx, command: Command, *, answer: Any, ref: ObjectRef | None) -> bool:
    """Record that the vendor has done it. False if it was settled otherwise meanwhile, as by a person."""
    values = {"state": State.DONE, "payload": None, "before": None, "answer": answer, "reason": None}
    if ref is not None:
        values |= {"resource": ref.resource, "result_key": ref.key or None}
    return _settle_finally(tx, command, values)


def refuse(tx: Tx, command: Command, *, reason: str) -> bool:
    """Record the vendor's refusal. The arguments are kept, so that a person can have it sent again."""
    return _settle_finally(tx, command, {"state": State.REFUSED, "reason": reason})


def return_to_waiting(tx: Tx, command: Command, *, due_at: datetime, reason: str, failures: int, attempts: int) -> bool:
    """Record that the vendor certainly did not take it; it is sent again at `due_at`."""
    values = {"state": State.WAITING, "due_at": due_at, "reason": reason, "failures": failures, "attempts": attempts}
    return _settle(tx, command, values)


def doubt(tx: Tx, command: Command, *, reason: str, due_at: datetime | None, answer: Any = None) -> bool:
    """Record that it may have arrived. `due_at`: when it is read back; None: only a person can know."""
    values = {"state": State.UNCERTAIN, "reason": reason, "due_at": due_at, "answer": answer, "failures": 0}
    return _settle(tx, command, values)


def saw_unchanged(tx: Tx, command: Command, *, at: datetime, due_at: datetime) -> bool:
    """Record that the object was first read back unchanged at this time. It is read again at `due_at`."""
    return _settle(tx, command, {"unchanged_at": at, "due_at": due_at, "failures": 0})


def read_back_later(tx: Tx, command: Command, *, due_at: datetime, failures: int) -> bool:
    """Record that it could not be read back."""
    return _settle(tx, command, {"due_at": due_at, "failures": failures})


def postpone(tx: Tx, command: Command, *, due_at: datetime, reason: str) -> bool:
    """Leave the command as it is until `due_at`."""
    return _settle(tx, command, {"due_at": due_at, "reason": reason})


def postpone_crashed(tx: Tx, command: Command, *, due_at: datetime, reason: str | None) -> None:
    """Postpone a command whose sending or reading back broke off. One that was being sent has its own time."""
    c = commands.c
    here = (c.id == command.id, c.attempts == command.attempts, c.state == command.state)
    values = {"due_at": due_at, "failures": command.failures + 1, "reason": reason}
    tx.execute(sa.update(commands).where(*here).values(values))


def read_back_now(tx: Tx, command: Command) -> bool:
    """Have an uncertain command read back now."""
    return _settle(tx, command, {"due_at": tx.now, "failures": 0, "unchanged_at": None})


def send_again(tx: Tx, command: Command) -> bool:
    """Have a command sent now that did not arrive, that was refused, or that waits."""
    values = {"state": State.WAITING, "due_at": tx.now, "failures": 0, "unchanged_at": None, "answered_at": None}
    return _settle(tx, command, {**values, "answer": None})


def cancel(tx: Tx, command: Command) -> bool:
    """Cancel a command that waits, or that did not arrive, as a person says. False if it has moved on."""
    c = commands.c
    stopped = (State.WAITING, State.UNCERTAIN)
    here = (c.id == command.id, c.attempts == command.attempts, c.state == command.state, c.state.in_(stopped))
    values = {"state": State.CANCELED, "payload": None, "before": None, "due_at": None, "answered_at": tx.now}
    return tx.execute(sa.update(commands).where(*here).values(values)).rowcount == 1


def _settle_finally(tx: Tx, command: Command, values: dict[str, Any]) -> bool:
    return _settle(tx, command, {**values, "due_at": None, "answered_at": tx.now})


def _settle(tx: Tx, command: Command, values: dict[str, Any]) -> bool:
    """Write what is known of a command's last attempt, unless it has moved on since.

    A sender's word counts also after another worker, or its own lease's end, has made the command uncertain.
    """
    c = commands.c
    states = {command.state, State.UNCERTAIN} if command.state is State.SENDING else {command.state}
    open_to_news = sorted(states - {State.DONE, State.CANCELED})
    here = (c.id == command.id, c.attempts == command.attempts, c.state.in_(open_to_news))
    return tx.execute(sa.update(commands).where(*here).values(values)).rowcount == 1


def token(connection: str, idempotency_key: str) -> str:
    """What erpmirror puts into a new object's unique field, to find it again: the same for the same command."""
    digest = hashlib.sha256(f"{connection}\n{idempotency_key}".encode()).digest()
    return f"EM{base64.b32encode(digest).decode()[:16]}"


def trim(tx: Tx, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` final commands that were accepted before; returns how many."""
    c = commands.c
    old = sa.select(c.id).where(c.accepted_at < before, c.state.in_(FINAL)).order_by(c.accepted_at).limit(limit)
    return tx.execute(sa.delete(commands).where(c.id.in_(old))).rowcount


def forget(tx: Tx, *, connection: str, resource: str) -> None:
    """Delete what the final commands of a resource hold. Their idempotency keys stay, so that none is sent again."""
    c = commands.c
    here = (c.connection == connection, c.resource == resource, c.state.in_(FINAL))
    emptied: dict[str, Any] = {"arguments": {}, "payload": None, "before": None, "answer": None, "reason": None}
    tx.execute(sa.update(commands).where(*here).values(emptied))


def one(tx: Tx, chosen: sa.Select[Any]) -> Command | None:
    """The one command that the statement finds."""
    row = tx.execute(chosen).one_or_none()
    return None if row is None else _command(row)


def _command(row: sa.Row[Any]) -> Command:
    values = {name: getattr(row, name) for name in Command.__slots__}
    payload = None if row.payload is None else exact.loads(row.payload)
    return Command(**{**values, "payload": payload, "state": State(row.state)})
