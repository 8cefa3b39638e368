"""The sandbox follows Dilovod's documented rules and shapes."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from models import exact
from tests.serving import served
from tests.workers.connectors.dilovod.conftest import made_options
from workers.connectors.contract import ObjectRef
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod import webhooks
from workers.connectors.dilovod.options import Options

if TYPE_CHECKING:
    from workers.connectors.dilovod.sandbox_data import VendorObject


def post(app: Starlette, **request: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://vendor") as client:
            return await client.post("/", **request)

    return asyncio.run(send())


def ask(app: Starlette, action: str, params: Any, key: str = "sandbox-key") -> Any:
    answer = post(app, json={"version": "0.25", "key": key, "action": action, "params": params})
    assert answer.status_code == 200
    return exact.loads(answer.content)


@pytest.fixture
def order(sandbox: dilovod_sandbox.Sandbox) -> VendorObject:
    return sandbox.books.of("documents.saleOrder")[0]


def test_the_packet_is_accepted_as_json_or_as_a_form(app: Starlette, order: VendorObject) -> None:
    packet = {"key": "sandbox-key", "action": "getObject", "params": {"id": order.id}}

    raw = post(app, json=packet)
    form = post(app, data={"packet": exact.dumps(packet)})

    assert exact.loads(raw.content) == exact.loads(form.content)
    assert order.id == exact.loads(raw.content)["header"]["id"]["id"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_a_malformed_packet_is_an_error(app: Starlette, body: bytes) -> None:
    assert {"error": "bad packet"} == post(app, content=body).json()


def test_a_wrong_key_is_an_error_with_http_200(app: Starlette) -> None:
    assert {"error": "bad key"} == ask(app, "listMetadata", {}, key="other")


def test_an_object_has_the_recorded_shape(app: Starlette, order: VendorObject) -> None:
    result = ask(app, "getObject", {"id": order.id})

    assert result["misc"] is False
    assert {"id": "0", "pr": None} == result["header"]["baseDoc"]
    assert result["header"]["state"]["pr"] == "[access restricted]"
    assert result["header"]["supplyDate"] == "0000-00-00 00:00:00"
    assert {"ru", "uk"} == set(result["header"]["presentation"])
    for row_id, row in result["tableParts"]["tpGoods"].items():
        assert row_id == row["id"]
        assert {"good", "good__pr", "vatTax", "vatTax__pr"} <= set(row)
        assert all(isinstance(value, str | None) for value in row.values())


def test_an_empty_part_is_a_list_and_a_catalogue_without_parts_has_none(
    app: Starlette, sandbox: dilovod_sandbox.Sandbox
) -> None:
    group, person = sandbox.books.of("catalogs.goods")[0], sandbox.books.of("catalogs.persons")[0]

    assert {"tpGoods": []} == ask(app, "getObject", {"id": group.id})["tableParts"]
    assert "tableParts" not in ask(app, "getObject", {"id": person.id})


def test_an_unknown_id_is_an_error(app: Starlette) -> None:
    error = ask(app, "getObject", {"id": "0000000000000000"})["error"]

    assert error == "object with id 0000000000000000 not found"


def test_a_marked_object_stays_readable_and_is_not_in_truth(
    app: Starlette, sandbox: dilovod_sandbox.Sandbox, order: VendorObject
) -> None:
    assert ask(app, "setDelMark", {"header": {"id": order.id}}) == "ok"
    assert ask(app, "getObject", {"id": order.id})["header"]["delMark"] == "1"
    assert order.id not in sandbox.truth("documents.saleOrder")


def test_marking_a_group_marks_its_content(sandbox: dilovod_sandbox.Sandbox) -> None:
    group = sandbox.books.of("catalogs.goods")[0]
    inside = [good for good in sandbox.books.of("catalogs.goods") if good.header["parent"] == group.id]

    sandbox.books.mark(group)

    assert inside
    assert all(good.marked for good in inside)


def test_saving_creates_and_changes_objects_without_webhook_and_keeps_the_mark(
    app: Starlette, sandbox: dilovod_sandbox.Sandbox
) -> None:
    name = {"ru": "x", "uk": "х"}
    made = ask(app, "saveObject", {"header": {"id": "catalogs.units", "code": 7, "name": name}})["id"]
    ask(app, "setDelMark", {"id": made})
    assert {"result": "ok", "id": made} == ask(app, "saveObject", {"header": {"id": made, "code": "8", "delMark": 0}})

    header = ask(app, "getObject", {"id": made})["header"]

    assert {"code": "8", "name": name, "delMark": "1"} == {
        field: header[field] for field in ("code", "name", "delMark")
    }
    assert [] == sandbox.sent_webhooks


def test_saving_an_unknown_field_is_refused(app: Starlette) -> None:
    error = ask(app, "saveObject", {"header": {"id": "catalogs.units", "nothing": 1}})["error"]

    assert error.startswith("cant set value of header.nothing")


def test_a_forced_mark_removes_the_object(app: Starlette, order: VendorObject) -> None:
    assert ask(app, "setDelMark", {"header": {"id": order.id}, "forceDelete": 1}) == "ok"
    assert "error" in ask(app, "getObject", {"id": order.id})


def test_an_offset_beside_the_limit_is_ignored(app: Starlette) -> None:
    asked = {"from": "documents.saleOrder", "fields": {"id": "id"}}
    everything = ask(app, "request", asked)

    assert everything[:2] == ask(app, "request", asked | {"limit": 2, "offset": 5})
    assert everything[5:7] == ask(app, "request", asked | {"limit": {"offset": 5, "count": 2}})
    assert [] == ask(app, "request", asked | {"limit": {"offset": 5000, "count": 2}})


@pytest.mark.parametrize(
    "params",
    [
        {"from": "catalogs.nothing", "fields": {"id": "id"}},
        {"from": "catalogs.persons.tpGoods", "fields": {"id": "id"}},
        {"from": "catalogs.goods", "fields": {"nothing": "x"}},
        {"from": "catalogs.states", "fields": {"id": "id"}},
        {"from": "catalogs.goods", "fields": {"id": "id"}, "filters": [{"alias": "x", "operator": "=", "value": 1}]},
        {"from": "catalogs.goods", "fields": {"id": "id"}, "filters": [{"alias": "id", "operator": "~", "value": 1}]},
        {"from": {"type": "turnover", "register": "goods"}, "fields": {"good": "good"}},
        {"from": {"type": "balance", "register": "nothing"}, "fields": {"good": "good"}},
        {"from": {"type": "balance", "register": "goodsPrices"}, "fields": {"good": "good"}},
        {"from": {"type": "sliceLast", "register": "goods"}, "fields": {"good": "good"}},
        {"from": {"type": "balance", "register": "goods"}, "fields": {"date": "date"}},
        {"from": {"type": "balance", "register": "goods", "dimensions": ["shelf"]}, "fields": {"qty": "qty"}},
        {"from": {"type": "balance", "register": "goods", "dimensions": ["good"]}, "fields": {"storage": "storage"}},
        {"from": {"type": "balance", "register": "goods"}, "fields": {"qtyReceipt": "qtyReceipt"}},
    ],
)
def test_an_invalid_request_is_an_error(app: Starlette, params: Any) -> None:
    assert ["error", "clientMessages"] == list(ask(app, "request", params))


def test_dimensions_beside_from_are_ignored(app: Starlette, sandbox: dilovod_sandbox.Sandbox) -> None:
    asked = {"from": {"type": "balance", "register": "goods"}, "fields": {"firm": "firm", "qty": "qty"}}

    beside = ask(app, "request", asked | {"dimensions": ["firm"]})

    assert len(sandbox.truth("balanceRegisters.goods")) == len(beside)


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("request", {"from": ["catalogs.goods"], "fields": {"id": "id"}}),
        ("request", {"from": "catalogs.goods", "fields": 7}),
        ("request", {"from": "catalogs.goods", "fields": {"id": "id"}, "limit": {"offset": 1}}),
        ("request", {"from": "catalogs.goods", "fields": {"id": "id"}, "filters": [{"alias": "id"}]}),
        ("saveObject", {"header": {"id": "catalogs.units"}, "tableParts": {"tpNothing": []}}),
    ],
)
def test_invalid_params_are_an_html_error(app: Starlette, action: str, params: Any) -> None:
    assert "<html>" in ask(app, action, params)["error"]


def test_an_unknown_action_is_an_error(app: Starlette) -> None:
    assert ask(app, "explode", {})["error"] == "unknown action explode"


def test_presentations_cannot_be_renamed(app: Starlette, order: VendorObject) -> None:
    row = ask(app, "request", {"from": order.kind, "fields": {"id__pr": "name"}, "limit": 1})[0]

    assert ["id__pr"] == list(row)


def test_an_empty_balance_has_no_row(sandbox: dilovod_sandbox.Sandbox) -> None:
    place = next(iter(sandbox.books.stock))
    before = len(sandbox.truth("balanceRegisters.goods"))
    qty, amount = sandbox.books.stock[place]
    sandbox.books.move(place, -qty, -amount)

    assert before - 1 == len(sandbox.truth("balanceRegisters.goods"))


def test_the_same_seed_and_clock_make_the_same_data() -> None:
    moment = datetime(2026, 2, 1, 23, 30, tzinfo=UTC)
    one, two = (dilovod_sandbox.create(seed=3, now=lambda: moment).state.sandbox for _ in range(2))

    assert one.truth("documents.saleOrder") == two.truth("documents.saleOrder")
    assert {"2026-02-02 01:30:00"} == {raw["header"]["date"] for raw in one.truth("documents.saleOrder").values()}


def test_the_settings_are_those_of_a_connection(sandbox: dilovod_sandbox.Sandbox) -> None:
    options = Options.model_validate({"name": "shop", "url": "http://127.0.0.1:1", **sandbox.settings()})

    assert options.login() == ("sandbox-key",)
    assert all(sandbox.truth(resource) for resource in options.resources)


def test_edits_by_users_send_webhooks_that_the_connector_accepts(sandbox: dilovod_sandbox.Sandbox) -> None:
    random = Random(5)
    for _ in range(60):
        assert sandbox.edit(random)

    assert sandbox.sent_webhooks
    assert all(isinstance(webhooks.read(hook, made_options()), ObjectRef) for hook in sandbox.sent_webhooks)


def test_the_scenario_contains_every_kind_of_change(sandbox: dilovod_sandbox.Sandbox) -> None:
    before = set(sandbox.truth("documents.saleOrder"))
    sentences = list(sandbox.scenario())
    after = sandbox.truth("documents.saleOrder")

    assert len(sentences) == len(set(sentences))
    assert before - set(after)
    assert set(after) - before
    assert any("loyaltyPoints" in raw["header"] for raw in after.values())
    assert "близько 2 кг" in {raw["header"]["weight"] for raw in sandbox.truth("catalogs.goods").values()}
    assert [] in [raw["tableParts"]["tpGoods"] for raw in after.values()]


def test_no_change_of_the_scenario_renames_a_linked_object(sandbox: dilovod_sandbox.Sandbox) -> None:
    """The texts of links are as of the last fetch, so renaming a person would make all mirrored orders differ."""
    names = {thing.id: sandbox.books.presentation(thing) for thing in sandbox.books.things.values()}
    for _ in sandbox.scenario():
        pass
    random = Random(2)
    for _ in range(100):
        sandbox.edit(random)

    kept = [thing for thing in sandbox.books.things.values() if thing.id in names]

    assert {thing.id: names[thing.id] for thing in kept} == {
        thing.id: sandbox.books.presentation(thing) for thing in kept
    }


@pytest.mark.parametrize(("lost", "doubled", "sent"), [(0.0, 0.0, 1), (1.0, 0.0, 0), (0.0, 1.0, 2)])
def test_webhooks_are_lost_and_doubled_as_configured(lost: float, doubled: float, sent: int) -> None:
    sandbox = dilovod_sandbox.create(lost=lost, doubled=doubled).state.sandbox

    sandbox.notify(sandbox.books.of("documents.saleOrder")[0])

    assert sent == len(sandbox.sent_webhooks)


def test_a_webhook_is_a_get_with_a_packet_and_is_not_retried() -> None:
    seen: list[str] = []

    async def receive(request: Any) -> PlainTextResponse:
        seen.append(str(request.url))
        return PlainTextResponse("ok")

    sandbox = dilovod_sandbox.create(webhook_url="http://127.0.0.1:9/hooks/shop").state.sandbox
    order = sandbox.books.of("documents.saleOrder")[0]
    sandbox.notify(order)
    sandbox.drain()
    with served(Starlette(routes=[Route("/hooks/shop", receive)])) as url:
        sandbox.webhook_url = f"{url}/hooks/shop"
        sandbox.notify(order)
        sandbox.drain()

    packet = {"action": "objectChanged", "params": {"objectName": "documents.saleOrder", "id": order.id}}
    assert [packet] == [exact.loads(parse_qs(urlsplit(address).query)["packet"][0]) for address in seen]


def test_edits_and_requests_may_come_from_many_threads(sandbox: dilovod_sandbox.Sandbox) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            random = Random(seed)
            for _ in range(30):
                sandbox.edit(random)
                sandbox.truth("documents.saleOrder")
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == failures


def test_a_slice_is_the_latest_price_until_its_date() -> None:
    clock = [datetime(2026, 3, 1, 10, tzinfo=UTC)]
    app = dilovod_sandbox.create(now=lambda: clock[0])
    sandbox = app.state.sandbox
    first = sandbox.truth("informationRegisters.goodsPrices")
    clock[0] += timedelta(days=1)
    sandbox._reprice(Random(1))
    register = {"type": "sliceLast", "register": "goodsPrices", "date": "2026-03-01 12:00:00"}
    fields = {"good": "good", "priceType": "priceType", "price": "price", "currency": "currency"}

    assert list(first.values()) == ask(app, "request", {"from": register, "fields": fields})
    assert first != sandbox.truth("informationRegisters.goodsPrices")


GOODS, LINES = "catalogs.goods", "documents.saleOrder.tpGoods"


def _ids(sandbox: dilovod_sandbox.Sandbox) -> list[str]:
    return [good.id for good in sandbox.books.of(GOODS)]


def _listed(app: Starlette, ids: list[str]) -> Any:
    filters = [{"alias": "id", "operator": "IL", "value": ids}]
    return ask(app, "request", {"from": GOODS, "fields": {"id": "id", "parent": "parent"}, "filters": filters})


def test_a_request_shows_the_lines_of_listed_owners_with_their_versions(app: Starlette, order: VendorObject) -> None:
    fields = {"id": "id", "owner": "its", "owner.version": "its_version", "good": "good"}
    filters = [{"alias": "its", "operator": "IL", "value": [order.id]}]
    found = ask(app, "request", {"from": LINES, "fields": fields, "filters": filters})
    assert [row["id"] for row in order.parts["tpGoods"]] == [row["id"] for row in found]
    assert {(order.id, order.header["version"])} == {(row["its"], row["its_version"]) for row in found}
    assert all("good__pr" in row for row in found)


def test_a_field_that_an_object_has_no_value_of_is_empty_in_a_request(
    app: Starlette, sandbox: dilovod_sandbox.Sandbox
) -> None:
    sandbox.books.kinds[GOODS].fields["shelf"] = "varchar (9)"
    found = ask(app, "request", {"from": GOODS, "fields": {"id": "id", "shelf": "shelf"}})
    assert {""} == {row["shelf"] for row in found}


def test_a_list_of_too_many_values_is_refused_or_cut(app: Starlette, sandbox: dilovod_sandbox.Sandbox) -> None:
    ids, knobs = _ids(sandbox), sandbox.books.requests
    knobs.longest_list = 5
    assert "error" in _listed(app, ids)
    knobs.cuts_lists = True
    assert ids[:5] == [row["id"] for row in _listed(app, ids)]


def test_a_request_may_differ_from_get_object(app: Starlette, sandbox: dilovod_sandbox.Sandbox) -> None:
    ids, knobs = _ids(sandbox), sandbox.books.requests
    knobs.hidden, knobs.repeats = {"parent"}, True
    assert [{"id", "id__pr", "parent__pr"}] * (len(ids) + 1) == [set(row) for row in _listed(app, ids)]
    knobs.hidden, knobs.restricted, knobs.repeats = set(), {"parent"}, False
    knobs.meanwhile[GOODS] = lambda: sandbox.books.remove(sandbox.books.things[ids[0]])
    assert [ids, ids[1:]] == [[row["id"] for row in _listed(app, ids)] for _ in range(2)]
    assert {"[access restricted]"} == {row["parent__pr"] for row in _listed(app, ids)}
    knobs.rounded, weights = {"weight": 1}, {"id": "id", "weight": "weight"}
    assert {1} == {
        len(row["weight"].partition(".")[2]) for row in ask(app, "request", {"from": GOODS, "fields": weights})
    }


def test_the_order_of_rows_may_differ_from_one_answer_to_the_next(
    app: Starlette, sandbox: dilovod_sandbox.Sandbox
) -> None:
    ids = _ids(sandbox)
    sandbox.books.requests.shuffles = True
    orders = [[row["id"] for row in _listed(app, ids)] for _ in range(3)]
    assert [sorted(ids)] * 3 == [sorted(order) for order in orders]
    assert len({*map(tuple, orders)}) > 1
