"""One bad record in a list, for every reader of lists: it is read or parked, the others go on, no error quotes them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from models.values import Snapshot
from tests.workers.connectors import sandbox_harness
from tests.workers.connectors.sandbox_harness import Question, SandboxHarness
from workers.errors import VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.values import Chunk

PRIVATE = "neighbours-own-data"


@dataclass(frozen=True)
class Reader:
    """How one reader's list looks. `record`: with `{key}` and `{value}`, `reply`: with `{records}`."""

    system: str
    resource: str
    record: str
    reply: str = "[{records}]"
    settings: dict[str, Any] = field(default_factory=dict)
    keys: tuple[str, str, str] = ("1", "2", "3")

    def body(self, value: bytes) -> bytes:
        """A list of three records, of which the second has this value and the others private ones."""
        records = [
            self.record.encode().replace(b"{key}", self.field(key)).replace(b"{value}", each)
            for key, each in zip(self.keys, [self._quoted(PRIVATE), value, self._quoted(PRIVATE)], strict=True)
        ]
        return self.reply.encode().replace(b"{records}", (b"" if self.is_xml else b",").join(records))

    def field(self, key: str) -> bytes:
        """The field of the key that differs in the three records."""
        return next(part for part in key.split(":") if part.isdecimal()).encode()

    @property
    def is_xml(self) -> bool:
        return self.record.startswith("<")

    def _quoted(self, text: str) -> bytes:
        return text.encode() if self.is_xml else json.dumps(text).encode()


_ID = "110030000000100"
_IDS = (f"{_ID}1", f"{_ID}2", f"{_ID}3")
_PAGE = '{"pagination":{"limit":200,"page":1,"number_pages":1,"number_items":3},"products":[{records}]}'
READERS = {
    "dilovod-page": Reader("dilovod", "catalogs.goods", '{"id":"{key}","version":{value},"delMark":"0"}', keys=_IDS),
    "dilovod-balance": Reader(
        "dilovod",
        "balanceRegisters.goods",
        '{"good":"{key}","firm":"f","storage":"s","qty":"1","amount":{value}}',
        keys=("f:s:1", "f:s:2", "f:s:3"),
    ),
    "dilovod-slice": Reader(
        "dilovod",
        "informationRegisters.goodsPrices",
        '{"good":"{key}","priceType":"p","price":"1","currency":{value}}',
        keys=("1:p", "2:p", "3:p"),
    ),
    "directo-json": Reader("directo", "items", '{"code":"{key}","name":{value}}'),
    "directo-xml": Reader(
        "directo",
        "items",
        "<item><code>{key}</code><name>{value}</name></item>",
        "<items>{records}</items>",
        {"format": "xml"},
    ),
    "easyflor": Reader("easyflor", "debtor", '{"Id":{key},"Name":{value}}'),
    "directo-envelope": Reader("directo", "items", '{"code":"{key}","name":{value}}', '{"value":[{records}]}'),
    "easyflor-envelope": Reader("easyflor", "debtor", '{"Id":{key},"Name":{value}}', '{"items":[{records}],"count":3}'),
    "wisedat-summaries": Reader("wisedat", "products", '{"id":{key},"name":{value}}', _PAGE),
    "wisedat-whole": Reader(
        "wisedat", "categories", '{"id":{key},"name":{value}}', _PAGE.replace("products", "categories")
    ),
    "wisedat-unpaged": Reader("wisedat", "taxes", '{"id":{key},"description":{value}}'),
    "wisedat-envelope": Reader("wisedat", "taxes", '{"id":{key},"description":{value}}', '{"data":[{records}]}'),
}
LENIENT = {
    "the low half of a surrogate pair": rb'"a\udf39b"',
    "the high half of a surrogate pair": rb'"a\ud83cb"',
    "a tab": b'"a\tb"',
    "a newline": b'"a\r\nb"',
    "a NUL": b'"a\0b"',
    "a Latin-1 byte": b'"K\xf5rge"',
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
}
"""Values whose meaning is sure."""

MALFORMED = {
    "Python's word": b"None",
    "a quote in a text": b'"5" x 7" screw"',
    "half a character": b'"ro\xc3"',
    "nothing": b"",
    "deep": b"[" * 1100 + b"]" * 1100,
    "deep for the decoder": b"[" * 990 + b"]" * 990,
}
LARGE = 17 * 2**20
JSON = [name for name, reader in READERS.items() if not reader.is_xml]


