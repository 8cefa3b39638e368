"""The receiver's answers are structs, from which their OpenAPI schemas are generated.

A struct stands beside the route that sends it; here are the field types and the answers that several routes share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

if TYPE_CHECKING:
    from datetime import datetime

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Timestamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Object = dict[str, Any]
"""A vendor's object. Its numbers are `int` or `Decimal`, and are sent with all their digits."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all answers. The schema names every field and allows no other."""


class Ok(Answer, frozen=True):
    """Done, or durable."""

    ok: Annotated[bool, Meta(extra_json_schema={"const": True})]


class Error(Answer, frozen=True):
    """`error` is for programs, `message` for a person. Neither repeats what was sent."""

    error: Annotated[str, Meta(pattern="^[a-z_]+$")]
    message: Text


def iso(at: datetime | None) -> str | None:
    """A time as answers have it; None if it has not come."""
    return None if at is None else at.isoformat()


_ENCODER = msgspec.json.Encoder(decimal_format="number")


def encode(answer: Answer) -> bytes:
    """The answer as JSON, on one line."""
    return _ENCODER.encode(answer)


class AnswerResponse(Response):
    """An answer as JSON."""

    media_type = "application/json"

    def render(self, content: Answer) -> bytes:
        """Encode the struct."""
        return encode(content)
