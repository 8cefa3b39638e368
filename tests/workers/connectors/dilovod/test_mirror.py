"""The whole mirror of Dilovod: objects that are listed without a version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.mirroring import Mirror, mirrored
from workers.connectors.dilovod import cursors

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database

ORDERS = "documents.saleOrder"


def _knobs(objects: int = 6) -> dict[str, Any]:
    return {"objects": objects, "options": {"resources": [ORDERS]}}


def _without_version(mirror: Mirror, count: int) -> None:
    for order in mirror.sandboxes["dilovod"].books.of(ORDERS)[:count]:
        order.header["version"] = ""


def _change_a_line_of_each(mirror: Mirror) -> None:
    """Without a webhook. Of an object with a version that rises."""
    books = mirror.sandboxes["dilovod"].books
    for order in books.of(ORDERS):
        order.parts["tpGoods"][0]["remark"] = "changed"
        if order.header["version"]:
            order.header["version"] = str(int(order.header["version"]) + 1)


@pytest.mark.parametrize("unversioned", [1, 3])
def test_a_changed_line_whose_webhook_was_lost_is_found_in_every_object(
    sqlite: Database, tmp_path: Path, unversioned: int
) -> None:
    with mirrored(sqlite, tmp_path, dilovod=_knobs()) as mirror:
        _without_version(mirror, unversioned)
        mirror.work()
        assert {} == mirror.differences()
        _change_a_line_of_each(mirror)
        mirror.catch_up()
        result = mirror.status()[ORDERS]
        assert ({}, None, 0) == (mirror.differences(), result.warning, result.pending)
        sandbox = mirror.sandboxes["dilovod"]
        sandbox.requests.clear()
        mirror.catch_up()
        assert unversioned == sandbox.requests.count("getObject")


def test_a_resource_with_too_many_such_objects_says_so_and_is_not_complete(sqlite: Database, tmp_path: Path) -> None:
    many = cursors.MAX_UNVERSIONED + 1
    with mirrored(sqlite, tmp_path, dilovod=_knobs(many + 20)) as mirror:
        _without_version(mirror, many)
        mirror.work()
        result = mirror.status()[ORDERS]
        assert ({}, None) == (mirror.differences(), result.complete_as_of)
        assert f"lists {many} objects without a version" in str(result.warning)
