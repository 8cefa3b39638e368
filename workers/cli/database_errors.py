"""What helps where a database cannot be used: read from its words, for a failed connection has no codes."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import re
from dataclasses import dataclass

_REMEDIES = (
    (
        r'database "(?P<name>[^"]+)" does not exist',
        "create it (`createdb {name}`), or correct the name in `url` of [database]",
    ),
    (
        r'role "(?P<name>[^"]+)" does not exist',
        "correct the user in `url` of [database], or create it (`createuser {name}`)",
    ),
    (
        r"password authentication failed|no password supplied",
        "correct the user in `url` of [database], and `password` beside it",
    ),
    (r"no pg_hba\.conf entry", "let the server's pg_hba.conf admit this machine and user"),
    (r"resolve host|Name or service not known|could not translate host", "correct the host in `url` of [database]"),
    (
        r"Connection refused|timeout expired|timed out|unreachable",
        "start the server, or correct host and port in `url` of [database]",
    ),
    (r"too many (clients|connections)|remaining connection slots", "raise max_connections at the server, or run less"),
    (r"certificate|SSL", "correct the sslmode or sslrootcert in `url` of [database]"),
    (r"unable to open database file", "make its folder (`mkdir -p`) and let this user read and write there"),
    (r"not a database|malformed", "name another file in `url` of [database], or restore this one from a backup"),
    (r"disk is full|No space left", "free some of its disk"),
)


_BROKEN_FILE = re.compile("not a database|malformed")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened, and what helps where that is not said already; both are shown to a person."""

    what: str
    remedy: str | None = None

    def __str__(self) -> str:
        return self.what if self.remedy is None else f"{self.what}; {self.remedy}"


def explained(error: Exception) -> Explanation | None:
    """None unless the error is the database's. Shows nothing of a statement: it may hold customers' data."""
    import sqlalchemy as sa

    from models.db import faults

    if not isinstance(error, sa.exc.DBAPIError):
        return None
    lines = str(error.orig or error).strip().splitlines()
    said = lines[0] if lines else type(error).__name__
    if faults.of(error) is not faults.Fault.AWAY and not _BROKEN_FILE.search(said):
        return Explanation(faults.remedy(error))
    for pattern, remedy in _REMEDIES:
        if match := re.search(pattern, said, re.IGNORECASE):
            return Explanation(f"the database cannot be used: {said}", remedy.format(**match.groupdict()))
    return Explanation(f"the database cannot be used: {said}", "correct `url` of [database], or repair the server")
