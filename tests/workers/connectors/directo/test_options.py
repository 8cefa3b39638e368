from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from tests.workers.connectors.directo.conftest import options
from workers.connectors import objects
from workers.connectors.directo import resources, table

VENDORS_LIST = [
    "sales_quotations",
    "orders",
    "invoices",
    "purchase_orders",
    "stock_receipts",
    "purchase_invoices",
    "purchase_payments",
    "customers",
    "suppliers",
    "contacts",
    "items",
    "itemclasses",
    "priceformulas",
    "stocklevels",
    "stocklevels_sn",
    "allocations",
    "accounts",
    "transactions",
    "deleted",
    "financial_budgets",
    "events",
    "receipts",
    "deliveries",
    "movements",
    "objects",
    "projects",
    "resources",
    "sales_contracts",
    "replacementlogs",
]
"""Directo API documentation, "API Resources & Endpoints"."""


def test_the_table_has_every_documented_resource() -> None:
    assert VENDORS_LIST == [row.name for row in table.TABLE]


def test_omitted_settings_have_the_documented_defaults() -> None:
    made = options("https://login.directo.ee/apidirect/")
    assert made.url == "https://login.directo.ee/apidirect"
    assert made.format == "json"
    assert made.overlap == made.every == timedelta(minutes=5)
    assert made.full_every == timedelta(hours=24)
    assert made.requests_per_minute == 60
    assert made.timezone == "Europe/Tallinn"
    assert made.login() == ("sandbox-key",)


def test_the_error_for_an_unknown_resource_lists_the_known_ones() -> None:
    with pytest.raises(
        ValidationError,
        match=r'no resource "products"; did you mean "projects"\? it has accounts, allocations, .*transactions',
    ):
        options("http://localhost", resources=["products"])


@pytest.mark.parametrize(
    "wrong", [{"resources": []}, {"format": "csv"}, {"key": "x"}, {"keys": {"items": []}}, {"api_key": ""}]
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        options("http://localhost", **wrong)


def test_a_resource_that_is_named_twice_is_read_once() -> None:
    made = options("http://localhost", resources=["items", "deleted", "orders", "items"])
    assert ["items", "deleted", "orders"] == [each.name for each in resources.resources(made)]


def test_computed_figures_are_read_whole_by_every_poll() -> None:
    made = options("http://localhost", resources=["stocklevels", "orders"], every="1m")
    levels, orders, deleted = resources.resources(made)
    assert (None, timedelta(minutes=1), timedelta(minutes=1)) == (levels.every, levels.full_every, levels.bound)
    assert levels.register
    assert levels.unpaged
    assert (timedelta(minutes=1), timedelta(hours=24)) == (orders.every, orders.bound)
    assert not deleted.fetchable


def test_deletions_are_always_read() -> None:
    assert "deleted" == resources.resources(options("http://localhost"))[-1].name


def test_settings_may_name_other_keys() -> None:
    made = options("http://localhost", resources=["stocklevels"], keys={"stocklevels": ["item", "stock"]})
    assert ("item", "stock") == resources.resources(made)[0].key


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"type": "OST", "number": 7}, "OST:7"),
        ({"type": "OST", "number": "7"}, "OST:7"),
        ({"type": "A:B", "number": 7}, "A%3AB:7"),
        ({"type": "50%", "number": 7}, "50%25:7"),
        ({"type": "", "number": 7}, None),
        ({"type": "OST"}, None),
        ({"type": "OST", "number": None}, None),
        ({"type": "OST", "number": True}, None),
    ],
)
def test_a_key_of_several_fields_is_joined_and_split(record: dict[str, object], key: str | None) -> None:
    transactions = resources.catalogue(options("http://localhost"))["transactions"]
    assert key == objects.key_of(transactions, record)
    if key is not None:
        assert [str(record["type"]), str(record["number"])] == resources.split(transactions, key)
