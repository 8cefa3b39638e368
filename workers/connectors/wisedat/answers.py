"""Decodes Wisedat's replies: unwraps lists and objects, and turns refusals into errors."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models import exact
from workers.connectors import objects
from workers.connectors.http import excerpt, foreign_error, is_page
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.values import JsonObject, Unreadable
    from workers.connectors.contract import Resource
    from workers.connectors.http import Reply
    from workers.connectors.wisedat.table import Row

_OK = 200
_RESOURCE_REFUSED = frozenset({401, 403})
"""Statuses that would refuse every object of the resource."""

_WORDS = re.compile(
    r"\btoken\b|login failed|authorization property|exist\b|mandatory|numeric|edited by|permission", re.IGNORECASE
)
"""Words of its sentences (Wisedat API 1.3, Error 400 to 409): "Invalid/Inexistent/Expired token", "Login failed", …"""

_IMAGE_FIELDS = frozenset({"image", "images"})
_PAGINATION = "pagination"


class NotFoundError(SetAside):
    """HTTP 404 in Wisedat's words: the id does not exist. A fetch returns a tombstone; elsewhere it is a refusal."""


class MaybeGoneError(TryLater):
    """HTTP 404 with an empty body or a page: a server in restart, a proxy, a wrong URL, or Wisedat after all."""


class DetailWithheldError(SetAside):
    """HTTP 409: another application edited the order so that the API cannot show it (Wisedat API 1.3, Orders).

    No proxy answers 409 by itself, so any text but a page means it.
    """


def decode(reply: Reply, *, keep_images: bool = False, listing: bool = False) -> Any:
    """The reply's JSON; images are replaced by SHA-256 and size unless `keep_images`.

    `listing`: its list may have rows that cannot be read, each an `UnreadableRecord`. Raises NotFoundError,
    DetailWithheldError or SetAside for a refusal, MaybeGoneError or TryLater for what Wisedat did not write.
    """
    if reply.status != _OK:
        raise _refusal(reply)
    answer = reply.json_listing() if listing else reply.json()
    return answer if keep_images else with_image_digests(answer)


def _refusal(reply: Reply) -> SetAside | TryLater:
    message = f"HTTP {reply.status} {excerpt(reply.body, redact=reply.redact, is_error=True)}".strip()
    if reply.status == 409 and not is_page(reply.body):  # noqa: PLR2004
        return DetailWithheldError(message)
    if not is_wisedats(reply.body):
        error = foreign_error(reply.status, reply.body, redact=reply.redact)
        return MaybeGoneError(str(error), closes_gate=False) if reply.status == 404 else error  # noqa: PLR2004
    if reply.status == 404:  # noqa: PLR2004
        return NotFoundError(message)
    return SetAside(message, whole_resource=reply.status in _RESOURCE_REFUSED)


def is_wisedats(body: bytes) -> bool:
    """Whether Wisedat wrote this error: `{"errors": […]}`, .NET's `{"Message"}`, or a sentence with its words."""
    try:
        decoded = exact.loads_leniently(body)
    except ValueError:
        decoded = "" if is_page(body) else body.decode(errors="replace")
    if isinstance(decoded, dict):
        return any(objects.folded(decoded).get(name) for name in ("errors", "message"))
    return isinstance(decoded, str) and _WORDS.search(decoded) is not None


