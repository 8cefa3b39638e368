"""The decoding of `getMetadata`, in all forms that Dilovod is known to send."""

from __future__ import annotations

from typing import Any

import pytest

from models.values import Kind
from workers.connectors.dilovod import metadata


@pytest.mark.parametrize(
    ("value_type", "fields"),
    [
        ("datetime", {"f": Kind.TIMESTAMP}),
        ("varchar (150)", {"f": Kind.TEXT}),
        ("decimal (14:5)", {"f": Kind.NUMBER}),
        ("decimal(14:5)", {"f": Kind.NUMBER}),
        ("boolean", {"f": Kind.BOOLEAN}),
        ("multiLangVarchar (80) (ru,uk)", {"f.uk": Kind.TEXT, "f.ru": Kind.TEXT}),
        ("catalogs.persons", {"f.id": Kind.TEXT, "f.pr": Kind.TEXT}),
        ("catalogs.employees, catalogs.persons", {"f.id": Kind.TEXT, "f.pr": Kind.TEXT}),
        (["documents.sale", "documents.saleOrder"], {"f.id": Kind.TEXT, "f.pr": Kind.TEXT}),
        ({"type": "decimal", "length": "14:5"}, {"f": Kind.NUMBER}),
        ({"0": "catalogs.persons"}, {"f.id": Kind.TEXT, "f.pr": Kind.TEXT}),
        ({"catalogs.persons": []}, {"f.id": Kind.TEXT, "f.pr": Kind.TEXT}),
        ([{"name": "varchar", "length": 30}], {"f": Kind.TEXT}),
        (["varchar", "catalogs.persons"], {}),
        ("somethingNew", {}),
        (7, {}),
        (None, {}),
        ([], {}),
    ],
)
def test_a_header_field_has_the_kind_that_its_types_agree_on(value_type: Any, fields: dict[str, Kind]) -> None:
    shape = metadata.object_shape({"reqs": {"f": {"valueType": value_type}}})

    assert {"": fields | {"id.id": Kind.TEXT, "id.pr": Kind.TEXT}} == shape


@pytest.mark.parametrize("reqs", [[], {}, None, "none", 7])
def test_an_object_without_fields_still_has_its_id(reqs: Any) -> None:
    assert {"": {"id.id": Kind.TEXT, "id.pr": Kind.TEXT}} == metadata.object_shape({"reqs": reqs})


@pytest.mark.parametrize(
    "parts",
    [
        {"tpGoods": {"reqs": {"good": {"valueType": "catalogs.goods"}}}},
        {"tpGoods": {"good": {"valueType": "catalogs.goods"}}},
        [{"name": "tpGoods", "reqs": [{"name": "good", "valueType": "catalogs.goods"}]}],
    ],
)
def test_a_link_in_a_part_is_flat(parts: Any) -> None:
    fields = {"good": Kind.TEXT, "good__pr": Kind.TEXT, "id": Kind.TEXT, "rowNum": Kind.NUMBER}

    assert fields == metadata.object_shape({"tableParts": parts})["tpGoods"]


@pytest.mark.parametrize(
    "dimensions",
    [
        {"good": {"valueType": "catalogs.goods"}},
        {"good": "catalogs.goods"},
        [{"name": "good", "valueType": "catalogs.goods"}],
    ],
)
def test_a_register_has_its_dimensions_and_resources(dimensions: Any) -> None:
    described = {"dimensions": dimensions, "resources": {"qty": {"valueType": {"type": "decimal"}}}}

    assert {"": {"good": Kind.TEXT, "good__pr": Kind.TEXT, "qty": Kind.NUMBER}} == metadata.register_shape(described)


def test_dimensions_may_be_a_list_of_names() -> None:
    assert ["good", "firm"] == list(metadata.dimensions({"dimensions": ["good", "firm", ""]}))
