"""A connection's part of the settings file: what all systems share, and the types of the values.

A connector's `options` module subclasses `Connection` and adds its system's own settings.
"""

from __future__ import annotations

import os
import re
import zoneinfo
from collections.abc import Mapping
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from models.settings import messages, network

Secret = SecretStr

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_DURATION = timedelta(days=3650)
_IPV4_MAPPED = ip_network("::ffff:0:0/96")
_PORTS = {"http": 80, "https": 443}

CONNECTION_NAME = re.compile("[a-z0-9][a-z0-9_-]*")
"""A connection's name: it stands in addresses, tables and logs."""


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([0-9]{1,9})\s*([smhd])", value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError('a duration is a whole number and a unit s, m, h or d, as in "5m", and at least "1s"')
    duration = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if duration > _MAX_DURATION:
        raise ValueError(f'a duration is at most "{_MAX_DURATION.days}d"')
    return duration


def _network(value: Any) -> Any:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        network = ip_network(value if isinstance(value, str) else "")  # ip_network would take a number for an address
    except ValueError as error:
        raise ValueError(f'{error}; write an address or a network, as in "88.198.50.253" or "10.0.0.0/8"') from None
    return _without_ipv4_mapping(network)


def _without_ipv4_mapping(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    # Client addresses are unmapped before they are compared, so a mapped network would never match.
    if isinstance(network, IPv6Network) and network.subnet_of(_IPV4_MAPPED):  # type: ignore[arg-type]
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _IPV4_MAPPED.prefixlen))
    return network


def _url(value: str) -> str:
    # No message repeats the value: an address may hold a password.
    parts = urlsplit(value)
    if parts.scheme not in _PORTS or not parts.hostname or any(character.isspace() for character in value):
        raise ValueError('an address begins with http:// or https:// and names a host, as in "https://erp.example.com"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address holds no login; use the connection's own keys for it")
    if parts.query or parts.fragment:
        raise ValueError("an address ends with its path; remove what follows ? or #")
    if parts.port == 0:
        raise ValueError("an address has no port 0")
    # Normalised, because the address identifies the account: two spellings would get two gates.
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port in {None, _PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number belongs here, not true or false")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


ROW = "row"
"""In place of key fields: a hash of the whole row is its key."""


def _key(value: Any) -> Any:
    if value == ROW:
        return value
    fields = list(value) if isinstance(value, list | tuple) else []
    if not fields or not all(isinstance(each, str) and each for each in fields) or len(set(fields)) < len(fields):
        raise ValueError('name the fields that identify an object, as in ["code", "stock"], or write "row"')
    return tuple(fields)


Key = Annotated[Literal["row"] | tuple[str, ...], BeforeValidator(_key)]
"""The fields that identify an object, or "row": its key is a hash of the whole row, so a changed row is another one."""
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,9}\s*[smhd]$"}),
]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network), WithJsonSchema({"type": "string"})]
Url = Annotated[str, AfterValidator(_url)]
Whole = Annotated[int, BeforeValidator(_no_boolean)]


class Strict(BaseModel):
    """A model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def beside_file(info: ValidationInfo, path: str) -> Path:
    """The path, relative to the settings file's folder, which the loader passes in the validation context."""
    return (info.context["folder"] if info.context else Path.cwd()) / path


def environment(info: ValidationInfo) -> Mapping[str, str]:
    """The environment, with the `.env` beside the file, which the loader passes in the validation context."""
    return info.context["environment"] if info.context else os.environ


