"""What an error may quote of a vendor's answer: the vendor's own words, and never a customer's data."""

from __future__ import annotations

import html
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from models import exact
from workers.connectors import bodies
from workers.errors import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_QUOTE = 200
"""Characters that an error quotes."""

_LONGEST_HEAD = 2**12
"""Bytes of a page in which its title is looked for."""

_MOST_WORDS = 20
_DATA = re.compile(r"""[{\[<"]""")
_SEPARATOR = re.compile(r"[\t|;]")
"""What stands between the fields of a table, whose first field is data as well."""

_JSON_BEGINS = frozenset({b"{", b"[", b'"'})

_ERROR_NAMES = frozenset({"error", "errors", "errormessage", "errorcode"})
_MESSAGE_NAMES = frozenset({"code", "message", "details", "detail", "title"})
_INSIDE = _ERROR_NAMES | _MESSAGE_NAMES
_NEUTRAL_NAMES = frozenset({"status", "success", "timestamp", "path", "type", "traceid", "instance"})
_TITLE = re.compile(r"<title\b[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def one_line(text: str, *, redact: Callable[[str], str] = str) -> str:
    """A vendor's own words as one line for an error. Secrets are removed before it is cut, not after."""
    return exact.storable_text(" ".join(redact(text).split()))[:_LONGEST_QUOTE]


def excerpt(body: bytes, *, redact: Callable[[str], str] = str, is_error: bool = False) -> str:
    """What an error may say of a body: the vendor's own words, else its size and kind. Never its data; "" if empty.

    The vendor's words are the texts of an error in JSON, the title of a page in HTML, and a plain text up to where it
    begins to look like data, if its status says that it explains an error (`is_error`).
    """
    content = body.strip()
    if not content:
        return ""
    if content[:1] == b"<":
        title = _TITLE.search(content[:_LONGEST_HEAD].decode(errors="replace"))
        words, kind = html.unescape(title[1]) if title else "", "HTML or XML"
    elif content[:1] in _JSON_BEGINS:
        words, kind = _words_in_json(content, is_error=is_error), "what begins like JSON"
    else:
        words, kind = _words_in_text(content) if is_error else "", "text"
    return one_line(words, redact=redact) or f"{len(body)} bytes of {kind}"


def _words_in_json(content: bytes, *, is_error: bool) -> str:
    with suppress(ValueError):
        decoded = exact.loads_leniently(content)
        return error_words(decoded) or (decoded if is_error and isinstance(decoded, str) else "")
    return ""


def _words_in_text(content: bytes) -> str:
    head = content[:_LONGEST_HEAD].decode(errors="replace")
    return "" if _SEPARATOR.search(head) else _DATA.split(head, maxsplit=1)[0]


def error_words(answer: Any) -> str:
    """The texts of an error that a vendor sent as JSON; "" if it has none. Values of other fields are data.

    A field that is called `message` is the error's if it stands inside one, or beside nothing but fields of an error.
    """
    if not isinstance(answer, dict):
        return ""
    names = {name: name.lower().replace("_", "") for name in answer}
    is_error = set(names.values()) <= _ERROR_NAMES | _MESSAGE_NAMES | _NEUTRAL_NAMES
    wanted = _ERROR_NAMES | _MESSAGE_NAMES if is_error else _ERROR_NAMES
    return ": ".join(words for name, value in answer.items() if names[name] in wanted if (words := _words(value)))


def _words(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(filter(None, map(_words, value[:_MOST_WORDS])))
    if isinstance(value, dict):
        fields = {name.lower().replace("_", ""): each for name, each in value.items()}
        return ": ".join(filter(None, (_words(each) for name, each in fields.items() if name in _INSIDE)))
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def foreign_error(status: int, body: bytes, *, redact: Callable[[str], str] = str) -> TryLater:
    """The error for a reply that the vendor did not write: the page of a firewall or a proxy, or nothing at all.

    It refuses nothing, whatever its status: the same request may be answered when whoever stands between lets it pass.
    """
    quoted = excerpt(body, redact=redact) or "an empty body"
    return TryLater(f"HTTP {status}, not in the vendor's own words: {quoted}", closes_gate=False)


def is_page(body: bytes) -> bool:
    """Whether the body is markup, such as an HTML page."""
    return bodies.content(body).lstrip().startswith(b"<")
