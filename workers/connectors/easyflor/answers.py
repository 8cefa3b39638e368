"""Decodes EasyFlor's replies: objects as they arrive, less secrets, and refusals as errors.

Debtors contain the password hashes and salts of their webshop users. So errors never quote a body that may hold
objects, and every object leaves this module without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from models import exact
from models.notation import PlainNames
from workers.connectors import http, objects, streaming
from workers.errors import ClosedError, SetAside, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workers.connectors.contract import Resource
    from workers.connectors.easyflor.options import Options

OK = 200
_BAD_REQUEST = 400
_LOGIN_REFUSED = frozenset({401, 403})

_GONE_ERRORS = frozenset({"documentnotfound", "argumentnotfound"})
_CLOSED_ERROR = "apiopeninghoursexception"
_OPENING_HOUR = 18
"""The documented opening hour, UTC; used if EasyFlor is closed although the configured hours say that it is open."""

_SECRET = "password"  # noqa: S105 - part of the names of secret fields
_PERSONAL = frozenset({"dateofbirth", "nationality", "gender"})
_CONTAINERS = (dict, list)

Redact = Callable[[str], str]


class BadRequestError(SetAside):
    """A 400. If the address contains a day, its date format may be the cause."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A reply other than 200, with `{"error", "message"}` if EasyFlor itself sent it (EasyFlor API v1, Status codes).

    `error`: in lower case, "" if the body has none. `message`: for a person, without secrets. `is_easyflors`: whether
    the body is such an object, and not the page of whoever stands between.
    """

    status: int
    error: str
    message: str
    is_easyflors: bool

    @classmethod
    def decode(cls, status: int, body: bytes, *, redact: Redact) -> ErrorReply:
        """The reply with its body decoded. `redact` removes secrets from a text."""
        try:
            decoded = exact.loads_leniently(body)
        except ValueError:
            decoded = None
        fields = objects.folded(decoded)
        error = fields.get("error")
        message = f"HTTP {status}: {http.excerpt(body, redact=redact, is_error=True)}".rstrip(": ")
        is_easyflors = any(isinstance(fields.get(name), str) and fields[name] for name in ("error", "message"))
        return cls(status, error.strip().lower() if isinstance(error, str) else "", message, is_easyflors)

    @property
    def is_gone(self) -> bool:
        """Whether EasyFlor says that the object does not exist."""
        return self.status == _BAD_REQUEST and self.error in _GONE_ERRORS

    @property
    def is_closed(self) -> bool:
        """Whether the request is allowed in opening hours only."""
        return self.status == _BAD_REQUEST and self.error == _CLOSED_ERROR

    def to_error(self, options: Options, now: datetime, *, of_object: bool = False) -> VendorError:
        """The error to raise. `now`: EasyFlor's clock, aware. `of_object`: the request was for a single object."""
        if self.is_closed:
            return ClosedError(self.message, until=next_opening(options, now))
        if not self.is_easyflors:
            return self.to_foreign_error()
        if self.status in _LOGIN_REFUSED:
            refused = f"{options.username} has no access to the database {options.database}, even after a new login"
            return SetAside(f"{self.message}: {refused}", whole_resource=True)
        if self.status == _BAD_REQUEST:
            return BadRequestError(self.message)
        return SetAside(self.message, whole_resource=not of_object)

    def to_foreign_error(self, *, closes_gate: bool = False) -> TryLater:
        """The error for a reply that EasyFlor did not write: it refuses nothing, whatever its status."""
        return TryLater(f"{self.message}: not in EasyFlor's own words", closes_gate=closes_gate)


