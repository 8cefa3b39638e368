"""Wraps a sandbox and injects faults into its answers: refused, late, torn, cut, or listings that lack rows."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field, replace
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from models import exact

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from random import Random

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Fault = Callable[["RequestKind", "Answer"], "Answer | None"]

ALWAYS = 10**9

_NARROWING = frozenset({"ts", "limit", "page", "show_inactive"})
"""Parameters of listings. A request with any other is for one object, and its answer is proof. `modified_since` is not
among them: an object that Wisedat omits there is still found by the full listing."""

_FEWEST = 2
"""A list of fewer rows may be an object that was asked for."""

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class RequestKind:
    """A request without its values: `parameters` by name, Dilovod's packet by what it asks for."""

    path: str
    parameters: frozenset[str]
    packet: str = ""

    @property
    def is_listing(self) -> bool:
        """Whether many objects are asked for."""
        return self.packet.partition(" ")[0] in {"", "request"} and self.parameters <= _NARROWING

    @property
    def is_full_sync(self) -> bool:
        """Whether everything is asked for, and not only what changed since."""
        return self.is_listing and "ts" not in self.parameters and "since" not in self.path.lower()


@dataclass(frozen=True)
class Answer:
    """An answer on its way. `late`: seconds. `torn`: after half of its body the connection is reset."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    late: float = 0.0
    torn: bool = False


class FaultInjector:
    """An app around a sandbox's. A fault changes an answer, or returns None if it cannot be applied to it.

    `spoilt`: kinds of requests by how often the present fault was injected into their answers.
    """

    def __init__(self) -> None:
        self.spoilt: Counter[RequestKind] = Counter()
        self._fault: Fault | Answer | None = None
        self._each = self._most = 0

    def wrap(self, app: ASGIApp) -> FaultInjector:
        """Pass requests on to this app."""
        self._app = app
        return self

    def inject(self, fault: Fault | Answer, *, each: int = 1, most: int = ALWAYS) -> None:
        """From now on spoil the answers to each kind of request `each` times, but no more than `most` in all.

        An `Answer` replaces the sandbox's, which is not asked then.
        """
        self.spoilt.clear()
        self._each, self._most = each, most
        self._fault = fault

    @property
    def full_syncs(self) -> int:
        """How many spoilt answers were to full listings."""
        return sum(count for request, count in self.spoilt.items() if request.is_full_sync)

    def stop(self) -> None:
        """Spoil no more answers."""
        self._fault = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        request = _kind(scope, body)
        if isinstance(self._fault, Answer) and self._may(request):
            self.spoilt[request] += 1
            await _give(self._fault, receive, send)
            return
        answer = await _answered(self._app, scope, body, receive)
        await _give(self._spoilt(request, answer), receive, send)

    def _may(self, request: RequestKind) -> bool:
        return self.spoilt[request] < self._each and self.spoilt.total() < self._most

    def _spoilt(self, request: RequestKind, answer: Answer) -> Answer:
        fault = self._fault
        if fault is None or isinstance(fault, Answer) or answer.status != 200 or not self._may(request):
            return answer
        spoilt = fault(request, answer)
        self.spoilt[request] += spoilt is not None
        return spoilt or answer


# Faults.

BUSY = Answer(429, b"Too many requests", {"Retry-After": "1"})
BROKEN = Answer(503, b"<html><body>Service Unavailable</body></html>", {"Content-Type": "text/html"})


def torn(_request: RequestKind, answer: Answer) -> Answer:
    """Half of the body, then a reset."""
    return replace(answer, torn=True)


def a_minute_late(_request: RequestKind, answer: Answer) -> Answer:
    """Far longer than any timeout."""
    return replace(answer, late=60.0)


def shifted(by: timedelta) -> Fault:
    """The `Date` header of another clock than the vendor's."""

    def fault(_request: RequestKind, answer: Answer) -> Answer | None:
        date = answer.headers.get("date")
        if date is None:
            return None
        moved = format_datetime(parsedate_to_datetime(date) + by, usegmt=True)
        return replace(answer, headers=answer.headers | {"date": moved})

    return fault


