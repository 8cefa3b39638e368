from __future__ import annotations

import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bookkeeping import webhooks
from models.bookkeeping.webhooks import AcceptedWebhook
from models.db import tables
from models.exact import storable_text
from receiver import db_timeouts
from receiver.webhooks.drainer import Drainer
from receiver.webhooks.spool import Spool
from receiver.webhooks.store import DatabaseDownError
from tests import services
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from models.db.database import Database


def _webhook(key: str, *, connection: str = "shop", packet: str = "{}", reason: str | None = None) -> AcceptedWebhook:
    return AcceptedWebhook(connection, packet, resource="catalogs.goods", key=key, reason=reason)


def _accepted(*keys: str) -> list[AcceptedWebhook]:
    return [_webhook(key) for key in keys]


def _keys(database: Database) -> list[str]:
    with database.read() as tx:
        return list(tx.execute(sa.select(tables.webhooks.c.key).order_by(tables.webhooks.c.id)).scalars())


def _drainer(database: Database, spool: Spool, drained: list[str] | None = None) -> Drainer:
    calls: list[str] = [] if drained is None else drained
    return Drainer(database, spool, on_database_up=lambda: calls.append("database up"), on_drained=calls.append)


def _left(spool: Spool) -> list[AcceptedWebhook]:
    """The webhooks that another process would find to drain."""
    return [webhook for file in spool.claim_files() for webhook in file.read().accepted]


def _files(spool: Spool) -> list[Path]:
    return sorted(spool.folder.iterdir())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "var" / "spool")


# Files