class Connection(Strict):
    """One configured account at a system: the settings that all systems share.

    A validator of a path makes it absolute by `beside_file`. The descriptions are what `init` writes and editors show;
    a field that a system only gives another default keeps its description (`descriptions.of`).
    """

    name: str = Field(description="The connection's name, which stands in the brackets.")
    system: str = Field(description="The system that this account is at.")
    url: Url = Field(
        description="The vendor's address, without a login, a query or a trailing path of a single resource.",
        examples=["https://erp.example.com"],
    )
    resources: tuple[str, ...] = Field(default=(), description="What is mirrored, under the vendor's own names.")
    every: Duration = Field(default=timedelta(minutes=5), description="How often changes are polled.")
    timezone: str = Field(default="UTC", description="The zone of the vendor's times that have no offset.")
    timeout: Duration = Field(
        default=timedelta(seconds=30), description="How long one request may take until its answer is complete."
    )
    requests_per_minute: Whole | None = Field(
        default=None, gt=0, description="The most requests per minute to this account; unset: no limit.", examples=[60]
    )
    concurrency: Whole = Field(default=1, ge=1, description="How many single objects may be requested at once.")
    omit: tuple[str, ...] = Field(
        default=(),
        description='Fields that are never stored, as dotted paths; "*" is one level, "**" any number of them.',
        examples=[["**.phone", "contacts.*.email"]],
    )
    max_deletions: Annotated[float, BeforeValidator(_no_boolean)] = Field(
        default=0.2,
        ge=0,
        le=1,
        description="The share of a resource that may be deleted within a day; more is held until you approve it.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="The company's CA in PEM, if it signed the server's certificate; unset: the public CAs, this "
        "machine's, and those in SSL_CERT_FILE, SSL_CERT_DIR or REQUESTS_CA_BUNDLE.",
        examples=["company-ca.pem"],
    )
    client_certificate: Path | tuple[Path, Path] | None = Field(
        default=None,
        description="The certificate that the server wants of us: one PEM file with certificate and key, or a list "
        "of the two files.",
        examples=[["client.crt", "client.key"], "client.pem"],
    )
    proxy: Secret | None = Field(
        default=None,
        description='The HTTP proxy on the way to the vendor; unset: that of HTTPS_PROXY, HTTP_PROXY and NO_PROXY; "": '
        "none.",
        examples=["http://proxy.example.com:3128"],
    )

    _route: network.Route = PrivateAttr(default_factory=lambda: network.DIRECT)  # pydantic copies a `default` deeply

    secrets: ClassVar[tuple[str, ...]] = ()
    """Paths that are never stored, in addition to `omit`."""

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, timezone: str) -> str:
        try:
            zoneinfo.ZoneInfo(timezone)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            known = zoneinfo.available_timezones()
            if not known:
                raise ValueError("this machine knows no time zones; install the package tzdata") from None
            guess = messages.did_you_mean(timezone, known)
            raise ValueError(
                f'there is no time zone "{timezone}"{guess or ";"} write one as in "Europe/Kyiv"'
            ) from None
        return timezone

    @field_validator("ca_file")
    @classmethod
    def _holds_cas(cls, ca_file: Path | None, info: ValidationInfo) -> Path | None:
        if ca_file is None:
            return None
        path = beside_file(info, str(ca_file))
        network.read_ca_file(path)
        return path

    @field_validator("client_certificate")
    @classmethod
    def _holds_certificate_and_key(
        cls, given: Path | tuple[Path, Path] | None, info: ValidationInfo
    ) -> Path | tuple[Path, Path] | None:
        if given is None:
            return None
        if isinstance(given, tuple):
            certificate, key = (beside_file(info, str(each)) for each in given)
            network.read_client_certificate((certificate, key))
            return certificate, key
        path = beside_file(info, str(given))
        network.read_client_certificate((path,))
        return path

    @field_validator("proxy")
    @classmethod
    def _is_a_proxy(cls, proxy: Secret | None) -> Secret | None:
        if proxy is not None and proxy.get_secret_value():
            network.proxy_address(proxy.get_secret_value())
        return proxy

    @model_validator(mode="after")
    def _find_route(self, info: ValidationInfo) -> Self:
        """Take from the environment what is not set, once and here, so that a mistake there refuses to start, too."""
        variables = environment(info)
        if self.proxy is None:
            proxy = network.environment_proxy(self.url, variables)
        else:
            proxy = network.proxy_address(self.proxy.get_secret_value()) if self.proxy.get_secret_value() else None
        uses_tls = any(address is not None and address.startswith("https:") for address in (self.url, proxy))
        certificate = self.client_certificate
        self._route = network.Route(
            ca_file=self.ca_file,
            extra_cas=network.environment_cas(variables) if uses_tls and self.ca_file is None else (),
            client_certificate=certificate if isinstance(certificate, tuple) else (certificate,) if certificate else (),
            proxy=proxy,
        )
        return self

    @property
    def route(self) -> network.Route:
        """How requests reach the vendor: `ca_file`, `client_certificate` and `proxy`, or what the environment says."""
        return self._route

    @property
    def secret_values(self) -> list[str]:
        """What no message may show. Of a proxy's address only the password is secret."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "proxy"}
        return [
            *(value.get_secret_value() for value in values.values() if isinstance(value, SecretStr)),
            *self.route.secrets,
        ]

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The zone of the vendor's local times."""
        return zoneinfo.ZoneInfo(self.timezone)

    def login(self) -> tuple[str, ...]:
        """What identifies the account at the vendor, in addition to its address. Secret."""
        raise NotImplementedError

    def closed_until(self, now: datetime) -> datetime | None:  # noqa: ARG002 - most vendors have no opening hours
        """When the vendor takes full syncs again; None while it does."""
        return None


