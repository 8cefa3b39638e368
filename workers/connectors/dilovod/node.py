"""Makes the settings file from which Dilovod creates an API node with its rights and its webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.connectors.dilovod.options import is_register

if TYPE_CHECKING:
    from models.values import JsonObject
    from workers.connectors.dilovod.options import Options

_ORDER = "documents.saleOrder"


def node_file(options: Options, url: str) -> JsonObject:
    """The file's content: access to the configured resources, and webhooks for those that have any.

    What the configured commands may write is not only read.

    `url`: the receiver's public address, without `/hooks/…`. The file contains the webhook's secret.
    (Dilovod help, API Dilovod, "Створення вузла API з файлу налаштувань")
    """
    secret = f"/{options.webhook_secret.get_secret_value()}" if options.webhook_secret else ""
    return {
        "nodeName": {"ru": "Зеркало erpmirror", "uk": "Дзеркало erpmirror"},
        "accessRules": dict.fromkeys(options.resources, "read") | dict.fromkeys(_written(options), "write"),
        "webHookUrl": f"{url.rstrip('/')}/hooks/{options.name}{secret}",
        "webHookObjects": [name for name in options.resources if not is_register(name)],
    }


def _written(options: Options) -> list[str]:
    """What the configured commands may write; documents alone fill balance and accumulation registers."""
    writable = ("catalogs", "documents", *(["informationRegisters"] if "saveObject" in options.commands else []))
    any_kind = {"saveObject", "setDelMark"} & {*options.commands}
    written = [name for name in options.resources if any_kind and name.partition(".")[0] in writable]
    return [*written, *([_ORDER] if "saleOrderCreate" in options.commands else [])]
