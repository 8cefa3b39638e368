"""Names of the mirror's tables and columns: a vendor's names in snake case, the same on every database."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_NAME_BYTES = 55
"""PostgreSQL cuts identifiers at 63 bytes, and `pk_…` and `…__text` need room."""

_MAX_OVERFLOW_BYTES = 63
_HASH_DIGITS = 8
_NON_WORD = re.compile("[\\W\u115f\u1160\u3164\uffa0]+")
"""Characters that are replaced; the last four are invisible letters, which would make two names look alike."""

_SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})
"""Every PostgreSQL table has these already. SQLite's `rowid` may be used: it has two other names."""

_BEFORE_CAPITAL = re.compile(r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_STEP = re.compile(r"(?:\\.|[^.\\])+", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_EMPTY_NAME = "\\-"


def step(key: str) -> str:
    """A field's name as a step of a dotted path: its dots are escaped, and the empty name becomes visible."""
    return key.replace("\\", "\\\\").replace(".", "\\.") or _EMPTY_NAME


def join(path: str, key: str) -> str:
    """The dotted path of a field inside the object at `path` ("" for the outermost)."""
    return f"{path}.{step(key)}" if path else step(key)


def steps(path: str) -> list[str]:
    """The fields' names of a dotted path."""
    return [_ESCAPED.sub(lambda found: "" if found[1] == "-" else found[1], one) for one in _STEP.findall(path)]


def snake_case(key: str) -> str:
    """A vendor's name in snake case: `KOHALIK` is `kohalik`, `PaysVAT` is `pays_vat`, `good__pr` stays."""
    words = _NON_WORD.sub("_", key.strip())
    return _BEFORE_CAPITAL.sub("_", words).lower().lstrip("_") or "field"


def column(path: str, taken: Collection[str]) -> str:
    """The column for a field's dotted path. `taken`: the table's column names, in lower case."""
    folded = "__".join(snake_case(key) for key in steps(path))
    taken = {*taken, folded} if folded in _SYSTEM_COLUMNS else taken
    return _unique(folded, of=path, taken=taken, longest=MAX_NAME_BYTES)


def overflow(name: str, path: str, taken: Collection[str]) -> str:
    """The column beside `name` for values that do not fit it."""
    return _unique(f"{name}__text", of=f"{path} as text", taken=taken, longest=_MAX_OVERFLOW_BYTES)


@lru_cache(maxsize=1000)
def table(system: str, resource: str) -> str:
    """The table of a resource. It never contains `__`, so it cannot clash with a part's table."""
    folded = re.sub(r"_+", "_", f"{snake_case(system)}_{snake_case(resource)}")
    return _unique(folded, of=f"{system} {resource}", taken=(), longest=MAX_NAME_BYTES)


def root_table(owner: str, taken: Collection[str]) -> str:
    """The objects' own table: named like `owner`, unless a table of somebody else has that name."""
    return _unique(owner, of=owner, taken=taken, longest=MAX_NAME_BYTES)


def part_table(owner: str, part: str, taken: Collection[str]) -> str:
    """The table of a part; it always contains `__`. `part`: its dotted path. `taken`: all tables' names."""
    folded = "__".join([owner, *(snake_case(key) for key in steps(part))])
    return _unique(folded, of=f"{owner} {part}", taken=taken, longest=MAX_NAME_BYTES, joint="__")


def key(table: str, taken: Collection[str]) -> str:
    """The primary key of a table: its index is a relation of its own, which outlives a renaming of its table."""
    return _unique(f"pk_{table}", of=table, taken=taken, longest=_MAX_OVERFLOW_BYTES)


def table_name(system: str, resource: str, part: str = "") -> str:
    """The table of a resource, or of one of its parts if no other table has taken that name."""
    owner = table(system, resource)
    return part_table(owner, part, ()) if part else owner


def _unique(name: str, *, of: str, taken: Collection[str], longest: int, joint: str = "_") -> str:
    if len(name.encode()) <= longest and name not in taken:
        return name
    attempt = 0
    while True:
        cut = _shortened(name, of=f"{of} {attempt}" if attempt else of, longest=longest, joint=joint)
        if cut not in taken:
            return cut
        attempt += 1


def _shortened(name: str, *, of: str, longest: int, joint: str) -> str:
    digest = hashlib.blake2b(of.encode(errors="surrogatepass"), digest_size=_HASH_DIGITS // 2).hexdigest()
    kept = name.encode()[: longest - _HASH_DIGITS - len(joint)].decode(errors="ignore")
    return f"{kept.rstrip('_')}{joint}{digest}"
