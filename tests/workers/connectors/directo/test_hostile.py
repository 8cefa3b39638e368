"""Hostile replies: each is refused by the right error or read within bounds, and no external entity is fetched."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response, StreamingResponse

from models.values import Snapshot
from tests.serving import served
from tests.workers.connectors.directo.conftest import client, options
from workers.connectors import streaming
from workers.connectors.directo import resources
from workers.errors import SetAside, TooLargeError, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

DEEP = 100_000
MOST_MEMORY = 300
"""MiB by which the peak memory of the process may rise while one of these is read, server included."""


class HostileVendor:
    """An ASGI app that answers every request alike."""

    def __init__(self) -> None:
        self.answer: Callable[[], Response] = Response
        self.sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.answer()(scope, receive, send)

    def answers_with(self, body: str | bytes, status: int = 200) -> None:
        self.answer = lambda: Response(body, status)

    def repeats(self, start: bytes, more: bytes, times: int) -> None:
        """Stream `start` and then `more` repeatedly, counting the bytes taken in `sent`."""

        async def pieces() -> AsyncIterator[bytes]:
            yield start
            for _ in range(times):
                self.sent += len(more)
                yield more
                await asyncio.sleep(0)  # lets the server notice that the client has disconnected

        self.sent = 0
        self.answer = lambda: StreamingResponse(pieces())


@pytest.fixture(scope="module")
def vendor() -> Iterator[tuple[HostileVendor, str]]:
    app = HostileVendor()
    with served(app) as url:
        yield app, url


@pytest.fixture
def ask(vendor: tuple[HostileVendor, str], request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """List or fetch items: returns objects by key, what is unreadable, a snapshot, or the error raised."""
    _, url = vendor
    form = getattr(request, "param", "xml")
    opened = client(url, format=form, timeout="60s")
    items = {each.name: each for each in resources.resources(options(url, format=form))}["items"]

    def asked(method: str) -> Any:
        try:
            if method == "fetch":
                return opened.fetch(items, "1")
            chunks = list(opened.list(items, None))
            if method == "unreadable":
                return [each for chunk in chunks for each in chunk.unreadable]
            return {each.key: each.raw for chunk in chunks for each in chunk.snapshots}
        except VendorError as error:
            return error

    yield asked
    opened.close()


@contextmanager
def trap() -> Iterator[tuple[int, list[Any]]]:
    """(port, requests) of a loopback listener that must receive no request."""
    requests: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def wait() -> None:
            try:
                while True:
                    caller, _ = listener.accept()
                    requests.append(caller.recv(1000))
                    caller.close()
            except OSError:
                return

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        yield listener.getsockname()[1], requests
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def _laughs(levels: int) -> str:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, levels))
    return f'<!DOCTYPE x [<!ENTITY a0 "lol">{entities}]>'


def _items(inside: str = "<item code='1'/>") -> str:
    return f"<items>{inside}</items>"


REFUSED_XML: dict[str, tuple[str | bytes, type[VendorError]]] = {
    "billion laughs": (_laughs(10) + _items("<item code='&a9;'/>"), TryLater),
    "billion laughs in UTF-16": ((_laughs(10) + _items("<item code='&a9;'/>")).encode("utf-16-le"), TryLater),
    "quadratic blow-up": (f'<!DOCTYPE x [<!ENTITY a "{"x" * 50_000}">]>' + _items("&a;" * 50_000), TryLater),
    "an empty DTD": ("<!DOCTYPE items>" + _items(), TryLater),
    "a parameter entity": ('<!DOCTYPE x [<!ENTITY % a "b"> %a;]>' + _items(), TryLater),
    "deep and open": ("<items>" + "<a>" * DEEP, TryLater),
    "a deep refusal": ("<err>" + "<a>" * DEEP + "token required", TryLater),
    "no UTF-16": ("<?xml version='1.0' encoding='utf-16'?>" + _items(), TryLater),
    "UTF-7": ("<?xml version='1.0' encoding='utf-7'?>+ADw-items+AD4-", TryLater),
    "UTF-32": ("<?xml version='1.0' encoding='utf-32'?>" + _items(), TryLater),
    "a codec that is not an encoding": ("<?xml version='1.0' encoding='zlib'?>" + _items(), TryLater),
    "an unknown encoding": ("<?xml version='1.0' encoding='nonsense'?>" + _items(), TryLater),
    "an encoding for names": ("<?xml version='1.0' encoding='idna'?>" + _items(), TryLater),
    "half a character": (b"<items><item code='1' name='ro\xc3'/></items>", TryLater),
    "an attribute twice": (_items("<item code='1' code='2'/>"), TryLater),
}

REFUSED_JSON: dict[str, tuple[str | bytes, type[VendorError]]] = {
    "deep and open": ("[" * DEEP, TryLater),
    "a deep object": ('{"a":' * DEEP + "1" + "}" * DEEP, TryLater),
    "a long number without end": (f'[{{"code":"1","t":"{"x" * (2**20 - 100)}","a":' + "9" * 10_000, TryLater),
    "more behind its end": ('[{"code":"1"}] x', TryLater),
    "words between its records": ('[{"code":"1"},Warning: x,{"code":"2"}]', TryLater),
    "an open text": ('[{"code":"1","a":"x}]', TryLater),
    "half an escape": ('[{"code":"1","a":"x\\', TryLater),
}

DEEP_LIST, DEEP_OBJECT = "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP
UNREADABLE: dict[str, tuple[str | bytes, str | None, str]] = {
    "a deep list": (DEEP_LIST, None, "nested more than 1000 deep"),
    "a deep list in a record": ('{"code":"1","a":' + DEEP_LIST + "}", "1", "nested more than 1000 deep"),
    "a deep object in a record": ('{"code":"1","a":' + DEEP_OBJECT + "}", "1", "nested more than 1000 deep"),
    "deep behind brackets in a text": ('{"t":"]}\\"]}","code":"1","a":' + DEEP_LIST + "}", "1", "nested"),
    "a large text": ('{"code":"1","a":"' + "x" * 17 * 2**20 + '"}', "1", "larger than 16 MiB"),
    "a large text before the key": ('{"a":"' + "x" * 17 * 2**20 + '","code":"1"}', None, "larger than 16 MiB"),
    "a large text of escapes": ('{"code":"1","a":"' + '\\"' * 9 * 2**20 + '"}', "1", "larger than 16 MiB"),
    "a large list": ('{"code":"1","a":[' + f'[["{"x" * 2**10}"]],' * 17 * 2**10 + "1]}", "1", "larger than 16 MiB"),
    "a long number": ('{"code":"1","a":' + "9" * 17 * 2**20 + "}", "1", "larger than 16 MiB"),
    "many values": ('{"code":"1","a":[' + "1," * 2**20 + "1]}", "1", "more than 1000000 values"),
    "many fields": ("{" + ",".join(f'"{number:x}":1' for number in range(2**20)) + "}", None, "more than 1000000"),
    "no value": ('{"code":"1","a":}', "1", "no JSON"),
    "a quote in a text": ('{"code":"1","a":"5" x 7" screw","b":2}', "1", "no JSON"),
    "two charsets in one text": (b'{"code":"1","a":"\xc3\xb5 and \xf5"}', "1", "no JSON"),
    "two charsets in a text before the key": (b'{"a":"\xc3\xb5 and \xf5","code":"1"}', "1", "no JSON"),
    "half a character": (b'{"code":"1","a":"ro\xc3"}', "1", "no JSON"),
    "a byte that Windows-1252 has not": (b'{"code":"1","a":"ro\x81"}', "1", "no JSON"),
    "a key of two charsets": (b'{"code":"\xc3\xb5\xf5"}', None, "no JSON"),
    "words of another language": ('{"code":"1","a":None}', "1", "no JSON"),
}
REFUSED = [("xml", each) for each in REFUSED_XML] + [("json", each) for each in REFUSED_JSON]


@pytest.mark.parametrize("method", ["list", "fetch"])
@pytest.mark.parametrize(("ask", "name"), REFUSED, indirect=["ask"])
def test_a_hostile_reply_raises_the_right_error_within_bounded_memory(
    vendor: tuple[HostileVendor, str], ask: Callable[[str], Any], name: str, method: str, request: pytest.FixtureRequest
) -> None:
    form = request.node.callspec.params["ask"]
    body, error = (REFUSED_XML if form == "xml" else REFUSED_JSON)[name]
    vendor[0].answers_with(body)
    before = _peak()
    assert error is type(ask(method))
    assert _peak() - before < MOST_MEMORY


@pytest.mark.parametrize("ask", ["json"], indirect=True)
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_record_that_cannot_be_read_is_parked_alone(
    vendor: tuple[HostileVendor, str], ask: Callable[[str], Any], name: str
) -> None:
    record, key, reason = UNREADABLE[name]
    content = record.encode() if isinstance(record, str) else record
    vendor[0].answers_with(b'[{"code":"A","name":"first"},' + content + b',\n{"code":"B","name":"last"}]')
    before = _peak()
    assert {"A": {"code": "A", "name": "first"}, "B": {"code": "B", "name": "last"}} == ask("list")
    assert _peak() - before < MOST_MEMORY
    [parked] = ask("unreadable")
    assert reason in parked.reason
    assert (key, {}) == (parked.key, parked.raw) if key else "number 2 of its list" in parked.remedy
    vendor[0].answers_with(b"[" + content + b"]")
    refused = ask("fetch")
    assert SetAside is type(refused)
    assert reason in str(refused)


def _peak() -> int:
    """The peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("form", ["SYSTEM '{}'", "PUBLIC 'x' '{}'"])
