"""How many connections and waiting readers fit into the process's limit of open files, which is raised first."""

from __future__ import annotations

import resource
from contextlib import suppress

BACKLOG = 256
"""Connections that are accepted at once, before idle ones are closed."""

_OTHERS = 128
"""Files that the database, the broker, the spool and the log may need."""

_MOST = 8192
"""More than the readers and webhooks of one process need; a hard limit may be a billion."""

_MOST_READERS = 2000


def raise_limit() -> None:
    """Raise the soft limit towards the hard one. A shell's usual one is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a system may allow less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """Connections to clients that may be open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MOST if soft == resource.RLIM_INFINITY else min(soft, _MOST)
    return max(limit - BACKLOG - _OTHERS, limit // 2)


def most_readers() -> int:
    """Readers that may wait at once: webhooks always find room beside them."""
    return min(most_connections() // 2, _MOST_READERS)
