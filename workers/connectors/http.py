"""How connectors speak HTTP: bounded by the wall clock, every failure sorted by fate, no secret in an error."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import httpx

from models import exact
from workers.errors import Fate, SetAside, TimedOut, TooLarge, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from workers.connectors.contract import Wire

_STALL_BYTES = 1024
"""A stream that brings less than this within one timeout has stalled: dripping is not progress."""

_LONGEST_WAIT = timedelta(days=1)
_ABSURD = 9
"""Digits of a `Retry-After` that nobody means."""

_MARK = b"\xef\xbb\xbf"
_GLIMPSE = 64
"""Bytes at once in which the beginning of a body is looked for."""

_WORDS = 200
"""How many characters of a stranger's body an error repeats."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. `date`: the vendor's own clock (`Date` header), aware; None where it sends none.

    `hidden` takes secrets out of what an error repeats.
    """

    status: int
    body: bytes
    date: datetime | None
    hidden: Callable[[str], str] = field(default=str, repr=False, compare=False)

    def json(self) -> Any:
        """The body, decoded exactly. TryLater when it is not JSON: a proxy's page, half a body."""
        try:
            return exact.loads(self.body)
        except ValueError:
            said = words(self.body, hidden=self.hidden)
            raise TryLater(f"the answer is not JSON: {said}", shuts_gate=False) from None


