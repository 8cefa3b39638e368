"""What the client does where EasyFlor's document contradicts itself or EasyFlor's program; one test each."""

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
from workers.errors import ClosedError, SetAside

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database


def debtor(**settings: Any) -> Any:
    return resources.resources(options(**settings))[0]


def test_fields_are_optional_and_the_object_is_kept_as_sent(account: Account) -> None:
    account.table[:] = [{"Id": 1}]
    account.sandbox.books.changed["debtor", "1"] = account.sandbox.books.today()
    assert {"1": {"Id": 1}} == account.list_all("debtor").objects
    assert {"Id": 1} == debtor().project({"Id": 1})


def test_days_are_first_sent_without_dashes(account: Account) -> None:
    cursor = account.list_all("debtor").end.cursor
    account.list_all("debtor", cursor)
    assert "GET debtorsincedate/20260530" == account.sandbox.asked[-1]


def test_days_are_sent_with_dashes_after_a_refusal_and_the_form_is_remembered(
    account: Account,
) -> None:
    account.sandbox.form = "%Y-%m-%d"
    cursor = account.list_all("debtor").end.cursor
    account.sandbox.asked.clear()
    poll = account.list_all("debtor", cursor)
    again = account.list_all("debtor", poll.end.cursor)
    expected = ["GET debtorsincedate/20260530", "GET debtorsincedate/2026-05-30", "GET debtorsincedate/2026-05-30"]
    assert expected == account.sandbox.asked
    assert [True, False] == [end.more for end in poll.ends]
    assert [False] == [end.more for end in again.ends]


def test_a_day_refused_in_both_forms_raises_set_aside(account: Account) -> None:
    cursor = account.list_all("debtor").end.cursor
    account.sandbox.form = "%d.%m.%Y"
    with pytest.raises(SetAside, match="HTTP 400: ArgumentNotFound: 2026-05-30 is no date"):
        account.list_all("debtor", cursor)


def test_a_language_is_a_text_as_name_or_code() -> None:
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
def test_the_iso_currency_takes_precedence(sent: dict[str, Any], shown: str) -> None:
    assert shown == debtor().project({"Id": 1, **sent})["CurrencyISOCode"]


def test_a_placeholder_in_a_date_field_goes_into_the_text_column(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        books = mirror.sandboxes["easyflor"].books
        books.touch("debtor", books.tables["debtor"][0], CreatedOn="DateTime")
        mirror.work()
        assert {} == mirror.differences()
        with sqlite.read() as tx:
            rows = tx.execute(
                sa.text("SELECT created_on IS NULL, created_on__text FROM easyflor_debtor ORDER BY _key LIMIT 2")
            ).all()
    assert [(True, "DateTime"), (False, None)] == [(bool(empty), text) for empty, text in rows]


@pytest.mark.parametrize("account", [{"auth": "cookie"}], indirect=True)
def test_the_logout_uses_the_same_base_address(account: Account) -> None:
    account.list_all("debtor")
    with account.another(auth="token") as client:
        client.fetch(account.resource("debtor"), "417")
    assert "POST unauthorization" in account.sandbox.asked
    assert options().url.startswith("https://")


def test_the_login_is_a_post(account: Account) -> None:
    account.list_all("debtor")
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
def test_a_time_span_may_have_one_digit_days_and_its_sign_applies_to_the_days(span: Any, seconds: int | None) -> None:
    shown = debtor().project({"Id": 1, "OrderDays": [{"MaxDefaultOrderTime": span, "Lists": [{"MinOrderTime": span}]}]})
    (day,) = shown["OrderDays"]
    assert (span, seconds) == (day["MaxDefaultOrderTime"], day["MaxDefaultOrderTimeSeconds"])
    assert [{"MinOrderTime": span, "MinOrderTimeSeconds": seconds}] == day["Lists"]


def test_a_null_list_has_no_rows(sqlite: Database, tmp_path: Path) -> None:
    shown = debtor().project({"Id": 1, "Employees": None, "OrderDays": None})
    assert {"Id": 1, "Employees": [], "OrderDays": None} == shown
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        books = mirror.sandboxes["easyflor"].books
        one, other = books.tables["debtor"][:2]
        one["OrderDays"], other["OrderDays"] = None, []
        mirror.work()
        assert {} == mirror.differences()
        with sqlite.read() as tx:
            keys = tx.execute(sa.text("SELECT DISTINCT _key FROM easyflor_debtor__order_days")).scalars().all()
    assert keys
    assert not {str(one["Id"]), str(other["Id"])} & set(keys)


def test_a_401_causes_a_login_and_after_the_second_login_an_error(account: Account) -> None:
    account.list_all("debtor")
    account.sandbox.faults.append(Fault.UNAUTHORIZED)
    account.list_all("debtor")
    assert account.sandbox.logins == 2
    account.sandbox.faults.extend([Fault.UNAUTHORIZED] * 3)
    with pytest.raises(SetAside, match=r"HTTP 401.*api has no access to the database EasyFlor-Demo") as raised:
        account.list_all("debtor")
    assert raised.value.whole_resource
    assert account.sandbox.logins == 4


@pytest.mark.parametrize("account", [{"closed": True}], indirect=True)
def test_opening_hours_of_large_collections_are_utc_and_configurable(account: Account) -> None:
    account.clock.now = datetime(2026, 6, 1, 17, 59, tzinfo=UTC)
    with pytest.raises(ClosedError) as raised:
        account.list_all("debtor")
    assert datetime(2026, 6, 1, 18, tzinfo=UTC) == raised.value.until
    assert raised.value.until == account.options.closed_until(account.clock.now)
    account.clock.advance(minutes=1)
    assert account.list_all("debtor").end.complete


def test_every_resource_but_debtors_is_marked_as_unconfirmed(account: Account) -> None:
    assert ["debtor"] == [row.name for row in table.TABLE if row.confirmed]
    for resource in resources.resources(account.options):
        marked = resource.name != "debtor"
        assert marked == ("unconfirmed" in account.client.probe(resource))
        assert marked == any("unconfirmed" in note for notes in resource.notes.values() for note in notes.values())
    assert "unconfirmed, so probe them: articlegroup, country" in account.client.check().summary
