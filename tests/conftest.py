"""Databases for tests: SQLite, PostgreSQL and PostgreSQL under an ICU collation pass the same tests."""

from __future__ import annotations

import os
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import structlog

from models.db import tables
from models.db.database import Database
from tests import services
from tests.chaos import results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seed", default="4", help="The seed of the chaos tests.")


def pytest_xdist_auto_num_workers() -> int:
    """Twice the cores: many tests wait for processes, leases and vendors, and compute little meanwhile."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first; at most two chaos tests run at once, because each starts a dozen processes."""
    longest_first = ("chaos", "slow", "timeout")
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in longest_first])
    chaos = [item for item in items if item.get_closest_marker("chaos")]
    alone = [item for item in chaos if not item.get_closest_marker("xdist_group")]
    for number, item in enumerate(alone):
        item.add_marker(pytest.mark.xdist_group(f"chaos-{number % 2}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the chaos tests."""
    every = [report for some in terminalreporter.stats.values() for report in some]
    reports = [report for report in every if isinstance(report, pytest.TestReport)]
    lines = list(results.table(results.by_fault(reports)))
    if lines:
        terminalreporter.section("chaos")
        for line in lines:
            terminalreporter.write_line(line)


def _create_all(database: Database) -> None:
    """Create the bookkeeping tables, on PostgreSQL in one round trip: thousands of tests do this first."""
    if database.engine.dialect.name == "postgresql":
        with database.engine.begin() as tx:
            tx.exec_driver_sql(_script())
    else:
        tables.metadata.create_all(database.engine, checkfirst=False)
    with database.begin() as tx:
        tx.execute(sa.insert(tables.counter).values(one=1, last=0))
        tx.execute(sa.insert(tables.feed).values(one=1, last=0, name=uuid.uuid4().hex[:12]))


@cache
def _script() -> str:
    """What `create_all` sends to PostgreSQL."""
    statements: list[str] = []
    recorder: Any = sa.create_mock_engine(
        "postgresql+psycopg://", lambda ddl, *_, **__: statements.append(str(ddl.compile(dialect=recorder.dialect)))
    )
    tables.metadata.create_all(recorder, checkfirst=False)
    return ";".join(statements)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A verb that a test runs in this process configures structlog, which the next test finds as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def icu_url() -> Iterator[sa.URL]:
    """A database of this session's own whose collation is ICU's."""
    server = sa.make_url(services.need(services.POSTGRESQL))
    name = f"erpmirror_icu_{os.getpid()}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as tx:
        tx.execute(sa.text(f"DROP DATABASE IF EXISTS {name}"))
        tx.execute(
            sa.text(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'")
        )
    yield server.set(database=name)
    with engine.connect() as tx:
        tx.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def fresh_schema(url: sa.URL) -> tuple[sa.URL, sa.Engine, str]:
    """A schema of this test's own inside the database: its address, the engine that drops it, its name."""
    schema = f"t_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as tx:
        tx.execute(sa.text(f"CREATE SCHEMA {schema}"))
    return url.update_query_dict({"options": f"-csearch_path={schema}"}), engine, schema


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("icu", marks=[pytest.mark.postgresql, pytest.mark.slow]),
    ]
)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.URL]:
    """An address without any table in it, once for each kind of database."""
    if request.param == "sqlite":
        yield sa.make_url(f"sqlite:///{tmp_path / 'mirror.db'}")
        return
    if request.param == "icu":
        server = request.getfixturevalue("icu_url")
    else:
        server = sa.make_url(services.need(services.POSTGRESQL))
    url, engine, schema = fresh_schema(server)
    yield url
    with engine.connect() as tx:
        tx.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))


@pytest.fixture
def database(empty_url: sa.URL) -> Iterator[Database]:
    """A database with the bookkeeping tables, once for each kind."""
    made = Database(empty_url)
    _create_all(made)
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """A SQLite database with the bookkeeping tables, for what does not differ between databases."""
    made = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    _create_all(made)
    yield made
    made.close()
