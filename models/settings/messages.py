"""Messages about mistakes in a settings file: each names place and remedy, none repeats a value (it may be secret)."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_RENAMED = {"keep_notices": "keep_webhooks"}
"""Keys of earlier versions; a key that merely looks alike may mean something else."""


_WANTED = {
    "int": "write a whole number, as in 60",
    "float": "write a number, as in 0.2",
    "string": 'write a text in quotes, as in "…"',
    "path": 'write a path in quotes, as in "var/spool"',
    "tuple": 'write a list of texts, as in ["…", "…"]',
    "list": 'write a list, as in ["…", "…"]',
    "dict": "write a table, as in { name = … }",
    "bool": "write true or false",
    "too_short": "name at least one",
}
"""What helps, by the beginning of pydantic's name for a value of the wrong type."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean "…"?` where something known is close, else nothing."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(word.casefold(), folded, n=1)
    return f'; did you mean "{folded[close[0]]}"?' if close else ""


def unknown(place: str, known: Iterable[str]) -> str:
    """The complaint about an unknown key."""
    known = sorted(known)
    key = place.rpartition(".")[2]
    renamed = f'; it is called "{_RENAMED[key]}" now' if _RENAMED.get(key) in known else ""
    guess = renamed or did_you_mean(key, known) or f"; known: {', '.join(known)}"
    return f"{place}: unknown key{guess}"


def describe(error: ValidationError, *, prefix: str, known: Iterable[str]) -> list[str]:
    """One complaint for each thing that is wrong with a table. `known`: the keys it may have."""
    known = list(known)
    found = error.errors(include_url=False, include_input=False)
    return [_describe(details, prefix, known) for details in found if not _follows(details, found)]


def _follows(details: ErrorDetails, found: list[ErrorDetails]) -> bool:
    """Whether a list is too short only because each of its values is wrong, which is said already."""
    place = details["loc"]
    return details["type"] == "too_short" and any(
        len(each["loc"]) > len(place) for each in found if each["loc"][: len(place)] == place
    )


def _describe(details: ErrorDetails, prefix: str, known: list[str]) -> str:
    place = _place(prefix, details["loc"])
    match details["type"]:
        case "extra_forbidden":
            return unknown(place, known if len(details["loc"]) == 1 else [])
        case "missing":
            return f"{place}: missing; add {place.rpartition('.')[2]} = …"
        case "value_error":
            return f"{place}: {details['ctx']['error']}"
        case kind:
            wanted = next((_WANTED[each] for each in _WANTED if kind.startswith(each)), None)
            return f"{place}: {wanted or details['msg'].replace('Input should', 'it should')}"


def _place(prefix: str, location: tuple[int | str, ...]) -> str:
    steps = [step for step in location if step != "[key]"]  # pydantic's sign that the key itself is wrong
    return prefix + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
