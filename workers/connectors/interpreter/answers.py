"""Classifies Lagerkoll's replies: an answer, a refusal, or an unclear outcome.

An outcome is unclear when the document may have been processed although no usable answer arrived. It must not be sent
again automatically then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from models import exact
from workers.connectors import http, objects
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from models.values import JsonObject

RATE_LIMITED = "900429"

_NO_ERROR = ("", "0")
_CREDENTIALS = "900001"
_NOT_ENABLED = "909003"
_WHOLE_RESOURCE = frozenset({_CREDENTIALS, _NOT_ENABLED})
"""Codes that would refuse every document."""

_RETRY_HINT = "`erpmirror parked retry CONNECTION` sends it again"
_REMEDIES = {
    _CREDENTIALS: "check `store` and `api_key` (or `user_id` and `user_token`), and that no proxy removes headers "
    "with an underscore in their names",
    "900101": f"check the document, or ask Lagerkoll for the reason; {_RETRY_HINT}",
    "909001": f"add the document's supplier in Lagerkoll; then {_RETRY_HINT}",
    "909002": f"hand the document in again with an order that exists in Lagerkoll; then {_RETRY_HINT}",
    _NOT_ENABLED: "activate the Interpreter for this store in Lagerkoll",
}
"""errorCode -> remedy, for each documented code (Interpreter API, Errors)."""


@dataclass(frozen=True, slots=True)
class Error:
    """An error of the vendor: its code as digits, and its message with code and field."""

    code: str
    message: str


def parse_error(body: bytes) -> Error | None:
    """The error in a body; None if it has none. Field names may differ in case.

    `{"errorCode": 900101, "errorMessage": text, "errorField": text or null, "errorData": any}` (Interpreter API,
    Errors).
    """
    fields = objects.folded(_decoded(body))
    code = str(fields.get("errorcode") or "").strip()
    if code in _NO_ERROR:
        return None
    field = f"({fields['errorfield']})" if fields.get("errorfield") else ""
    text = f"{code} {fields.get('errormessage') or ''} {field}"
    return Error(code, http.one_line(text))


def parse_interpretation(reply: http.Reply) -> JsonObject:
    """The vendor's answer to a document, exactly as sent.

    Any non-empty object is accepted, whatever its fields, because the answer cannot be requested again. Raises as
    `raise_refusal` does, and TryLater without `refused` for anything else: the document may have been processed.
    """
    raise_refusal(reply)
    if not httpx.codes.is_success(reply.status):
        raise TryLater(f"HTTP {reply.status} {http.excerpt(reply.body, is_error=True)}".strip())
    answer = reply.json()
    if not isinstance(answer, dict) or not answer:
        raise TryLater(f"the answer is not an order: {http.excerpt(reply.body)}")
    return answer


def parse_reply(reply: http.Reply) -> Any:
    """The decoded reply to a GET request. Raises as `raise_refusal` does, TryLater if Lagerkoll did not write it."""
    raise_refusal(reply)
    if not httpx.codes.is_success(reply.status):
        raise http.foreign_error(reply.status, reply.body, redact=reply.redact)
    answer = reply.json()
    if not isinstance(answer, dict | list):
        raise TryLater(f"the answer is not an object: {http.excerpt(reply.body)}", closes_gate=False)
    return answer


def raise_refusal(reply: http.Reply) -> None:
    """Raise the error that the reply's errorCode stands for, whatever the HTTP status; return if it has none.

    TryLater with `refused` for 900429 (too many requests): nothing was processed. SetAside with the vendor's message
    and a remedy for any other code.
    """
    refusal = parse_error(reply.body)
    if refusal is None:
        return
    if refusal.code == RATE_LIMITED:
        raise TryLater(refusal.message, refused=True)
    remedy = _REMEDIES.get(refusal.code, f"solve this in Lagerkoll; then {_RETRY_HINT}")
    raise SetAside(f"{refusal.message}; {remedy}", whole_resource=refusal.code in _WHOLE_RESOURCE)


def _decoded(body: bytes) -> Any:
    """The body as JSON; None if it is not JSON."""
    try:
        return exact.loads_leniently(body)
    except ValueError:
        return None
