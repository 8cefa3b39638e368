"""Which addresses may send webhooks: one table, for the function and for a receiver over real connections.

Every peer is in 127.0.0.0/8, from any address of which a test may connect.
"""

from __future__ import annotations

import http.client
import socket
from contextlib import closing
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from starlette.datastructures import Headers

from models.db import tables
from receiver import app
from receiver.http import client_address, server
from receiver.http.client_address import NetworkAllowList
from tests.receiver.wakers import RecordingWaker
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.db.database import Database
    from models.settings.load import Settings

SOURCES = ["127.0.0.9", "127.9.0.0/16", "2001:db8::/32"]
PROXIES = ["127.1.0.0/16", "fd00::/8"]

VENDOR = "127.0.0.9"
OFFICE = "127.9.200.3"
STRANGER = "127.0.0.6"
PROXY = "127.1.0.1"


class Row(NamedTuple):
    allowed: bool
    peer: str
    lines: list[str]
    """The X-Forwarded-For headers, in their order."""
    why: str


TABLE = [
    # No proxy.
    Row(True, VENDOR, [], "the vendor's own address"),
    Row(True, OFFICE, [], "in an allowed network"),
    Row(True, "127.9.0.0", [], "the first of an allowed network"),
    Row(True, "127.9.255.255", [], "the last of an allowed network"),
    Row(False, STRANGER, [], "a stranger"),
    Row(False, "127.0.0.1", [], "loopback is no more than any address"),
    Row(False, "127.0.0.8", [], "one below the vendor"),
    Row(False, "127.0.0.10", [], "one above the vendor"),
    Row(False, "127.8.255.255", [], "just below an allowed network"),
    Row(False, "127.10.0.0", [], "just above an allowed network"),
    Row(False, PROXY, [], "a proxy without the header is not the vendor"),
    # The header of a peer that is not a trusted proxy is ignored.
    Row(False, STRANGER, [VENDOR], "a stranger claims to be the vendor"),
    Row(False, STRANGER, [f"{VENDOR}, {VENDOR}"], "a stranger claims it twice"),
    Row(False, STRANGER, [VENDOR, VENDOR], "a stranger claims it in two headers"),
    Row(False, STRANGER, [f"{VENDOR}, {PROXY}"], "a stranger names a proxy, too"),
    Row(False, STRANGER, [f"::ffff:{VENDOR}"], "a stranger claims it in IPv6"),
    Row(False, "127.2.0.1", [VENDOR], "just above the proxies"),
    Row(False, "127.0.255.255", [VENDOR], "just below the proxies"),
    Row(True, VENDOR, [STRANGER], "the vendor's own header is not read"),
    Row(True, VENDOR, ["rubbish,,"], "not even where it is rubbish"),
    # One proxy.
    Row(True, PROXY, [VENDOR], "the vendor through a proxy"),
    Row(True, "127.1.255.255", [VENDOR], "through the last of the proxies"),
    Row(True, PROXY, [OFFICE], "an allowed network through a proxy"),
    Row(False, PROXY, [STRANGER], "a stranger through a proxy"),
    Row(False, PROXY, [f"{VENDOR}, {STRANGER}"], "a stranger that put the vendor first"),
    Row(False, PROXY, [f"{VENDOR}, {VENDOR}, {STRANGER}"], "a stranger that put it first twice"),
    Row(False, PROXY, [f"{PROXY}, {STRANGER}"], "a stranger that put a proxy first"),
    Row(True, PROXY, [f"{STRANGER}, {VENDOR}"], "what the vendor put first is ignored"),
    Row(True, PROXY, [f"10.0.0.1, {VENDOR}"], "an address inside the vendor's network is ignored"),
    # Chains.
    Row(True, PROXY, [f"{VENDOR}, 127.1.0.2"], "through two proxies"),
    Row(True, PROXY, [f"{VENDOR}, 127.1.0.3, 127.1.0.2"], "through three proxies"),
    Row(True, PROXY, [f"{VENDOR}, fd00::2"], "one of them has IPv6"),
    Row(True, PROXY, [f"{VENDOR}, ::ffff:127.1.0.2"], "one of them has IPv4 in IPv6"),
    Row(False, PROXY, [f"{VENDOR}, {STRANGER}, 127.1.0.2"], "a stranger behind two proxies"),
    Row(False, PROXY, [f"{VENDOR}, 127.2.0.1, 127.1.0.2"], "the chain is broken by an untrusted proxy"),
    Row(False, PROXY, ["127.1.0.3, 127.1.0.2"], "nothing but proxies"),
    Row(False, PROXY, [PROXY], "a proxy that names itself"),
    # Repeated headers form one list.
    Row(True, PROXY, [VENDOR, "127.1.0.2"], "two headers, in their order"),
    Row(True, PROXY, [STRANGER, VENDOR], "the last header is the nearest"),
    Row(False, PROXY, [VENDOR, STRANGER], "the same for a stranger"),
    Row(False, PROXY, [VENDOR, f"{VENDOR}, {STRANGER}"], "likewise with a list in it"),
    # Spellings.
    Row(True, PROXY, [f"::ffff:{VENDOR}"], "IPv4 in IPv6"),
    Row(True, PROXY, ["::FFFF:7f00:9"], "IPv4 in IPv6, in hexadecimal"),
    Row(True, PROXY, ["0:0:0:0:0:ffff:7f00:0009"], "the same at full length"),
    Row(False, PROXY, ["::7f00:9"], "without ffff it is another address"),
    Row(False, PROXY, ["64:ff9b::7f00:9"], "so it is behind a translator"),
    Row(False, PROXY, ["2002:7f00:9::1"], "and in a tunnel"),
    Row(True, PROXY, ["2001:db8::1"], "IPv6"),
    Row(True, PROXY, ["2001:0DB8:0:0::1"], "IPv6 in capitals and with zeros"),
    Row(False, PROXY, ["2001:db9::1"], "another network of IPv6"),
    Row(False, PROXY, ["127.000.000.009"], "leading zeros are octal to some"),
    Row(False, PROXY, ["2130706441"], "one number"),
    Row(False, PROXY, ["127.9"], "two of four numbers"),
    Row(False, PROXY, ["0x7f.0.0.9"], "hexadecimal"),
    Row(False, PROXY, ["127.0.0.9/32"], "a network"),
    Row(False, PROXY, ["١٢٧.0.0.9"], "other digits"),
    # Ports and brackets.
    Row(True, PROXY, [f"{VENDOR}:4711"], "with a port"),
    Row(True, PROXY, [f"{STRANGER}:1, {VENDOR}:2, 127.1.0.2:3"], "all with ports"),
    Row(True, PROXY, ["[2001:db8::1]"], "in brackets"),
    Row(True, PROXY, ["[2001:db8::1]:4711"], "in brackets with a port"),
    Row(True, PROXY, [f"[::ffff:{VENDOR}]:4711"], "IPv4 in IPv6 in brackets with a port"),
    Row(False, PROXY, [f"{STRANGER}:4711"], "a stranger with a port"),
    Row(False, PROXY, ["2001:db8::1:99999"], "without brackets a port is read as a part of the address, and is none"),
    Row(False, PROXY, [f"[{VENDOR}]"], "brackets are for IPv6"),
    Row(False, PROXY, [f"[{VENDOR}]:80"], "likewise with a port"),
    Row(False, PROXY, [f"{VENDOR}:"], "a port without a number"),
    Row(False, PROXY, [f"{VENDOR}:http"], "a port by name"),
    Row(False, PROXY, [f"{VENDOR}:65536"], "a port that does not exist"),
    Row(False, PROXY, [f"{VENDOR}:80:80"], "two ports"),
    Row(False, PROXY, [f":{VENDOR}"], "a port before the address"),
    Row(False, PROXY, ["[2001:db8::1"], "half a bracket"),
    Row(False, PROXY, ["2001:db8::1]"], "the other half"),
    Row(False, PROXY, ["[2001:db8::1]80"], "a port without a colon"),
    Row(False, PROXY, ["[[2001:db8::1]]"], "two pairs of brackets"),
    Row(False, PROXY, ["[]"], "nothing in brackets"),
    # Zones.
    Row(False, PROXY, ["2001:db8::1%eth0"], "a zone"),
    Row(False, PROXY, ["[2001:db8::1%eth0]:80"], "a zone in brackets"),
    Row(False, PROXY, ["2001:db8::1%"], "an empty zone"),
    Row(False, PROXY, [f"::ffff:{VENDOR}%1"], "a zone behind IPv4"),
    Row(False, PROXY, [f"fe80::1%eth0, {VENDOR}"], "a zone further left"),
    # White space and empty entries.
    Row(True, PROXY, [f"  {VENDOR}  "], "spaces around it"),
    Row(True, PROXY, [f"\t{VENDOR}\t,\t127.1.0.2"], "tabs around it"),
    Row(True, PROXY, [f"{VENDOR},127.1.0.2"], "no space between"),
    Row(False, PROXY, [f"{VENDOR} 127.1.0.2"], "no comma between"),
    Row(False, PROXY, [f"127. 0.0.9, {PROXY}"], "a space in it"),
    Row(False, PROXY, [f"\xa0{VENDOR}"], "a space that is none in HTTP"),
    Row(False, PROXY, [""], "an empty header"),
    Row(False, PROXY, ["   "], "a blank header"),
    Row(False, PROXY, [","], "two empty entries"),
    Row(False, PROXY, [f"{VENDOR},"], "an empty entry at the end"),
    Row(False, PROXY, [f", {VENDOR}"], "an empty entry at the beginning"),
    Row(False, PROXY, [f"{STRANGER},, {VENDOR}"], "an empty entry in the middle"),
    Row(False, PROXY, [VENDOR, ""], "an empty header after a good one"),
    Row(False, PROXY, ["", VENDOR], "an empty header before a good one"),
    # An entry that is not an address refuses the request wherever it stands.
    Row(False, PROXY, ["unknown"], "unknown"),
    Row(False, PROXY, [f"unknown, {VENDOR}"], "unknown further left"),
    Row(False, PROXY, ["_hidden"], "a hidden name"),
    Row(False, PROXY, ["localhost"], "a name"),
    Row(False, PROXY, [f'"{VENDOR}"'], "in quotes"),
    Row(False, PROXY, [f"for={VENDOR}"], "the other header's way"),
    Row(False, PROXY, [f"{VENDOR}; {STRANGER}"], "a semicolon"),
    Row(False, PROXY, [f"{VENDOR}\\"], "a backslash"),
    Row(False, PROXY, ["-"], "a dash"),
    Row(False, PROXY, ["127.0.0.256"], "a number too large"),
    Row(False, PROXY, ["2001:db8:::1"], "a colon too many"),
    Row(False, PROXY, ["1" * 5000], "five thousand digits"),
    Row(True, PROXY, [", ".join([STRANGER] * 1000 + [VENDOR])], "a thousand before the vendor"),
]