class Streamed:
    """A reply whose body is read as it arrives, never held whole. `read` makes it a file for streaming parsers."""

    def __init__(self, http: Http, response: httpx.Response) -> None:
        self.status = response.status_code
        self.date = _date(response)
        self._chunks = http.progressing(response)
        self._largest = http.largest
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end. Everything for a negative size, or `TooLarge`."""
        if size == 0:
            return b""
        if size < 0:
            rest, self._rest = self._rest, b""
            return _bounded(itertools.chain([rest], self._chunks), self._largest)
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


class Peeked:
    """A body whose first character (after a mark and blanks; empty at the end) is known before it is parsed."""

    def __init__(self, reply: Streamed) -> None:
        self._reply = reply
        self._head = b""
        while not self._head:
            read = reply.read(_GLIMPSE)
            self._head = read.removeprefix(_MARK).lstrip()
            if not read:
                break
        self.first = self._head[:1]

    def read(self, size: int = -1) -> bytes:
        """As `Streamed.read`."""
        if size < 0:
            return self._head + self._reply.read(-1)
        if self._head:
            taken, self._head = self._head[:size], self._head[size:]
            return taken
        return self._reply.read(size)


class _Deadline:
    """Ends a request by the wall clock, also where no loop sees it: dripping headers, a silent body."""

    def __init__(self, seconds: float, hang_up: Callable[[], None]) -> None:
        self.passed = False
        self._seconds = seconds
        self._hang_up = hang_up
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """The request is over, or limited by stalling from here on."""
        self._timer.cancel()

    def guarded(self, response: httpx.Response) -> Iterator[bytes]:
        """The body. `TimedOut` if it was cut short here: where it ends with the connection, nobody else can tell."""
        for chunk in response.iter_bytes():
            self._check()
            yield chunk
        self._check()

    def _pass(self) -> None:
        self.passed = True
        self._hang_up()

    def _check(self) -> None:
        if self.passed:
            raise TimedOut(f"the answer was not complete within {self._seconds:g} s")


class Http:
    """An HTTP client for one vendor account.

    `timeout` bounds a whole request, headers and body, by the wall clock (httpx's own timeouts are per read).
    5xx, 429 and transport failures raise `TryLater`; every other status is the connector's to judge. `hidden` takes
    secrets out of a text: a vendor may repeat what he was sent.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        base_url: str,
        timeout: timedelta,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        hidden: Callable[[str], str] = str,
    ) -> None:
        self._wire = wire
        self.largest = wire.largest
        self._hidden = hidden
        self._timeout = timeout.total_seconds()
        self._socket: socket.socket | None = None
        self._client = httpx.Client(
            base_url=base_url,
            headers=dict(headers or {}),
            auth=auth,
            timeout=self._timeout,
            trust_env=False,
            # The line outlives a task: a session is kept where all workers share it, and nothing else is.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            verify=_trusted(),
            limits=httpx.Limits(max_connections=1),
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read(self, method: str, path: str, **request: Any) -> Reply:
        """One request, its reply held whole, or `TooLarge`.

        `request`: httpx's own `params`, `json`, `content`, `headers`, `files`.
        """
        with self._sent(method, path, request) as (response, deadline):
            body = _bounded(deadline.guarded(response), self.largest)
            return Reply(response.status_code, body, _date(response), hidden=self._hidden)

    @contextmanager
    def stream(self, method: str, path: str, **request: Any) -> Iterator[Streamed]:
        """One request whose body may be long: limited by stalling, not by length."""
        with self._sent(method, path, request) as (response, deadline):
            deadline.cancel()
            yield Streamed(self, response)

    @contextmanager
    def _sent(self, method: str, path: str, request: dict[str, Any]) -> Iterator[tuple[httpx.Response, _Deadline]]:
        deadline = _Deadline(self._timeout, self._hang_up)

        def trace(event: str, info: Mapping[str, Any]) -> None:
            if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
                self._socket = info["return_value"].get_extra_info("socket")
                if deadline.passed:
                    self._hang_up()  # the call was answered too late

        try:
            built = self._client.build_request(method, path, extensions={"trace": trace}, **request)
            response = self._client.send(built, stream=True)
            try:
                _judge(response, deadline, self._hidden)
                yield response, deadline
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._fate(error, deadline) from None
        except Fate as fate:
            fate.args = (self._hidden(str(fate)),)
            raise
        finally:
            deadline.cancel()

    def _fate(self, error: Exception, deadline: _Deadline) -> Fate:
        """What a failure on the way means. Nothing has left before somebody answers the call."""
        host, name = self._client.base_url.host, type(error).__name__
        match error:
            case httpx.ConnectTimeout():
                return TryLater(f"{host}: nobody answered the call", refused=True)
            case httpx.TimeoutException():
                return TimedOut(f"no answer within {self._timeout:g} s ({name})")
            case httpx.LocalProtocolError() | httpx.InvalidURL():
                # Not its words: they repeat the header, which may be the key.
                return SetAside(f"the request cannot be sent: its address or a header is malformed ({name})")
            case httpx.ConnectError():
                return TryLater(f"{host}: {str(error) or name}", refused=True)
            case httpx.DecodingError():
                return TryLater(f"{host}: {error}", shuts_gate=False)
        return (
            TimedOut(f"no answer within {self._timeout:g} s")
            if deadline.passed
            else TryLater(f"{host}: {str(error) or name}")
        )

    def _hang_up(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def progressing(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it arrives; `TimedOut` when it stalls or drips."""
        waited, received, asked = 0.0, 0, time.monotonic()
        for chunk in response.iter_bytes():
            self._wire.alive()
            received += len(chunk)
            waited += time.monotonic() - asked  # for the vendor; what we do with a chunk takes its own time
            if waited > self._timeout:
                if received < _STALL_BYTES:
                    raise TimedOut(f"the answer stalled: {received} bytes in {waited:.0f} s")
                waited, received = 0.0, 0
            yield chunk
            asked = time.monotonic()


@cache
def _trusted() -> ssl.SSLContext:
    """Whom to believe who he is, read once: it takes longer than many an answer."""
    return httpx.create_ssl_context(trust_env=False)


def reachable(url: str) -> bool:
    """Whether somebody answers 2xx there within a second."""
    try:
        return httpx.get(url, timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False


def words(body: bytes, *, hidden: Callable[[str], str] = str) -> str:
    """The beginning of a stranger's body, fit for one line of an error; hidden before it is cut, or halves remain."""
    return " ".join(hidden(body[: 4 * _WORDS].decode(errors="replace")).split())[:_WORDS]


def _judge(response: httpx.Response, deadline: _Deadline, hidden: Callable[[str], str]) -> None:
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        said = words(_beginning(deadline.guarded(response)), hidden=hidden)
        busy = response.status_code == httpx.codes.TOO_MANY_REQUESTS
        raise TryLater(f"HTTP {response.status_code} {said}".strip(), after=_retry_after(response), refused=busy)
    if response.is_redirect:
        raise SetAside(f"HTTP {response.status_code}: redirected; set `url` to where this leads")


def _beginning(chunks: Iterator[bytes]) -> bytes:
    """As much of a body as an error repeats, or as much of that as arrives."""
    body = bytearray()
    with suppress(httpx.TransportError, httpx.DecodingError, TimedOut):
        for chunk in chunks:
            body += chunk
            if len(body) > 4 * _WORDS:
                break
    return bytes(body)


def _retry_after(response: httpx.Response) -> timedelta | None:
    """What the vendor asks for, at most a day: no typing error of his may stop us for a year."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]+", value):
        return min(timedelta(seconds=int(value)), _LONGEST_WAIT) if len(value) < _ABSURD else _LONGEST_WAIT
    moment = _moment(value)
    return None if moment is None else min(max(moment - datetime.now(UTC), timedelta(0)), _LONGEST_WAIT)


def _date(response: httpx.Response) -> datetime | None:
    return _moment(response.headers.get("Date", ""))


def _moment(header: str) -> datetime | None:
    with suppress(ValueError, OverflowError, TypeError, IndexError):
        return _aware(parsedate_to_datetime(header))
    return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _bounded(chunks: Iterator[bytes], largest: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > largest:
            raise TooLarge(f"the answer is larger than {largest / 2**20:g} MiB")
    return bytes(body)
