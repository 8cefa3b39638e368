"""EasyFlor's part of a connection's settings."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from workers.connectors.contract import Connection, Duration, Secret, Strict, Url
from workers.connectors.easyflor import table

_DAY = 24 * 60
_HOURS = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])\s*-\s*([01][0-9]|2[0-4]):([0-5][0-9])")


def _window(hours: str) -> tuple[int, int]:
    """Begin and end of opening hours in minutes of the UTC day; the end may lie on the next day. ValueError."""
    match = _HOURS.fullmatch(hours.strip())
    begin, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (_DAY, _DAY)
    if begin >= _DAY or end > _DAY:
        raise ValueError('opening hours are two times of the UTC day, as in "18:00-05:00"; they may pass midnight')
    if begin == end % _DAY and end - begin != _DAY:
        raise ValueError("opening hours end when they begin; leave the whole list empty for a vendor who never closes")
    return begin, end if end > begin else end + _DAY


def _valid_hours(hours: str) -> str:
    _window(hours)
    return hours


def _valid_address(path: str) -> str:
    # httpx would take a whole address for what it is, and send the token there.
    if not re.fullmatch(r"[\w{}-]+(/[\w{}-]*)*", path, re.ASCII):
        raise ValueError('an address below /api/, as in "PriceList/" or "PriceListSinceDate/{date}"')
    return path


_Address = Annotated[str, AfterValidator(_valid_address)]


class Own(Strict):
    """A resource that the vendor offers and `table.py` does not know, or has at another address.

    `path`: where all of it is read. `since`: where what changed is read, with `{date}` in it. `key`: the field that
    identifies an object; several are joined by `:`.
    """

    path: _Address | None = None
    since: _Address | None = None
    key: str = Field(default="Id", min_length=1)

    @model_validator(mode="after")
    def _addresses_are_valid(self) -> Self:
        if self.path is None and self.since is None:
            raise ValueError('nothing says where it is read; add path = "…/", or since = "…SinceDate/{date}", or both')
        if self.path is not None and "{" in self.path:
            raise ValueError("path is where everything is read, so it has no {date}; that belongs into since")
        if self.since is not None and re.findall(r"\{.*?\}", self.since) != [table.DATE]:
            raise ValueError('since has {date} once, where the day belongs, as in "PriceListSinceDate/{date}"')
        return self

    def row(self, name: str) -> table.Row:
        """The resource under this name, as unconfirmed as those of the vendor's test program."""
        return table.Row(name, self.path, since=self.since, key=tuple(self.key.split(":")))


class Options(Connection):
    """One user of one EasyFlor database.

    `auth`: how requests prove the login. A second login of the same user ends the first one's cookie, but no token.
    `opening_hours`: when collections may be read in full, in UTC; empty: always. `since_format`: how a day stands in an
    address; where the vendor refuses it, the other form is tried. `overlap_days`: how many days each look reads again,
    since a day is the finest grain. `since`: from when those resources are read that can be read by days only.
    `keep_personal`: mirror dates of birth, nationalities and genders, which are left out otherwise. `own`: resources by
    address, mirrored like those in `resources`. `timeout`: until the vendor's first byte, which large collections take
    long for; after that a reading may take as long as bytes arrive.

    Large collections that are to be read in full less often belong into a connection of their own with a longer
    `full_every`; both share the account's gate and its login.
    """

    url: Url = "https://api.easyflor.eu/api"
    username: str = Field(min_length=1)
    password: Secret = Field(min_length=1)
    database: str = Field(min_length=1)
    auth: Literal["token", "cookie"] = "token"
    resources: tuple[str, ...] = (table.DEBTOR.name,)
    every: Duration = timedelta(hours=1)
    full_every: Duration = timedelta(hours=24)
    opening_hours: tuple[Annotated[str, AfterValidator(_valid_hours)], ...] = ("18:00-05:00",)
    since_format: Literal["yyyyMMdd", "yyyy-MM-dd"] = "yyyyMMdd"
    overlap_days: int = Field(default=2, ge=1, le=366)
    since: date = date(2000, 1, 1)
    keep_personal: bool = False
    own: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Own] = Field(default_factory=dict)
    concurrency: int = Field(default=2, ge=1, le=4)
    timeout: Duration = timedelta(minutes=5)

    secrets: ClassVar[tuple[str, ...]] = ("**.password", "**.passwordsalt")

    @field_validator("url")
    @classmethod
    def _below_api(cls, url: str) -> str:
        """One spelling: the documented address is written with `/api/` and without."""
        return url if urlsplit(url).path.lower().endswith("/api") else f"{url}/api"

    @model_validator(mode="after")
    def _known_resources(self) -> Self:
        known = {*table.NAMES, *self.own}
        unknown = sorted(set(self.resources) - known)
        if unknown:
            raise ValueError(
                f'EasyFlor has no resource "{unknown[0]}" that we know; there are {", ".join(sorted(known))}. '
                f'Where you know its address, add [connections.{self.name}.own.{unknown[0]}] with path = "…/"'
            )
        if table.DEBTOR.name in self.own:
            raise ValueError("own.debtor: the vendor documents where debtors are read; remove this table")
        if not self.resources and not self.own:
            raise ValueError('resources: an empty list mirrors nothing; remove the key for the default, ["debtor"]')
        return self

    def login(self) -> tuple[str, ...]:
        """A login is of a user in a database (EasyFlor API v1, Authorization)."""
        return (self.database, self.username, self.password.get_secret_value())

    def closed_until(self, now: datetime) -> datetime | None:
        """When the next opening hours begin; None inside of some, or where there are none. `now` is aware."""
        now = now.astimezone(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        passed = (now - midnight) / timedelta(minutes=1)
        windows = [_window(hours) for hours in self.opening_hours]
        if not windows or any(begin <= passed + day < end for begin, end in windows for day in (0, _DAY)):
            return None
        begins = min(begin if begin > passed else begin + _DAY for begin, _ in windows)
        return midnight + timedelta(minutes=begins)

    @property
    def longest_closed(self) -> timedelta:
        """The longest time between two openings."""
        minutes = sorted(window for hours in self.opening_hours for window in _on_three_days(_window(hours)))
        reached, longest = minutes[0][1] if minutes else 0, 0
        for begin, end in minutes:
            longest, reached = max(longest, begin - reached), max(reached, end)
        return timedelta(minutes=longest)


def _on_three_days(window: tuple[int, int]) -> list[tuple[int, int]]:
    """The window on this day and on the next two, so that every gap between two of them shows."""
    return [(window[0] + day, window[1] + day) for day in (0, _DAY, 2 * _DAY)]
