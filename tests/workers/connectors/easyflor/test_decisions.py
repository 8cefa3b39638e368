"""Where the vendor's document contradicts itself or his program: what was decided, one test each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.values import Kind
from tests.mirroring import mirrored
from tests.workers.connectors.easyflor.conftest import Account, options
from workers.connectors.easyflor import resources, table
from workers.connectors.easyflor.sandbox import Fault
from workers.errors import Closed, SetAside

if TYPE_CHECKING:
    from pathlib import Path

    from models.database import Database


def debtor(**settings: Any) -> Any:
    return resources.resources(options(**settings))[0]


def test_every_field_but_the_id_is_optional_and_the_object_is_kept_as_sent(account: Account) -> None:
    account.table[:] = [{"Id": 1}]
    account.sandbox.books.changed["debtor", "1"] = account.sandbox.books.today()
    assert {"1": {"Id": 1}} == account.read("debtor").objects
    assert {"Id": 1} == debtor().project({"Id": 1})


def test_days_are_written_without_dashes_first(account: Account) -> None:
    cursor = account.read("debtor").end.cursor
    account.read("debtor", cursor)
    assert "GET debtorsincedate/20260530" == account.sandbox.asked[-1]


def test_days_are_written_with_dashes_where_the_vendor_refuses_the_others_and_that_is_remembered(
    account: Account,
) -> None:
    account.sandbox.form = "%Y-%m-%d"
    cursor = account.read("debtor").end.cursor
    account.sandbox.asked.clear()
    tick = account.read("debtor", cursor)
    again = account.read("debtor", tick.end.cursor)
    expected = ["GET debtorsincedate/20260530", "GET debtorsincedate/2026-05-30", "GET debtorsincedate/2026-05-30"]
    assert expected == account.sandbox.asked
    assert [True, False] == [end.more for end in tick.ends]
    assert [False] == [end.more for end in again.ends]


def test_a_day_that_the_vendor_refuses_in_both_forms_is_set_aside(account: Account) -> None:
    cursor = account.read("debtor").end.cursor
    account.sandbox.form = "%d.%m.%Y"
    with pytest.raises(SetAside, match="HTTP 400: ArgumentNotFound: 2026-05-30 is no date"):
        account.read("debtor", cursor)


def test_a_language_is_text_whether_it_is_a_name_or_a_code() -> None:
    assert debtor().shape[""]["Language"] is Kind.TEXT


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ({"Currency": "GBP", "CurrencyISOCode": "EUR"}, "EUR"),
        ({"Currency": "GBP"}, "GBP"),
        ({"Currency": "GBP", "CurrencyISOCode": None}, "GBP"),
        ({"CurrencyISOCode": "EUR"}, "EUR"),
    ],
)
def test_the_iso_currency_is_the_one_to_use(sent: dict[str, Any], shown: str) -> None:
    assert shown == debtor().project({"Id": 1, **sent})["CurrencyISOCode"]


def test_a_placeholder_where_a_date_belongs_goes_into_the_overflow_column(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        books = mirror.sandboxes["easyflor"].books
        books.touch("debtor", books.tables["debtor"][0], CreatedOn="DateTime")
        mirror.work()
        assert {} == mirror.differences()
        with sqlite.read() as connection:
            rows = connection.execute(
                sa.text("SELECT created_on IS NULL, created_on__text FROM easyflor_debtor ORDER BY _key LIMIT 2")
            ).all()
    assert [(True, "DateTime"), (False, None)] == [(bool(empty), text) for empty, text in rows]


@pytest.mark.parametrize("account", [{"auth": "cookie"}], indirect=True)
def test_the_logout_goes_to_the_address_of_all_other_requests(account: Account) -> None:
    account.read("debtor")
    with account.another(auth="token") as client:
        client.fetch(account.resource("debtor"), "417")
    assert "POST unauthorization" in account.sandbox.asked
    assert options().url.startswith("https://")


def test_the_login_is_a_post(account: Account) -> None:
    account.read("debtor")
    assert "POST authorizationtoken" == account.sandbox.asked[0]


@pytest.mark.parametrize(
    ("span", "seconds"),
    [
        ("-01.13:50:01", -86_400 + 49_801),
        ("01.13:50:01", 86_400 + 49_801),
        ("13:50:01", 49_801),
        ("00.13:50:01", 49_801),
        ("-1.15:30:00", -86_400 + 55_800),
        ("-2.00:00:00", -172_800),
        ("", None),
        ("1:00:00", None),
        ("soon", None),
        (None, None),
        (5, None),
    ],
)
def test_the_day_of_a_time_span_has_one_digit_or_more_and_the_sign_is_its_own(span: Any, seconds: int | None) -> None:
    shown = debtor().project({"Id": 1, "OrderDays": [{"MaxDefaultOrderTime": span, "Lists": [{"MinOrderTime": span}]}]})
    (day,) = shown["OrderDays"]
    assert (span, seconds) == (day["MaxDefaultOrderTime"], day["MaxDefaultOrderTimeSeconds"])
    assert [{"MinOrderTime": span, "MinOrderTimeSeconds": seconds}] == day["Lists"]


def test_a_list_that_is_null_is_empty(sqlite: Database, tmp_path: Path) -> None:
    shown = debtor().project({"Id": 1, "Employees": None, "OrderDays": None})
    assert {"Id": 1, "Employees": [], "OrderDays": None} == shown
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        books = mirror.sandboxes["easyflor"].books
        one, other = books.tables["debtor"][:2]
        one["OrderDays"], other["OrderDays"] = None, []
        mirror.work()
        assert {} == mirror.differences()
        with sqlite.read() as connection:
            keys = connection.execute(sa.text("SELECT DISTINCT _key FROM easyflor_debtor__order_days")).scalars().all()
    assert keys
    assert not {str(one["Id"]), str(other["Id"])} & set(keys)


def test_a_refusal_is_answered_with_a_login_and_after_the_second_it_is_permanent(account: Account) -> None:
    account.read("debtor")
    account.sandbox.faults.append(Fault.UNAUTHORIZED)
    account.read("debtor")
    assert account.sandbox.logins == 2
    account.sandbox.faults.extend([Fault.UNAUTHORIZED] * 3)
    with pytest.raises(SetAside, match=r"HTTP 401.*api is not let into the database EasyFlor-Demo") as raised:
        account.read("debtor")
    assert raised.value.whole_resource
    assert account.sandbox.logins == 4


@pytest.mark.parametrize("account", [{"closed": True}], indirect=True)
def test_large_collections_are_open_by_utc_and_the_hours_are_settings(account: Account) -> None:
    account.clock.now = datetime(2026, 6, 1, 17, 59, tzinfo=UTC)
    with pytest.raises(Closed) as raised:
        account.read("debtor")
    assert datetime(2026, 6, 1, 18, tzinfo=UTC) == raised.value.until
    assert raised.value.until == account.options.closed_until(account.clock.now)
    account.clock.advance(minutes=1)
    assert account.read("debtor").end.complete


def test_only_debtors_are_certain_and_every_other_resource_says_so(account: Account) -> None:
    assert ["debtor"] == [row.name for row in table.TABLE if row.confirmed]
    for resource in resources.resources(account.options):
        marked = resource.name != "debtor"
        assert marked == ("unconfirmed" in account.client.probe(resource))
        assert marked == any("unconfirmed" in note for notes in resource.notes.values() for note in notes.values())
    assert "unconfirmed, so probe them: articlegroup, country" in account.client.check().says
