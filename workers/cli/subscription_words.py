"""What `status` and `subscriptions` say about a subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.bookkeeping.subscriptions import PausedBy
from models.durations import spell
from workers.cli import printable
from workers.deliveries.standing import COUNTED, Standing, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.settings.subscriptions import Subscription

_PAUSED = {
    PausedBy.PERSON: "by a person",
    PausedBy.GONE: "because its endpoint answered 410, that it is gone",
    PausedBy.GAVE_UP: "because a delivery had failed for `give_up_after`",
    PausedBy.TRIMMED: "because `keep_changes` deleted changes that it was not told yet",
}

STYLES = {
    Verdict.PAUSED: "red",
    Verdict.FAILING: "yellow",
    Verdict.BEHIND: "yellow",
    Verdict.NOT_STARTED: "yellow",
    Verdict.REMOVED: "dim",
}

_LONGEST_REASON = 200


def status_lines(every: Sequence[Standing]) -> Iterator[tuple[str, str]]:
    """For `status`: a line with its style for each that needs a look, or one for all."""
    configured = [each for each in every if each.verdict is not Verdict.REMOVED]
    healthy = [each for each in configured if each.verdict is Verdict.UP_TO_DATE]
    for each in configured:
        if each.verdict is not Verdict.UP_TO_DATE:
            yield f"subscription {each.name}: {_status(each)}", STYLES[each.verdict]
    if healthy and len(healthy) == len(configured):
        are = "subscription is" if len(healthy) == 1 else "subscriptions are"
        yield f"{len(healthy)} {are} up to date", ""


def _status(each: Standing) -> str:
    waiting = undelivered(each) if each.backlog.count else None
    return "; ".join(part for part in (state(each), why(each), waiting, advice(each)) if part)


def state(each: Standing) -> str:
    """Its verdict, and since when."""
    row = each.row
    if each.verdict is Verdict.PAUSED and row is not None:
        by = f" {_PAUSED[row.paused_by]}" if row.paused_by else ""
        at = f" {spell(each.now - row.paused_at)} ago" if row.paused_at else ""
        return f"paused{at}{by}"
    if each.verdict is Verdict.FAILING and each.failing_since:
        return f"failing for {spell(each.now - each.failing_since)}"
    if each.verdict is Verdict.REMOVED:
        at = f" {spell(each.now - row.removed_at)} ago" if row is not None and row.removed_at else ""
        return f"left the settings{at}"
    return str(each.verdict)


def why(each: Standing) -> str | None:
    """The words with which it was paused or failed."""
    reason = each.reason if each.verdict in {Verdict.PAUSED, Verdict.FAILING} else None
    is_said = each.row is not None and each.row.paused_by in {PausedBy.PERSON, PausedBy.TRIMMED}
    return None if reason is None or is_said else printable.cut(printable.escaped(reason), _LONGEST_REASON)


def count(each: Standing) -> str:
    """How many changes it was not told yet."""
    return f"{COUNTED}+" if each.backlog.count >= COUNTED else str(each.backlog.count)


def undelivered(each: Standing) -> str:
    """How many changes it was not told yet, and how old the oldest is."""
    if not each.backlog.count:
        return "nothing waits"
    changes = "change waits" if each.backlog.count == 1 else "changes wait"
    return f"{count(each)} {changes}, the oldest for {spell(each.age)}"


def last_delivered(each: Standing) -> str:
    """When a delivery last succeeded."""
    if each.row is None or each.row.delivered_at is None:
        return "nothing was delivered yet"
    return f"last delivered {spell(each.now - each.row.delivered_at)} ago"


def next_try(each: Standing) -> str | None:
    """When a failing one is tried again."""
    if each.next_try is None:
        return None
    return f"tried again in {spell(each.next_try - each.now)}" if each.next_try > each.now else "tried again now"


def advice(each: Standing, *, is_shown: bool = False) -> str | None:
    """The command that helps. `is_shown`: the person looks at what `show` prints."""
    verb = "erpmirror subscriptions"
    place = "its place" if each.row is None else f"its place, after change {each.row.position},"
    advised = {
        Verdict.PAUSED: f"`{verb} resume {each.name}` goes on",
        Verdict.FAILING: f"`{verb} show {each.name}` has the answers",
        Verdict.BEHIND: f"`{verb} show {each.name}` lists what waits",
        Verdict.NOT_STARTED: "it begins when `erpmirror up`, or a worker and the scheduler, start with these settings",
        Verdict.REMOVED: f"{place} is kept for `keep_deliveries`, in case it comes back",
    }
    if is_shown:
        advised |= {
            Verdict.FAILING: f"`{verb} resume {each.name}` tries again now",
            Verdict.BEHIND: "is a worker running? `erpmirror status` shows it",
        }
    return advised.get(each.verdict)


def filter_of(options: Subscription) -> str:
    """Of which changes it is told."""
    parts = (
        f" of {', '.join(options.resources)}" if options.resources else "",
        f" in {', '.join(options.connections)}" if options.connections else "",
        f": {', '.join(kind.value for kind in options.kinds)}" if options.kinds else "",
    )
    return f"changes{''.join(parts)}" if any(parts) else "all changes"


def as_row(each: Standing) -> dict[str, Any]:
    """What a program sees of it."""
    row, options = each.row, each.options
    return {
        "name": each.name,
        "state": "not_started" if row is None else row.state.value,
        "verdict": each.verdict.value.replace(" ", "_"),
        "url": None if options is None else printable.without_query(options.url),
        "connections": [] if options is None else list(options.connections),
        "resources": [] if options is None else list(options.resources),
        "kinds": [] if options is None else [kind.value for kind in options.kinds],
        "undelivered": each.backlog.count,
        "oldest_undelivered_at": each.backlog.oldest,
        "position": None if row is None else row.position,
        "delivered": 0 if row is None else row.delivered,
        "failed": 0 if row is None else row.failed,
        "delivered_at": None if row is None else row.delivered_at,
        "failures": 0 if row is None else row.failures,
        "failing_since": each.failing_since,
        "next_try_at": each.next_try,
        "reason": each.reason,
        "paused_by": None if row is None or row.paused_by is None else row.paused_by.value,
        "paused_at": None if row is None else row.paused_at,
        "since": None if row is None else row.since,
        "removed_at": None if row is None else row.removed_at,
    }
