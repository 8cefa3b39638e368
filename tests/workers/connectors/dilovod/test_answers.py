"""Errors, which Dilovod sends as HTTP 200, and the decoding of answers."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from workers.connectors.dilovod import answers
from workers.errors import BusyError, RefusedError, SetAside, TryLater, VendorError

ORDER = "1109100000001038"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": "bad key"}, SetAside),
        ({"error": "Bad Key"}, SetAside),
        ({"error": "Access to catalogs.goods denied, check role settings", "clientMessages": []}, SetAside),
        ({"error": "multithreadApiSession multithread api request blocked"}, BusyError),
        ({"error": f"object with id {ORDER} not found"}, answers.GoneError),
        ({"error": "object locked by user"}, TryLater),
        ({"error": "applicationLayerError <html><b>no</b></html>"}, answers.UnknownError),
        ({"error": "emptyRequiredReq field (Label)|field2 (Label2)"}, answers.UnknownError),
        ({"status": "error", "data": [], "errorMessage": "Bad value type for column person"}, answers.UnknownError),
        ({"status": "error", "data": []}, answers.UnknownError),
        ({"error": {"code": 5}}, answers.UnknownError),
    ],
)
def test_each_error_text_raises_its_error(answer: Any, error: type[VendorError]) -> None:
    with pytest.raises(VendorError) as raised:
        answers.raise_for_error(answer)

    assert error is type(raised.value)


@pytest.mark.parametrize("answer", [[], {}, "ok", 5, None, {"error": None}, {"header": {}}, {"status": "success"}])
def test_an_answer_that_is_not_an_error_is_returned(answer: Any) -> None:
    assert answer == answers.raise_for_error(answer)


@pytest.mark.parametrize("text", ["bad key", "Access to catalogs.goods denied, check role settings"])
def test_a_refusal_of_every_object_parks_the_whole_resource(text: str) -> None:
    with pytest.raises(SetAside) as raised:
        answers.raise_for_error({"error": text})

    assert raised.value.whole_resource
    assert text == str(raised.value)


def test_a_refusal_that_names_one_object_parks_no_resource_and_is_tried_again_seldom() -> None:
    with pytest.raises(TryLater) as raised:
        answers.raise_for_error({"error": f"Access to object {ORDER} denied"})

    assert (timedelta(hours=1), False, True) == (raised.value.after, raised.value.closes_gate, raised.value.refused)


def test_the_multithread_answer_is_retried_after_30_seconds() -> None:
    with pytest.raises(BusyError) as raised:
        answers.raise_for_error({"error": "multithreadApiSession multithread api request blocked"})

    assert timedelta(seconds=30) == raised.value.after


def test_markup_entities_and_the_key_are_removed_from_error_texts() -> None:
    text = "<html><style>b{}</style><b>Не&nbsp;збережено</b><br>k3y &lt;1&gt;\x00</html>"

    with pytest.raises(answers.UnknownError) as raised:
        answers.raise_for_error({"error": text}, secrets=["", "k3y"])

    assert str(raised.value) == "Не збережено *** <1>\\u0000"


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        ([], []),
        ([{"id": "1", "id__pr": "a"}], [{"id": "1", "id__pr": "a"}]),
        ({"columns": ["a", "b"], "data": [["1", None]]}, [{"a": "1", "b": None}]),
        ({"columns": ["a"], "data": []}, []),
    ],
)
def test_both_forms_of_an_answer_decode_to_rows(answer: Any, rows: list[Any]) -> None:
    assert rows == answers.rows(answer)


@pytest.mark.parametrize(
    ("answer", "described"),
    [
        ({"cleartext": "s3cret", "header": {}}, "an object with cleartext, header"),
        ({}, "an empty object"),
        (["s3cret"], "a list"),
        ("s3cret", "a text"),
        (5, "a number"),
        (Decimal("5.1"), "a number"),
        (True, "true or false"),
        (None, "null"),
    ],
)
def test_the_error_for_a_malformed_answer_shows_its_type_and_no_values(answer: Any, described: str) -> None:
    assert f"malformed: a list was expected, not {described}" == str(answers.malformed_error(answer, "a list"))


def test_the_error_for_another_object_shows_only_its_id() -> None:
    another = {"header": {"id": {"id": "1109100000001039", "pr": "s3cret"}}}
    with pytest.raises(TryLater, match=f"asked for {ORDER}, the answer describes 1109100000001039$"):
        answers.header(another, ORDER)
    with pytest.raises(TryLater, match=r"describes an object with pr$"):
        answers.header({"header": {"id": {"pr": "s3cret"}}}, ORDER)


@pytest.mark.parametrize(
    "answer",
    [{}, "ok", 5, None, ["ok"], [[]], {"columns": ["a"], "data": [["1", "2"]]}, {"columns": ["a"], "data": ["1"]}],
)
def test_an_answer_that_is_not_a_list_of_rows_is_tried_later(answer: Any) -> None:
    with pytest.raises(TryLater, match="malformed"):
        answers.rows(answer)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "ok",
        5,
        None,
        {},
        {"header": []},
        {"header": {}},
        {"header": {"id": {"id": "1109100000001039", "pr": "another"}}},
        {"header": {"id": {"id": ORDER, "pr": "x"}}, "tableParts": "tpGoods"},
        {"header": {"id": ORDER}, "tableParts": [{"1": {}}]},
        {"header": {"id": ORDER}, "tableParts": {"tpGoods": "row"}},
    ],
)
def test_an_answer_that_is_not_the_requested_object_is_tried_later(answer: Any) -> None:
    with pytest.raises(TryLater, match="malformed"):
        answers.header(answer, ORDER)


@pytest.mark.parametrize("key", [{"id": ORDER, "pr": None}, {"id": int(ORDER)}, ORDER, int(ORDER)])
def test_an_id_may_be_a_text_or_a_number_or_in_a_link(key: Any) -> None:
    assert {"id": key} == answers.header({"header": {"id": key}}, ORDER)


@pytest.mark.parametrize("parts", [[], {}, None, False, {"tpGoods": []}, {"tpGoods": None}, {"tpGoods": [{"id": 1}]}])
def test_empty_parts_are_accepted_in_any_form(parts: Any) -> None:
    assert {"id": ORDER} == answers.header({"header": {"id": ORDER}, "tableParts": parts}, ORDER)


@pytest.mark.parametrize(
    ("value", "marked"), [("1", True), (1, True), (True, True), ("0", False), (0, False), (None, False), ("", False)]
)
def test_a_deletion_mark_is_decoded_in_any_form(value: Any, *, marked: bool) -> None:
    assert marked == answers.is_marked(value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": "bad key"}, SetAside),
        ({"error": "Access to catalogs.goods denied, check role settings"}, SetAside),
        ({"error": f"Access to object {ORDER} denied"}, TryLater),
        ({"error": "multithreadApiSession multithread api request blocked"}, BusyError),
        ({"error": "Object Locked by user"}, TryLater),
        ({"error": f"object with id {ORDER} not found"}, RefusedError),
        ({"error": "emptyRequiredReq"}, RefusedError),
        ("object locked by user", TryLater),
        ("bad key", SetAside),
        ("nothing was saved", RefusedError),
        ({"clientMessages": [{"type": "error", "data": "x"}]}, RefusedError),
    ],
)
def test_each_error_text_of_a_write_raises_its_error(answer: Any, error: type[VendorError]) -> None:
    with pytest.raises(VendorError) as raised:
        answers.raise_for_write_error(answer)

    assert error is type(raised.value)


@pytest.mark.parametrize(
    "answer", ["ok", " OK ", ORDER, "", [], {}, 5, None, {"result": "ok"}, {"id": ORDER}, {"clientMessages": [5]}]
)
def test_an_answer_of_a_write_that_is_not_an_error_is_returned(answer: Any) -> None:
    assert answer == answers.raise_for_write_error(answer)
