"""The settings of a Wisedat connection: defaults, and refusals with a reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from workers.connectors.wisedat import table
from workers.connectors.wisedat.options import Options

VENDORS_LIST = [
    "company",
    "products",
    "categories",
    "customers",
    "salesmen",
    "suppliers",
    "orders",
    "taxes",
    "units",
    "series",
    "warehouses",
    "currencies",
    "countries",
    "deliverymethods",
    "exemptionreasons",
    "paymentconditions",
    "paymentmethods",
    "salesdocuments",
]
"""Wisedat API 1.3, table of contents, without the sections that are no resources."""


def options_with(**given: Any) -> Options:
    login = {"api_key": "chave-1", "user": "espelho", "password": "segredo-1"}
    return Options.model_validate(
        {"name": "loja", "system": "wisedat", "url": "http://wisedat.local:8080"} | login | given
    )


def error_of(**given: Any) -> str:
    with pytest.raises(ValidationError) as error:
        options_with(**given)
    return str(error.value)


def test_defaults() -> None:
    options = options_with()
    assert sorted(VENDORS_LIST) == sorted(options.resources)
    assert (timedelta(minutes=5), timedelta(hours=24)) == (options.every, options.full_every)
    assert (timedelta(minutes=2), timedelta(days=7)) == (options.overlap, options.details_every)
    assert timedelta(seconds=60) == options.timeout
    assert (None, "hash", 200, 1) == (options.rsa_padding, options.images, options.page_size, options.concurrency)
    assert options == options_with(concurrency=1)


def test_the_table_has_every_resource_of_the_vendors_document() -> None:
    assert sorted(VENDORS_LIST) == sorted(table.NAMES)


def test_the_url_has_no_default_because_each_customer_has_a_server() -> None:
    with pytest.raises(ValidationError, match="url"):
        Options.model_validate({"name": "loja", "system": "wisedat", "api_key": "k", "user": "u", "password": "p"})


def test_key_user_and_password_identify_the_account() -> None:
    assert ("chave-1", "espelho", "segredo-1") == options_with().login()


def test_the_login_is_in_no_repr() -> None:
    shown = repr(options_with()) + str(options_with())
    assert [] == [secret for secret in options_with().login() if secret in shown]


@pytest.mark.parametrize("part", ["api_key", "user", "password"])
def test_a_semicolon_in_the_login_is_refused_because_it_separates_the_parts(part: str) -> None:
    message = error_of(**{part: "one;two"})
    assert "separates the three parts" in message
    assert "one;two" not in message


@pytest.mark.parametrize("part", ["api_key", "user", "password"])
def test_an_empty_part_of_the_login_is_refused(part: str) -> None:
    assert "it is empty" in error_of(**{part: ""})


def test_an_api_key_that_does_not_fit_a_header_is_refused() -> None:
    assert "do not fit a header" in error_of(api_key="chave é")
    assert "pässword with spaces" == options_with(password="pässword with spaces").login()[2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"resources": ["products", "invoices"]}, 'Wisedat has no resource "invoices"; it has company, products'),
        ({"resources": ["prodcuts"]}, 'Wisedat has no resource "prodcuts"; did you mean "products"? it has company'),
        ({"resources": ["customeraddresses"]}, "no resource"),
        ({"resources": ["taxes", "taxes"]}, "listed twice"),
        ({"resources": []}, "at least 1"),
        ({"rsa_padding": "oaep-sha256"}, "rsa_padding"),
        ({"images": "drop"}, "images"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": True}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        ({"concurrency": 2}, "one request at a time"),
        ({"details_every": "7"}, "details_every"),
        ({"commands": ["crate"]}, 'Wisedat has no command "crate"; did you mean "create"? it has create, update'),
        ({"commands": ["create:order"]}, 'did you mean "create:orders"?'),
        ({"commands": ["create:company"]}, 'Wisedat has no command "create:company"'),
        ({"commands": ["Create"]}, 'did you mean "create"?'),
        ({"commands": ["create", "create"]}, '"create" is listed twice'),
        ({"commands": ["create", "create:orders"]}, '"create:orders" is listed twice, by itself or as a part'),
        ({"commands": "create"}, "commands"),
        ({"commands_token": ""}, "it is empty"),
        ({"commands_token": "  "}, "it is empty"),
        ({"commands_per_minute": 0}, "commands_per_minute"),
        ({"unique": {"order": "your_reference"}}, 'order: nothing finds a new one again; did you mean "orders"?'),
        (
            {"unique": {"categories": "name"}},
            "categories: nothing finds a new one again; it works for products, customers",
        ),
        ({"unique": {"customers": "tax_id"}}, "customers: tax_id does not find a new one; it can be code"),
        ({"unique": {"orders": "reference"}}, 'did you mean "your_reference"?'),
    ],
)
def test_an_invalid_setting_is_refused_with_a_reason(given: dict[str, Any], message: str) -> None:
    assert message in error_of(**given)


def test_no_command_is_allowed_by_default() -> None:
    options = options_with()
    assert ((), None, {}) == (options.commands, options.commands_token, options.unique)


@pytest.mark.parametrize(
    "commands", [["create"], ["create:orders"], ["create:orders", "create:customeraddresses", "update", "delete:taxes"]]
)
def test_commands_name_an_action_or_that_of_one_resource(commands: list[str]) -> None:
    assert tuple(commands) == options_with(commands=commands).commands


def test_the_token_of_commands_is_a_secret() -> None:
    options = options_with(commands_token="token-of-commands")
    assert "token-of-commands" not in repr(options)
    assert options.commands_token is not None
    assert "token-of-commands" == options.commands_token.get_secret_value()


@pytest.mark.parametrize(
    "unique", [{"orders": "your_reference"}, {"products": "barcode", "customers": "code", "warehouses": "code"}]
)
def test_a_unique_field_that_finds_a_new_object_is_accepted(unique: dict[str, str]) -> None:
    assert unique == options_with(unique=unique).unique