def with_image_digests(value: Any) -> Any:
    """A copy with `{"sha256", "size"}` (hex, bytes) for every image: images are large and rarely change."""
    if isinstance(value, dict):
        return {
            name: _image_digest(item) if name.lower() in _IMAGE_FIELDS else with_image_digests(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [with_image_digests(item) for item in value]
    return value


def _image_digest(image: Any) -> Any:
    """The digest of the decoded bytes, or of the text if it is not Base64. Empty values stay as sent."""
    if isinstance(image, list):
        return [_image_digest(each) for each in image]
    if not isinstance(image, str) or not image:
        return image
    try:
        content = base64.b64decode("".join(image.split()), validate=True)
    except (binascii.Error, ValueError):
        content = image.encode(errors="surrogatepass")
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing. `pages`, `items`: totals of the whole listing.

    `items` is None if the vendor's `number_items` is missing or is not the total, and so cannot prove completeness.
    """

    rows: list[Any]
    number: int
    pages: int
    items: int | None


def parse_page(row: Row, answer: Any) -> Page:
    """Parse `{"pagination": {limit, page, number_pages, number_items}, "<name>": […]}`. TryLater for any other form."""
    pagination = objects.folded(answer).get(_PAGINATION)
    if not isinstance(pagination, dict):
        raise malformed(answer, f"a page of {row.name}")
    number, pages = _count(pagination, "page"), _count(pagination, "number_pages")
    limit, items = (
        None if objects.field(pagination, name) is None else _count(pagination, name)
        for name in ("limit", "number_items")
    )
    is_total = items is not None and limit is not None and pages == -(-items // max(limit, 1))
    return Page(_rows(row, answer, pages if items is None else items), number, pages, items if is_total else None)


def _count(pagination: JsonObject, name: str) -> int:
    value = str(objects.field(pagination, name))
    if not re.fullmatch("[0-9]{1,12}", value):
        raise TryLater(f"malformed: the pagination's {name} is not a number", closes_gate=False)
    return int(value)


def _rows(row: Row, answer: JsonObject, expected: int) -> list[Any]:
    """The list under the resource's name. The document has suppliers under `salesmen` (Wisedat API 1.3, Suppliers)."""
    fields = objects.folded(answer)
    lists = {name: value for name, value in fields.items() if name != _PAGINATION and isinstance(value, list)}
    if row.name in lists:
        return lists[row.name]
    if row.name == "suppliers" and "salesmen" in lists:
        return lists["salesmen"]
    if row.name == "suppliers" and len(lists) == 1:
        return next(iter(lists.values()))
    if not expected and not lists:
        return []  # an empty list may come as null
    raise malformed(answer, f"a page of {row.name}")


def parse_list(row: Row, answer: Any) -> list[Any]:
    """All objects of an unpaged resource: a bare array, or one object if the row is `single`."""
    if row.single:
        return [require_object(answer)]
    found = answer if isinstance(answer, list) else objects.listed(answer)
    if found is None:
        raise malformed(answer, f"a list of {row.name}")
    return found


def parse_addresses(answer: Any) -> list[Any]:
    """A customer's addresses: a bare list, or an object with one list. The document does not show the reply."""
    lists = [value for value in answer.values() if isinstance(value, list)] if isinstance(answer, dict) else [answer]
    if len(lists) == 1 and isinstance(lists[0], list):
        return lists[0]
    raise malformed(answer, "a list of addresses")


def parse_object(row: Row, answer: Any, key: str) -> JsonObject:
    """The object that was requested by `key`. TryLater if the reply is another object or a list."""
    found = require_object(answer)
    if _PAGINATION in objects.folded(found):
        raise malformed(answer, f"an object of {row.name}")
    found_key = key_of(row, found)
    if found_key != key:
        content = "no key" if found_key is None else f"the key {found_key!r}"
        raise TryLater(f"malformed: requested {row.name} {key!r}, but the reply has {content}", closes_gate=False)
    return found


def require_object(answer: Any) -> JsonObject:
    """The reply, if it is an object; else TryLater."""
    if isinstance(answer, dict):
        return answer
    raise malformed(answer, "an object")


def malformed(answer: Any, expected: str) -> TryLater:
    """The error for a reply of the wrong form. It quotes field names, never values, which may be personal data.

    A single stray reply proves nothing, so it is requested again.
    """
    found = f"an object with {', '.join(answer)}"[:200] if isinstance(answer, dict) else f"a {type(answer).__name__}"
    return TryLater(exact.storable_text(f"malformed: expected {expected}, got {found}"), closes_gate=False)


def key_of(row: Row, found: JsonObject) -> str | None:
    """The object's key; None if a key field is missing or empty. Ids come as numbers or text; an order's is text."""
    values = [objects.key_text(objects.field(found, name), is_number=True) for name in row.key]
    return ":".join(values) if all(values) else None


def by_key(resource: Resource, listed: Iterable[Any]) -> tuple[dict[str, JsonObject], list[Unreadable]]:
    """The objects by key, and those without a key or with the key of a different object."""
    found: dict[str, JsonObject] = {}
    unkeyed = []
    records, broken = objects.readable(list(listed), partial(objects.told_key, resource))
    names = " and ".join(resource.key)
    for raw in records:
        key = objects.key_of(resource, raw)
        if key is None:
            unkeyed.append((f"an object of {resource.name} without {names}", raw))
        elif not exact.same(found.setdefault(key, raw), raw):
            unkeyed.append((f"different {resource.name} with the same {names}", raw))
    remedy = objects.keys_remedy(resource, records) if unkeyed and not resource.fetchable else ""
    return found, [*broken, *(objects.without_key(raw, reason, remedy) for reason, raw in unkeyed)]
