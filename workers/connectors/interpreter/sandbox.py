"""Lagerkoll's sandbox: interprets documents, counts how often, and puts new ones into a watched folder."""

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
from workers.connectors.interpreter import sandbox_data
from workers.connectors.interpreter.sandbox_data import Paper, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from models.values import JsonObject

KINDS = ("deliverynote", "invoice")
_FILE_AGE = 10.0
"""Seconds. A dropped file gets this age, so that the watcher does not wait for it to be complete."""


class Fault(StrEnum):
    """What happens to the next document.

    Up to NOT_ENABLED it is refused before it is processed. The others process it, but spoil or delay the response.
    """

    BUSY = "429"
    BUSY_WITHOUT_RETRY_AFTER = "429 without Retry-After"
    LIMIT_CODE = "900429 under another status"
    LIMIT_CODE_WITHOUT_RETRY_AFTER = "900429 under another status, without Retry-After"
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
    """A received document. `type`: the content type of the request."""

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
    """Create the app; its `Sandbox` is at `app.state.sandbox`. It serves `/v1/interpreter` and also its root.

    - `seed`: of the scenario
    - `inbox`: the folder where `edit` and `scenario` put documents; a temporary one by default
    - `now`: the clock of the rate limit, aware
    - `store`, `key`: the login; `store` consists of digits
    """
    sandbox = Sandbox(seed=seed, inbox=inbox, now=now or _utc_now, store=store, key=key)
    documents = [Route("/{kind}", sandbox.interpret, methods=["POST"])]
    siblings = [
        Route("/suppliers/{number:int}", sandbox.supplier),
        Route("/purchase_orders/{number:int}", sandbox.purchase_order),
        Route("/{resource}/", sandbox.listing),
    ]
    mounts = [Mount("/v1/interpreter", routes=documents), Mount("/v1", routes=siblings)]
    app = Starlette(routes=[*mounts, *documents, *siblings])
    app.state.sandbox = sandbox
    return app


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """The contract's `Sandbox`, the vendor's HTTP interface, and a folder of documents. Thread-safe.

    Behaviours that tests set:

    - `faults`: done to the next documents, in order; `faults_of`: the same for one document, by sha256
    - `per_minute`: the rate limit; `error_status`: the HTTP status of errors
    - `slow`: seconds of a slow response; `latency`: seconds for each document
    - `other_edition`: answer in the form of the other edition of the vendor's page; `in_other_edition`: only for these
      sha256

    Records:

    - `calls`: sha256 -> how often the document was interpreted, whether the response arrived or not
    - `uploads`: received documents; `dropped`: kind -> sha256 of documents put into the folder
    - `max_parallel`: the highest number of requests at one time
    """

    def __init__(self, *, seed: int, inbox: Path | None, now: Callable[[], datetime], store: str, key: str) -> None:
        self.store, self.key, self.user = store, key, ("17", "sandbox-token")
        self.now = now
        self.inbox = inbox or _temporary_folder(self)
        self.faults: deque[Fault] = deque()
        self.faults_of: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.per_minute: int | None = None
        self.error_status = 400
        self.slow = 5.0
        self.latency = 0.0
        self.other_edition = False
        self.in_other_edition: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.uploads: list[Upload] = []
        self.dropped: dict[str, list[str]] = {kind: [] for kind in KINDS}
        self.max_parallel = 0
        self.lock = threading.RLock()
        self._orders = sandbox_data.orders(int(store))
        self._interpreted: dict[tuple[str, str], JsonObject] = {}
        self._answered: dict[str, dict[str, JsonObject]] = {kind: {} for kind in KINDS}
        self._served: deque[datetime] = deque()
        self._in_flight_count = 0
        self._random = Random(seed)
        self._paper_count = 0
        self._contents: dict[str, bytes] = {}
        self._latest: tuple[str, bytes] | None = None
        for kind in KINDS:
            (self.inbox / kind).mkdir(parents=True, exist_ok=True)

    # The contract.

    def settings(self) -> dict[str, Any]:
        """The `[connections.*]` table without `url`; the rate limit is `per_minute`, or as good as none."""
        return {
            "system": "interpreter",
            "store": self.store,
            "api_key": self.key,
            "inbox": str(self.inbox),
            "requests_per_minute": self.per_minute or 60_000,
        }

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The answers given so far, and those that the documents in the folder will get, by sha256."""
        with self.lock:
            papers = {sha256: self._contents[sha256] for sha256 in self.dropped[resource]}
            pending = {sha256: self._answer(resource, sha256, papers[sha256]) for sha256 in papers}
            return deepcopy(pending | self._answered[resource])

    def edit(self, random: Random) -> str:
        """Put a document into the folder, sometimes one that was there before."""
        with self.lock:
            if self._latest is not None and random.random() < 0.2:
                return self._again(*self._latest)
            kind = random.choice(KINDS)
            made = self._paper(kind, random)
            self.drop(kind, made.pdf())
            return f"{_title(made)} of {made.supplier} was put into the folder"

    def scenario(self) -> Iterator[str]:
        """Play a day of documents with everything that mirrors get wrong."""
        steps = (
            self._delivery_note,
            self._invoice,
            lambda: self._again(*(self._latest or ("invoice", b""))),
            lambda: self._note_with_batches("not applicable"),
            lambda: self._note_with_batches("empty"),
            lambda: self._note_with_batches("filled"),
            self._other_edition,
            self._too_many,
            self._quoted_numbers,
            self._free_text,
            self._same_file_twice,
        )
        for step in steps:
            with self.lock:
                description = step()
            yield description

    # The folder.

    def drop(self, kind: str, content: bytes, name: str | None = None) -> str:
        """Put a file into its kind's folder by an atomic rename. Returns its sha256. `name`: without extension."""
        with self.lock:
            sha256 = hashlib.sha256(content).hexdigest()
            self._paper_count += 1
            path = self.inbox / kind / f"{name or f'{kind} {self._paper_count}'}.pdf"
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(content)
            modified = time.time() - _FILE_AGE
            os.utime(unfinished, (modified, modified))
            self.dropped[kind].append(sha256)
            self._contents[sha256] = content
            self._latest = kind, content
            unfinished.rename(path)
            return sha256

    def _paper(self, kind: str, random: Random | None = None, **changes: Any) -> Paper:
        # The number is printed, so no two papers have equal files.
        made = sandbox_data.paper(kind, 2000 + self._paper_count, random or self._random, self.now())
        return replace(made, **changes)

    def _delivery_note(self) -> str:
        made = self._paper("deliverynote")
        self.drop("deliverynote", made.pdf())
        return f"goods arrived from {made.supplier}: {_title(made)}"

    def _invoice(self) -> str:
        made = self._paper("invoice")
        self.drop("invoice", made.pdf())
        return f"{_title(made)} arrived from {made.supplier}"

    def _again(self, kind: str, content: bytes) -> str:
        self.drop(kind, content, f"copy {self._paper_count + 1}")
        return f"the same {kind} was put into the folder again"

    def _note_with_batches(self, batches: str) -> str:
        rows = (Row("A-100", "Skruv M6", 4, "12.50", batches), Row("A-101", "Takfärg 10 l", 2, "499.00", batches))
        made = self._paper("deliverynote", rows=rows)
        self.drop("deliverynote", made.pdf())
        return f"{_title(made)} has articles with batches: {batches}"

    def _other_edition(self) -> str:
        content = self._paper("deliverynote").pdf()
        self.in_other_edition.add(hashlib.sha256(content).hexdigest())
        self.drop("deliverynote", content)
        return "a delivery note is answered in the vendor's other format"

    def _too_many(self) -> str:
        content = self._paper("invoice").pdf()
        self.faults_of[hashlib.sha256(content).hexdigest()].append(Fault.BUSY)
        self.drop("invoice", content)
        return "an invoice has to wait: too many requests"

    def _quoted_numbers(self) -> str:
        made = self._paper("invoice", quoted=True, rows=(Row("A-7", "Pärm A4", 12, "0.10", "empty"),))
        self.drop("invoice", made.pdf())
        return f"{_title(made)} is answered with numbers in quotes"

    def _free_text(self) -> str:
        rows = (Row("A-100", "Skruv M6", 4, "12.50"), Row("", "Frakt enligt avtal"))
        made = self._paper("invoice", quoted=False, rows=rows)
        self.drop("invoice", made.pdf())
        return f"{_title(made)} has a row of free text"

    def _same_file_twice(self) -> str:
        content = self._paper("deliverynote").pdf()
        for kind in KINDS:
            self.drop(kind, content)
        return "one document was put into both folders"

    # HTTP.

    async def interpret(self, request: Request) -> Response:
        """POST /deliverynote, /invoice: multipart with one PDF as `file`, for delivery notes also `order_id`."""
        with self._in_flight():
            kind = request.path_params["kind"]
            if kind not in KINDS:
                return Response("Not Found", 404)
            if (refusal := self._refusal(request)) is not None:
                return refusal
            async with request.form() as form:
                files = [part for part in form.getlist("file") if isinstance(part, UploadFile)]
                contents = [(part.filename or "", await part.read()) for part in files]
                order = form.get("order_id")
            if len(contents) != 1 or b"%PDF-" not in contents[0][1][:1024]:
                return _error(self.error_status, "900101", "One file, a PDF, is expected", field="file")
            ((name, content),) = contents
            sha256 = hashlib.sha256(content).hexdigest()
            wanted = order if isinstance(order, str) else None
            self.uploads.append(Upload(kind, sha256, name, wanted, request.headers.get("Content-Type", "")))
            return await self._process(request, kind, content, wanted)

    async def _process(self, request: Request, kind: str, content: bytes, order: str | None) -> Response:
        sha256 = hashlib.sha256(content).hexdigest()
        fault = self._fault(sha256)
        if fault in _REFUSALS:
            return _REFUSALS[fault](self.error_status)
        if order is not None and not (order.isdigit() and int(order) in self._orders):
            return _error(self.error_status, "909002", "Purchase order not found")
        with self.lock:
            self.calls[sha256] += 1
            answer = self._answer(kind, sha256, content)
        if fault in _FAULT_RESPONSES:
            return _FAULT_RESPONSES[fault](exact.dumps(answer).encode())
        if not await self._delay(request, self.slow if fault is Fault.SLOW else self.latency):
            return Response("client disconnected", 499)
        with self.lock:
            self._answered[kind][sha256] = answer
        return _json(answer)

    def _answer(self, kind: str, sha256: str, content: bytes) -> JsonObject:
        return self._interpreted.setdefault((kind, sha256), self._interpretation(kind, sha256, content))

    def _interpretation(self, kind: str, sha256: str, content: bytes) -> JsonObject:
        if self.other_edition or sha256 in self.in_other_edition:
            return sandbox_data.other_edition(kind, content)
        return sandbox_data.purchase_order(kind, content, store=int(self.store))

    def _fault(self, sha256: str) -> Fault | None:
        with self.lock:
            pending = self.faults_of[sha256] or self.faults
            return pending.popleft() if pending else None

    async def _delay(self, request: Request, seconds: float) -> bool:
        """Wait; False if the client disconnected. There is no event for that, so it polls."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            if await request.is_disconnected():
                return False
            await asyncio.sleep(0.01)
        return True

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        self._in_flight_count += 1
        self.max_parallel = max(self.max_parallel, self._in_flight_count)
        try:
            yield
        finally:
            self._in_flight_count -= 1

    async def listing(self, request: Request) -> Response:
        """GET /suppliers/, /payment_terms/, /supplier_delivery_terms/, /purchase_orders/."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        filters = {name: value for name, value in request.query_params.items() if value}
        match request.path_params["resource"]:
            case "suppliers":
                return _json(_suppliers(filters))
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
        """GET /suppliers/{id}, in the form of the list."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        number = request.path_params["number"]
        return _json({"pages": 1, "suppliers": [each for each in sandbox_data.suppliers() if each["id"] == number]})

    async def purchase_order(self, request: Request) -> Response:
        """GET /purchase_orders/{id}."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        order = self._orders.get(request.path_params["number"])
        return _error(self.error_status, "901101", "Purchase order not found") if order is None else _json(order)

    def _refusal(self, request: Request) -> Response | None:
        headers = {name: request.headers.get(name) for name in ("store", "api_key", "user_id", "user_token")}
        is_key = headers["api_key"] == self.key
        is_user = (headers["user_id"], headers["user_token"]) == self.user
        if headers["store"] != self.store or not (is_key or is_user):
            return _error(self.error_status, "900001", "Credentials don't match")
        return _rate_limited(429, seconds=60) if self._is_over_limit() else None

    def _is_over_limit(self) -> bool:
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


