"""The rows and columns of an interpreted document, on every supported database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from models import exact
from models.mirror.target import Target
from models.values import Snapshot
from tests.models.write_path import kinds, row, rows, schema_changes, write
from tests.workers.connectors.interpreter.conftest import SAMPLES, Store, document, resource
from workers.connectors.interpreter.sandbox_data import Row

if TYPE_CHECKING:
    from models.db.database import Database
    from models.values import JsonObject

_KIND = resource()
TARGET = Target(
    "goods_in",
    "interpreter",
    "deliverynote",
    shape=_KIND.shape,
    hints=_KIND.hints,
    notes=_KIND.notes,
    project=_KIND.project,
)
TABLE = "interpreter_deliverynote"


def written(database: Database, raw: JsonObject, key: str = "1") -> dict[str, Any]:
    """Write the answer and return its row."""
    write(database, [Snapshot(key, raw)], target=TARGET)
    return row(database, key, TARGET)


def part(database: Database, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """These columns of a part's rows."""
    return [tuple(each[column] for column in columns) for each in rows(database, TARGET, name)]


def test_all_documented_columns_and_parts_exist_before_the_first_value(database: Database) -> None:
    found = written(database, {"id": 7})
    assert {"po_reference", "delivery_zip", "is_pick_n_pack", "order_value_store", "state_label"} <= found.keys()
    for name in ("articles", "articles.batches", "articles.units"):
        assert [] == rows(database, TARGET, name)
    assert [] == schema_changes(database, "column")


def test_the_documented_answer_fits_its_columns(database: Database) -> None:
    found = written(database, exact.loads((SAMPLES / "delivery_note_as_documented.json").read_bytes()))
    moment = datetime(2025, 12, 30, 14, 2, 27, 340_000, UTC)
    assert (moment, moment) == (found["order_sent_date"], found["delivered_date"])
    assert (False, Decimal("4705.212691352853")) == (found["is_pick_n_pack"], found["order_value"])
    assert (Decimal(1501), None) == (found["state"], found["state_label"])
    assert [] == schema_changes(database, "overflow")
    assert [] == schema_changes(database, "column")


def test_quoted_numbers_and_booleans_are_typed(database: Database) -> None:
    article = {"orderedAmount": "12", "purchasePrice": "0.10", "rate": Decimal("11.275"), "stock": "true", "barcode": 7}
    found = written(database, {"id": "3557", "isPickNPack": "false", "orderValue": "1.25E7", "articles": [article]})
    assert (Decimal(3557), False, Decimal(12_500_000)) == (found["id"], found["is_pick_n_pack"], found["order_value"])
    assert [(Decimal(12), Decimal("0.10"), Decimal("11.275"), True, "7")] == part(
        database, "articles", "ordered_amount", "purchase_price", "rate", "stock", "barcode"
    )
    assert [] == schema_changes(database, "overflow")


def test_a_state_has_its_name_in_a_column_of_its_own(database: Database) -> None:
    assert ("received", None) == (
        written(database, {"state": "2"}, "1")["state_label"],
        written(database, {"state": 9}, "2")["state_label"],
    )


def test_dates_are_stored_in_utc_and_other_values_as_text(database: Database) -> None:
    found = written(database, {"deliveryDate": "2026-01-05T10:00:00+01:00", "deliveredDate": 1767103347340})
    assert datetime(2026, 1, 5, 9, tzinfo=UTC) == found["delivery_date"]
    assert datetime(2025, 12, 30, 14, 2, 27, 340_000, UTC) == found["delivered_date"]
    found = written(database, {"deliveryDate": "vecka 7", "deliveredDate": "2026-01-05"}, "2")
    assert (None, "vecka 7") == (found["delivery_date"], found["delivery_date__text"])
    assert (None, "2026-01-05") == (found["delivered_date"], found["delivered_date__text"])


