"""Which `omit` rules everything stored of a resource follows, and how far older rows and entries were cleared.

A rule applies to what is stored from then on. What was stored before is cleared by `rebuild`; until then the column
`redaction` of a stream has, beside the rules that all follows (`followed`), those that came later (`added`), a revision
drawn when they came (`since`: what was written since follows them), and the journal's last cleared id (`cleared`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db.outgoing_tables import commands
from models.db.tables import inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.db.database import Tx
    from models.values import JsonObject


@dataclass(frozen=True, slots=True)
class Pending:
    """Rules that came after something was stored. `since`, `cleared`: see above."""

    rules: tuple[str, ...]
    since: int
    cleared: int


def followed(rules: Iterable[str]) -> dict[str, Any]:
    """The column's value where all that is stored follows these rules."""
    return {"followed": _sorted(rules), "added": []}


def has_rules(stored: dict[str, Any] | None, rules: Iterable[str]) -> bool:
    """Whether `with_rules` would change nothing."""
    return stored is not None and sorted(stored["followed"] + stored["added"]) == _sorted(rules)


def with_rules(tx: Tx, stored: dict[str, Any] | None, rules: Iterable[str]) -> dict[str, Any]:
    """The column's value once these rules are configured. `stored`: the one so far, None if nothing is known."""
    configured = _sorted(rules)
    known = stored or followed(())
    kept = [rule for rule in configured if rule in known["followed"]]
    added = [rule for rule in configured if rule not in kept]
    if added == known["added"]:
        return {**known, "followed": kept}
    return {"followed": kept, "added": added, **({"since": tx.draw(), "cleared": 0} if added else {})}


def pending(stored: dict[str, Any] | None) -> Pending | None:
    """The rules that older rows and entries may not follow; None if all follow them."""
    if not stored or not stored["added"]:
        return None
    return Pending(tuple(stored["added"]), stored["since"], stored["cleared"])


def redact_waiting(tx: Tx, *, connection: str, resource: str, redact: Callable[[JsonObject], JsonObject]) -> None:
    """Pass the summaries and unreadable rows that wait through `redact`."""
    c = inbox.c
    here = (c.connection == connection, c.resource == resource)
    held = sa.or_(c.summary.is_not(None), c.unreadable_raw.is_not(None))
    for row in tx.execute(sa.select(c.key, c.summary, c.unreadable_raw).where(*here, held).order_by(c.key)).all():
        summary, raw = (None if each is None else redact(each) for each in (row.summary, row.unreadable_raw))
        if (summary, raw) != (row.summary, row.unreadable_raw):
            tx.execute(sa.update(inbox).where(*here, c.key == row.key).values(summary=summary, unreadable_raw=raw))


def redact_commands(tx: Tx, *, connection: str, resource: str, redact: Callable[[JsonObject], JsonObject]) -> None:
    """Pass the arguments and answers of a resource's commands through `redact`. What is not sent yet is sent whole."""
    c = commands.c
    here = (c.connection == connection, c.resource == resource)
    for row in tx.execute(sa.select(c.id, c.arguments, c.answer).where(*here).order_by(c.id)).all():
        arguments = redact(row.arguments)
        answer = redact(row.answer) if isinstance(row.answer, dict) else row.answer
        if (arguments, answer) != (row.arguments, row.answer):
            tx.execute(sa.update(commands).where(c.id == row.id).values(arguments=arguments, answer=answer))


def _sorted(rules: Iterable[str]) -> list[str]:
    return sorted({rule.casefold() for rule in rules if rule})
