"""The settings of one installation: reads the file, checks all of it, and reports every mistake with its remedy.

`workers.configuration` finds the file and knows the systems.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from models.settings import messages, references, service_urls
from models.settings.connections import (
    CONNECTION_NAME,
    Connection,
    Duration,
    Network,
    Secret,
    Strict,
    TakesCommands,
    Whole,
    beside_file,
)
from models.settings.subscriptions import Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHORTEST_JOURNAL = timedelta(days=2)


class SettingsError(Exception):
    """The settings cannot be used. The message names the file and what to do, and shows no secret."""


_MISTAKES_SHOWN = 50


class MistakesError(SettingsError):
    """The file holds mistakes. The message names the file, each of the first 50 mistakes and its remedy."""

    def __init__(self, file: Path, complaints: list[str]) -> None:
        count = "one mistake" if len(complaints) == 1 else f"{len(complaints)} mistakes"
        shown = complaints[:_MISTAKES_SHOWN]
        if len(complaints) > len(shown):
            shown.append(f"and {len(complaints) - len(shown)} more")
        super().__init__("\n".join([f"{file}: {count}", *(f"  {each}" for each in shown)]))


class DatabaseSettings(Strict):
    """Where the mirror lives. After loading a SQLite path is absolute, and `url` contains the password."""

    password: Secret | None = Field(
        default=None,
        description="The server's password as it is, for one that an address would have to encode.",
        examples=["${POSTGRES_PASSWORD}"],
    )
    url: str = Field(
        default="sqlite:///var/erpmirror.db",
        repr=False,
        validate_default=True,
        description='Where the mirror is kept; in production "postgresql+psycopg://user@host/name".',
    )
    keep_webhooks: Duration = Field(
        default=timedelta(days=30), description="How long webhooks and finished full syncs are kept."
    )
    keep_changes: Duration | None = Field(
        default=None,
        description="How long the journal is kept; unset: for ever, so that a replay gives all live rows.",
        examples=["365d"],
    )

    keep_commands: Duration = Field(
        default=timedelta(days=400), description="How long commands are kept whose fate is known."
    )
    keep_deliveries: Duration = Field(
        default=timedelta(days=30),
        description="How long attempts to deliver are kept, and the place of a subscription that was removed.",
    )

    @field_validator("keep_changes")
    @classmethod
    def _longer_than_deletions_count(cls, kept: timedelta | None) -> timedelta | None:
        if kept is not None and kept < _SHORTEST_JOURNAL:
            raise ValueError('the journal is kept for at least "2d": deletions are counted in it over a day')
        return kept

    @field_validator("url")
    @classmethod
    def _known_engine(cls, url: str, info: ValidationInfo) -> str:
        return service_urls.database(url, password=info.data.get("password"), beside_file=partial(beside_file, info))


class BrokerSettings(Strict):
    """Where wake-ups are sent. After loading `url` contains the password."""

    password: Secret | None = Field(
        default=None,
        description="The server's password as it is, for one that an address would have to encode.",
        examples=["${REDIS_PASSWORD}"],
    )
    url: str = Field(
        default="filesystem:///var/broker",
        repr=False,
        validate_default=True,
        description='What wakes the workers; in production "redis://host:6379/0" or "amqp://user@host:5672//".',
    )

    @field_validator("url")
    @classmethod
    def _known_transport(cls, url: str, info: ValidationInfo) -> str:
        return service_urls.broker(url, password=info.data.get("password"), beside_file=partial(beside_file, info))

    @property
    def folder(self) -> Path | None:
        """The embedded broker's folder, absolute; None for a server. It need not exist."""
        folder = service_urls.broker_folder(self.url)
        return None if folder is None else Path(folder)