def _listed(harness: SandboxHarness, reader: Reader, body: bytes) -> list[Chunk]:
    """The chunks of a full sync in which every list is this body."""

    def spoil(right: bytes) -> Response:
        """Metadata and logins stay as they are."""
        is_list = re.match(rb'\s*(\[|<|\{"(columns|pagination)")', right) is not None
        return Response(body if is_list else right, media_type="application/xml" if reader.is_xml else None)

    options = harness.system.options.model_validate(harness.given() | reader.settings)
    resource, chunks, cursor = harness.resource(reader.resource), [], None
    with harness.client(options) as client, harness.proxy.spoiling(spoil):
        for _ in range(4):
            outcome = sandbox_harness.ask(client, Question("list", resource, cursor))
            if outcome.error is not None:
                raise outcome.error
            chunks += outcome.chunks
            assert outcome.end is not None
            if not outcome.end.more:
                return chunks
            cursor = outcome.end.cursor
    raise AssertionError("the listing never ends")


def _keys(chunks: list[Chunk]) -> Iterator[str]:
    """The keys of what was read."""
    for chunk in chunks:
        yield from (each.key for each in chunk.snapshots)
        yield from (each.key for each in chunk.lines)


def _read_later_or_parked(chunks: list[Chunk]) -> Iterator[str]:
    for chunk in chunks:
        yield from (each.key for each in chunk.refs)
        yield from (each.key for each in chunk.unreadable)


def _reasons(chunks: list[Chunk]) -> str:
    return " ".join(f"{each.reason} {each.remedy} {each.raw}" for chunk in chunks for each in chunk.unreadable)


@pytest.mark.parametrize("value", LENIENT)
@pytest.mark.parametrize("reader", JSON)
def test_what_is_not_quite_json_is_read(served: Callable[[str], SandboxHarness], reader: str, value: str) -> None:
    chosen = READERS[reader]
    chunks = _listed(served(chosen.system), chosen, chosen.body(LENIENT[value]))
    assert list(chosen.keys) == sorted(_keys(chunks))
    assert [] == list(_read_later_or_parked(chunks))
    assert chunks[-1].end is not None
    assert chunks[-1].end.complete


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("reader", JSON)
def test_a_malformed_record_is_set_apart_by_its_key(
    served: Callable[[str], SandboxHarness], reader: str, value: str
) -> None:
    chosen = READERS[reader]
    chunks = _listed(served(chosen.system), chosen, chosen.body(MALFORMED[value]))
    _assert_set_apart(chunks, chosen)


def _assert_set_apart(chunks: list[Chunk], reader: Reader) -> None:
    """The second record is parked under its key, or read by it later, or has a line."""
    first, second, third = reader.keys
    read = list(_keys(chunks))
    assert {first, third} <= set(read)
    assert [second] == [*_read_later_or_parked(chunks), *(key for key in read if key == second)]
    assert PRIVATE not in _reasons(chunks)
    assert chunks[-1].end is not None
    assert chunks[-1].end.complete


@pytest.mark.parametrize("reader", READERS)
def test_a_large_record_is_read_or_set_apart_and_the_others_go_on(
    served: Callable[[str], SandboxHarness], reader: str
) -> None:
    chosen = READERS[reader]
    value = b"x" * LARGE if chosen.is_xml else b'"' + b"x" * LARGE + b'"'
    _assert_set_apart(_listed(served(chosen.system), chosen, chosen.body(value)), chosen)


@pytest.mark.parametrize("value", ["a\tb", "a\nb", "&#9;", "NaN", "None", '5" screw'])
def test_xml_takes_these_as_texts(served: Callable[[str], SandboxHarness], value: str) -> None:
    chosen = READERS["directo-xml"]
    chunks = _listed(served("directo"), chosen, chosen.body(value.encode()))
    assert ["1", "2", "3"] == list(_keys(chunks))


CUT = {
    "cut": lambda body: body[: body.rindex(PRIVATE.encode()) + 8],
    "more behind the end": lambda body: body + PRIVATE.encode(),
    "words between the records": lambda body: body.replace(b"}," if b"}," in body else b"<item>", PRIVATE.encode(), 1),
}


@pytest.mark.parametrize("fault", CUT)
@pytest.mark.parametrize("reader", READERS)
def test_no_error_of_a_whole_reply_quotes_a_record(
    served: Callable[[str], SandboxHarness], reader: str, fault: str
) -> None:
    chosen = READERS[reader]
    body = CUT[fault](chosen.body(b"x" if chosen.is_xml else b'"x"'))
    with pytest.raises(VendorError) as raised:
        _listed(served(chosen.system), chosen, body)
    assert PRIVATE[:8] not in str(raised.value)


@pytest.mark.parametrize("value", LENIENT)
def test_an_interpreted_document_that_is_not_quite_json_is_read(
    served: Callable[[str], SandboxHarness], value: str
) -> None:
    body = b'{"id":1,"comment":' + LENIENT[value] + b"}"
    harness = served("interpreter")
    question = Question("interpret", harness.resources[0])
    outcome = harness.put(question, spoil=lambda _: Response(body, media_type="application/json"))
    assert isinstance(outcome.found, Snapshot), outcome.error
    assert {"id", "comment"} == set(outcome.found.raw)