@settings(max_examples=50, deadline=None)
@given(packets=st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=5))
def test_any_packet_is_read_back_as_the_database_would_store_it(
    tmp_path_factory: pytest.TempPathFactory, packets: list[str]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    accepted = [_webhook("1", packet=packet, reason="ignored") for packet in packets]
    spool.append(accepted)
    spool.release()
    found = _left(spool)
    assert [storable_text(packet) for packet in packets] == [webhook.packet for webhook in found]
    assert [webhook.id for webhook in accepted] == [webhook.id for webhook in found]


def test_only_their_owner_may_read_the_folder_and_its_files(spool: Spool) -> None:
    spool.append(_accepted("1"))
    (file,) = _files(spool)
    assert (0o700, 0o600) == (spool.folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777)


def test_a_large_file_is_released_and_another_begun(spool: Spool) -> None:
    large = [_webhook(str(number), packet="x" * 60_000) for number in range(280)]
    spool.append(_accepted("first"))
    spool.append(large)
    spool.append(_accepted("next"))
    assert 2 == len(_files(spool))
    assert 281 == len(_left(spool))  # the first file is released, the second is still being written
    assert 282 == spool.waiting()


def test_an_incomplete_last_line_is_left_out_wherever_it_ends(spool: Spool) -> None:
    spool.append(_accepted("1", "2"))
    spool.release()
    (file,) = _files(spool)
    whole = file.read_bytes()
    second = whole.index(b"\n") + 1
    for size in range(second, len(whole)):
        file.write_bytes(whole[:size])
        (claimed,) = spool.claim_files()
        contents = claimed.read()
        assert (["1"], []) == ([webhook.key for webhook in contents.accepted], contents.damaged)


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


def test_a_failed_write_is_truncated_and_damages_no_other_line(spool: Spool) -> None:
    spool.append(_accepted("1"))
    (file,) = _files(spool)
    with _no_file_grows_beyond(file.stat().st_size + 10):
        for _ in range(3):
            with pytest.raises(OSError, match="too large"):
                spool.append([_webhook("lost", packet="x" * 500)])
        assert [file] == _files(spool)
    spool.append(_accepted("2"))
    spool.release()
    assert ["1", "2"] == [webhook.key for webhook in _left(spool)]
    assert all(not file.read().damaged for file in spool.claim_files())


def test_a_full_spool_refuses_webhooks_and_keeps_the_others(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1000)
    spool.append(_accepted("1"))
    with pytest.raises(OSError, match="the spool is full"):
        spool.append([_webhook("2", packet="x" * 1000)])
    spool.append(_accepted("3"))
    spool.release()
    assert ["1", "3"] == [webhook.key for webhook in _left(spool)]


def test_a_file_removed_from_outside_is_not_written_again(spool: Spool) -> None:
    spool.append(_accepted("1"))
    _files(spool)[0].unlink()
    spool.append(_accepted("2"))
    spool.release()
    assert ["2"] == [webhook.key for webhook in _left(spool)]


_WRITE_AND_WAIT = """
import sys
from pathlib import Path
from models.bookkeeping.webhooks import AcceptedWebhook
from receiver.webhooks.spool import Spool
spool = Spool(Path(sys.argv[1]))
spool.append([AcceptedWebhook("shop", "{}", key="theirs")])
print("written", flush=True)
sys.stdin.read()
"""


def test_a_file_cannot_be_claimed_while_its_writer_lives(spool: Spool) -> None:
    command = [sys.executable, "-c", _WRITE_AND_WAIT, str(spool.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert b"written\n" == writer.stdout.readline()
        assert (1, []) == (spool.waiting(), _left(spool))
        writer.kill()
        writer.wait()
        assert ["theirs"] == [webhook.key for webhook in _left(spool)]


def test_a_file_that_is_being_drained_cannot_be_claimed_again(spool: Spool) -> None:
    spool.append(_accepted("1"))
    spool.release()
    for _ in spool.claim_files():
        assert [] == _left(Spool(spool.folder))
    assert 1 == len(_left(Spool(spool.folder)))


def test_the_status_line_counts_the_waiting_webhooks(spool: Spool) -> None:
    assert "ok" == spool.status_line()
    spool.append(_accepted("1", "2"))
    assert "2 webhooks wait" == spool.status_line()
    spool.append(_accepted("3"))
    spool.release()
    assert "3 webhooks wait" == spool.status_line()
    for file in spool.claim_files():
        file.remove()
    assert "ok" == spool.status_line()


def test_the_status_line_names_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.joinpath("var").write_text("a file in the place of the folder")
    assert "cannot be written" in Spool(tmp_path / "var" / "spool").status_line()


# Draining


def test_waiting_webhooks_are_drained_and_their_connections_woken(database: Database, spool: Spool) -> None:
    spool.append([*_accepted("1", "2"), _webhook("3", connection="other"), _webhook("4", connection="x", reason="no")])
    calls: list[str] = []
    _drainer(database, spool, calls).drain()
    assert ["1", "2", "3", "4"] == _keys(database)
    assert [] == _files(spool)
    assert {"database up", "shop", "other"} == set(calls)


def test_webhooks_that_are_drained_again_are_stored_once(database: Database, spool: Spool) -> None:
    accepted = [*_accepted("1", "2"), _webhook("3", packet="a\x00b\ud800c")]
    with database.begin() as tx:
        webhooks.append(tx, accepted)
    spool.append(accepted)
    _drainer(database, spool).drain()
    assert ["1", "2", "3"] == _keys(database)


def test_nothing_is_drained_and_no_connection_woken_while_the_database_is_down(empty_url: sa.URL, spool: Spool) -> None:
    spool.append(_accepted("1"))
    calls: list[str] = []
    down = db_timeouts.database(empty_url)  # it has no tables
    for _ in range(2):
        with pytest.raises(DatabaseDownError):
            _drainer(down, spool, calls).drain()
    down.close()
    assert [] == calls
    assert 1 == len(_files(spool))
    assert [] == _left(spool)  # the file is still being written: an attempt does not begin a new one


def _refuse(database: Database, keys: Iterable[str]) -> None:
    listed = ", ".join(f"'{key}'" for key in keys)
    with database.begin() as tx:
        if database.is_sqlite:
            body = f"BEGIN SELECT RAISE(ABORT, 'refused') WHERE NEW.key IN ({listed}); END"
            tx.execute(sa.text(f"CREATE TRIGGER refuse BEFORE INSERT ON erpmirror_webhooks {body}"))
        else:
            tx.execute(sa.text(f"ALTER TABLE erpmirror_webhooks ADD CONSTRAINT refuse CHECK (key NOT IN ({listed}))"))


def _accept_again(database: Database) -> None:
    undo = "DROP TRIGGER refuse" if database.is_sqlite else "ALTER TABLE erpmirror_webhooks DROP CONSTRAINT refuse"
    with database.begin() as tx:
        tx.execute(sa.text(undo))


def test_webhooks_that_the_database_refuses_are_kept_for_a_person(
    database: Database, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    _refuse(database, ["poison", "venom"])
    spool.append(_accepted("1", "poison", "2", "venom", "3"))
    _drainer(database, spool).drain()
    _drainer(database, spool).drain()
    assert ["1", "2", "3"] == _keys(database)
    assert (0, 2) == (spool.waiting(), spool.refused())
    (refused_file,) = _files(spool)
    assert (".refused", 0o600) == (refused_file.suffix, refused_file.stat().st_mode & 0o777)
    assert spool.status_line().startswith("2 webhooks were refused")
    assert 1 == capsys.readouterr().out.count("webhooks refused")
    # The person repairs the database and renames the file, so that it is drained again.
    _accept_again(database)
    refused_file.rename(refused_file.with_suffix(".spool"))
    _drainer(database, spool).drain()
    assert ["1", "2", "3", "poison", "venom"] == _keys(database)


def test_damaged_lines_are_kept_unchanged_for_a_person(database: Database, spool: Spool) -> None:
    spool.append(_accepted("1", "2", "3"))
    spool.release()
    (file,) = _files(spool)
    first, second, third, _ = file.read_bytes().split(b"\n")
    damaged = second.replace(b'"2"', b'"7"')
    file.write_bytes(b"\n".join([first, damaged, third, b""]))
    _drainer(database, spool).drain()
    assert ["1", "3"] == _keys(database)
    assert damaged + b"\n" == file.with_suffix(".refused").read_bytes()


@services.ON_POSTGRESQL
def test_a_read_only_database_counts_as_down(database: Database, spool: Spool) -> None:
    spool.append(_accepted("1"))
    reader = db_timeouts.database(database.url)

    def forbid(raw: Any, _: object) -> None:
        raw.execute("SET default_transaction_read_only = on")
        raw.commit()

    sa.event.listen(reader.engine, "connect", forbid)
    with pytest.raises(DatabaseDownError, match="InternalError"):
        _drainer(reader, spool).drain()
    reader.close()
    assert (1, 0) == (spool.waiting(), spool.refused())
    _drainer(database, spool).drain()
    assert ["1"] == _keys(database)


def test_the_drainer_finds_the_files_of_another_process(database: Database, spool: Spool) -> None:
    other = Spool(spool.folder)
    other.append(_accepted("theirs"))
    drainer = _drainer(db_timeouts.database(database.url), spool)
    drainer.start()
    try:
        other.release()
        until(spool.is_empty, seconds=60, what=spool.status_line)
    finally:
        drainer.close()
    assert ["theirs"] == _keys(database)
