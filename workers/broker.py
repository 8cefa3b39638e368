"""What each broker needs to be told, and the filesystem broker's housekeeping."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.settings import Settings

PATIENCE = 4.0
"""Seconds until a broker that does not answer counts as away."""

_POLL = 0.1
_REDELIVER = 3600
_STALE = 60.0


def url(settings: Settings) -> str:
    """The broker's address for kombu, which wants the filesystem's folders as options."""
    return "filesystem://localhost//" if settings.broker.folder else settings.broker.url


def transport_options(settings: Settings) -> dict[str, Any]:
    """kombu's options for this broker."""
    folder = settings.broker.folder
    if folder is not None:
        messages = str(folder / "messages")
        return {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": str(folder / "control"),
            "store_processed": False,
            "polling_interval": _POLL,
        }
    if settings.broker.url.startswith("redis"):
        return {
            "visibility_timeout": _REDELIVER,
            "socket_connect_timeout": PATIENCE,
            "socket_timeout": 30.0,
            "socket_keepalive": True,
        }
    return {"confirm_publish": True}  # RabbitMQ confirms nothing unless asked


def prepare(settings: Settings) -> None:
    """Make the filesystem broker's folders."""
    folder = settings.broker.folder
    if folder is not None:
        for name in ("messages", "control"):
            (folder / name).mkdir(parents=True, exist_ok=True)


def sweep(settings: Settings) -> int:
    """Clear away what a dead Flower left: nobody ever reads its event files. Returns how many were removed."""
    folder = settings.broker.folder
    if folder is None:
        return 0
    oldest = time.time() - _STALE
    removed = 0
    for file in (folder / "messages").glob("*celeryev*"):
        try:
            if file.stat().st_mtime < oldest:
                file.unlink()
                removed += 1
        except FileNotFoundError:
            continue  # taken by its reader meanwhile
    return removed
