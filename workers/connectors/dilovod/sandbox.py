"""Dilovod's sandbox: an HTTP server that behaves like one company's account, with webhooks and faults to set."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from models import exact
from workers.connectors.dilovod import sandbox_data, sandbox_writes
from workers.connectors.dilovod.sandbox_data import RefusedError
from workers.connectors.dilovod.sandbox_writes import WriteFault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from models.values import JsonObject
    from workers.connectors.dilovod.sandbox_data import VendorObject
    from workers.connectors.dilovod.sandbox_writes import Arrival

_KYIV = ZoneInfo("Europe/Kyiv")
_RESOURCES = (
    "catalogs.goods",
    "catalogs.persons",
    "catalogs.units",
    "documents.saleOrder",
    "balanceRegisters.goods",
    "informationRegisters.goodsPrices",
)


class Fault(StrEnum):
    """What replaces or damages the next reply."""

    HTML = "html"
    HALF = "half"
    DRIP = "drip"
    EMPTY = "empty"
    SCALAR = "scalar"
    LIST = "list"
    OBJECT = "object"
    BROKEN = "500"
    SLOW = "slow"


def create(
    *,
    seed: int = 1,
    key: str = "sandbox-key",
    now: Callable[[], datetime] | None = None,
    objects: int = 12,
    days: float = 0,
    webhook_url: str | None = None,
    lost: float = 0.0,
    doubled: float = 0.0,
) -> Starlette:
    """The app; its `Sandbox` is at `app.state.sandbox`.

    `objects`: the number of goods, persons and sale orders. `days`: over which the orders are dated, up to now.
    `now`: an aware clock, sent in the `Date` header (switch off the `Date` that the serving process adds).
    `webhook_url`: the address that edits by users send webhooks to; `lost` and `doubled`: the shares of webhooks
    that are not sent or sent twice.
    """
    sandbox = Sandbox(seed=seed, key=key, now=now or _utc_now)
    sandbox.shows_clock = now is not None
    sandbox.webhook_url, sandbox.lost, sandbox.doubled = webhook_url, lost, doubled
    sandbox.fill(objects, days=days)
    app = Starlette(routes=[Route("/", _Endpoint(sandbox), methods=["POST"])])
    app.state.sandbox = sandbox
    return app


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class _Call:
    """The fields by which requests are counted (Dilovod help, API Dilovod, getStatistic)."""

    day: str
    method: str
    client_id: str
    version: str
    about: str


class Sandbox:
    """The contract's `Sandbox`, with settings for Dilovod's behaviour and the company's data to edit. Thread-safe.

    - `latency`: seconds that each reply takes, during which the key is busy
    - `faults`: applied to the next replies, one each; `drip`: seconds between two bytes of a reply with `Fault.DRIP`;
      `slow`: seconds before one with `Fault.SLOW`; `write_seconds`: how long a slow write takes
    - `requests`: the actions received; `overlaps`: the number refused because the key was busy
    - `sent_webhooks`: the packets of the webhooks sent
    - `books.denied`: what the key's role may not read; `writing.read_only`: what it may not write
    - `write_faults`: what becomes of the next writes, one each; `writes`: all that arrived, in their order
    - `writing.lock`: a user has an object open
    - `dimensions`: register -> the dimensions that the mirror keeps its rows by, if not all
    - `partner_key`: the partner's API key that `getStatistic` accepts
    """

    def __init__(self, *, seed: int, key: str, now: Callable[[], datetime]) -> None:
        self.key = key
        self.books = sandbox_data.Books(seed, lambda: now().astimezone(_KYIV))
        self.writing = sandbox_writes.Writes(self.books)
        self.write_faults, self.writes = self.writing.faults, self.writing.log
        self.shows_clock = False
        self.webhook_url: str | None = None
        self.lost = 0.0
        self.doubled = 0.0
        self.latency = 0.0
        self.drip = 0.05
        self.slow = 5.0
        self.write_seconds = 5.0
        self.faults: deque[Fault] = deque()
        self.requests: list[str] = []
        self.sent_webhooks: list[JsonObject] = []
        self.dimensions: dict[str, tuple[str, ...]] = {}
        self.partner_key = "partner-key"
        self.calls: Counter[_Call] = Counter()
        self.failed: Counter[_Call] = Counter()
        self.lock = threading.RLock()
        self.busy = threading.Lock()
        self.overlaps = 0
        self._chance = Random(seed)
        self._outbox: queue.Queue[JsonObject] = queue.Queue()
        self._sender: threading.Thread | None = None

    # The contract.

    def settings(self) -> dict[str, Any]:
        """A `[connections.*]` table without its `url`; the sandbox sends webhooks from 127.0.0.1."""
        return {
            "system": "dilovod",
            "api_key": self.key,
            "resources": list(_RESOURCES),
            "webhook_sources": ["127.0.0.1"],
        }

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The `getObject` answer for each object that is not marked as deleted; a register's rows by dimensions."""
        with self.lock:
            if resource in sandbox_data.REGISTERS:
                return self._register_truth(resource)
            return {thing.id: self.books.show(thing) for thing in self.books.of(resource) if not thing.marked}

    def _register_truth(self, resource: str) -> dict[str, JsonObject]:
        register = sandbox_data.REGISTERS[resource]
        sliced = resource.startswith("informationRegisters.")
        kept = [name for name in register.dimensions if name in self.dimensions.get(resource, register.dimensions)]
        from_ = {"type": "sliceLast" if sliced else "balance", "register": resource.partition(".")[2]}
        fields = {name: name for name in (*kept, *register.resources)}
        rows = self.books.request({"from": from_ | {"dimensions": kept}, "fields": fields})
        return {":".join(row[name] for name in kept): row for row in rows}

    def edit(self, random: Random) -> str:
        """Make one random everyday change; few of them are deletions."""
        often: dict[Callable[[Random], str], int] = {
            self._order: 16,
            self._edit_order: 12,
            self._edit_good: 12,
            self._edit_person: 8,
            self._edit_by_api: 8,
            self._move_stock: 8,
            self._reprice: 8,
            self._mark_order: 1,
            self._unmark_order: 1,
            self._remove_order: 1,
        }
        with self.lock:
            (change,) = random.choices(list(often), weights=list(often.values()))
            return change(random)

    def scenario(self) -> Iterator[str]:
        """A scripted day of the changes that mirrors most often miss."""
        random = Random(self.books.seed)
        for step in (
            self._order,
            self._edit_good,
            self._edit_without_webhook,
            self._edit_with_two_webhooks,
            self._edit_by_api,
            self._mark_order,
            self._mark_by_api,
            self._unmark_order,
            self._delete_and_create_again,
            self._remove_order,
            self._empty_order,
            self._date_back,
            self._date_forward,
            self._new_field,
            self._changed_type,
            self._move_stock,
            self._sell_out,
            self._reprice,
        ):
            with self.lock:
                sentence = step(random)
            yield sentence

    # Webhooks.

    def drain(self) -> None:
        """Wait until all queued webhooks are sent."""
        self._outbox.join()

    def notify(self, thing: VendorObject) -> None:
        """Send the webhook of a change by a user, or lose or double it at random; there are no retries."""
        chance = self._chance.random()
        if chance < self.lost:
            return
        for _ in range(2 if chance < self.lost + self.doubled else 1):
            self._send_webhook(_webhook_packet(thing))

    def _send_webhook(self, packet: JsonObject) -> None:
        self.sent_webhooks.append(packet)
        if self.webhook_url is None:
            return
        if self._sender is None:
            self._sender = threading.Thread(target=self._send_queued, name="dilovod-webhooks", daemon=True)
            self._sender.start()
        self._outbox.put(packet)

    def _send_queued(self) -> None:
        with httpx.Client(timeout=10, trust_env=False) as client:
            while True:
                packet = self._outbox.get()
                try:
                    client.get(str(self.webhook_url), params={"packet": exact.dumps(packet)})
                except (httpx.HTTPError, httpx.InvalidURL):
                    continue  # unreachable: Dilovod does not retry
                finally:
                    self._outbox.task_done()

    # The company.

    def fill(self, objects: int, *, days: float = 0) -> None:
        """Fill the account with the data of a small shop, whose orders are dated over so many days, up to now."""
        books, random = self.books, self.books.random
        for kind, names in _CATALOGUES.items():
            for code, name in names:
                books.add(kind, code=code, name=_multilang(name))
        groups = [books.add("catalogs.goods", name=_multilang(name), isGroup="1") for name in ("Саджанці", "Інвентар")]
        for number in range(objects):
            self._good(random, number, random.choice(groups))
            books.add(
                "catalogs.persons",
                name=_multilang(f"{random.choice(_SURNAMES)} {random.choice('АБВГОПСТ')}. {number + 1}"),
                phone=f"+38067{random.randrange(10**7):07d}",
                details='{"phone":["+380"]}' if number % 3 == 0 else "",
            )
        for number in range(objects):
            self._new_order(random, date=books.wall_clock(days=-days * (1 - (number + 1) / objects)))
        kit = books.add("catalogs.goods", name=_multilang("Набір садівника"), mainUnit=books.of("catalogs.units")[0].id)
        books.add_row(kit, "tpGoods", good=self._goods()[0].id, qty="2.000")

    def _good(self, random: Random, number: int, group: VendorObject) -> VendorObject:
        books = self.books
        good = books.add(
            "catalogs.goods",
            name=_multilang(f"{random.choice(_PLANTS)} №{number + 1}"),
            parent=group.id,
            productNum=f"00{number + 7}",
            mainUnit=books.of("catalogs.units")[0].id,
            weight=f"{random.randrange(1, 9000) / 1000:.3f}",
        )
        for storage in books.of("catalogs.storages"):
            self._stock(good, storage, Decimal(random.randrange(1, 500)), Decimal(random.randrange(10, 900)))
        self._price(good, Decimal(random.randrange(1000, 90_000)) / 100)
        return good

    def _goods(self) -> list[VendorObject]:
        return [good for good in self.books.of("catalogs.goods") if good.header["isGroup"] == "0" and not good.marked]

    def _new_order(self, random: Random, *, date: str | None = None) -> VendorObject:
        books = self.books
        date = date or books.wall_clock()
        order = books.add(
            "documents.saleOrder",
            date=date,
            firm=books.of("catalogs.firms")[0].id,
            storage=random.choice(books.of("catalogs.storages")).id,
            person=random.choice([person for person in books.of("catalogs.persons") if not person.marked]).id,
            state=books.of("catalogs.states")[0].id,
            currency=books.of("catalogs.currency")[0].id,
            rate="1.0000",
            posted="1",
        )
        order.header["number"] = f"НР{order.id[-8:]}"
        order.header["presentation"] = _multilang(
            f"{date[8:10]}.{date[5:7]}.{date[:4]} Замовлення {order.header['number']}"
        )
        for _ in range(random.randrange(1, 4)):
            self._order_row(order, random)
        return order

    def _order_row(self, order: VendorObject, random: Random) -> None:
        price, qty = Decimal(random.randrange(100, 90_000)) / 100, Decimal(random.randrange(1, 20))
        amount = f"{price * qty:.2f}"
        good = random.choice(self._goods())
        amounts = {"qty": f"{qty:.3f}", "baseQty": f"{qty:.3f}", "priceAmount": amount, "amountCur": amount}
        unit = good.header["mainUnit"]
        self.books.add_row(order, "tpGoods", good=good.id, price=f"{price:.5f}", unit=unit, **amounts)
        self._total(order)

    def _total(self, order: VendorObject) -> None:
        total = sum((Decimal(row["amountCur"]) for row in order.parts["tpGoods"]), Decimal())
        order.header["amountCur"] = f"{total:.2f}"

    def _stock(self, good: VendorObject, storage: VendorObject, qty: Decimal, amount: Decimal) -> None:
        place = (self.books.of("catalogs.firms")[0].id, storage.id, good.id)
        self.books.move(place, qty, amount)

    def _price(self, good: VendorObject, price: Decimal) -> None:
        books = self.books
        kind, currency = books.of("catalogs.priceTypes")[0].id, books.of("catalogs.currency")[0].id
        books.prices.append(sandbox_data.Price(books.wall_clock(), good.id, kind, price, currency))

    def _orders(self, *, marked: bool = False) -> list[VendorObject]:
        return [order for order in self.books.of("documents.saleOrder") if order.marked == marked]

    def _some_order(self, random: Random) -> VendorObject:
        return random.choice(self._orders() or [self._new_order(random)])

    # Everyday changes. None renames a linked object, because a mirror's `pr` is as of the last fetch.

    def _edit_good(self, random: Random) -> str:
        good = random.choice(self._goods())
        self.notify(
            self.books.touch(good, productNum=f"{random.randrange(10**4):05d}", description=_multilang("Оновлено"))
        )
        return f"a user gave the good {good.id} another article number"

    def _edit_person(self, random: Random) -> str:
        person = random.choice(self.books.of("catalogs.persons"))
        self.notify(self.books.touch(person, phone=f"+38050{random.randrange(10**7):07d}"))
        return f"a user changed the phone of {person.id}"

    def _edit_order(self, random: Random) -> str:
        order = self._some_order(random)
        self._order_row(order, random)
        self.notify(self.books.touch(order, remark=f"телефонував {random.randrange(100)} раз"))
        return f"a user added a row to the order {order.id}"

    def _order(self, random: Random) -> str:
        order = self._new_order(random)
        self.notify(order)
        return f"a user entered the order {order.id}"

    def _edit_by_api(self, random: Random) -> str:
        order = self._some_order(random)
        self.books.touch(order, details=f"з сайту {random.randrange(1000)}")
        return f"another program changed the order {order.id} through the API: no webhook"

    def _mark_order(self, random: Random) -> str:
        order = self._some_order(random)
        self.books.mark(order)
        self.notify(order)
        return f"a user marked the order {order.id} as deleted"

    def _unmark_order(self, random: Random) -> str:
        marked = self._orders(marked=True)
        if not marked:
            return self._order(random)
        order = random.choice(marked)
        self.books.mark(order, "0")
        self.notify(order)
        return f"a user took the mark from the order {order.id}"

    def _remove_order(self, random: Random) -> str:
        order = self._some_order(random)
        self.books.remove(order)
        return f"the order {order.id} was removed for good: no webhook"

    def _move_stock(self, random: Random) -> str:
        place = random.choice(list(self.books.stock))
        qty = Decimal(random.randrange(1, 50))
        if qty % 2 and qty < self.books.stock[place][0]:
            self.books.move(place, -qty, Decimal("-0.50"))
            return f"goods {place[2]} left the storage: a register, no webhook"
        self.books.move(place, qty, Decimal("12.50"))
        return f"goods {place[2]} arrived in storage: a register, no webhook"

    def _reprice(self, random: Random) -> str:
        good = random.choice(self._goods())
        self._price(good, Decimal(random.randrange(1000, 90_000)) / 100)
        return f"the price of {good.id} changed: a register, no webhook"

    # Changes that mirrors most often miss.

    def _edit_without_webhook(self, random: Random) -> str:
        good = random.choice(self._goods())
        self.books.touch(good, printName="Назва для друку")
        return f"a user edited the good {good.id}, and the webhook was lost"

    def _edit_with_two_webhooks(self, random: Random) -> str:
        order = self._some_order(random)
        self.books.touch(order, remark="двічі")
        self.notify(order)
        self.notify(order)
        return f"a user edited the order {order.id}, and the webhook came twice"

    def _mark_by_api(self, random: Random) -> str:
        order = self._some_order(random)
        self.books.mark(order)
        return f"another program marked the order {order.id} as deleted: no webhook"

    def _delete_and_create_again(self, random: Random) -> str:
        order = self._some_order(random)
        self.notify(order)
        self.books.remove(order)
        again = self.books.add("documents.saleOrder", id_=order.id, **order.header)
        self._order_row(again, random)
        # A higher version: how Dilovod counts here is unknown, and a full sync has no other sign of a change.
        self.notify(self.books.touch(again))
        return f"the order {order.id} was deleted and created again under its id"

    def _empty_order(self, random: Random) -> str:
        order = self._some_order(random)
        order.parts["tpGoods"].clear()
        self._total(order)
        self.notify(self.books.touch(order))
        return f"a user took all rows from the order {order.id}"

    def _date_back(self, random: Random) -> str:
        order = self._some_order(random)
        self.books.touch(order, date=self.books.wall_clock(days=-_LONG_AGO))
        return f"another program dated the order {order.id} back by {_LONG_AGO} days: no webhook"

    def _date_forward(self, random: Random) -> str:
        order = min(self._orders() or [self._new_order(random)], key=lambda order: str(order.header["date"]))
        self.books.touch(order, date=self.books.wall_clock(days=1))
        return f"another program dated the order {order.id} for tomorrow: no webhook"

    def _new_field(self, random: Random) -> str:
        self.books.kinds["documents.saleOrder"].fields["loyaltyPoints"] = {"type": "decimal", "length": "11:2"}
        order = self._some_order(random)
        self.notify(self.books.touch(order, loyaltyPoints="17.50"))
        return f"orders got a field loyaltyPoints, and {order.id} has 17.50"

    def _changed_type(self, random: Random) -> str:
        self.books.kinds["catalogs.goods"].fields["weight"] = "varchar (30)"
        good = random.choice(self._goods())
        self.notify(self.books.touch(good, weight="близько 2 кг"))
        return f"the weight of goods became text, and {good.id} weighs близько 2 кг"

    def _sell_out(self, random: Random) -> str:
        place = random.choice(list(self.books.stock))
        qty, amount = self.books.stock[place]
        self.books.move(place, -qty, -amount)
        return f"goods {place[2]} were sold out: the register has no row of them any more"

    # Answering.

    def arrive(self, packet: JsonObject) -> Arrival | None:
        """Log the packet as it arrives, if it is a write."""
        if packet.get("action") not in sandbox_writes.ACTIONS:
            return None
        with self.lock:
            return self.writing.arrive(packet)

    def answer(self, packet: JsonObject, arrival: Arrival | None = None) -> Any:
        """The answer to a packet; errors too are sent as HTTP 200. `arrival`: that of a write, if it is logged."""
        arrival = arrival or self.arrive(packet)
        if packet.get("key") != self.key:
            return {"error": "bad key"}
        action, params = str(packet.get("action")), packet.get("params")
        params = params if isinstance(params, dict) else {}
        with self.lock:
            self.requests.append(action)
            call = self._call(packet, action, params)
            answer = self._answer(action, params, arrival)
            self.calls[call] += 1
            self.failed[call] += isinstance(answer, dict) and bool({"error", "errorMessage"} & set(answer))
            return answer

    def _answer(self, action: str, params: JsonObject, arrival: Arrival | None) -> Any:
        try:
            return self._perform(action, params) if arrival is None else self.writing.perform(action, params, arrival)
        except RefusedError as refused:
            return sandbox_writes.answer_of(refused, action)
        except (AttributeError, KeyError, TypeError, ValueError):  # any other mistake in the params
            return {"error": "applicationLayerError <html><body><b>bad params</b></body></html>"}

    def _call(self, packet: JsonObject, action: str, params: JsonObject) -> _Call:
        thing = self.books.things.get(str(params.get("id")))
        from_ = params.get("from")
        source = from_.get("register") if isinstance(from_, dict) else from_
        about = thing.kind if thing else source or params.get("objectName") or ""
        day = self.books.wall_clock()[:10]
        return _Call(day, action, str(packet.get("clientID", "")), str(packet.get("version", "")), str(about))

    def _statistic(self, params: JsonObject) -> list[JsonObject]:
        """The requests before this one, by day and kind. That a wrong partner key is refused is not documented."""
        if params.get("partnerAPIkey", self.partner_key) != self.partner_key:
            raise RefusedError(f"bad partnerAPIkey {params['partnerAPIkey']}")
        start, end = params.get("dateFrom") or "", params.get("dateTo") or "9999"
        return [
            {
                "date": call.day,
                "method": call.method,
                "clientID": call.client_id,
                "partnerIntegrationCode": "sandbox",
                "counter": str(count),
                "errorCounter": str(self.failed[call]),
                "apiVersion": call.version,
                "dbObject": call.about,
            }
            for call, count in self.calls.items()
            if start[:10] <= call.day <= end[:10]
        ]

    def _perform(self, action: str, params: JsonObject) -> Any:
        actions: dict[str, Callable[[], Any]] = {
            "getObject": lambda: self.books.get_object(str(params.get("id"))),
            "request": lambda: self.books.request(params),
            "listMetadata": self.books.list_metadata,
            "getMetadata": lambda: self.books.get_metadata(str(params.get("objectName") or params.get("objectId"))),
            "getStatistic": lambda: self._statistic(params),
        }
        if action not in actions:
            raise RefusedError(f"unknown action {action}")
        return actions[action]()


