"""One subscription's endpoint: posts a message and says what came of it. Follows no redirect, uses no proxy."""

from __future__ import annotations

import email.utils
import re
import ssl
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpcore

from models import exact
from workers.deliveries import network
from workers.deliveries.network import Backend, NotPublicError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.settings.subscriptions import Subscription
    from workers.deliveries.network import Resolver

_KEPT_BYTES = 1024
"""How much of an answer is read and kept; an endpoint that sends more loses its connection."""

_BODY_SECONDS = 1.0
"""Seconds for the rest of an answer whose head has come: the status has told what counts."""

_IDLE = 3.0
"""Seconds after which an idle connection is not used again; servers close one after five, or more."""

_BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
_FAILURES = (*_BROKEN, NotPublicError)

_REDIRECT = range(300, 400)
GONE = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a POST. `status` is None without an answer, `error` None if it was delivered.

    `text`: the answer's first 1,024 bytes. `retry_after`: what the endpoint asks for.
    """

    error: str | None
    seconds: float
    status: int | None = None
    text: str | None = None
    retry_after: timedelta | None = None


class Endpoint:
    """The connections to one address, each used by one thread at a time. `resolver` replaces the machine's, for tests.

    httpcore's own pool would add a fifth to the time of a request.
    """

    def __init__(self, options: Subscription, *, resolver: Resolver = network.resolve) -> None:
        parts = urlsplit(options.url)
        self._options = options
        self._backend = Backend(allow_private=options.allow_private, resolver=resolver)
        self._url = httpcore.URL(
            scheme=parts.scheme.encode(),
            host=options.host.encode(),
            port=parts.port,
            target=f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".encode(),
        )
        self._host = parts.netloc.encode()
        self._idle: list[httpcore.HTTPConnection] = []  # the latest used last; threads append and pop

    def close(self) -> None:
        """Close the connections that no thread uses."""
        with suppress(IndexError):  # other threads take some
            while True:
                self._idle.pop().close()

    def reach(self) -> str | None:
        """Connect, and send nothing. Why that failed; None if it did not."""
        self._backend.begin(self._options.timeout.total_seconds())
        try:
            port = self._url.port or {b"http": 80, b"https": 443}[self._url.scheme]
            stream = self._backend.connect_tcp(self._options.host, port)
            try:
                if self._url.scheme == b"https":
                    stream = stream.start_tls(self._options.route.tls_context(), self._options.host)
            finally:
                stream.close()
        except (*_FAILURES, ValueError) as error:
            return self._words(error)
        return None

    def post(self, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Answer:
        """Post once. An open connection that turns out to be closed is replaced once: nothing was answered on it."""
        began = time.monotonic()
        self._backend.begin(self._options.timeout.total_seconds())
        try:
            try:
                return self._post(headers, body, began)
            except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
                if self._backend.has_connected:
                    raise
                self.close()  # the others are probably closed, too
                return self._post(headers, body, began)
        except (*_FAILURES, ValueError) as error:
            return Answer(self._words(error), time.monotonic() - began)

    def _post(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, began: float) -> Answer:
        full = [(b"Host", self._host), *headers, (b"Content-Length", b"%d" % len(body))]
        with self._connection() as connection:
            response = connection.handle_request(httpcore.Request("POST", self._url, headers=full, content=body))
            seconds = time.monotonic() - began
            try:
                text = self._read(response.iter_stream())
            finally:
                response.close()  # the connection, too, if there is more to read
        return Answer(
            _refusal(response.status),
            seconds,
            status=response.status,
            text=exact.storable_text(text.decode("utf-8", "replace")) or None,
            retry_after=_retry_after(response.headers),
        )

    @contextmanager
    def _connection(self) -> Iterator[httpcore.HTTPConnection]:
        """An idle connection, or one that opens with its first request. It is kept if it can be used again."""
        connection = self._take_idle() or httpcore.HTTPConnection(
            self._url.origin, ssl_context=self._tls, keepalive_expiry=_IDLE, network_backend=self._backend
        )
        try:
            yield connection
        finally:
            if connection.is_available():
                self._idle.append(connection)
            else:
                connection.close()

    def _take_idle(self) -> httpcore.HTTPConnection | None:
        """The connection that was used last, unless its server has closed it."""
        with suppress(IndexError):  # there is none, or other threads took it
            while (connection := self._idle.pop()).has_expired():
                connection.close()
            return connection
        return None

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return self._options.route.tls_context() if self._url.scheme == b"https" else None

    def _read(self, chunks: Iterator[bytes]) -> bytes:
        """The body's beginning. A longer or slower one is left: leaving the stream early closes the connection."""
        self._backend.limit(_BODY_SECONDS)
        read = b""
        try:
            for chunk in chunks:
                read += chunk
                if len(read) > _KEPT_BYTES:
                    break
        except _BROKEN:
            pass
        return read[:_KEPT_BYTES]

    def _words(self, error: Exception) -> str:
        host = self._options.host
        seconds = self._options.timeout.total_seconds()
        failure = next((each for each in _causes(error) if isinstance(each, ssl.SSLError)), None)
        match failure or error:
            case ssl.SSLCertVerificationError(verify_message=reason):
                words = f"the certificate of {host} is not accepted ({reason}); a company's CA belongs in ca_file"
            case ssl.SSLError(reason=reason):
                words = f"no TLS connection to {host}: {reason or failure}"
            case NotPublicError() | ValueError():  # or a CA's file that cannot be used any more
                words = str(error)
            case httpcore.TimeoutException():
                words = f"no answer within {seconds:g} s"
            case httpcore.ConnectError():
                words = f"no connection to {host}: {error}"
            case httpcore.RemoteProtocolError() if "_SWITCH_UPGRADE" in str(error):
                words = f"{host} answers 101, which nobody has asked for"
            case httpcore.NetworkError() | httpcore.RemoteProtocolError() if _has_closed(error):
                words = f"{host} closed the connection without an answer"
            case _:
                words = f"{host} does not answer in HTTP: {error}"
        return words[:_KEPT_BYTES]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _has_closed(error: Exception) -> bool:
    return isinstance(error, httpcore.NetworkError) or "disconnected without" in str(error)


def _refusal(status: int) -> str | None:
    """Why a status is no success; None for one that is."""
    if status in range(200, 300):
        return None
    if status in _REDIRECT:
        return f"status {status}: redirects are not followed; write the new address in url"
    return f"status {status}"


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> timedelta | None:
    """What `Retry-After` asks for, in seconds or as a date (RFC 9110); None if it says nothing usable."""
    value = next((text.decode("latin-1").strip() for name, text in headers if name.lower() == b"retry-after"), "")
    if re.fullmatch("[0-9]{1,9}", value):
        return timedelta(seconds=int(value))
    try:
        wanted = email.utils.parsedate_to_datetime(value)
        if wanted.tzinfo is None:
            wanted = wanted.replace(tzinfo=UTC)
        return max(wanted - datetime.now(UTC), timedelta())
    except (ValueError, OverflowError, TypeError, IndexError):  # the parser raises what its steps raise
        return None
