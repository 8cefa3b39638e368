"""The client against the sandbox, and against malformed answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from models import exact
from models.values import Kind, Snapshot, Tombstone
from tests.serving import served
from tests.workers.connectors.dilovod.conftest import answering, made_options, opened
from workers.connectors.contract import standalone
from workers.connectors.dilovod import cursors
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.client import Client
from workers.connectors.dilovod.resources import resources
from workers.errors import BusyError, SetAside, TimedOutError, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.connectors.contract import Resource

RESOURCES = {resource.name: resource for resource in resources(made_options())}
ORDERS, GOODS, UNITS = (RESOURCES[name] for name in ("documents.saleOrder", "catalogs.goods", "catalogs.units"))
STOCK, PRICES = RESOURCES["balanceRegisters.goods"], RESOURCES["informationRegisters.goodsPrices"]
MISSING = "1109100000099999"


# Point reads


def test_an_object_is_fetched_as_sent(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    key, raw = next(iter(sandbox.truth(ORDERS.name).items()))

    assert Snapshot(key, raw, listed="1:0") == client.fetch(ORDERS, key)


def test_an_object_that_is_marked_or_unknown_is_gone(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    order = sandbox.books.of(ORDERS.name)[0]
    sandbox.books.mark(order)

    assert Tombstone(order.id) == client.fetch(ORDERS, order.id)
    assert Tombstone(MISSING) == client.fetch(ORDERS, MISSING)


def test_an_id_of_another_kind_is_not_fetched(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    good = min(sandbox.truth(GOODS.name))
    with pytest.raises(SetAside, match=r"is of catalogs\.goods, not of documents\.saleOrder"):
        client.fetch(ORDERS, good)


def test_the_absence_of_another_object_proves_nothing() -> None:
    with (
        opened(answering('{"error":"object with id 1100300000000001 not found"}')) as client,
        pytest.raises(SetAside, match="1100300000000001"),
    ):
        client.fetch(ORDERS, MISSING)


def test_an_object_without_a_version_has_no_token() -> None:
    answer = {"header": {"id": {"id": MISSING, "pr": None}, "delMark": "0"}, "misc": False}
    with opened(answering(exact.dumps(answer))) as client:
        assert Snapshot(MISSING, answer, listed=None) == client.fetch(ORDERS, MISSING)


# Errors, in pages of ids and in registers


class Vendor:
    """An app that answers every request with `body` and `status`."""

    def __init__(self) -> None:
        self.body, self.status = "", 200

    def app(self) -> Starlette:
        async def answer(_: Any) -> Response:
            return Response(self.body, self.status, media_type="application/json")

        return Starlette(routes=[Route("/", answer, methods=["POST"])])


@pytest.fixture(scope="module")
def vendor() -> Iterator[tuple[Vendor, Client]]:
    made = Vendor()
    with opened(made.app()) as client:
        yield made, client


_REGISTER = cursors.Position(("good",), dimensions=("good",)).encode()
_OBJECTS = cursors.Position(("id", "version", "delMark"), versioned=True).encode()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"error":"bad key"}', SetAside),
        ('{"error":"Access to catalogs.goods denied, check role settings","clientMessages":[]}', SetAside),
        ('{"error":"multithreadApiSession multithread api request blocked"}', BusyError),
        ('\ufeff {"error":"object locked"}', TryLater),
        ("{}", TryLater),
        ('"ok"', TryLater),
        ("5", TryLater),
        ("null", TryLater),
        ("", TryLater),
        ("<html>down</html>", TryLater),
        ('[{"id":"1109100000000001","ver', TryLater),
        ('{"columns":["id"', TryLater),
        ("[nan]", TryLater),
        ('[{"id":"1"}] and more', TryLater),
    ],
)
@pytest.mark.parametrize(("resource", "cursor"), [(ORDERS, _OBJECTS), (STOCK, _REGISTER)], ids=["page", "register"])
def test_a_failed_listing_raises_the_right_error(
    vendor: tuple[Vendor, Client], resource: Resource, cursor: str, body: str, error: type[VendorError]
) -> None:
    vendor[0].body, vendor[0].status = body, 200

    with pytest.raises(VendorError) as raised:
        list(vendor[1].list(resource, cursor))

    assert error is type(raised.value)


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503, 429])
@pytest.mark.parametrize(("resource", "cursor"), [(ORDERS, _OBJECTS), (STOCK, _REGISTER)], ids=["page", "register"])
def test_an_unexpected_status_raises_try_later(
    vendor: tuple[Vendor, Client], resource: Resource, cursor: str, status: int
) -> None:
    vendor[0].body, vendor[0].status = "[]", status

    with pytest.raises(TryLater):
        list(vendor[1].list(resource, cursor))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (dilovod_sandbox.Fault.HTML, TryLater),
        (dilovod_sandbox.Fault.HALF, TryLater),
        (dilovod_sandbox.Fault.EMPTY, TryLater),
        (dilovod_sandbox.Fault.BROKEN, TryLater),
        (dilovod_sandbox.Fault.SCALAR, TryLater),
        (dilovod_sandbox.Fault.LIST, TryLater),
        (dilovod_sandbox.Fault.OBJECT, TryLater),
        (dilovod_sandbox.Fault.DRIP, TimedOutError),
        (dilovod_sandbox.Fault.SLOW, TimedOutError),
    ],
)
def test_each_fault_raises_the_right_error_and_the_next_request_works(
    fault: dilovod_sandbox.Fault, error: type[VendorError]
) -> None:
    app = dilovod_sandbox.create()
    key = app.state.sandbox.books.of(ORDERS.name)[0].id
    app.state.sandbox.slow = 1.2
    with opened(app, timeout="1s") as client:
        app.state.sandbox.faults.append(fault)
        with pytest.raises(VendorError) as raised:
            client.fetch(ORDERS, key)
        assert error is type(raised.value)
    with opened(app) as client:
        while True:
            try:
                assert isinstance(client.fetch(ORDERS, key), Snapshot)
                break
            except BusyError:
                continue  # the sandbox is still busy with the abandoned request


def test_a_second_request_at_the_same_time_is_refused_as_busy(app: Starlette) -> None:
    app.state.sandbox.latency = 1.0

    def check(client: Client) -> str:
        try:
            return client.check().summary
        except BusyError as busy:
            return str(busy)

    with opened(app) as one, opened(app) as two, ThreadPoolExecutor(2) as pool:
        results = sorted(pool.map(check, [one, two]))

    assert results[0] == "multithreadApiSession multithread api request blocked"
    assert results[1].startswith("the role sees")


def test_a_wrong_key_raises_set_aside_without_the_key(app: Starlette) -> None:
    with opened(app, api_key="wr0ng") as client, pytest.raises(SetAside, match="bad key") as raised:
        client.check()

    assert "wr0ng" not in str(raised.value)


def test_a_resource_that_the_role_may_not_read_is_parked_whole(
    client: Client, sandbox: dilovod_sandbox.Sandbox
) -> None:
    sandbox.books.denied = {"catalogs.goods"}
    key = sandbox.books.of("catalogs.goods")[0].id

    with pytest.raises(SetAside, match=r"Access to catalogs\.goods denied") as raised:
        client.fetch(GOODS, key)

    assert raised.value.whole_resource


@pytest.mark.parametrize(("resource", "cursor"), [(ORDERS, _OBJECTS), (STOCK, _REGISTER)], ids=["page", "register"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"header":{"password":"cl3artext"}}', 200),
        ('{"header":{"password":"cl3artext"}}', 418),
        ('{"header":{"password":"cl3artext"', 200),
        ('[{"password":"cl3artext" oops', 200),
        ('[{"id":1,"password":"cl3artext"', 200),
    ],
)
def test_an_error_never_contains_values_of_an_object(
    vendor: tuple[Vendor, Client], resource: Resource, cursor: str, body: str, status: int
) -> None:
    vendor[0].body, vendor[0].status = body, status
    with pytest.raises(VendorError) as raised:
        list(vendor[1].list(resource, cursor))

    assert "cl3artext" not in str(raised.value)


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
def test_an_error_never_contains_a_key(status: int) -> None:
    with opened(answering("<html><title>sandbox-key s3cret-of-a-partner</title></html>", status)) as client:
        for ask in (
            lambda: client.get_statistic(partner_key="s3cret-of-a-partner"),
            lambda: list(client.turnover("goods", "2026-01-01", "2026-01-01", {"good": "good"})),
        ):
            with pytest.raises(TryLater, match=r"\*\*\*") as raised:
                ask()
            assert "sandbox-key" not in str(raised.value)
    with (
        opened(answering("<html><title>s3cret-of-a-partner</title></html>", status)) as client,
        pytest.raises(TryLater) as raised,
    ):
        client.get_statistic(partner_key="s3cret-of-a-partner")
    assert "s3cret-of-a-partner" not in str(raised.value)


# Metadata and check


def test_the_shape_follows_from_the_metadata(client: Client) -> None:
    shape = client.shape(ORDERS)

    assert Kind.NUMBER == shape[""]["amountCur"]
    assert Kind.TIMESTAMP == shape[""]["supplyDate"]
    assert Kind.TEXT == shape[""]["person.pr"]
    assert Kind.TEXT == shape["tpGoods"]["good__pr"]
    assert {"firm", "firm__pr", "storage", "storage__pr", "good", "good__pr", "qty", "amount"} == set(
        client.shape(STOCK)[""]
    )


def test_check_counts_the_kinds_and_names_unknown_resources(app: Starlette, client: Client) -> None:
    assert client.check().summary == "the role sees 12 kinds of objects, the configured ones among them"
    with opened(app, resources=["catalogs.goods", "documents.nothing"]) as other:
        assert other.check().summary == "the role sees 12 kinds of objects; not among them: documents.nothing"
    with opened(app, resources=["catalogs.godos", "balanceRegisters.good"]) as other:
        names = 'catalogs.godos (did you mean "catalogs.goods"?), balanceRegisters.good (did you mean "balance'
        assert names in other.check().summary


def test_check_returns_dilovods_clock() -> None:
    moment = datetime(2026, 2, 1, 23, 30, 5, tzinfo=UTC)
    with served(dilovod_sandbox.create(now=lambda: moment), date_header=False) as url:
        client = Client(made_options(url=url), standalone())
        assert moment == client.check().clock
        client.close()
    with served(dilovod_sandbox.create(), date_header=False) as url:
        client = Client(made_options(url=url), standalone())
        assert client.check().clock is None
        client.close()


def test_a_client_id_is_sent_in_the_packet() -> None:
    seen: list[Any] = []

    async def answer(request: Any) -> Response:
        seen.append(exact.loads(await request.body()))
        return Response("{}", media_type="application/json")

    with opened(Starlette(routes=[Route("/", answer, methods=["POST"])]), client_id="mirror", version="0.26") as client:
        client.list_metadata()

    expected = {"version": "0.26", "key": "sandbox-key", "clientID": "mirror", "action": "listMetadata"}
    assert [expected | {"params": {"lang": "uk"}}] == seen
