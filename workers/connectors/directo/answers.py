"""Decodes Directo's replies: records as they arrive, JSON and XML in one shape, and refusals as errors."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import ErrorString

from defusedxml import DefusedXmlException, DTDForbidden

from models import exact, notation
from workers.connectors import http, objects, streaming
from workers.connectors.directo import queries, resources, table, xml_parser, xml_repair, xml_shape
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from models.values import JsonObject

_OK = 200
_A_DAY = timedelta(days=1)
_BAD_REQUEST = 400
_UNKNOWN_KEY = 401
_REFUSED = frozenset({403, 404})
"""Directo would refuse every record alike: the key may not read the resource, or the resource does not exist."""

_UNKNOWN_KEY_WORDS = re.compile(r"unauthorized|token required", re.IGNORECASE)
_FORBIDDEN_WORDS = re.compile(r"not enabled|permission|forbidden|denied", re.IGNORECASE)
_FAILURE_MARKUP = re.compile(rb"\s*(<\?xml[^>]*>\s*)?<(result|results|err|error|errors)\b", re.IGNORECASE)


class ForbiddenError(SetAside):
    """Directo accepts the key, but the key may not read this resource."""


def records(reply: http.Streamed, *, secret: str, glance: streaming.Glance | None = None) -> Iterator[Any]:
    """The records of a reply as they arrive, never all in memory; numbers are int or Decimal.

    The body's first character decides how it is parsed: Directo also sends errors as HTTP 200, and not always in the
    requested format. SetAside if Directo refuses the request, TryLater if the body is not a reply of Directo's.
    `secret` is masked in errors. `glance`: as for `streaming.items`; XML and envelopes are decoded all the same.
    """
    if reply.status != _OK:
        raise _refusal(reply.status, _without_secret(http.Peeked(reply).read(-1), secret))
    body = http.Peeked(reply)
    if body.first == b"[":
        return _json_records(body, glance)
    if body.first == b"<":
        return _xml_records(body, secret)
    whole = body.read(-1)
    found = objects.enveloped(whole)
    if found is None:
        raise _not_a_list(_without_secret(whole, secret))
    return iter(found)


_FLAGS = {"true": 1, "false": 0}
"""Filters send flags as numbers, but replies may hold words: XML has no other form."""


class FilterChecker:
    """Detects an ignored filter by its results: Directo ignores filters that it does not know.

    A record fails only if it certainly cannot have passed. These prove nothing: a field that is absent, null or empty
    (Directo uses these interchangeably); a text that separates several codes by commas; the order of texts; a value
    equal to a bound; a partial filter, since Directo's comparison of letters is not documented; a text that contains
    the wanted one.
    """

    def __init__(self, resource: str, selection: queries.Selection) -> None:
        self._resource = resource
        self._selection = selection
        self._unseen = {each.name for each in selection.filters}
        self._has_records = False

    def check_all(self, records: Sequence[Any]) -> None:
        """`check` each; what is not decoded tells every field that a filter tests."""
        if not self._selection.filters:
            self._has_records = self._has_records or bool(records)
            return
        for record in records:
            self.check(record.told if isinstance(record, streaming.SentRecord) else record)

    def check(self, record: Any) -> None:
        """SetAside of the whole resource, naming the filter, if the record cannot have passed it."""
        self._has_records = True
        for each in self._selection.filters if isinstance(record, dict) else ():
            values = _values_of(record, each.name)
            if not values:
                continue
            self._unseen.discard(each.name)
            for condition in each.conditions:
                if not any(self._may_pass(value, condition, each.name) for value in values):
                    raise SetAside(
                        f"Directo ignores the filter {each.name}={condition.text} of {self._resource}: it also sent "
                        f"objects that do not match; correct or remove the filter",
                        whole_resource=True,
                    )

    def warning(self) -> str | None:
        """A text for a person if no record had a filter's field, so that the filter could not be checked; else None."""
        if not self._has_records or not self._unseen:
            return None
        names = ", ".join(sorted(self._unseen))
        return f"no object of {self._resource} has the field {names}: Directo may ignore this filter; check its name"

    def _may_pass(self, value: Any, condition: queries.Condition, name: str) -> bool:
        if value is None or value == "" or isinstance(value, dict | list):
            return True
        value, zone = int(value) if isinstance(value, bool) else value, self._selection.zone
        match condition.operator:
            case queries.Operator.PARTIAL:
                return True
            case queries.Operator.NOT:
                return not _surely_equals(value, condition.operands[0])
            case queries.Operator.EXACT:
                return "," in str(value) or any(_may_equal(value, each, zone) for each in condition.operands)
        if isinstance(value, str) and not queries.is_date(value) and name not in resources.NUMBERS:
            return True
        actual, bound = queries.comparable(value, zone), queries.comparable(condition.operands[0], zone)
        lower, upper = (bound, actual) if condition.operator is queries.Operator.ABOVE else (actual, bound)
        # Not documented: whether a bound is included, whether it counts in whole days, and in which time zone.
        return queries.may_be_less(lower, upper + _A_DAY if isinstance(upper, datetime) else upper) or lower == upper