def cut(request: RequestKind, answer: Answer) -> Answer | None:
    """A listing that ends within a row: all is well with HTTP, but it is no JSON."""
    listed = _rows(request, answer)
    return replace(answer, body=answer.body[: len(answer.body) // 2]) if listed else None


def emptied(request: RequestKind, answer: Answer) -> Answer | None:
    """A listing without any row, which says that this is all."""
    return _with_rows(request, answer, lambda _: [])


def ended_early(request: RequestKind, answer: Answer) -> Answer | None:
    """The first half of a listing, which says that this is all."""
    return _with_rows(request, answer, lambda rows: rows[: len(rows) // 2])


def lacking(share: float, random: Random) -> Fault:
    """A listing without this share of its rows, and at least one."""

    def fault(request: RequestKind, answer: Answer) -> Answer | None:
        return _with_rows(request, answer, lambda rows: _without(rows, max(round(len(rows) * share), 1), random))

    return fault


def _without(rows: list[Any], few: int, random: Random) -> list[Any]:
    gone = set(random.sample(range(len(rows)), few))
    return [row for number, row in enumerate(rows) if number not in gone]


def _with_rows(request: RequestKind, answer: Answer, change: Callable[[list[Any]], list[Any]]) -> Answer | None:
    listed = _rows(request, answer)
    if listed is None:
        return None
    whole, name = listed
    rows = change(whole if name is None else whole[name])
    listing: Any = rows if name is None else whole | {name: rows}
    if "pagination" in listing:
        listing["pagination"] = _last_page(listing["pagination"], len(rows))
    return replace(answer, body=exact.dumps(listing).encode())


def _last_page(pagination: dict[str, Any], rows: int) -> dict[str, Any]:
    """The pagination of a server for which this page is the last."""
    items = (pagination["page"] - 1) * pagination["limit"] + rows
    return pagination | {"number_items": items, "number_pages": -(-items // pagination["limit"])}


def _rows(request: RequestKind, answer: Answer) -> tuple[Any, str | None] | None:
    """A listing's answer, decoded, and the name of its rows (None: the body is the list); None for anything else."""
    if not request.is_listing:
        return None
    whole = exact.loads(answer.body)
    names = [None] if isinstance(whole, list) else _names(whole)
    rows = [whole if name is None else whole[name] for name in names]
    return (whole, names[0]) if len(rows) == 1 and len(rows[0]) >= _FEWEST else None


def _names(whole: Any) -> list[str | None]:
    if not isinstance(whole, dict) or not whole.keys() & {"pagination", "columns"}:
        return []
    return [name for name, value in whole.items() if isinstance(value, list) and name != "columns"]


# Requests and answers.


def _kind(scope: Scope, body: bytes) -> RequestKind:
    parameters = frozenset(parse_qs(scope["query_string"].decode(), keep_blank_values=True))
    return RequestKind(scope["path"], parameters, _packet(body) if body.startswith(b"{") else "")


def _packet(body: bytes) -> str:
    packet = exact.loads(body)
    from_ = packet.get("params", {}).get("from", "")
    source = from_.get("register") if isinstance(from_, dict) else from_
    return f"{packet['action']} {source}" if "action" in packet else ""


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _answered(app: ASGIApp, scope: Scope, body: bytes, receive: Receive) -> Answer:
    """The sandbox's own answer, buffered."""
    messages: list[Message] = []
    requests = [{"type": "http.request", "body": body}]

    async def again() -> Message:
        return requests.pop() if requests else await receive()

    async def hold(message: Message) -> None:
        messages.append(message)

    await app(scope, again, hold)
    begun, *pieces = messages
    headers = {name.decode().lower(): value.decode() for name, value in begun["headers"]}
    return Answer(begun["status"], b"".join(piece.get("body", b"") for piece in pieces), headers)


async def _give(answer: Answer, receive: Receive, send: Send) -> None:
    if answer.late and not await _waited(answer.late, receive):
        return
    headers = answer.headers | {"content-length": str(len(answer.body))}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    if not answer.torn:
        await send({"type": "http.response.body", "body": answer.body})
        return
    await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
    await asyncio.sleep(0.05)  # what was sent has left
    _reset(send)
    await receive()  # until the server notices the reset


async def _waited(seconds: float, receive: Receive) -> bool:
    """Wait, but end when the caller disconnects; return whether it is still connected."""
    try:
        await asyncio.wait_for(receive(), seconds)
    except TimeoutError:
        return True
    return False


def _reset(send: Send) -> None:
    """Send RST instead of closing in order. ASGI has no message for that, so use the server's transport."""
    transport = send.__self__.transport  # type: ignore[attr-defined]
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
