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
"""Wisedat API 1.3, contents, without what is no resource of its own."""


def made(**given: Any) -> Options:
    login = {"api_key": "chave-1", "user": "espelho", "password": "segredo-1"}
    return Options.model_validate(
        {"name": "loja", "system": "wisedat", "url": "http://wisedat.local:8080"} | login | given
    )


def complaint(**given: Any) -> str:
    with pytest.raises(ValidationError) as error:
        made(**given)
    return str(error.value)


def test_what_is_left_out_has_the_documented_defaults() -> None:
    options = made()
    assert sorted(VENDORS_LIST) == sorted(options.resources)
    assert (timedelta(minutes=5), timedelta(hours=24)) == (options.every, options.full_every)
    assert (timedelta(minutes=2), timedelta(days=7)) == (options.overlap, options.details_every)
    assert timedelta(seconds=60) == options.timeout
    assert (None, "hash", 200, 1) == (options.rsa_padding, options.images, options.page_size, options.concurrency)
    assert options == made(concurrency=1)


def test_the_table_has_every_resource_of_the_vendors_document() -> None:
    assert sorted(VENDORS_LIST) == sorted(table.NAMES)


def test_the_server_stands_at_the_customer_so_its_address_has_no_default() -> None:
    with pytest.raises(ValidationError, match="url"):
        Options.model_validate({"name": "loja", "system": "wisedat", "api_key": "k", "user": "u", "password": "p"})


def test_key_user_and_password_are_the_account() -> None:
    assert ("chave-1", "espelho", "segredo-1") == made().login()


def test_the_login_is_in_no_repr() -> None:
    shown = repr(made()) + str(made())
    assert [] == [secret for secret in made().login() if secret in shown]


@pytest.mark.parametrize("part", ["api_key", "user", "password"])
def test_a_semicolon_is_refused_because_it_joins_the_three(part: str) -> None:
    said = complaint(**{part: "one;two"})
    assert "separates the three parts" in said
    assert "one;two" not in said


@pytest.mark.parametrize("part", ["api_key", "user", "password"])
def test_an_empty_part_of_the_login_is_refused(part: str) -> None:
    assert "it is empty" in complaint(**{part: ""})


def test_a_key_that_no_header_takes_is_refused() -> None:
    assert "no header takes" in complaint(api_key="chave é")
    assert "pässword with spaces" == made(password="pässword with spaces").login()[2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"resources": ["products", "invoices"]}, 'Wisedat has no resource "invoices"; it has company, products'),
        ({"resources": ["customeraddresses"]}, "no resource"),
        ({"resources": ["taxes", "taxes"]}, "named twice"),
        ({"resources": []}, "at least 1"),
        ({"rsa_padding": "oaep-sha256"}, "rsa_padding"),
        ({"images": "drop"}, "images"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": True}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        ({"concurrency": 2}, "one thing at a time"),
        ({"details_every": "7"}, "details_every"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(given: dict[str, Any], said: str) -> None:
    assert said in complaint(**given)
