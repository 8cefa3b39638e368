from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from models import notices, tables
from models.exact import storable_text
from models.notices import Letter
from receiver import patience, spool_file
from receiver.draining import Drainer
from receiver.spool import Spool
from receiver.storing import Away
from tests import services
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from models.database import Database
    from receiver.spool_file import Contents


def _webhook(key: str, *, connection: str = "shop", packet: str = "{}", reason: str | None = None) -> Letter:
    return Letter(connection, packet, resource="catalogs.goods", key=key, reason=reason)


def _webhooks(*keys: str) -> list[Letter]:
    return [_webhook(key) for key in keys]


def _keys(database: Database) -> list[str]:
    with database.read() as tx:
        return list(tx.execute(sa.select(tables.notices.c.key).order_by(tables.notices.c.id)).scalars())


def _drainer(database: Database, spool: Spool, calls: list[str] | None = None) -> Drainer:
    heard: list[str] = [] if calls is None else calls
    return Drainer(database, spool, returned=lambda: heard.append("returned"), drained=heard.append)


def _contents(spool: Spool) -> Iterator[Contents]:
    """What another process would find to drain, file by file, each claimed meanwhile."""
    for path in spool.files():
        with spool_file.claimed(path) as file:
            if file is not None:
                yield file.read()


def _left(spool: Spool) -> list[Letter]:
    return [webhook for contents in _contents(spool) for webhook in contents.letters]


def _files(spool: Spool) -> list[Path]:
    return sorted(spool.folder.iterdir())


def _database_of(file: Path) -> Path:
    return file / "webhooks.db"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "var" / "spool")


# Files


@settings(max_examples=50, deadline=None)
@given(packets=st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=5))
def test_whatever_a_packet_holds_is_read_as_the_database_would_store_it(
    tmp_path_factory: pytest.TempPathFactory, packets: list[str]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    webhooks = [_webhook("1", packet=packet, reason="ignored") for packet in packets]
    spool.append(webhooks)
    spool.release()
    found = _left(spool)
    assert [storable_text(packet) for packet in packets] == [webhook.packet for webhook in found]
    assert [webhook.id for webhook in webhooks] == [webhook.id for webhook in found]


def test_only_its_owner_may_read_what_waits(spool: Spool) -> None:
    spool.append(_webhooks("1"))
    (file,) = _files(spool)
    assert [0o700, 0o700] == [folder.stat().st_mode & 0o777 for folder in (spool.folder, file)]


def test_a_commit_is_durable_before_append_returns(spool: Spool) -> None:
    spool.append(_webhooks("1"))
    (file,) = _files(spool)
    with closing(sqlite3.connect(_database_of(file))) as reader:
        assert ("wal",) == reader.execute("PRAGMA journal_mode").fetchone()
    assert spool._file is not None
    assert (2,) == spool._file._connection.execute("PRAGMA synchronous").fetchone()  # FULL


def test_a_file_grows_until_it_is_large_and_then_there_is_another(spool: Spool) -> None:
    large = [_webhook(str(number), packet="x" * 60_000) for number in range(280)]
    spool.append(_webhooks("first"))
    spool.append(large)
    spool.append(_webhooks("next"))
    assert [281, 1] == [spool_file.count(file) for file in _files(spool)]
    assert 282 == spool.waiting()


def test_what_power_cuts_off_was_never_answered_and_is_left_out_wherever_it_was_torn(spool: Spool) -> None:
    spool.append(_webhooks("1"))
    (file,) = _files(spool)
    wal = file / "webhooks.db-wal"
    first = wal.stat().st_size
    spool.append(_webhooks("2"))
    whole = wal.read_bytes()
    assert len(whole) > first
    for size in [*range(first, len(whole), 89), len(whole) - 1]:
        after = Spool(spool.folder.parent / f"cut-at-{size}")
        shutil.copytree(file, after.folder / file.name)  # as a disk holds it: nothing was closed
        (after.folder / file.name / wal.name).write_bytes(whole[:size])
        (contents,) = _contents(after)
        assert (["1"], [], True) == ([each.key for each in contents.letters], contents.damaged, contents.whole)


@contextmanager
def _no_file_grows_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_write_that_fails_half_way_leaves_nothing_and_spoils_nothing(spool: Spool) -> None:
    spool.append(_webhooks("1"))
    (file,) = _files(spool)
    with _no_file_grows_beyond((file / "webhooks.db-wal").stat().st_size + 10):
        for _ in range(3):
            with pytest.raises(OSError, match="disk I/O error"):
                spool.append([_webhook("lost", packet="x" * 50_000)])
        assert [file] == _files(spool)
    spool.append(_webhooks("2"))
    spool.release()
    assert ["1", "2"] == [webhook.key for webhook in _left(spool)]
    assert all(contents.whole and not contents.damaged for contents in _contents(spool))


def test_a_spool_that_is_full_takes_no_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most=100_000)
    spool.append(_webhooks("1"))
    with pytest.raises(OSError, match="the spool is full"):
        spool.append([_webhook("2", packet="x" * 100_000)])
    spool.append(_webhooks("3"))
    spool.release()
    assert ["1", "3"] == [webhook.key for webhook in _left(spool)]


