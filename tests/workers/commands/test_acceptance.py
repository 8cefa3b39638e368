"""What is refused before it is stored, each for its own reason; what is stored once."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import commands
from models.bookkeeping.commands import State
from tests.workers.ingest import command_harness
from workers.commands import acceptance
from workers.commands.acceptance import RejectedError, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.ingest.command_harness import CommandHarness

    Connect = Callable[..., AbstractContextManager[CommandHarness]]


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(command_harness.connected, sqlite, tmp_path)


@pytest.fixture
def six(connect: Connect) -> Iterator[CommandHarness]:
    with connect() as connected:
        yield connected
        assert [] == connected.vendor.writes, "nothing is sent before it is stored"


@pytest.mark.parametrize("key", ["a", "a" * 255, "Order/17:2026~", "!"])
def test_visible_characters_make_a_key(key: str) -> None:
    assert key == acceptance.check_key(key)


@pytest.mark.parametrize("key", ["", "a" * 256, "two words", "Ж", "tab\t", "\x7f", "nul\0"])
def test_anything_else_does_not(key: str) -> None:
    with pytest.raises(RejectedError, match="1 to 255 visible"):
        acceptance.check_key(key)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b'{"action": "create"}', 400),
        (b'{"action": 1, "arguments": {}}', 400),
        (b'{"action": "create", "arguments": []}', 400),
        (b'{"action": "create", "resource": 1, "arguments": {}}', 400),
        (b'{"action": "create", "arguments": {}, "more": 1}', 400),
        (b'{"action": "create", "arguments": {"qty": NaN}}', 400),
        (b'{"action": "create", "arguments": {"qty": 1e2000}}', 400),
        (b'{"action": "create", "arguments": {"qty": 1' + b"0" * 5000 + b"}}", 400),
        (b'{"action": "create", "arguments": {"qty": 1, "qty": 2}}', 400),
        (b'{"action": "create", "arguments": {}, "arguments": {}}', 400),
        (b'{"action": "create", "arguments": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", 400),
        (b'{"action": "create", "arguments": {"name": "' + b"a" * 2**20 + b'"}}', 413),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_body_that_is_no_request_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(RejectedError) as rejected:
        acceptance.parse(body)
    assert status == rejected.value.status


def _rejection(six: CommandHarness, action: str, resource: str | None, arguments: dict[str, Any]) -> RejectedError:
    with pytest.raises(RejectedError) as rejected:
        acceptance.prepare(six.context, Request(action, resource, arguments), key="k", caller="c")
    assert [] == six.all()
    return rejected.value


def test_an_unknown_action_or_resource_is_404_with_a_guess(six: CommandHarness) -> None:
    found = _rejection(six, "creat", "goods", {})
    assert (404, "unknown_action") == (found.status, found.code)
    assert 'did you mean "create"' in str(found)
    found = _rejection(six, "create", "good", {})
    assert (404, "unknown_resource") == (found.status, found.code)
    assert 'did you mean "goods"' in str(found)
    assert "create needs a `resource`: goods" == str(_rejection(six, "create", None, {}))


def test_an_action_that_is_not_allowed_is_403(connect: Connect) -> None:
    with connect(commands=["create", "update:goods"]) as six:
        found = _rejection(six, "delete", "goods", {"id": "1"})
        assert (403, "not_allowed") == (found.status, found.code)
        assert 'add "delete:goods" to its `commands`' in str(found)
        assert ["create", "update"] == [each.name for each in acceptance.allowed_actions(six.context)]


def test_all_mistakes_are_told_at_once_each_with_its_place(six: CommandHarness) -> None:
    found = _rejection(six, "update", "goods", {"id": "x", "qty": "four", "more": 1})
    assert (422, "arguments") == (found.status, found.code)
    assert {"id", "qty", "more"} == {each.path for each in found.violations}
    assert "3 mistakes" in str(found)
    assert ["qty"] == [each.path for each in _rejection(six, "update", "goods", {"id": "1", "qty": -1}).violations]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nul\0", "NUL"),
        ("\ud83d", "surrogate"),
        (0.1234567890123456789, "digits"),
        (2**53 + 1, "digits"),
    ],
)
def test_what_would_not_arrive_as_it_was_sent_is_refused(six: CommandHarness, value: Any, words: str) -> None:
    text = json.dumps({"id": "1", "deep": [{"value": value}]}).replace("0.12345678901234568", "0.1234567890123456789")
    request = acceptance.parse(f'{{"action": "update", "resource": "goods", "arguments": {text}}}'.encode())
    found = _rejection(six, request.action, request.resource, request.arguments)
    assert [("deep.0.value", True)] == [(each.path, words in each.message) for each in found.violations]


def test_numbers_that_a_float_holds_are_accepted(six: CommandHarness) -> None:
    body = b'{"action": "update", "resource": "goods", "arguments": {"id": "1", "qty": 9007199254740992}}'
    for text in (b"9007199254740992", b"0.1", b"12.50", b"1e3"):
        request = acceptance.parse(body.replace(b"9007199254740992", text))
        assert acceptance.prepare(six.context, request, key="k", caller="c").payload["id"] == "1"


# The idempotency key.


def test_the_same_command_with_the_same_key_is_stored_once(six: CommandHarness) -> None:
    first = six.send("update", "k1", id="1", name="Hook", qty=1)
    assert first == six.send("update", "k1", qty=1, name="Hook", id="1"), "the order of fields is nothing"
    assert first != six.send("update", "k2", id="1", name="Hook", qty=1)
    assert 2 == len(six.all())


def test_a_long_value_is_not_quoted_whole(six: CommandHarness) -> None:
    found = _rejection(six, "update", "goods", {"id": "x" * 10_000})
    assert len(found.violations[0].message) < 250
    assert "does not match" in found.violations[0].message


def test_the_same_key_with_other_content_is_422(six: CommandHarness) -> None:
    first = six.send("update", "k1", id="1", name="Hook")
    with pytest.raises(RejectedError, match=f"belongs to command {first}") as rejected:
        six.send("update", "k1", id="1", name="Nail")
    assert (422, "key_reused") == (rejected.value.status, rejected.value.code)


def test_more_than_the_settings_allow_in_a_minute_are_429(connect: Connect) -> None:
    with connect(commands_per_minute=2) as six:
        first = six.send("update", "k1", id="1", name="a")
        six.clock.advance(seconds=30)
        six.send("update", id="1", name="b")
        with pytest.raises(RejectedError) as rejected:
            six.send("update", id="1", name="c")
        assert (429, "too_many") == (rejected.value.status, rejected.value.code)
        assert first == six.send("update", "k1", id="1", name="a"), "a repeated one is no further command"
        six.clock.advance(seconds=31)
        six.send("update", id="1", name="c")


# The unique field.


def test_a_token_is_added_to_a_free_text_and_fills_a_code(connect: Connect) -> None:
    with connect(unique={"goods": "name"}) as six:
        found = six.command(six.send("create", "k", name="Screw"))
        token = commands.token("six", "k")
        assert {"name": f"Screw {token}"} == found.payload
        assert {"name": "Screw"} == found.arguments
    assert token != commands.token("six", "k2") != commands.token("seven", "k2")


def test_a_code_of_the_callers_own_stays_and_an_absent_one_is_filled(connect: Connect) -> None:
    with connect(unique={"goods": "code"}) as six:
        own, filled = six.send("create", name="Screw", code="S-1"), six.send("create", "k", name="Screw")
        assert {"name": "Screw", "code": "S-1"} == six.command(own).payload
        assert {"name": "Screw", "code": commands.token("six", "k")} == six.command(filled).payload


def test_a_unique_value_is_a_text(connect: Connect) -> None:
    with connect(unique={"goods": "code"}) as six:
        for value in (12, {"uk": "S"}, True):
            with pytest.raises(RejectedError) as rejected:
                six.send("create", name="Screw", code=value)
            assert ["code"] == [each.path for each in rejected.value.violations]


def test_a_text_that_leaves_no_room_for_the_token_is_refused(connect: Connect) -> None:
    with connect(unique={"goods": "name"}) as six:
        six.send("create", name="a" * 41)
        with pytest.raises(RejectedError) as rejected:
            six.send("create", name="a" * 42)
        assert ["name"] == [each.path for each in rejected.value.violations]
        assert "at most 41 characters" in rejected.value.violations[0].message


# What is kept.


def test_what_is_omitted_is_sent_and_not_shown(connect: Connect) -> None:
    with connect(omit=["name"]) as six:
        six.vendor.objects["goods"]["1"] = {"name": "Nail"}
        number = six.send("update", id="1", name="Hook")
        assert {"id": "1"} == six.command(number).arguments
        six.work()
        assert "Hook" == six.vendor.objects["goods"]["1"]["name"]
        found = six.command(number)
        assert (State.DONE, None) == (found.state, found.payload)
        assert "Hook" not in repr(found)


def test_a_command_is_canceled_only_while_it_waits(six: CommandHarness) -> None:
    number = six.send("update", id="1", name="Hook")
    with six.database.begin() as tx:
        assert commands.cancel(tx, six.command(number))
    found = six.command(number)
    assert (State.CANCELED, None) == (found.state, found.payload)
    with six.database.begin() as tx:
        assert not commands.cancel(tx, found)
        assert not commands.send_again(tx, found)
    six.work()
