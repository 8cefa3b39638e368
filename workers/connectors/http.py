"""The HTTP client of the connectors: a total deadline per request, errors classified, no secrets in messages.

httpx has timeouts per read only, so a server that sends one byte now and then would hold a worker for ever. `Http.read`
limits the whole request by the wall clock; `Http.stream` is for long bodies and limits the time without progress.
"""

from __future__ import annotations

import codecs
import itertools
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import httpx

from models import exact
from workers.connectors import bodies, response_headers, streaming, transport
from workers.connectors.deadlines import Deadline
from workers.connectors.quoting import error_words, excerpt, foreign_error, is_page, one_line
from workers.errors import InsecureError, SetAside, TimedOutError, TooLargeError, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from models.settings.network import Route
    from models.values import JsonObject
    from workers.connectors.contract import ClientRuntime

__all__ = [
    "MAY_BE_DONE",
    "Http",
    "Peeked",
    "Reply",
    "Streamed",
    "error_words",
    "excerpt",
    "foreign_error",
    "is_page",
    "one_line",
    "reachable",
    "read_login",
]

MAY_BE_DONE = {httpx.codes.MOVED_PERMANENTLY, httpx.codes.FOUND, httpx.codes.SEE_OTHER}
"""Redirects after which a write may have been done: the answer to it is elsewhere. Others say to send it there."""

_MIN_PROGRESS = 1024
"""Bytes. A stream that delivers less than this within one timeout has stalled."""

_PEEK_BYTES = 64
"""Bytes per read while looking for the first character of a body."""

_EXCERPT_BYTES = 2**12
"""Bytes of the body of a server error that are read for its words."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete response, with any status that is neither 429, 5xx nor a redirect.

    `body`: in UTF-8, if it is text. `date`: the vendor's time (`Date` header), aware; None if it sends none. `redact`:
    removes secrets from a text that an error message quotes.
    """

    status: int
    body: bytes
    date: datetime | None
    redact: Callable[[str], str] = field(default=str, repr=False, compare=False)

    def json(self) -> Any:
        """The decoded body; numbers are int or Decimal. TryLater if it is not JSON (a proxy's page, a cut body)."""
        try:
            return exact.loads_leniently(self.body)
        except ValueError:
            raise self._not_json() from None

    def json_listing(self) -> Any:
        """As `json`, but an item of a list that cannot be read leaves an `UnreadableRecord` in its place.

        In the list that the body is, or in the lists of the object that it is.
        """
        try:
            return streaming.decode_listing(self.body)
        except ValueError:
            raise self._not_json() from None

    def _not_json(self) -> TryLater:
        return TryLater(f"the answer is not JSON: {excerpt(self.body, redact=self.redact)}", closes_gate=False)