def test_missing_batches_differ_from_an_empty_list_of_batches(database: Database) -> None:
    batch = {"batchId": "B1", "orderedAmount": "1", "bestBefore": 1767103347340}
    sent: list[JsonObject] = [
        {"id": 1, "batches": None},
        {"id": 2, "batches": []},
        {"id": 3, "batches": [batch, batch]},
        {"id": 4},
    ]
    written(database, {"articles": sent})
    assert [
        (Decimal(1), None),
        (Decimal(2), Decimal(0)),
        (Decimal(3), Decimal(2)),
        (Decimal(4), None),
    ] == part(database, "articles", "id", "batch_count")
    moment = datetime(2025, 12, 30, 14, 2, 27, 340_000, UTC)
    assert [(0, 2, "B1", Decimal(1), moment), (1, 2, "B1", Decimal(1), moment)] == part(
        database, "articles.batches", "_position", "_parent_position", "batch_id", "ordered_amount", "best_before"
    )
    assert [] == schema_changes(database, "column")


def test_a_unit_has_typed_columns_whether_it_is_an_object_or_an_id(database: Database) -> None:
    units = [
        {"unit": {"id": "7", "externalId": 12, "name": "kartong"}, "storeGroupId": 5, "convert": "24.0"},
        {"unit": 8, "storegroupId": "5", "convert": 1},
    ]
    written(database, {"articles": [{"unit": "st", "units": units}]})
    assert [
        (Decimal(7), "12", "kartong", Decimal(5), Decimal(24)),
        (Decimal(8), None, None, Decimal(5), Decimal(1)),
    ] == (part(database, "articles.units", "unit__id", "unit__external_id", "unit__name", "storegroup_id", "convert"))
    assert [("st",)] == part(database, "articles", "unit")
    assert [] == schema_changes(database, "column")


def test_a_row_of_free_text_is_stored_like_other_rows(database: Database) -> None:
    written(database, {"articles": [{"articleId": "A-1", "articleName": "Skruv"}, {"articleName": "Frakt"}]})
    assert [("A-1", "Skruv"), (None, "Frakt")] == part(database, "articles", "article_id", "article_name")


def test_fields_of_the_other_edition_get_columns_when_they_appear(database: Database) -> None:
    found = written(database, {"id": 1}, "1")
    assert "delivery_from__name" not in found
    found = written(database, {"deliveryFrom": {"name": "Bergs", "postalCode": 90325}, "deliveryTo": None}, "2")
    assert ("Bergs", "90325", None) == (found["delivery_from__name"], found["delivery_from__postal_code"], found["id"])


def test_an_undocumented_field_gets_a_column(database: Database) -> None:
    assert Decimal(3) == written(database, {"confidence": 3})["confidence"]


@pytest.mark.parametrize("raw", [{"articles": None}, {"articles": []}, {"articles": [None, 1]}, {"articles": "none"}])
def test_malformed_articles_do_not_stop_the_write(database: Database, raw: JsonObject) -> None:
    assert raw == written(database, raw)["_raw"]
    assert [] == rows(database, TARGET, "articles")


def test_interpreted_documents_are_mirrored_exactly(database: Database, store: Store) -> None:
    papers = [
        document(number=1, rows=(Row("A-1", "Skruv", 4, "12.50", "filled"), Row("", "Frakt"))),
        document(number=2, quoted=False, rows=(Row("A-2", "Mutter", 3, "0.10", "empty"),)),
    ]
    snapshots = [store.interpret(each) for each in papers]
    assert sorted((each.key, "created") for each in snapshots) == kinds(write(database, snapshots, target=TARGET))
    assert store.sandbox.truth("deliverynote") == {each["_key"]: each["_raw"] for each in rows(database, TARGET)}
    assert [] == write(database, snapshots, target=TARGET, revision=2)
    bought = {"Skruv": Decimal("12.50"), "Frakt": None, "Mutter": Decimal("0.10")}
    assert bought == dict(part(database, "articles", "article_name", "purchase_price"))
    assert [] == schema_changes(database, "overflow")
