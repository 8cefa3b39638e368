"""XML that breaks the rules in one record: read where the meaning is sure, and the other records in any case."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import served
from tests.workers.connectors.directo.conftest import Listing, client, options
from workers.connectors.directo import resources
from workers.connectors.directo.xml_repair import Repaired

if TYPE_CHECKING:
    from collections.abc import Iterator

UTF8 = '<?xml version="1.0" encoding="utf-8"?>'
REPAIRED: dict[str, tuple[bytes, str]] = {
    "a control character as SQL Server writes it": (b"rose&#x1F;&#0;", "rose\\u001f\\u0000"),
    "a raw control character": (b"rose\x0b\x00", "rose\\u000b\\u0000"),
    "half a surrogate pair": (b"rose&#xD83C;", "rose\\ud83c"),
    "a number beyond all characters": (b"&#x110000;&#999999999;", "\\u110000\\u3b9ac9ff"),
    "a bare ampersand": (b"Jansen & Co, R&D; a&&b &#; &#x;", "Jansen & Co, R&D; a&&b &#; &#x;"),
    "an HTML name": (b"rose&nbsp;&euro;&hearts;", "rose\xa0€♥"),
    "a name of nobody's": (b"rose&Sons;", "rose&Sons;"),
    "Windows-1252": (b"h\xfcbsch", "hübsch"),
    "nothing wrong": (b"A &amp; B &lt;&#8364;&#x1F339; \xc3\xbc", "A & B <€🌹 ü"),
    "in a CDATA section": (b"<![CDATA[R&D &nbsp; <b>\x0b</b>]]> &nbsp;", "R&D &nbsp; <b>\\u000b</b> \xa0"),
}


class Vendor:
    """Answers every request with `body`."""

    def __init__(self) -> None:
        self.body = b""
        self.app = Starlette(routes=[Route("/v1/items", lambda _: Response(self.body))])


@pytest.fixture(scope="module")
def served_vendor() -> Iterator[tuple[Vendor, str]]:
    vendor = Vendor()
    with served(vendor.app) as url:
        yield vendor, url


def _listed(served_vendor: tuple[Vendor, str], body: bytes) -> Listing:
    vendor, url = served_vendor
    vendor.body = body
    opened = client(url, format="xml")
    try:
        return Listing(list(opened.list(resources.catalogue(options(url, format="xml"))["items"], None)))
    finally:
        opened.close()


@pytest.mark.parametrize("name", REPAIRED)
def test_a_record_that_breaks_the_rules_is_read_as_it_was_meant(served_vendor: tuple[Vendor, str], name: str) -> None:
    sent, meant = REPAIRED[name]
    others = b"<item><code>%b</code><name>first</name></item>"
    record = b"<item><code>1</code><name>" + sent + b"</name></item>"
    listing = _listed(served_vendor, UTF8.encode() + b"<items>" + others % b"A" + record + others % b"B" + b"</items>")
    assert {key: each["name"] for key, each in listing.objects.items()} == {"A": "first", "1": meant, "B": "first"}
    assert listing.end.complete


def test_a_declared_encoding_is_not_guessed_at(served_vendor: tuple[Vendor, str]) -> None:
    head = '<?xml version="1.0" encoding="iso-8859-13"?>'
    text = f"{head}<items><item><code>1</code><name>Kęstutis & õ</name></item></items>"
    listing = _listed(served_vendor, text.encode("iso-8859-13"))
    assert listing.objects["1"]["name"] == "Kęstutis & õ"


def test_utf_16_is_left_alone(served_vendor: tuple[Vendor, str]) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><items><item><code>1</code><name>Ā&amp;＆</name></item></items>'
    assert _listed(served_vendor, text.encode("utf-16")).objects["1"]["name"] == "Ā&＆"


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_it_is_the_same_however_it_arrives(size: int) -> None:
    texts = b"".join(b"<item><name>%b</name></item>" % sent for sent, _ in REPAIRED.values())
    body = UTF8.encode() + b"<items>" + texts + b"<!-- R&D --><item name='a > b & c &#31; \xfc'/></items>"
    whole = Repaired(BytesIO(body)).read()
    repaired = Repaired(BytesIO(body))
    assert whole == b"".join(iter(lambda: repaired.read(size), b""))


def test_a_long_text_is_not_held_until_its_end() -> None:
    arriving = Repaired(BytesIO(b"<items><item><name>" + b"R&D \xc3\xbc " * 100_000))
    assert arriving.read(2**12)
    assert len(arriving.read(2**12)) < 2**14
    rest = b"".join(iter(lambda: arriving.read(2**12), b""))
    assert rest.count(b"R&amp;D \xc3\xbc ") > 90_000
