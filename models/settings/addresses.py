"""Which addresses may be asked to take deliveries: none inside the company's or the machine's own network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Address = IPv4Address | IPv6Address

_NAT64 = ip_network("64:ff9b::/96")
"""RFC 6052: IPv4 addresses behind a translator, in the last 32 bits."""

_TRANSLATED = ip_network("::ffff:0:0:0/96")
"""RFC 2765: IPv4 addresses behind a stateless translator, likewise."""

_COMPATIBLE = ip_network("::/96")
"""RFC 4291, deprecated: `::127.0.0.1`. `::` and `::1` are in it, too."""

_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",  # protocol assignments
            "192.88.99.0/24",  # relays of 6to4, which lead anywhere
            "fec0::/10",  # site-local, deprecated, and still routed in old networks
            "64:ff9b:1::/48",  # translators of a local network
            "100::/64",  # discarded
            "3fff::/20",  # documentation
            "5f00::/16",  # segment routing
        ),
    )
)
"""What `ipaddress` of some Python version takes for global, and is not."""


def why_not_public(address: str) -> str | None:
    """Why a delivery must not go to this numeric address, as in "it is private"; None if it may.

    An IPv6 address that stands for an IPv4 address (mapped, translated, compatible, 6to4, Teredo, NAT64) is judged by
    that, too.
    """
    return next(filter(None, map(_why, _meanings(ip_address(address.partition("%")[0])))), None)


def _meanings(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses that it leads to."""
    yield address
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo
        if any(address in network for network in (_NAT64, _TRANSLATED, _COMPATIBLE)):
            yield IPv4Address(int(address) & 0xFFFFFFFF)


def _why(address: Address) -> str | None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return None  # judged by the IPv4 address; Python versions differ about the mapped one
    reasons = {
        "it is this machine": address.is_loopback,
        "it is link-local, as clouds' metadata services are": address.is_link_local,
        "it is no address of a host": address.is_unspecified,
        "it is a multicast address": address.is_multicast,
        "it is private or reserved": not address.is_global or any(address in network for network in _NOT_PUBLIC),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)
