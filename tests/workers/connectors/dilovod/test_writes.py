"""The client's writes over HTTP: what is sent, what each answer means, and how it is known what became of a write."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from models import exact
from models.values import ObjectRef
from tests.workers.connectors.dilovod.conftest import answering, made_options, opened, recording
from tests.workers.connectors.dilovod.test_command_sale_order import EVERYTHING
from tests.workers.connectors.dilovod.test_commands import action, mistakes
from workers.connectors.commands import GONE, Sent
from workers.connectors.dilovod.resources import resources
from workers.connectors.dilovod.sandbox_writes import WriteFault
from workers.errors import BusyError, RefusedError, SetAside, TimedOutError, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

    from models.values import JsonObject
    from workers.connectors.commands import Action
    from workers.connectors.dilovod import sandbox as dilovod_sandbox
    from workers.connectors.dilovod.client import Client
    from workers.connectors.dilovod.sandbox_data import VendorObject

GOODS, UNITS, ORDERS = "catalogs.goods", "catalogs.units", "documents.saleOrder"
PRICES = "informationRegisters.goodsPrices"
GOOD, ORDER = "1100300000001001", "1109100000001001"
SAVE, MARK, CREATE = (action(name) for name in ("saveObject", "setDelMark", "saleOrderCreate"))
RENAME = {"header": {"id": GOOD, "printName": "нова"}}
NEW_UNIT = {"header": {"id": UNITS, "code": "psi", "name": "ПНД"}}
NEW_ORDER = {"header": {}, "goods": [{"good": GOOD, "qty": 1}]}
NEW_PRICE = {"header": {"id": PRICES, "good": GOOD, "price": 5}}


@pytest.fixture
def good(sandbox: dilovod_sandbox.Sandbox) -> VendorObject:
    return sandbox._goods()[0]


@pytest.fixture
def order(sandbox: dilovod_sandbox.Sandbox) -> VendorObject:
    found = sandbox.books.of(ORDERS)[0]
    found.header["posted"] = "0"
    return found


# What is sent


@pytest.mark.parametrize(
    ("name", "arguments", "sent"),
    [
        (
            "saveObject",
            {"header": {"id": {"id": int(GOOD), "pr": "Туя"}, "parent": {"id": GOOD}, "isGroup": False}},
            {"action": "saveObject", "params": {"header": {"id": GOOD, "parent": GOOD, "isGroup": 0}}},
        ),
        (
            "saveObject",
            {
                "saveType": "1",
                "objectName": ORDERS,
                "header": {"id": ORDER},
                "tableParts": {"tpGoods": [{"good": int(GOOD), "qty": Decimal("1.5")}]},
            },
            {
                "action": "saveObject",
                "params": {
                    "saveType": 1,
                    "header": {"id": ORDER},
                    "tableParts": {"tpGoods": [{"good": GOOD, "qty": Decimal("1.5")}]},
                },
            },
        ),
        (
            "setDelMark",
            {"id": int(GOOD), "objectName": GOODS},
            {"action": "setDelMark", "params": {"header": {"id": GOOD}}},
        ),
        (
            "saleOrderCreate",
            NEW_ORDER | {"placement": [{"autoPlacement": True}], "deliveryData": {"Ref": "x"}},
            {
                "action": "call",
                "params": {
                    "method": "saleOrderCreate",
                    "arguments": NEW_ORDER | {"placement": {"autoPlacement": True}, "deliveryData": {"Ref": "x"}},
                },
            },
        ),
    ],
)
def test_one_request_is_sent_in_the_forms_of_the_help(
    app: Starlette, name: str, arguments: JsonObject, sent: JsonObject
) -> None:
    recorder, packets = recording(app)
    with opened(recorder) as client, suppress(RefusedError):
        client.send(action(name), arguments)

    (packet,) = [packet for _, packet in packets]
    assert sent | {"version": "0.25", "key": "sandbox-key"} == packet


@pytest.mark.parametrize("packet", ["json", "form"])
def test_a_write_arrives_in_both_packets(app: Starlette, good: VendorObject, packet: str) -> None:
    with opened(app, packet=packet) as client:
        client.send(SAVE, {"header": {"id": good.id, "printName": "a+b&c%d=é №"}})

    assert "a+b&c%d=é №" == good.header["printName"]


# Answers that say that it was done


@pytest.mark.parametrize(
    ("arguments", "answer", "ref"),
    [
        (NEW_UNIT, {"result": "ok", "id": "1103600000001009"}, ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, {"result": "ok", "id": 1103600000001009}, ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, {"result": "OK", "id": {"id": "1103600000001009", "pr": "x"}}, ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, {"id": "1103600000001009"}, ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, {"header": {"id": "1103600000001009"}}, ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, {"status": "success", "data": {"id": 1103600000001009}}, ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, {"status": "success", "data": "1103600000001009"}, ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, "1103600000001009", ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, 1103600000001009, ObjectRef(UNITS, "1103600000001009")),
        (NEW_UNIT, {"result": "ok", "id": 0}, None),
        (NEW_UNIT, "ok", None),
        (RENAME, {"result": "ok", "id": GOOD}, ObjectRef(GOODS, GOOD)),
        (RENAME, {"result": "ok", "id": int(GOOD)}, ObjectRef(GOODS, GOOD)),
        (RENAME, {"result": "ok"}, ObjectRef(GOODS, GOOD)),
        (RENAME, {"result": "ok", "id": 0, "clientMessages": [{"type": "warn", "data": "x"}]}, ObjectRef(GOODS, GOOD)),
        (RENAME, {"result": "ok", "clientMessages": [{"type": "error", "data": "x"}]}, ObjectRef(GOODS, GOOD)),
        (RENAME, "ok", ObjectRef(GOODS, GOOD)),
        (NEW_PRICE, {"result": "ok", "id": 0}, ObjectRef(PRICES, "")),
        (NEW_PRICE, {"result": "ok", "id": "1500100000000007"}, ObjectRef(PRICES, "")),
    ],
)
def test_each_form_of_success_names_what_was_written(arguments: JsonObject, answer: Any, ref: ObjectRef | None) -> None:
    with opened(answering(exact.dumps(answer))) as client:
        assert Sent(answer, ref) == client.send(SAVE, arguments)


@pytest.mark.parametrize("answer", ["ok", "OK", {"result": "ok"}, {"result": "ok", "id": GOOD}])
def test_a_mark_is_answered_with_a_bare_ok(answer: Any) -> None:
    with opened(answering(exact.dumps(answer))) as client:
        assert Sent(answer, ObjectRef(GOODS, GOOD)) == client.send(MARK, {"id": GOOD})


@pytest.mark.parametrize("id_", [{"id": ORDER, "pr": "x"}, ORDER, int(ORDER)])
def test_a_new_order_is_named_in_its_header(id_: Any) -> None:
    answer = {"status": "success", "data": {"header": {"id": id_}, "tableParts": []}}
    with opened(answering(exact.dumps(answer))) as client:
        assert Sent(answer, ObjectRef(ORDERS, ORDER)) == client.send(CREATE, NEW_ORDER)


# Answers that say that it was not done


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"error": "emptyRequiredReq firm (Підприємець)|unit (Од.)"},
            "firm (Підприємець)|unit (Од.); fill in firm, unit",
        ),
        ({"error": "cant set value of header.x: bad value, or field doesnt exist"}, "header.x: bad value"),
        ({"status": "error", "data": [], "errorMessage": "Bad value type for column person"}, "column person"),
        (
            {"error": "applicationLayerError <html><b>Не&nbsp;збережено</b></html>"},
            "applicationLayerError Не збережено",
        ),
        ({"error": f"object with id {GOOD} not found", "clientMessages": []}, f"object with id {GOOD} not found"),
        ({"error": "щось інше"}, "щось інше"),
        ({"error": {"code": 5}}, "5"),
        ({"status": "error", "data": []}, "error without a message"),
        ({"clientMessages": [{"type": "warn", "data": "y"}, {"type": "error", "data": "Немає прав"}]}, "Немає прав"),
        ("object was not saved", "object was not saved"),
    ],
)
def test_an_error_in_words_refuses_the_write(answer: Any, words: str) -> None:
    with opened(answering(exact.dumps(answer))) as client, pytest.raises(RefusedError) as raised:
        client.send(SAVE, RENAME)

    assert words in str(raised.value)
    assert not raised.value.whole_resource


def test_an_object_that_a_user_has_open_is_tried_again_without_holding_up_others() -> None:
    with (
        opened(answering('{"error":"object locked by user"}')) as client,
        pytest.raises(TryLater, match="locked") as raised,
    ):
        client.send(SAVE, RENAME)

    assert (True, False) == (raised.value.refused, raised.value.closes_gate)


def test_a_write_beside_another_request_was_not_taken() -> None:
    body = '{"error":"multithreadApiSession multithread api request blocked"}'
    with opened(answering(body)) as client, pytest.raises(BusyError) as raised:
        client.send(SAVE, RENAME)

    assert (True, timedelta(seconds=30)) == (raised.value.refused, raised.value.after)


@pytest.mark.parametrize("words", ["bad key", "object locked", "multithread", "access to the roof denied"])
def test_the_callers_own_words_in_a_refusal_are_no_error_of_dilovod(words: str) -> None:
    with (
        opened(answering(f'{{"error":"cant set value of header.name: {words}"}}')) as client,
        pytest.raises(RefusedError, match=words) as raised,
    ):
        client.send(SAVE, RENAME)
    assert not raised.value.whole_resource


@pytest.mark.parametrize("text", ["bad key", "Access to catalogs.goods denied, check role settings"])
def test_a_wrong_key_and_a_role_without_the_right_concern_the_whole_resource(text: str) -> None:
    with opened(answering(exact.dumps({"error": text}))) as client, pytest.raises(SetAside, match=text) as raised:
        client.send(SAVE, RENAME)

    assert raised.value.whole_resource


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 200),
        ("<html>down</html>", 200),
        ('{"result":"ok","id":"11003000', 200),
        ('{"result":"ok"}{"result":"ok"}', 200),
        ("{}", 200),
        ("[]", 200),
        ("null", 200),
        ("5", 200),
        ("true", 200),
        ('""', 200),
        ('{"result":"busy"}', 200),
        ('{"clientMessages":[{"type":"warn","data":"x"}]}', 200),
        ('{"result":"ok"}', 404),
        ("Internal Server Error", 500),
        ('{"error":"x"}', 503),
        ('{"error":"upstream timed out"}', 408),
    ],
)
def test_what_is_no_answer_of_dilovod_leaves_open_whether_it_arrived(body: str, status: int) -> None:
    with opened(answering(body, status)) as client, pytest.raises(TryLater) as raised:
        client.send(SAVE, RENAME)

    assert not raised.value.refused


@pytest.mark.parametrize(
    ("arguments", "id_"), [(RENAME, "1100300000001002"), (NEW_UNIT, GOOD)], ids=["another object", "another kind"]
)
def test_an_answer_that_names_another_object_leaves_open_what_was_written(arguments: JsonObject, id_: str) -> None:
    with (
        opened(answering(exact.dumps({"result": "ok", "id": id_}))) as client,
        pytest.raises(TryLater, match=id_) as raised,
    ):
        client.send(SAVE, arguments)

    assert not raised.value.refused


def test_a_server_that_cannot_be_reached_took_nothing() -> None:
    with opened(answering("{}")) as client:
        pass
    with pytest.raises(TryLater) as raised:
        client.send(SAVE, RENAME)

    assert raised.value.refused


def test_the_key_is_in_no_refusal() -> None:
    with opened(answering('{"error":"no right for sandbox-key"}')) as client, pytest.raises(RefusedError) as raised:
        client.send(SAVE, RENAME)

    assert "no right for ***" == str(raised.value)


# With the sandbox: what was sent is shown afterwards


def arrived(client: Client, arguments: JsonObject) -> bool:
    found = client.read_back(SAVE, arguments)
    assert SAVE.expected is not None
    assert SAVE.shown is not None
    return isinstance(found, dict) and SAVE.expected(arguments) == SAVE.shown(arguments, found)


GOOD_CHANGES: list[JsonObject] = [
    {"printName": " для друку "},
    {"productNum": 77},
    {"productNum": "0077"},
    {"weight": Decimal("12.3456")},
    {"weight": "12.5"},
    {"name": {"uk": "Туя"}},
    {"name": "Туя західна"},
    {"isGroup": True},
    {"mainUnit": None},
    {"parent": "0"},
    {"description": {"uk": "перший\r\nдругий", "ru": "x"}},
]


@pytest.mark.parametrize("fields", GOOD_CHANGES, ids=[str(each) for each in GOOD_CHANGES])
def test_a_change_of_a_catalogue_is_known_to_have_arrived(
    client: Client, good: VendorObject, fields: JsonObject
) -> None:
    arguments = {"header": {"id": good.id, **fields}}
    assert [] == mistakes("saveObject", arguments)
    assert not arrived(client, arguments)

    assert ObjectRef(GOODS, good.id) == client.send(SAVE, arguments).ref
    assert arrived(client, arguments)


ORDER_CHANGES: list[tuple[JsonObject, int]] = [
    ({"remark": "подзвонити"}, 0),
    ({"supplyDate": "2026-05-01"}, 0),
    ({"supplyDate": "2026-05-01 12:30:00", "taxAccount": True, "rate": "41.25", "discountPercent": 5}, 0),
    ({"person": "last"}, 0),
    ({}, 1),
    ({"remark": "x", "amountCur": 5}, 1),
]


@pytest.mark.parametrize(("fields", "save_type"), ORDER_CHANGES, ids=[str(each) for each, _ in ORDER_CHANGES])
def test_a_change_of_a_document_is_known_to_have_arrived(
    client: Client, sandbox: dilovod_sandbox.Sandbox, order: VendorObject, fields: JsonObject, save_type: int
) -> None:
    last = {"person": int(sandbox.books.of("catalogs.persons")[-1].id)} if "person" in fields else {}
    order.header["person"] = sandbox.books.of("catalogs.persons")[0].id
    arguments = {"saveType": save_type, "header": {"id": order.id, **fields, **last}}
    assert [] == mistakes("saveObject", arguments)
    assert not arrived(client, arguments)

    client.send(SAVE, arguments)
    assert arrived(client, arguments)


def test_changed_rows_are_known_to_have_arrived(
    client: Client, sandbox: dilovod_sandbox.Sandbox, order: VendorObject
) -> None:
    goods = [each.id for each in sandbox._goods()[:2]]
    rows = [
        {"rowNum": 2, "good": goods[0], "qty": "3", "price": Decimal("10.25"), "amountCur": 7, "remark": " свіжі "},
        {"rowNum": 1, "good": {"id": goods[1]}, "qty": Decimal("1.125"), "unit": sandbox.books.of(UNITS)[1].id},
    ]
    for sent in (rows, [rows[1]], []):
        arguments = {"header": {"id": order.id}, "tableParts": {"tpGoods": sent}}
        assert [] == mistakes("saveObject", arguments)
        assert not arrived(client, arguments)
        client.send(SAVE, arguments)
        assert arrived(client, arguments)


def test_a_new_object_is_shown_as_it_was_sent(client: Client) -> None:
    sent = client.send(SAVE, NEW_UNIT)

    assert sent.ref is not None
    assert arrived(client, {"header": NEW_UNIT["header"] | {"id": sent.ref.key}})


def test_what_is_read_back_is_what_the_mirror_keeps(client: Client, good: VendorObject) -> None:
    (goods,) = [each for each in resources(made_options()) if each.name == GOODS]

    assert client.fetch(goods, good.id).raw == client.read_back(SAVE, {"header": {"id": good.id}})  # type: ignore[union-attr]


@pytest.mark.parametrize(("created_by", "arguments"), [(SAVE, NEW_UNIT), (CREATE, NEW_ORDER)])
def test_a_creation_cannot_be_read_back(client: Client, created_by: Action, arguments: JsonObject) -> None:
    with pytest.raises(ValueError, match="whose id is not known"):
        client.read_back(created_by, arguments)


def test_a_marked_or_unknown_object_is_read_back_as_gone(client: Client, good: VendorObject) -> None:
    assert "ok" == client.send(MARK, {"id": good.id}).answer

    assert GONE is client.read_back(MARK, {"id": good.id})
    assert GONE is client.read_back(MARK, {"id": "1100300000099999"})
    assert GONE is client.read_back(SAVE, {"header": {"id": good.id, "delMark": 0}})


def test_a_mark_that_saving_leaves_is_found_out(client: Client, good: VendorObject) -> None:
    client.send(MARK, {"id": good.id})
    arguments = {"header": {"id": good.id, "delMark": 0}}

    assert {"result": "ok", "id": good.id} == client.send(SAVE, arguments).answer
    assert not arrived(client, arguments)


def test_an_order_with_every_field_is_created(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    goods, books = sandbox._goods(), sandbox.books
    header = EVERYTHING["header"] | {
        "storage": books.of("catalogs.storages")[0].id,
        "priceType": books.of("catalogs.priceTypes")[0].id,
        "state": books.of("catalogs.states")[0].id,
    }
    rows = [EVERYTHING["goods"][0] | {"good": goods[0].id}, {"productNum": goods[1].header["productNum"], "qty": 2}]
    arguments = EVERYTHING | {"header": header, "goods": rows}
    assert [] == mistakes("saleOrderCreate", arguments)

    sent = client.send(CREATE, arguments)

    assert sent.ref is not None
    found = client.get_object(sent.ref.key)
    as_saved = {"header": header | {"id": sent.ref.key}, "tableParts": {"tpGoods": [rows[0], {"qty": 2}]}}
    assert ORDERS == sent.ref.resource
    assert SAVE.expected is not None
    assert SAVE.shown is not None
    assert SAVE.expected(as_saved) == SAVE.shown(as_saved, found)
    assert [sent.ref.key] == sandbox.writing.placements == [key for key, _ in sandbox.writing.waybills]


# Registers


def price(sandbox: dilovod_sandbox.Sandbox, good: VendorObject, **fields: Any) -> JsonObject:
    kind, currency = (sandbox.books.of(f"catalogs.{name}")[0].id for name in ("priceTypes", "currency"))
    return {"header": {"id": PRICES, "good": int(good.id), "priceType": kind, "currency": currency, **fields}}


@pytest.mark.parametrize("date", [{}, {"date": "2030-01-01"}, {"date": "2030-01-01 10:00:00"}])
def test_a_registers_record_is_read_back_by_its_date_and_links(
    client: Client, sandbox: dilovod_sandbox.Sandbox, good: VendorObject, date: JsonObject
) -> None:
    arguments = price(sandbox, good, price="123.4", **date)
    assert [] == mistakes("saveObject", arguments)
    assert not arrived(client, arguments)

    assert Sent({"result": "ok", "id": 0}, ObjectRef(PRICES, "")) == client.send(SAVE, arguments)
    assert arrived(client, arguments)
    assert not arrived(client, price(sandbox, good, price="123.5", **date))


def test_a_registers_record_that_is_not_there_is_gone(
    client: Client, sandbox: dilovod_sandbox.Sandbox, good: VendorObject
) -> None:
    assert GONE is client.read_back(SAVE, price(sandbox, good, price=5, date="2001-01-01"))


# Finding what was created


def test_a_new_object_is_found_by_its_unique_field(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    code = client.send(SAVE, NEW_UNIT).ref
    assert code is not None

    assert [code.key] == client.find(SAVE, NEW_UNIT, ("header", "code"))
    client.send(SAVE, NEW_UNIT)
    assert 2 == len(client.find(SAVE, NEW_UNIT, ("header", "code")))
    assert [] == client.find(SAVE, {"header": {"id": UNITS, "code": "psi2"}}, ("header", "code"))
    marked = sandbox.books.things[code.key]
    sandbox.books.mark(marked)
    assert code.key in client.find(SAVE, NEW_UNIT, ("header", "code"))


@pytest.mark.parametrize("stored", ["подзвонити EM0123456789ABCDEF", "подзвонити  EM0123456789ABCDEF.", None])
def test_a_new_order_is_found_by_the_token_in_its_remark(
    client: Client, order: VendorObject, stored: str | None
) -> None:
    arguments = NEW_ORDER | {"header": {"remark": "подзвонити EM0123456789ABCDEF"}}
    order.header["remark"] = stored or "подзвонити EM0123456789ABCDEG"

    found = client.find(CREATE, arguments, ("header", "remark"))

    assert ([order.id] if stored else []) == found


def test_a_remark_without_a_token_is_looked_for_as_a_whole(client: Client, order: VendorObject) -> None:
    order.header["remark"] = "подзвонити завтра"

    assert [] == client.find(CREATE, {"header": {"remark": "подзвонити"}}, ("header", "remark"))
    assert [order.id] == client.find(CREATE, {"header": {"remark": "подзвонити завтра"}}, ("header", "remark"))


# What else a command changes


def test_a_folder_is_marked_with_all_levels_of_its_content(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    books = sandbox.books
    top = books.add(GOODS, name={"uk": "x", "ru": "x"}, isGroup="1")
    folders = [books.add(GOODS, name={"uk": "x", "ru": "x"}, isGroup="1", parent=top.id) for _ in range(120)]
    inner = [books.add(GOODS, name={"uk": "x", "ru": "x"}, parent=folder.id) for folder in folders[::40]]
    deep = books.add(GOODS, name={"uk": "x", "ru": "x"}, parent=folders[7].id, isGroup="1")
    deepest = books.add(GOODS, name={"uk": "x", "ru": "x"}, parent=deep.id)
    expected = {each.id for each in (*folders, *inner, deep, deepest)}

    asked = client.also_changes(MARK, {"id": top.id})
    assert {ObjectRef(GOODS, key) for key in expected} == set(asked)
    assert len(expected) == len(asked)
    client.send(MARK, {"id": top.id})
    assert expected == {key for key in expected if books.things[key].marked}
    assert () == client.also_changes(MARK, {"id": top.id})


@pytest.mark.parametrize("count", [500, 501, 1200])
def test_a_folder_with_more_than_a_page_is_read_whole(
    client: Client, sandbox: dilovod_sandbox.Sandbox, count: int
) -> None:
    books = sandbox.books
    top = books.add(GOODS, name={"uk": "x", "ru": "x"}, isGroup="1")
    inner = [books.add(GOODS, name={"uk": "x", "ru": "x"}, parent=top.id).id for _ in range(count)]

    assert inner == [each.key for each in client.also_changes(MARK, {"id": top.id})]


def test_folders_in_a_circle_end(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    books = sandbox.books
    one, other = (books.add(GOODS, name={"uk": "x", "ru": "x"}, isGroup="1") for _ in range(2))
    one.header["parent"], other.header["parent"] = other.id, one.id

    assert [ObjectRef(GOODS, other.id)] == client.also_changes(MARK, {"id": one.id})


def test_a_catalogue_without_folders_has_content_below_any_of_its_records(
    client: Client, sandbox: dilovod_sandbox.Sandbox
) -> None:
    books, persons = sandbox.books, "catalogs.persons"
    top = books.add(persons, name={"uk": "x", "ru": "x"})
    inner = books.add(persons, name={"uk": "x", "ru": "x"}, parent=top.id)
    deep = books.add(persons, name={"uk": "x", "ru": "x"}, parent=inner.id)

    assert [ObjectRef(persons, inner.id), ObjectRef(persons, deep.id)] == client.also_changes(MARK, {"id": top.id})
    assert [] == client.also_changes(MARK, {"id": deep.id})


def test_only_a_folder_has_content(client: Client, good: VendorObject, order: VendorObject) -> None:
    assert () == client.also_changes(MARK, {"id": good.id})
    assert () == client.also_changes(MARK, {"id": order.id})
    assert () == client.also_changes(MARK, {"id": "1100300000099999"})
    assert () == client.also_changes(SAVE, RENAME)


def test_reads_that_a_write_needs_are_no_writes(
    client: Client, sandbox: dilovod_sandbox.Sandbox, good: VendorObject
) -> None:
    client.also_changes(MARK, {"id": good.header["parent"]})
    client.find(SAVE, NEW_UNIT, ("header", "code"))
    client.read_back(SAVE, {"header": {"id": good.id}})

    assert [] == sandbox.writes


# The sandbox's faults, as the client meets them


@pytest.mark.parametrize(
    ("fault", "is_refused", "is_written"),
    [
        (WriteFault.LOST_AFTER, False, True),
        (WriteFault.LOST_BEFORE, False, False),
        (WriteFault.HALF, False, True),
        (WriteFault.DOUBLED, False, True),
        (WriteFault.BUSY, True, False),
        (WriteFault.LOCKED, True, False),
    ],
)
def test_a_fault_is_told_apart_by_what_may_have_arrived(
    client: Client,
    sandbox: dilovod_sandbox.Sandbox,
    good: VendorObject,
    fault: WriteFault,
    *,
    is_refused: bool,
    is_written: bool,
) -> None:
    sandbox.write_faults.append(fault)
    arguments = {"header": {"id": good.id, "printName": "нова"}}

    with pytest.raises(TryLater) as raised:
        client.send(SAVE, arguments)

    assert is_refused == raised.value.refused
    assert is_written == arrived(client, arguments)
    assert 1 == len(sandbox.writes)
    client.send(SAVE, arguments)
    assert arrived(client, arguments)


def test_a_document_refused_by_a_page_is_told_without_markup(
    client: Client, sandbox: dilovod_sandbox.Sandbox, order: VendorObject
) -> None:
    sandbox.write_faults.append(WriteFault.REFUSED)

    with pytest.raises(RefusedError) as raised:
        client.send(SAVE, {"header": {"id": order.id, "remark": "x"}})

    words = "applicationLayerError Документ не збережено. Недостатня кількість. Троянда Потрібно: 58.000 шт"
    assert words == str(raised.value)


def test_a_slow_write_may_have_arrived(app: Starlette, sandbox: dilovod_sandbox.Sandbox, good: VendorObject) -> None:
    sandbox.write_faults.append(WriteFault.SLOW)
    sandbox.write_seconds = 3
    with opened(app, timeout="1s") as client, pytest.raises(TimedOutError) as raised:
        client.send(SAVE, {"header": {"id": good.id, "printName": "нова"}})

    assert not raised.value.refused


REFUSALS: dict[str, Callable[[VendorObject], JsonObject]] = {
    "cant set value of header.nothing": lambda good: {"header": {"id": good.id, "nothing": 1}},
    "emptyRequiredReq name (Найменування); fill in name": lambda _: {"header": {"id": UNITS, "code": "1"}},
    "object with id 1100300000099999 not found": lambda _: {"header": {"id": "1100300000099999", "code": "1"}},
    "cant set value of header.mainUnit": lambda good: {"header": {"id": good.id, "mainUnit": "1103600000099999"}},
}


@pytest.mark.parametrize("words", REFUSALS)
def test_what_the_sandbox_refuses_changes_nothing(
    client: Client, sandbox: dilovod_sandbox.Sandbox, good: VendorObject, words: str
) -> None:
    before = sandbox.truth(GOODS) | sandbox.truth(UNITS)

    with pytest.raises(RefusedError) as raised:
        client.send(SAVE, REFUSALS[words](good))

    assert words in str(raised.value)
    assert before == sandbox.truth(GOODS) | sandbox.truth(UNITS)
    assert [False] == [each.executed for each in sandbox.writes]
