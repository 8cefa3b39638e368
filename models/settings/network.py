"""The way from a connection to its vendor: the CAs it trusts, its client certificate and its proxy.

Each comes from the connection's settings, else from the variables that curl, requests and OpenSSL know.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import certifi

_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"

_READABLE = "correct the path, or let this user read it"

PROXY = 'write "http://proxy.example.com:3128", or "http://user:password@…" with %40 for @, %2F for / and %3A for :'
"""How a proxy is written."""


@dataclass(frozen=True, slots=True)
class Route:
    """How requests reach the vendor. `proxy`: its address with its login, normalised; None: directly.

    - `ca_file`: the only CAs that are trusted; None: those of the machine, Mozilla's list and `extra_cas`
    - `extra_cas`: files and folders that the environment names
    - `client_certificate`: a file with certificate and key, or one of each; empty: none
    """

    ca_file: Path | None = None
    extra_cas: tuple[Path, ...] = ()
    client_certificate: tuple[Path, ...] = ()
    proxy: str | None = field(default=None, repr=False)

    @property
    def proxy_name(self) -> str | None:
        """The proxy's host and port, without its login."""
        return None if self.proxy is None else self.proxy.rpartition("://")[2].rpartition("@")[2]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show: the proxy's password."""
        password = None if self.proxy is None else urlsplit(self.proxy).password
        return (unquote(password),) if password else ()

    def tls_context(self) -> ssl.SSLContext:
        """The TLS settings, with the files as they are now. ValueError with the remedy if one cannot be used."""
        if self.ca_file is None and not self.client_certificate:
            return _public_context(self.extra_cas)
        context = _company_context(self.ca_file) if self.ca_file else _new_public_context(self.extra_cas)
        if self.client_certificate:
            _load_client_certificate(context, self.client_certificate)
        return context


DIRECT = Route()
"""Without a proxy, trusting the public CAs."""


def read_ca_file(path: Path) -> None:
    """ValueError with the remedy unless the file holds certificates that can be trusted."""
    _company_context(path)


def read_client_certificate(paths: tuple[Path, ...]) -> None:
    """ValueError with the remedy unless the files hold a certificate and its key."""
    _load_client_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), paths)


def proxy_address(value: str) -> str:
    """The normal form of a proxy's address; ValueError, which never repeats the value: it may hold a password."""
    address = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ValueError(PROXY) from None
    if parts.scheme.startswith("socks"):
        raise ValueError(f"SOCKS proxies are not supported; name an HTTP proxy: {PROXY}")
    usable = parts.scheme in {"http", "https"} and parts.hostname and port != 0 and parts.path in {"", "/"}
    if not usable or parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError(PROXY)
    return f"{parts.scheme}://{parts.netloc}"


def environment_cas(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """The files and folders of CAs that the environment names. ValueError if one cannot be used."""
    named = {variable: Path(environment[variable]) for variable in _CA_VARIABLES if environment.get(variable)}
    for variable, path in named.items():
        try:
            _check_cas(path)
        except ValueError as error:
            raise ValueError(f"the environment variable {variable}: {error}; or set `ca_file`") from None
    return tuple(dict.fromkeys(named.values()))


def environment_proxy(url: str, environment: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for this address. Never for loopback. ValueError if it is malformed."""
    scheme, _, _ = url.partition(":")
    named = (_variable(variable, environment) for variable in (f"{scheme}_proxy", "all_proxy"))
    name, value = next(((name, value) for name, value in named if value), ("", ""))
    if not value:
        return None
    parts = urlsplit(url)
    if _is_loopback(parts.hostname or "") or _is_exempt(parts, _variable("no_proxy", environment)[1]):
        return None
    try:
        return proxy_address(value)
    except ValueError as error:
        raise ValueError(f"the environment variable {name}: {error}; or set `proxy`") from None


def _variable(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """(spelling, value): lower case goes first, as in curl and requests."""
    found = next((each for each in (name, name.upper()) if each in environment), name)
    return found, environment.get(found, "").strip()


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _is_exempt(parts: SplitResult, no_proxy: str) -> bool:
    return any(_covers(entry, parts) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _covers(entry: str, parts: SplitResult) -> bool:
    """Whether an entry of NO_PROXY means this address: `*`, a host, a domain, an address or network, or with a port."""
    host = parts.hostname or ""
    if entry == "*":
        return True
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    with suppress(ValueError):
        named = urlsplit(f"//{entry}")
        domain = (named.hostname or "").removeprefix("*").strip(".")
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return bool(domain) and (host == domain or host.endswith(f".{domain}")) and named.port in {None, port}
    return False


@cache
def _check_cas(path: Path) -> None:
    """ValueError with the remedy unless it can be used. By itself: what sends nothing needs no public CAs."""
    _load_cas(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), path)


@cache
def _public_context(extra_cas: tuple[Path, ...]) -> ssl.SSLContext:
    """Kept: loading all public certificates takes longer than many requests."""
    return _new_public_context(extra_cas)


def _new_public_context(extra_cas: tuple[Path, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()  # the machine's own store, where a company's CA may have been installed
    context.load_verify_locations(certifi.where())
    if extra_cas:
        _accept_company_certificates(context)
    for path in extra_cas:
        _load_cas(context, path)
    return context


def _company_context(ca_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _accept_company_certificates(context)
    _load_cas(context, ca_file)
    return context


def _accept_company_certificates(context: ssl.SSLContext) -> None:
    """As curl does: the file may hold just the server's own certificate, and CAs lack extensions that RFC 5280 wants.

    Python 3.13 is strict about the latter by default, and a company does not renew its CA for that.
    """
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT


def _load_cas(context: ssl.SSLContext, path: Path) -> None:
    try:
        if path.is_dir():
            next(path.iterdir(), None)
            context.load_verify_locations(capath=path)
        else:
            path.read_bytes()  # OpenSSL reports a folder or a missing right as a library error
            context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        convert = f"openssl x509 -inform der -in {path.name} -out {path.stem}.pem"
        raise ValueError(f"{path} holds no certificate in PEM; for one in DER: `{convert}`") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; {_READABLE}") from None


def _load_client_certificate(context: ssl.SSLContext, paths: tuple[Path, ...]) -> None:
    def ask_nobody() -> str:
        raise _EncryptedKeyError

    certificate, key = paths[0], paths[-1]
    try:
        holds_certificate = _CERTIFICATE in certificate.read_bytes()
        holds_key = b"PRIVATE KEY-----" in key.read_bytes()
        if holds_certificate and holds_key:
            context.load_cert_chain(certificate, key, ask_nobody)
            return
    except _EncryptedKeyError:
        plain = f"openssl pkey -in {key.name} -out {key.stem}-plain.pem"
        raise ValueError(f"the key in {key} has a passphrase; take it off: `{plain}`") from None
    except ssl.SSLError:
        raise ValueError(f"the key in {key} does not belong to the certificate in {certificate}") from None
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}; {_READABLE}") from None
    lacking = certificate if not holds_certificate else key
    convert = f"openssl pkcs12 -in {lacking.stem}.pfx -out {lacking.stem}.pem -nodes"
    raise ValueError(
        f"{lacking} holds no {'key' if holds_certificate else 'certificate'} in PEM: write one file with both, or "
        f'["client.crt", "client.key"]; for one in PKCS#12: `{convert}`'
    )


class _EncryptedKeyError(Exception):
    """OpenSSL asks for a passphrase."""
