"""Directo's part of a connection's settings."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from workers.connectors.contract import ROW, Connection, Duration, Key, Secret, Url, did_you_mean
from workers.connectors.directo import queries, table


def _known_resource(name: str) -> str:
    if name not in table.NAMES:
        guess = did_you_mean(name, table.NAMES)
        raise ValueError(f'Directo has no resource "{name}"{guess or ";"} it has {", ".join(sorted(table.NAMES))}')
    return name


def _refuse_reserved(resource: str, name: str, setting: Any, keys: dict[str, Key]) -> None:
    """ValueError for a filter that would interfere with the connector's own parameters."""
    if resource == table.DELETED:
        raise ValueError("the mirror needs all deletions; remove this filter")
    if name.strip("<>!=% ").casefold() == "ts":
        raise ValueError("the mirror itself filters by `ts` to find changes; remove this filter")
    conditions = queries.parse(name, setting).conditions
    key = keys.get(resource, table.ROWS[resource].key)
    if key != ROW and name in key and any(each.operator for each in conditions):
        raise ValueError('it identifies the object, so list its exact values, as in "AALTR,AIPM"')


_Name = Annotated[str, AfterValidator(_known_resource), Field(json_schema_extra={"enum": sorted(table.NAMES)})]


class Options(Connection):
    """One Directo account.

    The values of `filter`: see `queries.parse`. An object that no longer passes is deleted from the mirror by the next
    full sync, and restored if it passes again.
    """

    url: Url = "https://login.directo.ee/apidirect"
    api_key: Secret = Field(
        description="The key of Directo's API; its permissions must cover the resources.", examples=["${DIRECTO_KEY}"]
    )
    format: Literal["json", "xml"] = Field(default="json", description="The form of Directo's answers.")
    resources: tuple[_Name, ...] = Field(
        min_length=1,
        description="What is mirrored, under Directo's own names.",
        examples=[["items", "customers", "orders", "invoices", "stocklevels"]],
    )
    overlap: Duration = Field(
        default=timedelta(minutes=5), description="How far each poll reaches back before the previous one."
    )
    full_every: Duration = Field(
        default=timedelta(hours=24), description="How often everything is read, which finds what polls do not show."
    )
    requests_per_minute: int | None = Field(default=60, gt=0)
    timezone: str = "Europe/Tallinn"
    timeout: Duration = timedelta(seconds=60)
    since: date = Field(
        default=date(2000, 1, 1),
        description="The first day of the windows by which a full sync is read that is too large for one reply; older "
        "documents form one more.",
    )
    keys: dict[_Name, Key] = Field(
        default_factory=dict,
        description="The fields that identify a resource's objects, where your company's differ from Directo's usual; "
        '"row": a hash of the whole row.',
        examples=[{"stocklevels": ["item", "stock"]}],
    )
    filter: dict[_Name, dict[str, Any]] = Field(
        default_factory=dict,
        description="The objects that are mirrored: for each resource fields with the vendor's own values, all of "
        "which must match.",
        examples=[{"items": {"closed": 0}, "stocklevels": {"warehouse": "AALTR,AIPM"}}],
    )

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, key: Secret) -> Secret:
        if not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError(
                "the key is empty or contains spaces or other invalid characters; ask your Directo administrator for it"
            )
        return key

    @field_validator("keys")
    @classmethod
    def _keys_are_valid(cls, keys: dict[str, Key]) -> dict[str, Key]:
        if table.DELETED in keys:
            raise ValueError(f"{table.DELETED}: its rows name objects of the other resources; remove this key")
        return keys

    @field_validator("filter")
    @classmethod
    def _filters_are_valid(cls, filters: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        mistakes, zone = [], ZoneInfo(info.data.get("timezone", "UTC"))
        for resource, fields in filters.items():
            if "resources" in info.data and resource not in info.data["resources"]:
                mistakes.append(f"{resource} is not among `resources`; add it there, or remove its filter")
            for name, setting in fields.items():
                try:
                    _refuse_reserved(resource, name, setting, info.data.get("keys", {}))
                    queries.refuse_empty_range(queries.parse(name, setting), zone)
                except ValueError as error:
                    mistakes.append(f"{resource}.{name}: {error}")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return filters

    def selection(self, resource: str) -> queries.Selection:
        """The filter of the resource; without filters if none is set."""
        wanted = self.filter.get(resource, {})
        return queries.Selection(tuple(queries.parse(name, setting) for name, setting in wanted.items()), self.zone)

    def login(self) -> tuple[str, ...]:
        """The API key: it alone identifies the account."""
        return (self.api_key.get_secret_value(),)
