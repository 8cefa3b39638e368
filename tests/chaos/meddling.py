"""A proxy before a sandbox that spoils its answers: refused, late, torn, cut, or listings that lack rows."""

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

ALWAYS = 10**9

_NARROWING = frozenset({"ts", "limit", "page", "show_inactive"})
"""Parameters of listings. A request with any other is for one object, and its answer is proof. `modified_since` is not
among them: an object that Wisedat omits there is still found by the full listing."""

_FEWEST = 2
"""A list of fewer rows may be an object that was asked for."""

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Asked:
    """A question, as far as it is always the same: `parameters` by name, Dilovod's packet by what it asks for."""

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


class Meddler:
    """Stands before a sandbox. A trick is what is done to an answer; it gives None for one that it cannot spoil.

    `spoilt`: questions by how often their answers were spoilt by the trick of now.
    """

    def __init__(self) -> None:
        self.spoilt: Counter[Asked] = Counter()
        self._trick: Callable[[Asked, Answer], Answer | None] | Answer | None = None
        self._each = self._most = 0

    def before(self, app: ASGIApp) -> Meddler:
        """Stand before this app."""
        self._app = app
        return self

    def play(
        self, trick: Callable[[Asked, Answer], Answer | None] | Answer, *, each: int = 1, most: int = ALWAYS
    ) -> None:
        """From now on spoil `each` question so often, and no more than `most` in all. An `Answer` replaces them."""
        self.spoilt.clear()
        self._each, self._most = each, most
        self._trick = trick

    @property
    def full_syncs(self) -> int:
        """How many spoilt answers were to full listings."""
        return sum(count for asked, count in self.spoilt.items() if asked.is_full_sync)

    def stop(self) -> None:
        """Spoil no more answers."""
        self._trick = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        asked = _asked(scope, body)
        if isinstance(self._trick, Answer) and self._may(asked):
            self.spoilt[asked] += 1
            await _give(self._trick, receive, send)
            return
        answer = await _answered(self._app, scope, body, receive)
        await _give(self._spoilt(asked, answer), receive, send)

    def _may(self, asked: Asked) -> bool:
        return self.spoilt[asked] < self._each and self.spoilt.total() < self._most

    def _spoilt(self, asked: Asked, answer: Answer) -> Answer:
        trick = self._trick
        if trick is None or isinstance(trick, Answer) or answer.status != 200 or not self._may(asked):
            return answer
        spoilt = trick(asked, answer)
        self.spoilt[asked] += spoilt is not None
        return spoilt or answer


# Tricks.

BUSY = Answer(429, b"Too many requests", {"Retry-After": "1"})
BROKEN = Answer(503, b"<html><body>Service Unavailable</body></html>", {"Content-Type": "text/html"})


def torn(_asked: Asked, answer: Answer) -> Answer:
    """Half of the body, then a reset."""
    return replace(answer, torn=True)


def a_minute_late(_asked: Asked, answer: Answer) -> Answer:
    """Far longer than any timeout."""
    return replace(answer, late=60.0)


def shifted(by: timedelta) -> Callable[[Asked, Answer], Answer | None]:
    """The `Date` header of another clock than the vendor's."""

    def trick(_asked: Asked, answer: Answer) -> Answer | None:
        date = answer.headers.get("date")
        if date is None:
            return None
        moved = format_datetime(parsedate_to_datetime(date) + by, usegmt=True)
        return replace(answer, headers=answer.headers | {"date": moved})

    return trick


def cut(asked: Asked, answer: Answer) -> Answer | None:
    """A listing that ends within a row: all is well with HTTP, but it is no JSON."""
    listed = _rows(asked, answer)
    return replace(answer, body=answer.body[: len(answer.body) // 2]) if listed else None


def emptied(asked: Asked, answer: Answer) -> Answer | None:
    """A listing without any row, which says that this is all."""
    return _with_rows(asked, answer, lambda _: [])


def ended_early(asked: Asked, answer: Answer) -> Answer | None:
    """The first half of a listing, which says that this is all."""
    return _with_rows(asked, answer, lambda rows: rows[: len(rows) // 2])


def lacking(share: float, random: Random) -> Callable[[Asked, Answer], Answer | None]:
    """A listing without this share of its rows, and at least one."""

    def trick(asked: Asked, answer: Answer) -> Answer | None:
        return _with_rows(asked, answer, lambda rows: _without(rows, max(round(len(rows) * share), 1), random))

    return trick


def _without(rows: list[Any], few: int, random: Random) -> list[Any]:
    gone = set(random.sample(range(len(rows)), few))
    return [row for number, row in enumerate(rows) if number not in gone]


def _with_rows(asked: Asked, answer: Answer, change: Callable[[list[Any]], list[Any]]) -> Answer | None:
    listed = _rows(asked, answer)
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


def _rows(asked: Asked, answer: Answer) -> tuple[Any, str | None] | None:
    """A listing's answer, decoded, and the name of its rows (None: the body is the list); None for anything else."""
    if not asked.is_listing:
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


def _asked(scope: Scope, body: bytes) -> Asked:
    parameters = frozenset(parse_qs(scope["query_string"].decode(), keep_blank_values=True))
    return Asked(scope["path"], parameters, _packet(body) if body.startswith(b"{") else "")


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
    asked = [{"type": "http.request", "body": body}]

    async def again() -> Message:
        return asked.pop() if asked else await receive()

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
