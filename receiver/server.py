"""How uvicorn must run the receiver: its defaults believe proxies for us, print what strangers send, wait for ever."""

from __future__ import annotations

import asyncio
import json
import logging
import operator
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LARGEST_HEAD = 64 * 2**10
"""Bytes that a stranger may make us hold before we know who he is, or that frame a body without being one."""

_LARGEST_REST = 4 * 2**20
"""Bytes of a refused request that are thrown away, so that its sender hears the answer."""

_PIECE = 4 * 2**10
"""Bytes that are parsed at a time: only so many can hold requests that nobody has begun to answer."""

_log = logging.getLogger("uvicorn.error.requests")
# Its warnings say that somebody sent rubbish, not who: with them, strangers could fill the disk. The sender is told.
_log.addFilter(lambda record: record.levelno != logging.WARNING)


class Guarded(HttpToolsProtocol):
    """uvicorn's HTTP, which has no limits of time or size for a request's head, or for an answer that nobody reads.

    Nobody keeps a connection without using it: in each `seconds` either a request begins, or one is worked on (the
    routes limit how long a body may take), or some of an answer is taken. Beyond `most` connections the one that was
    idle longest makes room, so that whoever opens many and sends nothing only throws himself out.
    """

    seconds = 10.0
    most = 640
    """With `backlog` below the 1024 files that a process may usually open; the database and the broker need some."""

    linger = 1.0
    """Seconds that a refused sender gets to hear the answer."""

    flow: _Flow

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _log
        self._in_head = True
        self._held = 0
        self._unfed = memoryview(b"")
        self._refused = False
        self._rest = 0
        self._ending: Callable[[], None] | None = None
        self._seen: tuple[object, int] = (None, 0)
        self._idle_since = time.monotonic()  # the loop's own clock is the same for all that came at once
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Somebody came: room is made, and the clock runs."""
        whole = _Whole(transport, self.loop)
        super().connection_made(whole)
        self.flow = _Flow(whole)
        self._watch = self.loop.call_later(self.seconds, self._look)
        if len(self.connections) > self.most:
            _idle_longest(self.connections).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Somebody went."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    # What comes in

    def data_received(self, data: bytes) -> None:
        """Read on, unless the request was refused before it was whole."""
        if self._refused:
            self._rest += len(data)
            if self._rest > _LARGEST_REST:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        if self._unfed or len(data) > _PIECE:
            self._unfed = memoryview(bytes(self._unfed) + data)
            self._feed_on()
        else:
            self._feed(data)

    def _feed_on(self) -> None:
        """Parse what is here, but not what follows requests that wait for their turn."""
        while self._unfed and not self.pipeline:
            piece, self._unfed = bytes(self._unfed[:_PIECE]), self._unfed[_PIECE:]
            self._feed(piece)
        self.flow.hold(back=bool(self._unfed))

    def _feed(self, piece: bytes) -> None:
        self._held += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as offered:
            self._decline(piece[offered.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "malformed", "this is not HTTP")
        else:
            if self._held > _LARGEST_HEAD:
                self._refuse(*self._judgement())

    def _decline(self, rest: bytes) -> None:
        """Go on in HTTP/1.1. The parser would take an upgrade for done, and the body for what is spoken after it."""
        line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        kept = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"".join([line, *kept, b"\r\n", rest]))

    # What the parser calls out

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes behind a body, where no proxy looks, is none."""
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Begin the request, if its head leaves nothing to interpretation."""
        self._require_plain()
        self._held = 0
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._held = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The body was whole."""
        self._held = 0
        if not self._in_head:
            self._in_head = True
            super().on_message_complete()

    def _require_plain(self) -> None:
        """Raise, which the parser makes an error of its own, where two readers could read two things."""
        names = [name for name, _ in self.headers]
        version, hosts = self.parser.get_http_version(), names.count(b"host")
        if hosts != 1 and (version != "1.0" or hosts):
            raise ValueError("not one Host, or a version that nobody speaks")
        if b"#" in self.url or self.parser.get_method() == b"CONNECT":
            raise ValueError("not an address of ours")
        if b"transfer-encoding" in names:
            codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
            if codings != [b"chunked"]:
                raise ValueError("a coding that is not undone")

    # What goes out

    def on_response_complete(self) -> None:
        """The connection is idle until its next request."""
        self._idle_since = time.monotonic()
        last = not self.pipeline
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if last and self._ending is not None:
            self._ending()
        if self._unfed:
            self._feed_on()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """What is no request is refused in JSON like everything else, after the answers to what came before it."""
        self._refused = True
        self._unfed = memoryview(b"")
        self._ending = self._close if not self._in_head else partial(self._tell, status, code, message)
        if not self._in_head and self.pipeline:
            broken, _ = self.pipeline.popleft()  # nobody has begun it
            broken.response_complete = True
        elif self._in_head and self.cycle is not None and not self.cycle.response_complete:
            pass
        else:
            self._ending()

    def _close(self) -> None:
        # The head was a request, which may be done by now, or is answered: a second answer would be a wrong one.
        self.cycle.disconnected = not self.cycle.response_complete
        self.transport.close()

    def _tell(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": code, "message": message}).encode()
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        # Closing on a sender who still sends would reset the connection, and lose the answer.
        self.loop.call_later(self.linger, self.transport.close)

    def _judgement(self) -> tuple[int, str, str]:
        if len(self.url) > _LARGEST_HEAD // 2:
            return 414, "too_large", f"the address is longer than {_LARGEST_HEAD} bytes"
        return 431, "too_large", f"the head of the request is longer than {_LARGEST_HEAD} bytes"

    # Who stays

    @property
    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    @property
    def idle_since(self) -> float | None:
        """Since when the connection waits for its other end; None while we work on a request."""
        works = self.cycle is not None and not self.cycle.response_complete and not self._unsent
        return None if works else self._idle_since

    def _look(self) -> None:
        cycle, unsent = self._seen
        used = self.cycle is not cycle or self._unsent < unsent
        if not used and self.idle_since is not None:
            self.transport.abort()
            return
        self._seen = (self.cycle, self._unsent)
        self._watch = self.loop.call_later(self.seconds, self._look)


class _Whole(asyncio.Transport):
    """A transport that sends at once what is written in one go: uvicorn writes an answer's head and body apart."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._written: list[bytes] = []
        self._size = 0
        self._transport = transport
        self.abort = transport.abort  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]

    def write(self, data: Any) -> None:
        """Send it soon, with whatever is written before the loop turns to somebody else."""
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)
        self._size += len(data)
        if self._size > _LARGEST_HEAD:
            self._send()

    def close(self) -> None:
        """Send the last, and go."""
        self._send()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """What is not sent yet."""
        return self._size + self._transport.get_write_buffer_size()

    def _send(self) -> None:
        if self._written:
            data, self._written, self._size = b"".join(self._written), [], 0
            if not self._transport.is_closing():
                self._transport.write(data)


class _Flow(FlowControl):
    """uvicorn's, which reads on with each answer, however much has not even been parsed."""

    _held_back = False

    def hold(self, *, back: bool) -> None:
        """Read nothing more, or as ever."""
        if back != self._held_back:
            self._held_back = back
            (self.pause_reading if back else self.resume_reading)()

    def resume_reading(self) -> None:
        """Go on, unless held back."""
        if not self._held_back:
            super().resume_reading()


def _idle_longest(connections: Iterable[Any]) -> Guarded:
    """There is always one: whoever has just come."""
    guarded = (each for each in connections if isinstance(each, Guarded) and not each.transport.is_closing())
    idle = ((each.idle_since, each) for each in guarded)
    return min(((since, each) for since, each in idle if since is not None), key=operator.itemgetter(0))[1]


OPTIONS: dict[str, Any] = {
    "http": Guarded,
    "loop": "uvloop",
    "ws": "none",
    "proxy_headers": False,  # whom to believe is settled by trusted_proxies; uvicorn would rewrite the peer
    "access_log": False,  # it prints query strings, and a webhook's query is its payload
    "server_header": False,
    "backlog": 256,  # all that wait are accepted at once, before there is room
    "timeout_graceful_shutdown": 15,
}
"""For `uvicorn.run("receiver.app:create", factory=True, **OPTIONS)`."""
