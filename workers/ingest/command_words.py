"""What is kept of a vendor's words about a command: without secrets, and without what the connection omits."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from models import exact, redaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.bookkeeping.commands import Command
    from workers.context import ConnectionContext

_SHORTEST_MASKED = 4
"""Characters of a value that is masked; a shorter one would mask parts of any word."""


def redacted(context: ConnectionContext, command: Command, answer: Any) -> Any:
    """The vendor's answer without the fields that the connection omits; its texts without secrets and such values."""
    whole = answer if isinstance(answer, dict) else {"answer": answer}
    kept = redaction.redact(whole, context.omit)
    shown = exact.storable(_each_text(kept, lambda text: without_omitted(command, context.redact_text(text))))
    return shown if isinstance(answer, dict) else shown.get("answer")


def without_omitted(command: Command, text: str) -> str:
    """The text without the values that only the sent arguments have: a vendor may repeat what it was sent."""
    omitted = set(leaves(command.payload)) - set(leaves(command.arguments))
    for value in sorted(omitted, key=len, reverse=True):
        if len(value) >= _SHORTEST_MASKED:
            text = text.replace(value, "***")
    return text


def leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in a value, as texts."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from leaves(each)
    elif isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        yield str(value)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """The value with each text in it changed."""
    if isinstance(value, dict):
        return {name: _each_text(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [_each_text(each, change) for each in value]
    return change(value) if isinstance(value, str) else value
