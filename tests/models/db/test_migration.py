"""The migrations, on every kind of database: their tables, several runs at once, the reported state."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import models
from models.bookkeeping import streams
from models.db import migration, tables
from models.db.database import Database
from models.mirror import schemas

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def empty(empty_url: sa.URL) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.close()


def test_the_migrations_make_the_tables_that_the_code_declares(empty: Database) -> None:
    migration.migrate(empty)
    with empty.begin() as tx:
        tx.execute(sa.text("CREATE TABLE dilovod_catalogs_goods (_key text)"))
    with empty.read() as tx:
        options = {
            "include_object": migration.is_ours,
            "compare_type": True,
            "compare_server_default": True,
            "version_table": migration.VERSION_TABLE,
        }
        context = MigrationContext.configure(tx, opts=options)
        assert [] == compare_metadata(context, tables.metadata)


def test_the_revisions_that_the_code_states_are_those_of_the_files() -> None:
    files = ScriptDirectory(str(Path(models.__file__).parent / "migrations"))
    assert migration.HEAD == files.get_current_head()
    assert {migration.HEAD, *migration.MIGRATED} == {script.revision for script in files.walk_revisions()}


def test_the_migrations_make_what_create_all_makes_exactly(empty: Database, database: Database) -> None:
    declared = _everything(database)  # the same database as `empty`
    tables.metadata.drop_all(database.engine)
    migration.migrate(empty)
    assert declared == _everything(empty)


def _everything(database: Database) -> list[tuple[Any, ...]]:
    """Columns with types, collations and defaults, indexes and sequences, without Alembic's own table."""
    queries = (
        [
            (
                "SELECT made.name, field.name, field.type, field.[notnull], field.dflt_value, field.pk, "
                "made.sql LIKE '%AUTOINCREMENT%' FROM sqlite_master AS made, pragma_table_info(made.name) AS field "
                "WHERE made.type = 'table' AND made.name <> :own"
            ),
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name <> :own",
        ]
        if database.is_sqlite
        else [
            (
                "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name "
                "FROM information_schema.columns WHERE table_schema = current_schema() AND table_name <> :own"
            ),
            (
                "SELECT tablename, indexdef, '', '' FROM pg_indexes "
                "WHERE schemaname = current_schema() AND tablename <> :own"
            ),
            (
                "SELECT sequencename, data_type::text, '', '' FROM pg_sequences "
                "WHERE schemaname = current_schema() AND sequencename <> :own"
            ),
        ]
    )
    with database.read() as tx:
        rows = [row for query in queries for row in tx.execute(sa.text(query), {"own": migration.VERSION_TABLE})]
    return sorted(tuple(str(value) for value in row) for row in rows)


def test_a_new_database_has_a_counter_and_a_feed_with_a_new_name(empty: Database) -> None:
    migration.migrate(empty)
    with empty.begin() as tx:
        assert [(1, 0)] == [tuple(row) for row in tx.execute(sa.select(tables.counter))]
        feed = tx.execute(sa.select(tables.feed)).one()
        assert (1, 0, 12) == (feed.one, feed.last, len(feed.name))
        assert empty.draw(tx) < empty.draw(tx)


def test_migrating_again_changes_nothing(empty: Database) -> None:
    migration.migrate(empty)
    with empty.begin() as tx:
        name = tx.execute(sa.select(tables.feed.c.name)).scalar_one()
        tx.execute(sa.update(tables.feed).values(last=7))
    migration.migrate(empty)
    with empty.read() as tx:
        assert (1, 7, name) == tuple(tx.execute(sa.select(tables.feed)).one())


def test_tables_of_an_earlier_version_get_the_index_of_deleted_objects(empty: Database) -> None:
    with empty.begin() as tx:
        command.upgrade(migration._config(tx), "0006")
        for name in ("books_items", "gone", "shop_goods"):
            tx.execute(sa.insert(tables.parts).values(table_name=name, owner=name, path=""))
        for name in ("books_items", "shop_goods"):
            schemas.build(name, "", []).create(tx)
        tx.execute(sa.text("CREATE TABLE ix_shop_goods_del (mine text)"))
    migration.migrate(empty)
    indexes = {name: sa.inspect(empty.engine).get_indexes(name) for name in ("books_items", "shop_goods")}
    assert [("ix_books_items_del", ["_connection"])] == [
        (each["name"], each["column_names"]) for each in indexes["books_items"]
    ]
    assert [] == indexes["shop_goods"], "a table of its name was there"


