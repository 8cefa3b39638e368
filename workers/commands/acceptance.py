"""Checks a command before it is stored, all of it, so that what is accepted can be sent.

The order of the checks: the key, the form, the action, whether it is allowed, then the arguments: every mistake of
theirs at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn

from models import exact, failpoints, redaction
from models.bookkeeping import commands
from models.bookkeeping.commands import KeyReusedError, NewCommand, TooManyError
from models.failpoints import Point
from models.settings.connections import TakesCommands
from models.settings.messages import did_you_mean
from models.values import ObjectRef
from workers.commands import schemas
from workers.connectors.commands import TOKEN_LENGTH, Violation, value_at, with_value_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.bookkeeping.commands import Command
    from models.values import JsonObject
    from workers.connectors.commands import Action
    from workers.context import ConnectionContext

LARGEST_BODY = 512 * 2**10
"""Bytes of a command as it is received."""

LONGEST_KEY = 255
"""Characters of an idempotency key."""

_MAX_VIOLATIONS = 100
_SAFE_INTEGER = 2**53
_LONGEST_NUMBER = 100
"""Characters of a number; more digits than a vendor could keep."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller wants: the action, the resource where a vendor has it beside the action, the arguments."""

    action: str
    resource: str | None
    arguments: JsonObject

    @property
    def digest(self) -> bytes:
        """A hash of its values: the order of fields and how a number is written are nothing."""
        content = {"action": self.action, "resource": self.resource, "arguments": self.arguments}
        return hashlib.sha256(exact.canonical(content).encode(errors="surrogatepass")).digest()


