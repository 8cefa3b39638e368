"""How uvicorn runs the receiver. Its defaults trust proxies, log query strings, and limit neither time nor size.

`OPTIONS` holds what uvicorn has options for: no WebSockets, the backlog, the waits between two requests and at
shutdown, no access log and no proxy headers. `LimitedProtocol` adds only what no option gives; each method says why.
"""

from __future__ import annotations

import asyncio
import heapq
import operator
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from receiver.http import open_files
from receiver.http.answers import Error
from receiver.http.transport import CoalescingTransport, ParserFlowControl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MAX_HEAD = 64 * 2**10
"""Bytes of a request's head, and of what frames a body without being part of it (chunk extensions, trailers)."""

_MAX_DISCARDED = 4 * 2**20
"""Bytes of a refused request that are read and discarded, so that its sender gets the response."""

_KEEP_ALIVE_SECONDS = 125
"""Seconds that a connection may wait for its next request: longer than the proxies and HTTP clients that reuse one
(nginx 60, Go 90, Caddy 120), because a request that is sent while the server closes the connection is lost."""

_ANNOUNCED = (b"keep-alive", b"timeout=%d" % (_KEEP_ALIVE_SECONDS - 5))
"""What a client may rely on: less than the server waits, so that a request sent at the last moment arrives in time."""

_CLOSED_PER_SCAN = 64
"""One of so many connections is closed at once when there are too many."""