def test_no_row_of_the_table_is_repeated() -> None:
    assert len(TABLE) == len({row.why for row in TABLE})
    assert len(TABLE) == len({(row.peer, *row.lines) for row in TABLE})


def _wired(lines: list[str]) -> list[bytes]:
    """The header's bytes as a sender would send them: UTF-8 where Latin-1 does not do."""
    return [line.encode() if max(line, default="") > "\xff" else line.encode("latin-1") for line in lines]


@pytest.mark.parametrize("row", TABLE, ids=[row.why for row in TABLE])
def test_the_sender_that_is_found_is_allowed_or_not(row: Row) -> None:
    headers = Headers(raw=[(b"x-forwarded-for", line) for line in _wired(row.lines)])
    found = client_address.sender(row.peer, headers, proxies=NetworkAllowList(map(ip_network, PROXIES)))
    assert row.allowed == (found in NetworkAllowList(map(ip_network, SOURCES)))


def _packet(number: int) -> str:
    return f'{{"action":"objectChanged","params":{{"objectName":"catalogs.goods","id":"11003{number:011}"}}}}'


def _status(address: tuple[str, int], peer: str, lines: list[str], packet: str) -> int:
    with closing(http.client.HTTPConnection(*address, timeout=30, source_address=(peer, 0))) as sock:
        sock.putrequest("GET", f"/hooks/shop?packet={quote(packet)}")
        for line in _wired(lines):
            sock.putheader("X-Forwarded-For", line)
        for name in ("X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Forwarded-Host", "X-Client-IP"):
            sock.putheader(name, VENDOR)
        sock.putheader("Forwarded", f"for={VENDOR}")
        sock.endheaders()
        return sock.getresponse().status


