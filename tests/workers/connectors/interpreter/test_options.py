"""The settings and resources of an Interpreter connection."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tests.workers.connectors.interpreter.conftest import options, resource
from workers.connectors.interpreter import resources
from workers.connectors.interpreter.options import Options

USER_LOGIN: dict[str, Any] = {"api_key": None, "user_id": "17", "user_token": "a-token"}


def test_defaults() -> None:
    made = Options(name="goods_in", system="interpreter", store="3546", api_key="k")
    assert made.url == "https://capi.lagerkoll.com/v1/interpreter"
    assert made.resources == ("deliverynote", "invoice")
    assert (made.every, made.timeout) == (timedelta(seconds=10), timedelta(seconds=120))
    assert (made.requests_per_minute, made.concurrency) == (200, 4)
    assert (made.inbox, made.largest) == (None, 20_000_000)


def test_the_login_is_a_key_or_a_user() -> None:
    assert ("3546", "sandbox-key") == options().login()
    assert ("3546", "17", "a-token") == options(**USER_LOGIN).login()


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": None},
        {"user_id": "17"},
        {"user_token": "t"},
        {"user_id": "17", "user_token": "t"},
        USER_LOGIN | {"user_token": None},
        USER_LOGIN | {"user_id": None},
    ],
)
def test_anything_but_one_login_is_refused_with_a_remedy(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r'write store = "…" and api_key = "…".*or.*user_token = "…".*not both'):
        options(**settings)


@pytest.mark.parametrize("field", ["store", "api_key"])
@pytest.mark.parametrize("value", ["", "two words", "nyckel-å", "line\nbreak"])
def test_a_value_that_does_not_fit_a_header_is_refused_and_not_quoted(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match="copy it from Lagerkoll") as raised:
        options(**{field: value})
    assert not value or value not in str(raised.value)


@pytest.mark.parametrize("wrong", [{"resources": []}, {"resources": ["orders"]}, {"key": "x"}, {"concurrency": 0}])
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


def test_key_and_token_are_not_in_the_repr() -> None:
    assert "sandbox-key" not in repr(options())
    assert "a-token" not in repr(options(**USER_LOGIN))


def test_a_kind_that_is_listed_twice_is_one_resource() -> None:
    made = options(resources=["invoice", "invoice"])
    assert ["invoice"] == [each.name for each in resources.resources(made)]


def test_documents_are_handed_in_and_nothing_can_be_listed_or_fetched() -> None:
    for kind in ("deliverynote", "invoice"):
        found = resource(kind)
        assert (True, False, False, None) == (found.handed_in, found.fetchable, found.unpaged, found.every)
        assert ("sha256",) == found.key


def test_the_bound_is_the_time_between_scans_of_the_folder() -> None:
    watched, unwatched = resource(inbox="incoming", every="20s"), resource(every="20s")
    assert (timedelta(seconds=20), timedelta(seconds=20)) == (watched.full_every, watched.bound)
    assert (timedelta(hours=24), timedelta(hours=24)) == (unwatched.full_every, unwatched.bound)


def test_every_note_belongs_to_a_declared_field() -> None:
    found = resource()
    assert set() == {
        (part, field) for part, notes in found.notes.items() for field in notes if field not in found.shape[part]
    }