def test_a_file_that_somebody_removed_takes_no_more(spool: Spool) -> None:
    spool.append(_webhooks("1"))
    shutil.rmtree(_files(spool)[0])
    spool.append(_webhooks("2"))
    spool.release()
    assert ["2"] == [webhook.key for webhook in _left(spool)]


_WRITE_AND_WAIT = """
import sys
from pathlib import Path
from models.notices import Letter
from receiver.spool import Spool
spool = Spool(Path(sys.argv[1]))
for key in ("first", "second"):
    spool.append([Letter("shop", "{}", key=key)])
    print("written", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def _another_process(spool: Spool) -> Iterator[subprocess.Popen[bytes]]:
    """One that has written its first webhook, and writes its second when it is sent a line."""
    command = [sys.executable, "-c", _WRITE_AND_WAIT, str(spool.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        _has_written(writer)
        yield writer
        writer.kill()


def _has_written(writer: subprocess.Popen[bytes]) -> None:
    assert writer.stdout is not None
    assert b"written\n" == writer.stdout.readline()


def _write_on(writer: subprocess.Popen[bytes]) -> None:
    assert writer.stdin is not None
    writer.stdin.write(b"\n")
    writer.stdin.flush()
    _has_written(writer)


def test_what_a_process_wrote_is_counted_while_it_lives_and_left_when_it_is_killed(spool: Spool) -> None:
    with _another_process(spool) as writer:
        assert 1 == spool.waiting()
        writer.kill()
        writer.wait()
        assert (1, ["first"]) == (spool.waiting(), [webhook.key for webhook in _left(spool)])


def test_a_process_whose_file_is_being_drained_writes_to_another(spool: Spool) -> None:
    with _another_process(spool) as writer:
        (file,) = spool.files()
        with spool_file.claimed(file) as claimed:
            assert claimed is not None
            _write_on(writer)
            assert 2 == len(spool.files())
            claimed.remove()
        assert ["second"] == [webhook.key for webhook in _left(spool)]


def test_a_process_whose_file_was_drained_writes_to_another(database: Database, spool: Spool) -> None:
    with _another_process(spool) as writer:
        _drainer(database, spool).drain()
        _write_on(writer)
        _drainer(database, spool).drain()
    assert ["first", "second"] == _keys(database)


def test_a_file_that_is_being_drained_is_claimed_by_no_other(spool: Spool) -> None:
    spool.append(_webhooks("1"))
    spool.release()
    for _ in _contents(spool):
        assert [] == _left(Spool(spool.folder))
    assert 1 == len(_left(Spool(spool.folder)))


def test_the_state_names_how_many_wait(spool: Spool) -> None:
    assert "ok" == spool.told()
    spool.append(_webhooks("1", "2"))
    assert "2 webhooks wait" == spool.told()
    spool.append(_webhooks("3"))
    spool.release()
    assert "3 webhooks wait" == spool.told()
    with spool_file.claimed(spool.files()[0]) as file:
        assert file is not None
        file.remove()
    assert "ok" == spool.told()


def test_a_folder_that_cannot_be_written_is_told_before_it_is_needed(tmp_path: Path) -> None:
    tmp_path.joinpath("var").write_text("a file stands where a folder belongs")
    assert "cannot be written" in Spool(tmp_path / "var" / "spool").told()


# Draining


def test_what_waits_is_drained_and_workers_are_woken_for_its_connections(database: Database, spool: Spool) -> None:
    spool.append([*_webhooks("1", "2"), _webhook("3", connection="other"), _webhook("4", connection="x", reason="no")])
    calls: list[str] = []
    drainer = _drainer(database, spool, calls)
    drainer.drain()
    assert ["1", "2", "3", "4"] == _keys(database)
    assert (0, True) == (spool.waiting(), spool.is_empty())
    assert {"returned", "shop", "other"} == set(calls)
    drainer.drain()
    assert [] == _files(spool)


def test_what_is_drained_again_is_stored_once(database: Database, spool: Spool) -> None:
    webhooks = [*_webhooks("1", "2"), _webhook("3", packet="a\x00b\ud800c")]
    with database.begin() as tx:
        notices.append(tx, webhooks)
    spool.append(webhooks)
    _drainer(database, spool).drain()
    assert ["1", "2", "3"] == _keys(database)


def test_nothing_is_drained_and_no_callback_called_while_the_database_is_down(empty_url: sa.URL, spool: Spool) -> None:
    spool.append(_webhooks("1"))
    calls: list[str] = []
    down = patience.database(empty_url)  # it has no tables
    for _ in range(2):
        with pytest.raises(Away):
            _drainer(down, spool, calls).drain()
    down.close()
    assert [] == calls
    spool.append(_webhooks("2"))
    assert [2] == [spool_file.count(file) for file in _files(spool)]  # no file is begun for each attempt


def _refuse(database: Database, keys: Iterable[str]) -> None:
    listed = ", ".join(f"'{key}'" for key in keys)
    with database.begin() as tx:
        if database.is_sqlite:
            body = f"BEGIN SELECT RAISE(ABORT, 'refused') WHERE NEW.key IN ({listed}); END"
            tx.execute(sa.text(f"CREATE TRIGGER refuse BEFORE INSERT ON notices {body}"))
        else:
            tx.execute(sa.text(f"ALTER TABLE notices ADD CONSTRAINT refuse CHECK (key NOT IN ({listed}))"))


def _forgive(database: Database) -> None:
    undo = "DROP TRIGGER refuse" if database.is_sqlite else "ALTER TABLE notices DROP CONSTRAINT refuse"
    with database.begin() as tx:
        tx.execute(sa.text(undo))


def test_webhooks_that_the_database_refuses_are_set_aside_for_a_person(
    database: Database, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    _refuse(database, ["poison", "venom"])
    spool.append(_webhooks("1", "poison", "2", "venom", "3"))
    for _ in range(2):
        _drainer(database, spool).drain()
    assert ["1", "2", "3"] == _keys(database)
    assert (0, 2) == (spool.waiting(), spool.refused())
    (aside,) = _files(spool)
    assert (".refused", 0o700) == (aside.suffix, aside.stat().st_mode & 0o777)
    assert spool.told().startswith("2 webhooks were set aside")
    assert 1 == capsys.readouterr().out.count("webhooks set aside")
    # The person has mended the database, and hands them in again.
    _forgive(database)
    aside.rename(aside.with_suffix(".spool"))
    _drainer(database, spool).drain()
    assert ["1", "2", "3", "poison", "venom"] == _keys(database)
    assert 0 == spool.refused()


def _released(spool: Spool, *keys: str) -> Path:
    """The database of a file that no process writes to any more."""
    spool.append(_webhooks(*keys))
    spool.release()
    return _database_of(_files(spool)[-1])


def test_damaged_rows_are_set_aside_as_they_are(database: Database, spool: Spool) -> None:
    damaged = _released(spool, "1", "2", "3")
    damaged.write_bytes(damaged.read_bytes().replace(b'"key": "2"', b'"key": "\xff"'))
    _drainer(database, spool).drain()
    assert ["1", "3"] == _keys(database)
    (aside,) = _files(spool)
    with closing(sqlite3.connect(_database_of(aside))) as kept:
        kept.text_factory = bytes
        ((text,),) = kept.execute("SELECT webhook FROM webhooks")
    assert b'"key": "\xff"' in text
    assert (0, 1) == (spool.waiting(), spool.refused())


def test_what_can_be_read_of_a_damaged_file_is_drained_and_the_file_set_aside(
    database: Database, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _released(spool, *(str(number) for number in range(500)))
    spool.append(_webhooks("next"))
    content = bytearray(file.read_bytes())
    content[-4096:] = b"\xff" * 4096  # the last page of the table
    file.write_bytes(content)
    _drainer(database, spool).drain()
    keys = _keys(database)
    assert [*map(str, range(len(keys) - 1)), "next"] == keys
    assert 1 < len(keys) < 501
    aside = file.parent.with_suffix(".refused")
    assert bytes(content) == _database_of(aside).read_bytes()
    assert (0, True) == (spool.waiting(), spool.refused() >= 1)
    assert "damaged spool file set aside" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["text", "empty", "other-table"])
def test_a_file_that_is_not_ours_is_set_aside_and_holds_up_no_other(
    database: Database, spool: Spool, what: str
) -> None:
    _released(spool, "1")
    foreign = spool.folder / "00-foreign.spool"
    foreign.mkdir()
    if what == "text":
        _database_of(foreign).write_text("no database\n" * 1000)
    else:
        with closing(sqlite3.connect(_database_of(foreign))) as other:
            other.execute(f"CREATE TABLE {'others' if what == 'other-table' else 'webhooks'} (a)")
    _drainer(database, spool).drain()
    assert ["1"] == _keys(database)
    assert 1 == spool.refused()
    assert "1 webhooks were set aside" in spool.told()
    assert foreign.with_suffix(".refused").joinpath("webhooks.db").exists()


def test_a_plain_file_among_the_spool_files_is_shown_and_not_touched(database: Database, spool: Spool) -> None:
    _released(spool, "1")
    plain = spool.folder / "00.spool"
    plain.write_text("of a former version")
    _drainer(database, spool).drain()
    assert ["1"] == _keys(database)
    assert (1, True) == (spool.refused(), plain.exists())


def test_a_file_that_cannot_be_opened_is_logged_once_and_holds_up_no_other(
    database: Database, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    _released(spool, "1")
    spool.folder.joinpath("00.spool").mkdir()  # its database is missing
    drainer = _drainer(database, spool)
    for _ in range(2):
        drainer.drain()
    assert ["1"] == _keys(database)
    assert 1 == capsys.readouterr().out.count("spool not drained")
    assert (1, ["00.spool"]) == (spool.waiting(), [file.name for file in spool.files()])


@services.ON_POSTGRESQL
def test_a_read_only_database_refuses_no_webhook(database: Database, spool: Spool) -> None:
    spool.append(_webhooks("1"))
    reader = patience.database(database.url)

    def forbid(raw: Any, _: object) -> None:
        raw.execute("SET default_transaction_read_only = on")
        raw.commit()

    sa.event.listen(reader.engine, "connect", forbid)
    with pytest.raises(Away, match="InternalError"):
        _drainer(reader, spool).drain()
    reader.close()
    assert (1, 0) == (spool.waiting(), spool.refused())
    _drainer(database, spool).drain()
    assert ["1"] == _keys(database)


def test_the_drainer_finds_what_another_process_left(database: Database, spool: Spool) -> None:
    other = Spool(spool.folder)
    other.append(_webhooks("theirs"))
    drainer = _drainer(patience.database(database.url), spool)
    drainer.start()
    try:
        other.release()
        until(spool.is_empty, seconds=60, what=spool.told)
    finally:
        drainer.close()
    assert ["theirs"] == _keys(database)
