"""What helps where a broker cannot be used: read from the words of its client library."""

from __future__ import annotations

import re

from workers.cli.explanation import Explanation, first_line, remedy

_PACKAGES = {"amqp", "kombu", "redis"}
"""Packages whose errors are the broker's. They are known by name: only `workers.queue` imports kombu."""

_NOISE = re.compile(r"^(?:\(0, 0\): |\[Errno -?\d+\] |Error -?\d+ )+")
"""Numbers before the words, which say nothing that they do not."""

_REMEDIES = (
    (
        r"ACCESS_REFUSED|username-password pair|WRONGPASS|NOAUTH|Authentication required|without any password",
        "correct the user in `url` of [broker], and `password` beside it",
    ),
    (r"vhost|NOT_ALLOWED", "create the virtual host (`rabbitmqctl add_vhost`), or correct it in `url` of [broker]"),
    (r"DB index", "correct the number of the database at the end of `url` of [broker]"),
    (r"Name or service not known|name resolution", "correct the host in `url` of [broker]"),
    (r"certificate|SSL", "correct redis:// or rediss://, amqp:// or amqps:// in `url` of [broker]"),
)


def explained(error: Exception) -> Explanation | None:
    """None unless the error is the broker's."""
    return explanation(error) if type(error).__module__.partition(".")[0] in _PACKAGES else None


def explanation(error: BaseException) -> Explanation:
    """Of an error that is known to be the broker's, of whichever package it is."""
    said = _NOISE.sub("", first_line(error)).rstrip(".")
    otherwise = "start the broker, or correct host and port in `url` of [broker]"
    return Explanation(f"the broker cannot be used: {said}", remedy(said, _REMEDIES, otherwise=otherwise))
