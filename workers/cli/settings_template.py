"""Composes the settings file that `init` writes: every setting of every system, with its sentence, as comments."""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING, Any

from models.settings import descriptions, load
from models.settings.subscriptions import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from workers.connectors.discovery import System

_HEAD = """\
#:schema erpmirror.schema.json
# erpmirror: what is mirrored, and where it is kept. Changes take effect on restart.
#
# "${NAME}" takes a value from the environment, or from the file .env beside this one; "${file:secrets/key}" takes it
# from a file. Paths are relative to this file. Durations: "30s", "5m", "1h", "1d". `erpmirror settings-schema >
# erpmirror.schema.json` lets your editor complete and check this file.
"""

_BETWEEN = """\
# Connections: one table for each account. The name in the brackets is yours: lower-case letters, digits, "_" and "-".
# Remove the "# " before the lines that you need. What stands behind a second "# " is optional, with its default or
# with an example.
"""

_SUBSCRIPTIONS = """\
# Subscriptions: one table for each program of yours that is told of changes, each by a signed POST.
"""

_WIDTH = 112
_SHOWN = {"database": ("url",), "broker": ("url",), "receiver": ("host", "port", "token"), "alerts": ()}
"""The settings of the sections that stand in the file without a `# `."""

_NOT_SETTINGS = {"name", "system"}


def text(systems: Mapping[str, System], token: str, connections: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Compose the whole file. `connections`: name -> the settings of those that it begins with."""
    ready = [table(name, values) for name, values in (connections or {}).items()]
    sections = [_section(name, model, token) for name, model in load.SECTIONS.items()]
    connecting = [*ready, *(_connection(system) for system in systems.values())]
    return "\n".join([_HEAD, *sections, _BETWEEN, *connecting, _SUBSCRIPTIONS, _subscription()])


_COMPOSE = {
    r'^url = "sqlite:.*$': (
        'url = "postgresql+psycopg://erpmirror@postgres/erpmirror"   # the services of docker-compose.yml\n'
        'password = "${POSTGRES_PASSWORD}"                            # from .env'
    ),
    r'^url = "filesystem:.*$': 'url = "redis://redis:6379/0"\npassword = "${REDIS_PASSWORD}"',
    r"^# trusted_proxies = .*$": (
        'trusted_proxies = ["${ERPMIRROR_SUBNET}"]   # a proxy on this machine; the containers see their own gateway'
    ),
}
"""What a file for docker-compose.yml has instead of the embedded default: line -> lines."""


def for_compose(text: str) -> str:
    """The file for docker-compose.yml, from that for one machine without containers."""
    for line, lines in _COMPOSE.items():
        text, found = re.subn(line, lines, text, flags=re.MULTILINE)
        if found != 1:
            raise AssertionError(f"the template has {found} lines that match {line}")
    return text


def _section(name: str, model: type[BaseModel], token: str) -> str:
    lines = [f"[{name}]"]
    for setting in model.model_fields:
        line = f'token = "{token}"' if setting == "token" else _line(model, setting)
        lines += [*_sentence(model, setting), line if setting in _SHOWN[name] else f"# {line}"]
    return "\n".join(lines) + "\n"


def _connection(system: System) -> str:
    model = system.options
    names = [name for name in model.model_fields if name not in _NOT_SETTINGS]
    required = [name for name in names if _is_required(system, name, model.model_fields[name])]
    lines = [f"[connections.my_{system.name}]", f'system = "{system.name}"']
    for name in required:
        lines += [*_sentence(model, name), _line(model, name, example_first=True)]
    for name in names:
        if name not in required:
            lines += [*_sentence(model, name), f"# {_line(model, name)}"]
    return "\n".join(f"# {line}" for line in lines) + "\n"


def _subscription() -> str:
    model = Subscription
    names = [name for name in model.model_fields if name not in _NOT_SETTINGS]
    required = [name for name in names if model.model_fields[name].is_required()]
    lines = ["[subscriptions.crm]"]
    for name in required:
        lines += [*_sentence(model, name), _line(model, name, example_first=True)]
    for name in names:
        if name not in required:
            lines += [*_sentence(model, name), f"# {_line(model, name)}"]
    return "\n".join(f"# {line}" for line in lines) + "\n"


def commands(found: System) -> dict[str, Any]:
    """The settings that allow every command of a sandbox; none if the system takes no commands."""
    if found.actions is None:
        return {}
    options = found.options.model_validate({"name": found.name, "url": "http://localhost"} | _sandbox_settings(found))
    names = dict.fromkeys(action.name for action in found.actions(options))
    return {"commands": list(names), "commands_token": f"{found.name}-sandbox-commands"}


def _is_required(system: System, name: str, field: FieldInfo) -> bool:
    """Whether a connection needs a value: there is no default, or an empty one that its sandbox sets, too."""
    if field.is_required():
        return True
    return (
        field.get_default() in {None, ()} and name in _sandbox_settings(system) and "Path" not in str(field.annotation)
    )


def _sandbox_settings(system: System) -> dict[str, Any]:
    if not system.has_sandbox:
        return {}
    settings: dict[str, Any] = system.sandbox().state.sandbox.settings()
    return settings


def _sentence(model: type[BaseModel], name: str) -> Iterator[str]:
    for line in textwrap.wrap(descriptions.of(model, name), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"


def _line(model: type[BaseModel], name: str, *, example_first: bool = False) -> str:
    """The setting with its default; with its example where that says nothing (or `example_first`)."""
    field = model.model_fields[name]
    default = None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})
    example = descriptions.example(model, name)
    says_nothing = default is None or default in ((), {}, "")
    shown = example if example is not None and (says_nothing or example_first) else default
    return f"{descriptions.key(model, name)} = {_value('…' if shown is None else shown)}"


def _value(value: Any) -> str:
    value = descriptions.plain(value)
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def table(name: str, values: Mapping[str, Any]) -> str:
    """The table of one connection, to be pasted into the file."""
    return "".join([f"[connections.{name}]\n", *(f"{key} = {_value(value)}\n" for key, value in values.items())])
