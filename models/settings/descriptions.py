"""The sentence and the example of each setting, and the JSON Schema of the file: all from the fields' declarations."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from models.durations import spell
from models.settings.connections import CONNECTION_NAME
from models.settings.load import SECTIONS
from models.settings.subscriptions import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from models.settings.connections import Connection

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"\$\{[^}]+\}"}
"""A value that is taken from the environment or a file, whatever its type will be."""


def of(model: type[BaseModel], name: str) -> str:
    """The field's description, its own or inherited; empty if there is none."""
    return next((field.description for field in _declarations(model, name) if field.description), "")


def example(model: type[BaseModel], name: str) -> Any:
    """The field's first example, its own or inherited; None if there is none."""
    return next((field.examples[0] for field in _declarations(model, name) if field.examples), None)


def _declarations(model: type[BaseModel], name: str) -> Iterator[FieldInfo]:
    """The field as each class declares it, the most derived first: a new default hides what stands above."""
    for each in model.__mro__:
        fields: dict[str, FieldInfo] = getattr(each, "model_fields", {})
        if name in fields:
            yield fields[name]


def key(model: type[BaseModel], name: str) -> str:
    """The field's key in the file: Python keeps some words for itself."""
    return model.model_fields[name].alias or name


def plain(value: Any) -> Any:
    """A value as the file has it: text, numbers, lists and tables."""
    if isinstance(value, timedelta):
        return spell(value, exact=True)
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value if isinstance(value, bool | int | float | str) else str(value).removesuffix("/32")


def schema(options: Mapping[str, type[Connection]]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the file, for editors. `options`: system -> its class of connections."""
    definitions: dict[str, Any] = {}
    sections = {name: _table(name, model, definitions) for name, model in SECTIONS.items()}
    for system, model in options.items():
        definitions[system] = _connection(system, model, definitions)
    connections = {
        "type": "object",
        "description": "One table for each account.",
        "propertyNames": {"pattern": f"^(?:{CONNECTION_NAME.pattern})$"},
        "additionalProperties": {"oneOf": [{"$ref": f"#/$defs/{system}"} for system in options]},
    }
    subscription = _table("subscription", Subscription, definitions)
    del subscription["properties"]["name"]  # it stands in the brackets
    subscription["required"].remove("name")
    definitions["subscription"] = subscription
    subscriptions = {
        "type": "object",
        "description": "One table for each program that is told of changes.",
        "propertyNames": {"pattern": f"^(?:{CONNECTION_NAME.pattern})$"},
        "additionalProperties": {"$ref": "#/$defs/subscription"},
    }
    return {
        "$schema": _DIALECT,
        "title": "erpmirror.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {**sections, "connections": connections, "subscriptions": subscriptions},
        "$defs": definitions,
    }


def _connection(system: str, model: type[Connection], definitions: dict[str, Any]) -> dict[str, Any]:
    table = _table(system, model, definitions)
    del table["properties"]["name"]  # it stands in the brackets
    table["properties"]["system"] = {"const": system, "description": of(model, "system")}
    table["required"] = ["system", *(name for name in table["required"] if name not in {"name", "system"})]
    return table


def _table(prefix: str, model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one table; the tables inside it go to `definitions`."""
    table = model.model_json_schema(ref_template=f"#/$defs/{prefix}_{{model}}")
    for name, inner in table.pop("$defs", {}).items():
        definitions[f"{prefix}_{name}"] = inner
    fields = {key(model, name): name for name in model.model_fields}
    table["properties"] = {
        name: _property(model, fields[name], written) for name, written in table["properties"].items() if name in fields
    }
    table["required"] = table.get("required", [])
    table.pop("title", None)
    table["description"] = (model.__doc__ or "").partition("\n")[0]
    return table


def _property(model: type[BaseModel], name: str, written: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in written.items() if key not in {"title", "default", "description", "examples"}}
    # TOML has no null: a setting that may be None is left out.
    choices = [choice for choice in rest.pop("anyOf", [rest]) if choice != {"type": "null"}]
    if any(choice.get("type") != "string" or len(choice) > 1 for choice in choices if _is_scalar(choice)):
        choices.append(_REFERENCE)
    default = model.model_fields[name].get_default(call_default_factory=True, validated_data={})
    shown = example(model, name)
    return {
        "description": of(model, name),
        **(choices[0] if len(choices) == 1 else {"anyOf": choices}),
        **({} if default is None or model.model_fields[name].is_required() else {"default": plain(default)}),
        **({} if shown is None else {"examples": [plain(shown)]}),
    }


def _is_scalar(choice: dict[str, Any]) -> bool:
    return choice.get("type") not in {"array", "object"}
