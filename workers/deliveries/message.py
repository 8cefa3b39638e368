"""What a subscription is sent: the change as JSON, signed by the Standard Webhooks scheme.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from standardwebhooks import Webhook

from models.mirror import naming

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.bookkeeping.journal_entries import Entry
    from models.settings.subscriptions import Subscription

_NOTHING = msgspec.Raw(b"null")
_USER_AGENT = b"erpmirror"

_FIXED = [
    (b"Content-Type", b"application/json"),
    (b"User-Agent", _USER_AGENT),
    (b"Accept-Encoding", b"identity"),  # the answer's beginning is kept as text
]


class Thin(msgspec.Struct, frozen=True, kw_only=True):
    """The change without its object. `table`: where its row stands, under `_connection` and `_key`."""

    id: int
    at: str
    connection: str
    resource: str
    key: str
    kind: str
    revision: int
    cause: str
    table: str


class Full(Thin, frozen=True, kw_only=True):
    """The change with what the object was before, where it differs, and what it is."""

    before: msgspec.Raw
    after: msgspec.Raw


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The body: `type` is `<system>.<resource>.<kind>`, `timestamp` when the change was written here."""

    type: str
    timestamp: str
    data: Thin


@dataclass(frozen=True, slots=True)
class Place:
    """Where the objects of a resource are mirrored."""

    system: str
    table: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its id, the same at each attempt; its attributes as headers; its body."""

    id: str
    attributes: Sequence[tuple[bytes, bytes]]
    body: bytes


def place(system: str, resource: str, table: str | None = None) -> Place:
    """`table`: the resource's own, if it has one; else the name that it will get."""
    return Place(system, table or naming.table(system, resource))


def compose(entry: Entry, options: Subscription, where: Place) -> Message:
    """The message of a change."""
    fields: dict[str, Any] = {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "connection": entry.connection,
        "resource": entry.resource,
        "key": entry.key,
        "kind": entry.kind,
        "revision": entry.revision,
        "cause": entry.cause,
        "table": where.table,
    }
    data: Thin
    if options.payload == "thin":
        data = Thin(**fields)
    else:
        data = Full(**fields, before=_raw(entry.before), after=_raw(entry.after))
    kind = f"{where.system}.{entry.resource}.{entry.kind}"
    body = msgspec.json.encode(Body(type=kind, timestamp=entry.at.isoformat(), data=data))
    identifier = message_id(options.name, entry.id, entry.at)
    attributes = _cloudevents(entry, identifier, kind) if options.cloudevents else []
    return Message(identifier, attributes, body)


def test_message(options: Subscription, now: datetime) -> Message:
    """A message about no change, by which a person sees that the endpoint takes them."""
    body = {"type": "erpmirror.test", "timestamp": now.isoformat(), "data": {"subscription": options.name}}
    return Message(f"msg_test_{secrets.token_hex(8)}", [], msgspec.json.encode(body))


def message_id(subscription: str, change: int, at: datetime) -> str:
    """The id by which an endpoint knows a change again: stable for a change and a subscription.

    The time is part of it, because the ids of changes that a restored backup has lost are given to others.
    """
    digest = hashlib.blake2b(f"{subscription}\n{change}\n{at.isoformat()}".encode(), digest_size=8)
    return f"msg_{change}_{digest.hexdigest()}"


def headers(message: Message, signers: Sequence[Webhook], now: datetime) -> list[tuple[bytes, bytes]]:
    """The headers of an attempt at this time, with a signature by each live secret."""
    text = message.body.decode()
    signatures = " ".join(each.sign(message.id, now, text) for each in signers)
    return [
        *_FIXED,
        (b"webhook-id", message.id.encode()),
        (b"webhook-timestamp", b"%d" % int(now.timestamp())),
        (b"webhook-signature", signatures.encode()),
        *message.attributes,
    ]


def signers(secrets: Sequence[str]) -> list[Webhook]:
    """What signs with these secrets."""
    return [Webhook(each) for each in secrets]


def _raw(text: str | None) -> msgspec.Raw:
    return _NOTHING if text is None else msgspec.Raw(text.encode())


_PLAIN = re.compile(r"[^!#$&-~]")


def _cloudevents(entry: Entry, identifier: str, kind: str) -> list[tuple[bytes, bytes]]:
    """The attributes of CloudEvents 1.0 as its HTTP binding writes them, in binary mode."""
    values = {
        "specversion": "1.0",
        "id": identifier,
        "source": f"/erpmirror/{entry.connection}",
        "type": kind,
        "time": entry.at.isoformat(),
        "subject": f"{entry.resource}/{entry.key}",
    }
    return [(f"ce-{name}".encode(), _PLAIN.sub(_percent, value).encode()) for name, value in values.items()]


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode(errors="replace"))
