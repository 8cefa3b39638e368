"""EasyFlor's sandbox: an HTTP server that behaves like one exporter's database, with faults to set."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from copy import deepcopy
from datetime import UTC, datetime, time, timedelta
from email.utils import format_datetime
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from models import exact
from workers.connectors.easyflor import sandbox_data, sandbox_scenario

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request

    from models.values import JsonObject

_LARGE = frozenset({"debtor", "article", "purchase"})
"""Collections that can be read in full in the opening hours only."""

_SINCE = "sincedate"
_COOKIE = "EasyFlorSession"
_SECRET = frozenset({"password", "passwordsalt"})
_PERSONAL = frozenset({"dateofbirth", "nationality", "gender"})


class Fault(StrEnum):
    """What replaces or damages the next reply."""

    HTML = "html"
    HALF = "half"
    DRIP = "drip"
    EMPTY = "empty"
    SCALAR = "scalar"
    NULL = "null"
    OBJECT = "object"
    BUSY = "429"
    BROKEN = "500"
    SLOW = "slow"
    MALFORMED = "NoOrInvalidJson"
    REFUSED = "NoOrInvalidRequest"
    UNAUTHORIZED = "401"


def create(
    *,
    seed: int = 1,
    objects: int = 12,
    now: Callable[[], datetime] | None = None,
    hours: tuple[str, str] = ("18:00", "05:00"),
    closed: bool = False,
    auth: str = "token",
    camel: bool = False,
) -> Starlette:
    """The app; its `Sandbox` is at `app.state.sandbox`.

    `objects`: the number of debtors, articles, purchases and invoices. `now`: an aware clock, sent in the `Date` header
    (switch off the `Date` that the serving process adds). `closed`: large collections can be read in full only between
    `hours` (UTC) of that clock; by default always, so that a demo works at noon. `auth`: the kind of login in
    `settings`; the sandbox accepts both. `camel`: names begin with a small letter, ASP.NET Core's default.
    """
    sandbox = Sandbox(seed=seed, now=now or _utc_now, hours=hours if closed else None, auth=auth, camel=camel)
    sandbox.books.fill(objects)
    app = Starlette(routes=[Route("/api/{path:path}", sandbox.answer, methods=["GET", "POST", "PUT"])])
    app.state.sandbox = sandbox
    return app


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Sandbox:
    """The contract's `Sandbox`, with settings for EasyFlor's behaviour and the company's data to edit. Thread-safe.

    - `faults`: applied to the next replies, one each; `login_faults`: to the next replies to logins
    - `hours`: begin and end of the opening hours; None: always open
    - `form`: the `strftime` format that days in addresses must have
    - `token_life`: a token's lifetime
    - `latency`: seconds before each reply; `slow`: before one with `Fault.SLOW`; `drip`: between two bytes of one with
      `Fault.DRIP`
    - `requests`: method and address of each request received, logins included
    - `logins`, `logouts`: the number of successful ones
    - `max_parallel`: the most requests answered at the same time
    - `issued`: every token and cookie
    - `camel`: whether names in replies begin with a small letter
    - `shuffles`: whether each object of a reply has its properties in another order
    """

    def __init__(
        self,
        *,
        seed: int,
        now: Callable[[], datetime],
        hours: tuple[str, str] | None,
        auth: str = "token",
        camel: bool = False,
    ) -> None:
        self.username, self.password, self.database = "api", "wouldntyouliketoknow", "EasyFlor-Demo"
        self.now, self.hours, self.auth, self.camel = now, hours, auth, camel
        self.books = sandbox_data.Books(seed, now)
        self.day = sandbox_scenario.Day(self.books)
        self.faults: deque[Fault] = deque()
        self.login_faults: deque[Fault] = deque()
        self.form = "%Y%m%d"
        self.shuffles = True
        self.token_life = timedelta(hours=1)
        self.latency, self.slow, self.drip = 0.0, 5.0, 0.05
        self.requests: list[str] = []
        self.logins = self.logouts = self.max_parallel = 0
        self.issued: set[str] = set()
        self.lock = threading.RLock()
        self._tokens: dict[str, datetime] = {}
        self._cookie: str | None = None
        self._parallel = 0
        self._seed = seed
        self._chance = Random(seed)

    # The contract.

    def settings(self) -> dict[str, Any]:
        """A `[connections.*]` table without its `url`."""
        return {
            "system": "easyflor",
            "username": self.username,
            "password": self.password,
            "database": self.database,
            "auth": self.auth,
            "resources": list(sandbox_data.TABLES),
            "opening_hours": ["-".join(self.hours)] if self.hours else [],
        }

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The objects by id, without secrets and personal data."""
        with self.lock:
            shown = {str(record["Id"]): _without_secrets(record) for record in self.books.tables[resource]}
            return {key: self._cased(record) for key, record in shown.items()}

    def edit(self, random: Random) -> str:
        """One everyday change."""
        with self.lock:
            return self.day.everyday(random)

    def scenario(self) -> Iterator[str]:
        """A scripted day of the changes that mirrors most often miss, and of sessions that end."""
        steps = self.day.scenario(Random(self._seed))
        endings = {3: self.expire, 7: self.log_in_elsewhere}
        for number in range(1_000):
            with self.lock:
                sentence = endings[number]() if number in endings else next(steps, None)
            if sentence is None:
                return
            yield sentence

    # Logins.

    def expire(self) -> str:
        """End all tokens."""
        with self.lock:
            self._tokens.clear()
        return "every token expired before its time"

    def log_in_elsewhere(self) -> str:
        """Log in as the same user elsewhere, which ends the cookie (EasyFlor API v1, Authorization)."""
        with self.lock:
            self._cookie = self._issue()
        return "another program logged in as the same user"

    def _issue(self) -> str:
        made = f"{self._chance.getrandbits(160):040x}"
        self.issued.add(made)
        return made

    def _log_in(self, path: str, body: bytes) -> Response:
        wanted = {"Username": self.username, "Password": self.password, "Database": self.database}
        if _decoded(body) != wanted:
            return _error(401, "Unauthorized", "Username, password or database is wrong")
        self.logins += 1
        if path == "authorization":
            self._cookie = self._issue()
            return Response(headers={"Set-Cookie": f"{_COOKIE}={self._cookie}; Path=/; HttpOnly"})
        token, until = self._issue(), self.now() + self.token_life
        self._tokens[token] = until
        expiration = until.astimezone(sandbox_data.AMSTERDAM).isoformat(timespec="seconds")
        return _json({"Token": token, "Expiration": expiration})

    def _log_out(self, request: Request) -> Response:
        if self._cookie is None or request.cookies.get(_COOKIE) != self._cookie:
            return _unauthorized()
        self._cookie = None
        self.logouts += 1
        return Response()

    def _is_known(self, request: Request) -> bool:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, datetime.min.replace(tzinfo=UTC)) > self.now():
            return True
        return self._cookie is not None and request.cookies.get(_COOKIE) == self._cookie

    # HTTP.

    async def answer(self, request: Request) -> Response:
        """Any request below /api/."""
        body = await request.body()
        with self.lock:
            self._parallel += 1
            self.max_parallel = max(self.max_parallel, self._parallel)
            self.requests.append(f"{request.method} {request.path_params['path']}")
        try:
            await asyncio.sleep(self.latency)
            response = await self._respond(request, body)
        finally:
            with self.lock:
                self._parallel -= 1
        response.headers["Date"] = format_datetime(self.now().astimezone(UTC), usegmt=True)
        return response

    async def _respond(self, request: Request, body: bytes) -> Response:
        path = request.path_params["path"].lower().strip("/")
        with self.lock:
            logs_in = request.method == "POST" and path in {"authorization", "authorizationtoken"}
            faults = self.login_faults if logs_in else self.faults
            fault = faults.popleft() if faults else None
            response = self._log_in(path, body) if logs_in else self._handle(request, path, body)
        if self.camel and response.media_type == "application/json":
            response = _json(_camel_cased(exact.loads(bytes(response.body))), response.status_code)
        if fault in _FAULTY_REPLIES:
            return _FAULTY_REPLIES[fault]()
        if fault is Fault.SLOW:
            await self._be_slow(request)
        if fault is Fault.HALF:
            return Response(bytes(response.body)[: len(response.body) // 2], media_type="application/json")
        if fault is Fault.DRIP:
            return StreamingResponse(self._drip(bytes(response.body)), media_type="application/json")
        return response

    def _handle(self, request: Request, path: str, body: bytes) -> Response:
        if request.method == "POST" and path == "unauthorization":
            return self._log_out(request)
        if not self._is_known(request):
            return _unauthorized()
        return _point_reads(path, body) if request.method == "PUT" else self._collection(path)

    def _collection(self, path: str) -> Response:
        name, _, argument = path.partition("/")
        if name.endswith(_SINCE) and name.removesuffix(_SINCE) in self.books.tables:
            return self._since(name.removesuffix(_SINCE), argument)
        if name == "debtor" and argument:
            return self._debtor(argument)
        if name not in self.books.tables or name == "invoice" or argument:
            return _error(404, "NotFound", "No such command")
        if name in _LARGE and not self._is_open():
            return _error(400, "ApiOpeningHoursException", "May only be done before 5AM UTC or after 6PM UTC")
        return self._list(self.books.tables[name])

    def _since(self, name: str, day: str) -> Response:
        try:
            since = datetime.strptime(day, self.form).replace(tzinfo=UTC).date()
        except ValueError:
            return _error(400, "ArgumentNotFound", f"{day} is no date")
        return self._list(self.books.since(name, since))

    def _debtor(self, key: str) -> Response:
        found = [record for record in self.books.tables["debtor"] if str(record["Id"]) == key]
        return self._list(found) if found else _error(400, "DocumentNotFound", f"Document debtors/{key} not found")

    def _list(self, records: list[JsonObject]) -> Response:
        # The order of properties is not guaranteed (EasyFlor API v1, Tips).
        return _json([self._shuffled(record) for record in records] if self.shuffles else records)

    def _shuffled(self, record: JsonObject) -> JsonObject:
        return dict(self._chance.sample(list(record.items()), len(record)))

    def _cased(self, value: Any) -> Any:
        return _camel_cased(value) if self.camel else value

    def _is_open(self) -> bool:
        if self.hours is None:
            return True
        begin, end = (time.fromisoformat(hour) for hour in self.hours)
        now = self.now().astimezone(UTC).time()
        return begin <= now < end if begin < end else now >= begin or now < end

    async def _be_slow(self, request: Request) -> None:
        """Wait `slow` seconds, or until the client disconnects; Starlette has no event for that, so poll."""
        end = asyncio.get_running_loop().time() + self.slow
        while asyncio.get_running_loop().time() < end and not await request.is_disconnected():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _drip(self, body: bytes) -> AsyncIterator[bytes]:
        for position in range(len(body)):
            yield body[position : position + 1]
            await asyncio.sleep(self.drip)


def _json(value: Any, status: int = 200) -> Response:
    return Response(exact.dumps(value), status, media_type="application/json")


def _camel_cased(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel_cased(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name[:1].lower() + name[1:]: _camel_cased(item) for name, item in value.items()}


def _error(status: int, error: str, message: str) -> Response:
    return Response(exact.dumps({"error": error, "message": message}), status, media_type="application/json")


def _unauthorized() -> Response:
    return _error(401, "Unauthorized", "Authentication required or failed")


def _decoded(body: bytes) -> Any:
    try:
        return exact.loads(body)
    except ValueError:
        return None


def _point_reads(path: str, body: bytes) -> Response:
    """The point reads by PUT: article sorts, and their prices for a debtor."""
    limit = {"listarticlesort": 50, "debtorlistarticlesortprice": 25}.get(path)
    decoded = _decoded(body)
    if limit is None:
        return _error(404, "NotFound", "No such command")
    if not isinstance(decoded, dict):
        return _error(400, "NoOrInvalidJson", "The body is no JSON object")
    ids, debtor = decoded.get("ListArticleSorts"), decoded.get("DebtorId")
    if not isinstance(ids, list) or not 0 < len(ids) <= limit or (limit == 25) != (debtor is not None):
        return _error(400, "NoOrInvalidRequest", f"Ask for at most {limit} sorts")
    return _json([{"Id": each, "Price": "0.250", **({"DebtorId": debtor} if debtor else {})} for each in ids])


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if name.lower() not in _SECRET | _PERSONAL}
        return {name: _without_secrets(item) for name, item in kept.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else deepcopy(value)


_MAINTENANCE_PAGE = (
    "<!DOCTYPE html><html><head><title>Onderhoud</title></head><body>EasyFlor is even niet bereikbaar</body></html>"
)

_FAULTY_REPLIES: dict[Fault | None, Callable[[], Response]] = {
    Fault.HTML: lambda: Response(_MAINTENANCE_PAGE, media_type="text/html"),
    Fault.EMPTY: lambda: Response(b""),
    Fault.SCALAR: lambda: Response("42", media_type="application/json"),
    Fault.NULL: lambda: Response("null", media_type="application/json"),
    Fault.OBJECT: lambda: _json(
        {"Id": 1, "Users": [{"Username": "x", "Password": "c2VjcmV0", "PasswordSalt": "c2Fs"}]}
    ),
    Fault.BUSY: lambda: Response("busy", 429, headers={"Retry-After": "1"}),
    Fault.BROKEN: lambda: _error(500, "ServerError", "Error processing message, not fetched"),
    Fault.MALFORMED: lambda: _error(400, "NoOrInvalidJson", "No or invalid JSON"),
    Fault.REFUSED: lambda: _error(400, "NoOrInvalidRequest", "No or invalid request"),
    Fault.UNAUTHORIZED: _unauthorized,
}
