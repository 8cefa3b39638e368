"""What an answer of Dilovod means: errors come as HTTP 200, without codes, so every answer is inspected."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any

from models import exact
from workers.connectors import http, streaming
from workers.connectors.dilovod.resources import ID
from workers.errors import Busy, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from models.values import JsonObject
    from workers.connectors.http import Streamed
    from workers.errors import Fate

_PAUSE = timedelta(seconds=30)
"""Public clients wait this long after the multithread answer; shorter pauses meet it again."""

_MAX_TEXT = 500
_TYPE_NAMES = {
    dict: "an empty object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    Decimal: "a number",
    NoneType: "null",
}
BLANKS = b" \t\r\n\xef\xbb\xbf"
"""JSON's blanks, and the byte order mark that a PHP file may begin with."""

_TAG = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


class GoneError(SetAside):
    """The vendor knows no object with this id. A fetch makes a tombstone of it; anywhere else it is a refusal."""


_ERROR_RULES: tuple[tuple[tuple[str, ...], Callable[[str], Fate]], ...] = (
    # One request at a time for each key (Dilovod help: "Багатопотокове звернення до API не підтримується").
    (("multithread",), lambda text: Busy(text, after=_PAUSE)),
    # Every object of the resource would be refused alike, so the resource is set aside and not its objects one by one.
    (("bad key",), lambda text: SetAside(text, whole_resource=True)),
    (("access to", "denied"), lambda text: SetAside(text, whole_resource=True)),
    (("object with id", "not found"), GoneError),
    (("object locked",), lambda text: TryLater(text, shuts_gate=False)),
)
"""Texts that all must occur, whatever their case -> what becomes of the work. Everything else is set aside."""


def raise_for_error(answer: Any, *, secrets: Collection[str] = ()) -> Any:
    """The answer itself, if it is no error; raises the error by its fate, in the vendor's own words without secrets."""
    error = _error_of(answer)
    if error is None:
        return answer
    text = _plain_text(error, secrets)
    for needles, make_error in _ERROR_RULES:
        if all(needle in text.lower() for needle in needles):
            raise make_error(text)
    raise SetAside(text)


def _error_of(answer: Any) -> Any:
    if not isinstance(answer, dict):
        return None
    if answer.get("error"):
        return answer["error"]
    if str(answer.get("status", "")).lower() == "error":
        return answer.get("errorMessage") or "error without a message"
    return None


def mask_secrets(text: str, secrets: Collection[str]) -> str:
    """What a stranger says may repeat what he was sent."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _plain_text(error: Any, secrets: Collection[str]) -> str:
    text = mask_secrets(error if isinstance(error, str) else exact.dumps(error), secrets)
    return exact.storable_text(" ".join(html.unescape(_TAG.sub(" ", text)).split())[:_MAX_TEXT])


def as_object(answer: Any) -> JsonObject:
    """The answer as an object."""
    if isinstance(answer, dict):
        return answer
    raise malformed_error(answer, "an object")


def rows(answer: Any) -> list[JsonObject]:
    """A `request`'s rows, from either form: a list of objects, or `columns` and `data` (assembleLinks false).

    `{}` is no empty list: nothing found is `[]`, and a reply that cannot be told must not delete anything.
    """
    if isinstance(answer, dict) and isinstance(answer.get("columns"), list) and isinstance(answer.get("data"), list):
        return [_row(answer["columns"], values) for values in answer["data"]]
    if isinstance(answer, list) and all(isinstance(row, dict) for row in answer):
        return answer
    raise malformed_error(answer, "a list of rows")


def _row(columns: list[Any], values: Any) -> JsonObject:
    if not isinstance(values, list) or len(values) != len(columns):
        raise malformed_error(values, f"a row of {len(columns)} values")
    return {str(column): value for column, value in zip(columns, values, strict=True)}


def read_head(streamed: Streamed) -> bytes:
    """A body up to its first character that says what kind of answer it is: `[` for rows."""
    read = b""
    while (byte := streamed.read(1)) and byte in BLANKS:
        read = b""
    return read + byte


def iter_rows(streamed: Streamed) -> Iterator[Any]:
    """The rows of a body whose head is read, as they arrive. TryLater where it breaks off or is not JSON."""
    try:
        yield from streaming.items(_Prepended(b"[", streamed))
    except streaming.Broken as error:
        raise TryLater(f"the answer is not JSON: {error}", shuts_gate=False) from None


class _Prepended:
    """A file of what was already read and what follows."""

    def __init__(self, before: bytes, rest: Streamed) -> None:
        self._before = before
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. ijson asks for none first, to learn what kind of file this is."""
        if size == 0 or not self._before:
            return self._rest.read(size)
        before, self._before = self._before, b""
        return before


def not_json_error(status: int, body: bytes, secrets: Collection[str]) -> TryLater:
    """What to raise for a page of a proxy, or half an object: of that nothing is repeated, it may be unfit to store."""
    words = http.words(mask_secrets(body.decode(errors="replace"), secrets).encode())
    detail = "it breaks off or has a mistake" if body.lstrip(BLANKS)[:1] in {b"{", b"["} else words
    return TryLater(f"HTTP {status}, and the answer is not JSON: {detail}", shuts_gate=False)


def malformed_error(answer: Any, expected: str) -> SetAside:
    """What to raise for an answer of another form than this vendor's."""
    return SetAside(f"malformed: {expected} was expected, not {describe(answer)}")


def describe(answer: Any) -> str:
    """The JSON type and an object's keys: what an answer holds may be what is never to be stored."""
    if isinstance(answer, dict) and answer:
        return exact.storable_text(f"an object with {', '.join(answer)}"[:_MAX_TEXT])
    return _TYPE_NAMES[type(answer)]


def header(answer: Any, key: str) -> JsonObject:
    """The header of a `getObject` answer. SetAside when it is another object's, or no object's at all."""
    found = as_object(answer).get("header")
    if not isinstance(found, dict):
        raise malformed_error(answer, "an object with a header")
    # PHP gives `[]` or false where an object is empty.
    parts = answer.get("tableParts") or {}
    if not isinstance(parts, dict) or any(part and not isinstance(part, dict | list) for part in parts.values()):
        raise malformed_error(parts, "an object of table parts")
    if link_id(found.get("id")) != key:
        raise SetAside(f"malformed: {key} was asked for, the answer is about {_describe_id(found.get('id'))}")
    return found


def _describe_id(value: Any) -> str:
    return link_id(value) if ID.fullmatch(link_id(value)) else describe(value)


def link_id(value: Any) -> str:
    """The id in a link, as `{"id","pr"}` (headers) or bare (rows); ids come as text or number."""
    return str(value.get("id") if isinstance(value, dict) else value)


def is_marked(value: Any) -> bool:
    """Whether `delMark` is set. Booleans are "0" and "1" (Dilovod help, API Dilovod, "Формати даних")."""
    return str(value) in {"1", "True"}
