"""The vendor's metadata: when it is fetched, and the columns that its declarations make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from tests.workers.conftest import Connect


def test_a_declared_field_has_its_column_before_any_object_has_it(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.vendor.objects["goods"]["1"] = {"v": 1}
        six.enqueue("1")
        six.sync()
        assert six.row("1")["declared"] is None


def test_a_new_field_has_the_metadata_asked_again_once_and_gets_its_declared_type(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.work()
        six.clock.advance(minutes=2)
        six.vendor.asked.clear()
        six.vendor.objects["goods"] = {key: {"declared": "a", "fresh": "17.50"} for key in "12"}
        six.vendor.instead["goods/metadata"] = [(200, {}, '{"": {"declared": "text", "fresh": "number"}}')]
        six.enqueue("1", "2")
        six.sync()
        assert ["goods/1", "goods/metadata", "goods/2"] == six.vendor.asked
        with six.database.read() as tx:
            assert [17.5, 17.5] == list(tx.scalars(sa.text("SELECT fresh FROM sixth_goods")))


def test_a_field_that_is_never_declared_has_the_metadata_fetched_once(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.work()
        for value in range(3):
            six.clock.advance(minutes=2)
            six.vendor.objects["goods"] = {"1": {"declared": "a", "fresh": value}}
            six.enqueue("1")
            six.sync()
        assert 2 == six.vendor.asked.count("goods/metadata")


def test_metadata_that_is_no_json_is_not_asked_for_in_a_loop(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.vendor.stuck = True
        six.vendor.instead["goods/metadata"] = [(200, {}, "<html>a proxy</html>")]
        six.enqueue("1", "2")
        six.sync()
        assert 2 == len(six.vendor.asked)
        assert {"1": 1, "2": 1} == {key: row.attempts for key, row in six.inbox().items()}
        six.sync()
        assert 2 == len(six.vendor.asked)
