"""The real services that tests talk to: their addresses, and skipping when one is down."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import pytest

POSTGRESQL = os.environ.get("ERPMIRROR_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432/test")
REDIS = os.environ.get("ERPMIRROR_TEST_REDIS", "redis://127.0.0.1:6379/9")
RABBITMQ = os.environ.get("ERPMIRROR_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
REQUIRED = os.environ.get("ERPMIRROR_TEST_SERVICES") == "required"


def need(url: str) -> str:
    """The address, if a service listens there; else skip, or fail where services are required."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=5).close()
    except OSError as error:
        message = f"{parts.scheme} at {parts.hostname}:{parts.port} is down ({error})"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    return url


ON_POSTGRESQL = pytest.mark.parametrize(
    "empty_url",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("icu", marks=[pytest.mark.postgresql, pytest.mark.slow]),
    ],
    indirect=True,
)
"""For what only a server can do, where the fixture `database` would also bring SQLite."""