class ReceiverSettings(Strict):
    """How the receiver is reached, and which proxies it trusts. `spool` is absolute after loading."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="The address on which the receiver answers; 0.0.0.0: on all."
    )
    port: Whole = Field(default=8000, ge=0, le=65535, description="The port on which the receiver answers.")
    root_path: str = Field(
        default="", description="The prefix below which a proxy serves it; empty: none.", examples=["/erpmirror"]
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="The proxies before the receiver, whose X-Forwarded-For is believed.",
        examples=[["10.0.0.0/8"]],
    )
    token: Secret | None = Field(
        default=None,
        description="What callers of every route but webhooks and liveness have to show; keep it secret.",
        examples=["${ERPMIRROR_TOKEN}"],
    )
    spool: Path = Field(
        default=Path("var/spool"),
        validate_default=True,
        description="The folder that keeps webhooks while the database is away; it belongs on a persistent disk.",
    )

    @field_validator("spool")
    @classmethod
    def _beside_the_file(cls, spool: Path, info: ValidationInfo) -> Path:
        return beside_file(info, str(spool))

    @field_validator("root_path")
    @classmethod
    def _prefix(cls, root_path: str) -> str:
        if root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", root_path):
            raise ValueError('a prefix begins with a slash, as in "/erpmirror"; leave it empty where there is none')
        return root_path.rstrip("/")

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, token: Secret | None) -> Secret | None:
        if token is not None and not re.fullmatch(r"[!-~]+", token.get_secret_value()):
            raise ValueError("a token is printable ASCII without spaces; `erpmirror init` writes a good one")
        return token


class AlertSettings(Strict):
    """Who is told when something needs a person."""

    to: tuple[Secret, ...] = Field(
        default=(),
        description="Apprise addresses of those who are told when something needs a person, as a paused subscription.",
        examples=[["mailto://user:password@example.com", "tgram://bottoken/ChatID"]],
    )

    @field_validator("to")
    @classmethod
    def _look_like_addresses(cls, to: tuple[Secret, ...]) -> tuple[Secret, ...]:
        if not all(re.fullmatch(r"[a-z][a-z0-9+]*://\S+", each.get_secret_value()) for each in to):
            raise ValueError(
                'an address is one of Apprise\'s, as in "mailto://user:password@example.com"; its documentation lists '
                "them all"
            )
        return to


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file, checked. `file` is its absolute path; `connections` and `subscriptions` by name."""

    file: Path
    database: DatabaseSettings
    broker: BrokerSettings
    receiver: ReceiverSettings
    connections: dict[str, Connection]
    alerts: AlertSettings = field(default_factory=AlertSettings)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


SECTIONS: dict[str, type[Strict]] = {
    "database": DatabaseSettings,
    "broker": BrokerSettings,
    "receiver": ReceiverSettings,
    "alerts": AlertSettings,
}
"""The tables of the file beside the connections and subscriptions."""


def load(path: Path, options: Mapping[str, type[Connection]]) -> Settings:
    """The settings in this file. `options`: system -> its class of connections. Raises `SettingsError`."""
    file = path.absolute()
    content = _parse(file)
    loader = _Loader(file, options)
    content = loader.expanded(content)
    loader.refuse_unknown(content)
    sections = {name: loader.section(name, model, content.get(name, {})) for name, model in SECTIONS.items()}
    connections = loader.connections(content.get("connections", {}))
    loader.refuse_shared_tokens(sections["receiver"], connections)
    subscriptions = loader.subscriptions(content.get("subscriptions", {}), connections)
    if loader.complaints:
        raise MistakesError(file, loader.complaints)
    return Settings(file=file, connections=connections, subscriptions=subscriptions, **sections)


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))  # editors on Windows write a byte order mark
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(
            f"there is no settings file {file}: `erpmirror init` writes one; if you have one elsewhere, name it with "
            "--config"
        ) from None
    except IsADirectoryError:
        raise SettingsError(
            f"{file} is a folder, not a file: name the file with --config, or remove the folder if it is empty "
            f"(`rmdir {file}`) and run `erpmirror init`"
        ) from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}; let this user read it") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}; a text needs quotes, a list brackets") from None


