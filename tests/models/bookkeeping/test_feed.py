from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import journal
from models.bookkeeping.feed import Feed
from models.db import tables
from models.db.database import Database
from models.values import Cause, Change, ChangeKind
from tests import processes, services
from tests.conftest import fresh_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 2, 1, 12, 30, tzinfo=UTC)


def _journal(database: Database, count: int, *, at: datetime = NOW) -> int:
    """Write entries; returns the id of the last."""
    changes = [Change(str(number), ChangeKind.CREATED, None, {}) for number in range(count)]
    with database.begin() as tx:
        journal.append(tx, "shop", "catalogs.goods", changes, revision=1, cause=Cause.WEBHOOK, now=at)
        return int(tx.execute(sa.select(tables.feed.c.last)).scalar_one())


@pytest.fixture
def backup(sqlite: Database, tmp_path: Path) -> Callable[[], Callable[[], None]]:
    """`restore = backup()` copies the database away; `restore()` puts the copy back."""

    def copy() -> Callable[[], None]:
        sqlite.close()  # the last connection writes the log back into the file
        shutil.copy(str(sqlite.url.database), tmp_path / "backup.db")

        def restore() -> None:
            sqlite.close()
            shutil.copy(tmp_path / "backup.db", str(sqlite.url.database))

        return restore

    return copy


def test_the_name_stays_while_the_journal_grows(database: Database) -> None:
    feed = Feed(database)
    names = {feed.name(0), feed.name(_journal(database, 3)), feed.name(_journal(database, 2)), feed.name(1)}
    assert 1 == len(names)


def test_every_process_serves_the_same_name(database: Database) -> None:
    last = _journal(database, 3)
    other = Database(database.url)
    assert Feed(database).name(last) == Feed(other).name(last) == Feed(other).name(1)
    other.close()


def test_the_name_stays_when_the_oldest_entries_are_trimmed(database: Database) -> None:
    feed = Feed(database)
    before = feed.name(_journal(database, 3))
    with database.begin() as tx:
        journal.trim(tx, NOW + timedelta(days=1))
    assert before == feed.name(3)
    assert before == feed.name(_journal(database, 1))


def test_a_restored_backup_has_another_name(sqlite: Database, backup: Callable[[], Callable[[], None]]) -> None:
    last = _journal(sqlite, 3)
    before = Feed(sqlite).name(last)
    restore = backup()
    Feed(sqlite).name(_journal(sqlite, 2))
    restore()
    after = Feed(sqlite).name(3)
    assert before != after
    assert after == Feed(sqlite).name(_journal(sqlite, 1))


def test_a_restored_backup_is_noticed_after_it_has_grown_past_what_was_served(
    sqlite: Database, backup: Callable[[], Callable[[], None]]
) -> None:
    before = Feed(sqlite).name(_journal(sqlite, 3))
    restore = backup()
    Feed(sqlite).name(_journal(sqlite, 2))
    restore()
    last = _journal(sqlite, 10, at=NOW + timedelta(hours=1))
    assert before != Feed(sqlite).name(last)


def test_a_backup_restored_twice_has_a_third_name(sqlite: Database, backup: Callable[[], Callable[[], None]]) -> None:
    names = [Feed(sqlite).name(_journal(sqlite, 3))]
    restore = backup()
    for _ in range(2):
        Feed(sqlite).name(_journal(sqlite, 2))
        restore()
        names.append(Feed(sqlite).name(3))
    assert 3 == len(set(names))


def test_a_backup_of_which_nothing_newer_was_served_keeps_its_name(
    sqlite: Database, backup: Callable[[], Callable[[], None]]
) -> None:
    before = Feed(sqlite).name(_journal(sqlite, 3))
    restore = backup()
    _journal(sqlite, 2)
    restore()
    assert before == Feed(sqlite).name(3)


@pytest.mark.parametrize("content", ["", "nonsense", "[]", "{}", '{"name": "a"}'])
def test_a_damaged_file_beside_the_database_is_written_anew(sqlite: Database, content: str) -> None:
    before = Feed(sqlite).name(_journal(sqlite, 3))
    Path(f"{sqlite.url.database}.feed").write_text(content)
    assert before == Feed(sqlite).name(3) == Feed(sqlite).name(3)


