"""One column for a field however its name is cased: servers send `Id` or `id` as their settings have it.

A field takes the spelling of the declaration, else of the column that it has already, unless the object has a field of
exactly that name, too.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Final

from models.mirror import naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Spellings:
    """The known spellings of the fields. `known`: part -> dotted paths; of two that differ only in case the first."""

    def __init__(self, known: Mapping[str, Iterable[str]]) -> None:
        self._known = known
        self._paths: dict[str, dict[str, None]] = {}
        self._folded: dict[str, dict[str, str]] = {}

    def of_keys(self, part: str, prefix: str, keys: Iterable[str]) -> dict[str, str]:
        """Those keys of an object that are known by another spelling only, with that spelling.

        `part`, `prefix`: where the object is, as dotted paths ("" for none).
        """
        if part not in self._paths:
            self._paths[part] = dict.fromkeys(self._paths_of(part))
            self._folded[part] = {path.casefold(): path for path in reversed(self._paths[part])}
        paths, folded = self._paths[part], self._folded[part]
        found = {}
        for key in keys:
            path = naming.join(prefix, key)
            if path not in paths and (known := folded.get(path.casefold())) is not None:
                found[key] = naming.steps(known)[-1]
        return found

    def _paths_of(self, part: str) -> Iterator[str]:
        """The known paths of the part, those of the objects on their way, and the parts below."""
        below = f"{part}." if part else ""
        parts = (each.removeprefix(below) for each in self._known if each != part and each.startswith(below))
        for path in (*self._known.get(part, ()), *parts):
            yield from _prefixes(path) if "." in path else (path,)


NO_SPELLINGS: Final = Spellings({})
"""Every field keeps its own spelling."""


def _prefixes(path: str) -> list[str]:
    """`a`, `a.b` and `a.b.c` for `a.b.c`."""
    return list(accumulate(naming.steps(path), naming.join, initial=""))[1:]
