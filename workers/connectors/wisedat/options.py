"""Wisedat's part of a connection's settings."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from workers.connectors.contract import Connection, Duration, Secret
from workers.connectors.wisedat import table


def _known(name: str) -> str:
    if name not in table.NAMES:
        raise ValueError(f'Wisedat has no resource "{name}"; it has {", ".join(table.NAMES)}')
    return name


class Options(Connection):
    """One company on one Wisedat server, which runs at the customer: its address has no default.

    - `full_every`: how often everything is listed, which finds deletions
    - `overlap`: how far each tick looks back behind the one before
    - `details_every`: how often each object's detail is read again, with the full listing that follows, although its
      summary and its modified date did not change: the vendor does not say whether stock or addresses move that date
    - `rsa_padding`: of the login; unset, PKCS#1 v1.5 is tried and then OAEP with SHA-1, and what worked is remembered
    - `images`: kept as SHA-256 and size, or as sent, in Base64
    - `page_size`: objects a page; the vendor's default is 50 (Wisedat API 1.3, Products)
    """

    resources: tuple[Annotated[str, AfterValidator(_known)], ...] = Field(default=table.NAMES, min_length=1)
    api_key: Secret
    user: Secret
    password: Secret
    full_every: Duration = timedelta(hours=24)
    overlap: Duration = timedelta(minutes=2)
    details_every: Duration = timedelta(days=7)
    rsa_padding: Literal["pkcs1", "oaep"] | None = None
    images: Literal["hash", "keep"] = "hash"
    page_size: int = Field(default=200, ge=1, le=1000, strict=True)
    timeout: Duration = timedelta(seconds=60)

    @field_validator("api_key", "user", "password")
    @classmethod
    def _one_of_three(cls, secret: Secret, info: ValidationInfo) -> Secret:
        value = secret.get_secret_value()
        if not value:
            raise ValueError("it is empty; the login needs the API key, the user and the password")
        if ";" in value:
            # The vendor would take what follows for the next of the three (Wisedat API 1.3, Authentication).
            raise ValueError('it has a ";", which separates the three parts of the login; choose one without it')
        if info.field_name == "api_key" and not re.fullmatch(r"[!-~]+", value):
            raise ValueError("it has spaces or letters that no header takes; copy it again from Wisedat")
        return secret

    @field_validator("resources")
    @classmethod
    def _each_once(cls, resources: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(resources)) < len(resources):
            raise ValueError("a resource is named twice; remove one of them")
        return resources

    @field_validator("concurrency")
    @classmethod
    def _one_at_a_time(cls, concurrency: int) -> int:
        if concurrency != 1:
            raise ValueError("a Wisedat server stands at the customer and is asked one thing at a time; remove the key")
        return concurrency

    def login(self) -> tuple[str, ...]:
        """Key, user and password: a session belongs to all three."""
        return tuple(part.get_secret_value() for part in (self.api_key, self.user, self.password))
