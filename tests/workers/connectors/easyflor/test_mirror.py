"""The whole mirror of EasyFlor: closed hours, deletions and fields that change their type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import streams
from tests.mirroring import Mirror, mirrored
from tests.workers.connectors.easyflor.conftest import options
from workers.connectors.easyflor import resources

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database


def later_today() -> tuple[str, str]:
    """Opening hours that begin in two hours."""
    begin = datetime.now(UTC) + timedelta(hours=2)
    return f"{begin:%H:%M}", f"{begin + timedelta(hours=1):%H:%M}"


def stream(mirror: Mirror, resource: str) -> Any:
    with mirror.database.read() as tx:
        return streams.get(tx, "easyflor", resource)


def test_outside_the_configured_hours_no_request_is_sent(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={"closed": True, "hours": later_today()}) as mirror:
        mirror.work()
        assert [] == mirror.sandboxes["easyflor"].requests
        assert stream(mirror, "debtor").full_due_at > datetime.now(UTC)


def test_a_closed_answer_is_not_a_failure_and_waits_for_the_opening_hours(sqlite: Database, tmp_path: Path) -> None:
    knobs = {"closed": True, "hours": later_today(), "options": {"opening_hours": []}}
    with mirrored(sqlite, tmp_path, easyflor=knobs) as mirror:
        sandbox = mirror.sandboxes["easyflor"]
        mirror.work()
        assert {"debtor", "article", "purchase"} == set(mirror.differences())
        result = mirror.status()["debtor"]
        assert "ApiOpeningHoursException" in f"{result.last_error} {result.warning}"
        waiting = stream(mirror, "debtor")
        assert ("open", 0) == (waiting.state, waiting.failures)
        assert waiting.full_due_at > datetime.now(UTC)
        sandbox.hours = None
        mirror.catch_up()
        assert {} == mirror.differences()


def test_a_missing_debtor_is_fetched_and_a_missing_purchase_is_deleted(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        sandbox = mirror.sandboxes["easyflor"]
        mirror.work()
        debtor, purchase = (sandbox.books.tables[name].pop() for name in ("debtor", "purchase"))
        sandbox.requests.clear()
        mirror.catch_up()
        assert {} == mirror.differences()
        assert [f"GET debtor/{debtor['Id']}"] == [asked for asked in sandbox.requests if "debtor/" in asked]
        with sqlite.read() as tx:
            gone = tx.execute(sa.text("SELECT _key FROM easyflor_purchase WHERE _deleted_at IS NOT NULL")).scalars()
            assert [str(purchase["Id"])] == list(gone)


def test_a_debtor_whose_fields_change_type_keeps_its_columns(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        books = mirror.sandboxes["easyflor"].books
        debtor = books.tables["debtor"][0]
        mirror.work()
        books.touch("debtor", debtor, PaysVAT="intracommunautair", Name={"nl": "Roos", "de": "Rose"}, LoyaltyTier=3)
        mirror.catch_up()
        assert {} == mirror.differences()
        with sqlite.read() as tx:
            row = tx.execute(
                sa.text(
                    "SELECT pays_vat, pays_vat__text, name__nl, loyalty_tier, currency_iso_code FROM easyflor_debtor "
                    "WHERE _key = :key"
                ),
                {"key": str(debtor["Id"])},
            ).one()
    assert (None, "intracommunautair", "Roos", 3, "EUR") == tuple(row)


def tables_of(database: Database) -> dict[str, set[str]]:
    """EasyFlor's tables with their columns, less those for values that did not fit."""
    inspector = sa.inspect(database.engine)
    names = [name for name in inspector.get_table_names() if name.startswith("easyflor_")]
    return {name: {column["name"] for column in inspector.get_columns(name)} for name in names}


def test_a_server_with_small_first_letters_fills_the_same_columns(database: Database, tmp_path: Path) -> None:
    with mirrored(database, tmp_path, easyflor={}) as mirror:
        mirror.work()
        columns = tables_of(database)
        sandbox = mirror.sandboxes["easyflor"]
        sandbox.camel = True
        sandbox.expire()
        mirror.catch_up()
        assert {} == mirror.differences()
        assert columns == tables_of(database)
        with database.read() as tx:
            rows = tx.execute(sa.text("SELECT _key, id, name FROM easyflor_debtor WHERE _deleted_at IS NULL")).all()
            owners = tx.execute(sa.text("SELECT _key FROM easyflor_debtor__contacts")).scalars().all()
            seconds = tx.execute(sa.text("SELECT max_default_order_time_seconds FROM easyflor_debtor__order_days"))
            assert any(seconds.scalars())
        truth = sandbox.truth("debtor")
        assert {(key, int(key), raw["name"]) for key, raw in truth.items()} == {
            (k, int(id_), name) for k, id_, name in rows
        }
        assert sorted(key for key, raw in truth.items() for _ in raw.get("contacts") or []) == sorted(owners)


def test_a_server_with_small_first_letters_shows_no_secrets(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={"camel": True}) as mirror:
        mirror.catch_up()
        assert {} == mirror.differences()
        with sqlite.read() as tx:
            raws = "".join(tx.execute(sa.text("SELECT _raw FROM easyflor_debtor")).scalars())
        assert "username" in raws
        assert "password" not in raws.lower()


ODD_IDS = (
    "a/b",
    "a?b",
    "a#b",
    "..",
    ".",
    "a%2Fb",
    "a:b",
    "a\\b",
    "a*",
    "<a>",
    "a&b",
    " a",
    "a ",
    "a.",
    "a\n",
    "x" * 201,
)


def test_ids_that_no_address_can_hold_are_decided_by_full_syncs_and_others_by_fetches(
    sqlite: Database, tmp_path: Path
) -> None:
    knobs = {"objects": 40, "options": {"resources": ["debtor"], "max_deletions": 1}}
    with mirrored(sqlite, tmp_path, easyflor=knobs) as mirror:
        sandbox, odd = mirror.sandboxes["easyflor"], ODD_IDS[:-1]
        debtors = [sandbox.books.tables["debtor"][0] | {"Id": name} for name in (*odd, "a b", "ä-1")]
        sandbox.books.tables["debtor"] += debtors
        mirror.work()
        assert {} == mirror.differences()
        sandbox.books.tables["debtor"] = sandbox.books.tables["debtor"][: -len(debtors)]
        sandbox.requests.clear()
        mirror.catch_up()
        assert ({}, 0) == (mirror.differences(), mirror.status()["debtor"].pending)
        assert ["GET debtor/a b", "GET debtor/ä-1"] == sorted(each for each in sandbox.requests if "debtor/" in each)


def test_only_ids_that_an_address_surely_reaches_are_fetched() -> None:
    debtor = resources.resources(options())[0]
    assert [] == [each for each in ODD_IDS if debtor.fetches(each)]
    assert all(map(debtor.fetches, ("417", "a-b", "a.b", "a b", "ä", "a~_b")))
