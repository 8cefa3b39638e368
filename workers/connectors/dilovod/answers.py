"""Decodes Dilovod's answers. Errors are HTTP 200 without an error code, so every answer is tested by its text."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any

from models import exact, notation
from workers.connectors import http, objects, streaming
from workers.connectors.dilovod.resources import ID
from workers.errors import BusyError, RefusedError, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from models.values import JsonObject
    from workers.errors import VendorError

    _Rule = tuple[tuple[str, ...], Callable[[str], VendorError]]

_PAUSE = timedelta(seconds=30)
"""The pause after the multithread answer; public clients wait as long, and shorter pauses get it again."""

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
_TAG = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


_DENIED_FOR = timedelta(hours=1)
"""The wait after Dilovod has denied a single object: its rights may be given back, and nothing says when."""


class GoneError(SetAside):
    """No object has this id. A fetch turns it into a tombstone; any other request is refused by it."""


class UnknownError(TryLater):
    """An error text that is not known to be a refusal, and so may be gone at the next attempt."""

    def __init__(self, text: str) -> None:
        super().__init__(text, closes_gate=False)


def _denied(text: str) -> VendorError:
    """A role lacks the right to a resource, which concerns every object alike; or to the one that the text names."""
    if ID.search(text):
        return TryLater(text, after=_DENIED_FOR, closes_gate=False, refused=True)
    return SetAside(text, whole_resource=True)


_ERROR_RULES: tuple[_Rule, ...] = (
    # A second request with the same key (Dilovod help: "Багатопотокове звернення до API не підтримується").
    (("multithread",), lambda text: BusyError(text, after=_PAUSE)),
    # Dilovod would refuse every object alike, so the whole resource is parked.
    (("bad key",), lambda text: SetAside(text, whole_resource=True)),
    (("access to", "denied"), _denied),
    (("object with id", "not found"), GoneError),
    (("object locked",), lambda text: TryLater(text, closes_gate=False)),
)
"""(lower-case texts that must all occur, error to raise); any other error is an `UnknownError`."""

_WRITE_RULES: tuple[_Rule, ...] = (
    (("multithread",), lambda text: BusyError(text, after=_PAUSE, refused=True)),
    (("bad key",), lambda text: SetAside(text, whole_resource=True)),
    (("access to", "denied"), _denied),
    (("object locked",), lambda text: TryLater(text, closes_gate=False, refused=True)),  # a user has it open
)
"""The same for a write, which an error text says was not done; any other error is a `RefusedError`.

The first text begins the error: further on there may be the caller's own words, as the name of a good.
"""


def raise_for_error(answer: Any, *, secrets: Collection[str] = ()) -> Any:
    """The answer itself, unless it is an error: raises that by `_ERROR_RULES`, with Dilovod's text less secrets."""
    error = _error_of(answer)
    if error is None:
        return answer
    text = _plain_text(error, secrets)
    raise _by_rules(text, _ERROR_RULES) or UnknownError(text)


def raise_for_write_error(answer: Any, *, secrets: Collection[str] = ()) -> Any:
    """The answer of a write itself, unless it is an error: raises that by `_WRITE_RULES`."""
    error = _error_of(answer) or _write_error_of(answer)
    if error is None:
        return answer
    text = _plain_text(error, secrets)
    rules = [rule for rule in _WRITE_RULES if text.lower().startswith(rule[0][0])]
    raise _by_rules(text, rules) or RefusedError(_with_empty_fields(text))


def _by_rules(text: str, rules: Iterable[_Rule]) -> VendorError | None:
    return next((make(text) for needles, make in rules if all(needle in text.lower() for needle in needles)), None)


def _write_error_of(answer: Any) -> Any:
    """The error in the forms that only writes have: a bare text, or messages to the user and no word of success.

    The help says that a write returns the id, else what went wrong.
    """
    if isinstance(answer, str):
        return None if not answer.strip() or is_success(answer) or ID.fullmatch(answer.strip()) else answer
    if not isinstance(answer, dict) or is_success(answer) or _id_in(answer):
        return None
    messages = answer.get("clientMessages")
    return next(
        (
            message.get("data") or "error without a message"
            for message in (messages if isinstance(messages, list) else ())
            if isinstance(message, dict) and str(message.get("type")).lower() == "error"
        ),
        None,
    )


def _with_empty_fields(text: str) -> str:
    """The text, and which fields to fill if it says that some are empty: `emptyRequiredReq firm (Label)|unit (…)`."""
    _, found, listed = text.partition("emptyRequiredReq")
    fields = [words[0] for each in listed.split("|") if (words := each.split())]
    return f"{text}; fill in {', '.join(fields)}" if found and fields else text


def is_success(answer: Any) -> bool:
    """Whether Dilovod says that a write was done: `"ok"`, `{"result":"ok"}`, or of a `call` `{"status":"success"}`."""
    if isinstance(answer, dict):
        return is_success(answer.get("result")) or is_success(answer.get("status"))
    return isinstance(answer, str) and answer.strip().lower() in {"ok", "success"}