def test_several_processes_may_migrate_at_the_same_time(empty: Database) -> None:
    script = (
        "import sys\n"
        "from models.db import migration\n"
        "from models.db.database import Database\n"
        "sys.stdin.readline()\n"
        "migration.migrate(Database(sys.argv[1]))\n"
    )
    url = empty.url.render_as_string(hide_password=False)
    processes = [
        subprocess.Popen([sys.executable, "-c", script, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [0] * 4 == [process.returncode for process in processes], errors
    assert "current" == migration.state(empty)


def test_the_state_is_missing_before_and_current_after(empty: Database) -> None:
    assert "missing" == migration.state(empty)
    with pytest.raises(migration.WrongTablesError, match="run `erpmirror migrate`"):
        migration.require(empty)
    migration.migrate(empty)
    assert "current" == migration.state(empty)
    migration.require(empty)


def test_asking_for_the_state_creates_no_file(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'var' / 'mirror.db'}")
    assert "missing" == migration.state(database)
    assert [] == list(tmp_path.iterdir())


def test_migrating_creates_the_folder_of_a_new_database(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'var' / 'deep' / 'mirror.db'}")
    migration.migrate(database)
    assert "current" == migration.state(database)
    database.close()


@pytest.mark.parametrize(
    ("damage", "lacks"),
    [
        ("DROP TABLE erpmirror_parts", "the table erpmirror_parts"),
        ("DROP TABLE erpmirror_version", "the table erpmirror_version"),
        ("ALTER TABLE erpmirror_streams DROP COLUMN warning", "erpmirror_streams.warning"),
        ("ALTER TABLE erpmirror_inbox DROP COLUMN attempts", "erpmirror_inbox.attempts"),
        ("DROP INDEX ix_erpmirror_inbox_due", "the index ix_erpmirror_inbox_due"),
        ("DELETE FROM erpmirror_feed", "the row of erpmirror_feed"),
    ],
)
def test_what_was_dropped_is_named_and_made_anew(empty: Database, damage: str, lacks: str) -> None:
    migration.migrate(empty)
    with empty.begin() as tx:
        tx.execute(sa.text(damage))
    assert ("damaged", [lacks]) == (migration.state(empty), migration.missing(empty))
    if "index" in lacks:
        migration.require(empty)  # it only makes statements slow
    else:
        with pytest.raises(migration.WrongTablesError, match=f"lacks {lacks}; run `erpmirror migrate`"):
            migration.require(empty)
    migration.migrate(empty)
    assert ("current", []) == (migration.state(empty), migration.missing(empty))


def test_a_counter_that_was_dropped_goes_on_where_it_was(empty: Database) -> None:
    migration.migrate(empty)
    with empty.begin() as tx:
        for _ in range(5):
            last = empty.draw(tx)
        stream = {"connection": "shop", "resource": "goods", "key": "1", "kind": "deleted", "cause": "poll"}
        tx.execute(sa.insert(tables.changes).values(id=7, at=tx.now, revision=last, **stream))
        for damage in (
            "TABLE erpmirror_counter",
            "TABLE erpmirror_feed",
            *([] if empty.is_sqlite else ["SEQUENCE erpmirror_revisions"]),
        ):
            tx.execute(sa.text(f"DROP {damage}"))
    migration.migrate(empty)
    with empty.begin() as tx:
        assert last < empty.draw(tx)
        assert 7 == tx.execute(sa.select(tables.feed.c.last)).scalar_one()


def test_a_counter_that_a_restore_left_behind_is_noticed_and_goes_on_above_all_rows(empty: Database) -> None:
    """As where a replica that does not follow sequences takes over: no row would be written until it caught up."""
    migration.migrate(empty)
    with empty.begin() as tx:
        for _ in range(5):
            last = empty.draw(tx)
        entry = {"connection": "shop", "resource": "goods", "key": "1", "kind": "deleted", "cause": "poll"}
        tx.execute(sa.insert(tables.changes).values(id=7, at=tx.now, revision=last, **entry))
    migration.require(empty)
    set_back = "UPDATE erpmirror_counter SET last = 1"
    with empty.begin() as tx:
        tx.execute(sa.text(set_back if empty.is_sqlite else "ALTER SEQUENCE erpmirror_revisions RESTART"))
    with pytest.raises(migration.WrongTablesError, match="counter of revisions; run `erpmirror migrate`"):
        migration.require(empty)
    migration.migrate(empty)
    migration.require(empty)
    with empty.begin() as tx:
        assert last < empty.draw(tx)


@pytest.mark.parametrize(
    ("own", "remedied"),
    [
        ("CREATE TABLE erpmirror_inbox (mine text)", "DROP TABLE erpmirror_inbox"),
        ("CREATE VIEW erpmirror_inbox AS SELECT 1 AS mine", "DROP VIEW erpmirror_inbox"),
        ("CREATE TABLE mine (a text); CREATE INDEX ix_erpmirror_inbox_due ON mine (a)", "DROP TABLE mine"),
    ],
)
def test_a_persons_own_table_of_our_name_is_left_alone_and_named(empty: Database, own: str, remedied: str) -> None:
    with empty.begin() as tx:
        for statement in own.split("; "):
            tx.execute(sa.text(statement))
    remedy = "erpmirror_inbox.* already, which erpmirror did not make: rename or drop it"
    for attempt in (migration.require, migration.migrate):
        with pytest.raises(migration.WrongTablesError, match=remedy):
            attempt(empty)
    with empty.begin() as tx:
        tx.execute(sa.text(remedied))
    migration.migrate(empty)
    migration.require(empty)


@pytest.mark.parametrize(
    ("revision", "state", "remedy"),
    [
        ("9999", "newer", "newer than this erpmirror"),
        ("0001", "unsupported", "name a new database"),  # the first and the last revision before this one
        ("0005", "unsupported", "name a new database"),
    ],
)
def test_tables_that_cannot_be_migrated_are_left_alone(empty: Database, revision: str, state: str, remedy: str) -> None:
    migration.migrate(empty)
    with empty.begin() as tx:
        tx.execute(sa.text(f"UPDATE {migration.VERSION_TABLE} SET version_num = '{revision}'"))
    assert state == migration.state(empty)
    with pytest.raises(migration.WrongTablesError, match=remedy):
        migration.require(empty)
    with pytest.raises(migration.WrongTablesError, match=remedy):
        migration.migrate(empty)


def test_migrating_leaves_logging_as_it_is(tmp_path: Path) -> None:
    before = (logging.root.level, list(logging.root.handlers), logging.getLogger("models").disabled)
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    migration.migrate(database)
    database.close()
    assert before == (logging.root.level, list(logging.root.handlers), logging.getLogger("models").disabled)


_SEEN = {"goods": ["1", 'a "quote"'], "orders": ["1"]}


@pytest.mark.parametrize("revision", sorted(migration.MIGRATED))
def test_the_tables_of_an_earlier_version_are_brought_along_with_their_rows(empty: Database, revision: str) -> None:
    with empty.begin() as tx:
        command.upgrade(migration._config(tx), revision)
        moment = "2026-01-31 12:00:00.000000+00:00"
        tx.execute(
            sa.text(
                "INSERT INTO erpmirror_streams "
                "(connection, resource, system, state, polls, due_at, full_due_at, full_requested, bound, failures) "
                f"VALUES ('shop', 'goods', 'dilovod', 'open', false, '{moment}', '{moment}', false, 3600, 0)"
            )
        )
        seen_keys = [{"resource": resource, "key": key} for resource in ("goods", "orders") for key in _SEEN[resource]]
        if revision < "0009":  # since then a row has the keys of a chunk
            tx.execute(sa.text("INSERT INTO erpmirror_seen_keys VALUES ('shop', :resource, :key)"), seen_keys)
        else:
            rows = [{"connection": "shop", "resource": name, "keys": keys} for name, keys in _SEEN.items()]
            tx.execute(sa.insert(tables.seen_keys), rows)
    assert "old" == migration.state(empty)
    migration.migrate(empty)
    assert ("current", []) == (migration.state(empty), migration.missing(empty))
    with empty.read() as tx:
        found = streams.get(tx, "shop", "goods")
        listed = tx.execute(sa.select(tables.seen_keys.c.resource, tables.seen_keys.c["keys"])).all()
    assert {resource: sorted(keys) for resource, keys in listed} == _SEEN
    assert found is not None
    assert (0, None, None) == (found.batch_failures, found.batch_plan, found.unbatched)
