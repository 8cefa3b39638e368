"""Helpers of the tests of writes: actions by name, their mistakes, and a sandbox's objects to write."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema_rs

from workers.connectors.wisedat import command_table, commands
from workers.connectors.wisedat.options import Options

if TYPE_CHECKING:
    from models.values import JsonObject
    from workers.connectors.commands import Action

ALL = [(verb, resource) for resource in command_table.SECTIONS for verb in command_table.VERBS]


def options_with(**given: Any) -> Options:
    login = {"api_key": "chave-1", "user": "espelho", "password": "segredo-1"}
    return Options.model_validate(
        {"name": "loja", "system": "wisedat", "url": "http://wisedat.local:8080"} | login | given
    )


@cache
def actions() -> dict[tuple[str, str], Action]:
    return {(each.name, str(each.resource)): each for each in commands.actions(options_with())}


def action(verb: str, resource: str) -> Action:
    return actions()[verb, resource]


def schema_mistakes(verb: str, resource: str, arguments: JsonObject) -> list[str]:
    """The dotted paths of what does not fit the schema; of a missing or unknown field with its name."""
    validator = jsonschema_rs.Draft202012Validator(action(verb, resource).schema)
    found = []
    for error in validator.iter_errors(arguments):
        path = ".".join(map(str, error.instance_path))
        kind = error.kind.name
        named = (
            error.message.split('"')[1]
            if kind == "required"
            else error.message.split("'")[1]
            if kind == "additionalProperties"
            else ""
        )
        found.append(".".join(filter(None, (path, named))) if kind != "minProperties" else "nothing to change")
    return list(dict.fromkeys(found))


def mistakes(verb: str, resource: str, arguments: JsonObject) -> list[str]:
    """The dotted paths of all mistakes: the schema's, or if it has none, those of the rules."""
    return schema_mistakes(verb, resource, arguments) or [each.path for each in action(verb, resource).check(arguments)]


def changed(arguments: JsonObject, path: str, value: Any) -> JsonObject:
    """A copy with this value at a dotted path; without the field if the value is `...`."""
    name, _, rest = path.partition(".")
    if rest:
        value = changed(arguments[int(name)] if isinstance(arguments, list) else arguments[name], rest, value)
    if isinstance(arguments, list):
        return [value if place == int(name) else each for place, each in enumerate(arguments)]
    if value is ...:
        return {field: each for field, each in arguments.items() if field != name}
    return {**arguments, name: value}