@pytest.mark.postgresql
def test_a_restored_dump_has_another_name() -> None:
    """Restoring a dump brings the same rows into new tables."""
    names = []
    for _ in range(2):
        url, engine, schema = fresh_schema(sa.make_url(services.need(services.POSTGRESQL)))
        database = Database(url)
        tables.metadata.create_all(database.engine)
        with database.begin() as tx:
            tx.execute(sa.insert(tables.feed).values(one=1, last=0, name="same"))
        names.append(Feed(database).name(0))
        database.close()
        with engine.connect() as tx:
            tx.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
    assert 2 == len(set(names))


@pytest.fixture
def on_postgresql() -> Iterator[Database]:
    with processes.own_postgresql() as database:
        tables.metadata.create_all(database.engine)
        with database.begin() as tx:
            tx.execute(sa.insert(tables.feed).values(one=1, last=0, name="same"))
        yield database


def _set_back(database: Database, last: int, name: str) -> None:
    """As after the data folder was copied back: rows of then, in the same tables of the same cluster."""
    with database.begin() as tx:
        tx.execute(sa.delete(tables.changes).where(tables.changes.c.id > last))
        tx.execute(sa.update(tables.feed).values(last=last, name=name))


@pytest.mark.postgresql
def test_a_receiver_that_was_started_again_notices_a_restored_server(on_postgresql: Database, tmp_path: Path) -> None:
    witness = tmp_path / "spool" / "journal.feed"
    names = [Feed(on_postgresql, witness=witness).name(_journal(on_postgresql, 5))]
    for _ in range(2):  # the second time the old name comes back, too
        _set_back(on_postgresql, 3, "same")
        names.append(Feed(on_postgresql, witness=witness).name(3))
        assert names[-1] == Feed(on_postgresql, witness=witness).name(_journal(on_postgresql, 2))
    assert 3 == len(set(names))
    assert 0o600 == witness.stat().st_mode & 0o777


@pytest.mark.postgresql
def test_a_restored_server_is_noticed_after_it_has_grown_past_what_was_served(
    on_postgresql: Database, tmp_path: Path
) -> None:
    witness = tmp_path / "journal.feed"
    before = Feed(on_postgresql, witness=witness).name(_journal(on_postgresql, 5))
    _set_back(on_postgresql, 3, "same")
    last = _journal(on_postgresql, 10, at=NOW + timedelta(hours=1))
    assert before != Feed(on_postgresql, witness=witness).name(last)


@pytest.mark.postgresql
def test_receivers_with_witnesses_of_their_own_serve_one_name(on_postgresql: Database, tmp_path: Path) -> None:
    first, second = (Feed(on_postgresql, witness=tmp_path / name) for name in ("first", "second"))
    last = _journal(on_postgresql, 5)
    assert first.name(last) == second.name(last)
    _set_back(on_postgresql, 3, "same")
    assert first.name(3) == second.name(3) == first.name(3)


@pytest.mark.postgresql
def test_a_witness_that_cannot_be_written_fails_no_reader(on_postgresql: Database, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    feed = Feed(on_postgresql, witness=tmp_path / "file" / "journal.feed")
    assert feed.name(_journal(on_postgresql, 1)) == feed.name(_journal(on_postgresql, 1))


@pytest.mark.postgresql
def test_a_journal_that_ends_before_what_this_process_served_has_another_name() -> None:
    url, engine, schema = fresh_schema(sa.make_url(services.need(services.POSTGRESQL)))
    database, other = Database(url), Database(url)
    tables.metadata.create_all(database.engine)
    with database.begin() as tx:
        tx.execute(sa.insert(tables.feed).values(one=1, last=0, name="same"))
    first, second = Feed(database), Feed(other)
    before = {first.name(_journal(database, 5)), second.name(5)}
    with database.begin() as tx:
        tx.execute(sa.delete(tables.changes).where(tables.changes.c.id > 3))
        tx.execute(sa.update(tables.feed).values(last=3))
    after = {first.name(3), second.name(3), first.name(3)}
    assert (1, 1) == (len(before), len(after))
    assert before != after
    database.close()
    other.close()
    with engine.connect() as tx:
        tx.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
