"""Tells people of what needs them, at the addresses of `[alerts]`: mail, chat, SMS, as Apprise knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apprise import Apprise

    from models.settings.load import Settings

log = structlog.get_logger()


def send(settings: Settings, *, title: str, body: str) -> None:
    """Send one alert to every address. What cannot be sent is logged: `status` shows the same problem."""
    addresses = [each.get_secret_value() for each in settings.alerts.to]
    if not addresses:
        return
    for place, address in enumerate(addresses, start=1):
        notifier = _notifier()
        if not notifier.add(address) or not notifier.notify(title=f"erpmirror: {title}", body=body):
            log.error("alert not sent", address=place, kind=_kind(address), title=title)


def unknown(addresses: Sequence[str]) -> list[int]:
    """The places, from 1, of the addresses that Apprise cannot use."""
    return [place for place, address in enumerate(addresses, start=1) if not _notifier().add(address)]


def _notifier() -> Apprise:
    from apprise import Apprise  # noqa: PLC0415 - takes four tenths of a second, and is rarely needed

    return Apprise()


def _kind(address: str) -> str:
    """The scheme alone: what follows holds passwords."""
    return address.partition("://")[0]