def next_opening(options: Options, now: datetime) -> datetime:
    """When full syncs are allowed again, after EasyFlor has refused one as closed; aware."""
    configured = options.closed_until(now)
    if configured is not None:
        return configured
    today = now.astimezone(UTC).replace(hour=_OPENING_HOUR, minute=0, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


def records(reply: http.Streamed, *, keep_personal: bool, glance: streaming.Glance | None = None) -> Iterator[Any]:
    """The objects of an array as they arrive, never all in memory; numbers are int or Decimal.

    TryLater if the body is not an array, or incomplete; SetAside for an error of EasyFlor's. `glance`: as for
    `streaming.items`; made by `glance`.
    """
    body = http.Peeked(reply)
    if body.first == b"[":
        return _items(body, keep_personal=keep_personal, glance=glance)
    whole = body.read(-1)
    found = objects.enveloped(whole)
    if found is None:
        raise _not_a_list(whole)
    return (remove_secrets(item, keep_personal=keep_personal) for item in found)


def _items(body: http.Peeked, *, keep_personal: bool, glance: streaming.Glance | None = None) -> Iterator[Any]:
    try:
        for item in streaming.items(body, glance):
            is_sent = isinstance(item, streaming.SentRecord)
            yield item if is_sent else remove_secrets(item, keep_personal=keep_personal)
    except streaming.BrokenReplyError:
        # The parser's message is left out, because it may quote the body.
        raise TryLater("the answer is incomplete or not JSON", closes_gate=False) from None


def decode_bounded(reply: http.Streamed, *, limit: int, keep_personal: bool) -> Any:
    """The reply decoded, of any JSON type. SetAside for an array of more than `limit` objects."""
    body = http.Peeked(reply)
    if body.first != b"[":
        return decode_whole(body.read(-1), keep_personal=keep_personal)
    found = list(islice(streaming.readable(_items(body, keep_personal=keep_personal)), limit + 1))
    if len(found) > limit:
        raise SetAside(f"the answer has more than {limit} objects: ask for what changed since a day")
    return found


def decode_whole(body: bytes, *, keep_personal: bool, redact: Redact = str) -> Any:
    """A whole body decoded. TryLater if it is not JSON. `redact` removes secrets from a text."""
    try:
        return remove_secrets(exact.loads_leniently(body), keep_personal=keep_personal)
    except ValueError:
        raise _not_json(body, redact) from None


def remove_secrets(item: Any, *, keep_personal: bool) -> Any:
    """Remove secrets from the value in place, and personal data unless kept: at any depth, in upper and lower case.

    Iterative, because a RecursionError on deep nesting could let a secret pass.
    """
    waiting = [item]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if not _OTHER_NAMES[keep_personal].cover(value):
                for name in [name for name in value if _is_removed(name, keep_personal=keep_personal)]:
                    del value[name]
            waiting += [each for each in value.values() if isinstance(each, _CONTAINERS)]
        elif isinstance(value, list):
            waiting += [each for each in value if isinstance(each, _CONTAINERS)]
    return item


def glance(resource: Resource, *, keep_personal: bool) -> streaming.Glance | None:
    """The fields by which an object is judged without being decoded; None if it takes the whole object."""
    if resource.keyed_by_row:
        return None
    return streaming.Glance(resource.key, redact=partial(without_secrets, keep_personal=keep_personal))


def _member(name: bytes) -> re.Pattern[bytes]:
    """A member of this name with a text or null, and the comma that follows."""
    return re.compile(rb'(?<!\\)"%b"\s*:\s*(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|null)\s*(?P<comma>(?:,\s*)?)' % name)


_SECRET_MEMBERS = {_SECRET.encode(): _member(rb"[Pp]assword\w*")}
_PERSONAL_MEMBERS = {
    b"dateofbirth": _member(rb"[Dd]ateOfBirth"),
    b"nationality": _member(rb"[Nn]ationality"),
    b"gender": _member(rb"[Gg]ender"),
}
_ESCAPED_LETTER = re.compile(rb"\\u(?:00[4-7]|017[Ff]|212[Aa])")
_LETTERS_BY_CASE = "\u017f".encode(), "\u212a".encode()
"""Letters beyond ASCII that are `s` and `k` without case."""

_SHARP_S = re.compile(rb"word(?:(?<=\xc3\x9fword)|(?<=\xe1\xba\x9eword)|(?<=\\u00dfword)|(?<=\\u1e9eword))")
"""In lower case: `ss` without case, where it would make a secret's name; elsewhere it is usual in German names.

It begins with the rare word, which is searched for at C speed.
"""


def without_secrets(text: bytes, *, keep_personal: bool) -> bytes | None:
    """Well-formed JSON without the members that `remove_secrets` removes; None if it may still hold one.

    An object of this text is decoded without `remove_secrets`; later only `Options.secrets`, the documented names, are
    redacted. By a search for the names, because to match each name of a long text takes several times as long.
    """
    patterns = _SECRET_MEMBERS if keep_personal else _SECRET_MEMBERS | _PERSONAL_MEMBERS
    members = _members(text, patterns)
    kept = None if members is None else _without(text, members)
    if kept is None or any(letter in kept for letter in _LETTERS_BY_CASE):
        return None
    return None if _ESCAPED_LETTER.search(kept) or _SHARP_S.search(kept.lower()) else kept


def _members(text: bytes, patterns: Mapping[bytes, re.Pattern[bytes]]) -> list[re.Match[bytes]] | None:
    """The members with these names, in their order; None if one of the names stands anywhere else."""
    lowered = text.lower()
    members = []
    for name, pattern in patterns.items():
        at = lowered.find(name)
        while at >= 0:
            member = pattern.match(text, at - 1)
            if member is None:
                return None
            members.append(member)
            at = lowered.find(name, member.end())
    return sorted(members, key=re.Match.start)


def _without(text: bytes, members: Sequence[re.Match[bytes]]) -> bytes | None:
    """The JSON without these members: itself if there are none; None if one of them begins inside another."""
    if not members:
        return text
    kept, end = bytearray(), 0
    for member in members:
        if member.start() < end:
            return None
        kept += text[end : member.start()]
        end = member.end()
        if not member["comma"]:  # the last of its object: the comma before it goes, too
            while kept[-1:].isspace():
                del kept[-1]
            if kept.endswith(b","):
                del kept[-1]
    kept += text[end:]
    return bytes(kept)


def _is_removed(name: str, *, keep_personal: bool) -> bool:
    name = name.casefold()
    return _SECRET in name or (name in _PERSONAL and not keep_personal)


_OTHER_NAMES = {
    keep_personal: PlainNames(partial(_is_removed, keep_personal=keep_personal)) for keep_personal in (False, True)
}


def _not_a_list(body: bytes) -> VendorError:
    try:
        decoded = exact.loads_leniently(body)
    except ValueError:
        return _not_json(body)
    if isinstance(decoded, dict) and decoded and objects.folded(decoded).keys() <= {"error", "message"}:
        return SetAside(f"the answer is not a list: {http.excerpt(body)}")
    found = f"an object with {objects.field_names(decoded)}" if isinstance(decoded, dict) else type(decoded).__name__
    return TryLater(f"the answer is not a list but {found}", closes_gate=False)


def _not_json(body: bytes, redact: Redact = str) -> TryLater:
    """The error for a proxy's page or half a body."""
    detail = f": {http.excerpt(body, redact=redact)}".removesuffix(": ")
    return TryLater(f"the answer is incomplete or not JSON{detail}", closes_gate=False)
