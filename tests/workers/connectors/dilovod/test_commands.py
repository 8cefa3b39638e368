"""What `saveObject` and `setDelMark` take, and what each mistake is told."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workers.connectors.dilovod.conftest import made_options
from workers.connectors.commands import GONE, TOKEN_LENGTH
from workers.connectors.contract import ObjectRef
from workers.connectors.dilovod import commands

if TYPE_CHECKING:
    from models.values import JsonObject
    from workers.connectors.commands import Action

GOOD, ORDER, UNIT, PERSON = "1100300000001001", "1109100000001001", "1103600000001001", "1100100000001001"
STRANGE = "1106500000001001"
"""An id of a kind that the table lacks."""


def action(name: str, **given: Any) -> Action:
    return {each.name: each for each in commands.actions(made_options(**given))}[name]


def mistakes(name: str, arguments: JsonObject, **given: Any) -> list[tuple[str, str]]:
    """(path, message) of each violation, as the core finds them: the schema's, or if it fits the rules'."""
    found = action(name, **given)
    validator = jsonschema_rs.Draft202012Validator(found.schema)
    schema = [(".".join(map(str, each.instance_path)), each.message) for each in validator.iter_errors(arguments)]
    return schema or [(each.path, each.message) for each in found.check(arguments)]


def saved(id_: Any, **header: Any) -> JsonObject:
    return {"header": {"id": id_, **header}}


def row(**fields: Any) -> JsonObject:
    return {"header": {"id": ORDER}, "tableParts": {"tpGoods": [{"good": GOOD, "qty": 1}, fields]}}


@pytest.mark.parametrize("name", ["saveObject", "setDelMark", "saleOrderCreate"])
def test_an_action_accepts_its_example_and_explains_itself(name: str) -> None:
    found = action(name)

    jsonschema_rs.meta.validate(found.schema)
    assert [] == mistakes(name, found.example)
    assert found.title
    assert found.rules
    assert f"Dilovod help, API Dilovod, {name}" == found.source
    assert [] == undescribed(found.schema)


def undescribed(schema: JsonObject, path: str = "") -> list[str]:
    """The documented arguments without a description."""
    found = []
    for name, each in schema.get("properties", {}).items():
        found += [f"{path}{name}"] if "description" not in each and path.count(".") < 2 else []
        found += undescribed(each, f"{path}{name}.") + undescribed(each.get("items", {}), f"{path}{name}.")
    return [each for each in found if not each.endswith(("id.id", "id.pr"))]


@pytest.mark.parametrize(
    "arguments",
    [
        saved("catalogs.goods", name={"uk": "Туя"}, parent="0", weight=Decimal("1.5"), isGroup=False),
        saved("catalogs.goods", name="Туя"),
        saved(GOOD, parent={"id": "1100300000001002", "pr": "Саджанці"}, mainUnit=None),
        saved({"id": GOOD, "pr": "Туя"}, productNum="7"),
        saved(int(GOOD), productNum=7, delMark=0),
        saved("informationRegisters.currencyRates", date="2013-03-13", currencyFrom=1101200000001001, rate=25),
        saved(ORDER) | {"saveType": 1},
        saved(ORDER) | {"saveType": "2"},
        saved(ORDER, date="2026-01-31 23:59:59", supplyDate="0000-00-00 00:00:00"),
        saved(ORDER) | {"tableParts": {"tpGoods": [{"rowNum": 1, "good": GOOD, "qty": "3.000", "price": 1}]}},
        saved(STRANGE, remark="x") | {"objectName": "documents.goodMoving"},
        saved(STRANGE, code="482") | {"objectName": "informationRegisters.barCodes"},
        saved(GOOD, code="1") | {"objectName": "catalogs.goods"},
        saved("documents.goodMoving", remark="x", loyaltyPoints="17.5"),
    ],
)
def test_save_object_takes_every_documented_form(arguments: JsonObject) -> None:
    assert [] == mistakes("saveObject", arguments)


@pytest.mark.parametrize(
    ("arguments", "path", "words"),
    [
        ({}, "", "header"),
        ({"header": {"name": "x"}}, "header", "id"),
        (saved("catalogs.goods", name="x") | {"more": 1}, "", "more"),
        (saved("", name="x"), "header.id", "for a new one its kind"),
        (saved("0", name="x"), "header.id", "for a new one its kind"),
        (saved(1100300000001, name="x"), "header.id", "has 16 digits"),
        (saved(f"{GOOD}1", name="x"), "header.id", "this has 17"),
        (saved({"id": "11003"}, name="x"), "header.id", "this has 5"),
        (saved({"id": GOOD, "kind": "x"}, name="x"), "header.id", "kind"),
        (saved(True, name="x"), "header.id", "is not of types"),
        (saved("goods", name="x"), "header.id", '"goods" is no kind of object'),
        (saved("catalog.goods", name="x"), "header.id", 'did you mean "catalogs.goods"'),
        (saved("catalogs.goods.tpGoods", name="x"), "header.id", "no kind of object"),
        (saved("balanceRegisters.goods", qty=1), "header.id", "only informationRegisters"),
        (saved("accumulationRegisters.saleIncomes", qty=1), "header.id", "only informationRegisters"),
        (saved("catalogs.goods"), "header", "name a field"),
        (saved(ORDER), "header", "name a field"),
        (saved(ORDER) | {"saveType": 0}, "header", "name a field"),
        (saved(ORDER) | {"tableParts": {}}, "header", "name a field"),
        (saved(ORDER, remark="x") | {"saveType": 3}, "saveType", "is not one of"),
        (saved(GOOD, code="x") | {"saveType": 1}, "saveType", "only documents"),
        (saved("informationRegisters.barCodes", code="1") | {"saveType": 0}, "saveType", "only documents"),
        (saved("informationRegisters.barCodes", code="1") | {"tableParts": {"tp": []}}, "tableParts", "no table parts"),
        (saved(STRANGE, remark="x"), "objectName", f"add the kind of {STRANGE}"),
        (saved(STRANGE, remark="x") | {"objectName": "goodMoving"}, "objectName", "no kind of object"),
        (saved(GOOD, code="x") | {"objectName": "documents.saleOrder"}, "header.id", "but of catalogs.goods"),
        (saved(STRANGE, code="x") | {"objectName": "catalogs.goods"}, "header.id", "no id of catalogs.goods"),
        (saved("catalogs.goods", code="x") | {"objectName": "catalogs.units"}, "objectName", "remove it"),
        (saved(GOOD, delMark=1), "header.delMark", "use setDelMark"),
        (saved(GOOD, delMark=True), "header.delMark", "use setDelMark"),
        (saved(GOOD, parent=UNIT), "header.parent", "this is an id of catalogs.units"),
        (saved(GOOD, parent="110"), "header.parent", "this is 3 digits"),
        (saved(GOOD, mainUnit={"id": "шт"}), "header.mainUnit", "this is no number"),
        (saved(GOOD, mainUnit={"id": UNIT, "name": "шт"}), "header.mainUnit.name", "no other fields"),
        (saved(GOOD, name={}), "header.name", "a text by language"),
        (saved(GOOD, name={"uk": 5}), "header.name", "a text by language"),
        (saved(GOOD, name={"ukrainian": "x"}), "header.name", "a text by language"),
        (saved(GOOD, name=["x"]), "header.name", "is not of types"),
        (saved(GOOD, **{"name ": "x"}), "header", "name "),
        (saved("documents.goodMoving", date="31.01.2026"), "header.date", "Dilovod's wall clock"),
        (saved("documents.goodMoving", date="2026-02-30"), "header.date", "Dilovod's wall clock"),
        (saved("documents.goodMoving", payBefore="2026-01-31T10:00:00"), "header.payBefore", "wall clock"),
        (saved("documents.goodMoving", shipDate="2026-01-31 10:00:00Z"), "header.shipDate", "wall clock"),
        (saved("documents.goodMoving", date=20260131), "header.date", "wall clock"),
        (saved(ORDER, date="2026-01-31 25:00:00"), "header.date", "wall clock"),
        (saved(ORDER, remark="x" * 151), "header.remark", "it has 151 characters; Dilovod takes 150"),
        (saved(ORDER, person=GOOD), "header.person", "this is an id of catalogs.goods"),
        (saved(ORDER, rate="1.23456"), "header.rate", "more than 4 digits behind the point"),
        (saved(ORDER, posted="yes"), "header.posted", "true or false"),
        (saved(ORDER, posted={}), "header.posted", "true or false"),
        (saved(ORDER, posted={"id": "1"}), "header.posted", "true or false"),
        (row(good=GOOD, qty="1,5"), "tableParts.tpGoods.1.qty", "a number with a point"),
        (row(good=GOOD, qty=Decimal("1.2345")), "tableParts.tpGoods.1.qty", "more than 3 digits behind"),
        (row(good=GOOD, qty=10**9), "tableParts.tpGoods.1.qty", "more than 9 digits before"),
        (row(good=UNIT, qty=1), "tableParts.tpGoods.1.good", "an id of catalogs.units"),
        (row(good=GOOD, storage={"x": 1}), "tableParts.tpGoods.1.storage", "a text by language"),
        (row(good=GOOD, qty=[1]), "tableParts.tpGoods.1.qty", "is not of types"),
        (saved(ORDER) | {"tableParts": {"tpGoods": {"1": {"good": GOOD}}}}, "tableParts.tpGoods", "array"),
        (saved(ORDER) | {"tableParts": {"tpGoods": [{"qty": 1}] * 1001}}, "tableParts.tpGoods", "more than 1000"),
    ],
)
def test_a_mistake_in_save_object_is_told_with_its_path(arguments: JsonObject, path: str, words: str) -> None:
    found = mistakes("saveObject", arguments)

    assert [path] == [each for each, _ in found]
    assert words in found[0][1]


@pytest.mark.parametrize(
    ("arguments", "path", "words"),
    [
        ({}, "", "id"),
        ({"id": "1"}, "id", "16 digits"),
        ({"id": "catalogs.goods"}, "id", "16 digits"),
        ({"id": None}, "id", "is not of types"),
        ({"id": GOOD, "forceDelete": 1}, "", "forceDelete"),
        ({"id": STRANGE}, "objectName", "add the kind"),
        ({"id": STRANGE, "objectName": "informationRegisters.barCodes"}, "objectName", "no registers"),
        ({"id": GOOD, "objectName": "catalogs.units"}, "id", "but of catalogs.goods"),
    ],
)
def test_a_mistake_in_set_del_mark_is_told_with_its_path(arguments: JsonObject, path: str, words: str) -> None:
    found = mistakes("setDelMark", arguments)

    assert [path] == [each for each, _ in found]
    assert words in found[0][1]


@pytest.mark.parametrize("id_", [GOOD, int(GOOD), {"id": GOOD, "pr": "Туя"}, {"id": int(GOOD)}])
def test_an_object_is_the_same_in_each_form_of_its_id(id_: Any) -> None:
    assert [] == mistakes("setDelMark", {"id": id_})
    for name, arguments in (("setDelMark", {"id": id_}), ("saveObject", saved(id_, code="1"))):
        assert ObjectRef("catalogs.goods", GOOD) == action(name).subject(arguments)
        assert action(name).creates(arguments) is None


def test_what_is_written_is_named_by_the_kind_the_id_or_the_command() -> None:
    save = action("saveObject")
    register = saved("informationRegisters.goodsPrices", price=5)
    record = saved(STRANGE, code="482") | {"objectName": "informationRegisters.barCodes"}
    moving = {"objectName": "documents.goodMoving"}

    assert (None, "catalogs.goods") == (save.subject(saved("catalogs.goods")), save.creates(saved("catalogs.goods")))
    assert ObjectRef("informationRegisters.goodsPrices", "") == save.subject(register)
    assert ObjectRef("informationRegisters.barCodes", "") == save.subject(record)
    assert [None, None] == [save.creates(register), save.creates(record)]
    assert ObjectRef("documents.goodMoving", STRANGE) == save.subject(saved(STRANGE) | moving)
    assert ObjectRef("documents.goodMoving", STRANGE) == action("setDelMark").subject({"id": STRANGE} | moving)


def test_only_a_mark_may_change_other_objects_and_leaves_nothing() -> None:
    assert ["setDelMark"] == [each.name for each in commands.actions(made_options()) if each.may_change_others]
    mark = action("setDelMark")

    assert mark.expected is not None
    assert mark.shown is not None
    assert GONE is mark.expected({"id": GOOD})
    assert {"header": {"delMark": "0"}} == mark.shown({"id": GOOD}, {"header": {"delMark": "0"}})


def test_a_new_object_is_found_by_the_fields_of_its_kind() -> None:
    unique = action("saveObject", unique={"documents.goodMoving": "remark"}).unique

    assert {"code", "productNum"} == set(unique["catalogs.goods"])
    assert {"code", "remark"} == set(unique["catalogs.persons"])
    assert {"number", "remark"} == set(unique["documents.goodMoving"])
    assert {"number", "remark", "remarkFromPerson", "remarkForPerson"} == set(unique["documents.saleOrder"])
    assert "balanceRegisters.goods" not in unique
    for fields in unique.values():
        for name, field in fields.items():
            assert ("header", name) == field.path
            assert field.longest >= TOKEN_LENGTH or not field.appends


@pytest.mark.parametrize(
    ("name", "arguments", "unique", "expected"),
    [
        ("saveObject", saved("catalogs.goods", name="x"), {"catalogs.goods": "code"}, ["header.code"]),
        ("saveObject", saved("catalogs.goods", name="x", code=""), {"catalogs.goods": "code"}, ["header.code"]),
        ("saveObject", saved("catalogs.goods", code="5"), {"catalogs.goods": "code"}, []),
        ("saveObject", saved("catalogs.goods", name="x"), {"catalogs.goods": "productNum"}, []),
        ("saveObject", saved(GOOD, name="x"), {"catalogs.goods": "code"}, []),
        ("saveObject", saved("documents.saleOrder", remark="x"), {"documents.saleOrder": "number"}, ["header.number"]),
        ("saleOrderCreate", {"header": {}, "goods": [{"good": GOOD, "qty": 1}]}, {"documents.saleOrder": "remark"}, []),
        (
            "saleOrderCreate",
            {"header": {}, "goods": [{"good": GOOD, "qty": 1}]},
            {"documents.saleOrder": "number"},
            ["header.number"],
        ),
    ],
)
def test_a_unique_field_too_short_for_a_token_has_to_be_given(
    name: str, arguments: JsonObject, unique: dict[str, str], expected: list[str]
) -> None:
    assert expected == [path for path, _ in mistakes(name, arguments, unique=unique)]


TEXTS = ["", " x ", "1.50", "0", "2026-01-31", "2026-02-30", "[", '{"a": 1}', "a\r\nb", GOOD]
SCALARS = st.sampled_from([None, True, False, 0, -1, 10**17, Decimal("1.5"), Decimal("1E+40"), *TEXTS])
IDS = st.sampled_from([GOOD, int(ORDER), {"id": PERSON}, STRANGE, "catalogs.goods", ORDER, "documents.saleOrder", ""])
NAMES = st.sampled_from(["name", "date", "parent", "person", "delMark", "remark", "good", "qty", "rowNum", "posted"])
VALUES = SCALARS | IDS | st.dictionaries(st.sampled_from(["id", "pr", "uk", "ru"]), SCALARS, max_size=2)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=4)
ROWS = st.lists(FIELDS, max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    header=st.builds(lambda id_, fields: fields | {"id": id_}, IDS, FIELDS),
    more=st.fixed_dictionaries(
        {},
        optional={
            "saveType": st.sampled_from([0, 1, 2, "1"]),
            "tableParts": st.dictionaries(st.sampled_from(["tpGoods", "tpOther"]), ROWS),
            "objectName": st.sampled_from(["documents.goodMoving", "informationRegisters.barCodes", "goods"]),
        },
    ),
)
def test_whatever_fits_the_schema_is_checked_and_what_is_accepted_can_be_compared(
    header: JsonObject, more: JsonObject
) -> None:
    arguments = {"header": header} | more
    save = action("saveObject")
    if mistakes("saveObject", arguments):
        return
    parts = more.get("tableParts", {})
    found = {part: {str(index): row for index, row in enumerate(rows)} for part, rows in parts.items()}
    expected, shown = compared(arguments, {"header": header, "tableParts": found})
    assert (save.subject(arguments) is None) == (save.creates(arguments) is not None)
    assert {*shown["header"]} - {"posted"} == {*expected["header"]} - {"posted"}
    if "saveType" not in more and not any("rowNum" in row for rows in parts.values() for row in rows):
        assert expected == shown


# Whether a change has arrived: what is not compared, and what is.


def compared(arguments: JsonObject, found: JsonObject) -> tuple[Any, Any]:
    save = action("saveObject")
    assert save.expected is not None
    assert save.shown is not None
    return save.expected(arguments), save.shown(arguments, found)


def test_what_a_document_computes_is_not_compared() -> None:
    arguments = saved(ORDER, remark="x", amountCur=5, presentation="y", version=9)
    found = {"header": {"remark": "x", "amountCur": "7.00", "presentation": {"uk": "z"}, "version": "3"}}

    expected, shown = compared(arguments, found)

    assert expected == shown == {"header": {"remark": "x"}, "tableParts": {}}


def test_a_name_that_a_person_gave_a_document_is_compared() -> None:
    expected, shown = compared(
        saved(ORDER, presentation="y", userPresentation=True),
        {"header": {"presentation": {"uk": "z", "ru": "z"}, "userPresentation": "1"}},
    )

    assert {"presentation": "y", "userPresentation": "1"} == expected["header"]
    assert {"presentation": {"uk": "z", "ru": "z"}, "userPresentation": "1"} == shown["header"]


def test_a_change_of_computed_fields_alone_is_compared_all_the_same() -> None:
    expected, shown = compared(saved(ORDER, amountCur=5), {"header": {"amountCur": "7.00"}})

    assert expected != shown


@pytest.mark.parametrize(("save_type", "posted"), [(1, "1"), ("1", "1"), (2, "0")])
def test_posting_shows_in_posted(save_type: Any, posted: str) -> None:
    arguments = saved(ORDER) | {"saveType": save_type}
    other = "0" if posted == "1" else "1"

    assert {"posted": posted} == compared(arguments, {"header": {"posted": posted}})[0]["header"]
    assert {"posted": other} == compared(arguments, {"header": {"posted": other}})[1]["header"]


def test_a_mark_that_saving_does_not_clear_is_found_out() -> None:
    expected, shown = compared(saved(GOOD, delMark=0), {"header": {"delMark": "1"}})

    assert ({"delMark": "0"}, {"delMark": "1"}) == (expected["header"], shown["header"])


def test_rows_are_compared_in_their_order_whatever_their_ids() -> None:
    sent = [{"rowNum": 2, "good": UNIT, "qty": 2}, {"rowNum": 1, "good": GOOD, "qty": 1, "amountCur": 9}]
    rows = {
        "70": {"id": "70", "rowNum": "1", "good": GOOD, "good__pr": "Туя", "qty": "1.000", "amountCur": "1.00"},
        "71": {"id": "71", "rowNum": "2", "good": UNIT, "good__pr": "шт", "qty": "2.000", "amountCur": "2.00"},
    }
    arguments = saved(ORDER) | {"tableParts": {"tpGoods": sent}}

    expected, shown = compared(arguments, {"header": {}, "tableParts": {"tpGoods": rows}})
    assert [{"good": GOOD, "qty": "1"}, {"good": UNIT, "qty": "2"}] == expected["tableParts"]["tpGoods"]
    assert expected == shown
    assert expected == compared(arguments, {"header": {}, "tableParts": {"tpGoods": list(rows.values())}})[1]
    different: list[Any] = [
        {},
        [],
        {"70": rows["70"]},
        {**rows, "72": {"id": "72", "rowNum": "3", "good": GOOD, "qty": "1.000"}},
        {"70": rows["70"] | {"rowNum": "2"}, "71": rows["71"] | {"rowNum": "1"}},
        {"70": rows["70"] | {"qty": "1.001"}, "71": rows["71"]},
    ]
    for others in different:
        assert expected != compared(arguments, {"header": {}, "tableParts": {"tpGoods": others}})[1]
    assert expected != compared(arguments, {"header": {}})[1]


def test_row_numbers_of_any_length_give_an_order() -> None:
    numbers = ["9" * 5000, "010", "9"]
    arguments = saved(ORDER) | {"tableParts": {"tpGoods": [{"rowNum": each, "good": each} for each in numbers]}}

    expected, _ = compared(arguments, {"header": {}})
    assert ["9", "010", "9" * 5000] == [row["good"] for row in expected["tableParts"]["tpGoods"]]


@pytest.mark.parametrize("part", [[], {}, None])
def test_an_emptied_part_is_shown_empty(part: Any) -> None:
    arguments = saved(ORDER) | {"tableParts": {"tpGoods": []}}

    expected, shown = compared(arguments, {"header": {}, "tableParts": {"tpGoods": part}})

    assert expected == shown
    assert [] == mistakes("saveObject", arguments)


def test_a_field_that_the_object_lacks_is_a_difference() -> None:
    expected, shown = compared(saved(GOOD, remark=""), {"header": {"id": GOOD}})

    assert ({"remark": ""}, {}) == (expected["header"], shown["header"])


def test_only_a_changed_objects_mark_needs_proof() -> None:
    save = {each.name: each for each in commands.actions(made_options())}["saveObject"]
    assert save.needs_proof({"header": {"id": "1100300000001001", "delMark": 0}})
    assert not save.needs_proof({"header": {"id": "1100300000001001", "name": "x"}})
    assert not save.needs_proof({"header": {"id": "catalogs.goods", "name": "x", "delMark": 0}}), (
        "it cannot be read back"
    )
