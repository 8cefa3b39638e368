"""Wisedat's stand-in: one company's server with the vendor's login and rules, its own clock, and its bad days."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import threading
from collections import deque
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import padding as paddings
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA1
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount

from models import exact
from workers.connectors.wisedat import sandbox_books
from workers.connectors.wisedat.sandbox_day import Day

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from starlette.types import Receive, Scope, Send

    from models.values import JsonObject
    from workers.connectors.wisedat.sandbox_books import Thing

_OFFLINE, _ONLINE, _NO_COMPANY = 0, 1, 2
_LIFE = timedelta(minutes=30)
_DAY = timedelta(days=1)
_KEYS = 3
"""Making an RSA key is slow, so a process makes a few, and every server rotates between them."""


class Fault(StrEnum):
    """What the next answer is instead of, or done to, the right one."""

    HTML = "html"
    HALF = "half"
    DRIP = "drip"
    EMPTY = "empty"
    SCALAR = "scalar"
    BUSY = "429"
    BROKEN = "500"
    SLOW = "slow"


def create(
    *,
    seed: int = 1,
    objects: int = 12,
    now: Callable[[], datetime] | None = None,
    key_bits: int = 2048,
    padding: str = "pkcs1",
    api_key: str = "sandbox-key",
    user: str = "espelho",
    password: str = "sandbox-password",  # noqa: S107 - made up
    silent_addresses: bool = False,
) -> Starlette:
    """The app; its `Sandbox` is at `app.state.sandbox`.

    `objects`: how many products, customers and orders there are, at least 2. `now`: an aware clock, which the `Date`
    header shows (a server that adds a `Date` of its own must be told not to). `padding`: "pkcs1" (v1.5) or "oaep"
    (SHA-1), what a login must be encrypted with. `silent_addresses`: editing an address moves no customer's
    modification date.
    """
    sandbox = Sandbox(seed=seed, now=now or _now, key_bits=key_bits, padding=padding, login=(api_key, user, password))
    sandbox.books.silent_addresses = silent_addresses
    sandbox.books.found(objects)
    app = Starlette(routes=[Mount("/", _Door(sandbox))])
    app.state.sandbox = sandbox
    return app


def _now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """What demos and tests hold: the contract's `Sandbox`, the vendor's knobs, and a company to edit. Thread-safe.

    Knobs: `faults`, done to the next answers, first to first; `slow`, seconds of a slow one; `drip`, seconds between
    two bytes of a dripping one; `latency`, seconds of each; `state`, the number in `/status` (1: online); `starting`,
    how many answers of `/status` still say offline; `key_as_list`, how the public key is shown; `inclusive`, whether
    `modified_since` includes its moment; `largest_page`, above which `limit` is cut; `latest_first`, how lists are
    sorted; `suppliers_under`, the name that wraps their list; `addresses_wrapped`, whether customer addresses are;
    `meanwhile`, what happens (given the resource) right after a page that is not the last, one after each.

    Seen: `asked`, method, path and query of the requests as they came; `logins` that succeeded and `refused_logins`;
    `max_parallel`, requests at one time.
    """

    def __init__(
        self, *, seed: int, now: Callable[[], datetime], key_bits: int, padding: str, login: tuple[str, str, str]
    ) -> None:
        self.now = now
        self.books = sandbox_books.Books(seed, now)
        self.padding = padding
        self.faults: deque[Fault] = deque()
        self.slow, self.drip, self.latency = 5.0, 0.05, 0.0
        self.state = _ONLINE
        self.starting = 0
        self.key_as_list = False
        self.inclusive = True
        self.largest_page: int | None = 5
        self.latest_first = False
        self.suppliers_under = "salesmen"  # as documented
        self.addresses_wrapped = False
        self.meanwhile: deque[Callable[[str], object]] = deque()
        self.asked: list[str] = []
        self.logins = self.refused_logins = 0
        self.max_parallel = 0
        self.lock = threading.RLock()
        self._seed = seed
        self._login = login
        self._key_bits = key_bits
        self._keys_made = 0
        self._key_since = now()
        self._tokens: dict[str, datetime] = {}
        self._inside = 0

    # The contract.

    def settings(self) -> dict[str, Any]:
        """A `[connections.*]` table without its `url`: every resource, as fast as this machine."""
        api_key, user, password = self._login
        told = {} if self.padding == "pkcs1" else {"rsa_padding": self.padding}
        login = {"api_key": api_key, "user": user, "password": password}
        return {"system": "wisedat", **login, "resources": list(self.books.tables), **told}

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The details as a mirror holds them, by key: images as digests, customers with their addresses.

        Of an order that the API cannot show: its line in the list, marked.
        """
        with self.lock:
            return {
                self.books.key(resource, thing): self._true(resource, thing) for thing in self.books.tables[resource]
            }

    def _true(self, resource: str, thing: Thing) -> JsonObject:
        if self.books.is_withheld(resource, thing):
            return self.books.line(resource, thing) | {"detail_unavailable": True}
        shown = self.books.detail(resource, thing)
        if resource == "customers":
            shown["addresses"] = deepcopy(thing.addresses)
        if resource == "products":
            shown["images"] = [_digest(image) for image in shown["images"]]
        if resource == "categories":
            shown["image"] = _digest(shown["image"])
        return shown

    def edit(self, random: Random) -> str:
        """One everyday change."""
        with self.lock:
            return Day(self, random).everyday()

    def story(self) -> Iterator[str]:
        """A day with everything that mirrors get wrong."""
        for step in Day(self, Random(self._seed)).steps():
            with self.lock:
                told = step()
            yield told

    # The server.

    def expire(self) -> None:
        """All tokens are void, under the same key."""
        with self.lock:
            self._tokens.clear()

    def rotate(self) -> None:
        """A new key, which makes all tokens void (Wisedat API 1.3, Status)."""
        with self.lock:
            self._keys_made += 1
            self._key_since = self.now()
            self._tokens.clear()

    def restart(self, *, starting: int = 0) -> None:
        """A new key, too; for so many answers of `/status` the server is not online yet."""
        with self.lock:
            self.rotate()
            self.starting = starting

    def entered(self, request: Request) -> Fault | None:
        """A request has come; what will be done to its answer."""
        with self.lock:
            query = request.scope["query_string"].decode()
            self.asked.append(f"{request.method} {request.scope['path']}" + (f"?{query}" if query else ""))
            return self.faults.popleft() if self.faults else None

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Count who is inside."""
        with self.lock:
            self._inside += 1
            self.max_parallel = max(self.max_parallel, self._inside)
        try:
            yield
        finally:
            with self.lock:
                self._inside -= 1

    def answer(self, request: Request) -> Response:
        """The right answer."""
        with self.lock:
            if self.now() - self._key_since >= _DAY:
                self.rotate()
            path, authorization = request.scope["path"].strip("/"), request.headers.get("Authorization")
            if path in {"status", "authentication/login"} and authorization is None:
                return _said(HTTPStatus.BAD_REQUEST, "No Authorization property on the request header")
            if (request.method, path) == ("GET", "status"):
                return self._status(authorization or "")
            if (request.method, path) == ("POST", "authentication/login"):
                return self._log_in(authorization or "")
            if self._tokens.get((authorization or "").removeprefix("Bearer "), self.now()) <= self.now():
                return _said(HTTPStatus.UNAUTHORIZED, "Invalid/Inexistent/Expired token")
            if request.method != "GET":
                return _said(HTTPStatus.METHOD_NOT_ALLOWED, "This stand-in is for reading")
            return self._read(path, request.query_params)

    # Login.

    def _private_key(self) -> rsa.RSAPrivateKey:
        return _key(self._key_bits, self._keys_made % _KEYS)

    def _status(self, authorization: str) -> Response:
        state = self.state
        if authorization != f"WDAPI {self._login[0]}":
            state = _NO_COMPANY
        elif self.starting:
            self.starting -= 1
            state = _OFFLINE
        shown: JsonObject = {"State": state}
        if state == _ONLINE:
            numbers = self._private_key().public_key().public_numbers()
            key = {"Modulus": _base64(numbers.n), "Exponent": _base64(numbers.e)}
            shown["PublicKey"] = list(key.values()) if self.key_as_list else key
        return _json(shown)

    def _log_in(self, authorization: str) -> Response:
        scheme, _, encrypted = authorization.partition(" ")
        if scheme != "WDAPI" or self.state != _ONLINE or not self._is_login(encrypted):
            self.refused_logins += 1
            return _said(HTTPStatus.UNAUTHORIZED, "Login failed")
        self.logins += 1
        token = _token(self.logins, self.now() + _LIFE)
        self._tokens[token] = self.now() + _LIFE
        return _json({"auth_token": token})

    def _is_login(self, encrypted: str) -> bool:
        scheme = paddings.PKCS1v15() if self.padding == "pkcs1" else _OAEP
        try:
            said = self._private_key().decrypt(base64.b64decode(encrypted, validate=True), scheme)
        except ValueError:
            return False
        return said == ";".join(self._login).encode()

    # Reading.

    def _read(self, name: str, params: Mapping[str, str]) -> Response:
        if name == "customeraddresses":
            return self._customer_addresses(params)
        if name not in self.books.tables:
            return _said(HTTPStatus.NOT_FOUND, "Not Found")
        if name == "company":
            return _json(self.books.detail(name, self.books.tables[name][0]))
        if "id" in params:
            return self._one(name, params["id"])
        if name in sandbox_books.PAGED:
            return self._page(name, params)
        return _json([self.books.detail(name, thing) for thing in self.books.tables[name]])

    def _one(self, name: str, id_: str) -> Response:
        if name in sandbox_books.NUMERIC and not _is_number(id_):
            return _wrong("Parameter id must be numeric")
        thing = self.books.find(name, id_)
        if thing is None:
            return _said(HTTPStatus.NOT_FOUND, f"{name} from parameter id doesn't exist")
        if self.books.is_withheld(name, thing):
            return _said(
                HTTPStatus.CONFLICT,
                "The order was edited by another application, in a way that makes it invalid for API purposes",
            )
        return _json(self.books.detail(name, thing))

    def _page(self, name: str, params: Mapping[str, str]) -> Response:
        try:
            limit, page = _whole(params, "limit", 50), _whole(params, "page", 1)
            since = _moment(params["modified_since"]) if "modified_since" in params else None
        except ValueError as error:
            return _wrong(str(error))
        limit = min(limit, self.largest_page or limit)
        things = self.books.found_by(name, params, since=since, inclusive=self.inclusive)
        if self.latest_first:
            things.sort(key=lambda thing: thing.modified, reverse=True)
        pages = -(-len(things) // limit)
        lines = [self.books.line(name, thing) for thing in things[(page - 1) * limit : page * limit]]
        pagination = {"limit": limit, "page": page, "number_pages": pages, "number_items": len(things)}
        if page < pages and self.meanwhile:
            self.meanwhile.popleft()(name)
        return _json({"pagination": pagination, self.suppliers_under if name == "suppliers" else name: lines})

    def _customer_addresses(self, params: Mapping[str, str]) -> Response:
        """What it answers is not documented; `customer` is "numeric and mandatory"."""
        if not _is_number(params.get("customer", "")):
            return _wrong("Parameter customer is mandatory and must be numeric")
        customer = self.books.find("customers", params["customer"])
        if customer is None:
            return _said(HTTPStatus.NOT_FOUND, "The customer doesn't exist")
        wanted = params.get("type")
        addresses = [address for address in customer.addresses if wanted in {None, address["type"]}]
        return _json({"addresses": addresses} if self.addresses_wrapped else addresses)


class _Door:
    """Where requests come in: counts them, does what faults ask for, and shows the server's clock."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with self.sandbox.serving():
            fault = self.sandbox.entered(request)
            instead = _INSTEAD.get(fault) if fault is not None else None
            response = instead() if instead is not None else self.sandbox.answer(request)
            await self._think(request, self.sandbox.slow if fault is Fault.SLOW else self.sandbox.latency)
            response = self._done_to(response, fault)
            response.headers["Date"] = format_datetime(self.sandbox.now().astimezone(UTC), usegmt=True)
            await response(scope, receive, send)

    def _done_to(self, response: Response, fault: Fault | None) -> Response:
        body = bytes(response.body)
        if fault is Fault.HALF:
            return Response(body[: len(body) // 2], response.status_code, media_type=response.media_type)
        if fault is Fault.DRIP:
            return StreamingResponse(self._dripping(body), response.status_code, media_type=response.media_type)
        return response

    async def _think(self, request: Request, seconds: float) -> None:
        """Take this long, but not for a caller who has left: no event tells, so he is looked for."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end and not await request.is_disconnected():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _dripping(self, body: bytes) -> AsyncIterator[bytes]:
        for position in range(len(body)):
            yield body[position : position + 1]
            await asyncio.sleep(self.sandbox.drip)


_PAGE = "<!DOCTYPE html><html><head><title>Wisedat</title></head><body>Em manutenção</body></html>"

_INSTEAD: dict[Fault, Callable[[], Response]] = {
    Fault.HTML: lambda: Response(_PAGE, media_type="text/html"),
    Fault.EMPTY: lambda: Response(b""),
    Fault.SCALAR: lambda: Response("42", media_type="application/json"),
    Fault.BUSY: lambda: Response("busy", HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": "1"}),
    Fault.BROKEN: lambda: Response("An error has occurred.", HTTPStatus.INTERNAL_SERVER_ERROR),
}

_OAEP = paddings.OAEP(mgf=paddings.MGF1(SHA1()), algorithm=SHA1(), label=None)  # noqa: S303 - what .NET offers as OAEP


@cache
def _key(bits: int, _number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _base64(number: int) -> str:
    return base64.b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big")).decode()


def _token(session: int, until: datetime) -> str:
    """Looks like a JSON Web Token; nobody but this server can make one, for part of it is chance."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sid": session, "exp": int(until.timestamp())})
    signed = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*signed, secrets.token_urlsafe(32)])


def _digest(image: str) -> JsonObject | str:
    if not image:
        return image
    content = base64.b64decode(image)
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _json(value: Any) -> Response:
    return Response(exact.dumps(value), media_type="application/json")


def _said(status: HTTPStatus, words: str) -> Response:
    return Response(words, status, media_type="text/plain")


def _wrong(*errors: str) -> Response:
    return Response(exact.dumps({"errors": errors}), HTTPStatus.BAD_REQUEST, media_type="application/json")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _whole(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, str(default))
    if not _is_number(text) or int(text) < 1:
        raise ValueError(f"Parameter {name} must be numeric")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("Parameter modified_since must be a date") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
