"""What is known of a command's object before it is sent, so that a lost answer can be judged afterwards."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from models import exact, redaction
from models.bookkeeping import commands, inbox
from models.mirror import queries
from workers.connectors.commands import GoneType, value_at
from workers.errors import SetAside
from workers.ingest import failures

if TYPE_CHECKING:
    from models.bookkeeping.commands import Command
    from models.values import JsonObject, ObjectRef
    from workers.connectors.commands import Action, CommandClient
    from workers.context import ConnectionContext

_KEYS, _SHOWN, _DIGEST = "keys", "shown", "digest"
"""What `Command.before` holds: of a creation the objects that had its unique value already; of any other command what
the object showed at the places that it changes, and a hash of the whole object."""


def known_before(
    context: ConnectionContext, client: CommandClient, action: Action, command: Command
) -> JsonObject | None:
    """What `Command.before` keeps; None if nothing is known. Raises vendor errors: nothing has been written then."""
    payload = command.payload or {}
    created = action.creates(payload)
    if created is not None:
        return _keys_before(context, client, action, command, created)
    ref = command.ref
    if action.expected is None or ref is None:
        return None
    raw = _mirrored(context, ref) or _read(context, client, action, payload)
    if raw is None:
        return None
    with suppress(*failures.DECODING_ERRORS):  # it may have a form that is not known
        return {_SHOWN: {} if action.shown is None else action.shown(payload, raw), _DIGEST: _digest(raw)}
    return None


def is_as_before(context: ConnectionContext, command: Command, found: JsonObject) -> bool:
    """Whether the object is wholly as it was: a user who has undone the command has left a trace, as in its version."""
    return _digest(redaction.redact(found, context.omit)) == (command.before or {}).get(_DIGEST)


def shown_before(command: Command) -> JsonObject:
    """What the object showed before at the places that the command changes."""
    found: JsonObject = (command.before or {}).get(_SHOWN, {})
    return found


def had_its_value(command: Command, path: tuple[str, ...]) -> list[str] | None:
    """The keys of the objects that had the value at `path` before a creation was sent; None if nobody looked."""
    has_token = _token(command) in str(value_at(command.payload or {}, path))  # which no other object has
    found: list[str] | None = [] if has_token else (command.before or {}).get(_KEYS)
    return found


def unique_path(context: ConnectionContext, action: Action, command: Command, resource: str) -> tuple[str, ...] | None:
    """Where the field is that finds a new object again; None if there is none, or it was not set when accepted."""
    unique = context.unique_field(action, resource)
    value = None if unique is None else value_at(command.payload or {}, unique.path)
    if unique is None or not isinstance(value, str) or not value:
        return None
    return unique.path if _token(command) in value or not unique.appends else None


def _keys_before(
    context: ConnectionContext, client: CommandClient, action: Action, command: Command, created: str
) -> JsonObject | None:
    """Which objects have the caller's own unique value already; None where a token tells the new object."""
    payload, path = command.payload or {}, unique_path(context, action, command, created)
    if path is None or _token(command) in str(value_at(payload, path)):
        return None
    return {_KEYS: sorted(client.find(action, payload, path))}


def _mirrored(context: ConnectionContext, ref: ObjectRef) -> JsonObject | None:
    """The mirror's row; None if it has none, or a change is still to be fetched, as after a command just before."""
    resource = context.resources.get(ref.resource)
    if resource is None:
        return None
    with context.database.read() as tx:
        is_stale = inbox.has(tx, connection=context.name, ref=ref)
        return None if is_stale else queries.raw_of(tx, context.target(resource), ref.key)


def _read(context: ConnectionContext, client: CommandClient, action: Action, payload: JsonObject) -> JsonObject | None:
    """The object as the vendor shows it, without what the connection omits; None if it shows none."""
    try:
        found = client.read_back(action, payload)
    except SetAside:  # it may be written, although it cannot be read
        return None
    return None if isinstance(found, GoneType) else redaction.redact(found, context.omit)


def _digest(raw: JsonObject) -> str:
    return hashlib.sha256(exact.canonical(raw).encode()).hexdigest()


def _token(command: Command) -> str:
    return commands.token(command.connection, command.idempotency_key)
