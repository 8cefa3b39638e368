"""Prints subscriptions, what waits for them and their attempts, for a person; nothing of it commands the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from models.bookkeeping import deliveries
from models.durations import spell
from workers.cli import common, printable, subscription_words
from workers.deliveries.standing import Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from models.bookkeeping.deliveries import Attempt
    from models.bookkeeping.undelivered import Waiting
    from workers.deliveries.standing import Standing

_INDENT = 4
_LONGEST_ANSWER = 300
_LONGEST_REASON = 300


def standing(console: Console, each: Standing, *, is_shown: bool = False) -> None:
    """One subscription: how it does, and the command that helps. `is_shown`: by `show`."""
    style = subscription_words.STYLES.get(each.verdict, "green")
    console.print(Text.assemble((each.name, "bold"), "  ", (subscription_words.state(each), style)), soft_wrap=True)
    told = "; ".join((subscription_words.undelivered(each), subscription_words.last_delivered(each)))
    has_begun = each.options is not None and each.verdict is not Verdict.NOT_STARTED
    failed = filter(None, (subscription_words.why(each), subscription_words.next_try(each)))
    for text in (
        None if each.options is None else f"to {printable.without_query(each.options.url)}",
        None if each.options is None else f"told of {subscription_words.filter_of(each.options)}",
        told if has_begun else None,
        "; ".join(failed) or None,
        subscription_words.advice(each, is_shown=is_shown),
    ):
        if text:
            _print_below(console, text)


def _print_below(console: Console, text: str, *, indent: int = _INDENT) -> None:
    """Below a line, and on a terminal folded between words."""
    blank = " " * indent
    is_folded = console.is_terminal
    shown = common.folded(text, console.width, first=blank, indent=blank) if is_folded else f"{blank}{text}"
    console.print(Text(shown), soft_wrap=True)  # a `str` would be searched for emoji


def waiting(console: Console, one: Waiting, found: Standing) -> None:
    """A change that waits."""
    attempts = "not tried yet" if not one.attempts else f"{one.attempts} attempt{'s' if one.attempts > 1 else ''}"
    due = f"next in {spell(one.due_at - found.now)}" if one.due_at > found.now else "due"
    if found.verdict is Verdict.PAUSED:
        due = "paused"
    common.print_lines(console, f"  {one.change}  {object_of(one)}  {attempts}, {due}")
    if one.reason:
        _print_below(console, printable.cut(printable.escaped(one.reason), _LONGEST_REASON), indent=6)


def attempt(console: Console, each: Attempt) -> None:
    """An attempt, and what the endpoint answered."""
    answer = f" {each.status}" if each.status else ""
    line = f"  {each.at:%Y-%m-%d %H:%M:%S} UTC  change {each.change}, attempt {each.attempt}: {each.outcome}{answer}"
    style = "" if each.outcome == deliveries.DELIVERED else "yellow"
    common.print_lines(console, f"{line}, {each.seconds:.2f} s", style=style)
    if each.error:
        _print_below(console, printable.cut(printable.escaped(each.error), _LONGEST_REASON), indent=6)
    if each.answer:
        _print_below(console, f"answer: {printable.cut(printable.escaped(each.answer), _LONGEST_ANSWER)}", indent=6)


def object_of(one: Waiting) -> str:
    """Its object."""
    return printable.escaped(" ".join(one.of))