def _values_of(record: JsonObject, name: str) -> list[Any]:
    """The values that a filter of this name tests: of a field, of the lines, or of custom fields; [] if absent."""
    wanted, fields = name.casefold(), objects.folded(record)
    if wanted in fields:
        return [fields[wanted]]
    bare = wanted.removeprefix(table.ROW)
    lines = list(map(objects.folded, _objects(record, "rows"))) if bare != wanted else []
    if any(bare in line for line in lines):
        return [line.get(bare) for line in lines]
    datafields = map(objects.folded, _objects(record, "datafields"))
    return [each.get("content") for each in datafields if each.get("code") == name]


def _objects(record: JsonObject, part: str) -> list[JsonObject]:
    found = objects.field(record, part)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _surely_equals(value: Any, wanted: str) -> bool:
    same = not isinstance(value, str) and Decimal(value) == notation.number(wanted)
    return same or str(value) == wanted


def _may_equal(value: Any, wanted: str, zone: ZoneInfo) -> bool:
    text, wanted_text = str(value).strip(), wanted.strip()
    actual, expected = (queries.comparable(_FLAGS.get(each.casefold(), each), zone) for each in (text, wanted_text))
    if isinstance(actual, datetime) and isinstance(expected, datetime):
        return abs(actual - expected) <= _A_DAY
    if actual is not None and expected is not None:
        return actual == expected
    # Documented both as an exact match and as a "name search".
    return wanted_text.casefold() in text.casefold()


def _without_secret(body: bytes, secret: str) -> bytes:
    return body.replace(secret.encode(), b"...")


def _refusal(status: int, body: bytes) -> SetAside | TryLater:
    """The error for a reply that is no list; TryLater if Directo did not write it."""
    if not _is_directos(body):
        return http.foreign_error(status, body)
    return _refused(status, body.decode(errors="replace"), http.excerpt(body, is_error=status != _OK))


def _refused(status: int, message: str, quoted: str) -> SetAside | TryLater:
    """Directo's own words as an error; TryLater if they say nothing known. `quoted`: what of `message` may be quoted.

    A resource that is not enabled for the key: 400 with such a text, 403 or 404 (Directo API documentation). An unknown
    key: 401, or in the XML format 200 with such a text.
    """
    reason = quoted if status == _OK else f"HTTP {status}: {quoted}"
    if status == _UNKNOWN_KEY or _UNKNOWN_KEY_WORDS.search(message):
        return SetAside(reason, whole_resource=True)
    if status in _REFUSED or _FORBIDDEN_WORDS.search(message):
        return ForbiddenError(reason, whole_resource=True)
    return SetAside(reason) if status == _BAD_REQUEST else TryLater(reason, closes_gate=False)


def _is_directos(body: bytes) -> bool:
    """Whether Directo wrote this error: its JSON or XML, or a plain text with its words."""
    if http.is_page(body):
        return _FAILURE_MARKUP.match(body) is not None
    try:
        decoded = exact.loads_leniently(body)
    except ValueError:
        decoded = body.decode(errors="replace")
    if isinstance(decoded, str):
        return any(words.search(decoded) for words in (_UNKNOWN_KEY_WORDS, _FORBIDDEN_WORDS))
    return isinstance(decoded, dict) and bool(decoded.keys() & {"error", "message"})


def _not_a_list(body: bytes) -> SetAside | TryLater:
    if not http.is_page(body) and _is_directos(body):
        return _refusal(_OK, body)
    return TryLater(f"the answer is not a list: {http.excerpt(body) or 'empty'}", closes_gate=False)


def _json_records(body: http.Peeked, glance: streaming.Glance | None) -> Iterator[Any]:
    try:
        yield from streaming.items(body, glance)
    except streaming.BrokenReplyError as error:
        raise _broken_body("JSON", error) from None


def _xml_records(body: http.Peeked, secret: str) -> Iterator[Any]:
    """Each record in the JSON's shape. Memory is bounded by the largest record."""
    parser = xml_parser.RecordParser(xml_repair.Repaired(body))
    reader = parser.reader
    # ValueError: what the parser's library raises. LookupError: an unknown encoding.
    try:
        yield from parser
    except DefusedXmlException as error:
        raise _refused_declaration(error) from None
    except (ParseError, ValueError, LookupError) as error:
        raise _broken_body("XML", error) from None
    root = reader.root
    if root is not None and reader.is_no_list:
        if xml_shape.is_failure(root):
            words = xml_shape.error_words(root).replace(secret, "...")
            raise _refused(_OK, words, http.one_line(words))
        if xml_shape.is_page(root):
            raise TryLater("the answer is not a list but a web page", closes_gate=False)
        found = ", ".join(sorted({f"<{child.tag}>" for child in root})[:20]) or "no elements"
        raise TryLater(f"the answer is not a list of objects: <{root.tag}> holds {found}", closes_gate=False)


def _refused_declaration(error: DefusedXmlException) -> TryLater:
    """What an entity expands to may have no bound, and Directo declares none; a page begins with `<!DOCTYPE html>`."""
    if isinstance(error, DTDForbidden) and error.name.lower() == "html":
        return TryLater("the answer is not a list but a web page", closes_gate=False)
    return TryLater("the answer declares a document type or entities, which are never read", closes_gate=False)


def _broken_body(form: str, error: Exception) -> TryLater:
    """`error`: its words are quoted, except where they could be the record's: "undefined entity &Sons;"."""
    if isinstance(error, ParseError):
        line, column = error.position
        reason = f"{ErrorString(error.code)}: line {line}, column {column}"
    else:
        reason = str(error).strip().partition("\n")[0]
    return TryLater(f"the answer is incomplete or not {form}: {reason}", closes_gate=False)
