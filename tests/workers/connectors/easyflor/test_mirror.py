"""The connector under the spine: what closed hours and deletions do to the mirror."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import streams
from tests.mirroring import Mirror, mirrored

if TYPE_CHECKING:
    from pathlib import Path

    from models.database import Database


def later_today() -> tuple[str, str]:
    """Opening hours that do not hold now nor in the next two hours."""
    begin = datetime.now(UTC) + timedelta(hours=2)
    return f"{begin:%H:%M}", f"{begin + timedelta(hours=1):%H:%M}"


def stream(mirror: Mirror, resource: str) -> Any:
    with mirror.database.read() as connection:
        return streams.get(connection, "easyflor", resource)


def test_a_vendor_who_is_closed_by_the_settings_is_not_asked(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={"closed": True, "hours": later_today()}) as mirror:
        mirror.work()
        assert [] == mirror.sandboxes["easyflor"].asked
        assert stream(mirror, "debtor").full_due_at > datetime.now(UTC)


def test_closed_hours_are_no_failure_and_wait_for_the_opening(sqlite: Database, tmp_path: Path) -> None:
    knobs = {"closed": True, "hours": later_today(), "options": {"opening_hours": []}}
    with mirrored(sqlite, tmp_path, easyflor=knobs) as mirror:
        sandbox = mirror.sandboxes["easyflor"]
        mirror.work()
        assert {"debtor", "article", "purchase"} == set(mirror.differences())
        shown = mirror.status()["debtor"]
        assert "ApiOpeningHoursException" in f"{shown.last_error} {shown.warning}"
        waiting = stream(mirror, "debtor")
        assert ("open", 0) == (waiting.state, waiting.failures)
        assert waiting.full_due_at > datetime.now(UTC)
        sandbox.hours = None
        mirror.catch_up()
        assert {} == mirror.differences()


def test_a_debtor_that_vanishes_is_looked_up_and_a_purchase_is_believed_gone(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        sandbox = mirror.sandboxes["easyflor"]
        mirror.work()
        debtor, purchase = (sandbox.books.tables[name].pop() for name in ("debtor", "purchase"))
        sandbox.asked.clear()
        mirror.catch_up()
        assert {} == mirror.differences()
        assert [f"GET debtor/{debtor['Id']}"] == [asked for asked in sandbox.asked if "debtor/" in asked]
        with sqlite.read() as connection:
            gone = connection.execute(
                sa.text("SELECT _key FROM easyflor_purchase WHERE _deleted_at IS NOT NULL")
            ).scalars()
            assert [str(purchase["Id"])] == list(gone)


def test_the_same_debtor_in_many_forms_keeps_its_columns(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        books = mirror.sandboxes["easyflor"].books
        debtor = books.tables["debtor"][0]
        mirror.work()
        books.touch("debtor", debtor, PaysVAT="intracommunautair", Name={"nl": "Roos", "de": "Rose"}, LoyaltyTier=3)
        mirror.catch_up()
        assert {} == mirror.differences()
        with sqlite.read() as connection:
            row = connection.execute(
                sa.text(
                    "SELECT pays_vat, pays_vat__text, name__nl, loyalty_tier, currency_iso_code FROM easyflor_debtor "
                    "WHERE _key = :key"
                ),
                {"key": str(debtor["Id"])},
            ).one()
    assert (None, "intracommunautair", "Roos", 3, "EUR") == tuple(row)