_PARSE_SIZE = 4 * 2**10
"""Bytes that are parsed at once. It bounds how many pipelined requests wait in memory."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits on the head of a request and on connections that make no progress.

    In each `idle_seconds` a connection must begin a request, have one being handled (the routes limit the time that a
    body may take), or read some of a response. Between two requests it may wait for `_KEEP_ALIVE_SECONDS`, and each
    response announces somewhat less. Above `max_connections` the one that was idle longest is closed: a client that
    opens many and sends nothing only closes its own.

    uvicorn's `timeout_keep_alive` starts after a response, so it never ends a connection that sends nothing, sends its
    head slowly or does not read its response. Its `limit_concurrency` answers 503 to the newest client, so idle
    connections lock all others out.
    """

    idle_seconds = 10.0
    max_connections: int | None = None
    """None: as many as the limit of open files allows."""

    ON_SHUTDOWN = "on_shutdown"
    """Under this name the lifespan's state may have what is to be called when the server is told to stop."""

    linger_seconds = 1.0
    """Seconds that a refused sender has for reading the response, and an idle connection for one more request."""

    flow: ParserFlowControl
    transport: CoalescingTransport

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = True
        self._head_size = 0
        self._unparsed = memoryview(b"")
        self._refused = False
        self._is_stopping = False
        self._discarded = 0
        self._final_step: Callable[[], None] | None = None
        self._last_check: tuple[object, int] = (None, 0)
        self._idle_since = time.monotonic()  # the loop's clock does not advance within one iteration
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Start the idle timer; close the connection that was idle longest if there are too many."""
        coalescing = CoalescingTransport(transport, self.loop)
        super().connection_made(coalescing)
        self.flow = ParserFlowControl(coalescing)
        self._idle_timer = self.loop.call_later(self.idle_seconds, self._check_idle)
        most = open_files.most_connections() if self.max_connections is None else self.max_connections
        if len(self.connections) > most:
            for each in _idle_longest(self.connections, 1 + most // _CLOSED_PER_SCAN):
                each.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the idle timer."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    # Requests

    def data_received(self, data: bytes) -> None:
        """Parse in small steps; after a refusal discard.

        uvicorn parses all bytes of one read, up to 256 KiB: thousands of pipelined requests, each with its state.
        """
        if self._refused:
            self._discarded += len(data)
            if self._discarded > _MAX_DISCARDED:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        if self._unparsed or len(data) > _PARSE_SIZE:
            self._unparsed = memoryview(bytes(self._unparsed) + data)
            self._parse_rest()
        else:
            self._parse(data)

    def _parse_rest(self) -> None:
        """Parse what was received, until a request waits for the response to an earlier one."""
        while self._unparsed and not self.pipeline:
            piece, self._unparsed = bytes(self._unparsed[:_PARSE_SIZE]), self._unparsed[_PARSE_SIZE:]
            self._parse(piece)
        self.flow.pause_for_backlog(backlog=bool(self._unparsed))

    def _parse(self, piece: bytes) -> None:
        """Answer in JSON what is not HTTP and a head that is too large.

        uvicorn answers in plain text, and logs a warning each time, with which anyone could fill the disk. It limits a
        head only in its h11 protocol (`h11_max_incomplete_event_size`), which needs three times the CPU and accepts
        folded headers and a Content-Length beside Transfer-Encoding.
        """
        self._head_size += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "malformed", "this is not HTTP")
        else:
            if self._head_size > _MAX_HEAD:
                self._refuse(*self._too_large())

    def _decline_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its Upgrade header.

        uvicorn loses the body of such a request, even with `ws="none"`. Java's HttpClient offers HTTP/2 this way.
        """
        line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"".join([line, *kept, b"\r\n", rest]))

    # Callbacks of the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Ignore a trailer. uvicorn adds it to the headers, so an X-Forwarded-For in it would be trusted unchecked."""
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Begin the request, unless a proxy could have understood it differently."""
        self._require_unambiguous()
        self._head_size = 0
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._in_head = False
            if self._is_stopping:
                self.cycle.keep_alive = False
            elif self.cycle.keep_alive:
                self.cycle.default_headers = [*self.cycle.default_headers, _ANNOUNCED]

    def on_body(self, body: bytes) -> None:
        """Body data: the bytes that framed it no longer count."""
        self._head_size = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is complete; the next header belongs to a new head."""
        self._head_size = 0
        if not self._in_head:
            self._in_head = True
            super().on_message_complete()

    def _require_unambiguous(self) -> None:
        """Raise for what a proxy may have understood differently; the parser turns it into an error of its own.

        llhttp accepts a missing or repeated Host, CONNECT, a fragment, and Transfer-Encoding: gzip.
        """
        names = [name for name, _ in self.headers]
        version, hosts = self.parser.get_http_version(), names.count(b"host")
        if hosts != 1 and (version != "1.0" or hosts):
            raise ValueError("not exactly one Host")
        if b"#" in self.url or self.parser.get_method() == b"CONNECT":
            raise ValueError("not a path of this server")
        if b"transfer-encoding" in names:
            codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
            if codings != [b"chunked"]:
                raise ValueError("a transfer coding that is not decoded")

    # Responses

    def on_response_complete(self) -> None:
        """The connection is idle until its next request; parse what was received during this one."""
        self._idle_since = time.monotonic()
        last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if last and self._final_step is not None:
            self._final_step()
        if self._unparsed:
            self._parse_rest()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Refuse the rest of the connection, after the responses to the requests before it."""
        self._refused = True
        self._unparsed = memoryview(b"")
        self._final_step = self._close if not self._in_head else partial(self._respond, status, code, message)
        if not self._in_head and self.pipeline:
            broken, _ = self.pipeline.popleft()  # its head was complete, but the app has not got it yet
            broken.response_complete = True
        elif self._in_head and self.cycle is not None and not self.cycle.response_complete:
            pass  # on_response_complete takes the final step
        else:
            self._final_step()

    def _close(self) -> None:
        """Close without a response: the request with the broken body is answered already, or the app is handling it."""
        self.cycle.disconnected = not self.cycle.response_complete
        self.transport.close()

    def _respond(self, status: int, code: str, message: str) -> None:
        body = msgspec.json.encode(Error(error=code, message=message))
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        # Closing while the client still sends makes the kernel reset the connection, and the response is lost.
        self.loop.call_later(self.linger_seconds, self.transport.close)

    def _too_large(self) -> tuple[int, str, str]:
        if len(self.url) > _MAX_HEAD // 2:
            return 414, "too_large", f"the address is longer than {_MAX_HEAD} bytes"
        return 431, "too_large", f"the head of the request is longer than {_MAX_HEAD} bytes"

    # Idle connections

    def shutdown(self) -> None:
        """The server stops: the next response announces that the connection ends with it.

        uvicorn closes an idle connection at once, also while a request is on its way. Here it waits a moment for one.
        Responses that wait for something to tell are told to end; one whose client does not read is cut off.
        """
        self._is_stopping = True
        self.app_state.get(self.ON_SHUTDOWN, _nothing)()
        if self._is_idle:
            self.loop.call_later(self.linger_seconds, self._close_if_idle)
        else:
            super().shutdown()
            self.loop.call_later(self.linger_seconds, self._cut_off_if_stuck)

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    @property
    def _is_between_requests(self) -> bool:
        """Whether a request was answered in full and the next has not begun; uvicorn's timer ends that."""
        return self.cycle is not None and self._is_idle and self._in_head and not self._head_size and not self._unsent

    def _close_if_idle(self) -> None:
        if self._is_idle:
            self.transport.close()

    def _cut_off_if_stuck(self) -> None:
        """End a response of unknown length whose client does not read: the app waits for room to end it."""
        if not self._is_idle and self.cycle.chunked_encoding and self.flow.write_paused:
            self.transport.abort()

    @property
    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    @property
    def _sent(self) -> int:
        """Bytes that the client's side has taken."""
        return self.transport.written - self._unsent

    @property
    def idle_since(self) -> float | None:
        """Since when the connection waits for its client; None while the app handles a request."""
        handling = self.cycle is not None and not self.cycle.response_complete and not self._unsent
        return None if handling else self._idle_since

    def _check_idle(self) -> None:
        cycle, sent = self._last_check
        progress = self.cycle is not cycle or self._sent > sent
        if not progress and self.idle_since is not None and not self._is_between_requests:
            self.transport.abort()
            return
        self._last_check = (self.cycle, self._sent)
        self._idle_timer = self.loop.call_later(self.idle_seconds, self._check_idle)


def _idle_longest(connections: Iterable[Any], count: int) -> list[LimitedProtocol]:
    """The connections to close. There always is one, the newest; it is spared where others are idle.

    Several at a time, because all connections are looked at to find them.
    """
    limited = (each for each in connections if isinstance(each, LimitedProtocol) and not each.transport.is_closing())
    idle = ((each.idle_since, each) for each in limited)
    found = [(since, each) for since, each in idle if since is not None]
    return [each for _, each in heapq.nsmallest(min(count, max(1, len(found) - 1)), found, key=operator.itemgetter(0))]


def _nothing() -> None:
    """What is called where the app has nothing to end."""


OPTIONS: dict[str, Any] = {
    "http": LimitedProtocol,
    "loop": "uvloop",
    "ws": "none",
    "proxy_headers": False,  # `trusted_proxies` decides which headers are trusted; uvicorn would replace the peer
    "access_log": False,  # it prints query strings, and a webhook's query is its payload
    "server_header": False,
    "backlog": open_files.BACKLOG,
    "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
    "timeout_graceful_shutdown": 15,
}
"""For `uvicorn.run("receiver.app:create", factory=True, **OPTIONS)`."""
