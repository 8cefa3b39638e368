"""Values as systems spell them reach the mirror's columns, through two systems' servers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from models.mirror.target import Target
from tests.mirroring import mirrored
from tests.models.write_path import row

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database


def columns(database: Database, system: str, resource: str, key: str, *names: str) -> dict[str, Any]:
    found = row(database, key, Target(system, system, resource))
    return {name: found[name] for name in names}


def test_numbers_and_dates_in_xml_reach_their_columns(database: Database, tmp_path: Path) -> None:
    with mirrored(database, tmp_path, directo={"options": {"format": "xml", "resources": ["items"]}}) as mirror:
        books = mirror.sandboxes["directo"].books
        item = next(iter(books.tables["items"]))
        sent = {"price": "1.25E+1", "cost": "4\u00a0705,21", "weight": "4,705", "date": "2026-02-01", "name": "007"}
        books.touch(item, **sent)
        mirror.work()
        expected = {
            "price": Decimal("12.5"),
            "cost": Decimal("4705.21"),
            "weight": None,
            "weight__text": "4,705",
            "date": datetime(2026, 2, 1),  # noqa: DTZ001 - local time
            "name": "007",
        }
        assert expected == columns(database, "directo", "items", item["code"], *expected)


def test_net_spellings_of_times_and_booleans_reach_their_columns(database: Database, tmp_path: Path) -> None:
    with mirrored(database, tmp_path, easyflor={"options": {"resources": ["debtor"]}}) as mirror:
        debtor = mirror.sandboxes["easyflor"].books.tables["debtor"][0]
        debtor |= {
            "CreatedOn": "2026-02-01T12:30:05.1234567+0200",
            "PaysVAT": "True",
            "Block": "FALSE",
            "Seen": "/Date(1767103347340+0200)/",
        }
        mirror.work()
        assert {} == mirror.differences()
        expected = {
            "created_on": datetime(2026, 2, 1, 10, 30, 5, 123456, tzinfo=UTC),
            "created_on__text": "2026-02-01T12:30:05.1234567+0200",
            "pays_vat": True,
            "block": False,
            "seen": datetime(2025, 12, 30, 14, 2, 27, 340000, tzinfo=UTC),
        }
        assert expected == columns(database, "easyflor", "debtor", str(debtor["Id"]), *expected)
