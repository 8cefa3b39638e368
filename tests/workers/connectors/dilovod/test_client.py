"""The client against the sandbox, and against malformed answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from models import exact
from models.values import Kind, Line, Snapshot, Tombstone
from tests.serving import served
from tests.workers.connectors.dilovod.conftest import answering, made_options, opened
from workers.connectors.contract import alone
from workers.connectors.dilovod import cursors, metadata
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.client import Client
from workers.connectors.dilovod.resources import resources
from workers.errors import Busy, Fate, SetAside, TimedOut, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.values import Chunk, End, JsonObject
    from workers.connectors.contract import Resource

RESOURCES = {resource.name: resource for resource in resources(made_options())}
ORDERS, GOODS, UNITS = (RESOURCES[name] for name in ("documents.saleOrder", "catalogs.goods", "catalogs.units"))
STOCK, PRICES = RESOURCES["balanceRegisters.goods"], RESOURCES["informationRegisters.goodsPrices"]
MISSING = "1109100000099999"


def read_all(client: Client, resource: Resource, cursor: str | None = None) -> tuple[list[Chunk], End]:
    """Every chunk of a full sync, each step continued from the cursor before."""
    chunks: list[Chunk] = []
    while True:
        page = list(client.list(resource, cursor))
        chunks += page
        end = page[-1].end
        assert end is not None
        assert [None] * (len(page) - 1) == [chunk.end for chunk in page[:-1]]
        if not end.more:
            return chunks, end
        cursor = end.cursor


def lines(chunks: Sequence[Chunk]) -> list[Line]:
    return [line for chunk in chunks for line in chunk.lines]


def snapshots(chunks: Sequence[Chunk]) -> dict[str, JsonObject]:
    return {snapshot.key: snapshot.raw for chunk in chunks for snapshot in chunk.snapshots}


# Point reads


def test_an_object_is_fetched_as_sent(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    key, raw = next(iter(sandbox.truth(ORDERS.name).items()))

    assert Snapshot(key, raw, listed="1:0") == client.fetch(ORDERS, key)


def test_an_object_that_is_marked_or_unknown_is_gone(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    order = sandbox.books.of(ORDERS.name)[0]
    sandbox.books.mark(order)

    assert Tombstone(order.id) == client.fetch(ORDERS, order.id)
    assert Tombstone(MISSING) == client.fetch(ORDERS, MISSING)


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


# Full syncs


@pytest.mark.parametrize("resource", [ORDERS, GOODS, UNITS, RESOURCES["catalogs.persons"]], ids=lambda each: each.name)
def test_a_full_sync_lists_every_object(client: Client, sandbox: dilovod_sandbox.Sandbox, resource: Resource) -> None:
    chunks, end = read_all(client, resource)

    assert set(sandbox.truth(resource.name)) == {line.key for line in lines(chunks)}
    assert (end.complete, end.warning) == (True, None)


def test_a_listed_line_has_the_same_token_as_the_fetched_object(client: Client) -> None:
    chunks, _ = read_all(client, ORDERS)

    for line in lines(chunks):
        found = client.fetch(ORDERS, line.key)
        assert isinstance(found, Snapshot)
        assert found.listed == line.token


def test_any_change_changes_the_token(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    before, _ = read_all(client, ORDERS)
    changed, marked = sandbox.books.of(ORDERS.name)[:2]
    sandbox.books.touch(changed)
    sandbox.books.mark(marked)

    after, _ = read_all(client, ORDERS)

    assert {changed.id, marked.id} == {line.key for line in set(lines(after)) - set(lines(before))}
    assert [marked.id] == [line.key for line in lines(after) if line.marked]


def test_each_step_of_a_full_sync_is_one_request_and_needs_only_its_cursor() -> None:
    app = dilovod_sandbox.create(objects=0)
    books = app.state.sandbox.books
    added = {books.add("catalogs.persons", name={"ru": "", "uk": str(number)}).id for number in range(1001)}
    persons = RESOURCES["catalogs.persons"]
    cursor, named, sizes = None, set(), []
    while cursor != cursors.DONE:
        with opened(app) as client:
            (chunk,) = client.list(persons, cursor)
        assert chunk.end is not None
        sizes.append(len(chunk.lines))
        named |= {line.key for line in chunk.lines}
        cursor = chunk.end.cursor

    assert sizes == [0, 500, 500, 1]
    assert app.state.sandbox.asked == ["getMetadata", "request", "request", "request"]
    assert added == named


@pytest.mark.parametrize("resource", [ORDERS, STOCK], ids=lambda each: each.name)
def test_the_metadata_is_requested_once_and_cached(
    client: Client, sandbox: dilovod_sandbox.Sandbox, resource: Resource
) -> None:
    client.shape(resource)
    first, _ = read_all(client, resource)
    second, _ = read_all(client, resource)
    assert ["getMetadata", "request", "request"] == sandbox.asked
    assert (lines(first), snapshots(first)) == (lines(second), snapshots(second))


def test_metadata_older_than_a_day_is_requested_again(sandbox: dilovod_sandbox.Sandbox, app: Starlette) -> None:
    now = datetime.now(UTC)
    wire = replace(alone(), now=lambda: now)
    with served(app) as url:
        client = Client(made_options(url=url), wire)
        read_all(client, UNITS)
        now += timedelta(hours=24)
        read_all(client, UNITS)
        now += timedelta(hours=2)
        read_all(client, UNITS)
        client.close()
    assert ["getMetadata", "request", "request", "getMetadata", "request"] == sandbox.asked


def test_a_refused_field_causes_a_new_request_for_the_metadata(
    sandbox: dilovod_sandbox.Sandbox, app: Starlette
) -> None:
    wire = alone()
    gone = {"dimensions": ["firm", "storage", "good", "shelf"], "resources": ["qty", "amount"]}
    metadata.MetadataCache(wire).put(STOCK.name, gone)
    with served(app) as url:
        client = Client(made_options(url=url), wire)
        chunks, end = read_all(client, STOCK)
        client.close()

    assert sandbox.truth(STOCK.name) == snapshots(chunks)
    assert end.complete
    assert ["request", "getMetadata", "request"] == sandbox.asked


def test_a_denied_resource_is_refused_after_one_metadata_request(
    client: Client, sandbox: dilovod_sandbox.Sandbox
) -> None:
    client.shape(ORDERS)
    sandbox.books.denied = {ORDERS.name}
    sandbox.asked.clear()
    with pytest.raises(SetAside, match="denied"):
        read_all(client, ORDERS)
    assert len(sandbox.asked) <= len(["request", "getMetadata", "request"])


@pytest.mark.parametrize(
    "cursor", [cursors.DONE, "{}", "not ours", '{"fields":["id"],"dimensions":[],"spare":[],"x":1}']
)
def test_a_finished_or_unknown_cursor_starts_a_new_run(
    client: Client, sandbox: dilovod_sandbox.Sandbox, cursor: str
) -> None:
    assert len(sandbox.truth(UNITS.name)) == len(lines(read_all(client, UNITS, cursor)[0]))


def test_if_the_version_is_refused_the_token_is_a_hash_of_the_row(
    client: Client, sandbox: dilovod_sandbox.Sandbox
) -> None:
    sandbox.books.unknown_fields = {"version"}
    before, end = read_all(client, ORDERS)
    changed = sandbox.books.of(ORDERS.name)[0]
    sandbox.books.touch(changed, remark="ще раз")

    after, _ = read_all(client, ORDERS)

    assert end.complete
    assert end.warning is not None
    assert [changed.id] == [line.key for line in set(lines(after)) - set(lines(before))]


def test_without_a_version_in_the_metadata_the_token_is_a_hash_of_the_row(
    client: Client, sandbox: dilovod_sandbox.Sandbox
) -> None:
    del sandbox.books.kinds[UNITS.name].fields["version"]

    chunks, end = read_all(client, UNITS)

    assert set(sandbox.books.things) >= {line.key for line in lines(chunks)}
    assert 3 == len({line.token for line in lines(chunks)})
    assert end.complete


def test_a_repeated_page_ends_the_run_as_incomplete() -> None:
    page = {"columns": ["id", "version", "delMark"], "data": [[f"11091{n:011d}", "1", "0"] for n in range(500)]}
    position = cursors.Position(("id", "version", "delMark"), versioned=True)
    with opened(answering(exact.dumps(page))) as client:
        chunks, end = read_all(client, ORDERS, position.encode())

    assert len(chunks) == 2
    assert not end.complete
    assert end.warning is not None


def test_a_listing_without_end_is_abandoned() -> None:
    rows = [{"id": f"11091{number:011d}", "version": "1"} for number in range(500)]

    end = cursors.Position(("id", "version"), versioned=True, page=19_999).chunk(rows).end

    assert end is not None
    assert (end.more, end.complete) == (False, False)
    assert end.warning == "the listing did not end after 20000 pages"


def test_a_listing_that_omits_the_version_restarts_without_it() -> None:
    first = cursors.Position(("id", "version", "delMark"), versioned=True, fallback_fields=("id", "code"), offset=500)

    end = first.chunk([{"id": "1109100000000001", "version": None, "delMark": "0"}]).end

    assert end is not None
    assert end.more
    assert cursors.Position(("id", "code")) == cursors.Position.decode(end.cursor)


def test_a_listed_row_without_an_id_is_unreadable() -> None:
    page = [{"id": "1109100000000001", "version": "4", "delMark": "0"}, {"id": None, "version": "1", "delMark": "0"}]
    position = cursors.Position(("id", "version", "delMark"), versioned=True)
    with opened(answering(exact.dumps(page))) as client:
        (chunk,) = client.list(ORDERS, position.encode())

    assert [Line("1109100000000001", "4:0")] == chunk.lines
    assert [page[1]] == [row.raw for row in chunk.unreadable]


# Registers


@pytest.mark.parametrize("resource", [STOCK, PRICES], ids=lambda each: each.name)
def test_a_register_is_read_whole_and_keyed_by_its_dimensions(
    client: Client, sandbox: dilovod_sandbox.Sandbox, resource: Resource
) -> None:
    chunks, end = read_all(client, resource)

    assert sandbox.truth(resource.name) == snapshots(chunks)
    assert end.complete
    assert sandbox.asked == ["getMetadata", "request"]


def test_a_long_register_is_read_in_bounded_chunks_with_exact_numbers() -> None:
    rows = ",".join(f'{{"good":"{n}","qty":0.10000000000000000001}}' for n in range(1201))
    position = cursors.Position(("good", "qty"), dimensions=("good",))
    with opened(answering(f" \n[{rows}] ")) as client:
        chunks, end = read_all(client, STOCK, position.encode())

    assert [500, 500, 201] == [len(chunk.snapshots) for chunk in chunks]
    assert str(snapshots(chunks)["7"]["qty"]) == "0.10000000000000000001"
    assert end.complete


def test_a_row_without_a_dimension_is_unreadable_and_an_empty_link_is_a_value() -> None:
    rows = '[{"good":"0","firm":"1"},{"good":null,"firm":"1"},{"firm":"1","qty":1},"odd"]'
    position = cursors.Position(("good", "firm"), dimensions=("good", "firm"))
    with opened(answering(rows)) as client:
        chunks, _ = read_all(client, STOCK, position.encode())

    assert ["0:1"] == list(snapshots(chunks))
    assert 3 == len({row.key for chunk in chunks for row in chunk.unreadable})


ROWS = '[{"good":"1","qty":"5"},{"good":"1","qty":"5"},{"good":"1","qty":"7"},{"good":"2","qty":"1"}]'


def test_a_balance_that_is_not_summed_by_its_dimensions_parks_the_whole_resource() -> None:
    position = cursors.Position(("good", "qty"), dimensions=("good",))
    with (
        opened(answering(ROWS)) as client,
        pytest.raises(SetAside, match="rows have the same good: Dilovod does not") as raised,
    ):
        read_all(client, STOCK, position.encode())
    assert raised.value.whole_resource


def test_the_first_of_two_newest_values_is_kept_and_the_other_unreadable() -> None:
    position = cursors.Position(("good", "qty"), dimensions=("good",))
    with opened(answering(ROWS)) as client:
        chunks, end = read_all(client, PRICES, position.encode())

    assert {"1": {"good": "1", "qty": "5"}, "2": {"good": "2", "qty": "1"}} == snapshots(chunks)
    assert [{"good": "1", "qty": "7"}] == [row.raw for chunk in chunks for row in chunk.unreadable]
    assert end.complete


def test_a_register_without_dimensions_raises_set_aside() -> None:
    with (
        opened(answering('{"name":"balanceRegisters.goods","reqs":[]}')) as client,
        pytest.raises(SetAside, match="dimensions"),
    ):
        list(client.list(STOCK, None))


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
        ('{"error":"multithreadApiSession multithread api request blocked"}', Busy),
        ('\ufeff {"error":"object locked"}', TryLater),
        ("{}", SetAside),
        ('"ok"', SetAside),
        ("5", SetAside),
        ("null", SetAside),
        ("", TryLater),
        ("<html>down</html>", TryLater),
        ('[{"id":"1109100000000001","ver', TryLater),
        ('{"columns":["id"', TryLater),
        ("[NaN]", TryLater),
        ('[{"id":"1"}] and more', TryLater),
    ],
)
@pytest.mark.parametrize(("resource", "cursor"), [(ORDERS, _OBJECTS), (STOCK, _REGISTER)], ids=["sweep", "register"])
def test_a_failed_listing_raises_the_right_error(
    vendor: tuple[Vendor, Client], resource: Resource, cursor: str, body: str, error: type[Fate]
) -> None:
    vendor[0].body, vendor[0].status = body, 200

    with pytest.raises(Fate) as raised:
        list(vendor[1].list(resource, cursor))

    assert error is type(raised.value)


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503, 429])
@pytest.mark.parametrize(("resource", "cursor"), [(ORDERS, _OBJECTS), (STOCK, _REGISTER)], ids=["sweep", "register"])
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
        (dilovod_sandbox.Fault.SCALAR, SetAside),
        (dilovod_sandbox.Fault.LIST, SetAside),
        (dilovod_sandbox.Fault.OBJECT, SetAside),
        (dilovod_sandbox.Fault.DRIP, TimedOut),
        (dilovod_sandbox.Fault.SLOW, TimedOut),
    ],
)
def test_each_fault_raises_the_right_error_and_the_next_request_works(
    fault: dilovod_sandbox.Fault, error: type[Fate]
) -> None:
    app = dilovod_sandbox.create()
    key = app.state.sandbox.books.of(ORDERS.name)[0].id
    app.state.sandbox.slow = 1.2
    with opened(app, timeout="1s") as client:
        app.state.sandbox.faults.append(fault)
        with pytest.raises(Fate) as raised:
            client.fetch(ORDERS, key)
        assert error is type(raised.value)
    with opened(app) as client:
        while True:
            try:
                assert isinstance(client.fetch(ORDERS, key), Snapshot)
                break
            except Busy:
                continue  # the sandbox is still busy with the abandoned request


def test_a_second_request_at_the_same_time_is_refused_as_busy(app: Starlette) -> None:
    app.state.sandbox.latency = 1.0

    def check(client: Client) -> str:
        try:
            return client.check().says
        except Busy as busy:
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
    with pytest.raises(Fate) as raised:
        list(vendor[1].list(resource, cursor))

    assert "cl3artext" not in str(raised.value)


@pytest.mark.parametrize("status", [200, 404, 429, 500, 503])
def test_an_error_never_contains_a_key(status: int) -> None:
    with opened(answering("<html>sandbox-key s3cret-of-a-partner</html>", status)) as client:
        for ask in (
            lambda: client.get_statistic(partner_key="s3cret-of-a-partner"),
            lambda: list(client.turnover("goods", "2026-01-01", "2026-01-01", {"good": "good"})),
        ):
            with pytest.raises(TryLater, match=r"\*\*\*") as raised:
                ask()
            assert "sandbox-key" not in str(raised.value)
    with opened(answering("<html>s3cret-of-a-partner</html>", status)) as client, pytest.raises(TryLater) as raised:
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
    assert client.check().says == "the role sees 12 kinds of objects, the configured ones among them"
    with opened(app, resources=["catalogs.goods", "documents.nothing"]) as other:
        assert other.check().says == "the role sees 12 kinds of objects; not among them: documents.nothing"


def test_check_returns_dilovods_clock() -> None:
    moment = datetime(2026, 2, 1, 23, 30, 5, tzinfo=UTC)
    with served(dilovod_sandbox.create(now=lambda: moment), date_header=False) as url:
        client = Client(made_options(url=url), alone())
        assert moment == client.check().clock
        client.close()
    with served(dilovod_sandbox.create(), date_header=False) as url:
        client = Client(made_options(url=url), alone())
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
