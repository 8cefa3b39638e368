"""The settings of a Wisedat connection."""

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
    """One company on one Wisedat server. The server runs at the customer's site, so `url` has no default.

    - `full_every`: time between two full syncs, which find deletions
    - `overlap`: how far each poll reaches back before the previous one
    - `details_every`: how often each object's detail is fetched although its summary and modification date are
      unchanged. The vendor does not document whether a change of stock or addresses moves that date
    - `rsa_padding`: of the login; unset: PKCS#1 v1.5 is tried, then OAEP with SHA-1, and the one that works is stored
    - `images`: "hash" stores SHA-256 and size, "keep" the Base64 text as sent
    - `page_size`: objects per page; the vendor's default is 50 (Wisedat API 1.3, Products)
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
