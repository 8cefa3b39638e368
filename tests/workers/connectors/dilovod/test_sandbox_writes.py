"""The sandbox writes by Dilovod's rules, fails as it is told to, and logs every write that arrives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from models import exact
from tests.processes import until
from tests.serving import served
from tests.workers.connectors.dilovod.test_sandbox import ask
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.sandbox_writes import WriteFault

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from models.values import JsonObject
    from workers.connectors.dilovod.sandbox_data import VendorObject

Sandbox = dilovod_sandbox.Sandbox
ORDERS, GOODS, UNITS, PERSONS = "documents.saleOrder", "catalogs.goods", "catalogs.units", "catalogs.persons"
PRICES = "informationRegisters.goodsPrices"
NAME = {"ru": "x", "uk": "х"}


def save(app: Starlette, id_: str, parts: Any = None, save_type: Any = None, **header: Any) -> Any:
    params: JsonObject = {"header": {"id": id_, **header}}
    params |= {} if parts is None else {"tableParts": parts}
    return ask(app, "saveObject", params | ({} if save_type is None else {"saveType": save_type}))


def create_order(app: Starlette, goods: Any, header: Any = None, **more: Any) -> Any:
    arguments = {"header": header or {}, "goods": goods, **more}
    return ask(app, "call", {"method": "saleOrderCreate", "arguments": arguments})


def header_of(app: Starlette, key: str) -> Any:
    return ask(app, "getObject", {"id": key})["header"]


@pytest.fixture
def order(sandbox: Sandbox) -> VendorObject:
    """An order that is not posted."""
    found = sandbox.books.of(ORDERS)[0]
    found.header["posted"] = "0"
    return found


@pytest.fixture
def good(sandbox: Sandbox) -> VendorObject:
    return sandbox._goods()[0]


# saveObject


def test_a_new_object_is_at_version_1_and_each_save_raises_it(app: Starlette, sandbox: Sandbox) -> None:
    made = save(app, UNITS, code="psi", name=NAME)["id"]
    assert "1" == header_of(app, made)["version"]
    save(app, made, code="bar")
    save(app, made, name={"uk": "бар"})

    header = header_of(app, made)
    assert ("3", "bar", {"ru": "x", "uk": "бар"}) == (header["version"], header["code"], header["name"])
    assert [] == sandbox.sent_webhooks


def test_values_are_kept_in_the_form_of_their_fields(app: Starlette, sandbox: Sandbox, good: VendorObject) -> None:
    unit = sandbox.books.of(UNITS)[1].id
    fields = {"mainUnit": {"id": unit}, "weight": 1.23456, "productNum": " A-1 ", "isGroup": False, "parent": None}
    save(app, good.id, **fields, name="Туя")

    header = header_of(app, good.id)
    assert ("1.235", "A-1", "0") == (header["weight"], header["productNum"], header["isGroup"])
    assert ({"ru": "Туя", "uk": "Туя"}, unit) == (header["name"], header["mainUnit"]["id"])
    assert {"id": "0", "pr": None} == header["parent"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mainUnit", "1103600000099999"),
        ("mainUnit", "1100100000001001"),
        ("mainUnit", "шт"),
        ("weight", "багато"),
        ("weight", 10**9),
        ("weight", {"kg": 1}),
        ("isGroup", "так"),
        ("productNum", "x" * 31),
        ("name", {"en": "x"}),
        ("name", {}),
        ("nothing", 1),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(app: Starlette, good: VendorObject, field: str, value: Any) -> None:
    before = header_of(app, good.id)

    error = save(app, good.id, printName="інша", **{field: value})["error"]

    assert f"cant set value of header.{field}: bad value, or field doesnt exist" == error
    assert before == header_of(app, good.id)


@pytest.mark.parametrize("date", ["31.01.2026", "2026-02-30", "x"])
def test_a_bad_date_is_refused(app: Starlette, order: VendorObject, date: str) -> None:
    assert "cant set value of header.date" in save(app, order.id, date=date)["error"]


def test_an_unknown_object_and_a_missing_field_are_refused(app: Starlette) -> None:
    assert "object with id 1103600000099999 not found" == save(app, "1103600000099999", code="1")["error"]
    assert "object with id catalogs.nothing not found" == save(app, "catalogs.nothing", code="1")["error"]
    assert "emptyRequiredReq name (Найменування)" == save(app, UNITS, code="1")["error"]
    assert "emptyRequiredReq person (Покупець)" == save(app, ORDERS, remark="x")["error"]


def test_a_part_that_is_named_is_replaced_and_keeps_the_ids_of_its_rows(
    app: Starlette, sandbox: Sandbox, order: VendorObject
) -> None:
    goods = [each.id for each in sandbox._goods()[:2]]
    save(app, order.id, {"tpGoods": [{"good": goods[0], "qty": 1, "price": "2.5"}, {"good": goods[1], "qty": 2}]})
    first, second = order.parts["tpGoods"]

    save(app, order.id, {"tpGoods": [{"id": second["id"], "qty": 3, "rowNum": 1}, {"good": goods[0], "qty": 5}]})
    save(app, order.id, remark="x")

    rows = order.parts["tpGoods"]
    assert {second["id"]} == {row["id"] for row in rows} - {row["id"] for row in rows if row["good"] == goods[0]}
    assert {(goods[1], "3.000"), (goods[0], "5.000")} == {(row["good"], row["qty"]) for row in rows}
    assert ["1", "2"] == [row["rowNum"] for row in rows]
    assert first["id"] not in {row["id"] for row in rows}
    save(app, order.id, {"tpGoods": []})
    assert ([], "0.00") == (order.parts["tpGoods"], order.header["amountCur"])


def test_amounts_are_computed_whatever_was_sent(app: Starlette, sandbox: Sandbox, order: VendorObject) -> None:
    row = {"good": sandbox._goods()[0].id, "qty": "2", "price": "10.25", "discount": "0.50", "amountCur": 99}
    save(app, order.id, {"tpGoods": [row]}, amountCur=5)

    (shown,) = order.parts["tpGoods"]
    assert ("20.50", "20.00", "2.000") == (shown["priceAmount"], shown["amountCur"], shown["baseQty"])
    assert "20.00" == order.header["amountCur"]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"qty": 1}, "emptyRequiredReq tpGoods.good (Товар)"),
        ({"good": "first", "qty": 0}, "emptyRequiredReq tpGoods.qty (Кількість)"),
        ({"good": "first", "qty": "x"}, "cant set value of tpGoods.qty: bad value, or field doesnt exist"),
        ({"good": "first", "qty": 1, "shelf": 1}, "cant set value of tpGoods.shelf: bad value, or field doesnt exist"),
    ],
)
def test_a_bad_row_is_refused_and_changes_nothing(
    app: Starlette, sandbox: Sandbox, order: VendorObject, row: JsonObject, error: str
) -> None:
    before = sandbox.books.show(order)
    row = row | ({"good": sandbox._goods()[0].id} if "good" in row else {})

    assert error == save(app, order.id, {"tpGoods": [row]}, remark="x")["error"]
    assert before == sandbox.books.show(order)


def test_documents_are_posted_and_unposted_by_their_save_type(app: Starlette, order: VendorObject) -> None:
    assert "error" not in save(app, order.id, save_type=1)
    assert "1" == order.header["posted"]
    assert "Документ проведено" in save(app, order.id, remark="x")["error"]
    assert "error" not in save(app, order.id, save_type=1, remark="x")
    assert "error" not in save(app, order.id, save_type="2")
    assert ("0", "x") == (order.header["posted"], order.header["remark"])
    assert "<html>" in save(app, order.id, save_type=7)["error"]
    order.parts["tpGoods"].clear()
    assert save(app, order.id, save_type=1)["error"].startswith("applicationLayerError <html>")


def test_a_marked_document_is_not_posted(app: Starlette, order: VendorObject) -> None:
    ask(app, "setDelMark", {"id": order.id})

    assert "позначено на видалення" in save(app, order.id, save_type=1)["error"]


def test_an_article_number_is_taken_once(app: Starlette, sandbox: Sandbox) -> None:
    first, second = sandbox._goods()[:2]
    number = first.header["productNum"]

    assert "вже використовується" in save(app, second.id, productNum=number)["error"]
    assert "error" not in save(app, first.id, productNum=number)


def test_a_new_document_has_number_name_and_defaults(app: Starlette, sandbox: Sandbox) -> None:
    person = sandbox.books.of(PERSONS)[0].id
    made = save(app, ORDERS, person=person, date="2026-01-31")["id"]

    header = header_of(app, made)
    assert f"НР{made[-8:]}" == header["number"]
    assert f"31.01.2026 Замовлення {header['number']}" == header["presentation"]["uk"]
    assert sandbox.books.of("catalogs.firms")[0].id == header["firm"]["id"]
    assert ("0", "2026-01-31 00:00:00") == (header["posted"], header["date"])


def test_a_registers_record_is_saved_once_for_its_date_and_place(app: Starlette, sandbox: Sandbox) -> None:
    good, kind = sandbox._goods()[0].id, sandbox.books.of("catalogs.priceTypes")[0].id
    record = {"date": "2030-01-01", "good": good, "priceType": kind}
    before = len(sandbox.books.prices)

    assert {"result": "ok", "id": 0} == save(app, PRICES, **record, price=10)
    assert {"result": "ok", "id": 0} == save(app, PRICES, **record, price="25.5")

    assert before + 1 == len(sandbox.books.prices)
    assert "25.50000" == sandbox.truth(PRICES)[f"{good}:{kind}"]["price"]
    assert "emptyRequiredReq priceType" in save(app, PRICES, good=good)["error"]
    assert "cant set value of header.shelf" in save(app, PRICES, **record, shelf=1)["error"]
    assert "applicationLayerError" in save(app, "balanceRegisters.goods", qty=1)["error"]


def test_a_role_may_read_what_it_may_not_write(app: Starlette, sandbox: Sandbox, good: VendorObject) -> None:
    sandbox.writing.read_only = {GOODS, ORDERS, PRICES}

    denied = f"Access to {GOODS} denied, check role settings"
    assert [denied] * 3 == [
        answer["error"]
        for answer in (
            save(app, good.id, printName="x"),
            save(app, GOODS, name="x"),
            ask(app, "setDelMark", {"id": good.id}),
        )
    ]
    assert "error" in save(app, PRICES, good=good.id)
    assert "Access to" in create_order(app, [{"good": good.id, "qty": 1}])["error"]
    assert good.id == header_of(app, good.id)["id"]["id"]


# setDelMark


def test_a_mark_unposts_a_document_and_marks_what_is_in_a_folder(app: Starlette, sandbox: Sandbox) -> None:
    order, group = sandbox.books.of(ORDERS)[0], sandbox.books.of(GOODS)[0]
    inner = save(app, GOODS, name="Хвойні", isGroup=1, parent=group.id)["id"]
    deep = save(app, GOODS, name="Туя", parent=inner)["id"]

    assert ["ok", "ok"] == [ask(app, "setDelMark", {"header": {"id": key}}) for key in (order.id, group.id)]
    assert ("1", "0") == (order.header["delMark"], order.header["posted"])
    assert ["1", "1"] == [header_of(app, key)["delMark"] for key in (inner, deep)]
    assert "object with id 5 not found" == ask(app, "setDelMark", {"id": 5})["error"]


# saleOrderCreate


def test_an_order_is_created_with_defaults_and_totals(app: Starlette, sandbox: Sandbox, good: VendorObject) -> None:
    other = sandbox._goods()[1]
    goods = [
        {"good": int(good.id), "qty": "2", "price": "10.25", "discount": 1, "unit": sandbox.books.of(UNITS)[1].id},
        {"productNum": other.header["productNum"], "qty": 1.5},
    ]
    answer = create_order(app, goods, {"remark": "з сайту", "posted": True, "nothing": 1})

    link = answer["data"]["header"]["id"]
    assert ("success", {"id", "pr"}) == (answer["status"], set(link))
    found = ask(app, "getObject", {"id": link["id"]})
    header, rows = found["header"], list(found["tableParts"]["tpGoods"].values())
    assert link == header["id"]
    assert ("19.50", "1", "з сайту", "1") == (
        header["amountCur"],
        header["posted"],
        header["remark"],
        header["taxIncluded"],
    )
    assert {"id": "1100100000000001", "pr": "Кінцевий споживач"} == header["person"]
    assert [good.id, other.id] == [row["good"] for row in rows]
    assert [sandbox.books.of(UNITS)[1].id, other.header["mainUnit"]] == [row["unit"] for row in rows]
    assert ["10.25000", "0.00000"] == [row["price"] for row in rows]


def test_an_order_has_every_documented_header_field(app: Starlette, sandbox: Sandbox, good: VendorObject) -> None:
    person = sandbox.books.of(PERSONS)[2].id
    header = {
        "number": "П-1",
        "date": "2026-01-31 10:00:00",
        "person": person,
        "manager": "1101700000001001",
        "deliveryMethod": "1104400000001001",
        "payBefore": "2026-02-01",
        "discountPercent": 5,
        "userPresentation": 1,
        "presentation": "Моє",
    }
    key = create_order(app, [{"good": good.id, "qty": 1}], header)["data"]["header"]["id"]["id"]

    shown = header_of(app, key)
    assert ("П-1", "2026-02-01 00:00:00", "5.000") == (shown["number"], shown["payBefore"], shown["discountPercent"])
    assert (person, "1101700000001001") == (shown["person"]["id"], shown["manager"]["id"])
    assert {"ru": "Моє", "uk": "Моє"} == shown["presentation"]


@pytest.mark.parametrize(("placement", "places"), [({"autoPlacement": True}, 1), ([{"autoPlacement": 1}], 1), ({}, 0)])
def test_goods_are_placed_if_asked(
    app: Starlette, sandbox: Sandbox, good: VendorObject, placement: Any, places: int
) -> None:
    create_order(app, [{"good": good.id, "qty": 1}], placement=placement)

    assert places == len(sandbox.writing.placements)


def test_a_waybill_needs_a_delivery_method(app: Starlette, sandbox: Sandbox, good: VendorObject) -> None:
    rows, data = [{"good": good.id, "qty": 1}], {"Ref": "x"}

    refused = create_order(app, rows, deliveryData=data)
    made = create_order(app, rows, {"deliveryMethod": "1104400000001001"}, deliveryData=data)

    assert ("error", []) == (refused["status"], refused["data"])
    assert "emptyRequiredReq deliveryMethod" in refused["errorMessage"]
    assert [(made["data"]["header"]["id"]["id"], data)] == sandbox.writing.waybills


@pytest.mark.parametrize(
    ("header", "row", "error"),
    [
        ({"person": "Тест"}, {}, "Bad value type for column person"),
        ({"person": "1100100000099999"}, {}, "Bad value type for column person"),
        ({"firm": "1100100000001001"}, {}, "Bad value type for column firm"),
        ({"date": "x"}, {}, "Bad value type for column date"),
        ({"remark": "x" * 151}, {}, "Bad value type for column remark"),
        ({}, {"qty": "x"}, "Bad value type for column qty"),
        ({}, {"qty": 0}, "emptyRequiredReq qty (Количество)"),
        ({}, {"good": None}, "emptyRequiredReq good (Товар / услуга)"),
        ({}, {"good": None, "productNum": "немає"}, "Bad value type for column productNum"),
    ],
)
def test_a_bad_order_is_refused_and_not_created(
    app: Starlette, sandbox: Sandbox, good: VendorObject, header: JsonObject, row: JsonObject, error: str
) -> None:
    before = len(sandbox.books.of(ORDERS))

    answer = create_order(app, [{"good": good.id, "qty": 1} | row], header)

    assert {"status": "error", "data": [], "errorMessage": error} == answer
    assert before == len(sandbox.books.of(ORDERS))


def test_an_unknown_method_is_refused(app: Starlette) -> None:
    assert "unknown method explode" == ask(app, "call", {"method": "explode"})["errorMessage"]


# Locks, faults and the log


def test_an_open_object_is_locked_for_attempts_or_seconds_or_until_it_is_closed() -> None:
    clock = [datetime(2026, 3, 1, 10, tzinfo=UTC)]
    app = dilovod_sandbox.create(now=lambda: clock[0])
    sandbox = app.state.sandbox
    good = sandbox._goods()[0].id

    def refusals(times: int) -> list[bool]:
        return ["object locked" in save(app, good, printName="x").get("error", "") for _ in range(times)]

    sandbox.writing.lock(good, attempts=2)
    assert [True, True, False] == refusals(3)
    sandbox.writing.lock(good, seconds=30)
    assert [True, True] == refusals(2)
    clock[0] += timedelta(seconds=30)
    assert [False] == refusals(1)
    sandbox.writing.lock(good)
    assert [True, True] == refusals(2)
    assert "object locked" in ask(app, "setDelMark", {"id": good})["error"]
    sandbox.writing.unlock(good)
    assert [False] == refusals(1)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (WriteFault.BUSY, "multithreadApiSession multithread api request blocked"),
        (WriteFault.LOCKED, "object locked by user"),
        (WriteFault.REFUSED, "applicationLayerError <html>"),
    ],
)
def test_a_refusing_fault_writes_nothing_and_leaves_reads_alone(
    app: Starlette, sandbox: Sandbox, good: VendorObject, fault: WriteFault, error: str
) -> None:
    sandbox.write_faults.append(fault)
    before = header_of(app, good.id)

    assert save(app, good.id, printName="x")["error"].startswith(error)
    assert before == header_of(app, good.id)
    assert "error" not in save(app, good.id, printName="x")
    assert [False, True] == [each.executed for each in sandbox.writes]


@pytest.mark.parametrize(
    ("fault", "is_written"),
    [
        (WriteFault.LOST_AFTER, True),
        (WriteFault.LOST_BEFORE, False),
        (WriteFault.HALF, True),
        (WriteFault.DOUBLED, True),
    ],
)
def test_a_damaging_fault_sends_no_answer_or_a_broken_one(
    app: Starlette, sandbox: Sandbox, good: VendorObject, fault: WriteFault, *, is_written: bool
) -> None:
    sandbox.write_faults.append(fault)
    packet = {"key": "sandbox-key", "action": "saveObject", "params": {"header": {"id": good.id, "printName": "нова"}}}
    with served(app) as url, httpx.Client(base_url=url, trust_env=False) as client:
        try:
            body = client.post("/", json=packet).content
        except httpx.RemoteProtocolError:
            body = b""

    with pytest.raises(ValueError, match=r"."):
        exact.loads(body)
    assert is_written == (good.header["printName"] == "нова") == sandbox.writes[0].executed
    assert (fault in {WriteFault.LOST_AFTER, WriteFault.LOST_BEFORE}) == (body == b"")


def test_a_slow_write_is_done_also_if_the_client_has_left(app: Starlette, sandbox: Sandbox, good: VendorObject) -> None:
    sandbox.write_faults.append(WriteFault.SLOW)
    sandbox.write_seconds = 0.5
    packet = {"key": "sandbox-key", "action": "saveObject", "params": {"header": {"id": good.id, "printName": "нова"}}}
    with served(app) as url:
        with httpx.Client(base_url=url, timeout=0.1, trust_env=False) as client, pytest.raises(httpx.ReadTimeout):
            client.post("/", json=packet)
        (arrived,) = sandbox.writes
        assert not arrived.executed
        until(lambda: arrived.executed, seconds=10, what="the write is not done")
    assert "нова" == good.header["printName"]


def test_every_write_that_arrives_is_logged_in_its_order(sandbox: Sandbox, app: Starlette, good: VendorObject) -> None:
    made = save(app, UNITS, code="psi", name=NAME)["id"]
    save(app, good.id, nothing=1)
    ask(app, "setDelMark", {"header": {"id": good.id}})
    ask(app, "setDelMark", {"id": made}, key="wrong")
    ask(app, "getObject", {"id": good.id})
    order = create_order(app, [{"good": good.id, "qty": 1}])["data"]["header"]["id"]["id"]
    with sandbox.busy:
        ask(app, "setDelMark", {"id": made})

    assert [
        ("saveObject", UNITS, True, made),
        ("saveObject", good.id, False, ""),
        ("setDelMark", good.id, True, ""),
        ("setDelMark", made, False, ""),
        ("saleOrderCreate", ORDERS, True, order),
        ("setDelMark", made, False, ""),
    ] == [(each.action, each.about, each.executed, each.made) for each in sandbox.writes]
    assert sorted(each.at for each in sandbox.writes) == [each.at for each in sandbox.writes]
