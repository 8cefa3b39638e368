"""Columns are only ever added, under one lock, and every process sees them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.db import tables
from models.db.database import Database
from models.mirror import apply, prepare, schema_evolution
from models.mirror.target import Target
from models.values import Kind, Snapshot
from tests import services
from tests.models import write_path
from tests.models.write_path import TABLE, TARGET, fields, row, rows, schema_changes, write

if TYPE_CHECKING:
    import sqlite3


def test_declared_columns_exist_before_the_first_object(database: Database) -> None:
    shape = {"": {"person.id": Kind.TEXT, "date": Kind.TIMESTAMP}, "tpGoods": {"price": Kind.NUMBER}}
    target = Target("shop", "dilovod", "documents.saleOrder", shape=shape)
    prepare.prepare(database, target, [])
    inspector = sa.inspect(database.engine)
    own = {column["name"] for column in inspector.get_columns("dilovod_documents_sale_order")}
    part = {column["name"] for column in inspector.get_columns("dilovod_documents_sale_order__tp_goods")}
    assert {"person__id", "date"} == {name for name in own if not name.startswith("_")}
    assert {"_connection", "_key", "_position", "price"} == part


def test_a_fields_note_is_stored_with_its_column(database: Database) -> None:
    notes = {"": {"type": "1 goods, 2 service"}, "rows": {"kind": '1 goods, 6 a customer\'s "note" at 100 %'}}
    shape = {"": {"type": Kind.NUMBER}, "rows": {"kind": Kind.NUMBER}}
    target = Target("loja", "wisedat", "orders", shape=shape, notes=notes)
    prepare.prepare(database, target, [])
    with database.read() as tx:
        kept = tx.execute(sa.select(tables.columns.c.table_name, tables.columns.c.note)).all()
    expected = {"wisedat_orders": notes[""]["type"], "wisedat_orders__rows": notes["rows"]["kind"]}
    assert expected == {row.table_name: row.note for row in kept}
    if not database.is_sqlite:
        columns_of = sa.inspect(database.engine).get_columns
        shown = {table: [each["comment"] for each in columns_of(table) if each["comment"]] for table in expected}
        assert {table: [note] for table, note in expected.items()} == shown


def test_hinted_kinds_apply_when_the_field_appears_and_not_before(database: Database) -> None:
    target = Target("books", "directo", "items", hints={"": {"level": Kind.NUMBER, "closed": Kind.BOOLEAN}})
    write(database, {"1": {"level": "40"}}, target=target)
    assert {"level": Decimal(40)} == fields(row(database, "1", target))


def test_an_undeclared_field_gets_its_column_when_first_seen(database: Database) -> None:
    write(database, {"1": {"code": "007"}})
    write(database, {"2": {"code": "8", "uusVäli": Decimal("1.5")}}, revision=2)
    assert [{"code": "007", "uus_väli": None}, {"code": "8", "uus_väli": Decimal("1.5")}] == [
        fields(each) for each in rows(database)
    ]
    assert [(TABLE, "uus_väli", "uusVäli")] == schema_changes(database, "column")[1:]


def test_empty_values_alone_create_no_column(database: Database) -> None:
    empty: dict[str, Any] = {"a": None, "b": "", "c": [], "d": {}, "e": "0000-00-00", "f": {"id": "0", "pr": None}}
    write(database, {"1": empty})
    assert {} == fields(row(database, "1"))


def test_a_value_that_does_not_fit_goes_whole_into_a_sibling_column_and_is_reported_once(database: Database) -> None:
    write(database, {"1": {"total": Decimal("12.50")}})
    write(database, {"1": {"total": "twelve"}, "2": {"total": ["a", 1]}, "3": {"total": "13.00"}}, revision=2)
    write(database, {"1": {"total": "thirteen"}}, revision=3)
    assert [
        {"total": None, "total__text": "thirteen"},
        {"total": None, "total__text": '["a",1]'},
        {"total": Decimal(13), "total__text": None},
    ] == [fields(each) for each in rows(database)]
    assert [(TABLE, "total__text", "total")] == schema_changes(database, "overflow")


def test_a_value_that_fits_again_empties_the_sibling_column(database: Database) -> None:
    write(database, {"1": {"total": 1}, "2": {"total": 1}})
    write(database, {"1": {"total": "one"}}, revision=2)
    write(database, {"1": {"total": 2}}, revision=3)
    assert {"total": Decimal(2), "total__text": None} == fields(row(database, "1"))


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")])
def test_kinds_do_not_depend_on_which_object_of_a_batch_came_first(database: Database, order: tuple[str, str]) -> None:
    objects: dict[str, Any] = {"1": {"level": 40, "seen": True}, "2": {"level": "x50", "seen": 1}}
    write(database, {key: objects[key] for key in order})
    assert [{"level": "40", "seen": "true"}, {"level": "x50", "seen": "1"}] == [fields(each) for each in rows(database)]


def test_a_scalar_where_a_part_was_and_a_part_where_a_scalar_was(database: Database) -> None:
    write(database, {"1": {"a": 1, "b": [{"x": 1}]}})
    write(database, {"2": {"a": [{"y": 2}], "b": "none", "c": {"d": 1}}, "3": {"c": "plain"}}, revision=2)
    assert [
        {"a": Decimal(1), "b": None, "c": None, "c__d": None},
        {"a": None, "b": "none", "c": None, "c__d": Decimal(1)},
        {"a": None, "b": None, "c": "plain", "c__d": None},
    ] == [fields(each) for each in rows(database)]
    assert [{"y": Decimal(2)}] == [fields(each) for each in rows(database, part="a")]
    assert [{"x": Decimal(1)}] == [fields(each) for each in rows(database, part="b")]


def test_at_most_400_undeclared_columns_and_the_rest_is_reported_once(database: Database) -> None:
    wide = {f"f{number:03}": number for number in range(450)}
    write(database, {"1": wide})
    write(database, {"2": {**wide, "another": 1}}, revision=2)
    found = row(database, "2")
    assert 400 == len(fields(found))
    assert {**wide, "another": 1} == found["_raw"]
    assert [(TABLE, "f400", "f400")] == schema_changes(database, "capped")


def test_a_declared_field_finds_its_column_in_a_full_table(database: Database) -> None:
    write(database, {"1": {f"f{number:03}": number for number in range(450)}})
    target = Target("books", "directo", "invoices", shape={"": {"total": Kind.NUMBER}})
    write(database, {"1": {"total": "5.00"}}, target=target, revision=2)
    assert Decimal(5) == row(database, "1")["total"]


def test_a_row_too_wide_for_the_database_keeps_what_fits(database: Database) -> None:
    wide = {f"f{number:03}": f"{number:024}" for number in range(390)}
    write(database, {"1": wide})
    found = row(database, "1")
    assert wide == found["_raw"]
    assert 250 < sum(value is not None for value in fields(found).values()) < 390
    assert 1 == len(schema_changes(database, "capped"))


def test_a_flood_of_parts_is_bounded(database: Database) -> None:
    many = {f"p{number:03}": [{"x": number}] for number in range(120)}
    write(database, {"1": many})
    write(database, {"1": {**many, "more": [{"x": 1}]}}, revision=2)
    assert 100 == len(schema_changes(database, "table"))
    assert 1 == len(schema_changes(database, "capped"))
    assert many.keys() < row(database, "1")["_raw"].keys()


def test_keywords_and_clashing_names_are_columns_like_any_other(database: Database) -> None:
    item = {"select": 1, "from": 2, "Order": 3, "order": 4, "_key": "k", "a.b": 5, "a": {"b": 6}, "50%": 7, "%s": 8}
    write(database, {"1": item})
    found = fields(row(database, "1"))
    assert len(item) == len(found)
    assert sorted(map(str, [1, 2, 3, 4, "k", 5, 6, 7, 8])) == sorted(str(value) for value in found.values())


def test_a_column_that_another_process_added_is_nulled(database: Database) -> None:
    other = Database(database.url)
    write(database, {"1": {"a": 1}})
    prepared = prepare.prepare(database, TARGET, [Snapshot("1", {"a": 2})])
    write(other, {"1": {"a": 1, "late": "x"}}, revision=2)
    with database.begin() as tx:
        apply.apply(tx, TARGET, prepared, revision=3, now=write_path.moment(3), point=True)
    assert {"a": Decimal(2), "late": None} == fields(row(database, "1"))
    other.close()


def test_two_processes_that_need_the_same_column_add_it_once(database: Database) -> None:
    other = Database(database.url)
    prepare.prepare(database, TARGET, [Snapshot("1", {"a": 1})])
    prepare.prepare(other, TARGET, [Snapshot("1", {"a": 1})])
    prepare.prepare(database, TARGET, [Snapshot("1", {"b": 1})])
    prepare.prepare(other, TARGET, [Snapshot("1", {"b": 1, "c": 1})])
    assert ["a", "b", "c"] == [column for _, column, _ in schema_changes(database, "column")]
    other.close()


@services.ON_POSTGRESQL
def test_a_table_that_another_transaction_locks_is_not_waited_for(database: Database) -> None:
    write(database, {"1": {"a": 1}})
    with database.begin() as tx:
        tx.execute(sa.text(f"SELECT * FROM {TABLE}"))
        with pytest.raises(schema_evolution.TableLockedError):
            prepare.prepare(database, TARGET, [Snapshot("1", {"b": 1})])
    prepare.prepare(database, TARGET, [Snapshot("1", {"b": 1})])


def test_a_view_survives_new_columns_and_other_types(database: Database) -> None:
    write(database, {"1": {"total": 1}})
    with database.begin() as tx:
        tx.execute(sa.text(f"CREATE VIEW totals AS SELECT _key, total FROM {TABLE}"))
    write(database, {"1": {"total": "many", "more": 1}, "2": {"total": "2"}}, revision=2)
    with database.read() as tx:
        assert [("1", None), ("2", 2)] == [
            tuple(each) for each in tx.execute(sa.text("SELECT * FROM totals ORDER BY _key"))
        ]


def test_sqlite_shows_money_as_numbers(sqlite: Database) -> None:
    write(sqlite, {"1": {"total": Decimal("12.50")}, "2": {"total": Decimal("0.25")}})
    with sqlite.read() as tx:
        raw: sqlite3.Connection = tx.connection.dbapi_connection  # type: ignore[assignment]
        assert (12.75,) == raw.execute(f"SELECT sum(total) FROM {TABLE}").fetchone()
