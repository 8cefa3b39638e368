from __future__ import annotations

from ipaddress import ip_network

import pytest
from starlette.datastructures import Headers

from receiver.http import client_address
from receiver.http.client_address import NetworkAllowList

VENDOR = "88.198.50.253"
PROXIES = NetworkAllowList([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


def _headers(*lines: str, **more: str) -> Headers:
    raw = [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]
    return Headers(raw=raw + [(name.encode(), value.encode()) for name, value in more.items()])


@pytest.mark.parametrize(
    ("expected", "text", "networks"),
    [
        (True, VENDOR, [VENDOR]),
        (False, "88.198.50.254", [VENDOR]),
        (True, "::ffff:88.198.50.253", [VENDOR]),
        (True, "::FFFF:58c6:32fd", [VENDOR]),
        (False, "::ffff:88.198.50.254", [VENDOR]),
        (True, "10.200.3.4", ["10.0.0.0/8"]),
        (False, "11.0.0.1", ["10.0.0.0/8"]),
        (True, "10.0.0.1", [VENDOR, "10.0.0.0/8"]),
        (True, "2001:db8::1", ["2001:db8::/32"]),
        (True, "2001:0DB8:0:0::1", ["2001:db8::1"]),
        (False, "2001:db9::1", ["2001:db8::/32"]),
        (False, VENDOR, ["::/0"]),
        (True, VENDOR, ["0.0.0.0/0"]),
        (False, "::1", ["127.0.0.0/8"]),
        (False, "fe80::1%eth0", ["fe80::/10"]),
        (False, "088.198.50.253", [VENDOR]),
        (False, "88.198.50.253:80", [VENDOR]),
        (False, "88.198.50.253 ", [VENDOR]),
        (False, "1489384189", [VENDOR]),
        (False, "", ["0.0.0.0/0", "::/0"]),
        (False, "vendor.example", ["0.0.0.0/0", "::/0"]),
        (False, VENDOR, []),
    ],
)
def test_an_address_is_allowed_by_its_network_alone(
    expected: bool,  # noqa: FBT001 - a column of a truth table
    text: str,
    networks: list[str],
) -> None:
    assert expected == (client_address.address(text) in NetworkAllowList([ip_network(network) for network in networks]))


@pytest.mark.parametrize(
    ("expected", "peer", "lines"),
    [
        # Peers that no test can connect from; test_allow_list.py has the others.
        (VENDOR, "::ffff:88.198.50.253", []),
        ("2001:db8::1", "2001:db8::1", []),
        ("2001:db8::1", "2001:db8::1", [VENDOR]),
        (VENDOR, "fd00::1", [VENDOR]),
        (VENDOR, "fd00::1", [f"{VENDOR}, [fd00::2]:80"]),
        ("2001:db8::1", "fd00::1", [f"{VENDOR}, 2001:db8::1"]),
        (VENDOR, "::ffff:10.0.0.1", [VENDOR]),
        # Nothing but proxies: the first entry.
        ("10.0.0.3", "10.0.0.1", ["10.0.0.3, 10.0.0.2"]),
        # A peer without an address: a socket file, a link-local zone.
        (None, None, []),
        (None, None, [VENDOR]),
        (None, "", []),
        (None, "fe80::1%eth0", []),
        (None, "fd00::1%eth0", [VENDOR]),
        (None, "testclient", [VENDOR]),
    ],
)
def test_the_sender_is_found_by_walking_from_the_right_past_trusted_proxies_only(
    expected: str | None, peer: str | None, lines: list[str]
) -> None:
    found = client_address.sender(peer, _headers(*lines), proxies=PROXIES)
    assert expected == (None if found is None else str(found))


@pytest.mark.parametrize(
    ("expected", "peer", "headers"),
    [
        (True, "127.0.0.1", {"host": "127.0.0.1:8000"}),
        (True, "127.0.0.1", {"host": "localhost"}),
        (True, "127.0.0.1", {"host": "LOCALHOST:8000"}),
        (True, "127.8.0.1", {"host": "localhost:8000"}),
        (True, "::1", {"host": "[::1]:8000"}),
        (True, "::ffff:127.0.0.1", {"host": "localhost"}),
        (False, "10.0.0.1", {"host": "localhost"}),
        (False, "10.0.0.1", {"host": "10.0.0.2"}),
        (False, "127.1.0.1", {"host": "localhost"}),
        (False, "::ffff:127.1.0.1", {"host": "localhost"}),
        (False, "::1%lo", {"host": "localhost"}),
        (False, None, {"host": "localhost"}),
        (False, "127.0.0.1", {}),
        (False, "127.0.0.1", {"host": ""}),
        (False, "127.0.0.1", {"host": "mirror.example"}),
        (False, "127.0.0.1", {"host": "localhost.mirror.example"}),
        (False, "127.0.0.1", {"host": "localhost:8000@mirror.example"}),
        (False, "127.0.0.1", {"host": "localhost", "x-forwarded-for": "127.0.0.1"}),
        (False, "127.0.0.1", {"host": "localhost", "x-forwarded-for": ""}),
        (False, "127.0.0.1", {"host": "localhost", "x-forwarded-proto": "https"}),
        (False, "127.0.0.1", {"host": "localhost", "x-forwarded-host": "localhost"}),
        (False, "127.0.0.1", {"host": "localhost", "x-real-ip": "127.0.0.1"}),
        (False, "127.0.0.1", {"host": "localhost", "forwarded": "for=127.0.0.1"}),
        (False, "127.0.0.1", {"host": "localhost", "via": "1.1 proxy"}),
    ],
)
def test_a_direct_loopback_caller_is_not_forwarded(
    expected: bool,  # noqa: FBT001 - a column of a truth table
    peer: str | None,
    headers: dict[str, str],
) -> None:
    proxies = NetworkAllowList([ip_network("127.1.0.0/16")])
    assert expected == client_address.is_direct_loopback(peer, _headers(**headers), version="1.1", proxies=proxies)
    assert not client_address.is_direct_loopback(peer, _headers(**headers), version="1.0", proxies=proxies)


def test_a_repeated_host_header_is_refused() -> None:
    headers = Headers(raw=[(b"host", b"localhost"), (b"host", b"mirror.example")])
    assert not client_address.is_direct_loopback("127.0.0.1", headers, version="1.1", proxies=NetworkAllowList([]))
