"""Decodes Dilovod's webhook. It names an object that changed and holds no data, so it only causes a fetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.connectors import objects
from workers.connectors.contract import Ignored, MalformedWebhookError, ObjectRef
from workers.connectors.dilovod.options import is_register
from workers.connectors.dilovod.resources import ID

if TYPE_CHECKING:
    from workers.connectors.dilovod.options import Options

_PREFIX_DIGITS = 5
_MAX_SHOWN = 100

PREFIXES = {
    "catalogs.users": "10002",
    "catalogs.roles": "10007",
    "catalogs.persons": "11001",
    "catalogs.goods": "11003",
    "catalogs.firms": "11004",
    "catalogs.storages": "11007",
    "catalogs.cashAccounts": "11011",
    "catalogs.currency": "11012",
    "catalogs.priceTypes": "11013",
    "catalogs.employees": "11017",
    "catalogs.tradeChanels": "11032",
    "catalogs.units": "11036",
    "documents.sale": "11068",
    "documents.saleOrder": "11091",
}
"""The first five digits of an id are the same for all objects of a type (Dilovod help, API Dilovod)."""

_RESOURCES_BY_PREFIX = {prefix: name for name, prefix in PREFIXES.items()}


def read(packet: Any, options: Options) -> ObjectRef | Ignored:
    """The object that the decoded packet names, or why to ignore it.

    Raises MalformedWebhookError for a packet that Dilovod cannot have sent.

    `{"action":"objectChanged","params":{"objectName":"documents.saleOrder","id":"1109…"}}`
    (Dilovod help, API Dilovod, WebHook)
    """
    if not isinstance(packet, dict):
        raise MalformedWebhookError("the packet is not a JSON object")
    action = packet.get("action")
    if not isinstance(action, str):
        raise MalformedWebhookError("the packet names no action")
    if action != "objectChanged":
        return Ignored(f"unknown action {action[:_MAX_SHOWN]!a}")
    params = packet.get("params")
    if not isinstance(params, dict):
        raise MalformedWebhookError("the packet's params are not an object")
    name, key = _name(params.get("objectName")), _id(params.get("id"))
    _check_prefix(name, key)
    return _accept_or_ignore(name, key, options)


def _name(value: Any) -> str:
    # isprintable also refuses NUL and lone surrogates, which databases cannot store.
    if not isinstance(value, str) or not value or not value.isprintable():
        raise MalformedWebhookError("objectName is not the name of an object")
    return value


def _id(value: Any) -> str:
    text = objects.key_text(value)
    if not ID.fullmatch(text):
        raise MalformedWebhookError("id is not an id of 16 digits")
    return text


def _check_prefix(name: str, key: str) -> None:
    prefix = key[:_PREFIX_DIGITS]
    if PREFIXES.get(name, prefix) != prefix or _RESOURCES_BY_PREFIX.get(prefix, name) != name:
        raise MalformedWebhookError("objectName and id contradict each other")


def _accept_or_ignore(name: str, key: str, options: Options) -> ObjectRef | Ignored:
    if name not in options.resources:
        return Ignored(f"{name[:_MAX_SHOWN]} is not configured")
    if is_register(name):
        return Ignored(f"{name} is a register, which is read on a schedule")
    return ObjectRef(name, key)
