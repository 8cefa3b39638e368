"""What `saleOrderCreate` takes: each documented field, and what each mistake is told."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workers.connectors.dilovod.test_commands import GOOD, PERSON, SCALARS, UNIT, VALUES, action, mistakes
from workers.connectors.dilovod.command_sale_order import GOODS, HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.values import JsonObject
    from workers.connectors.dilovod.command_sale_order import Field

FIRM, CURRENCY, STATE = "1100400000001001", "1101200000001001", "1111500000000001"
METHOD = "1104400000001001"
ROW = {"good": GOOD, "qty": 1}
EVERYTHING: JsonObject = {
    "header": {
        "date": "2026-01-31 10:00:00",
        "number": "НР1",
        "presentation": {"uk": "Замовлення", "ru": "Заказ"},
        "userPresentation": True,
        "posted": 0,
        "firm": int(FIRM),
        "business": "1110900000000001",
        "storage": "1100700000001001",
        "person": {"id": PERSON},
        "manager": "1101700000001001",
        "department": "1101900000001001",
        "details": "+380671234567",
        "currency": CURRENCY,
        "paymentForm": "1110000000001001",
        "priceType": "1101300000001001",
        "state": STATE,
        "deliveryPoint": "1110000000001002",
        "cashAccount": "1101100000001001",
        "tradeChanel": "1103200000001001",
        "remark": "з сайту",
        "remarkFromPerson": "зателефонуйте",
        "remarkForPerson": "дякуємо",
        "deliveryMethod": METHOD,
        "deliveryRemark": "після 18",
        "taxAccount": "1",
        "taxIncluded": True,
        "contract": "1179200000022629",
        "contact": "1110000000001003",
        "rate": Decimal("41.2345"),
        "discountPercent": "5.000",
        "supplyDate": "2026-02-01",
        "reserveDate": "2026-02-01 18:00:00",
        "payBefore": "2026-02-03 00:00:00",
    },
    "goods": [
        {
            "good": GOOD,
            "price": "100.12345",
            "qty": Decimal("1.125"),
            "unit": UNIT,
            "discount": "1.50",
            "remark": "свіжі",
            "vatTax": "1110000000001004",
            "vatAmount": Decimal("20.5"),
        },
        {"productNum": "007", "qty": 2},
    ],
    "placement": {"autoPlacement": True},
    "deliveryData": {"Ref": "0f4b1e2c-1111-2222-3333-444444444444", "IntDocNumber": "20450000000000"},
}
NEW_WAYBILL: JsonObject = {
    "PayerType": "Recipient",
    "PaymentMethod": "Cash",
    "CargoType": "Parcel",
    "VolumeGeneral": "0.004",
    "Weight": Decimal("1.5"),
    "ServiceType": "WarehouseWarehouse",
    "SeatsAmount": 1,
    "Description": "саджанці",
    "Cost": "500",
    "CitySender": "8d5a980d-391c-11dd-90d9-001a92567626",
    "Sender": "a",
    "SenderAddress": "b",
    "ContactSender": "c",
    "SendersPhone": "380671234567",
    "CityRecipient": "d",
    "Recipient": "e",
    "RecipientAddress": "f",
    "ContactRecipient": "g",
    "RecipientsPhone": "380671234568",
    "AdditionalInformation": "крихке",
    "BackwardDeliveryData": [{"PayerType": "Recipient", "CargoType": "Money", "RedeliveryString": "500"}],
    "OptionsSeat": [{"volumetricVolume": "0.004", "weight": "1.5"}],
}


def order(goods: Any = (ROW,), **header: Any) -> JsonObject:
    return {"header": header, "goods": [dict(each) for each in goods]}


def delivered(data: JsonObject, **header: Any) -> JsonObject:
    return order(**{"deliveryMethod": METHOD, **header}) | {"deliveryData": data}


def test_every_documented_field_is_taken() -> None:
    assert set(HEADER) == set(EVERYTHING["header"])
    assert set(GOODS) == {name for row in EVERYTHING["goods"] for name in row}
    assert [] == mistakes("saleOrderCreate", EVERYTHING)
    assert [] == mistakes("saleOrderCreate", delivered(NEW_WAYBILL))


@pytest.mark.parametrize("placement", [{}, {"autoPlacement": 1}, [{"autoPlacement": False}]])
def test_a_placement_is_an_object_or_a_list_of_one(placement: Any) -> None:
    assert [] == mistakes("saleOrderCreate", order() | {"placement": placement})


def test_it_creates_an_order_that_nothing_but_a_unique_field_finds() -> None:
    found = action("saleOrderCreate")

    assert (None, "documents.saleOrder") == (found.subject(EVERYTHING), found.creates(EVERYTHING))
    assert (None, None) == (found.expected, found.shown)
    assert {"number", "remark", "remarkFromPerson", "remarkForPerson"} == set(found.unique["documents.saleOrder"])


@pytest.mark.parametrize(
    ("arguments", "path", "words"),
    [
        ({"goods": [ROW]}, "", "header"),
        ({"header": {}}, "", "goods"),
        (order([]), "goods", "less than 1"),
        (order([ROW] * 1001), "goods", "more than 1000"),
        (order() | {"rows": []}, "", "rows"),
        (order(firm_=FIRM), "header", "firm_"),
        (order(**{"firm ": FIRM}), "header", "firm "),
        (order([ROW | {"amount": 5}]), "goods.0", "amount"),
        (order([{"good": GOOD}]), "goods.0", "qty"),
        (order([ROW, {"qty": 1}]), "goods.1", "by `good` or by `productNum`"),
        (order([{"qty": 1, "good": 0, "productNum": " "}]), "goods.0", "by `good` or by `productNum`"),
        (order([ROW | {"productNum": "7"}]), "goods.0.productNum", "different goods"),
        (order([ROW | {"productNum": "7" * 31}]), "goods.0.productNum", "30 characters"),
        (order([ROW | {"good": UNIT}]), "goods.0.good", "an id of catalogs.units"),
        (order([ROW | {"good": "110"}]), "goods.0.good", "this is 3 digits"),
        (order([ROW | {"unit": GOOD}]), "goods.0.unit", "an id of catalogs.goods"),
        (order([ROW | {"qty": Decimal("1.0001")}]), "goods.0.qty", "more than 3 digits behind"),
        (order([ROW | {"qty": "багато"}]), "goods.0.qty", "a number with a point"),
        (order([ROW | {"price": "1.123456"}]), "goods.0.price", "more than 5 digits behind"),
        (order([ROW | {"price": 10**9}]), "goods.0.price", "more than 9 digits before"),
        (order([ROW | {"price": True}]), "goods.0.price", "is not of types"),
        (order([ROW | {"discount": "0.001"}]), "goods.0.discount", "more than 2 digits behind"),
        (order([ROW | {"vatAmount": "0.001"}]), "goods.0.vatAmount", "more than 2 digits behind"),
        (order([ROW | {"remark": "x" * 151}]), "goods.0.remark", "150"),
        (order(date="2026-13-01 00:00:00"), "header.date", "wall clock"),
        (order(reserveDate="tomorrow"), "header.reserveDate", "wall clock"),
        (order(payBefore="2026-01-01T00:00:00+02:00"), "header.payBefore", "wall clock"),
        (order(number="x" * 11), "header.number", "10"),
        (order(presentation="x" * 81), "header.presentation", "it has 81 characters"),
        (order(presentation={"uk": "x" * 81}), "header.presentation.uk", "it has 81 characters"),
        (order(remark="x" * 151), "header.remark", "150"),
        (order(remarkFromPerson="x" * 101), "header.remarkFromPerson", "100"),
        (order(remarkForPerson="x" * 101), "header.remarkForPerson", "100"),
        (order(details="x" * 101), "header.details", "100"),
        (order(deliveryRemark="x" * 101), "header.deliveryRemark", "100"),
        (order(remark=5), "header.remark", "is not of type"),
        (order(posted="yes"), "header.posted", "is not one of"),
        (order(person=GOOD), "header.person", "write one of catalogs.persons"),
        (order(person="+380671234567"), "header.person", "this is no number"),
        (order(person={"uk": "Тест"}), "header.person", "write the id"),
        (order(storage=GOOD), "header.storage", "catalogs.storages"),
        (order(contract=GOOD), "header.contract", "write one of catalogs.contracts"),
        (order(rate="1.00001"), "header.rate", "more than 4 digits behind"),
        (order(rate=123456), "header.rate", "more than 5 digits before"),
        (order(discountPercent=1000), "header.discountPercent", "more than 3 digits before"),
        (order() | {"placement": {"auto": True}}, "placement", "not valid under any"),
        (order() | {"placement": [{}, {}]}, "placement", "not valid under any"),
        (order() | {"placement": True}, "placement", "not valid under any"),
        (order() | {"deliveryData": {"Ref": "x"}}, "header.deliveryMethod", "which a waybill needs"),
        (delivered({"Ref": "x"}, deliveryMethod="0"), "header.deliveryMethod", "which a waybill needs"),
        (delivered({}), "deliveryData", "propert"),
        (delivered({"Ref": "x", "Weight": 1}), "deliveryData.Weight", "exists already, or is made anew"),
        (delivered({"Ref": " "}), "deliveryData.Ref", "it is empty"),
        (delivered({"Ref": "x" * 37}), "deliveryData.Ref", "36"),
        (delivered({"IntDocNumber": 5}), "deliveryData.IntDocNumber", "is not of type"),
        (delivered({"TTN": "x"}), "deliveryData", "TTN"),
        (delivered({"Weight": "1 kg"}), "deliveryData.Weight", "a number with a point"),
        (delivered({"SeatsAmount": "1,5"}), "deliveryData.SeatsAmount", "a number with a point"),
        (order(person={"id": PERSON, "name": "x"}), "header.person.name", "no other fields"),
        (delivered({"OptionsSeat": [1]}), "deliveryData.OptionsSeat.0", "is not of type"),
    ],
)
def test_a_mistake_is_told_with_its_path(arguments: JsonObject, path: str, words: str) -> None:
    found = mistakes("saleOrderCreate", arguments)

    assert [path] == [each for each, _ in found]
    assert words in found[0][1]


def test_every_mistake_is_told_at_once() -> None:
    wrong = order([ROW, {"qty": "x"}], date="x", person=GOOD) | {"deliveryData": {"Ref": "x", "Cost": 1}}

    assert [
        "header.date",
        "header.person",
        "goods.1",
        "goods.1.qty",
        "header.deliveryMethod",
        "deliveryData.Cost",
    ] == [path for path, _ in mistakes("saleOrderCreate", wrong)]


def fields_of(documented: Mapping[str, Field]) -> st.SearchStrategy[JsonObject]:
    return st.dictionaries(st.sampled_from([*documented]), VALUES, max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    header=fields_of(HEADER),
    goods=st.lists(st.builds(lambda row, qty: {"qty": qty, **row}, fields_of(GOODS), SCALARS), min_size=1, max_size=3),
    delivery=st.none() | st.dictionaries(st.sampled_from([*NEW_WAYBILL, "Ref"]), SCALARS, min_size=1, max_size=3),
)
def test_every_mistake_is_at_a_place_that_was_given_or_is_missing(
    header: JsonObject, goods: Any, delivery: JsonObject | None
) -> None:
    arguments = {"header": header, "goods": goods} | ({"deliveryData": delivery} if delivery else {})
    places = {"header", "goods", "deliveryData", "header.deliveryMethod"}
    places |= {f"header.{name}" for name in header} | {f"deliveryData.{name}" for name in delivery or ()}
    for index, row in enumerate(goods):
        places |= {f"goods.{index}", *(f"goods.{index}.{name}" for name in row)}

    for path, message in mistakes("saleOrderCreate", arguments):
        assert path in places or path.rpartition(".")[0] in places
        assert message