@pytest.mark.parametrize("where", ["file", "port"])
def test_an_external_entity_is_never_fetched(
    vendor: tuple[HostileVendor, str], ask: Callable[[str], Any], tmp_path: Path, form: str, where: str
) -> None:
    file = tmp_path / "passwords"
    file.write_text("very-secret", encoding="utf-8")
    with trap() as (port, requests):
        address = form.format(file.as_uri() if where == "file" else f"http://127.0.0.1:{port}/x")
        for begins in (
            f"<!DOCTYPE x [<!ENTITY a {address}>]>",
            f"<!DOCTYPE x {address}>",
            f"<!DOCTYPE x [<!ENTITY % a {address}> %a;]>",
        ):
            vendor[0].answers_with(begins + _items("<item code='1'>&a;</item>"))
            refused = ask("list")
            assert TryLater is type(refused)
            assert "very-secret" not in str(refused)
        vendor[0].answers_with(
            f"<?xml-stylesheet href='http://127.0.0.1:{port}/'?><items xmlns:xi='http://www.w3.org/2001/XInclude' "
            f"xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xsi:schemaLocation='a http://127.0.0.1:{port}/'>"
            f"<item code='1'><xi:include href='{file.as_uri()}' parse='text'/></item></items>"
        )
        assert "very-secret" not in str(ask("list"))
        assert [] == requests


