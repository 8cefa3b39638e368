"""What an entry of the journal says to a person: the fields that differ, or a few that tell what an object is."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from models import exact
from models.mirror import naming
from models.values import ChangeKind
from workers.cli import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_FIELDS = 12
"""Fields of one update that are shown, if there are more."""

_NOTHING = "(none)"
"""A field that does not exist, or is null: the journal keeps no difference between them."""

_LONGEST_PATH = 40
_SHORTEST_ROOM = 30
_DEEPEST = 3
_LONGEST_TELLING = 40
_TELLING_FIELDS = 4

_HEAD = "header"
"""Where some vendors put the fields of a document itself."""

_TELLING = (
    "name",
    "title",
    "number",
    "code",
    "sku",
    "barcode",
    "email",
    "phone",
    "date",
    "person",
    "customer",
    "total",
    "amount",
    "price",
    "description",
    "status",
    "state",
)
"""Words in the names of fields by which people know an object, the best first."""


def lines(change: Any, width: int) -> Iterator[str]:
    """The lines below an entry, each of at most `width` characters."""
    match change.kind:
        case ChangeKind.UPDATED:
            yield from _updates(change.before or {}, change.after or {}, width)
        case ChangeKind.CREATED | ChangeKind.RESTORED:
            told = printable.joined(_telling(change.key, change.after or {}), width, at_most=_TELLING_FIELDS)
            if told:
                yield told
        case _:  # a deletion keeps no copy of its object
            return


def _updates(before: Mapping[str, Any], after: Any, width: int) -> Iterator[str]:
    shown = list(before.items())
    if len(shown) > _MOST_FIELDS + 1:
        shown = shown[:_MOST_FIELDS]
    for path, earlier in shown:
        name = printable.cut(printable.escaped(path), _LONGEST_PATH)
        room = max(width - len(name) - len(":  → "), _SHORTEST_ROOM)
        one, other = printable.cut_pair(_shown(earlier), _shown(_at(after, path)), room)
        yield f"{name}: {one} → {other}"
    if len(shown) < len(before):
        yield f"… and {len(before) - len(shown)} more fields"


def _at(value: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    for step in naming.steps(path):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _shown(value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, list):
        return f"[{len(value)} {'item' if len(value) == 1 else 'items'}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{printable.escaped(name)}: {_shown(each)}" for name, each in value.items()) + "}"
    return printable.escaped(exact.dumps(value))


def _telling(key: str, after: Any) -> Iterator[str]:
    """`name: "Nail"`, `price: 1.50`, …: scalars, those first by which people know an object."""
    found = [
        (path, value)
        for path, value in _scalars(after, "", 1)
        if str(value) not in {"", key} and len(str(value)) <= _LONGEST_TELLING
    ]
    ranked = sorted(range(len(found)), key=lambda number: (_rank(*found[number]), number))
    return (f"{printable.escaped(found[number][0])}: {_shown(found[number][1])}" for number in ranked)


def _scalars(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        return
    for name, each in value.items():
        inner = naming.join(path, name)
        if isinstance(each, dict) and depth < _DEEPEST:
            yield from _scalars(each, inner, depth + 1)
        elif isinstance(each, str | int | Decimal) and not isinstance(each, bool):
            yield inner, each


def _rank(path: str, value: Any) -> int:
    """Lower is better: a known word as the object's own field, anywhere in the path, none of them, a 0 or an id."""
    steps = naming.steps(path.lower())
    last = steps[-1]
    if last.endswith("id") or not (isinstance(value, str) or value):
        return 3 * len(_TELLING)
    if last in _TELLING and (len(steps) == 1 or steps[:-1] == [_HEAD]):
        return _TELLING.index(last)
    words = (number for number, word in enumerate(_TELLING, start=len(_TELLING)) if word in path.lower())
    return next(words, 2 * len(_TELLING))
