"""The settings of an Interpreter connection."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from workers.connectors.contract import Duration, Secret, TakesDocuments, Url

_ONE_LOGIN = (
    'write store = "…" and api_key = "…" (shown where the API was activated in Lagerkoll), '
    'or store = "…", user_id = "…" and user_token = "…" (of a user\'s login), not both'
)


class Options(TakesDocuments):
    """One store at Lagerkoll, with the login `api_key`, or `user_id` and `user_token` (Interpreter API, Headers)."""

    url: Url = "https://capi.lagerkoll.com/v1/interpreter"
    store: str = Field(
        description="The store, as shown where the API was activated in Lagerkoll.", examples=["${LAGERKOLL_STORE}"]
    )
    api_key: Secret | None = Field(
        default=None,
        description="The store's API key; leave it out where user_id and user_token are set.",
        examples=["${LAGERKOLL_KEY}"],
    )
    user_id: str | None = Field(
        default=None, description="The id of a user's login, in place of api_key.", examples=["1234"]
    )
    user_token: Secret | None = Field(
        default=None,
        description="The token of that user's login, in place of api_key.",
        examples=["${LAGERKOLL_USER_TOKEN}"],
    )
    resources: tuple[Literal["deliverynote", "invoice"], ...] = Field(
        default=("deliverynote", "invoice"), min_length=1, description="The kinds of documents that are interpreted."
    )
    every: Duration = Field(default=timedelta(seconds=10), description="How often the folder inbox is scanned.")
    timeout: Duration = Field(
        default=timedelta(seconds=120), description="How long the vendor may take to read one document."
    )
    requests_per_minute: int | None = Field(default=200, gt=0)
    concurrency: int = Field(default=4, ge=1)

    @field_validator("store", "user_id")
    @classmethod
    def _text_fits_a_header(cls, value: str | None) -> str | None:
        return None if value is None else _header(value)

    @field_validator("api_key", "user_token")
    @classmethod
    def _secret_fits_a_header(cls, value: Secret | None) -> Secret | None:
        if value is not None:
            _header(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        given = (self.api_key is not None, self.user_id is not None, self.user_token is not None)
        if given not in {(True, False, False), (False, True, True)}:
            raise ValueError(_ONE_LOGIN)
        return self

    def headers(self) -> dict[str, str]:
        """The login as headers of every request (Interpreter API, Headers). Contains secrets."""
        if self.api_key is not None:
            return {"store": self.store, "api_key": self.api_key.get_secret_value()}
        token = self.user_token.get_secret_value() if self.user_token is not None else ""
        return {"store": self.store, "user_id": self.user_id or "", "user_token": token}

    def login(self) -> tuple[str, ...]:
        """The store with the key or the user, which identify the account. The rate limit counts them together."""
        return tuple(self.headers().values())


def _header(value: str) -> str:
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("it is empty or has characters that do not fit a header; copy it from Lagerkoll again")
    return value