def _temporary_folder(sandbox: Sandbox) -> Path:
    """A folder that is deleted with the sandbox object."""
    folder = tempfile.mkdtemp(prefix="erpmirror-papers-")
    weakref.finalize(sandbox, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _suppliers(filters: dict[str, str]) -> JsonObject:
    """The filtered list; the filters `open_orders` and `article` are ignored."""
    since, page, limit = (int(filters.get(name, default)) for name, default in _PAGING.items())
    found = [
        supplier
        for supplier in sandbox_data.suppliers()
        if supplier["changed"] > since and filters.get("query", "").lower() in supplier["name"].lower()
    ]
    column = filters.get("sort_column", "name")
    found.sort(key=lambda supplier: str(supplier.get(column, "")), reverse=filters.get("order") == "desc")
    return {"pages": -(-len(found) // limit), "suppliers": found[page * limit : (page + 1) * limit]}


_PAGING = {"since": "0", "page": "0", "limit": "100"}


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(exact.dumps(value), status, headers, "application/json")


def _error(status: int, code: str, message: str, *, field: str | None = None) -> Response:
    body = {"errorCode": int(code), "errorMessage": message, "errorField": field, "errorData": None}
    return _json(body, status)


def _rate_limited(status: int, *, seconds: int | None) -> Response:
    body = {"errorCode": 900429, "errorMessage": "Too many requests", "errorField": None, "errorData": None}
    return _json(body, status, {} if seconds is None else {"Retry-After": str(seconds)})


class _Truncated(Response):
    """A response that breaks off: the connection is closed within its body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the ASGI signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


_PAGE = "<!DOCTYPE html><html><head><title>Underhåll</title></head><body>Vi är strax tillbaka</body></html>"

_REFUSALS: dict[Fault | None, Callable[[int], Response]] = {
    Fault.BUSY: lambda _: _rate_limited(429, seconds=1),
    Fault.BUSY_WITHOUT_RETRY_AFTER: lambda _: _rate_limited(429, seconds=None),
    Fault.LIMIT_CODE: lambda status: _rate_limited(status, seconds=7),
    Fault.LIMIT_CODE_WITHOUT_RETRY_AFTER: lambda status: _rate_limited(status, seconds=None),
    Fault.COMMON: lambda status: _error(status, "900101", "Something went wrong on the server"),
    Fault.NO_SUPPLIER: lambda status: _error(status, "909001", "Supplier not found"),
    Fault.NO_ORDER: lambda status: _error(status, "909002", "Purchase order not found"),
    Fault.NOT_ENABLED: lambda status: _error(status, "909003", "Feature interpreter missing"),
}
_FAULT_RESPONSES: dict[Fault | None, Callable[[bytes], Response]] = {
    Fault.HTML: lambda _: Response(_PAGE, media_type="text/html"),
    Fault.BROKEN: lambda _: Response("Internal Server Error", 500),
    Fault.GATEWAY: lambda _: Response(_PAGE, 502, media_type="text/html"),
    Fault.HALF: lambda body: Response(body[: len(body) // 2], media_type="application/json"),
    Fault.TORN: lambda body: _Truncated(body, media_type="application/json"),
    Fault.EMPTY: lambda _: Response(b""),
    Fault.SCALAR: lambda _: Response("42", media_type="application/json"),
    Fault.NOTHING: lambda _: Response("{}", media_type="application/json"),
}
