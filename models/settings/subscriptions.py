"""A subscription's part of the settings file: a program of the user's that is told of changes."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import socket
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from models.settings import addresses, network
from models.settings.connections import Duration, Secret, Strict, Whole, beside_file, environment
from models.values import ChangeKind

_HOST = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?|[0-9a-f:.]+(%\w+)?", re.ASCII)
"""A name, or an IPv6 address with its zone."""

_PORTS = {"http": 80, "https": 443}
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what each secret begins with
_SHORTEST_SECRET, _LONGEST_SECRET = 24, 64
_MOST_SECRETS = 2
_LONGEST_TIMEOUT = timedelta(minutes=1)


def _endpoint(value: str) -> str:
    # No message repeats the value: its query may hold a key.
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("this is no address; write one as in https://crm.example/hooks") from None
    unprintable = any(not "!" <= character <= "~" for character in value)
    if parts.scheme not in _PORTS or not _HOST.fullmatch(parts.hostname or "") or port == 0 or unprintable:
        raise ValueError(
            "an address begins with https:// (or http://), names a host, and is printable ASCII without spaces, as in "
            "https://crm.example/hooks"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address holds no login; the receiver of a delivery checks its signature")
    if parts.fragment:
        raise ValueError("an address ends before #; remove what follows it")
    return parts.geturl()  # its scheme in lower case, whatever was written


def _secrets(value: Any) -> Any:
    """A secret, or a list of the two that are live while one is rotated."""
    given = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    if not 1 <= len(given) <= _MOST_SECRETS:
        raise ValueError('write one secret, or ["the new one", "the old one"] while you rotate it')
    for each in given:
        _require_secret(each)
    if len(set(given)) < len(given):
        raise ValueError("the two secrets are the same; write one")
    return tuple(map(Secret, given))


def _require_secret(value: Any) -> None:
    wanted = f'a secret is "{_SECRET_PREFIX}" and {_SHORTEST_SECRET} to {_LONGEST_SECRET} bytes in Base64'
    advice = "`erpmirror subscriptions secret` makes one"
    if not isinstance(value, str) or not value.startswith(_SECRET_PREFIX):
        raise ValueError(f"{wanted}; {advice}")
    try:
        key = base64.b64decode(value.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{wanted}, and this is no Base64; {advice}") from None
    if not _SHORTEST_SECRET <= len(key) <= _LONGEST_SECRET:
        raise ValueError(f"{wanted}, and this one has {len(key)}; {advice}")


def literal_address(host: str) -> str | None:
    """The numeric address that a URL's host is, in whichever way it is written; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        # Resolvers also take 127.1, 0x7f.0.0.1 and 2130706433 for addresses.
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


class Subscription(Strict):
    """A program that is told of changes: where, signed with what, and of which changes."""

    name: str = Field(description="The subscription's name, which stands in the brackets.")
    url: Annotated[str, AfterValidator(_endpoint)] = Field(
        repr=False,
        description="Where each change is posted: the address of a program of yours.",
        examples=["https://crm.example/hooks"],
    )
    secret: Annotated[tuple[Secret, ...], BeforeValidator(_secrets)] = Field(
        description="What deliveries are signed with (Standard Webhooks); `erpmirror subscriptions secret` makes one. "
        "A list of two while you rotate it, the new one first.",
        examples=["${CRM_SECRET}"],
        json_schema_extra={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    )
    connections: tuple[str, ...] = Field(
        default=(), min_length=1, description="Only changes of these connections; unset: of all.", examples=[["shop"]]
    )
    resources: tuple[str, ...] = Field(
        default=(),
        min_length=1,
        description="Only changes of these resources; unset: of all.",
        examples=[["documents.saleOrder"]],
    )
    kinds: tuple[ChangeKind, ...] = Field(
        default=(),
        min_length=1,
        description="Only changes of these kinds: created, updated, deleted, restored; unset: of all.",
        examples=[["created", "updated"]],
    )
    begin: Literal["now", "start"] = Field(
        default="now",
        alias="from",
        description='Where a new subscription begins: "now", or "start" for the oldest change that is kept.',
    )
    payload: Literal["full", "thin"] = Field(
        default="full", description='"thin" leaves out the object itself: before and after.'
    )
    cloudevents: bool = Field(
        default=False, description="Whether each delivery also has the attributes of CloudEvents 1.0 as headers."
    )
    allow_private: bool = Field(
        default=False,
        description="Whether the address may be private, loopback or link-local, and may begin with http://.",
    )
    timeout: Duration = Field(
        default=timedelta(seconds=15), description="Within this time the endpoint has to answer; at most a minute."
    )
    concurrency: Annotated[Whole, Field(ge=1, le=100)] = Field(
        default=10, description="How many deliveries may be under way at once, each of another object."
    )
    give_up_after: Duration = Field(
        default=timedelta(days=5),
        description="A subscription is paused when one delivery has failed for so long; nothing is lost.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="The company's CA in PEM, if it signed the endpoint's certificate; unset: the public CAs and this "
        "machine's.",
        examples=["company-ca.pem"],
    )

    _route: network.Route = PrivateAttr(default_factory=lambda: network.DIRECT)  # pydantic copies a `default` deeply

    @field_validator("timeout")
    @classmethod
    def _not_too_long(cls, timeout: timedelta) -> timedelta:
        if timeout > _LONGEST_TIMEOUT:
            raise ValueError('an endpoint has at most "1m"; let it answer first and do its work afterwards')
        return timeout

    @field_validator("ca_file")
    @classmethod
    def _holds_cas(cls, ca_file: Path | None, info: ValidationInfo) -> Path | None:
        if ca_file is None:
            return None
        path = beside_file(info, str(ca_file))
        network.read_ca_file(path)
        return path

    @model_validator(mode="after")
    def _may_be_asked(self) -> Self:
        if self.allow_private:
            return self
        if urlsplit(self.url).scheme != "https":
            raise ValueError(
                "url begins with http://, so everyone on the way could read the changes: write https://, or set "
                "allow_private = true if it does not leave your network"
            )
        host = self.host.rstrip(".")
        literal = literal_address(host)
        why = addresses.why_not_public(literal) if literal else None
        if host == "localhost" or host.endswith(".localhost"):
            why = "it is this machine"
        if why is not None:
            raise ValueError(f"url names {literal or host}, and {why}: set allow_private = true if you mean it")
        return self

    @model_validator(mode="after")
    def _find_route(self, info: ValidationInfo) -> Self:
        uses_tls = self.url.startswith("https:")
        extra = network.environment_cas(environment(info)) if uses_tls and self.ca_file is None else ()
        self._route = network.Route(ca_file=self.ca_file, extra_cas=extra)
        return self

    @property
    def host(self) -> str:
        """The address's host, in lower case, without brackets."""
        return str(urlsplit(self.url).hostname)

    @property
    def route(self) -> network.Route:
        """The CAs that it trusts."""
        return self._route

    @property
    def secrets(self) -> list[str]:
        """The live secrets, the newest first."""
        return [each.get_secret_value() for each in self.secret]
