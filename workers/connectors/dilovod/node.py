"""Makes the settings file from which Dilovod creates an API node with its rights and its webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.connectors.dilovod.options import is_register

if TYPE_CHECKING:
    from models.values import JsonObject
    from workers.connectors.dilovod.options import Options


def node_file(options: Options, url: str) -> JsonObject:
    """The file's content: read access to the configured resources, and webhooks for those that have any.

    `url`: the receiver's public address, without `/hooks/…`. The file contains the webhook's secret.
    (Dilovod help, API Dilovod, "Створення вузла API з файлу налаштувань")
    """
    secret = f"/{options.webhook_secret.get_secret_value()}" if options.webhook_secret else ""
    return {
        "nodeName": {"ru": "Зеркало erpmirror", "uk": "Дзеркало erpmirror"},
        "accessRules": dict.fromkeys(options.resources, "read"),
        "webHookUrl": f"{url.rstrip('/')}/hooks/{options.name}{secret}",
        "webHookObjects": [name for name in options.resources if not is_register(name)],
    }
