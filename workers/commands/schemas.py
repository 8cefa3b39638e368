"""Validates arguments by an action's JSON Schema, and describes the actions to callers."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import msgspec

from models import exact
from models.settings.messages import did_you_mean
from workers.connectors.commands import Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.values import JsonObject
    from workers.connectors.commands import Action


_LONGEST_MESSAGE = 200
"""Characters: a message quotes the value, which may be a whole list."""


def violations(action: Action, arguments: JsonObject) -> list[Violation]:
    """Everything in the arguments that does not fit the action's schema, with its place."""
    return [
        Violation(".".join(str(step) for step in place), _shortened(message))
        for error in _validator(exact.dumps(action.schema)).iter_errors(arguments)
        for place, message in _mistakes(error, action.schema)
    ]


def _mistakes(error: Any, schema: JsonObject) -> list[tuple[list[Any], str]]:
    """(place, words) of a mistake: of each field that is missing or unknown its own place, as `Action.check` has it."""
    place = error.instance_path
    below = _below(schema, error.schema_path[:-1])
    match error.kind.name:
        case "required":
            return [([*place, error.kind.property], "is required")]
        case "additionalProperties":
            known, names = list(below.get("properties", {})), error.kind.unexpected
            return [([*place, each], f"there is no such field{did_you_mean(each, known)}") for each in names]
        case "pattern" if "description" in below:  # what a pattern means
            return [(place, f"{exact.dumps(error.instance)} is not: {below['description']}")]
    return [(place, error.message)]


def _below(schema: Any, path: Iterable[Any]) -> JsonObject:
    """The part of a schema at a path; {} if there is none."""
    for step in path:
        schema = schema.get(step) if isinstance(schema, dict) else None
    return schema if isinstance(schema, dict) else {}


def _shortened(message: str) -> str:
    """The message with its end, which says what is wrong; a long value before it is cut."""
    if len(message) <= _LONGEST_MESSAGE:
        return message
    return f"{message[: _LONGEST_MESSAGE // 2]} … {message[-_LONGEST_MESSAGE // 2 :]}"


@lru_cache(maxsize=200)
def _validator(schema: str) -> Any:
    return jsonschema_rs.Draft202012Validator(schema)


def described(actions: Iterable[Action]) -> list[dict[str, Any]]:
    """What a caller needs to know of each action, for the catalogue."""
    return [
        {
            "action": each.name,
            "resource": each.resource,
            "title": each.title,
            "rules": list(each.rules),
            "schema": each.schema,
            "example": each.example,
            "source": each.source,
        }
        for each in actions
    ]


def lines(action: Action) -> Iterator[str]:
    """An action's arguments and rules, for a person: a field a line, deeper ones further right, then an example."""
    yield "  Arguments (* is required):"
    yield from _fields(action.schema, "    ")
    if action.rules:
        yield "  Rules:"
        yield from (f"    - {rule}" for rule in action.rules)
    yield "  Example of the arguments:"
    yield from (f"    {line}" for line in msgspec.json.format(exact.dumps(action.example), indent=2).splitlines())
    yield f"  Source: {action.source}"


def _fields(schema: Any, indent: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        mark = "*" if name in required else ""
        words = [str(each) for each in (_type_of(field), field.get("description")) if each]
        yield f"{indent}{name}{mark}  {'; '.join(words)}".rstrip()
        yield from _fields(field, f"{indent}  ")
        items = field.get("items")
        if isinstance(items, dict):
            yield from _fields(items, f"{indent}  ")


def _type_of(field: Any) -> str:
    if "enum" in field:
        return " or ".join(exact.dumps(each) for each in field["enum"])
    kind = field.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else kind