class SendsWebhooks(Connection):
    """A connection whose system sends webhooks."""

    webhook_sources: tuple[Network, ...] = Field(
        description="The addresses and networks that may send webhooks.", examples=[["88.198.50.253"]]
    )
    webhook_secret: Secret | None = Field(
        default=None,
        description="A secret that the webhooks' address has to end in: /hooks/NAME/SECRET.",
        examples=["a-long-random-word"],
    )

    @field_validator("webhook_sources")
    @classmethod
    def _not_empty(cls, sources: tuple[Network, ...]) -> tuple[Network, ...]:
        if not sources:
            raise ValueError("an empty list refuses every sender; remove the key for the default, or name a network")
        return sources

    @field_validator("webhook_secret")
    @classmethod
    def _fits_an_address(cls, secret: Secret | None) -> Secret | None:
        if secret is not None and not re.fullmatch(r"[A-Za-z0-9._~-]+", secret.get_secret_value()):
            raise ValueError("the secret ends an address: use letters, digits and . _ ~ - only, and at least one")
        return secret


class TakesDocuments(Connection):
    """A connection whose system reads documents that are handed in. `inbox` is absolute after loading."""

    inbox: Path | None = Field(
        default=None,
        description="A folder that is watched for PDFs, with a subfolder for each resource.",
        examples=["incoming"],
    )
    largest: Whole = Field(default=20_000_000, gt=0, description="The most bytes that a document may have.")

    @field_validator("inbox")
    @classmethod
    def _beside_the_file(cls, inbox: Path | None, info: ValidationInfo) -> Path | None:
        return None if inbox is None else beside_file(info, str(inbox))


class TakesCommands(Connection):
    """A connection whose system takes writes."""

    commands: tuple[str, ...] = Field(
        default=(),
        description="The writes that are allowed, by the vendor's names of them; `erpmirror command NAME` shows all.",
    )
    commands_token: Secret | None = Field(
        default=None,
        description="The token that callers of POST /commands/NAME send; it opens nothing else. Unset: only "
        "`erpmirror command` sends any.",
        examples=["${SHOP_COMMANDS_TOKEN}"],
    )
    commands_per_minute: Whole = Field(
        default=600, gt=0, description="The most commands per minute that are accepted; more are answered 429."
    )
    unique: dict[str, str] = Field(
        default_factory=dict,
        description="By resource, the field that finds a new object again if it is not known whether it was created.",
    )
