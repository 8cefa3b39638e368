"""A connection with a watched folder, and what scanners and people do there."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.workers.ingest import document_harness
from tests.workers.ingest.document_harness import KIND, pdf, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from models.db.database import Database
    from tests.workers.ingest.document_harness import DocumentHarness

    Connect = Callable[..., AbstractContextManager[DocumentHarness]]

ONE = pdf("one")
KEY = sha256(ONE)
CUT = pdf("cut", end=b"")


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(document_harness.connected, sqlite, tmp_path, inbox="incoming")


@pytest.fixture
def six(connect: Connect) -> Iterator[DocumentHarness]:
    with connect() as connected:
        connected.work()
        yield connected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "incoming" / KIND


def put(path: Path, content: bytes = ONE, *, age: float = 10) -> None:
    path.write_bytes(content)
    changed = time.time() - age
    os.utime(path, (changed, changed))


def again(six: DocumentHarness) -> None:
    """As if the next scan were due."""
    six.clock.advance(seconds=11)
    six.work()


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def why(folder: Path, name: str) -> str:
    return (folder / "parked" / f"{name}.why.txt").read_text(encoding="utf-8")
