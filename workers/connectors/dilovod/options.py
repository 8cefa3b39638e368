"""Dilovod's part of a connection's settings."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_network
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from workers.connectors.contract import (
    Duration,
    Key,
    Network,
    Secret,
    SendsWebhooks,
    TakesCommands,
    Url,
    did_you_mean,
)
from workers.connectors.dilovod import table

_DIMENSION = re.compile("[A-Za-z][A-Za-z0-9_]*")


def is_register(name: str) -> bool:
    """Whether the resource is a register; those have no ids, no point reads and no webhooks."""
    return table.is_record(name)


class Options(SendsWebhooks, TakesCommands):
    """The key of one API node ("Підключення до API Dilovod")."""

    url: Url = "https://api.dilovod.ua"
    api_key: Secret = Field(
        description="The key of one API node (Сервіс - Підключення до API Dilovod); its role decides what can be read.",
        examples=["${DILOVOD_KEY}"],
    )
    resources: tuple[str, ...] = Field(
        default=(),
        validate_default=True,
        description="The catalogues, documents and registers that are mirrored.",
        examples=[["catalogs.goods", "catalogs.persons", "documents.saleOrder", "balanceRegisters.goods"]],
    )
    dimensions: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="The dimensions that a register's rows are kept by; balances are summed over those left out. "
        "Default: all it has.",
        examples=[{"balanceRegisters.goods": ["good", "storage"]}],
    )
    keys: dict[str, Key] = Field(
        default_factory=dict,
        description="The fields that identify a register's rows, where its dimensions do not; "
        '"row": a hash of the whole row.',
        examples=[{"informationRegisters.barCodes": ["good", "barCode"]}],
    )
    version: str = Field(default="0.25", description="The version of Dilovod's API.")
    packet: Literal["json", "form"] = Field(
        # Dilovod help, API Dilovod, shows both.
        default="json",
        description="Whether requests are sent as JSON or as a form field named packet.",
    )
    client_id: str | None = Field(
        default=None, description="The clientID of an API partner, if your key belongs to one.", examples=["partner-7"]
    )
    timezone: str = "Europe/Kyiv"
    # Dilovod sends webhooks from this address only (Dilovod help, API Dilovod, WebHook).
    webhook_sources: tuple[Network, ...] = (ip_network("88.198.50.253"),)
    every: Duration = Field(default=timedelta(minutes=5), description="How often registers are polled.")
    reconcile_every: Duration = Field(
        default=timedelta(hours=1), description="How often everything is listed to find what no webhook announced."
    )
    lookback: Duration | None = Field(
        default=None,
        description="How far back the documents are dated that are listed every `reconcile_every`. Older ones are "
        "listed once in `full_every`, and what no webhook announced is found then. Unset: all every `reconcile_every`.",
        examples=["60d"],
    )
    full_every: Duration = Field(
        default=timedelta(hours=24), description="How often all documents are listed where `lookback` is set."
    )

    @field_validator("api_key")
    @classmethod
    def _key_is_not_empty(cls, api_key: Secret) -> Secret:
        if not api_key.get_secret_value().strip():
            raise ValueError("the key is empty; copy it from Сервіс - Підключення до API Dilovod")
        return api_key

    @field_validator("resources")
    @classmethod
    def _resources_are_valid(cls, resources: tuple[str, ...]) -> tuple[str, ...]:
        if not resources:
            raise ValueError('name at least one resource, as in resources = ["catalogs.goods", "documents.saleOrder"]')
        for resource in resources:
            if not table.RESOURCE.fullmatch(resource):
                guess = did_you_mean(resource, table.KNOWN)
                raise ValueError(
                    f'"{resource}" is not a resource of Dilovod{guess or ";"} write catalogs.…, documents.…, '
                    'balanceRegisters.…, informationRegisters.… or accumulationRegisters.…, as in "catalogs.goods"'
                )
        if len(set(resources)) < len(resources):
            raise ValueError("a resource is listed twice; remove one of them")
        return resources

    @field_validator("dimensions")
    @classmethod
    def _dimensions_are_valid(
        cls, dimensions: dict[str, tuple[str, ...]], info: ValidationInfo
    ) -> dict[str, tuple[str, ...]]:
        for register, names in dimensions.items():
            if "resources" in info.data and register not in info.data["resources"]:
                raise ValueError(f'"{register}" is not among the resources; add it there, or remove it here')
            if not is_register(register):
                raise ValueError(f'"{register}" is identified by its id; remove it here')
            if not names or len(set(names)) < len(names) or not all(_DIMENSION.fullmatch(name) for name in names):
                raise ValueError(f'name some dimensions of "{register}", each once, as in ["good", "storage"]')
        return dimensions

    @field_validator("keys")
    @classmethod
    def _keys_are_valid(cls, keys: dict[str, Key], info: ValidationInfo) -> dict[str, Key]:
        for register in keys:
            if "resources" in info.data and register not in info.data["resources"]:
                raise ValueError(f'"{register}" is not among the resources; add it there, or remove it here')
            if not is_register(register):
                raise ValueError(f'"{register}" is identified by its id; remove it here')
        return keys

    @field_validator("lookback")
    @classmethod
    def _lookback_is_a_day_or_more(cls, lookback: timedelta | None) -> timedelta | None:
        if lookback is not None and lookback < timedelta(days=1):
            raise ValueError('documents are dated by days: write at least "1d", as in "60d"; m stands for minutes')
        return lookback

    @field_validator("concurrency")
    @classmethod
    def _concurrency_is_one(cls, concurrency: int) -> int:
        if concurrency != 1:
            raise ValueError("Dilovod answers one request at a time for each key; remove the key, or write 1")
        return concurrency

    @field_validator("commands")
    @classmethod
    def _commands_are_actions(cls, commands: tuple[str, ...]) -> tuple[str, ...]:
        for action in commands:
            if action not in table.ACTIONS:
                guess = did_you_mean(action, table.ACTIONS)
                known = ", ".join(table.ACTIONS)
                raise ValueError(f'"{action}" is not a write of Dilovod{guess or ";"} choose from {known}')
        if len(set(commands)) < len(commands):
            raise ValueError("a command is listed twice; remove one of them")
        return commands

    @field_validator("commands_token")
    @classmethod
    def _token_is_not_empty(cls, token: Secret | None) -> Secret | None:
        if token is not None and not token.get_secret_value().strip():
            raise ValueError("the token is empty; write a long random word, or remove the key")
        return token

    @field_validator("unique")
    @classmethod
    def _unique_fields_are_known(cls, unique: dict[str, str]) -> dict[str, str]:
        for kind, field in unique.items():
            known = table.unique_fields(kind) if table.RESOURCE.fullmatch(kind) else {}
            if not known:
                guess = did_you_mean(kind, table.KNOWN)
                raise ValueError(
                    f'"{kind}" is no catalogue and no kind of document{guess or ";"} '
                    'write them as in {"catalogs.goods" = "code", "documents.saleOrder" = "remark"}'
                )
            if field not in known:
                guess = did_you_mean(field, known) or ";"
                raise ValueError(f'"{field}" finds no object of {kind} again{guess} choose from {", ".join(known)}')
        return unique

    def login(self) -> tuple[str, ...]:
        """The key: it alone identifies the account."""
        return (self.api_key.get_secret_value(),)