class _Endpoint:
    """The API's address. A key is busy until its reply is sent, and a second request meanwhile is refused."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        packet = await _packet(Request(scope, receive))
        arrival = self._sandbox.arrive(packet) if packet else None
        if not self._sandbox.busy.acquire(blocking=False):
            self._sandbox.overlaps += 1
            await _json({"error": sandbox_writes.BUSY})(scope, receive, send)
            return
        try:
            response = await self._response(packet, arrival)
            if self._sandbox.shows_clock:
                now = self._sandbox.books.clock().astimezone(UTC)
                response.headers["Date"] = format_datetime(now, usegmt=True)
            await response(scope, receive, send)
        finally:
            self._sandbox.busy.release()

    async def _response(self, packet: JsonObject | None, arrival: Arrival | None) -> Response:
        sandbox = self._sandbox
        if sandbox.latency:
            await asyncio.sleep(sandbox.latency)
        if packet is None:
            return _json({"error": "bad packet"})
        if arrival is not None and sandbox.write_faults:
            return await self._faulty_write(packet, arrival, sandbox.write_faults.popleft())
        fault = sandbox.faults.popleft() if sandbox.faults else None
        response = _json(sandbox.answer(packet, arrival))
        return await self._with_fault(response, fault) if fault else response

    async def _faulty_write(self, packet: JsonObject, arrival: Arrival, fault: WriteFault) -> Response:
        if fault is WriteFault.LOST_BEFORE:
            return _Broken()
        if fault.error is not None:
            return _json({"error": fault.error, "clientMessages": []})
        if fault is WriteFault.SLOW:
            await asyncio.sleep(self._sandbox.write_seconds)
        response = _json(self._sandbox.answer(packet, arrival))
        body = bytes(response.body)
        damaged: dict[WriteFault, Response] = {
            WriteFault.LOST_AFTER: _Broken(),
            WriteFault.HALF: Response(body[: len(body) // 2], media_type="application/json"),
            WriteFault.DOUBLED: Response(body + body, media_type="application/json"),
        }
        return damaged.get(fault, response)

    async def _with_fault(self, response: Response, fault: Fault) -> Response:
        body = bytes(response.body)
        if fault is Fault.DRIP:
            return StreamingResponse(_drip(body, self._sandbox.drip), media_type="application/json")
        if fault is Fault.SLOW:
            await asyncio.sleep(self._sandbox.slow)
            return response
        return {
            Fault.HTML: Response("<html><body><h1>Обслуговування</h1></body></html>", media_type="text/html"),
            Fault.HALF: Response(body[: len(body) // 2], media_type="application/json"),
            Fault.EMPTY: Response(b""),
            Fault.SCALAR: _json("ok"),
            Fault.LIST: _json(["ok"]),
            Fault.OBJECT: _json({}),
            Fault.BROKEN: Response("Internal Server Error", 500),
        }[fault]


class _Broken(Response):
    """An answer whose connection breaks before its body: the server closes one that lacks bytes of its length."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - Starlette's signature
        headers = [(b"content-type", b"application/json"), (b"content-length", b"64")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _packet(request: Request) -> JsonObject | None:
    """The packet, from the form field `packet` or a JSON body (Dilovod's samples show both); None if malformed."""
    body = await request.body()
    if request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        body = parse_qs(body.decode(), keep_blank_values=True).get("packet", [""])[0].encode()
    try:
        packet = exact.loads(body)
    except ValueError:
        return None
    return packet if isinstance(packet, dict) else None


def _json(answer: Any) -> Response:
    return Response(exact.dumps(answer), media_type="application/json")


async def _drip(body: bytes, pause: float) -> AsyncIterator[bytes]:
    for byte in body:
        yield bytes([byte])
        await asyncio.sleep(pause)


def _webhook_packet(thing: VendorObject) -> JsonObject:
    return {"action": "objectChanged", "params": {"objectName": thing.kind, "id": thing.id}}


def _multilang(name: str) -> dict[str, str]:
    return {"ru": name, "uk": name}


_CATALOGUES = {
    "catalogs.units": [("шт", "шт"), ("кг", "кг"), ("уп", "упаковка")],
    "catalogs.firms": [("1", "ФОП Тест")],
    "catalogs.storages": [("1", "Основний склад"), ("2", "Теплиця")],
    "catalogs.currency": [("UAH", "грн.")],
    "catalogs.priceTypes": [("1", "Роздрібна")],
    "catalogs.states": [("1", "Новий")],
}
_LONG_AGO = 400
"""Days."""

_SURNAMES = ("Карпенко", "Шевчук", "Бондар", "Коваль", "Мороз", "Лисенко")
_PLANTS = ("Троянда", "Туя", "Гортензія", "Лаванда", "Калина", "Барвінок")