class Streamed:
    """A response whose body is read as it arrives. Has a file's `read`, as streaming parsers want it."""

    def __init__(self, http: Http, response: httpx.Response) -> None:
        self.status = response.status_code
        self.date = response_headers.date(response)
        self.charset = response.charset_encoding
        self._chunks = http.body_unless_stalled(response)
        self._largest = http.largest
        self._buffer = b""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end. A negative size reads all; TooLargeError above `largest`."""
        if size == 0:
            return b""
        if size < 0:
            buffered, self._buffer = self._buffer, b""
            return _bounded(itertools.chain([buffered], self._chunks), self._largest)
        while not self._buffer:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._buffer = chunk
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


class Peeked:
    """A body whose first character is known before it is parsed, to tell JSON from XML or a refusal from data.

    `first`: one byte, after a byte order mark and whitespace; empty for an empty body. The body is read in UTF-8,
    except XML, which declares its own encoding.
    """

    def __init__(self, reply: Streamed) -> None:
        self._reply = reply
        raw = b""
        while len(raw) < bodies.HEAD and (more := reply.read(_PEEK_BYTES)):
            raw += more
        self._convert = bodies.utf8_converter(raw, reply.charset)
        self._head = bodies.content(self._in_utf8(raw)).lstrip()
        while codecs.BOM_UTF8.startswith(self._head) and (more := reply.read(_PEEK_BYTES)):
            self._head = bodies.content(self._head + self._in_utf8(more)).lstrip()
        self.first = self._head[:1]
        if self.first == b"<" and self._convert is not None:
            self._convert, self._head = None, raw

    def read(self, size: int = -1) -> bytes:
        """As `Streamed.read`."""
        if size < 0:
            head, self._head = self._head, b""
            return head + self._in_utf8(self._reply.read(-1))
        while size and not self._head and (more := self._reply.read(size)):
            self._head = self._in_utf8(more)
        taken, self._head = self._head[:size], self._head[size:]
        return taken

    def _in_utf8(self, part: bytes) -> bytes:
        return part if self._convert is None else self._convert(part, False)


class Http:
    """An HTTP client for one vendor account, with one kept-alive connection.

    - `timeout`: for each whole request, headers and body; those of a login count on their own
    - `route`: the connection's `options.route`: trusted CAs, client certificate, proxy
    - `redact`: removes secrets from a text. Error messages quote the response, and a vendor may echo what it was sent
    - `largest`: bytes of a body that `read` accepts

    429, 5xx, a redirect and transport errors raise `TryLater`; the caller handles every other status.
    """

    def __init__(
        self,
        runtime: ClientRuntime,
        *,
        base_url: str,
        timeout: timedelta,
        route: Route,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        self._runtime = runtime
        self.largest = runtime.largest
        self._redact = transport.redacting(redact, route)
        self._timeout = timeout.total_seconds()
        self._route = route
        self._socket: socket.socket | None = None
        self._deadline: Deadline | None = None
        self._base_url = base_url
        self._headers = dict(headers or {})
        self._auth = auth

    @cached_property
    def _client(self) -> httpx.Client:
        """Opened by the first request, which then has a vendor's error if a certificate became unusable."""
        client = transport.open_client(
            self._route, base_url=self._base_url, timeout=self._timeout, headers=self._headers, auth=self._auth
        )
        client.event_hooks["request"].append(self._before_request)
        return client

    def close(self) -> None:
        """Close the HTTP connection. A further request opens it again, with the certificates as they are then."""
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    def read(self, method: str, path: str, **request: Any) -> Reply:
        """Make one request and read its whole response; TooLargeError if the body exceeds `largest`.

        `request`: httpx's `params`, `json`, `content`, `data`, `headers`, `files`.
        """
        with self._exchange(method, path, request) as (response, deadline):
            body = bodies.in_utf8(_bounded(deadline.body(response), self.largest), response.charset_encoding)
            return Reply(response.status_code, body, response_headers.date(response), redact=self._redact)

    def preview(self, method: str, path: str, **request: Any) -> JsonObject:
        """The request as `read` would send it, for a person: `method`, `url`, `body`; without headers and secrets."""
        built = self._client.build_request(method, path, **request)
        shown: JsonObject = {"method": built.method, "url": self._redact(str(built.url))}
        body = self._redact(built.content.decode())
        with suppress(ValueError):  # a form is shown as its text
            return shown | ({"body": exact.loads(body)} if body else {})
        return shown | {"body": body}

    @contextmanager
    def stream(self, method: str, path: str, **request: Any) -> Iterator[Streamed]:
        """Make one request whose body may be long.

        The deadline covers only the time until its headers. After that TimedOutError means too little progress within
        one timeout; total time and size have no limit.
        """
        with self._exchange(method, path, request) as (response, deadline):
            deadline.cancel()
            yield Streamed(self, response)

    @contextmanager
    def _exchange(self, method: str, path: str, request: dict[str, Any]) -> Iterator[tuple[httpx.Response, Deadline]]:
        deadline = self._deadline = Deadline(self._timeout, self._shut_down_socket)

        def trace(event: str, info: Mapping[str, Any]) -> None:
            if event in transport.CONNECTED:
                self._socket = info["return_value"].get_extra_info("socket")
                if deadline.expired:
                    self._shut_down_socket()  # connected only after the deadline
            elif event in transport.SENDS and deadline.is_over:
                # The process was stopped meanwhile: its lease is over, and another worker may have begun the same.
                raise TryLater(f"not sent within {self._timeout:g} s", closes_gate=False, refused=True)

        try:
            built = self._client.build_request(method, path, extensions={"trace": trace}, **request)
            response = self._client.send(built, stream=True)
            bodies.ArrivingBody.lift_limit(response)
            try:
                _raise_for_status(response, deadline, self._redact)
                yield response, deadline
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = self._classified(error, deadline)
            if isinstance(failure, InsecureError):
                self.close()  # the file that lets the next request through may be a new one
            raise failure from None
        except VendorError as error:
            error.args = (self._redact(str(error)),)
            raise
        finally:
            deadline.cancel()

    def _before_request(self, _: httpx.Request) -> None:
        """Called by httpx before it sends a request, also one that `auth` sends before or after the caller's."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._runtime.before_request()
            self._deadline.start()

    def _classified(self, error: Exception, deadline: Deadline) -> VendorError:
        """The vendor error for a transport error. `refused` only while connecting: nothing has been sent by then."""
        host, name = httpx.URL(self._base_url).host, type(error).__name__
        if unreached := transport.unreached(error, host=host, route=self._route, timeout=self._timeout):
            return unreached
        match error:
            case httpx.TimeoutException():
                return TimedOutError(f"no answer within {self._timeout:g} s ({name})")
            case httpx.LocalProtocolError() | httpx.InvalidURL():
                # The library's message is left out: it quotes the header, which may hold the key.
                return SetAside(f"the request cannot be sent: its URL or a header is malformed ({name})")
            case httpx.DecodingError():
                return TryLater(f"{host}: {error}", closes_gate=False)
        return (
            TimedOutError(f"no answer within {self._timeout:g} s")
            if deadline.expired
            else TryLater(f"{host}: {str(error) or name}")
        )

    def _shut_down_socket(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def body_unless_stalled(self, response: httpx.Response) -> Iterator[bytes]:
        """Yield the body as it arrives, extending the lease; TimedOutError if too few arrive within one timeout."""
        waited, received, started = 0.0, 0, time.monotonic()
        for chunk in response.iter_bytes():
            self._runtime.heartbeat()
            received += len(chunk)
            waited += time.monotonic() - started  # only the wait for the vendor, not the time that the caller takes
            if waited > self._timeout:
                if received < _MIN_PROGRESS:
                    raise TimedOutError(f"the answer stalled: {received} bytes in {waited:.0f} s")
                waited, received = 0.0, 0
            yield chunk
            started = time.monotonic()


def reachable(url: str) -> bool:
    """Whether the URL answers with a 2xx status within a second."""
    try:
        return httpx.get(url, timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False


def read_login(response: httpx.Response) -> bytes:
    """The whole body of a reply to a login, in UTF-8. TooLargeError above `bodies.ArrivingBody.largest`."""
    return bodies.in_utf8(response.read(), response.charset_encoding)


def _raise_for_status(response: httpx.Response, deadline: Deadline, redact: Callable[[str], str]) -> None:
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        quoted = excerpt(_excerpt_bytes(deadline.body(response)), redact=redact, is_error=True)
        busy = response.status_code == httpx.codes.TOO_MANY_REQUESTS
        raise TryLater(
            f"HTTP {response.status_code} {quoted}".strip(), after=response_headers.retry_after(response), refused=busy
        )
    if response.has_redirect_location:
        # A captive portal or a server in restart redirects for a while; a moved one until `url` is corrected.
        text = f"HTTP {response.status_code}: redirected; set `url` to the address that it redirects to"
        raise TryLater(text, closes_gate=False, refused=not _leads_to_an_answer(response))


def _leads_to_an_answer(response: httpx.Response) -> bool:
    """Whether the vendor may have done what was asked: it redirects within itself, as programs answer a form."""
    following = response.next_request
    is_same_host = following is None or following.url.host == response.request.url.host
    return response.status_code in MAY_BE_DONE and is_same_host


def _excerpt_bytes(chunks: Iterator[bytes]) -> bytes:
    """The bytes of a body in which an error message finds the vendor's words, or fewer if the body breaks off."""
    body = bytearray()
    with suppress(httpx.TransportError, httpx.DecodingError, TimedOutError):
        for chunk in chunks:
            body += chunk
            if len(body) > _EXCERPT_BYTES:
                break
    return bytes(body)


def _bounded(chunks: Iterator[bytes], largest: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > largest:
            raise TooLargeError(f"the answer is larger than {largest / 2**20:g} MiB")
    return bytes(body)
