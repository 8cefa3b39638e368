"""JSON Schemas for OpenAPI: of requests, written by hand; of answers, generated from their structs."""

from __future__ import annotations

from typing import Any

import msgspec

from receiver.api.commands import Catalogue, CommandError, CommandReceipt, CommandStatus
from receiver.api.documents import DocumentStatus, Receipt
from receiver.api.health import Readiness
from receiver.api.journal_pages import Changes
from receiver.http.answers import Error, Ok

Json = dict[str, Any]


def object_of(required: Json, **optional: Json) -> Json:
    """An object with these properties, and any others."""
    return {"type": "object", "required": list(required), "properties": required | optional}


def schema(name: str) -> Json:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": _REFERENCE.format(name=name)}


_REFERENCE = "#/components/schemas/{name}"

TEXT: Json = {"type": "string", "minLength": 1}
COUNT: Json = {"type": "integer", "minimum": 0}
SHA256: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}

PACKET: Json = {
    "description": "What Dilovod sends. Only objectChanged causes a fetch; any other action is stored as ignored.",
    **object_of({"action": {"type": "string"}}, params={}),
    "if": {"properties": {"action": {"const": "objectChanged"}}},
    "then": {"required": ["params"], "properties": {"params": schema("ChangedObject")}},
}
_CHANGED_OBJECT = object_of(
    {
        "objectName": TEXT | {"examples": ["documents.saleOrder"]},
        "id": {
            "description": "16 digits; the first five say the kind of object.",
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]{16}$", "examples": ["1109100000000001"]},
                {"type": "integer", "minimum": 10**15, "maximum": 10**16 - 1},
            ],
        },
    }
)
_COMMANDS = (Catalogue, CommandReceipt, CommandStatus, CommandError)
_ANSWERS = (Ok, Error, Changes, Receipt, DocumentStatus, Readiness, *_COMMANDS)
_, _ANSWER_SCHEMAS = msgspec.json.schema_components(_ANSWERS, ref_template=_REFERENCE)

SCHEMAS: Json = {"Packet": PACKET, "ChangedObject": _CHANGED_OBJECT, **_ANSWER_SCHEMAS}
"""All components, by name."""
