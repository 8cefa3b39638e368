"""Dilovod's part of a connection's settings."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_network

from pydantic import Field, field_validator

from workers.connectors.contract import Duration, Network, Secret, Url, Webhooked

_RESOURCE = re.compile(
    r"(catalogs|documents|balanceRegisters|informationRegisters|accumulationRegisters)\.[A-Za-z][A-Za-z0-9_]*"
)


class Options(Webhooked):
    """A key of one API node ("Підключення до API Dilovod"), whose role decides what can be read."""

    url: Url = "https://api.dilovod.ua"
    api_key: Secret
    resources: tuple[str, ...] = Field(default=(), validate_default=True)
    version: str = "0.25"
    client_id: str | None = None
    timezone: str = "Europe/Kyiv"
    webhook_sources: tuple[Network, ...] = (ip_network("88.198.50.253"),)
    """Webhooks come from this address only (Dilovod help, API Dilovod, WebHook)."""
    reconcile_every: Duration = timedelta(hours=1)

    @field_validator("api_key")
    @classmethod
    def _some_key(cls, api_key: Secret) -> Secret:
        if not api_key.get_secret_value().strip():
            raise ValueError("the key is empty; copy it from Сервіс - Підключення до API Dilovod")
        return api_key

    @field_validator("resources")
    @classmethod
    def _known_kinds(cls, resources: tuple[str, ...]) -> tuple[str, ...]:
        if not resources:
            raise ValueError('name at least one resource, as in resources = ["catalogs.goods", "documents.saleOrder"]')
        for resource in resources:
            if not _RESOURCE.fullmatch(resource):
                raise ValueError(
                    f'"{resource}" is no resource of Dilovod; write catalogs.…, documents.…, balanceRegisters.…, '
                    'informationRegisters.… or accumulationRegisters.…, as in "catalogs.goods"'
                )
        if len(set(resources)) < len(resources):
            raise ValueError("a resource is named twice; remove one of them")
        return resources

    @field_validator("concurrency")
    @classmethod
    def _one_at_a_time(cls, concurrency: int) -> int:
        if concurrency != 1:
            raise ValueError("Dilovod answers one request at a time for each key; remove the key, or write 1")
        return concurrency

    def login(self) -> tuple[str, ...]:
        """The key alone is the account."""
        return (self.api_key.get_secret_value(),)