def _kept(database: Database) -> list[str]:
    with database.read() as tx:
        return sorted(tx.execute(sa.select(tables.webhooks.c.packet)).scalars())


def _networks(values: list[str]) -> str:
    return ", ".join(f'"{value}"' for value in values)


def test_a_refused_sender_leaves_no_row_and_an_allowed_one_leaves_exactly_one(
    database: Database, configure: Callable[..., Settings]
) -> None:
    shop, receiver = f"webhook_sources = [{_networks(SOURCES)}]", f"trusted_proxies = [{_networks(PROXIES)}]"
    made = app.create_app(configure(database.url, receiver, shop), waker=RecordingWaker())
    with served(made, **server.OPTIONS) as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        found = {row.why: _status(address, row.peer, row.lines, _packet(number)) for number, row in enumerate(TABLE)}
    assert {row.why: 200 if row.allowed else 403 for row in TABLE} == found
    assert [_packet(number) for number, row in enumerate(TABLE) if row.allowed] == _kept(database)


@pytest.mark.parametrize(
    ("status", "listens", "calls", "sources"),
    [
        (200, "::1", "::1", ["::1"]),
        (403, "::1", "::1", ["127.0.0.1"]),
        (200, "::1", "::1", ["::/0"]),
        (403, "::1", "::1", ["0.0.0.0/0"]),
        (200, "::ffff:127.0.0.1", VENDOR, [VENDOR]),
        (200, "::ffff:127.0.0.1", VENDOR, [f"::ffff:{VENDOR}"]),
        (403, "::ffff:127.0.0.1", STRANGER, [VENDOR]),
        (403, "::ffff:127.0.0.1", VENDOR, ["::/0"]),
    ],
)
def test_a_receiver_that_listens_on_ipv6_checks_its_callers_as_well(
    sqlite: Database, configure: Callable[..., Settings], status: int, listens: str, calls: str, sources: list[str]
) -> None:
    made = app.create_app(
        configure(sqlite.url, "", f"webhook_sources = [{_networks(sources)}]"), waker=RecordingWaker()
    )
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((listens, 0))
    listener.listen()
    with served(made, on=listener, **server.OPTIONS):
        address = ("::1" if listens == "::1" else "127.0.0.1", listener.getsockname()[1])
        assert status == _status(address, calls, [], _packet(1))
    assert (status == 200) == (_kept(sqlite) == [_packet(1)])
