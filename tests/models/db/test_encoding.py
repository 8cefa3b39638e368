"""A database that cannot hold every text, and a server or library that is too old, are refused in words."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.db import database as db
from models.db.database import Database, UnsupportedDatabaseError
from tests import services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


VERBS = {"LATIN1": ("migrate", "up", "check", "receiver", "worker"), "SQL_ASCII": ("migrate", "status")}


@pytest.fixture(params=VERBS)
def other_encoding(request: pytest.FixtureRequest) -> Iterator[sa.URL]:
    """A database in another encoding."""
    server = sa.make_url(services.need(services.POSTGRESQL))
    name = f"schema_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as tx:
        tx.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'"))
    yield server.set(database=name)
    with engine.connect() as tx:
        tx.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.mark.postgresql
def test_another_encoding_is_refused_by_every_verb_with_the_remedy(
    other_encoding: sa.URL, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "erpmirror.toml"
    url = other_encoding.render_as_string(hide_password=False)
    file.write_text(f'[database]\nurl = "{url}"\n[receiver]\ntoken = "tok"\n', encoding="utf-8")
    remedy = f"createdb --encoding UTF8 --template template0 {other_encoding.database}_utf8"
    for verb in VERBS[request.node.callspec.params["other_encoding"]]:
        command = [sys.executable, "-m", "workers.cli", verb, "--config", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        said = " ".join((done.stdout + done.stderr).split())
        assert (1, True, False) == (done.returncode, remedy in said, "Traceback" in said), (verb, said)


@services.ON_POSTGRESQL
def test_the_environments_encoding_changes_nothing(empty_url: sa.URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PGCLIENTENCODING", "LATIN1")
    opened = Database(empty_url)
    with opened.read() as tx:
        assert "5 €" == tx.execute(sa.select(sa.literal("5 €"))).scalar_one()
        assert "UTF8" == tx.execute(sa.text("SHOW client_encoding")).scalar_one()
    opened.close()


def test_old_servers_and_libraries_are_refused() -> None:
    assert "PostgreSQL 11, and erpmirror needs 12" in str(db.unsupported_postgresql(110_022, "UTF8", "mirror"))
    assert "SQLite 3.34.1, and erpmirror needs 3.35.0" in str(db.unsupported_sqlite((3, 34, 1)))
    assert (None, None) == (db.unsupported_postgresql(150_004, "UTF8", "mirror"), db.unsupported_sqlite((3, 35, 0)))


@pytest.mark.postgresql
def test_the_refusal_is_an_error_of_its_own(other_encoding: sa.URL) -> None:
    opened = Database(other_encoding)
    with pytest.raises(UnsupportedDatabaseError, match=r"is encoded in (LATIN1|SQL_ASCII)"), opened.read():
        pass
    opened.close()
