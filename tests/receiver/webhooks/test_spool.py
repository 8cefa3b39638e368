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
from receiver.webhooks.store import DatabaseDown
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
    told: list[str] = [] if drained is None else drained
    return Drainer(database, spool, returned=lambda: told.append("returned"), drained=told.append)


def _left(spool: Spool) -> list[AcceptedWebhook]:
    """What another process would find to drain."""
    return [webhook for orphan in spool.orphans() for webhook in orphan.read().accepted]


def _files(spool: Spool) -> list[Path]:
    return sorted(spool.folder.iterdir())


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
    accepted = [_webhook("1", packet=packet, reason="ignored") for packet in packets]
    spool.append(accepted)
    spool.release()
    found = _left(spool)
    assert [storable_text(packet) for packet in packets] == [webhook.packet for webhook in found]
    assert [webhook.id for webhook in accepted] == [webhook.id for webhook in found]


def test_only_its_owner_may_read_what_waits(spool: Spool) -> None:
    spool.append(_accepted("1"))
    (file,) = _files(spool)
    assert (0o700, 0o600) == (spool.folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777)


def test_a_file_grows_until_it_is_large_and_then_there_is_another(spool: Spool) -> None:
    large = [_webhook(str(number), packet="x" * 60_000) for number in range(280)]
    spool.append(_accepted("first"))
    spool.append(large)
    spool.append(_accepted("next"))
    assert 2 == len(_files(spool))
    assert 281 == len(_left(spool))  # the first file is given up, the second is still written to
    assert 282 == spool.waiting()


def test_a_last_line_that_is_not_whole_is_left_out_wherever_it_was_torn(spool: Spool) -> None:
    spool.append(_accepted("1", "2"))
    spool.release()
    (file,) = _files(spool)
    whole = file.read_bytes()
    second = whole.index(b"\n") + 1
    for size in range(second, len(whole)):
        file.write_bytes(whole[:size])
        (orphan,) = spool.orphans()
        contents = orphan.read()
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


def test_a_write_that_fails_half_way_leaves_nothing_and_spoils_nothing(spool: Spool) -> None:
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
    assert all(not orphan.read().damaged for orphan in spool.orphans())


def test_a_spool_that_is_full_takes_no_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most=1000)
    spool.append(_accepted("1"))
    with pytest.raises(OSError, match="the spool is full"):
        spool.append([_webhook("2", packet="x" * 1000)])
    spool.append(_accepted("3"))
    spool.release()
    assert ["1", "3"] == [webhook.key for webhook in _left(spool)]


def test_a_file_that_somebody_removed_takes_no_more(spool: Spool) -> None:
    spool.append(_accepted("1"))
    _files(spool)[0].unlink()
    spool.append(_accepted("2"))
    spool.release()
    assert ["2"] == [webhook.key for webhook in _left(spool)]


_WRITE_AND_WAIT = """
import sys
from pathlib import Path
from models.bookkeeping.webhooks import Letter
from receiver.webhooks.spool import Spool
spool = Spool(Path(sys.argv[1]))
spool.append([Letter("shop", "{}", key="theirs")])
print("written", flush=True)
sys.stdin.read()
"""


