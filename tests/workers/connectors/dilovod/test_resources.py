"""Dilovod's resources, and the layout of their objects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.workers.connectors.dilovod.conftest import RESOURCES, made_options
from workers.connectors.dilovod.resources import project, resources


def test_each_configured_name_is_a_resource() -> None:
    assert tuple(resource.name for resource in resources(made_options())) == RESOURCES


def test_objects_have_point_reads_and_full_syncs_every_reconcile_interval() -> None:
    (goods,) = resources(made_options(resources=["catalogs.goods"], reconcile_every="2h"))

    assert (goods.fetchable, goods.register, goods.unpaged, goods.every) == (True, False, False, None)
    assert (goods.full_every, goods.bound) == (timedelta(hours=2), timedelta(hours=2))


@pytest.mark.parametrize("name", ["balanceRegisters.goods", "informationRegisters.x", "accumulationRegisters.x"])
def test_registers_are_read_whole_by_every_poll(name: str) -> None:
    (register,) = resources(made_options(resources=[name], every="7m"))

    assert (register.fetchable, register.register, register.unpaged, register.every) == (False, True, True, None)
    assert (register.full_every, register.bound) == (timedelta(minutes=7), timedelta(minutes=7))


def test_header_fields_keep_their_names_and_misc_is_left_out() -> None:
    header = {"id": {"id": "1", "pr": "a"}, "name": {"ru": "x", "uk": "y"}, "delMark": "0"}

    assert header == project({"header": header, "misc": {"more": 1}})


def test_a_table_part_becomes_a_list_ordered_by_row_number() -> None:
    part = {
        "105": {"id": "105", "rowNum": "10"},
        "107": {"id": "107", "rowNum": "2"},
        "106": {"id": "106", "rowNum": "2"},
    }
    raw = {"header": {"number": "7"}, "tableParts": {"tpGoods": part}}

    assert [part["106"], part["107"], part["105"]] == project(raw)["tpGoods"]


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        ([], []),
        ({}, []),
        (None, []),
        ([{"rowNum": 2, "id": 5}, {"rowNum": 1, "id": 9}], [{"rowNum": 1, "id": 9}, {"rowNum": 2, "id": 5}]),
        ({"9": {"rowNum": "1"}}, [{"id": "9", "rowNum": "1"}]),
        ({"9": "odd"}, [{"id": "9", "value": "odd"}]),
        ({"9": {"id": "9"}, "8": {"id": "8", "rowNum": "x"}}, [{"id": "8", "rowNum": "x"}, {"id": "9"}]),
    ],
)
def test_a_table_part_in_any_form_is_a_list(part: Any, rows: list[Any]) -> None:
    assert rows == project({"header": {}, "tableParts": {"tpGoods": part}})["tpGoods"]


@pytest.mark.parametrize("parts", [[], None])
def test_empty_table_parts_add_no_fields(parts: Any) -> None:
    assert {"code": "1"} == project({"header": {"code": "1"}, "tableParts": parts})
