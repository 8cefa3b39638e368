"""Directo's sandbox: an HTTP server that behaves like one company's account, with a clock and faults to set."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from models import exact
from workers.connectors.directo import sandbox_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request

    from models.values import JsonObject
    from workers.connectors.directo.sandbox_data import Deleted


class Fault(StrEnum):
    """What replaces or damages the next reply."""

    HTML = "html"
    HALF = "half"
    DRIP = "drip"
    EMPTY = "empty"
    SCALAR = "scalar"
    OBJECT = "object"
    BUSY = "429"
    BROKEN = "500"
    SLOW = "slow"
    XML_REFUSAL = "xml refusal"


class DeletionShape(StrEnum):
    """The shape of the rows of `/deleted`, which Directo does not document."""

    PLAIN = "plain"
    TABLE = "table"
    CAPITALS = "capitals"
    UNKNOWN = "unknown"
    TIMELESS = "timeless"


class CalculatedFilter(StrEnum):
    """What a filter by a calculated field does. Directo's document states each of these."""

    REFUSED = "refused"
    IGNORED = "ignored"
    EMPTY = "empty"


def create(
    *, seed: int = 1, key: str = "sandbox-key", now: Callable[[], datetime] | None = None, objects: int = 12
) -> Starlette:
    """The app; its `Sandbox` is at `app.state.sandbox`.

    `objects`: the number of items, customers, orders, invoices and transactions. `now`: an aware clock, sent in the
    `Date` header (switch off the `Date` that the serving process adds).
    """
    sandbox = Sandbox(seed=seed, key=key, now=now or _utc_now)
    sandbox.books.fill(objects)
    app = Starlette(routes=[Route("/v1/{resource}", sandbox.answer, methods=["GET"])])
    app.state.sandbox = sandbox
    return app


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """The contract's `Sandbox`, with settings for Directo's behaviour and the company's data to edit. Thread-safe.

    - `faults`: applied to the next replies, one each
    - `per_minute`: requests answered in a minute; None: no limit
    - `refused`: resource -> the error sent for it (`NOT_ENABLED`, `FORBIDDEN`)
    - `ignored`: filters that have no effect, as unknown fields never have
    - `calculated`: calculated fields, and what a filter by each does
    - `inclusive`: whether `>` and `<` include the bound, which is not documented
    - `shape`: of the rows of `/deleted`
    - `slow_above`: a reply of more records than this takes `slow` seconds
    - `drip`: seconds between two bytes of a reply with `Fault.DRIP`
    - `requests`: path and query of each request received
    """

    def __init__(self, *, seed: int, key: str, now: Callable[[], datetime]) -> None:
        self.key = key
        self.now = now
        self.books = sandbox_data.Books(seed, now)
        self.faults: deque[Fault] = deque()
        self.per_minute: int | None = None
        self.refused: dict[str, Refusal] = {}
        self.ignored: set[str] = set()
        self.calculated = dict.fromkeys(sandbox_data.CALCULATED, CalculatedFilter.REFUSED)
        self.inclusive = False
        self.shape = DeletionShape.PLAIN
        self.slow_above: int | None = None
        self.slow = 5.0
        self.drip = 0.05
        self.requests: list[str] = []
        self.lock = threading.RLock()
        self._served: deque[datetime] = deque()
        self._seed = seed

    # The contract.

    def settings(self) -> dict[str, Any]:
        """A `[connections.*]` table without its `url`; practically unlimited, unless `per_minute` is set."""
        return {
            "system": "directo",
            "api_key": self.key,
            "resources": list(self.books.tables),
            "requests_per_minute": self.per_minute or 60_000,
        }

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The records by key, as JSON replies show them."""
        with self.lock:
            if resource == "deleted":
                return {self._deleted_key(entry): self._deletion(entry) for entry in self.books.deleted}
            return {self.books.key(resource, record): deepcopy(record) for record in self.books.tables[resource]}

    def edit(self, random: Random) -> str:
        """One everyday change."""
        with self.lock:
            return self.books.everyday(random)

    def scenario(self) -> Iterator[str]:
        """A scripted day of the changes that mirrors most often miss."""
        steps = self.books.scenario(Random(self._seed))
        while True:
            with self.lock:
                sentence = next(steps, None)
            if sentence is None:
                return
            yield sentence

    # HTTP.

    async def answer(self, request: Request) -> Response:
        """GET /v1/{resource}: all records that pass the filters, in one array."""
        with self.lock:
            self.requests.append(f"{request.path_params['resource']}?{request.scope['query_string'].decode()}")
            fault = self.faults.popleft() if self.faults else None
            refusal = self._refusal(request)
            records = refusal or self._select(request)
        if isinstance(records, Refusal):
            return self._refuse(records)
        if fault is not None and fault in _FAULTY_REPLIES:
            return self._with_date(_FAULTY_REPLIES[fault]())
        name, as_xml = request.path_params["resource"], "xml" in request.headers.get("Accept", "")
        date = self._date()
        if fault is Fault.SLOW or (self.slow_above is not None and len(records) > self.slow_above):
            await self._be_slow(request)
        body = _xml(name, records) if as_xml else exact.dumps(records)
        media_type = f"application/{'xml' if as_xml else 'json'}"
        if fault is Fault.HALF:
            body = body[: len(body) // 2]
        if fault is Fault.DRIP:
            return StreamingResponse(self._drip(body.encode()), media_type=media_type, headers={"Date": date})
        return Response(body, media_type=media_type, headers={"Date": date})

    def _date(self) -> str:
        return format_datetime(self.now().astimezone(UTC), usegmt=True)

    def _with_date(self, response: Response) -> Response:
        response.headers["Date"] = self._date()
        return response

    def _refuse(self, refusal: Refusal) -> Response:
        error = {"error": {"code": refusal.code, "message": refusal.message, "details": refusal.details}}
        return self._with_date(Response(exact.dumps(error), refusal.status, media_type="application/json"))

    def _refusal(self, request: Request) -> Refusal | None:
        name = request.path_params["resource"]
        if request.headers.get("X-Directo-Key") != self.key:
            return UNAUTHORIZED
        if self._over_limit():
            return TOO_MANY
        if name in self.refused:
            return self.refused[name]
        return None if name in self.books.tables or name == "deleted" else NOT_FOUND

    def _over_limit(self) -> bool:
        now = self.now()
        while self._served and self._served[0] <= now - timedelta(minutes=1):
            self._served.popleft()
        if self.per_minute is not None and len(self._served) >= self.per_minute:
            return True
        self._served.append(now)
        return False

    def _select(self, request: Request) -> list[JsonObject] | Refusal:
        """The matching records, copied so that an edit during the reply does not change it."""
        name, filters = request.path_params["resource"], request.query_params.multi_items()
        outcomes = {field: self.calculated.get(field.removeprefix("row_")) for field, _ in filters}
        for field, outcome in outcomes.items():
            if outcome is CalculatedFilter.REFUSED:
                return Refusal(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", f"Filtering by calculated field {field}")
        if CalculatedFilter.EMPTY in outcomes.values():
            return []
        filters = [each for each in filters if outcomes[each[0]] is None]
        try:
            if name == "deleted":
                known = set() if self.shape is DeletionShape.TIMELESS else {"ts"}
                entries = [entry for entry in self.books.deleted if self._passes({"ts": entry.ts}, filters, known)]
                return [self._deletion(entry) for entry in entries]
            table = self.books.tables[name]
            known = {
                field for field, _ in filters if any(sandbox_data.filter_values(record, field) for record in table)
            }
            return [deepcopy(record) for record in table if self._passes(record, filters, known)]
        except sandbox_data.MalformedFilterError as error:
            return Refusal(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", str(error))

    def _passes(self, record: JsonObject, filters: list[tuple[str, str]], known: set[str]) -> bool:
        """Whether all filters hold, each for any of the lines. Filters on fields not in `known` have no effect."""
        return all(
            any(
                sandbox_data.matches(value, wanted, inclusive=self.inclusive)
                for value in sandbox_data.filter_values(record, field) or [None]
            )
            for field, wanted in filters
            if field in known - self.ignored
        )

    def _deletion(self, entry: Deleted) -> JsonObject:
        key, singular = self.books.key(entry.resource, entry.record), entry.resource.removesuffix("s")
        if self.shape is DeletionShape.TABLE:
            return {"table": singular, "key": key, "deleted_at": entry.ts, "user": "U1"}
        if self.shape is DeletionShape.CAPITALS:
            return {"Resource_Type": entry.resource.upper(), "ID": key, "TS": entry.ts}
        if self.shape is DeletionShape.UNKNOWN:
            return {"rid": key, "action": 3, "ts": entry.ts}
        fields = {field: entry.record[field] for field in sandbox_data.KEYS[entry.resource]}
        timed = {} if self.shape is DeletionShape.TIMELESS else {"ts": entry.ts}
        return {"resource": entry.resource, **fields, **timed}

    def _deleted_key(self, entry: Deleted) -> str:
        return f"{entry.resource}:{self.books.key(entry.resource, entry.record)}:{entry.ts}"

    async def _be_slow(self, request: Request) -> None:
        """Wait `slow` seconds, or until the client disconnects; Starlette has no event for that, so poll."""
        end = asyncio.get_running_loop().time() + self.slow
        while asyncio.get_running_loop().time() < end and not await request.is_disconnected():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _drip(self, body: bytes) -> AsyncIterator[bytes]:
        for position in range(len(body)):
            yield body[position : position + 1]
            await asyncio.sleep(self.drip)


class Refusal:
    """An error reply."""

    def __init__(self, status: HTTPStatus, code: str, message: str, details: str = "") -> None:
        self.status, self.code, self.message, self.details = status, code, message, details


UNAUTHORIZED = Refusal(HTTPStatus.UNAUTHORIZED, "INVALID_API_KEY", "The provided API key is invalid or expired")
NOT_ENABLED = Refusal(HTTPStatus.BAD_REQUEST, "API_NOT_ENABLED", "API not enabled")
FORBIDDEN = Refusal(HTTPStatus.FORBIDDEN, "FORBIDDEN", "API key lacks required permissions")
NOT_FOUND = Refusal(HTTPStatus.NOT_FOUND, "NOT_FOUND", "Resource or endpoint not found")
TOO_MANY = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", "Rate limit exceeded")

_MAINTENANCE_PAGE = (
    "<!DOCTYPE html><html><head><title>Hooldus</title></head><body>Directo on hetkel hoolduses</body></html>"
)

_FAULTY_REPLIES: dict[Fault, Callable[[], Response]] = {
    Fault.HTML: lambda: Response(_MAINTENANCE_PAGE, media_type="text/html"),
    Fault.EMPTY: lambda: Response(b""),
    Fault.SCALAR: lambda: Response("42", media_type="application/json"),
    Fault.OBJECT: lambda: Response('{"status": "ok"}', media_type="application/json"),
    Fault.BUSY: lambda: Response(
        '{"message": "Rate limit exceeded"}', 429, media_type="application/json", headers={"Retry-After": "1"}
    ),
    Fault.BROKEN: lambda: Response('{"message": "Server-side error"}', 500, media_type="application/json"),
    Fault.XML_REFUSAL: lambda: Response('<result type="5" desc="Unauthorized"/>', media_type="application/xml"),
}


def _xml(resource: str, records: list[JsonObject]) -> str:
    """The records as XML: scalars as attributes, lists as elements, null left out."""
    return f"<{resource}>{''.join(_element(resource.removesuffix('s'), record) for record in records)}</{resource}>"


def _element(tag: str, record: JsonObject) -> str:
    scalars = {name: value for name, value in record.items() if not isinstance(value, list) and value is not None}
    lists = {name: value for name, value in record.items() if isinstance(value, list)}
    attributes = "".join(f" {name}={quoteattr(_attribute(value))}" for name, value in scalars.items())
    children = "".join(
        f"<{name}>{''.join(_element('data' if name == 'datafields' else 'row', item) for item in items)}</{name}>"
        for name, items in lists.items()
    )
    return f"<{tag}{attributes}>{children}</{tag}>"


def _attribute(value: Any) -> str:
    return value if isinstance(value, str) else exact.dumps(value)