def test_a_file_belongs_to_its_process_until_that_is_dead(spool: Spool) -> None:
    command = [sys.executable, "-c", _WRITE_AND_WAIT, str(spool.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert b"written\n" == writer.stdout.readline()
        assert (1, []) == (spool.waiting(), _left(spool))
        writer.kill()
        writer.wait()
        assert ["theirs"] == [webhook.key for webhook in _left(spool)]


def test_a_file_that_is_being_drained_is_nobody_elses(spool: Spool) -> None:
    spool.append(_accepted("1"))
    spool.release()
    for _ in spool.orphans():
        assert [] == _left(Spool(spool.folder))
    assert 1 == len(_left(Spool(spool.folder)))


def test_what_waits_is_told(spool: Spool) -> None:
    assert "ok" == spool.refusal_notes()
    spool.append(_accepted("1", "2"))
    assert "2 notices wait" == spool.refusal_notes()
    spool.append(_accepted("3"))
    spool.release()
    assert "3 notices wait" == spool.refusal_notes()
    for orphan in spool.orphans():
        orphan.remove()
    assert "ok" == spool.refusal_notes()


def test_a_folder_that_cannot_be_written_is_told_before_it_is_needed(tmp_path: Path) -> None:
    tmp_path.joinpath("var").write_text("a file stands where a folder belongs")
    assert "cannot be written" in Spool(tmp_path / "var" / "spool").refusal_notes()


# Draining


def test_what_waits_is_drained_and_its_connections_are_rung_for(database: Database, spool: Spool) -> None:
    spool.append([*_accepted("1", "2"), _webhook("3", connection="other"), _webhook("4", connection="x", reason="no")])
    told: list[str] = []
    _drainer(database, spool, told).look()
    assert ["1", "2", "3", "4"] == _keys(database)
    assert [] == _files(spool)
    assert {"returned", "shop", "other"} == set(told)


def test_what_is_drained_again_is_kept_once(database: Database, spool: Spool) -> None:
    accepted = [*_accepted("1", "2"), _webhook("3", packet="a\x00b\ud800c")]
    with database.begin() as tx:
        webhooks.append(tx, accepted)
    spool.append(accepted)
    _drainer(database, spool).look()
    assert ["1", "2", "3"] == _keys(database)


def test_nothing_is_drained_and_nobody_is_told_while_the_database_is_away(empty_url: sa.URL, spool: Spool) -> None:
    spool.append(_accepted("1"))
    told: list[str] = []
    away = db_timeouts.database(empty_url)  # it has no tables
    for _ in range(2):
        with pytest.raises(DatabaseDown):
            _drainer(away, spool, told).look()
    away.close()
    assert [] == told
    assert 1 == len(_files(spool))
    assert [] == _left(spool)  # still being written to: no file is begun for each attempt


def _refuse(database: Database, keys: Iterable[str]) -> None:
    listed = ", ".join(f"'{key}'" for key in keys)
    with database.begin() as tx:
        if database.is_sqlite:
            body = f"BEGIN SELECT RAISE(ABORT, 'refused') WHERE NEW.key IN ({listed}); END"
            tx.execute(sa.text(f"CREATE TRIGGER refuse BEFORE INSERT ON erpmirror_webhooks {body}"))
        else:
            tx.execute(sa.text(f"ALTER TABLE erpmirror_webhooks ADD CONSTRAINT refuse CHECK (key NOT IN ({listed}))"))


def _forgive(database: Database) -> None:
    undo = "DROP TRIGGER refuse" if database.is_sqlite else "ALTER TABLE erpmirror_webhooks DROP CONSTRAINT refuse"
    with database.begin() as tx:
        tx.execute(sa.text(undo))


def test_letters_that_the_database_refuses_are_set_aside_for_a_person(
    database: Database, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    _refuse(database, ["poison", "venom"])
    spool.append(_accepted("1", "poison", "2", "venom", "3"))
    _drainer(database, spool).look()
    _drainer(database, spool).look()
    assert ["1", "2", "3"] == _keys(database)
    assert (0, 2) == (spool.waiting(), spool.refused())
    (aside,) = _files(spool)
    assert (".refused", 0o600) == (aside.suffix, aside.stat().st_mode & 0o777)
    assert spool.refusal_notes().startswith("2 notices were refused")
    assert 1 == capsys.readouterr().out.count("notices set aside")
    # The person has mended the database, and hands them in again.
    _forgive(database)
    aside.rename(aside.with_suffix(".spool"))
    _drainer(database, spool).look()
    assert ["1", "2", "3", "poison", "venom"] == _keys(database)


def test_damaged_lines_are_set_aside_as_they_are(database: Database, spool: Spool) -> None:
    spool.append(_accepted("1", "2", "3"))
    spool.release()
    (file,) = _files(spool)
    first, second, third, _ = file.read_bytes().split(b"\n")
    damaged = second.replace(b'"2"', b'"7"')
    file.write_bytes(b"\n".join([first, damaged, third, b""]))
    _drainer(database, spool).look()
    assert ["1", "3"] == _keys(database)
    assert damaged + b"\n" == file.with_suffix(".refused").read_bytes()


@services.ON_POSTGRESQL
def test_a_database_that_only_reads_refuses_nobody(database: Database, spool: Spool) -> None:
    spool.append(_accepted("1"))
    reader = db_timeouts.database(database.url)

    def forbid(raw: Any, _: object) -> None:
        raw.execute("SET default_transaction_read_only = on")
        raw.commit()

    sa.event.listen(reader.engine, "connect", forbid)
    with pytest.raises(DatabaseDown, match="InternalError"):
        _drainer(reader, spool).look()
    reader.close()
    assert (1, 0) == (spool.waiting(), spool.refused())
    _drainer(database, spool).look()
    assert ["1"] == _keys(database)


def test_the_drainer_finds_what_another_process_left(database: Database, spool: Spool) -> None:
    other = Spool(spool.folder)
    other.append(_accepted("theirs"))
    drainer = _drainer(db_timeouts.database(database.url), spool)
    drainer.start()
    try:
        other.release()
        until(spool.is_empty, seconds=60, what=spool.refusal_notes)
    finally:
        drainer.close()
    assert ["theirs"] == _keys(database)
