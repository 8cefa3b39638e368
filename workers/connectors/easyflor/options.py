"""EasyFlor's part of a connection's settings."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from workers.connectors.contract import ROW, Connection, Duration, Key, Secret, Strict, Url, did_you_mean
from workers.connectors.easyflor import table

_DAY = 24 * 60
_HOURS = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])\s*-\s*([01][0-9]|2[0-4]):([0-5][0-9])")


def _window(hours: str) -> tuple[int, int]:
    """(begin, end) of opening hours in minutes of the UTC day; the end may lie on the next day. ValueError."""
    match = _HOURS.fullmatch(hours.strip())
    begin, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (_DAY, _DAY)
    if begin >= _DAY or end > _DAY:
        raise ValueError('write opening hours as two times in UTC, as in "18:00-05:00"; they may pass midnight')
    if begin == end % _DAY and end - begin != _DAY:
        raise ValueError("opening hours end when they begin; leave the list empty if EasyFlor never closes")
    return begin, end if end > begin else end + _DAY


def _valid_hours(hours: str) -> str:
    _window(hours)
    return hours


def _valid_address(path: str) -> str:
    # An absolute URL is refused: httpx would send the token to that host.
    if not re.fullmatch(r"[\w{}-]+(/[\w{}-]*)*", path, re.ASCII):
        raise ValueError('write an address below /api/, as in "PriceList/" or "PriceListSinceDate/{date}"')
    return path


_Address = Annotated[str, AfterValidator(_valid_address)]


class OwnResource(Strict):
    """A resource of EasyFlor's that `table.py` lacks or has at another address."""

    path: _Address | None = Field(
        default=None, description="The address of all its objects, below /api/.", examples=["PriceList/"]
    )
    since: _Address | None = Field(
        default=None,
        description="The address of its changes, with {date} in place of the day.",
        examples=["PriceListSinceDate/{date}"],
    )
    key: str = Field(
        default="Id", min_length=1, description='The field that identifies an object; several as in "Debtor:Article".'
    )

    @model_validator(mode="after")
    def _addresses_are_valid(self) -> Self:
        if self.path is None and self.since is None:
            raise ValueError('it has no address; add path = "…/", or since = "…SinceDate/{date}", or both')
        if self.path is not None and "{" in self.path:
            raise ValueError("path is the address of all objects; move {date} into since")
        if self.since is not None and re.findall(r"\{.*?\}", self.since) != [table.DATE]:
            raise ValueError('since needs {date} once in place of the day, as in "PriceListSinceDate/{date}"')
        return self

    def has_addresses_of(self, row: table.Row) -> bool:
        """Whether the addresses given here are those of the row."""
        pairs = ((self.path, row.path), (self.since, row.since))
        return all(given is None or given.strip("/").lower() == known for given, known in pairs)

    def row(self, name: str) -> table.Row:
        """The row of this resource, unconfirmed like those from EasyFlor's test program."""
        return table.Row(name, self.path, since=self.since, key=tuple(self.key.split(":")))


