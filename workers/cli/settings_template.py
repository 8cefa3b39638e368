"""Composes the settings file that `init` writes: every setting of every system, as comments."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from models.durations import spell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from workers.connectors.discovery import System

_HEAD = """\
# erpmirror: what is mirrored, and where it is kept. Changes take effect on restart.
# "${NAME}" takes a value from the environment. Paths are relative to this file. Durations: "30s", "5m", "1h", "1d".

[database]
url = "sqlite:///var/erpmirror.db"      # in production "postgresql+psycopg://user:password@host/name"
# keep_webhooks = "30d"                 # how long webhooks and finished full syncs are kept
# keep_changes = "365d"                 # how long the journal is kept; unset: for ever, so a replay gives all live rows

[broker]
url = "filesystem:///var/broker"        # in production "redis://host:6379/0" or "amqp://user:password@host:5672//"

[receiver]
host = "127.0.0.1"
port = 8000
# root_path = "/erpmirror"              # when a proxy serves it below a prefix
# trusted_proxies = ["10.0.0.0/8"]      # networks whose X-Forwarded-For is believed
# spool = "var/spool"                   # keeps webhooks while the database is away; use a persistent disk
token = "{token}"   # for every route but webhooks and liveness; keep it secret

# Connections: one table for each account. The name in the brackets is yours: lower-case letters, digits, "_" and "-".
# Remove the "# " before the lines that you need.
"""

_EXAMPLE_URL = "http://erp.example.com:8080"
_NOT_SETTINGS = {"name", "system"}


def text(systems: dict[str, System], token: str) -> str:
    """Compose the whole file."""
    return "\n".join([_HEAD.replace("{token}", token), *(_table(system) for system in systems.values())])


def _table(system: System) -> str:
    examples = _sandbox_settings(system)
    fields = {name: field for name, field in system.options.model_fields.items() if name not in _NOT_SETTINGS}
    required = [name for name, field in fields.items() if _is_required(field, has_example=name in examples)]
    lines = [f"[connections.my_{system.name}]", f'system = "{system.name}"']
    lines += [_line(system.name, name, fields[name], examples) for name in required]
    lines += [f"# {line}" for line in _optional({name: fields[name] for name in fields if name not in required})]
    return "\n".join(f"# {line}" for line in lines) + "\n"


def _is_required(field: FieldInfo, *, has_example: bool) -> bool:
    """Whether a connection needs a value: there is no default, or an empty one (one of several logins, a list)."""
    if field.is_required():
        return True
    return has_example and not _takes_path(field) and field.get_default() in {None, ()}


def _sandbox_settings(system: System) -> dict[str, Any]:
    """The settings of the system's sandbox. They serve as examples."""
    if not system.has_sandbox:
        return {}
    settings: dict[str, Any] = system.sandbox().state.sandbox.settings()
    return settings


def _line(system: str, name: str, field: FieldInfo, examples: dict[str, Any]) -> str:
    if _is_secret(field):
        return f'{name} = "${{{system}_{name}}}"'.replace(f"{system}_{name}", f"{system}_{name}".upper())
    return f"{name} = {_value(examples.get(name, _EXAMPLE_URL if name == 'url' else '…'))}"


def _optional(fields: dict[str, FieldInfo]) -> Iterator[str]:
    for name, field in fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if default == {}:
            yield f"{name} = {{}}"
        elif default is None:
            yield f'{name} = "…"' if _takes_text(field) else f"{name} = …"
        else:
            yield f"{name} = {_value(default)}"


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


def _takes_text(field: FieldInfo) -> bool:
    return "str" in str(field.annotation).casefold() or "Literal" in str(field.annotation) or _takes_path(field)


def _takes_path(field: FieldInfo) -> bool:
    return "Path" in str(field.annotation)


def _value(value: Any) -> str:
    if isinstance(value, timedelta):
        return f'"{spell(value, exact=True)}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(str(value).removesuffix("/32"), ensure_ascii=False)


def table(name: str, values: dict[str, Any]) -> str:
    """The table of one connection, to be pasted into the file."""
    return "".join([f"[connections.{name}]\n", *(f"{key} = {_value(value)}\n" for key, value in values.items())])
