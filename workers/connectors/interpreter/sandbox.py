"""Lagerkoll's stand-in: it interprets papers, keeps count of how often, and has a folder where people put them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections import Counter, defaultdict, deque
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.responses import Response
from starlette.routing import Mount, Route

from models import exact
from workers.connectors.interpreter import sandbox_books
from workers.connectors.interpreter.sandbox_books import Paper, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from models.values import JsonObject

KINDS = ("deliverynote", "invoice")
_AT_REST = 10.0
"""A dropped file looks as if written this many seconds ago: nobody waits for it to grow."""


class Fault(StrEnum):
    """What becomes of the next document. The first group is refused before anything is done, the last is done."""

    BUSY = "429"
    BUSY_WITHOUT_A_WORD = "429 without Retry-After"
    BUSY_INSIDE = "900429 under another status"
    BUSY_INSIDE_WITHOUT_A_WORD = "900429 under another status, without Retry-After"
    COMMON = "900101"
    NO_SUPPLIER = "909001"
    NO_ORDER = "909002"
    NOT_ENABLED = "909003"
    HTML = "html"
    BROKEN = "500"
    GATEWAY = "502"
    HALF = "half"
    TORN = "torn"
    EMPTY = "empty"
    SCALAR = "scalar"
    NOTHING = "{}"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Upload:
    """A document as it came. `type`: of the whole request."""

    kind: str
    sha256: str
    name: str
    order: str | None
    type: str


def create(
    *,
    seed: int = 1,
    inbox: Path | None = None,
    now: Callable[[], datetime] | None = None,
    store: str = "3546",
    key: str = "sandbox-key",
) -> Starlette:
    """The app; its `Sandbox` is at `app.state.sandbox`. It answers below `/v1/interpreter` and at its root.

    `inbox`: the folder where `edit` and `story` put papers, one of its own by default. `now`: an aware clock, for the
    limit. `store`: digits.
    """
    sandbox = Sandbox(seed=seed, inbox=inbox, now=now or _now, store=store, key=key)
    documents = [Route("/{kind}", sandbox.interpret, methods=["POST"])]
    beside = [
        Route("/suppliers/{number:int}", sandbox.supplier),
        Route("/purchase_orders/{number:int}", sandbox.purchase_order),
        Route("/{resource}/", sandbox.listing),
    ]
    below = [Mount("/v1/interpreter", routes=documents), Mount("/v1", routes=beside)]
    app = Starlette(routes=[*below, *documents, *beside])
    app.state.sandbox = sandbox
    return app


def _now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """What demos and tests hold: the contract's `Sandbox`, the vendor's knobs, and people with papers. Thread-safe.

    `faults`: done to the next documents, first to first; `troubles`: to this document, by sha256. `per_minute`: how
    many requests are answered. `error_status`: the HTTP status of errors. `slow`: seconds. `latency`: seconds for each
    document. `other_edition`: answers as the other edition of the vendor's page has them; `others`: for these
    documents only, by sha256. `calls`: sha256 -> how often that document was interpreted, answered or not. `uploads`:
    documents as they came. `dropped`: kind -> sha256 of what was put into the folder. `most_at_once`: requests.
    """

    def __init__(self, *, seed: int, inbox: Path | None, now: Callable[[], datetime], store: str, key: str) -> None:
        self.store, self.key, self.person = store, key, ("17", "sandbox-token")
        self.now = now
        self.inbox = inbox or _folder_for(self)
        self.faults: deque[Fault] = deque()
        self.troubles: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.per_minute: int | None = None
        self.error_status = 400
        self.slow = 5.0
        self.latency = 0.0
        self.other_edition = False
        self.others: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.uploads: list[Upload] = []
        self.dropped: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.most_at_once = 0
        self.lock = threading.RLock()
        self._orders = sandbox_books.orders(int(store))
        self._interpreted: dict[tuple[str, str], JsonObject] = {}
        self._answered: dict[str, dict[str, JsonObject]] = {kind: {} for kind in KINDS}
        self._served: deque[datetime] = deque()
        self._at_once = 0
        self._random = Random(seed)
        self._papers = 0
        self._contents: dict[str, bytes] = {}
        self._latest: tuple[str, bytes] | None = None
        for kind in KINDS:
            (self.inbox / kind).mkdir(parents=True, exist_ok=True)

    # The contract.

    def settings(self) -> dict[str, Any]:
        """A `[connections.*]` table without its `url`; as fast as this machine, unless `per_minute` says otherwise."""
        return {
            "system": "interpreter",
            "store": self.store,
            "api_key": self.key,
            "inbox": str(self.inbox),
            "requests_per_minute": self.per_minute or 60_000,
        }

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """What was answered, and what will be to the papers in the folder, by the sha256 of their documents."""
        with self.lock:
            papers = {sha256: self._contents[sha256] for sha256 in self.dropped[resource]}
            waiting = {sha256: self._answer(resource, sha256, papers[sha256]) for sha256 in papers}
            return deepcopy(waiting | self._answered[resource])

    def edit(self, random: Random) -> str:
        """A person puts a paper into the folder, now and then one that was there before."""
        with self.lock:
            if self._latest is not None and random.random() < 0.2:
                return self._again(*self._latest)
            kind = random.choice(KINDS)
            made = self._paper(kind, random)
            self.drop(kind, made.pdf())
            return f"{_title(made)} of {made.supplier} was put into the folder"

    def story(self) -> Iterator[str]:
        """A day of papers with everything that mirrors get wrong."""
        steps = (
            self._delivery_note,
            self._invoice,
            lambda: self._again(*(self._latest or ("invoice", b""))),
            lambda: self._batches("not applicable"),
            lambda: self._batches("empty"),
            lambda: self._batches("filled"),
            self._edition,
            self._too_many,
            self._quoted,
            self._free_text,
            self._double,
        )
        for step in steps:
            with self.lock:
                told = step()
            yield told

    # People.

    def drop(self, kind: str, content: bytes, name: str | None = None) -> str:
        """Put a file into the folder of its kind, whole at once; its sha256. `name`: without the ending."""
        with self.lock:
            sha256 = hashlib.sha256(content).hexdigest()
            self._papers += 1
            path = self.inbox / kind / f"{name or f'{kind} {self._papers}'}.pdf"
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(content)
            rested = time.time() - _AT_REST
            os.utime(unfinished, (rested, rested))
            self.dropped[kind].append(sha256)
            self._contents[sha256] = content
            self._latest = kind, content
            unfinished.rename(path)
            return sha256

    def _paper(self, kind: str, random: Random | None = None, **changes: Any) -> Paper:
        # Its number is printed on it, so that no two papers are the same file.
        made = sandbox_books.paper(kind, 2000 + self._papers, random or self._random, self.now())
        return replace(made, **changes)

    def _delivery_note(self) -> str:
        made = self._paper("deliverynote")
        self.drop("deliverynote", made.pdf())
        return f"goods came from {made.supplier}: {_title(made)}"

    def _invoice(self) -> str:
        made = self._paper("invoice")
        self.drop("invoice", made.pdf())
        return f"{made.supplier} wants money: {_title(made)}"

    def _again(self, kind: str, content: bytes) -> str:
        self.drop(kind, content, f"copy {self._papers + 1}")
        return f"the same {kind} was put into the folder again, under another name"

    def _batches(self, batches: str) -> str:
        rows = (Row("A-100", "Skruv M6", 4, "12.50", batches), Row("A-101", "Takfärg 10 l", 2, "499.00", batches))
        made = self._paper("deliverynote", rows=rows)
        self.drop("deliverynote", made.pdf())
        return f"{_title(made)} has articles whose batches are {batches}"

    def _edition(self) -> str:
        content = self._paper("deliverynote").pdf()
        self.others.add(hashlib.sha256(content).hexdigest())
        self.drop("deliverynote", content)
        return "a delivery note is answered with two addresses, as the other edition of the vendor's page has it"

    def _too_many(self) -> str:
        content = self._paper("invoice").pdf()
        self.troubles[hashlib.sha256(content).hexdigest()].append(Fault.BUSY)
        self.drop("invoice", content)
        return "an invoice comes when there are too many requests, and has to wait"

    def _quoted(self) -> str:
        made = self._paper("invoice", quoted=True, rows=(Row("A-7", "Pärm A4", 12, "0.10", "empty"),))
        self.drop("invoice", made.pdf())
        return f"the numbers of {_title(made)} come in quotes"

    def _free_text(self) -> str:
        rows = (Row("A-100", "Skruv M6", 4, "12.50"), Row("", "Frakt enligt avtal"))
        made = self._paper("invoice", quoted=False, rows=rows)
        self.drop("invoice", made.pdf())
        return f"{_title(made)} has a row of free text"

    def _double(self) -> str:
        content = self._paper("deliverynote").pdf()
        for kind in KINDS:
            self.drop(kind, content)
        return "somebody was not sure and put one paper into both folders"

    # HTTP.

    async def interpret(self, request: Request) -> Response:
        """POST /deliverynote, /invoice: multipart with one part `file`, a PDF, and for the former `order_id`."""
        with self._in_flight():
            kind = request.path_params["kind"]
            if kind not in KINDS:
                return Response("Not Found", 404)
            if (refused := self._refused(request)) is not None:
                return refused
            async with request.form() as form:
                files = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
                contents = [(part.filename or "", await part.read()) for part in files]
                order = form.get("order_id")
            if len(contents) != 1 or not contents[0][1].startswith(b"%PDF-"):
                return _error(self.error_status, "900101", "One file, a PDF, is expected", field="file")
            ((name, content),) = contents
            sha256 = hashlib.sha256(content).hexdigest()
            wanted = order if isinstance(order, str) else None
            self.uploads.append(Upload(kind, sha256, name, wanted, request.headers.get("Content-Type", "")))
            return await self._judged(request, kind, content, wanted)

    async def _judged(self, request: Request, kind: str, content: bytes, order: str | None) -> Response:
        sha256 = hashlib.sha256(content).hexdigest()
        fault = self._fault(sha256)
        if fault in _REFUSALS:
            return _REFUSALS[fault](self.error_status)
        if order is not None and not (order.isdigit() and int(order) in self._orders):
            return _error(self.error_status, "909002", "Purchase order not found")
        with self.lock:
            self.calls[sha256] += 1
            answer = self._answer(kind, sha256, content)
        if fault in _INSTEAD:
            return _INSTEAD[fault](exact.dumps(answer).encode())
        if not await self._thought(request, self.slow if fault is Fault.SLOW else self.latency):
            return Response("nobody is there any more", 499)
        with self.lock:
            self._answered[kind][sha256] = answer
        return _json(answer)

    def _answer(self, kind: str, sha256: str, content: bytes) -> JsonObject:
        return self._interpreted.setdefault((kind, sha256), self._read(kind, sha256, content))

    def _read(self, kind: str, sha256: str, content: bytes) -> JsonObject:
        if self.other_edition or sha256 in self.others:
            return sandbox_books.other_edition(kind, content)
        return sandbox_books.purchase_order(kind, content, store=int(self.store))

    def _fault(self, sha256: str) -> Fault | None:
        with self.lock:
            waiting = self.troubles[sha256] or self.faults
            return waiting.popleft() if waiting else None

    async def _thought(self, request: Request, seconds: float) -> bool:
        """Take that long, but not for a caller who has left: no event tells, so he is looked for."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            if await request.is_disconnected():
                return False
            await asyncio.sleep(0.01)
        return True

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            self._at_once -= 1

    async def listing(self, request: Request) -> Response:
        """GET /suppliers/, /payment_terms/, /supplier_delivery_terms/, /purchase_orders/."""
        if (refused := self._refused(request)) is not None:
            return refused
        asked = {name: value for name, value in request.query_params.items() if value}
        match request.path_params["resource"]:
            case "suppliers":
                return _json(_suppliers(asked))
            case "payment_terms":
                return _json({"paymentTerms": [{"id": 1, "code": "30", "description": "30 dagar netto"}], "since": 1})
            case "supplier_delivery_terms":
                return _json(
                    {"deliveryTerms": [{"id": 1, "code": "FVL", "description": "Fritt vårt lager"}], "since": 1}
                )
            case "purchase_orders":
                return _json({"pages": 1, "purchaseOrders": list(self._orders.values())})
        return Response("Not Found", 404)

    async def supplier(self, request: Request) -> Response:
        """GET /suppliers/{id}, in the wrapper of the list."""
        if (refused := self._refused(request)) is not None:
            return refused
        number = request.path_params["number"]
        return _json({"pages": 1, "suppliers": [each for each in sandbox_books.suppliers() if each["id"] == number]})

    async def purchase_order(self, request: Request) -> Response:
        """GET /purchase_orders/{id}."""
        if (refused := self._refused(request)) is not None:
            return refused
        order = self._orders.get(request.path_params["number"])
        return _error(self.error_status, "901101", "Purchase order not found") if order is None else _json(order)

    def _refused(self, request: Request) -> Response | None:
        sent = {name: request.headers.get(name) for name in ("store", "api_key", "user_id", "user_token")}
        machine = sent["api_key"] == self.key
        person = (sent["user_id"], sent["user_token"]) == self.person
        if sent["store"] != self.store or not (machine or person):
            return _error(self.error_status, "900001", "Credentials don't match")
        return _busy(429, seconds=60) if self._too_often() else None

    def _too_often(self) -> bool:
        now = self.now()
        with self.lock:
            while self._served and self._served[0] <= now - timedelta(minutes=1):
                self._served.popleft()
            if self.per_minute is not None and len(self._served) >= self.per_minute:
                return True
            self._served.append(now)
            return False