class Options(Connection):
    """One user of one EasyFlor database.

    To sync large collections less often, put them into another connection with a longer `full_every`; both share the
    account's gate and login.
    """

    url: Url = "https://api.easyflor.eu/api"
    username: str = Field(min_length=1, description="The user of EasyFlor's API.", examples=["${EASYFLOR_USER}"])
    password: Secret = Field(min_length=1, description="That user's password.", examples=["${EASYFLOR_PASSWORD}"])
    database: str = Field(
        min_length=1, description="The database that is mirrored, as EasyFlor calls it.", examples=["EasyFlor-Demo"]
    )
    auth: Literal["token", "cookie"] = Field(
        default="token",
        description="The kind of login; a second login of the same user ends a cookie, but not a token.",
    )
    resources: tuple[str, ...] = (table.DEBTOR.name,)
    every: Duration = timedelta(hours=1)
    full_every: Duration = Field(
        default=timedelta(hours=24), description="How often everything is read, within the opening hours."
    )
    opening_hours: tuple[Annotated[str, AfterValidator(_valid_hours)], ...] = Field(
        default=("18:00-05:00",), description="When EasyFlor allows full syncs, in UTC; empty: always."
    )
    since_format: Literal["yyyyMMdd", "yyyy-MM-dd"] = Field(
        default="yyyyMMdd",
        description="The form of days in addresses; if EasyFlor refuses it, the other form is tried.",
    )
    overlap_days: int = Field(
        default=2,
        ge=1,
        le=366,
        description="How many days each poll reads again, because addresses take whole days.",
    )
    since: date = Field(
        default=date(2000, 1, 1), description="The first day of resources that can only be read by days."
    )
    keep_personal: bool = Field(
        default=False, description="Whether dates of birth, nationalities and genders are mirrored."
    )
    keys: dict[str, Key] = Field(
        default_factory=dict,
        description="The fields that identify the objects of a resource other than debtor, where Id does not; "
        '"row": a hash of the whole row.',
        examples=[{"articlegroup": ["Code"]}],
    )
    own: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], OwnResource] = Field(
        default_factory=dict,
        description="Further resources by name, or other addresses and keys of known ones: path is the address of all "
        "objects, since that of changes, key the field that identifies an object.",
        examples=[{"pricelist": {"path": "PriceList/", "since": "PriceListSinceDate/{date}", "key": "Id"}}],
    )
    concurrency: int = Field(default=2, ge=1, le=4)
    timeout: Duration = Field(
        default=timedelta(minutes=5),
        description="How long a reply may take to begin; after that it may take as long as bytes arrive.",
    )

    secrets: ClassVar[tuple[str, ...]] = ("**.password", "**.passwordsalt")

    @field_validator("url")
    @classmethod
    def _below_api(cls, url: str) -> str:
        """Normalise the address, which is documented both with `/api/` and without."""
        return url if urlsplit(url).path.lower().endswith("/api") else f"{url}/api"

    @model_validator(mode="after")
    def _known_resources(self) -> Self:
        known = {*table.NAMES, *self.own}
        unknown = sorted(set(self.resources) - known)
        if unknown:
            guess = did_you_mean(unknown[0], known)
            raise ValueError(
                f'EasyFlor has no known resource "{unknown[0]}"{guess or ";"} choose from {", ".join(sorted(known))}. '
                f'If you know its address, add [connections.{self.name}.own.{unknown[0]}] with path = "…/"'
            )
        if table.DEBTOR.name in self.own and not self.own[table.DEBTOR.name].has_addresses_of(table.DEBTOR):
            raise ValueError(
                "own.debtor: the addresses of debtors are documented and fixed, only their key can be set; write "
                'path = "debtor" and key = "…" in this table, without since'
            )
        for name, key in self.keys.items():
            if name not in {*self.resources, *self.own} or name == table.DEBTOR.name:
                raise ValueError(f"keys.{name}: only a mirrored resource other than debtor takes a key; remove it here")
            if key == ROW and name in table.ROWS and table.ROWS[name].path is None:
                raise ValueError(f"keys.{name}: only its changes can be read, so its key has to be of fields")
        if not self.resources and not self.own:
            raise ValueError('resources: an empty list mirrors nothing; remove the key for the default, ["debtor"]')
        return self

    def login(self) -> tuple[str, ...]:
        """Database, user and password, which identify the account (EasyFlor API v1, Authorization)."""
        return (self.database, self.username, self.password.get_secret_value())

    def closed_until(self, now: datetime) -> datetime | None:
        """When the next opening hours begin; None if open now or never closed. `now`: aware."""
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
    """The window on this day and on the next two, so that every gap between two windows is covered."""
    return [(window[0] + day, window[1] + day) for day in (0, _DAY, 2 * _DAY)]