class RejectedError(Exception):
    """The command is not accepted: nothing is stored, nothing is sent.

    `status`: of HTTP. `code`: for programs. `violations`: every mistake in the arguments.
    """

    def __init__(self, status: int, code: str, message: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.violations = violations


def parse(body: bytes) -> Request:
    """A request as it is POSTed: `{"action", "resource"?, "arguments"}`. Raises `RejectedError`."""
    if len(body) > LARGEST_BODY:
        raise RejectedError(413, "too_large", f"a command has at most {LARGEST_BODY} bytes")
    decoded = decode(body)
    if not isinstance(decoded, dict) or not decoded.keys() <= {"action", "resource", "arguments"}:
        raise RejectedError(400, "malformed", 'the body is {"action": …, "resource": …, "arguments": {…}}')
    action, resource, arguments = decoded.get("action"), decoded.get("resource"), decoded.get("arguments")
    if not isinstance(action, str) or not isinstance(resource, str | None) or not isinstance(arguments, dict):
        message = "`action` is a text, `arguments` an object, and `resource` a text or left out"
        raise RejectedError(400, "malformed", message)
    return Request(action, resource, arguments)


def decode(text: bytes | str) -> Any:
    """JSON that two readers read alike. Raises `RejectedError` for a name twice in an object, or an absurd number."""
    try:
        return json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_object,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError):
        raise RejectedError(400, "malformed", "it is not JSON in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RejectedError(400, "malformed", "an object has the same name twice: it is not clear which one counts")
    return found


def _number(text: str) -> int | Decimal:
    found = exact.number(text) if len(text) <= _LONGEST_NUMBER else text
    return _no_number(text) if isinstance(found, str) else found


def _no_number(_: str) -> NoReturn:
    raise RejectedError(400, "malformed", "a number is too long, too large, or none at all")


def check_key(key: str | None) -> str:
    """The idempotency key, if it is one. Raises `RejectedError`."""
    if key is None:
        message = "send an Idempotency-Key of your own: the same command with the same key is sent once"
        raise RejectedError(400, "no_idempotency_key", message)
    if not 0 < len(key) <= LONGEST_KEY or not all("!" <= character <= "~" for character in key):
        message = f"an Idempotency-Key has 1 to {LONGEST_KEY} visible ASCII characters and no space"
        raise RejectedError(400, "idempotency_key", message)
    return key


def prepare(context: ConnectionContext, request: Request, *, key: str, caller: str) -> NewCommand:
    """Check everything that can be known before it is sent. Raises `RejectedError`."""
    check_key(key)
    action = find_action(context, request)
    violations = _violations(action, request.arguments)
    if not violations:
        arguments, violations = _with_token(context, action, request.arguments, key)
    if violations:
        raise RejectedError(422, "arguments", _summary(action, violations), violations[:_MAX_VIOLATIONS])
    redacted = exact.storable(redaction.redact(request.arguments, context.omit))
    return NewCommand(
        connection=context.name,
        action=action.name,
        named=action.resource,
        resource=action.creates(arguments),
        ref=_storable_ref(action.subject(arguments)),
        idempotency_key=key,
        digest=request.digest,
        arguments=redacted,
        payload=arguments,
        caller=caller,
    )


def known(context: ConnectionContext, request: Request, *, key: str) -> Command | None:
    """The command that has this key, whatever is allowed now. Raises `RejectedError` if its content is another."""
    with context.database.autocommit() as tx:
        try:
            return commands.same_key(tx, connection=context.name, idempotency_key=key, digest=request.digest)
        except KeyReusedError as reused:
            raise _key_reused(reused) from None


def _key_reused(reused: KeyReusedError) -> RejectedError:
    message = f"this Idempotency-Key belongs to command {reused.id}, which has other content"
    return RejectedError(422, "key_reused", message)


def store(context: ConnectionContext, new: NewCommand, *, limited: bool = True) -> tuple[Command, bool]:
    """Store a command; returns it as it stands, and whether it is new. Raises `RejectedError`.

    `limited`: the settings' `commands_per_minute` apply.
    """
    per_minute = allowed_options(context).commands_per_minute if limited else None
    try:
        with context.database.begin() as tx:
            stored = commands.accept(tx, new, per_minute=per_minute)
            failpoints.hit(Point.COMMAND_INSERTED)
    except KeyReusedError as reused:
        raise _key_reused(reused) from None
    except TooManyError:
        message = f"more than {per_minute} commands in a minute; send it again later (`commands_per_minute`)"
        raise RejectedError(429, "too_many", message) from None
    failpoints.hit(Point.COMMAND_ACCEPTED)
    return stored


def allowed_options(context: ConnectionContext) -> TakesCommands:
    """The connection's options, if its system takes commands. Raises `RejectedError`."""
    if not isinstance(context.options, TakesCommands) or not context.actions:
        raise RejectedError(404, "takes_no_commands", f"{context.options.system} takes no commands")
    return context.options


def allowed_actions(context: ConnectionContext) -> list[Action]:
    """The actions that the connection's `commands` allows."""
    allowed = set(allowed_options(context).commands)
    return [each for each in context.actions.values() if not allowed.isdisjoint({each.name, each.full_name})]


def find_action(context: ConnectionContext, request: Request) -> Action:
    """The action that is asked for, if it is known and allowed. Raises `RejectedError`."""
    allowed_options(context)
    names = sorted({name for name, _ in context.actions})
    if request.action not in names:
        guess = did_you_mean(request.action, names) or ";"
        raise RejectedError(404, "unknown_action", f"there is no such action{guess} it has {', '.join(names)}")
    resources = sorted(resource for name, resource in context.actions if name == request.action and resource)
    action = context.actions.get((request.action, request.resource))
    if action is None:
        if not resources:
            raise RejectedError(404, "unknown_resource", f"{request.action} names no `resource` beside it")
        guess = did_you_mean(request.resource or "", resources) or ";"
        wrong = f"{request.action} has no such `resource`{guess} it has"
        message = f"{wrong if request.resource else f'{request.action} needs a `resource`:'} {', '.join(resources)}"
        raise RejectedError(404, "unknown_resource", message)
    if action not in allowed_actions(context):
        message = f'the connection does not allow it; add "{action.full_name}" to its `commands`'
        raise RejectedError(403, "not_allowed", message)
    return action


def _violations(action: Action, arguments: JsonObject) -> list[Violation]:
    if not exact.is_shallow(arguments):
        return [Violation("", "nested too deeply")]
    # First, because the validator takes no such texts.
    found = list(_unstorable(arguments, ()))
    return found or schemas.violations(action, arguments) or list(action.check(arguments))


def _unstorable(value: Any, path: tuple[str, ...]) -> Iterator[Violation]:
    """What would not arrive as it was sent: NUL, half a character, a number that a float cannot hold."""
    if isinstance(value, dict):
        for name, item in value.items():
            if _is_broken_text(name):
                yield Violation(".".join(path), "a field's name holds NUL or half a character (a lone surrogate)")
            else:
                yield from _unstorable(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unstorable(item, (*path, str(number)))
    elif isinstance(value, str):
        if _is_broken_text(value):
            yield Violation(".".join(path), "holds NUL or half a character (a lone surrogate)")
    elif isinstance(value, int | Decimal) and not isinstance(value, bool) and _loses_digits(value):
        yield Violation(".".join(path), "has more digits than a JSON number keeps on its way; write it as a text")


def _is_broken_text(text: str) -> bool:
    return "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)


def _loses_digits(value: int | Decimal) -> bool:
    if isinstance(value, int):
        return abs(value) > _SAFE_INTEGER
    try:
        return Decimal(repr(float(value))) != value
    except OverflowError:
        return True


def _with_token(
    context: ConnectionContext, action: Action, arguments: JsonObject, key: str
) -> tuple[JsonObject, list[Violation]]:
    """The arguments with the token by which a new object is found again, where the settings name a field for it."""
    created = action.creates(arguments)
    unique = None if created is None else context.unique_field(action, created)
    if unique is None:
        return arguments, []
    held, path = value_at(arguments, unique.path), ".".join(unique.path)
    if not isinstance(held, str | None):
        return arguments, [Violation(path, "write it as a text: by the settings' `unique` it finds the object")]
    text = held or ""
    if text.strip() and not unique.appends:
        return arguments, []
    token = commands.token(context.name, key)
    if len(text) + bool(text) + TOKEN_LENGTH > unique.longest:
        if unique.appends:
            room = unique.longest - TOKEN_LENGTH - 1
            return arguments, [Violation(path, f"at most {room} characters: a token is added that finds it again")]
        return arguments, [Violation(path, "is required: `unique` in the settings says that it finds the object again")]
    return with_value_at(arguments, unique.path, f"{text} {token}".strip()), []


def _storable_ref(ref: ObjectRef | None) -> ObjectRef | None:
    return None if ref is None else ObjectRef(ref.resource, exact.storable_text(ref.key))


def _summary(action: Action, violations: Sequence[Violation]) -> str:
    count = "one mistake" if len(violations) == 1 else f"{len(violations)} mistakes"
    return f"the arguments of {action.full_name} have {count}"