def _title(paper: Paper) -> str:
    return f"{paper.title.lower()} {paper.number}"


def _folder_for(sandbox: Sandbox) -> Path:
    """A folder that goes when the sandbox does."""
    folder = tempfile.mkdtemp(prefix="erpmirror-papers-")
    weakref.finalize(sandbox, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _suppliers(asked: dict[str, str]) -> JsonObject:
    """The list as asked for; `open_orders` and `article` narrow nothing here."""
    since, page, limit = (int(asked.get(name, default)) for name, default in _PAGING.items())
    found = [
        supplier
        for supplier in sandbox_books.suppliers()
        if supplier["changed"] > since and asked.get("query", "").lower() in supplier["name"].lower()
    ]
    column = asked.get("sort_column", "name")
    found.sort(key=lambda supplier: str(supplier.get(column, "")), reverse=asked.get("order") == "desc")
    return {"pages": -(-len(found) // limit), "suppliers": found[page * limit : (page + 1) * limit]}


_PAGING = {"since": "0", "page": "0", "limit": "100"}


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(exact.dumps(value), status, headers, "application/json")


def _error(status: int, code: str, message: str, *, field: str | None = None) -> Response:
    told = {"errorCode": int(code), "errorMessage": message, "errorField": field, "errorData": None}
    return _json(told, status)


def _busy(status: int, *, seconds: int | None) -> Response:
    told = {"errorCode": 900429, "errorMessage": "Too many requests", "errorField": None, "errorData": None}
    return _json(told, status, {} if seconds is None else {"Retry-After": str(seconds)})


class _Torn(Response):
    """An answer that breaks off: the connection is closed within its body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


_PAGE = "<!DOCTYPE html><html><head><title>Underhåll</title></head><body>Vi är strax tillbaka</body></html>"

_REFUSALS: dict[Fault | None, Callable[[int], Response]] = {
    Fault.BUSY: lambda _: _busy(429, seconds=1),
    Fault.BUSY_WITHOUT_A_WORD: lambda _: _busy(429, seconds=None),
    Fault.BUSY_INSIDE: lambda status: _busy(status, seconds=7),
    Fault.BUSY_INSIDE_WITHOUT_A_WORD: lambda status: _busy(status, seconds=None),
    Fault.COMMON: lambda status: _error(status, "900101", "Something went wrong on the server"),
    Fault.NO_SUPPLIER: lambda status: _error(status, "909001", "Supplier not found"),
    Fault.NO_ORDER: lambda status: _error(status, "909002", "Purchase order not found"),
    Fault.NOT_ENABLED: lambda status: _error(status, "909003", "Feature interpreter missing"),
}
_INSTEAD: dict[Fault | None, Callable[[bytes], Response]] = {
    Fault.HTML: lambda _: Response(_PAGE, media_type="text/html"),
    Fault.BROKEN: lambda _: Response("Internal Server Error", 500),
    Fault.GATEWAY: lambda _: Response(_PAGE, 502, media_type="text/html"),
    Fault.HALF: lambda body: Response(body[: len(body) // 2], media_type="application/json"),
    Fault.TORN: lambda body: _Torn(body, media_type="application/json"),
    Fault.EMPTY: lambda _: Response(b""),
    Fault.SCALAR: lambda _: Response("42", media_type="application/json"),
    Fault.NOTHING: lambda _: Response("{}", media_type="application/json"),
}