def written_id(answer: Any) -> str:
    """The id of what was written; "" if the answer names none, as for a register's record, whose id is 0.

    TryLater for an answer that does not say that it was written.
    """
    found = _id_in(answer)
    if not found and not is_success(answer):
        raise malformed_error(answer, "an id or ok")
    return found


def _id_in(answer: Any) -> str:
    places = [answer]
    if isinstance(answer, dict):
        data = answer.get("data")
        within = [answer, data] if isinstance(data, dict) else [answer]
        places = [data, *(place for each in within for place in (each.get("id"), each.get("header")))]
        places += [place["id"] for place in places if isinstance(place, dict) and "id" in place]
    return next((key for place in places if ID.fullmatch(key := link_id(place))), "")


def _error_of(answer: Any) -> Any:
    if not isinstance(answer, dict):
        return None
    if answer.get("error"):
        return answer["error"]
    if str(answer.get("status", "")).lower() == "error":
        return answer.get("errorMessage") or "error without a message"
    return None


def redact(text: str, secrets: Collection[str]) -> str:
    """The text with each secret replaced: an error may repeat the request."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _plain_text(error: Any, secrets: Collection[str]) -> str:
    text = redact(error if isinstance(error, str) else http.error_words({"error": error}), secrets)
    return exact.storable_text(" ".join(html.unescape(_TAG.sub(" ", text)).split())[:_MAX_TEXT])


def as_object(answer: Any) -> JsonObject:
    """The answer, if it is a JSON object; else raises TryLater."""
    if isinstance(answer, dict):
        return answer
    raise malformed_error(answer, "an object")


def rows(answer: Any) -> list[Any]:
    """The rows of a `request`: from a list of objects, or from `columns` and `data` (assembleLinks false).

    A row that cannot be read is an `UnreadableRecord`. TryLater for anything else, `{}` included: an empty result is
    `[]`, and a malformed reply must not delete objects.
    """
    if isinstance(answer, dict) and isinstance(answer.get("columns"), list) and isinstance(answer.get("data"), list):
        return [_row(answer["columns"], values) for values in answer["data"]]
    if isinstance(answer, list) and all(isinstance(row, dict | streaming.UnreadableRecord) for row in answer):
        return answer
    raise malformed_error(answer, "a list of rows")


def _row(columns: list[Any], values: Any) -> Any:
    if isinstance(values, streaming.UnreadableRecord):
        return values
    if not isinstance(values, list) or len(values) != len(columns):
        raise malformed_error(values, f"a row of {len(columns)} values")
    return {str(column): value for column, value in zip(columns, values, strict=True)}


def iter_rows(body: http.Peeked) -> Iterator[Any]:
    """The rows of a list as they arrive. TryLater if it is incomplete or not JSON."""
    try:
        yield from streaming.items(body)
    except streaming.BrokenReplyError as error:
        raise TryLater(f"the answer is not JSON: {error}", closes_gate=False) from None


def not_json_error(status: int, body: bytes, secrets: Collection[str]) -> TryLater:
    """The error for a body that is not JSON."""
    quoted = http.excerpt(body, redact=lambda text: redact(text, secrets), is_error=status != 200)  # noqa: PLR2004
    return TryLater(f"HTTP {status}, and the answer is not JSON: {quoted or 'it is empty'}", closes_gate=False)


def malformed_error(answer: Any, expected: str) -> TryLater:
    """The error for an answer of an unexpected type: a single stray one proves nothing."""
    return TryLater(f"malformed: {expected} was expected, not {describe(answer)}", closes_gate=False)


def describe(answer: Any) -> str:
    """The JSON type, and an object's keys; never values, which may be private."""
    if isinstance(answer, dict) and answer:
        return exact.storable_text(f"an object with {', '.join(answer)}"[:_MAX_TEXT])
    return _TYPE_NAMES[type(answer)]


def header(answer: Any, key: str) -> JsonObject:
    """The header of a `getObject` answer. TryLater if it is malformed or belongs to another object than `key`."""
    found = as_object(answer).get("header")
    if not isinstance(found, dict):
        raise malformed_error(answer, "an object with a header")
    # PHP encodes an empty object as `[]` or false.
    parts = answer.get("tableParts") or {}
    if not isinstance(parts, dict) or any(part and not isinstance(part, dict | list) for part in parts.values()):
        raise malformed_error(parts, "an object of table parts")
    if link_id(found.get("id")) != key:
        described = _describe_id(found.get("id"))
        raise TryLater(f"malformed: asked for {key}, the answer describes {described}", closes_gate=False)
    return found


def _describe_id(value: Any) -> str:
    return link_id(value) if ID.fullmatch(link_id(value)) else describe(value)


def link_id(value: Any) -> str:
    """The id in a link: `{"id","pr"}` in headers, the bare id in rows; ids are text or numbers. "" for neither."""
    return objects.key_text(value.get("id") if isinstance(value, dict) else value, is_number=True)


def is_marked(value: Any) -> bool:
    """Whether `delMark` is set. Booleans are "0" and "1" (Dilovod help, API Dilovod, "Формати даних")."""
    return notation.boolean(str(value)) is True
