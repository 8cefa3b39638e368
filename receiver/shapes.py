"""What the receiver is sent and what it answers, as JSON Schema; `openapi` says on which route."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def made_of(required: Json, **optional: Json) -> Json:
    """An object with these properties."""
    return {"type": "object", "required": list(required), "properties": required | optional}


def answer_of(properties: Json) -> Json:
    """An object with these properties and no others: what is added to an answer is described, too."""
    return made_of(properties) | {"additionalProperties": False}


def schema(name: str) -> Json:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Json = {"type": "string", "minLength": 1}
_MAYBE_TEXT: Json = {"type": ["string", "null"]}
_MOMENT: Json = {"type": "string", "format": "date-time"}
_MAYBE_MOMENT: Json = {"type": ["string", "null"], "format": "date-time"}
COUNT: Json = {"type": "integer", "minimum": 0}
SHA256: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_OBJECT: Json = {"type": ["object", "null"]}

_OK = answer_of({"ok": {"const": True}})
_ERROR = answer_of({"error": {"type": "string", "pattern": "^[a-z_]+$"}, "message": TEXT}) | {
    "description": "`error` is for programs, `message` for a person. Neither repeats what was sent.",
}
PACKET: Json = {
    "description": "What Dilovod sends. Only objectChanged is acted on; any other action is kept as ignored.",
    **made_of({"action": {"type": "string"}}, params={}),
    "if": {"properties": {"action": {"const": "objectChanged"}}},
    "then": {"required": ["params"], "properties": {"params": schema("Changed")}},
}
_CHANGED = made_of(
    {
        "objectName": TEXT | {"examples": ["documents.saleOrder"]},
        "id": {
            "description": "16 digits, the first five of which say the kind of object.",
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]{16}$", "examples": ["1109100000000001"]},
                {"type": "integer", "minimum": 10**15, "maximum": 10**16 - 1},
            ],
        },
    }
)
_CHANGE = answer_of(
    {
        "id": {"type": "integer", "minimum": 1},
        "at": _MOMENT,
        "connection": TEXT,
        "resource": TEXT,
        "key": {"type": "string"},
        "kind": {"enum": ["created", "updated", "deleted", "restored"]},
        "turn": COUNT,
        "cause": {"enum": ["notice", "tick", "backfill", "reconcile", "document"]},
        "before": _OBJECT | {"description": "Of an update: dotted path to earlier value, of the fields that differ."},
        "after": _OBJECT | {"description": "The whole object, redacted; null when deleted."},
    }
)
_CHANGES = answer_of(
    {
        "changes": {"type": "array", "items": schema("Change"), "description": "Oldest first."},
        "last": COUNT | {"description": "Where to go on: the next question is after=last."},
        "oldest": COUNT | {"description": "The oldest entry there is."},
        "feed": TEXT | {"description": "Another one than before: a backup was restored, start again from 0."},
    }
)
_HANDED = answer_of({"document": SHA256, "new": {"type": "boolean"}})
_DOCUMENT = answer_of(
    {
        "document": SHA256,
        "connection": TEXT,
        "kind": TEXT,
        "name": TEXT,
        "order_id": _MAYBE_TEXT,
        "size": COUNT,
        "state": {"enum": ["waiting", "sending", "interpreted", "parked"]},
        "reason": _MAYBE_TEXT,
        "received_at": _MOMENT,
        "sent_at": _MAYBE_MOMENT,
        "answered_at": _MAYBE_MOMENT,
        "result": _OBJECT | {"description": "What the vendor read in it."},
    }
)
_READINESS = answer_of(
    {"ok": {"type": "boolean"}, "database": TEXT, "broker": TEXT, "spool": TEXT, "workers": TEXT}
) | {"description": '"ok" or what is wrong with it.'}

SCHEMAS: Json = {
    "Ok": _OK,
    "Error": _ERROR,
    "Packet": PACKET,
    "Changed": _CHANGED,
    "Change": _CHANGE,
    "Changes": _CHANGES,
    "Handed": _HANDED,
    "Document": _DOCUMENT,
    "Readiness": _READINESS,
}
"""By name."""
