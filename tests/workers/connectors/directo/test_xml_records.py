"""An XML record beyond the limits is parked alone, by its key or its place, within bounded memory."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import served
from tests.workers.connectors.directo.conftest import Listing, client, options
from workers.connectors.directo import resources
from workers.errors import SetAside, TooLargeError, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.connectors.directo.client import Client

SIZE = 17 * 2**20
MOST_MEMORY = 300
"""MiB by which the peak memory of the process may rise while one of these is read, server included."""

LARGE, DEEP, MANY = "larger than 16 MiB", "nested more than 100 deep", "more than 1000000 values"
UNREADABLE: dict[str, tuple[str, str | None, str]] = {
    "a large text": ("<item><code>1</code><name>" + "x" * SIZE + "</name></item>", "1", LARGE),
    "a large text before the key": ("<item><name>" + "x" * SIZE + "</name><code>1</code></item>", None, LARGE),
    "a large key": ("<item><code>" + "x" * SIZE + "</code></item>", None, LARGE),
    "a large attribute": ("<item code='1' name='" + "x" * SIZE + "'/>", "1", LARGE),
    "a large attribute before the key": ("<item name='" + "x" * SIZE + "' code='1'/>", "1", LARGE),
    "lines beyond the size": (
        "<item code='1'><rows>" + f"<row n='{'x' * 2**10}'/>" * (SIZE // 2**10) + "</rows></item>",
        "1",
        LARGE,
    ),
    "deep": ("<item code='1'>" + "<a>" * 1000 + "</a>" * 1000 + "</item>", "1", DEEP),
    "deep before the key": ("<item>" + "<a>" * 1000 + "</a>" * 1000 + "<code>1</code></item>", None, DEEP),
    "a deep key": ("<item><code>1" + "<a>" * 1000 + "</a>" * 1000 + "</code></item>", None, DEEP),
    "many values": ("<item><code>1</code>" + "<a/>" * 2**20 + "</item>", "1", MANY),
    "two keys": ("<item code='1'><code>2</code>" + "<a>" * 1000 + "</a>" * 1000 + "</item>", None, DEEP),
}
LISTS = {
    "the root": "<items>{}</items>",
    "a container": "<results><items>{}</items></results>",
    "a root of another name": "<transport>{}</transport>",
}


class Vendor:
    """Answers every request with `body`."""

    def __init__(self) -> None:
        self.body = ""
        self.app = Starlette(routes=[Route("/v1/items", lambda _: Response(self.body.encode()))])


@pytest.fixture(scope="module")
def served_vendor() -> Iterator[tuple[Vendor, str]]:
    vendor = Vendor()
    with served(vendor.app) as url:
        yield vendor, url


@pytest.fixture
def opened(served_vendor: tuple[Vendor, str]) -> Iterator[Client]:
    made = client(served_vendor[1], format="xml", timeout="60s")
    yield made
    made.close()


def listed(opened: Client, url: str) -> Listing:
    items = resources.catalogue(options(url, format="xml"))["items"]
    return Listing(list(opened.list(items, None)))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_record_beyond_the_limits_is_parked_alone(
    served_vendor: tuple[Vendor, str], opened: Client, name: str
) -> None:
    vendor, url = served_vendor
    record, key, reason = UNREADABLE[name]
    vendor.body = f"<items><item code='A' name='first'/>{record}<item><code>B</code></item></items>"
    before = _peak()
    listing = listed(opened, url)
    assert {"A": {"code": "A", "name": "first"}, "B": {"code": "B"}} == listing.objects
    assert listing.end.complete
    assert _peak() - before < MOST_MEMORY
    [parked] = [each for chunk in listing.chunks for each in chunk.unreadable]
    assert reason in parked.reason
    assert (key, {}) == (parked.key, parked.raw) if key else "number 2 of its list" in parked.remedy


@pytest.mark.parametrize("where", LISTS)
@pytest.mark.parametrize(
    "neighbours", ["<item code='A'/>{}<item code='B'/>", "{}<item code='A'/><item code='B'/>", "{}"]
)
def test_it_is_found_wherever_the_list_is(
    served_vendor: tuple[Vendor, str], opened: Client, where: str, neighbours: str
) -> None:
    vendor, url = served_vendor
    vendor.body = LISTS[where].format(neighbours.format(UNREADABLE["deep"][0]))
    listing = listed(opened, url)
    assert [code for code in "AB" if f"code='{code}'" in neighbours] == list(listing.objects)
    [parked] = [each for chunk in listing.chunks for each in chunk.unreadable]
    assert ("1", {}) == (parked.key, parked.raw)


def test_two_of_them_without_a_key_are_two(served_vendor: tuple[Vendor, str], opened: Client) -> None:
    vendor, url = served_vendor
    deep = "<a>" * 1000 + "</a>" * 1000
    vendor.body = f"<items><item><name>one</name>{deep}</item><item><name>two</name>{deep}</item></items>"
    parked = [each for chunk in listed(opened, url).chunks for each in chunk.unreadable]
    assert len({each.key for each in parked}) == 2
    assert [1, 2] == [each.raw["place"] for each in parked]


def test_a_point_read_of_it_names_the_reason(served_vendor: tuple[Vendor, str], opened: Client) -> None:
    vendor, url = served_vendor
    vendor.body = UNREADABLE["deep"][0]
    with pytest.raises(SetAside, match=DEEP):
        opened.fetch(resources.catalogue(options(url, format="xml"))["items"], "1")


def test_many_records_in_a_container_are_no_record_of_many_values(
    served_vendor: tuple[Vendor, str], opened: Client
) -> None:
    vendor, url = served_vendor
    fields = " ".join(f"f{number}=''" for number in range(100_000))  # of elements as many would take half a minute
    many = "".join(f"<item code='{number}' {fields}/>" for number in range(11))
    vendor.body = LISTS["a container"].format(many)
    assert len(listed(opened, url).objects) == 11


@pytest.mark.parametrize("before", ["<items>", "<items><item code='1'/>", "<result>"])
def test_what_is_too_large_and_no_record_stops_the_reply(
    served_vendor: tuple[Vendor, str], opened: Client, before: str
) -> None:
    vendor, url = served_vendor
    vendor.body = before + " " * SIZE + before.replace("<", "</").partition("<item ")[0]
    with pytest.raises(TooLargeError):
        listed(opened, url)


@pytest.mark.parametrize("text", ["<Jansen", "Jansen</name>", "<Jansen x=Jansen>"])
def test_an_error_of_the_parser_quotes_no_data(served_vendor: tuple[Vendor, str], opened: Client, text: str) -> None:
    vendor, url = served_vendor
    vendor.body = f"<items><item code='1'>{text}</item></items>"
    with pytest.raises(TryLater, match=r"not XML: .*line 1, column") as raised:
        listed(opened, url)
    assert "Jansen" not in str(raised.value)


def test_a_page_is_known_before_its_end(served_vendor: tuple[Vendor, str], opened: Client) -> None:
    vendor, url = served_vendor
    vendor.body = "<html><body>" + "<p>busy</p>" * 100_000
    with pytest.raises(TryLater, match="a web page"):
        listed(opened, url)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<!DOCTYPE html><html><body>Log in<br></body></html>", "not a list but a web page"),
        ("<!DOCTYPE items><items><item code='1'/></items>", "declares a document type"),
    ],
)
def test_a_document_type_is_refused_in_plain_words(
    served_vendor: tuple[Vendor, str], opened: Client, body: str, words: str
) -> None:
    vendor, url = served_vendor
    vendor.body = body
    with pytest.raises(TryLater, match=words):
        listed(opened, url)
