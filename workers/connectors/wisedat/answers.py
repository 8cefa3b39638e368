"""What a reply of Wisedat means: lists and objects, whatever they are wrapped in, and which fate a refusal has."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import Unreadable
from workers.connectors.http import words
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.values import JsonObject
    from workers.connectors.http import Reply
    from workers.connectors.wisedat.table import Row

_OK = 200
_REFUSED = frozenset({401, 403})
"""Every object would be refused alike."""

_IMAGES = frozenset({"image", "images"})
_PAGINATION = "pagination"


class Gone(SetAside):
    """404: the id does not exist. A fetch makes a tombstone of it; anywhere else it is a refusal.

    `certain`: it is no error page, with which a server answers at an address that leads nowhere, too.
    """

    def __init__(self, reason: str, *, certain: bool) -> None:
        super().__init__(reason)
        self.certain = certain


class Withholding(SetAside):
    """409: another application edited the order into a form that the API cannot show (Wisedat API 1.3, Orders)."""


def decoded(reply: Reply, *, images: bool = False) -> Any:
    """The answer, its images as SHA-256 and size unless `images` are kept. Raises the refusals by their fate."""
    if reply.status != _OK:
        raise _refusal(reply)
    answer = reply.json()
    return answer if images else digested(answer)


def _refusal(reply: Reply) -> SetAside:
    said = f"HTTP {reply.status} {_complaint(reply.body)}".strip()
    if reply.status == 404:  # noqa: PLR2004
        return Gone(said, certain=not reply.body.lstrip().startswith(b"<"))
    if reply.status == 409:  # noqa: PLR2004
        return Withholding(said)
    return SetAside(said, whole_resource=reply.status in _REFUSED)


def _complaint(body: bytes) -> str:
    """The vendor's own words: `{"errors": ["…"]}`, else the beginning of the body."""
    try:
        errors = exact.loads(body).get("errors")
    except (ValueError, AttributeError):
        errors = None
    listed = errors if isinstance(errors, list) else [errors] if errors else []
    return words("; ".join(map(str, listed)).encode(errors="replace") or body)


def digested(value: Any) -> Any:
    """The value with every image as `{"sha256", "size"}` (hex, bytes), because images are large and mostly the same."""
    if isinstance(value, dict):
        return {name: _digest(item) if name in _IMAGES else digested(item) for name, item in value.items()}
    if isinstance(value, list):
        return [digested(item) for item in value]
    return value


def _digest(image: Any) -> Any:
    """Of the decoded bytes; of the text where it is no Base64. What is empty stays as sent."""
    if isinstance(image, list):
        return [_digest(each) for each in image]
    if not isinstance(image, str) or not image:
        return image
    try:
        content = base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError):
        content = image.encode(errors="surrogatepass")
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, and what its reply says of the whole: how many `pages` and `items` there are.

    `items` None: the vendor's `number_items` is missing or not the number of all objects, so it proves nothing.
    """

    rows: list[Any]
    number: int
    pages: int
    items: int | None


def page(row: Row, answer: Any) -> Page:
    """A page as `{"pagination": {limit, page, number_pages, number_items}, "<name>": […]}`. SetAside for all else."""
    pagination = answer.get(_PAGINATION) if isinstance(answer, dict) else None
    if not isinstance(pagination, dict):
        raise malformed(answer, f"a page of {row.name}")
    number, pages = _count(pagination, "page"), _count(pagination, "number_pages")
    limit, items = (
        None if pagination.get(name) is None else _count(pagination, name) for name in ("limit", "number_items")
    )
    is_total = items is not None and limit is not None and pages == -(-items // max(limit, 1))
    return Page(_wrapped(row, answer, pages if items is None else items), number, pages, items if is_total else None)


def _count(pagination: JsonObject, name: str) -> int:
    value = str(pagination.get(name))
    if not re.fullmatch("[0-9]{1,12}", value):
        raise SetAside(f"malformed: the pagination's {name} is no number")
    return int(value)


def _wrapped(row: Row, answer: JsonObject, expected: int) -> list[Any]:
    """The list under the resource's name; suppliers are documented under `salesmen` (Wisedat API 1.3, Suppliers)."""
    lists = {name: value for name, value in answer.items() if name != _PAGINATION and isinstance(value, list)}
    if row.name in lists:
        return lists[row.name]
    if row.name == "suppliers" and "salesmen" in lists:
        return lists["salesmen"]
    if row.name == "suppliers" and len(lists) == 1:
        return next(iter(lists.values()))
    if not expected and not lists:
        return []  # an empty list may come as null
    raise malformed(answer, f"a page of {row.name}")


def whole(row: Row, answer: Any) -> list[Any]:
    """All objects of a resource without pages: a bare array, or the one object of `single`."""
    if row.single:
        return [an_object(answer)]
    if isinstance(answer, list):
        return answer
    raise malformed(answer, f"a list of {row.name}")


def addresses(answer: Any) -> list[Any]:
    """A customer's addresses. The document does not show the answer: a list, or an object around one."""
    lists = [value for value in answer.values() if isinstance(value, list)] if isinstance(answer, dict) else [answer]
    if len(lists) == 1 and isinstance(lists[0], list):
        return lists[0]
    raise malformed(answer, "a list of addresses")


def one(row: Row, answer: Any, key: str) -> JsonObject:
    """The object that was asked for by its key. SetAside when it is another one, or a list."""
    found = an_object(answer)
    if _PAGINATION in found:
        raise malformed(answer, f"one of {row.name}, not a page of them,")
    named = key_of(row, found)
    if named != key:
        about = "no object with a key" if named is None else f"about {named!r}"
        raise SetAside(f"malformed: {key!r} of {row.name} was asked for, the answer is {about}")
    return found


def an_object(answer: Any) -> JsonObject:
    """The answer as an object."""
    if isinstance(answer, dict):
        return answer
    raise malformed(answer, "an object")


def malformed(answer: Any, wanted: str) -> SetAside:
    """What to raise for an answer of another form than this vendor's; it repeats field names, never values."""
    found = f"an object with {', '.join(answer)}"[:200] if isinstance(answer, dict) else f"a {type(answer).__name__}"
    return SetAside(exact.storable_text(f"malformed: {wanted} was expected, not {found}"))


def key_of(row: Row, found: Mapping[str, Any]) -> str | None:
    """The object's key; None where it has none. Ids come as number or text, and an order's is text."""
    values = [found.get(name) for name in row.key]
    if any(isinstance(value, bool) or not isinstance(value, str | int) or value == "" for value in values):
        return None
    return ":".join(map(str, values))


def keyed(row: Row, objects: Iterable[Any]) -> tuple[dict[str, JsonObject], list[Unreadable]]:
    """Objects by key, and those that have none or share one with a different object."""
    found: dict[str, JsonObject] = {}
    unreadable = []
    for each in objects:
        raw = each if isinstance(each, dict) else {"value": each}
        key = key_of(row, raw)
        if key is None:
            unreadable.append(_unreadable(raw, f"one of {row.name} without {' and '.join(row.key)}"))
        elif not exact.same(found.setdefault(key, raw), raw):
            unreadable.append(_unreadable(raw, f"two different {row.name} with the key {key}"))
    return found, unreadable


def _unreadable(raw: JsonObject, reason: str) -> Unreadable:
    return Unreadable(f"?{exact.fingerprint(exact.storable(raw))}", reason, raw)
