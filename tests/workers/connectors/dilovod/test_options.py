"""Dilovod's settings: defaults, and errors with remedies."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from tests.workers.connectors.dilovod.conftest import made_options
from workers.connectors.dilovod.options import Options


def test_the_documented_values_are_the_defaults() -> None:
    options = made_options()

    assert options.url == "https://api.dilovod.ua"
    assert options.version == "0.25"
    assert options.timezone == "Europe/Kyiv"
    assert options.webhook_sources == (ip_network("88.198.50.253"),)
    assert options.reconcile_every == timedelta(hours=1)
    assert options.login() == ("sandbox-key",)


def test_a_trailing_slash_of_the_address_makes_no_difference() -> None:
    assert made_options(url="https://own.example/api/").url == "https://own.example/api"


def test_the_key_is_not_in_the_repr() -> None:
    assert "sandbox-key" not in repr(made_options())


def test_at_least_one_resource_is_required() -> None:
    with pytest.raises(ValidationError, match="name at least one resource"):
        Options.model_validate({"name": "shop", "system": "dilovod", "api_key": "k"})


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"resources": []}, "name at least one resource"),
        ({"resources": ["goods"]}, "write catalogs"),
        ({"resources": ["catalog.goods"]}, 'did you mean "catalogs.goods"\\? write catalogs'),
        ({"resources": ["documents.saleOrder."]}, 'did you mean "documents.saleOrder"'),
        ({"resources": ["catalogs.goods.tpGoods"]}, "write catalogs"),
        ({"resources": ["catalogs.goods", "catalogs.goods"]}, "listed twice"),
        ({"webhook_sources": []}, "remove the key"),
        ({"webhook_sources": ["88.198.50"]}, "write an address or a network"),
        ({"concurrency": 2}, "one request at a time"),
        ({"api_key": " "}, "the key is empty"),
        ({"reconcile_every": "1 hour"}, "a duration is"),
        ({"packet": "xml"}, "json"),
        ({"dimensions": {"balanceRegisters.cash": ["firm"]}}, "add it there, or remove it here"),
        ({"dimensions": {"catalogs.goods": ["name"]}}, "identified by its id"),
        ({"dimensions": {"balanceRegisters.goods": []}}, "name some dimensions"),
        ({"dimensions": {"balanceRegisters.goods": ["good", "good"]}}, "each once"),
        ({"dimensions": {"balanceRegisters.goods": ["good.code"]}}, "name some dimensions"),
        ({"dimensions": ["good"]}, "valid dictionary"),
        ({"unknown": 1}, "Extra inputs"),
        ({"commands": ["saveObjects"]}, 'did you mean "saveObject"\\? choose from'),
        ({"commands": ["request"]}, "choose from saveObject, setDelMark, saleOrderCreate"),
        ({"commands": ["setDelMark", "setDelMark"]}, "listed twice"),
        ({"commands_token": " "}, "the token is empty"),
        ({"unique": {"goods": "code"}}, "is no catalogue and no kind of document"),
        ({"unique": {"balanceRegisters.goods": "code"}}, "is no catalogue and no kind of document"),
        ({"unique": {"catalogs.goods": "cod"}}, 'did you mean "code"'),
        ({"unique": {"documents.saleOrder": "name"}}, "choose from number, remark"),
    ],
)
def test_an_invalid_setting_is_refused_with_a_remedy(given: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        made_options(**given)


def test_writes_are_allowed_by_name_and_none_by_default() -> None:
    assert ((), {}) == (made_options().commands, made_options().unique)
    unique = {"catalogs.goods": "productNum", "documents.saleOrder": "remark", "documents.goodMoving": "number"}

    options = made_options(commands=["saleOrderCreate", "saveObject"], commands_token="a-long-word", unique=unique)

    assert (("saleOrderCreate", "saveObject"), unique) == (options.commands, options.unique)
    assert "a-long-word" not in repr(options)