FULL_SYNC: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "instructions": ("<?xml version='1.0'?><?php evil() ?>" + _items("<?evil x?><item code='1'/>"), {"code": "1"}),
    "UTF-16 without a mark": (_items().encode("utf-16-le"), {"code": "1"}),
    "UTF-16 that begins with its zero": (_items().encode("utf-16-be"), {"code": "1"}),
    "UTF-16 with a mark": (_items().encode("utf-16"), {"code": "1"}),
    "marked text": (_items("<item code='1'><![CDATA[<x>&a;]]></item>"), {"code": "1", "text": "<x>&a;"}),
    "a long attribute": (_items(f"<item code='1' name='{'x' * 8_000_000}'/>"), {"code": "1", "name": "x" * 8_000_000}),
    "many of a name": (_items("<item code='1'>" + "<a>1</a>" * DEEP + "</item>"), {"code": "1", "a": ["1"] * DEEP}),
    "lists of a name": (
        _items("<item code='1'><rows><row n='1'/></rows><rows><row n='2'/></rows></item>"),
        {"code": "1", "rows": [[{"n": "1"}], [{"n": "2"}]]},
    ),
}


@pytest.mark.parametrize("name", FULL_SYNC)
def test_an_unusual_reply_is_read(vendor: tuple[HostileVendor, str], ask: Callable[[str], Any], name: str) -> None:
    body, raw = FULL_SYNC[name]
    vendor[0].answers_with(body)
    assert ask("list") == {"1": raw}


