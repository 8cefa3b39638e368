"""Messages about mistakes in a settings file: each names place and remedy, none repeats a value (it may be secret)."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_REFERENCE = re.compile(r"\$\{([^}]*)(\}?)")
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")


_RENAMED = {"keep_notices": "keep_webhooks"}
"""Keys of earlier versions; a key that merely looks alike may mean something else."""


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
    return [_describe(details, prefix, known) for details in error.errors(include_url=False, include_input=False)]


def _describe(details: ErrorDetails, prefix: str, known: list[str]) -> str:
    place = _place(prefix, details["loc"])
    match details["type"]:
        case "extra_forbidden":
            return unknown(place, known if len(details["loc"]) == 1 else [])
        case "missing":
            return f"{place}: missing; add {place.rpartition('.')[2]} = …"
        case "value_error":
            return f"{place}: {details['ctx']['error']}"
        case _:
            message = (
                details["msg"]
                .replace("Input should", "it should")
                .replace("tuple", "list")
                .replace("dictionary", "table")
            )
            return f"{place}: {message}"


def _place(prefix: str, location: tuple[int | str, ...]) -> str:
    return prefix + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)


def expand(content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The content with each `${NAME}` replaced from the environment, and the complaints about those that cannot be."""
    complaints: list[str] = []
    return {key: _expand(value, key, complaints) for key, value in content.items()}, complaints


def _expand(value: Any, place: str, complaints: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, f"{place}.{key}", complaints) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{place}[{index}]", complaints) for index, item in enumerate(value)]
    if isinstance(value, str):
        complaints += [f"{place}: {problem}" for problem in _problems(value)]
        # The environment's values are not expanded in turn, so a password may contain "${".
        return _REFERENCE.sub(lambda match: os.environ.get(match[1], ""), value)
    return value


def _problems(text: str) -> Iterator[str]:
    for name, closed in _REFERENCE.findall(text):
        if not closed or not _NAME.fullmatch(name):
            yield 'a reference to the environment reads "${NAME}"; a value with "${" in it belongs into the environment'
        elif not os.environ.get(name):
            state = "is empty" if name in os.environ else "is not set"
            yield f"${{{name}}} {state}; set the environment variable {name}, or remove the key"
