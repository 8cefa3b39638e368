"""Decides what a reply to a write means: done, refused, certainly not taken, or not known.

Source: Wisedat API 1.3, `Returned Values` of each `Post`, `Put` and `Delete`. They disagree on whether ids are numbers
or texts, and an update answers with an empty body.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from models import exact
from workers.connectors import http, objects
from workers.connectors.http import excerpt, is_page
from workers.connectors.wisedat import answers
from workers.connectors.wisedat.command_table import ADDRESSES, CREATE, SECTIONS
from workers.connectors.wisedat.commands import id_text
from workers.errors import RefusedError, SetAside, TryLater

if TYPE_CHECKING:
    from workers.connectors.http import Reply
    from workers.errors import VendorError

_OK, _CREATED, _NO_CONTENT = 200, 201, 204
_DONE = frozenset({_OK, _CREATED, _NO_CONTENT})
_FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED, _TIMEOUT, _CONFLICT = 403, 404, 405, 408, 409
_SUCCESSES = range(200, 300)
_LONGEST_WORDS = 4000
"""Characters of the vendor's errors that are kept. It lists one for each mistake, and an order may have many lines."""


def is_unknown_path(reply: Reply) -> bool:
    """Whether the server may not know this address: 405, or a 404 without the API's own list of errors.

    Nothing was written then. A 404 may still mean that the object does not exist: only a read tells.
    """
    return reply.status == _NOT_ALLOWED or (reply.status == _NOT_FOUND and not _errors(_decoded(reply.body)))


def is_about_the_path_alone(reply: Reply) -> bool:
    """Whether the reply of an unknown path cannot be about the object (405)."""
    return reply.status == _NOT_ALLOWED


def is_apis_own(reply: Reply) -> bool:
    """Whether the API itself answered, so that it knows the address: it was done, or there is a list of errors."""
    return reply.status in _DONE or bool(_errors(_decoded(reply.body)))


def words(reply: Reply) -> str:
    """Status and errors of a reply, all of them, in the vendor's words."""
    listed = "; ".join(" ".join(each.split()) for each in _errors(_decoded(reply.body)))
    quoted = exact.storable_text(reply.redact(listed))[:_LONGEST_WORDS]
    return f"HTTP {reply.status} {quoted or excerpt(reply.body, redact=reply.redact, is_error=True)}".strip()


def done(reply: Reply, *, verb: str, resource: str, known: str) -> tuple[Any, str]:
    """The decoded answer of a write that was done, and the object's id; "" if a creation did not tell it.

    `known`: the id from the arguments; "" for an object whose id the vendor chooses. Raises RefusedError if it refused,
    TryLater with `refused` if it certainly did not take the write, and TryLater without if it may have.
    """
    if reply.status not in _DONE:
        raise _failure(reply)
    answer = _answer(reply)
    if verb == CREATE and resource != ADDRESSES:
        id_ = _named_id(answer, resource)
        # Documented is 201 with the id. An empty 200 may come from whatever stands between.
        if id_ or (_is_silent(answer) and reply.status != _OK):
            return answer, known or id_
        raise _unsure(reply, "without the new object's id")
    if _is_silent(answer) or _names(answer, resource, known):
        return answer, known
    raise _unsure(reply, "not what the document has")


def _failure(reply: Reply) -> VendorError:
    if reply.status in _SUCCESSES:
        return _unsure(reply, "a status that the document does not have")
    message = words(reply)
    decoded = _decoded(reply.body)
    if reply.status == _TIMEOUT or (isinstance(decoded, dict) and not _errors(decoded)):
        # A gateway that gave up waiting has passed the write on; Wisedat's own objects have `errors`.
        return TryLater(message, closes_gate=False)
    if reply.status == _CONFLICT and not is_page(reply.body):
        if _errors(decoded):
            return RefusedError(message)
        # In a mere sentence, as for reads: another application is editing the object.
        return TryLater(message, closes_gate=False, refused=True)
    if answers.is_wisedats(reply.body):
        return RefusedError(message, whole_resource=reply.status == _FORBIDDEN)
    # What stands between answered 4xx instead of passing it on, or a redirect without an address.
    refused = reply.status not in http.MAY_BE_DONE
    text = str(http.foreign_error(reply.status, reply.body, redact=reply.redact))
    return TryLater(text, closes_gate=False, refused=refused)


def _unsure(reply: Reply, what: str) -> TryLater:
    return TryLater(f"HTTP {reply.status}, but {what}: {excerpt(reply.body) or 'an empty body'}", closes_gate=False)


def _answer(reply: Reply) -> Any:
    """The decoded body; None for an empty one. TryLater for a page, half an answer, or an answer with errors."""
    if not reply.body.strip():
        return None
    try:
        answer = exact.loads_leniently(reply.body)
    except ValueError:
        raise _unsure(reply, "not JSON") from None
    if errors := _errors(answer):
        raise TryLater(f"HTTP {reply.status}, but with errors: {'; '.join(errors)}"[:_LONGEST_WORDS], closes_gate=False)
    return answer


def _is_silent(answer: Any) -> bool:
    """Whether the answer says no more than that it was done."""
    return answer is None or answer is True or answer == {}


def _named_id(answer: Any, resource: str) -> str:
    """The id in `12`, `"12"` or `{"id": 12}`; "" if there is none."""
    value = objects.field(answer, "id") if isinstance(answer, dict) else answer
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return ""
    id_ = id_text(resource, value).strip()
    is_possible = SECTIONS[resource].text_id or id_.isdecimal()
    return id_ if is_possible and id_ != "0" else ""


def _names(answer: Any, resource: str, known: str) -> bool:
    """Whether the answer is about the object with this id, or about the customer of an address."""
    named = [answer]
    if isinstance(answer, dict):
        named = [objects.field(answer, name) for name in ("id", "customer")]
    return known in {_named_id(each, resource) for each in named}


def _decoded(body: bytes) -> Any:
    try:
        return exact.loads_leniently(body)
    except ValueError:
        return None


def _errors(answer: Any) -> list[str]:
    """The texts under `errors`: a list, or lists by field as .NET has them."""
    found = objects.folded(answer).get("errors")
    return list(_texts(found))


def _texts(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [f"{name}: {each}" for name, value in found.items() for each in _texts(value)]
    if isinstance(found, list):
        return [text for each in found for text in _texts(each)]
    return [] if found is None or found == "" else [str(found)]


def refused_unsent(error: VendorError) -> None:
    """Mark an error of the login before a write: nothing was written."""
    if isinstance(error, TryLater):
        error.refused = True
    elif isinstance(error, SetAside):
        error.whole_resource = True


def not_found(reply: Reply, tried: list[str], *, was_known: bool) -> RefusedError | TryLater:
    """The error where the server knows no spelling of the address. One that it knew before it may know again."""
    message = f"{words(reply)}; this server knows no {' or '.join(tried)}"
    return TryLater(message, closes_gate=False, refused=True) if was_known else RefusedError(message)
