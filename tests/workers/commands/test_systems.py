"""The contract of writes (`workers.connectors.commands`), for every action of every system that takes commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from models.bookkeeping.commands import State
from tests.workers.commands import system_harness
from tests.workers.commands.system_harness import SYSTEMS, Variant, actions_of
from workers.commands import schemas
from workers.connectors.commands import GONE, TOKEN_LENGTH, GoneType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database
    from models.values import JsonObject
    from tests.workers.commands.system_harness import Sample, SystemHarness
    from workers.connectors.commands import Action

ACTIONS = [
    pytest.param(action, id=f"{system}-{action.full_name}") for system in SYSTEMS for action in actions_of(system)
]
_DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
_UNKNOWN = "no_such_field"


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_action_is_declared_once(system: str) -> None:
    names = [(each.name, each.resource) for each in actions_of(system)]
    assert sorted(set(names), key=str) == sorted(names, key=str)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_explains_itself(action: Action) -> None:
    assert all(isinstance(each, str) and each.strip() for each in (action.name, action.title, action.source))
    assert action.resource is None or action.resource
    assert all(each.strip() for each in action.rules)


@pytest.mark.parametrize("action", ACTIONS)
def test_its_schema_is_valid_and_its_example_fits_schema_and_rules(action: Action) -> None:
    jsonschema_rs.meta.validate(_DRAFT | action.schema)
    assert "object" == action.schema["type"]
    assert [] == schemas.violations(action, action.example)
    assert [] == list(action.check(action.example))


@pytest.mark.parametrize("action", ACTIONS)
def test_a_required_field_that_is_missing_is_told_with_its_place(action: Action) -> None:
    required = list(_required(action.schema, action.example))
    assert required
    for place, without in required:
        assert ".".join(map(str, place)) in {each.path for each in schemas.violations(action, without)}, place


def _required(schema: JsonObject, value: Any) -> Iterator[tuple[list[Any], Any]]:
    """The place of each required field in a value, and the value without it."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            for place, without in _required(schema.get("items", {}), item):
                yield [number, *place], [*value[:number], without, *value[number + 1 :]]
    elif isinstance(value, dict):
        for name in schema.get("required", ()):
            yield [name], {each: held for each, held in value.items() if each != name}
        for name, below in schema.get("properties", {}).items():
            for place, without in _required(below, value.get(name)):
                yield [name, *place], value | {name: without}


@pytest.mark.parametrize("action", ACTIONS)
def test_an_unknown_field_is_told_with_its_name(action: Action) -> None:
    assert action.schema["additionalProperties"] is False
    assert [_UNKNOWN] == [each.path for each in schemas.violations(action, action.example | {_UNKNOWN: 1})]


def test_mistakes_are_told_in_words_not_in_patterns() -> None:
    creation = next(each for each in actions_of("wisedat") if each.full_name == "create:units")
    told = {each.path: each.message for each in schemas.violations(creation, {"id": "A!", "descriptoin": "box"})}
    assert {"id", "description", "descriptoin"} == told.keys()
    assert "letters and digits only" in told["id"]
    assert ("is required", True) == (told["description"], 'did you mean "description"?' in told["descriptoin"])


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_writes_an_object_or_creates_one(action: Action) -> None:
    subject, created = action.subject(action.example), action.creates(action.example)
    assert subject is not None or created is not None
    if subject is not None and created is not None:
        assert subject.resource == created, "the caller chooses the new object's key"


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_expected_can_be_compared_and_stored(action: Action) -> None:
    if action.expected is None:
        assert action.shown is None
        return
    expected = action.expected(action.example)
    if expected is not GONE:
        assert action.shown is not None
        assert json.loads(json.dumps(expected)) == expected


@pytest.mark.parametrize("action", ACTIONS)
def test_a_field_that_finds_a_new_object_again_is_a_text_of_the_schema(action: Action) -> None:
    for fields in action.unique.values():
        for name, unique in fields.items():
            place = _at(action.schema, unique.path)
            assert "string" in place["type"], name
            assert unique.longest <= place.get("maxLength", unique.longest), name
            assert not unique.appends or unique.longest > TOKEN_LENGTH, name


def _at(schema: JsonObject, path: tuple[str, ...]) -> JsonObject:
    """The schema of the value at a place; one that it names, or one that any other field has."""
    for name in path:
        schema = schema.get("properties", {}).get(name) or schema["additionalProperties"]
    return schema


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_example_is_done_shown_and_mirrored(system: str, sqlite: Database, tmp_path: Path) -> None:
    created: dict[str, str] = {}
    with system_harness.connected(sqlite, tmp_path, Variant(system, "examples")) as harness:
        for each in harness.samples():
            sample = harness.about_what_there_is(each, created)
            outcome = harness.send(sample)
            assert (State.DONE, 1) == (outcome.command.state, outcome.executed), sample.name
            if sample.creates is not None:
                assert {outcome.command.result_key} == outcome.created
                created[sample.creates] = str(outcome.command.result_key)
            _assert_shown(harness, sample)
            if sample.deletes:
                harness.let_a_minute_pass()
            assert {} == harness.differences(), sample.name


def _assert_shown(harness: SystemHarness, sample: Sample) -> None:
    """What the client reads back of a command that was done is what its action expects."""
    action, arguments = sample.action, sample.arguments
    if action.expected is None or sample.creates is not None:
        return
    with harness.context.work_session() as session:
        client: Any = session.client
        found = client.read_back(action, arguments)
    expected = action.expected(arguments)
    if isinstance(expected, GoneType):
        assert found is GONE, sample.name
        return
    assert action.shown is not None
    shown = action.shown(arguments, found)
    visible = {name: value for name, value in expected.items() if name not in sample.hidden}
    assert visible == {name: value for name, value in shown.items() if name not in sample.hidden}, sample.name
