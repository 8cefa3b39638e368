from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tests.workers.connectors.interpreter.conftest import options, resource
from workers.connectors.interpreter import resources
from workers.connectors.interpreter.options import Options

PERSON: dict[str, Any] = {"api_key": None, "user_id": "17", "user_token": "a-token"}


def test_what_is_left_out_has_the_documented_defaults() -> None:
    made = Options(name="goods_in", system="interpreter", store="3546", api_key="k")
    assert made.url == "https://capi.lagerkoll.com/v1/interpreter"
    assert made.resources == ("deliverynote", "invoice")
    assert (made.every, made.timeout) == (timedelta(seconds=10), timedelta(seconds=120))
    assert (made.requests_per_minute, made.concurrency) == (200, 4)
    assert (made.inbox, made.largest) == (None, 20_000_000)


def test_a_store_lets_in_a_key_or_a_person() -> None:
    assert ("3546", "sandbox-key") == options().login()
    assert ("3546", "17", "a-token") == options(**PERSON).login()


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": None},
        {"user_id": "17"},
        {"user_token": "t"},
        {"user_id": "17", "user_token": "t"},
        PERSON | {"user_token": None},
        PERSON | {"user_id": None},
    ],
)
def test_anything_but_exactly_one_login_is_refused_with_what_to_write(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r'write store = "…" and api_key = "…".*or.*user_token = "…".*not both'):
        options(**settings)


@pytest.mark.parametrize("field", ["store", "api_key"])
@pytest.mark.parametrize("value", ["", "two words", "nyckel-å", "line\nbreak"])
def test_what_no_header_holds_is_refused_and_not_repeated(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match="copy it from Lagerkoll") as raised:
        options(**{field: value})
    assert not value or value not in str(raised.value)


@pytest.mark.parametrize("wrong", [{"resources": []}, {"resources": ["orders"]}, {"key": "x"}, {"concurrency": 0}])
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


def test_neither_key_nor_token_is_shown() -> None:
    assert "sandbox-key" not in repr(options())
    assert "a-token" not in repr(options(**PERSON))


def test_a_kind_that_is_named_twice_is_one_resource() -> None:
    made = options(resources=["invoice", "invoice"])
    assert ["invoice"] == [each.name for each in resources.resources(made)]


def test_documents_are_handed_in_and_nothing_can_be_listed_or_fetched() -> None:
    for kind in ("deliverynote", "invoice"):
        found = resource(kind)
        assert (True, False, False, None) == (found.handed_in, found.points, found.unpaged, found.every)
        assert ("sha256",) == found.key


def test_the_bound_is_how_often_the_folder_is_looked_at() -> None:
    watched, unwatched = resource(inbox="incoming", every="20s"), resource(every="20s")
    assert (timedelta(seconds=20), timedelta(seconds=20)) == (watched.full_every, watched.bound)
    assert (timedelta(hours=24), timedelta(hours=24)) == (unwatched.full_every, unwatched.bound)


def test_every_note_stands_on_a_declared_field() -> None:
    found = resource()
    assert set() == {
        (part, field) for part, notes in found.notes.items() for field in notes if field not in found.shape[part]
    }