class _Loader:
    """One pass over the file that collects every mistake."""

    def __init__(self, file: Path, options: Mapping[str, type[Connection]]) -> None:
        self.complaints: list[str] = []
        self._options = options
        self._references = references.References(file.parent, self.complaints)
        self._context = {"folder": file.parent, "environment": self._references.environment}

    def expanded(self, content: dict[str, Any]) -> dict[str, Any]:
        return {key: self._references.expanded(value, key) for key, value in content.items()}

    def refuse_unknown(self, content: dict[str, Any]) -> None:
        known = [*SECTIONS, "connections", "subscriptions"]
        self.complaints += [messages.unknown(name, known) for name in content if name not in known]

    def section(self, name: str, model: type[Strict], table: Any) -> Any:
        """The section, or None after a complaint."""
        if not isinstance(table, dict):
            self.complaints.append(f"{name}: a table belongs here; write [{name}] on a line of its own")
            return None
        try:
            return model.model_validate(table, context=self._context)
        except ValidationError as error:
            # A value whose `${NAME}` is undefined was reported by `expanded`.
            reported = {complaint.partition(": ")[0] for complaint in self.complaints}
            known = [field.alias or key for key, field in model.model_fields.items() if key != "name"]
            found = messages.describe(error, prefix=name, known=known)
            self.complaints += [each for each in found if each.partition(": ")[0] not in reported]
            return None

    def connections(self, tables: Any) -> dict[str, Connection]:
        if not isinstance(tables, dict):
            self.complaints.append("connections: a table belongs here; write [connections.shop] on a line of its own")
            return {}
        return {name: self._connection(name, table) for name, table in tables.items()}

    def refuse_shared_tokens(self, receiver: ReceiverSettings | None, connections: dict[str, Any]) -> None:
        """Each `commands_token` opens one connection's commands and nothing else, so no other token is like it."""
        owners: dict[str, str] = {}
        if receiver is not None and receiver.token is not None:
            owners[receiver.token.get_secret_value()] = "the receiver's token"
        for name, each in connections.items():
            if not isinstance(each, TakesCommands) or each.commands_token is None:
                continue
            owner = owners.setdefault(each.commands_token.get_secret_value(), f"that of {name}")
            if owner != f"that of {name}":
                place = f"connections.{name}.commands_token"
                self.complaints.append(f"{place}: it is {owner}, too; choose another, so that each opens one thing")

    def subscriptions(self, tables: Any, connections: dict[str, Any]) -> dict[str, Subscription]:
        if not isinstance(tables, dict):
            place = "[subscriptions.crm]"
            self.complaints.append(f"subscriptions: a table belongs here; write {place} on a line of its own")
            return {}
        found = {name: self._subscription(name, table) for name, table in tables.items()}
        for name, each in found.items():
            unknown = [] if each is None else [one for one in each.connections if one not in connections]
            for one in unknown:
                guess = messages.did_you_mean(one, connections) or f"; configured: {', '.join(connections) or 'none'}"
                place = f"subscriptions.{name}.connections"
                self.complaints.append(f'{place}: there is no connection "{one}"{guess}')
        return found

    def _subscription(self, name: str, table: Any) -> Any:
        place = f"subscriptions.{name}"
        if not self._is_named_table(place, name, table):
            return None
        return self.section(place, Subscription, table | {"name": name})

    def _connection(self, name: str, table: Any) -> Any:
        place = f"connections.{name}"
        if not self._is_named_table(place, name, table):
            return None
        model = self._model(place, table.get("system"))
        return None if model is None else self.section(place, model, table | {"name": name})

    def _is_named_table(self, place: str, name: str, table: Any) -> bool:
        if not CONNECTION_NAME.fullmatch(name):
            self.complaints.append(
                f"{place}: the name goes into addresses, tables and logs, so it begins with a lower-case letter or a "
                'digit and holds only those, "_" and "-"'
            )
        if not isinstance(table, dict):
            self.complaints.append(f"{place}: a table belongs here; write [{place}] on a line of its own")
            return False
        if "name" in table:
            self.complaints.append(f"{place}.name: unknown key; the name stands in the brackets: [{place}]")
        return True

    def _model(self, place: str, system: Any) -> type[Connection] | None:
        known = ", ".join(sorted(self._options)) or "none is installed"
        if system is None:
            self.complaints.append(f'{place}.system: missing; add system = "…" ({known})')
        elif not isinstance(system, str) or system not in self._options:
            guess = messages.did_you_mean(str(system), self._options)
            self.complaints.append(f"{place}.system: unknown system{guess} (known: {known})")
        else:
            return self._options[system]
        return None