ODD_JSON: dict[str, tuple[str | bytes, Any]] = {
    "a huge exponent": ('{"code":"1","a":1e999999999}', "1E+999999999"),
    "a tiny exponent": ('{"code":"1","a":1e-999999999}', "1E-999999999"),
    "an exponent that no decimal holds": ('{"code":"1","a":1e99999999999999999999999}', "1e99999999999999999999999"),
    "3,000 digits": ('{"code":"1","a":' + "9" * 3_000 + "}", int("9" * 3_000)),
    "10,000 digits": ('{"code":"1","a":' + "9" * 10_000 + "}", "9" * 10_000),
    "10,000 digits below zero": ('{"code":"1","a":-' + "9" * 10_000 + "}", "-" + "9" * 10_000),
    "3,000 places": ('{"code":"1","a":0.' + "9" * 3_000 + "}", "0." + "9" * 3_000),
    "NaN": ('{"code":"1","a":NaN}', "NaN"),
    "infinite": ('{"code":"1","a":-Infinity}', "-Infinity"),
    "a name twice": ('{"code":"2","a":1,"code":"1"}', 1),
    "half a character": ('{"code":"1","a":"\\ud800"}', "\ud800"),
    "the other half": ('{"code":"1","a":"x\\udf39y"}', "x\udf39y"),
    "half a character as a name": ('{"code":"1","a":{"\\udfff":1}}', {"\udfff": 1}),
    "NUL": ('{"code":"1","a":"\\u0000"}', "\0"),
    "NUL as it is": ('{"code":"1","a":"x\0y"}', "x\0y"),
    "a tab": ('{"code":"1","a":"x\ty"}', "x\ty"),
    "a newline": ('{"code":"1","a":"x\r\ny","b":1}', "x\r\ny"),
    "Windows-1252": (b'{"code":"1","a":"K\xf5rge \x80 5"}', "Kõrge € 5"),
    "Windows-1252 beside UTF-8": (b'{"code":"1","a":"K\xf5rge","b":"K\xc3\xb5rge"}', "Kõrge"),
}


@pytest.mark.parametrize("ask", ["json"], indirect=True)
@pytest.mark.parametrize("name", ODD_JSON)
def test_what_is_not_quite_json_is_read_where_its_meaning_is_sure(
    vendor: tuple[HostileVendor, str], ask: Callable[[str], Any], name: str
) -> None:
    record, value = ODD_JSON[name]
    content = record.encode() if isinstance(record, str) else record
    vendor[0].answers_with(b'[{"code":"A"},' + content + b',{"code":"B"}]')
    listed = ask("list")
    assert ["1", "A", "B"] == sorted(listed)
    assert value == (listed["1"]["a"] if not isinstance(listed["1"]["a"], Decimal) else str(listed["1"]["a"]))
    assert [] == ask("unreadable")
    vendor[0].answers_with(b"[" + content + b"]")
    assert isinstance(ask("fetch"), Snapshot)


@pytest.mark.parametrize("ask", ["json"], indirect=True)
@pytest.mark.parametrize("number", ["1e999999999", "9" * 10_000])
def test_a_number_of_absurd_size_as_a_key_or_stamp_breaks_nothing(
    vendor: tuple[HostileVendor, str], ask: Callable[[str], Any], number: str
) -> None:
    for record in (f'{{"code":{number}}}', f'{{"code":"1","ts":{number}}}'):
        vendor[0].answers_with(f"[{record}]")
        assert isinstance(ask("list"), dict)
        assert isinstance(ask("fetch"), Snapshot | SetAside)


