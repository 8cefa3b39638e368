"""What helps where a database cannot be used: read from its words, for a failed connection has no codes."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import re

from workers.cli.explanation import Explanation, first_line, remedy

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
    (
        r"unable to open database file",
        "make its folder, let this user read and write there, or correct `url` of [database]",
    ),
    (r"not a database|malformed", "name another file in `url` of [database], or restore this one from a backup"),
    (r"disk is full|No space left", "free some of its disk"),
)


_NOISE = re.compile(r"^connection failed: |\bFATAL:\s+")
"""What libpq says beside its reason."""

_BROKEN_FILE = re.compile("not a database|malformed")


def explained(error: Exception) -> Explanation | None:
    """None unless the error is the database's. Shows nothing of a statement: it may hold customers' data."""
    import sqlalchemy as sa

    from models.db import faults

    if not isinstance(error, sa.exc.DBAPIError):
        return None
    said = _NOISE.sub("", first_line(error.orig or error))
    if faults.of(error) is not faults.Fault.AWAY and not _BROKEN_FILE.search(said):
        return Explanation(faults.remedy(error))
    otherwise = "correct `url` of [database], or repair the server"
    return Explanation(f"the database cannot be used: {said}", remedy(said, _REMEDIES, otherwise=otherwise))
