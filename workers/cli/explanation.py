"""What happened to a server, and what helps: by the words of its error, for a failed connection has no codes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened, and what helps where that is not said already; both are shown to a person."""

    what: str
    remedy: str | None = None

    def __str__(self) -> str:
        return self.what if self.remedy is None else f"{self.what}; {self.remedy}"


def remedy(said: str, remedies: Sequence[tuple[str, str]], *, otherwise: str) -> str:
    """The remedy of the first pattern that the words match, with the pattern's groups put in."""
    for pattern, found in remedies:
        if match := re.search(pattern, said, re.IGNORECASE):
            return found.format(**match.groupdict())
    return otherwise


def first_line(error: BaseException) -> str:
    """An error's words on one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
