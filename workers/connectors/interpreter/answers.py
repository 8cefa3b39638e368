"""What a reply of Lagerkoll means: an answer, a refusal in his words, or a doubt whether he did what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from models import exact
from workers.connectors import http
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from models.values import JsonObject

TOO_MANY = "900429"

_NO_ERROR = ("", "0")
_CREDENTIALS = "900001"
_NOT_ENABLED = "909003"
_EVERY_DOCUMENT = frozenset({_CREDENTIALS, _NOT_ENABLED})
"""Every document would be refused alike."""

_RETRY = "`erpmirror parked retry` sends it again"
_REMEDIES = {
    _CREDENTIALS: "check store and api_key (or user_id and user_token), and that no proxy in front drops headers "
    "with an underscore in their name",
    "900101": f"look at the document, or ask Lagerkoll what the matter is; {_RETRY}",
    "909001": f"add the document's supplier in Lagerkoll; then {_RETRY}",
    "909002": f"hand the document in once more with an order that Lagerkoll has; then {_RETRY}",
    _NOT_ENABLED: "have the Interpreter activated for this store in Lagerkoll",
}
"""What to do about each documented errorCode (Interpreter API, Errors)."""


@dataclass(frozen=True, slots=True)
class Error:
    """The vendor's error: its code in digits, and what he says of it."""

    code: str
    says: str


def error(body: bytes) -> Error | None:
    """The error that a body tells, in any spelling of its names; None where it tells none.

    `{"errorCode": 900101, "errorMessage": text, "errorField": text or null, "errorData": any}` (Interpreter API,
    Errors).
    """
    answer = _decoded(body)
    if not isinstance(answer, dict):
        return None
    fields = {name.lower(): value for name, value in answer.items()}
    code = str(fields.get("errorcode") or "").strip()
    if code in _NO_ERROR:
        return None
    field = f"({fields['errorfield']})" if fields.get("errorfield") else ""
    said = f"{code} {fields.get('errormessage') or ''} {field}"
    return Error(code, http.words(said.encode(errors="replace")))


def interpreted(reply: http.Reply) -> JsonObject:
    """What the vendor read in a document, exactly as sent. Raises as `refuse` does, and TryLater for what is no answer.

    Any object is an answer, whatever its fields: it is all that tells what was read, and cannot be asked for again.
    """
    refuse(reply)
    if not httpx.codes.is_success(reply.status):
        raise TryLater(f"HTTP {reply.status} {http.words(reply.body)}".strip())
    answer = reply.json()
    if not isinstance(answer, dict) or not answer:
        raise TryLater(f"the answer is no order: {http.words(reply.body)}")
    return answer


def shown(reply: http.Reply) -> Any:
    """The decoded answer to a question. Raises as `refuse` does; TryLater where it is not JSON."""
    refuse(reply)
    if not httpx.codes.is_success(reply.status):
        raise SetAside(f"HTTP {reply.status} {http.words(reply.body)}".strip())
    answer = reply.json()
    if not isinstance(answer, dict | list):
        raise SetAside(f"the answer is no object: {http.words(reply.body)}")
    return answer


def refuse(reply: http.Reply) -> None:
    """Raise what the vendor's errorCode means, whatever the status: SetAside in his words with a remedy.

    TryLater for 900429, too many requests: he took nothing.
    """
    told = error(reply.body)
    if told is None:
        return
    if told.code == TOO_MANY:
        raise TryLater(told.says, refused=True)
    remedy = _REMEDIES.get(told.code, f"see what Lagerkoll means; then {_RETRY}")
    raise SetAside(f"{told.says}; {remedy}", whole_resource=told.code in _EVERY_DOCUMENT)


def _decoded(body: bytes) -> Any:
    """The body as JSON; None where it is none."""
    try:
        return exact.loads(body)
    except ValueError:
        return None
