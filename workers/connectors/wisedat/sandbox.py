"""Wisedat's sandbox: an HTTP server of one company that enforces the vendor's login and rules, and can misbehave."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import deque
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount

from models import exact
from workers.connectors.wisedat import sandbox_data
from workers.connectors.wisedat.sandbox_scenario import Day
from workers.connectors.wisedat.sandbox_server import Fault, Server
from workers.connectors.wisedat.sandbox_writes import (
    METHODS,
    LoggedWrite,
    RefusedWrite,
    WriteFault,
    Writer,
    resource_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from starlette.types import Receive, Scope, Send

    from models.values import JsonObject
    from workers.connectors.wisedat.sandbox_data import Thing


def create(
    *,
    seed: int = 1,
    objects: int = 12,
    now: Callable[[], datetime] | None = None,
    key_bits: int = 2048,
    padding: str = "pkcs1",
    api_key: str = "sandbox-key",
    user: str = "espelho",
    password: str = "sandbox-password",  # noqa: S107 - an invented one
    silent_addresses: bool = False,
    spelling: str = "documented",
) -> Starlette:
    """Create the app; its `Sandbox` is at `app.state.sandbox`.

    - `seed`: the same seed creates the same company
    - `objects`: the number of products, of customers and of orders, at least 2
    - `now`: the server's clock, aware. It sets the `Date` header, so run the HTTP server without its own `Date`
    - `key_bits`: length of the RSA key; `padding`: of the login, "pkcs1" (v1.5) or "oaep" (SHA-1)
    - `silent_addresses`: editing an address does not change the customer's modification date
    - `spelling`: of the addresses of writes, "documented" (PUT /product) or "plural" (PUT /products)
    """
    sandbox = Sandbox(
        seed=seed, now=now or _utc_now, key_bits=key_bits, padding=padding, login=(api_key, user, password)
    )
    sandbox.books.silent_addresses = silent_addresses
    sandbox.spelling = spelling
    sandbox.books.create_company(objects)
    app = Starlette(routes=[Mount("/", _Handler(sandbox))])
    app.state.sandbox = sandbox
    return app


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox(Server):
    """The vendor's sandbox: the server's state, its HTTP interface, and the contract's `Sandbox`. Thread-safe.

    Beside the behaviours of `Server`, tests set those of writes:

    - `write_faults`: done to the next writes, in order; `write_seconds`: how long a slow one takes
    - `spelling`: of the addresses of writes, "documented" or "plural"

    `writes`: every write request that arrived, in order.
    """

    def __init__(
        self, *, seed: int, now: Callable[[], datetime], key_bits: int, padding: str, login: tuple[str, str, str]
    ) -> None:
        super().__init__(seed=seed, now=now, key_bits=key_bits, padding=padding, login=login)
        self.write_faults: deque[WriteFault] = deque()
        self.write_seconds = 5.0
        self.spelling = "documented"
        self.writes: list[LoggedWrite] = []
        self._seed = seed
        self._in_flight = 0

    # The contract.

    def settings(self) -> dict[str, Any]:
        """The `[connections.*]` table without `url`: all resources, no rate limit."""
        api_key, user, password = self._login
        padding_setting = {} if self.padding == "pkcs1" else {"rsa_padding": self.padding}
        login = {"api_key": api_key, "user": user, "password": password}
        return {"system": "wisedat", **login, "resources": list(self.books.tables), **padding_setting}

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The details as the mirror stores them, by key: images as digests, customers with their addresses.

        For an order that the API cannot show: its line in the list, with `detail_unavailable`.
        """
        with self.lock:
            return {
                self.books.key(resource, thing): self._expected(resource, thing)
                for thing in self.books.tables[resource]
            }

    def _expected(self, resource: str, thing: Thing) -> JsonObject:
        if self.books.is_withheld(resource, thing):
            return self.books.line(resource, thing) | {"detail_unavailable": True}
        answer = self.books.detail(resource, thing)
        if resource == "customers":
            answer["addresses"] = deepcopy(thing.addresses)
        if resource == "products":
            answer["images"] = [_image_digest(image) for image in answer["images"]]
        if resource == "categories":
            answer["image"] = _image_digest(answer["image"])
        return answer

    def edit(self, random: Random) -> str:
        """Make one everyday change."""
        with self.lock:
            return Day(self, random).everyday()

    def scenario(self) -> Iterator[str]:
        """Play a day of changes that mirrors get wrong."""
        for step in Day(self, Random(self._seed)).steps():
            with self.lock:
                description = step()
            yield description

    # The server.

    def record_request(self, request: Request) -> Fault | None:
        """Record the request. Returns the fault for its response, if one is due."""
        with self.lock:
            query = request.scope["query_string"].decode()
            self.requests.append(f"{request.method} {request.scope['path']}" + (f"?{query}" if query else ""))
            return self.faults.popleft() if self.faults else None

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count the requests that are being handled."""
        with self.lock:
            self._in_flight += 1
            self.max_parallel = max(self.max_parallel, self._in_flight)
        try:
            yield
        finally:
            with self.lock:
                self._in_flight -= 1

    def respond(self, request: Request) -> Response:
        """The correct response to the request."""
        with self.lock:
            self.rotate_if_due()
            path, authorization = request.scope["path"].strip("/"), request.headers.get("Authorization")
            if path in {"status", "authentication/login"} and authorization is None:
                return _plain_text(HTTPStatus.BAD_REQUEST, "No Authorization property on the request header")
            if (request.method, path) == ("GET", "status"):
                return _json(self.status(authorization or ""))
            if (request.method, path) == ("POST", "authentication/login"):
                return self._log_in(authorization or "")
            if (refused := self.refuse_token(request)) is not None:
                return refused
            if request.method != "GET":
                return _plain_text(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
            return self._read(path, request.query_params)

    def refuse_token(self, request: Request) -> Response | None:
        """The response to a request without a valid token; None if it has one."""
        with self.lock:
            self.rotate_if_due()
            if self.accepts_token(request.headers.get("Authorization", "").removeprefix("Bearer ")):
                return None
            return _plain_text(HTTPStatus.UNAUTHORIZED, "Invalid/Inexistent/Expired token")

    def _log_in(self, authorization: str) -> Response:
        token = self.log_in(authorization)
        if token is None:
            return _plain_text(HTTPStatus.UNAUTHORIZED, "Login failed")
        return _json({"auth_token": token})

    # Writes.

    def record_write(self, request: Request, body: bytes) -> LoggedWrite | None:
        """Log the request if it is a write."""
        path = request.scope["path"].strip("/")
        if request.method not in METHODS or path == "authentication/login":
            return None
        with self.lock:
            try:
                resource = resource_of(request.method, path, spelling=self.spelling)
            except RefusedWrite:
                resource = ""
            given = _given(request, body)
            id_ = given.get("customer" if resource == "customeraddresses" else "id", "")
            logged = LoggedWrite(request.method, path, resource, str(id_), self.now())
            self.writes.append(logged)
            return logged

    def next_write_fault(self) -> WriteFault | None:
        """The fault of a write that carries a valid token, if one is due."""
        with self.lock:
            return self.write_faults.popleft() if self.write_faults else None

    def write(self, request: Request, body: bytes, logged: LoggedWrite) -> Response:
        """Execute the write, or refuse it with the vendor's errors."""
        with self.lock:
            try:
                resource = resource_of(request.method, logged.path, spelling=self.spelling)
                answer = Writer(self.books).execute(request.method, resource, _given(request, body))
            except RefusedWrite as refused:
                return _refusal(refused)
            logged.executed = True
            if answer is not None:
                logged.id = str(answer["id"])
            created = HTTPStatus.CREATED if request.method == "POST" else HTTPStatus.OK
            return Response(b"", created) if answer is None else _json(answer, created)

    # Reads.

    def _read(self, name: str, params: Mapping[str, str]) -> Response:
        if name == "customeraddresses":
            return self._customer_addresses(params)
        if name not in self.books.tables:
            return _plain_text(HTTPStatus.NOT_FOUND, "Not Found")
        if name == "company":
            return _json(self.books.detail(name, self.books.tables[name][0]))
        if "id" in params:
            return self._detail_of(name, params["id"])
        if name in sandbox_data.PAGED:
            return self._page(name, params)
        return _json([self.books.detail(name, thing) for thing in self.books.tables[name]])

    def _detail_of(self, name: str, id_: str) -> Response:
        if name in sandbox_data.NUMERIC and not _is_number(id_):
            return _bad_request("Parameter id must be numeric")
        thing = self.books.find(name, id_)
        if thing is None:
            return _plain_text(HTTPStatus.NOT_FOUND, f"{name} from parameter id doesn't exist")
        if self.books.is_withheld(name, thing):
            return _plain_text(
                HTTPStatus.CONFLICT,
                "The order was edited by another application, in a way that makes it invalid for API purposes",
            )
        return _json(self.books.detail(name, thing))

    def _page(self, name: str, params: Mapping[str, str]) -> Response:
        try:
            limit, page = _positive(params, "limit", 50), _positive(params, "page", 1)
            since = _parsed_time(params["modified_since"]) if "modified_since" in params else None
        except ValueError as error:
            return _bad_request(str(error))
        limit = min(limit, self.largest_page or limit)
        things = self.books.listed(name, params, since=since, inclusive=self.inclusive)
        if self.latest_first:
            things.sort(key=lambda thing: thing.modified, reverse=True)
        pages = -(-len(things) // limit)
        lines = [self.books.line(name, thing) for thing in things[(page - 1) * limit : page * limit]]
        pagination = {"limit": limit, "page": page, "number_pages": pages, "number_items": len(things)}
        if page < pages and self.between_pages:
            self.between_pages.popleft()(name)
        return _json({"pagination": pagination, self.suppliers_under if name == "suppliers" else name: lines})

    def _customer_addresses(self, params: Mapping[str, str]) -> Response:
        """The form of the response is not documented; `customer` is "numeric and mandatory"."""
        if not _is_number(params.get("customer", "")):
            return _bad_request("Parameter customer is mandatory and must be numeric")
        customer = self.books.find("customers", params["customer"])
        if customer is None:
            return _plain_text(HTTPStatus.NOT_FOUND, "The customer doesn't exist")
        wanted = params.get("type")
        addresses = [address for address in customer.addresses if wanted in {None, address["type"]}]
        return _json({"addresses": addresses} if self.addresses_wrapped else addresses)


class _Handler:
    """The ASGI app: counts requests, applies faults, and sets the `Date` header from the sandbox's clock."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with self.sandbox.in_flight():
            fault = self.sandbox.record_request(request)
            body = await request.body()
            logged = self.sandbox.record_write(request, body)
            faulty = _FAULT_RESPONSES.get(fault) if fault is not None else None
            if faulty is not None:
                response = faulty()
            elif logged is None:
                response = self.sandbox.respond(request)
            else:
                response = await self._write(request, body, logged)
            await self._delay(request, self.sandbox.slow if fault is Fault.SLOW else self.sandbox.latency)
            response = self._with_fault(response, fault)
            response.headers["Date"] = format_datetime(self.sandbox.now().astimezone(UTC), usegmt=True)
            await response(scope, receive, send)

    async def _write(self, request: Request, body: bytes, logged: LoggedWrite) -> Response:
        """The response to a write, which may be that the connection is closed."""
        if (refused := self.sandbox.refuse_token(request)) is not None:
            return refused
        fault = self.sandbox.next_write_fault()
        if fault in _UNEXECUTED:
            return _UNEXECUTED[fault]()
        if fault is WriteFault.SLOW:
            await asyncio.sleep(self.sandbox.write_seconds)  # also if the client disconnects meanwhile
        response = self.sandbox.write(request, body, logged)
        if fault is WriteFault.LOST_AFTER:
            return _Lost()
        if fault is WriteFault.HALF:
            return _Lost(bytes(response.body), response.status_code)
        if fault is WriteFault.DOUBLED:
            return Response(bytes(response.body) * 2, response.status_code, media_type=response.media_type)
        return response

    def _with_fault(self, response: Response, fault: Fault | None) -> Response:
        body = bytes(response.body)
        if fault is Fault.HALF:
            return Response(body[: len(body) // 2], response.status_code, media_type=response.media_type)
        if fault is Fault.DRIP:
            return StreamingResponse(self._dripping(body), response.status_code, media_type=response.media_type)
        return response

    async def _delay(self, request: Request, seconds: float) -> None:
        """Wait, but stop when the client disconnects: there is no event for that, so it polls."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end and not await request.is_disconnected():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _dripping(self, body: bytes) -> AsyncIterator[bytes]:
        for position in range(len(body)):
            yield body[position : position + 1]
            await asyncio.sleep(self.sandbox.drip)


_PAGE = "<!DOCTYPE html><html><head><title>Wisedat</title></head><body>Em manutenção</body></html>"

_FAULT_RESPONSES: dict[Fault, Callable[[], Response]] = {
    Fault.HTML: lambda: Response(_PAGE, media_type="text/html"),
    Fault.EMPTY: lambda: Response(b""),
    Fault.SCALAR: lambda: Response("42", media_type="application/json"),
    Fault.BUSY: lambda: Response("busy", HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": "1"}),
    Fault.BROKEN: lambda: Response("An error has occurred.", HTTPStatus.INTERNAL_SERVER_ERROR),
}


class _Lost(Response):
    """No response: closes the connection, after half of the body if there is one."""

    def __init__(self, body: bytes | None = None, status: int = 200) -> None:
        super().__init__(b"", status)
        self._whole = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        if self._whole is not None:
            # A length that is not reached, also where the body is empty.
            length = str(max(len(self._whole), 2)).encode()
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": [(b"content-length", length)]}
            )
            await send({"type": "http.response.body", "body": self._whole[: len(self._whole) // 2], "more_body": True})
        # uvicorn's. Another server closes the connection by itself because the response is incomplete, or sends 500.
        transport = getattr(getattr(receive, "__self__", None), "transport", None)
        if transport is not None:
            transport.close()
            while (await receive())["type"] != "http.disconnect":
                pass


_UNEXECUTED: dict[WriteFault | None, Callable[[], Response]] = {
    WriteFault.LOST_BEFORE: _Lost,
    WriteFault.BUSY: lambda: Response("busy", HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": "1"}),
    WriteFault.UNAVAILABLE: lambda: Response("Service Unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    WriteFault.LOCKED: lambda: _plain_text(HTTPStatus.CONFLICT, "The object is being edited by another application"),
}


def _given(request: Request, body: bytes) -> JsonObject:
    """The fields of a write: the query of a deletion, else the body; none if that is not a JSON object."""
    if request.method == "DELETE":
        return dict(request.query_params)
    try:
        given = exact.loads(body)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


def _refusal(refused: RefusedWrite) -> Response:
    if refused.errors:
        return _json({"errors": list(refused.errors)}, refused.status)
    if refused.message is not None:
        return _json(refused.message, refused.status)
    return _plain_text(HTTPStatus(refused.status), refused.sentence)


def _image_digest(image: str) -> JsonObject | str:
    if not image:
        return image
    content = base64.b64decode(image)
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _json(value: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(exact.dumps(value), status, media_type="application/json")


def _plain_text(status: HTTPStatus, text: str) -> Response:
    return Response(text, status, media_type="text/plain")


def _bad_request(*errors: str) -> Response:
    return Response(exact.dumps({"errors": errors}), HTTPStatus.BAD_REQUEST, media_type="application/json")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _positive(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, str(default))
    if not _is_number(text) or int(text) < 1:
        raise ValueError(f"Parameter {name} must be numeric")
    return int(text)


def _parsed_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("Parameter modified_since must be a date") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
