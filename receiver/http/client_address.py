"""The address of a request's sender: behind trusted proxies taken from X-Forwarded-For, otherwise the peer's."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from starlette.datastructures import Headers

Address = IPv4Address | IPv6Address

_CACHE_SIZE = 1024
"""Entries of each cache: enough for a vendor's few addresses, and bounded, because anyone can send from many."""

_ENTRY = re.compile(
    r"\[(?P<v6>[^\[\]]*)\](:(?P<port6>[0-9]{1,5}))?|(?P<v4>[^\[\]:]*):(?P<port4>[0-9]{1,5})|(?P<bare>[^\[\]]*)"
)
_LARGEST_PORT = 65535
_LOOPBACK_HOSTS = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_FORWARDING_HEADERS = frozenset({"forwarded", "via", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip"})


class NetworkAllowList:
    """The networks that may call: `address in allow_list`.

    `address` has turned an IPv4-mapped IPv6 address (`::ffff:88.198.50.253`) into its IPv4 address.
    """

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._cached_contains = lru_cache(_CACHE_SIZE)(self._contains)

    def __contains__(self, address: object) -> bool:
        return bool(self._networks) and isinstance(address, Address) and self._cached_contains(address)

    def _contains(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(_CACHE_SIZE)
def address(text: str) -> Address | None:
    """The address in the text, an IPv4-mapped one as IPv4; None for anything else, a zone id included."""
    if "%" in text:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def sender(peer: str | None, headers: Headers, *, proxies: NetworkAllowList) -> Address | None:
    """The address that sent the request; None, which no network contains, if it is not known.

    A trusted proxy's X-Forwarded-For is walked from the right, past trusted proxies only: entries further left were
    written by the caller itself. From any other peer the header is ignored.
    """
    nearest = address(peer or "")
    if nearest not in proxies:
        return nearest
    lines = headers.getlist("X-Forwarded-For")
    if not lines:
        return nearest
    hops = [_parse_entry(entry.strip(" \t")) for entry in ",".join(lines).split(",")]
    if None in hops:
        return None
    return next((hop for hop in reversed(hops) if hop not in proxies), hops[0])


def is_direct_loopback(peer: str | None, headers: Headers, *, version: str, proxies: NetworkAllowList) -> bool:
    """Whether the caller runs on this machine and is not a proxy.

    A loopback Host is required against DNS rebinding: a page in a browser on this machine may call under a name that
    resolves to 127.0.0.1. `version` of HTTP: a bare `proxy_pass` of nginx sends our own Host and adds no header; only
    HTTP/1.0 shows that it is a proxy (nginx before 1.29.7).
    """
    nearest, hosts = address(peer or ""), headers.getlist("Host")
    return (
        nearest is not None
        and nearest.is_loopback
        and nearest not in proxies
        and version != "1.0"
        and len(hosts) == 1
        and _LOOPBACK_HOSTS.fullmatch(hosts[0]) is not None
        and not any(name in _FORWARDING_HEADERS or name.startswith("x-forwarded") for name in headers.keys())  # noqa: SIM118 - Headers is a multi-dict
    )


def _parse_entry(text: str) -> Address | None:
    match = _ENTRY.fullmatch(text)
    if match is None or int(match["port4"] or match["port6"] or 0) > _LARGEST_PORT:
        return None
    if match["v6"] is not None:
        # Only IPv6 is written in brackets.
        return address(match["v6"]) if ":" in match["v6"] else None
    return address(match["bare"] if match["v4"] is None else match["v4"])
