"""The way to a vendor: opens the HTTP client with the connection's CAs, certificate and proxy, and explains failures.

An explanation names the setting that helps: OpenSSL's own words help nobody.
"""

from __future__ import annotations

import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx

from models import redaction
from workers.connectors import bodies
from workers.errors import InsecureError, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from models.settings.network import Route

CONNECTED = {"connection.connect_tcp.complete", "connection.start_tls.complete", "proxy.start_tls.complete"}
"""httpcore's events after which there is a (new) socket; a tunnel's TLS wraps the proxy's."""

SENDS = {"http11.send_request_headers.started"}
"""httpcore's events before the first byte of a request is sent, one to a proxy included."""

_IDLE = 3.0
"""Seconds after which an idle connection is not used again. Apache and uvicorn close it after 5, and a request that is
sent at that moment is lost, and counts as a failure of the vendor.
"""

# OpenSSL's X509_V_ERR_… (x509_vfy.h); Python's ssl module does not name them.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_CA = {2, 18, 19, 20, 21}
_WRONG_NAME = {62, 64}

_WANTS_CLIENT_CERTIFICATE = ("CERTIFICATE_REQUIRED", "ALERT_UNKNOWN_CA", "BAD_CERTIFICATE", "ALERT_CERTIFICATE_")
_HANDSHAKE_REFUSED = ("HANDSHAKE_FAILURE", "ALERT_ACCESS_DENIED")
_OUTDATED = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "DH_KEY_TOO_SMALL", "LEGACY_RENEGOTIATION", "TOO_WEAK")
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def open_client(
    route: Route, *, base_url: str, timeout: float, headers: Mapping[str, str], auth: httpx.Auth | None
) -> httpx.Client:
    """A client with one kept-alive connection. InsecureError if a certificate's file is no longer usable."""
    try:
        tls = route.tls_context()
    except ValueError as error:
        raise InsecureError(str(error), refused=True, vendors_fault=False) from None
    secure = route.proxy is not None and route.proxy.startswith("https:")
    proxy = None if route.proxy is None else httpx.Proxy(route.proxy, ssl_context=tls if secure else None)

    def refuse_proxy_login(response: httpx.Response) -> None:
        # Of every response, a login's too: the caller would take it for the vendor's own refusal.
        if response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            raise _refused_by_proxy(route, "407 Proxy Authentication Required")

    return httpx.Client(
        base_url=base_url,
        headers={"Accept-Encoding": bodies.ACCEPT_ENCODING, **headers},
        auth=auth,
        timeout=timeout,
        trust_env=False,  # the settings have looked at the environment already
        # The client is reused by later tasks. Sessions belong in `Sessions`, shared and encrypted, not in cookies.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        verify=tls,
        proxy=proxy,
        event_hooks={"response": [bodies.ArrivingBody.attach, *([refuse_proxy_login] if proxy else [])]},
        limits=httpx.Limits(max_connections=1, keepalive_expiry=_IDLE),
    )


def redacting(redact: Callable[[str], str], route: Route) -> Callable[[str], str]:
    """The redaction of a vendor's answers, extended by the proxy's password."""
    if not route.secrets:
        return redact
    mask = redaction.Mask(route.secrets)
    return lambda text: mask(redact(text))


def unreached(error: Exception, *, host: str, route: Route, timeout: float) -> TryLater | None:
    """The error where there is no connection, or none that can be trusted; None for any other.

    `refused`: the request was never sent. A TLS error after the handshake says nothing of what the server has done.
    """
    reached = host if route.proxy is None else f"the proxy {route.proxy_name}"
    match error:
        case _ if (words := _insecure(error, route)) is not None:
            return InsecureError(f"{host}: {words}", refused=_was_not_sent(error))
        case httpx.ConnectTimeout():
            return TryLater(f"{reached}: no connection within {timeout:g} s", refused=True)
        case httpx.ProxyError():
            return _refused_by_proxy(route, str(error))
        case httpx.ConnectError():
            return TryLater(f"{reached}: {str(error) or type(error).__name__}", refused=True)
    return None


def _was_not_sent(error: Exception) -> bool:
    """Whether TLS failed before the request. With TLS 1.3 a server that wants another certificate says so later."""
    failure = next((each for each in _causes(error) if isinstance(each, ssl.SSLError)), None)
    refuses_certificate = (*_WANTS_CLIENT_CERTIFICATE, *_HANDSHAKE_REFUSED)
    is_alert = failure is not None and any(each in (failure.reason or "") for each in refuses_certificate)
    return is_alert or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _refused_by_proxy(route: Route, answer: str) -> TryLater:
    """`answer`: the proxy's status and reason."""
    remedy = "correct user and password in `proxy`" if answer.startswith("407") else "let it allow this address"
    return TryLater(f"the proxy {route.proxy_name} refused the connection: {answer}; {remedy}", refused=True)


def _insecure(error: Exception, route: Route) -> str | None:
    """What was wrong with a handshake; None for any other failure."""
    failure = next((each for each in _causes(error) if isinstance(each, ssl.SSLError)), None)
    if isinstance(failure, ssl.SSLCertVerificationError):
        return _of_certificate(failure, route)
    return None if failure is None or isinstance(failure, ssl.SSLEOFError) else _of_handshake(failure, route)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_certificate(failure: ssl.SSLCertVerificationError, route: Route) -> str:
    code = failure.verify_code
    if code in _UNKNOWN_CA and route.ca_file is not None:
        return f"its certificate is not signed by a CA in `ca_file` ({route.ca_file}): correct that file"
    if code in _UNKNOWN_CA:
        return (
            "its certificate is signed by a CA that this machine does not trust: "
            "set `ca_file` to a file with that CA's certificate"
        )
    if code in _WRONG_NAME:
        return "its certificate is for another name: write `url` with a name that stands in the certificate"
    if code == _EXPIRED:
        return "its certificate has expired: whoever runs the server has to renew it, or this machine's clock is wrong"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet: correct this machine's clock, or the server's certificate"
    return f"its certificate is not accepted ({failure.verify_message}): set `ca_file` to the CA that signed it"


def _of_handshake(failure: ssl.SSLError, route: Route) -> str:
    reason = failure.reason or ""

    def is_one_of(known: tuple[str, ...]) -> bool:
        return any(each in reason for each in known)

    if is_one_of(_WANTS_CLIENT_CERTIFICATE) and route.client_certificate:
        return "it does not accept the certificate in `client_certificate`: ask whoever runs it for a valid one"
    if is_one_of(_WANTS_CLIENT_CERTIFICATE):
        return "it wants a client certificate: set `client_certificate` to a file with the certificate and its key"
    if is_one_of(_HANDSHAKE_REFUSED):
        return "it refused the TLS connection: if it wants a client certificate, set `client_certificate`"
    if is_one_of(_NO_TLS):
        return "it answers without TLS: write http:// in `url`, or the port on which it speaks TLS"
    if is_one_of(_OUTDATED):
        return f"its TLS is too old to be safe ({reason}): whoever runs the server has to update it"
    return f"no TLS connection: {reason or failure}"
