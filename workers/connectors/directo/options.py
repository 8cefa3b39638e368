"""Directo's part of a connection's settings."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from workers.connectors.contract import Connection, Duration, Secret, Url
from workers.connectors.directo import table


def _known(name: str) -> str:
    if name not in table.NAMES:
        raise ValueError(f'Directo has no resource "{name}"; it has {", ".join(sorted(table.NAMES))}')
    return name


_Name = Annotated[str, AfterValidator(_known)]


class Options(Connection):
    """One Directo account.

    `full_every`: how often everything is read, which finds what neither `ts` nor `/deleted` tells. `since`: where the
    date windows of a reading begin that is too large for one reply; what is older comes as one more window. `keys`: the
    fields that identify an object, where this company's field list names them otherwise than `table.py` supposes.
    """

    url: Url = "https://login.directo.ee/apidirect"
    api_key: Secret
    format: Literal["json", "xml"] = "json"
    resources: tuple[_Name, ...] = Field(min_length=1)
    overlap: Duration = timedelta(minutes=5)
    full_every: Duration = timedelta(hours=24)
    requests_per_minute: int | None = Field(default=60, gt=0)
    timezone: str = "Europe/Tallinn"
    timeout: Duration = timedelta(seconds=60)
    since: date = date(2000, 1, 1)
    keys: dict[_Name, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: Secret) -> Secret:
        if not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError(
                "the key is empty or has spaces or letters no key has; ask your Directo administrator for it"
            )
        return key

    def login(self) -> tuple[str, ...]:
        """The API key is the account."""
        return (self.api_key.get_secret_value(),)
