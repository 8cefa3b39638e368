"""How connectors speak HTTP: bounded by the wall clock, every failure sorted by fate, no secret in an error."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

from models import exact
from workers.errors import SetAside, TimedOut, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workers.connectors.contract import Wire

_LARGEST_BODY = 64 * 2**20
"""A reply that is held whole may not be larger; larger ones are for `stream`."""

_STALL_BYTES = 1024
"""A stream that brings less than this within one timeout has stalled: dripping is not progress."""

_WORDS = 200
"""How many characters of a stranger's body an error repeats."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply. `date`: the vendor's own clock (`Date` header), aware; None where it sends none."""

    status: int
    body: bytes
    date: datetime | None

    def json(self) -> Any:
        """The body, decoded exactly. TryLater when it is not JSON: a proxy's page, half a body."""
        try:
            return exact.loads(self.body)
        except ValueError:
            raise TryLater(f"the answer is not JSON: {words(self.body)}", shuts_gate=False) from None


class Streamed:
    """A reply whose body is read as it arrives, never held whole. `read` makes it a file for streaming parsers."""

    def __init__(self, http: Http, response: httpx.Response) -> None:
        self.status = response.status_code
        self.content_type = response.headers.get("Content-Type", "")
        self.date = _date(response)
        self._chunks = http.progressing(response)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end. Everything (bounded) for a negative size."""
        if size == 0:
            return b""
        if size < 0:
            return _bounded(iter([self._rest, *self._chunks]))
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


class Http:
    """An HTTP client for one vendor account.

    `timeout` bounds a whole request, headers and body, by the wall clock (httpx's own timeouts are per read).
    5xx, 429 and transport failures raise `TryLater`; every other status is the connector's to judge.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        base_url: str,
        timeout: timedelta,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
    ) -> None:
        self._wire = wire
        self._timeout = timeout.total_seconds()
        self._socket: socket.socket | None = None
        self._client = httpx.Client(
            base_url=base_url,
            headers=dict(headers or {}),
            auth=auth,
            timeout=self._timeout,
            trust_env=False,
            limits=httpx.Limits(max_connections=1),
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def read(self, method: str, path: str, **request: Any) -> Reply:
        """One request, its reply held whole. `request`: httpx's own `params`, `json`, `content`, `headers`, `files`."""
        deadline = time.monotonic() + self._timeout
        with self._sent(method, path, deadline, request) as response:
            return Reply(response.status_code, _bounded(self._before(deadline, response)), _date(response))

    @contextmanager
    def stream(self, method: str, path: str, **request: Any) -> Iterator[Streamed]:
        """One request whose body may be long: limited by stalling, not by length."""
        with self._sent(method, path, time.monotonic() + self._timeout, request) as response:
            yield Streamed(self, response)

    @contextmanager
    def _sent(self, method: str, path: str, deadline: float, request: dict[str, Any]) -> Iterator[httpx.Response]:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

        # The timer guards what no loop of ours sees: a status line or headers that drip.
        timer = threading.Timer(max(deadline - time.monotonic(), 0), expire)
        timer.daemon = True
        timer.start()
        try:
            built = self._client.build_request(method, path, extensions={"trace": self._trace}, **request)
            response = self._client.send(built, stream=True)
            timer.cancel()
            try:
                _judge(response)
                yield response
            finally:
                response.close()
        except httpx.ConnectTimeout:
            raise TryLater(f"{self._client.base_url.host}: nobody answered the call") from None
        except httpx.TimeoutException as error:
            raise TimedOut(f"no answer within {self._timeout:g} s ({type(error).__name__})") from None
        except httpx.TransportError as error:
            if expired.is_set():
                raise TimedOut(f"no answer within {self._timeout:g} s") from None
            raise TryLater(f"{self._client.base_url.host}: {error or type(error).__name__}") from None
        except httpx.DecodingError as error:
            raise TryLater(f"{self._client.base_url.host}: {error}", shuts_gate=False) from None
        except httpx.InvalidURL as error:
            raise SetAside(f"the address is not one: {error}") from None
        finally:
            timer.cancel()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._socket = info["return_value"].get_extra_info("socket")

    def _before(self, deadline: float, response: httpx.Response) -> Iterator[bytes]:
        for chunk in response.iter_bytes():
            if time.monotonic() > deadline:
                raise TimedOut(f"the answer was not complete within {self._timeout:g} s")
            yield chunk

    def progressing(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it arrives; `TimedOut` when it stalls or drips."""
        window, received = time.monotonic(), 0
        for chunk in response.iter_bytes():
            self._wire.alive()
            received += len(chunk)
            now = time.monotonic()
            if now - window > self._timeout:
                if received < _STALL_BYTES:
                    raise TimedOut(f"the answer stalled: {received} bytes in {now - window:.0f} s")
                window, received = now, 0
            yield chunk


def reachable(url: str) -> bool:
    """Whether somebody answers 2xx there within a second."""
    try:
        return httpx.get(url, timeout=1, trust_env=False).is_success
    except httpx.TransportError:
        return False


def words(body: bytes) -> str:
    """The beginning of a stranger's body, fit for one line of an error."""
    return " ".join(body[: 4 * _WORDS].decode(errors="replace").split())[:_WORDS]


def _judge(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        with suppress(httpx.TransportError):
            response.read()
        said = words(response.content) if response.is_closed else ""
        raise TryLater(f"HTTP {response.status_code} {said}".strip(), after=_retry_after(response))
    if response.is_redirect:
        raise SetAside(f"HTTP {response.status_code}: redirected; set `url` to where this leads")


def _retry_after(response: httpx.Response) -> timedelta | None:
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return timedelta(seconds=min(int(value), 86_400))
    with suppress(ValueError):
        return max(_aware(parsedate_to_datetime(value)) - datetime.now(UTC), timedelta(0))
    return None


def _date(response: httpx.Response) -> datetime | None:
    with suppress(ValueError):
        return _aware(parsedate_to_datetime(response.headers.get("Date", "")))
    return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _bounded(chunks: Iterator[bytes]) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > _LARGEST_BODY:
            raise SetAside(f"the answer is larger than {_LARGEST_BODY // 2**20} MiB")
    return bytes(body)
