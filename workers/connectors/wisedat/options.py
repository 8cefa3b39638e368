"""The settings of a Wisedat connection."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from workers.connectors.contract import Duration, Key, Secret, TakesCommands, Url, did_you_mean
from workers.connectors.wisedat import table
from workers.connectors.wisedat.command_table import SECTIONS, VERBS


def _known(name: str) -> str:
    if name not in table.NAMES:
        guess = did_you_mean(name, table.NAMES)
        raise ValueError(f'Wisedat has no resource "{name}"{guess or ";"} it has {", ".join(table.NAMES)}')
    return name


def _is_command(name: str) -> str:
    """`create`, or `create:orders` for that resource alone."""
    if name not in _COMMANDS:
        guess = did_you_mean(name, _COMMANDS)
        raise ValueError(
            f'Wisedat has no command "{name}"{guess or ";"} it has {", ".join(VERBS)}, each alone or as '
            f'"create:orders" for one of {", ".join(SECTIONS)}'
        )
    return name


_COMMANDS = (*VERBS, *(f"{verb}:{resource}" for resource in SECTIONS for verb in VERBS))
_UNIQUE = {name: tuple(section.unique) for name, section in SECTIONS.items() if section.unique}
_Command = Annotated[str, AfterValidator(_is_command), Field(json_schema_extra={"enum": sorted(_COMMANDS)})]
_Name = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": sorted(table.NAMES)})]


class Options(TakesCommands):
    """One company on one Wisedat server. The server runs at the customer's site, so `url` has no default."""

    url: Url = Field(
        description="The address of your Wisedat server, with its port.", examples=["http://wisedat.local:8080"]
    )
    resources: tuple[_Name, ...] = Field(default=table.NAMES, min_length=1)
    api_key: Secret = Field(description="The API key of your Wisedat server.", examples=["${WISEDAT_KEY}"])
    user: Secret = Field(
        description="The user whose rights decide what can be read and written.", examples=["${WISEDAT_USER}"]
    )
    password: Secret = Field(description="That user's password.", examples=["${WISEDAT_PASSWORD}"])
    full_every: Duration = Field(
        default=timedelta(hours=24), description="How often everything is listed, which finds deletions."
    )
    overlap: Duration = Field(
        default=timedelta(minutes=2), description="How far each poll reaches back before the previous one."
    )
    details_every: Duration = Field(
        # The vendor does not document whether a change of stock or addresses moves the date of modification.
        default=timedelta(days=7),
        description="How often each object is fetched although its line in the list is unchanged.",
    )
    rsa_padding: Literal["pkcs1", "oaep"] | None = Field(
        default=None,
        description="How the login is padded before its encryption, pkcs1 or oaep (with SHA-1); unset: both are tried.",
        examples=["oaep"],
    )
    images: Literal["hash", "keep"] = Field(
        default="hash", description='What is kept of images: "hash", their SHA-256 and size, or "keep", their Base64.'
    )
    keys: dict[str, Key] = Field(
        default_factory=dict,
        description="The fields that identify the objects of a list that comes whole, where id does not; "
        '"row": a hash of the whole row.',
        examples=[{"series": ["type", "description"]}],
    )
    commands: tuple[_Command, ...] = Field(
        default=(),
        description='The writes that are allowed: "create", "update" and "delete", or with a colon one resource\'s, as '
        '"create:orders". `erpmirror command NAME` shows all.',
        examples=[["create:orders", "update"]],
    )
    unique: dict[str, str] = Field(
        default_factory=dict,
        description="By resource, the field that finds a new object again if it is not known whether it was created.",
        examples=[{"orders": "your_reference", "customers": "code"}],
    )
    page_size: int = Field(
        # The vendor's own default is 50 (Wisedat API 1.3, Products).
        default=200,
        ge=1,
        le=1000,
        strict=True,
        description="How many objects are listed per request.",
    )
    timeout: Duration = timedelta(seconds=60)

    @field_validator("api_key", "user", "password")
    @classmethod
    def _fits_the_login(cls, secret: Secret, info: ValidationInfo) -> Secret:
        value = secret.get_secret_value()
        if not value:
            raise ValueError("it is empty; set the API key, the user and the password")
        if ";" in value:
            # The login is sent as key;user;password, with no way to escape (Wisedat API 1.3, Authentication).
            raise ValueError('it has a ";", which separates the three parts of the login; choose one without ";"')
        if info.field_name == "api_key" and not re.fullmatch(r"[!-~]+", value):
            raise ValueError("it has spaces or letters that do not fit a header; copy it again from Wisedat")
        return secret

    @field_validator("resources")
    @classmethod
    def _each_once(cls, resources: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(resources)) < len(resources):
            raise ValueError("a resource is listed twice; remove one")
        return resources

    @field_validator("commands")
    @classmethod
    def _each_command_once(cls, commands: tuple[str, ...]) -> tuple[str, ...]:
        for name in commands:
            verb, _, resource = name.partition(":")
            if commands.count(name) > 1 or (resource and verb in commands):
                raise ValueError(f'"{name}" is listed twice, by itself or as a part of "{verb}"; remove one')
        return commands

    @field_validator("commands_token")
    @classmethod
    def _token_is_not_empty(cls, token: Secret | None) -> Secret | None:
        if token is not None and not token.get_secret_value().strip():
            raise ValueError("it is empty; set a long random token, or remove the key")
        return token

    @field_validator("unique")
    @classmethod
    def _unique_fields_exist(cls, unique: dict[str, str]) -> dict[str, str]:
        for resource, name in unique.items():
            if resource not in _UNIQUE:
                guess = "" if resource in SECTIONS else did_you_mean(resource, _UNIQUE)
                raise ValueError(
                    f"{resource}: nothing finds a new one again{guess or ';'} it works for {_listed(_UNIQUE)}"
                )
            fields = _UNIQUE[resource]
            if name not in fields:
                guess = did_you_mean(name, fields)
                raise ValueError(
                    f"{resource}: {name} does not find a new one{guess or ';'} it can be {_listed(fields)}"
                )
        return unique

    @field_validator("keys")
    @classmethod
    def _keys_are_valid(cls, keys: dict[str, Key], info: ValidationInfo) -> dict[str, Key]:
        lists = [name for name, row in table.ROWS.items() if not (row.paged or row.single)]
        for name in keys:
            if name not in lists:
                raise ValueError(
                    f"{name}: only these take a key, the others are fetched by their id: {', '.join(lists)}"
                )
            if "resources" in info.data and name not in info.data["resources"]:
                raise ValueError(f"{name} is not among `resources`; add it there, or remove its key")
        return keys

    @field_validator("concurrency")
    @classmethod
    def _one_at_a_time(cls, concurrency: int) -> int:
        if concurrency != 1:
            raise ValueError("a Wisedat server gets one request at a time; remove the key")
        return concurrency

    @property
    def keeps_images(self) -> bool:
        """Whether images are mirrored as sent; else their digest and size are."""
        return self.images == "keep"

    def login(self) -> tuple[str, ...]:
        """API key, user and password, which together identify the account."""
        return tuple(part.get_secret_value() for part in (self.api_key, self.user, self.password))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
