"""What a reply of EasyFlor means: its objects as they arrive, without secrets, and the fate of its refusals.

Debtors come with the password hashes and salts of their webshop users, so no error repeats an answer that may hold
objects, and nothing leaves this module before they are gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from models import exact
from workers.connectors import http, streaming
from workers.errors import Closed, Fate, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.values import JsonObject
    from workers.connectors.easyflor.options import Options

OK = 200
_BAD_REQUEST = 400
_LOGIN_REFUSED = frozenset({401, 403})

_GONE_ERRORS = frozenset({"documentnotfound", "argumentnotfound"})
_CLOSED_ERROR = "apiopeninghoursexception"
_OPENING_HOUR = 18
"""The hour, UTC, at which the vendor opens by his own document, where the configured hours call him open."""

_SECRET = "password"  # noqa: S105 - the word that no field's name may have in it
_PERSONAL = frozenset({"dateofbirth", "nationality", "gender"})

Mask = Callable[[str], str]


class BadRequestError(SetAside):
    """A 400 that is the question's fault: where a day stands in the address, the day's form may be."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An answer that is not 200: `{"error", "message"}` where it is the vendor's own (EasyFlor API v1, Status codes).

    `error`: in lower case, "" where the body says none. `words`: for a person, without secrets.
    """

    status: int
    error: str
    message: str

    @classmethod
    def decode(cls, status: int, body: bytes, *, mask: Mask) -> ErrorReply:
        """What the body says. `hidden` takes secrets out of a text."""
        try:
            decoded = exact.loads(body)
        except ValueError:
            decoded = None
        fields = {name.lower(): value for name, value in decoded.items()} if isinstance(decoded, dict) else {}
        parts = [fields[name] for name in ("error", "message") if isinstance(fields.get(name), str) and fields[name]]
        if decoded is None or isinstance(decoded, str):
            parts = [decoded or body.decode(errors="replace")]
        error = fields.get("error")
        message = f"HTTP {status}: {http.words(mask(': '.join(parts)).encode())}".rstrip(": ")
        return cls(status, error.strip().lower() if isinstance(error, str) else "", message)

    @property
    def is_gone(self) -> bool:
        """There is no such object."""
        return self.status == _BAD_REQUEST and self.error in _GONE_ERRORS

    @property
    def is_closed(self) -> bool:
        """Too large a request for this time of the day."""
        return self.status == _BAD_REQUEST and self.error == _CLOSED_ERROR

    def to_error(self, options: Options, now: datetime, *, of_object: bool = False) -> Fate:
        """What happens to the work. `now`: the vendor's clock, aware. `of_object`: one object alone was asked for."""
        if self.is_closed:
            return Closed(self.message, until=next_opening(options, now))
        if self.status in _LOGIN_REFUSED:
            refused = f"{options.username} is not let into the database {options.database}, after a new login neither"
            return SetAside(f"{self.message}: {refused}", whole_resource=True)
        if self.status == _BAD_REQUEST:
            return BadRequestError(self.message)
        return SetAside(self.message, whole_resource=not of_object)


def next_opening(options: Options, now: datetime) -> datetime:
    """When collections can be read in full again, for a vendor who just said that he is closed."""
    configured = options.closed_until(now)
    if configured is not None:
        return configured
    today = now.astimezone(UTC).replace(hour=_OPENING_HOUR, minute=0, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


def records(reply: http.Streamed, *, keep_personal: bool) -> Iterator[Any]:
    """The objects of a bare array as they arrive, never held whole; numbers are int or Decimal.

    SetAside for JSON that is no array, TryLater for what is no JSON or breaks off.
    """
    body = http.Peeked(reply)
    if body.first != b"[":
        raise _not_a_list(body.read(-1))
    return _items(body, keep_personal=keep_personal)


def _items(body: http.Peeked, *, keep_personal: bool) -> Iterator[Any]:
    try:
        for item in streaming.items(body):
            yield remove_secrets(item, keep_personal=keep_personal)
    except streaming.Broken:
        # Not its words: they may repeat what stands there.
        raise TryLater("the answer breaks off or is no JSON", shuts_gate=False) from None


def decode_bounded(reply: http.Streamed, *, limit: int, keep_personal: bool) -> Any:
    """Whatever the reply holds, decoded. SetAside for an array of more than `most` objects."""
    body = http.Peeked(reply)
    if body.first != b"[":
        return decode_whole(body.read(-1), keep_personal=keep_personal)
    found = list(islice(_items(body, keep_personal=keep_personal), limit + 1))
    if len(found) > limit:
        raise SetAside(f"the answer has more than {limit} objects: ask for what changed since a day")
    return found


def decode_whole(body: bytes, *, keep_personal: bool, mask: Mask = str) -> Any:
    """A body that is held whole, decoded. TryLater for what is no JSON. `hidden` takes secrets out of a text."""
    try:
        return remove_secrets(exact.loads(body), keep_personal=keep_personal)
    except ValueError:
        raise _not_json(body, mask) from None


def remove_secrets(item: Any, *, keep_personal: bool) -> Any:
    """The decoded value without secrets and, unless they are wanted, personal data: at any depth, in any case.

    Changed in place, and walked with a list of our own: no nesting may end in an error that lets a secret pass.
    """
    waiting = [item]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for name in [name for name in value if _is_removed(name.casefold(), keep_personal=keep_personal)]:
                del value[name]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return item


def _is_removed(name: str, *, keep_personal: bool) -> bool:
    return _SECRET in name or (name in _PERSONAL and not keep_personal)


def as_object(item: Any) -> JsonObject:
    """The object, or what stands in its place, as an object."""
    return item if isinstance(item, dict) else {"value": item}


def _not_a_list(body: bytes) -> Fate:
    try:
        decoded = exact.loads(body)
    except ValueError:
        return _not_json(body)
    if isinstance(decoded, dict) and {name.lower() for name in decoded} <= {"error", "message"}:
        return SetAside(f"the answer is no list: {http.words(body)}")
    if isinstance(decoded, dict):
        return SetAside(f"the answer is no list but an object with {field_names(decoded)}")
    return SetAside(f"the answer is no list but a {type(decoded).__name__}")


def _not_json(body: bytes, mask: Mask = str) -> TryLater:
    """A proxy's page, half a body. Its words are repeated only where it does not even begin like an object."""
    begins = body.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    detail = f": {http.words(body, hidden=mask)}" if begins in {b"", b"<"} else ""
    return TryLater(f"the answer breaks off or is no JSON{detail}".removesuffix(": "), shuts_gate=False)


def field_names(record: JsonObject) -> str:
    """The names of a record's fields, for a person: never their values."""
    return ", ".join(sorted(record)[:20]) or "no fields"
