"""Connections to endpoints: only to addresses that were checked, and each wait ends with the delivery's deadline.

A name is looked up once for a connection, every address that it resolves to is checked, and one of the checked ones is
connected to. So a name that changes between two look-ups cannot lead inside.
"""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpcore

from models.settings import addresses

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    Resolver = Callable[[str, int], list[str]]
    """Host and port -> the numeric addresses that the name has. Raises OSError."""


_JOINED_BYTES = 64 * 2**10
"""So many bytes of a request are sent at once."""


class NotPublicError(Exception):
    """The endpoint's name leads into a private network, and the settings do not allow that."""


def resolve(host: str, port: int) -> list[str]:
    """What the machine's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Backend(httpcore.NetworkBackend):
    """httpcore's own backend, behind a check of addresses. One for a session; threads have deadlines of their own.

    `allow_private`: check nothing. `resolver` replaces the machine's, for tests.
    """

    def __init__(self, *, allow_private: bool, resolver: Resolver = resolve) -> None:
        self._allow_private = allow_private
        self._resolver = resolver
        self._backend = httpcore.SyncBackend()
        self._thread = threading.local()

    def begin(self, seconds: float) -> None:
        """What this thread does from now on has to end within so many seconds."""
        self._thread.deadline = time.monotonic() + seconds
        self._thread.connected = False

    def limit(self, seconds: float) -> None:
        """From here on it has at most so many more."""
        self._thread.deadline = min(self._thread.deadline, time.monotonic() + seconds)

    @property
    def has_connected(self) -> bool:
        """Whether this thread opened a connection since `begin`: else it used one that was open."""
        return bool(self._thread.connected)

    def left(self, timeout: float | None = None) -> float:
        """Seconds until this thread's deadline, `timeout` at most. Raises httpcore's `ReadTimeout` at its end."""
        left = self._thread.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return float(left if timeout is None else min(left, timeout))

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to one of the host's addresses, after all were checked. Raises `NotPublicError`."""
        self._thread.connected = True
        found = self._look_up(host, port)
        if not self._allow_private:
            _require_public(host, found)
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in found:
            try:
                stream = self._backend.connect_tcp(
                    address, port, self.left(timeout), local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self)
        raise failure

    def _look_up(self, host: str, port: int) -> list[str]:
        """The addresses. In a thread of its own: a resolver takes as long as it likes."""
        found: Future[list[str]] = Future()

        def look_up() -> None:
            try:
                found.set_result(self._resolver(host, port))
            except Exception as error:  # noqa: BLE001 - `result` raises it
                found.set_exception(error)

        threading.Thread(target=look_up, name="resolver", daemon=True).start()
        try:
            return found.result(self.left())
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"no address of {host} was found in time") from None
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise httpcore.ConnectError(f"{host} has no address: {reason}") from error


def _require_public(host: str, found: Iterable[str]) -> None:
    for address in found:
        why = addresses.why_not_public(address)
        if why is not None:
            raise NotPublicError(f"{host} leads to {address}, and {why}; set allow_private = true if you mean it")


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline of the thread that waits.

    httpcore's timeouts begin anew with each read, so an endpoint that sends a byte a second would never end. It writes
    the head and the body of a request apart; here they leave together, so that the endpoint wakes up once.
    """

    def __init__(self, stream: httpcore.NetworkStream, backend: Backend) -> None:
        self._stream = stream
        self._backend = backend
        self._unsent: list[bytes] = []

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            with suppress(httpcore.WriteError):  # an endpoint may refuse a request before it has read it
                self._send(timeout)
        return self._stream.read(max_bytes, self._backend.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent.append(buffer)
        if sum(map(len, self._unsent)) > _JOINED_BYTES:
            self._send(timeout)

    def _send(self, timeout: float | None) -> None:
        whole = b"".join(self._unsent)
        self._unsent.clear()
        for start in range(0, len(whole), _JOINED_BYTES):  # httpcore gives each step of one write the whole timeout
            self._stream.write(whole[start : start + _JOINED_BYTES], self._backend.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, self._backend.left(timeout))
        return _Stream(inner, self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