CHARSETS = {
    "UTF-16 with a mark": ("utf-16", None),
    "UTF-16 without a mark": ("utf-16-le", None),
    "UTF-16, the other way round": ("utf-16-be", None),
    "UTF-32": ("utf-32", None),
    "UTF-8 with a mark": ("utf-8-sig", None),
    "UTF-8 declared as a server does by default": ("utf-8", "iso-8859-1"),
    "Latin-1": ("iso-8859-1", "ISO-8859-1"),
    "Windows-1252": ("cp1252", "windows-1252"),
    "Latin-9": ("iso-8859-15", "iso-8859-15"),
    "Windows-1257": ("cp1257", "windows-1257"),
    "UTF-8 declared as nonsense": ("utf-8", "nonsense"),
    "UTF-8 declared as a codec that is none": ("utf-8", "unicode_escape"),
}


@pytest.mark.parametrize("ask", ["json"], indirect=True)
@pytest.mark.parametrize("name", CHARSETS)
def test_a_declared_or_evident_charset_is_honoured(
    vendor: tuple[HostileVendor, str], ask: Callable[[str], Any], name: str
) -> None:
    encoding, declared = CHARSETS[name]
    body = '[{"code":"1","a":"õäöü"},{"code":"Õ1","a":"\\"]}"}]'.encode(encoding)
    headers = {"Content-Type": f"application/json; charset={declared}" if declared else "application/json"}
    vendor[0].answer = lambda: Response(body, headers=headers)
    assert {"1": {"code": "1", "a": "õäöü"}, "Õ1": {"code": "Õ1", "a": '"]}'}} == ask("list")


def test_no_piece_of_a_reply_is_special() -> None:
    """However the bytes of a list are cut into pieces, the same records come out."""
    body = '[{"code":"1","a":"\\"]}\\\\","b":[1,{"c":"õ"}]} ,"text", -1.50 ,null,[],{},[[]],NaN]'.encode()
    expected = list(streaming.items(Drops([body])))
    for at in range(1, len(body)):
        assert expected == list(streaming.items(Drops([body[:at], body[at:]])))
    assert expected == list(streaming.items(Drops([bytes([byte]) for byte in body])))
    assert ["text", Decimal("-1.5"), None, [], {}, [[]], "NaN"] == expected[1:]


class Drops:
    """A body that arrives in the given pieces, one for each reading of all that there is."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [*pieces, b""]

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002 - a server decides how much arrives
        return self._pieces.pop(0) if self._pieces else b""


@pytest.mark.parametrize(
    ("ask", "start", "more"),
    [
        ("xml", b"<items><item code='1'>", b"x" * 2**18),
        pytest.param("xml", b"<items><item code='1' name='", b"x" * 2**18, marks=pytest.mark.slow),
        pytest.param("xml", b"<items><!--", b"x" * 2**18, marks=pytest.mark.slow),
        pytest.param("xml", b"<items><item code='1'>", b"<a/>" * 2**16, marks=pytest.mark.slow),
        ("json", b'[{"code":"1","a":"', b"x" * 2**18),
        pytest.param("json", b'[{"code":"1","a":[', b"[]," * 2**16, marks=pytest.mark.slow),
    ],
    indirect=["ask"],
    ids=["text", "attribute", "comment", "elements", "json-text", "json-lists"],
)
def test_a_record_without_end_is_abandoned_within_bounded_memory(
    vendor: tuple[HostileVendor, str], ask: Callable[[str], Any], start: bytes, more: bytes
) -> None:
    vendor[0].repeats(start, more, times=2**30 // len(more))
    before = _peak()
    assert TooLargeError is type(ask("list"))
    assert vendor[0].sent < 20 * streaming.LARGEST_RECORD
    assert _peak() - before < MOST_MEMORY


def test_the_total_size_of_many_records_is_not_bounded(
    vendor: tuple[HostileVendor, str], ask: Callable[[str], Any]
) -> None:
    some = "".join(f"<item code='{number}' name='{'x' * 2**20}'/>" for number in range(24))
    vendor[0].answers_with(_items(some))
    assert len(ask("list")) == 24
