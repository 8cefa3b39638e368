"""The sweep: it rings for what is due and for nothing else, and nothing that is away ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from kombu.exceptions import OperationalError

from models import due, inbox, notices, streams, tables
from models.database import Database
from models.notices import Letter
from models.values import Cause, Lane, Mention
from tests import processes
from tests.mirroring import Mirror, mirrored
from workers import app, bell, broker, configuration, ingest
from workers.beat import Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHOP, BOOKS = "dilovod", "directo"


class Clock:
    """A database's clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirror(sqlite: Database, tmp_path: Path, clock: Clock) -> Iterator[Mirror]:
    """Two connections, everything read and nothing due, on a clock that stands."""
    timed = Database(sqlite.url, clock=clock)
    quiet = {"options": {"every": "1d", "full_every": "30d"}}
    shop = {"options": {"reconcile_every": "30d"}}
    with mirrored(timed, tmp_path, dilovod=shop, directo=quiet) as made:
        broker.prepare(made.settings)
        far = clock() + timedelta(days=30)
        with timed.begin() as connection:
            connection.execute(sa.update(tables.streams).values(due_at=far, full_due_at=far, cursor="x"))
        yield made
    timed.close()


@pytest.fixture
def sweeper(mirror: Mirror) -> Sweeper:
    return sweeper_of(mirror)


def sweeper_of(mirror: Mirror) -> Sweeper:
    return Sweeper(app.create_app(mirror.settings, mirror.database), mirror.settings, mirror.database)


def rung(mirror: Mirror) -> dict[str, int]:
    """How many messages wait in each queue."""
    doorbell = bell.Bell(app.create_app(mirror.settings, mirror.database), mirror.database)
    return {"look": doorbell.queued("look"), "read": doorbell.queued("read")}


def mention(mirror: Mirror, name: str, resource: str) -> None:
    with mirror.database.begin() as connection:
        inbox.mention(
            connection,
            connection_name=name,
            mentions=[Mention(resource, "1")],
            lane=Lane.BULK,
            cause=Cause.TICK,
        )


def notice(mirror: Mirror) -> None:
    letter = Letter(SHOP, "{}", resource="catalogs.goods", key="1")
    with mirror.database.begin() as connection:
        notices.append(connection, [letter])


def tick(mirror: Mirror) -> None:
    with mirror.database.begin() as connection:
        streams.look_now(connection, connection_name=BOOKS, resource="items")


def full_reading(mirror: Mirror) -> None:
    with mirror.database.begin() as connection:
        streams.backfill_now(connection, connection_name=BOOKS, resource="items")


def test_nothing_due_is_not_rung_for(mirror: Mirror, sweeper: Sweeper) -> None:
    sweeper.sweep()
    assert {"look": 0, "read": 0} == rung(mirror)


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        (notice, {"look": 1, "read": 0}),
        (lambda mirror: mention(mirror, BOOKS, "items"), {"look": 1, "read": 0}),
        (tick, {"look": 1, "read": 0}),
        (full_reading, {"look": 0, "read": 1}),
    ],
    ids=["notice", "mention", "tick", "full reading"],
)
def test_what_is_due_is_rung_for(
    mirror: Mirror, sweeper: Sweeper, due: Callable[[Mirror], None], expected: dict[str, int]
) -> None:
    due(mirror)
    sweeper.sweep()
    assert expected == rung(mirror)


def test_two_sweepers_ring_once(mirror: Mirror, sweeper: Sweeper) -> None:
    tick(mirror)
    other = sweeper_of(mirror)
    for each in (sweeper, other, sweeper):
        each.sweep()
    assert {"look": 1, "read": 0} == rung(mirror)


def test_a_week_without_workers_leaves_one_message_for_each_connection(
    mirror: Mirror, sweeper: Sweeper, clock: Clock
) -> None:
    notice(mirror)
    tick(mirror)
    for _ in range(7 * 24):
        clock.pass_(hours=1)
        sweeper.sweep()
    assert {"look": 2, "read": 0} == rung(mirror)


def test_a_ring_that_was_lost_is_repeated(mirror: Mirror, sweeper: Sweeper, clock: Clock) -> None:
    tick(mirror)
    sweeper.sweep()
    with sweeper.app.connection_for_write() as connection:
        connection.default_channel.queue_purge(app.LOOKS)
    clock.pass_(seconds=5)
    sweeper.sweep()
    assert 0 == rung(mirror)["look"]
    clock.pass_(seconds=6)
    sweeper.sweep()
    assert 1 == rung(mirror)["look"]


def _shut(mirror: Mirror, name: str, *, until: datetime) -> None:
    shut = {"failures": 1, "shut_until": until, "shut_reason": "429"}
    insert = mirror.database.insert(tables.gates).values(account=mirror.desk(name).gate.account, **shut)
    with mirror.database.begin() as connection:
        connection.execute(insert.on_conflict_do_update(index_elements=[tables.gates.c.account], set_=shut))


def test_a_shut_gate_is_not_rung_for_until_it_opens(mirror: Mirror, sweeper: Sweeper, clock: Clock) -> None:
    tick(mirror)
    _shut(mirror, BOOKS, until=clock() + timedelta(minutes=1))
    sweeper.sweep()
    assert 0 == rung(mirror)["look"]
    clock.pass_(minutes=1)
    sweeper.sweep()
    assert 1 == rung(mirror)["look"]


def test_notices_are_folded_also_while_the_gate_is_shut(mirror: Mirror, sweeper: Sweeper, clock: Clock) -> None:
    """Or a vendor who is away for a week would leave a week of them, which nobody may trim."""
    _shut(mirror, SHOP, until=clock() + timedelta(days=7))
    sweeper.sweep()
    assert {"look": 0, "read": 0} == rung(mirror)
    notice(mirror)
    sweeper.sweep()
    assert {"look": 1, "read": 0} == rung(mirror)
    assert not ingest.look(mirror.desk(SHOP)).requests
    assert SHOP not in due.at_once(mirror.database).noticed
    bell.Bell(sweeper.app, mirror.database).answer(SHOP, bell.LOOK)
    sweeper.sweep()
    assert {"look": 1, "read": 0} == rung(mirror), "what is left waits for the vendor"


def test_a_watched_folder_is_looked_into_also_while_the_gate_is_shut(
    sqlite: Database, tmp_path: Path, clock: Clock
) -> None:
    timed = Database(sqlite.url, clock=clock)
    with mirrored(timed, tmp_path, interpreter={}) as mirror:
        broker.prepare(mirror.settings)
        mirror.work()
        clock.pass_(minutes=10)
        _shut(mirror, "interpreter", until=clock() + timedelta(days=7))
        mirror.sandboxes["interpreter"]._delivery_note()
        sweeper_of(mirror).sweep()
        assert {"look": 0, "read": 1} == rung(mirror)
        assert not ingest.read(mirror.desk("interpreter")).requests
        with timed.read() as connection:
            kept = connection.execute(sa.select(tables.documents.c.state)).scalars().all()
        assert ["waiting"] == kept
    timed.close()


def test_a_parked_resource_is_not_rung_for(mirror: Mirror, sweeper: Sweeper, clock: Clock) -> None:
    tick(mirror)
    mention(mirror, BOOKS, "items")
    with mirror.database.begin() as connection:
        streams.park(connection, BOOKS, "items", reason="no licence", now=clock())
    sweeper.sweep()
    assert {"look": 0, "read": 0} == rung(mirror)


def test_a_broker_that_is_away_does_not_end_the_sweep(
    mirror: Mirror, sweeper: Sweeper, tmp_path: Path, clock: Clock
) -> None:
    tick(mirror)
    messages = tmp_path / "var" / "broker" / "messages"
    messages.rmdir()
    with pytest.raises(OperationalError):
        sweeper.sweep()
    clock.pass_(seconds=1)
    assert sweeper.tick() > 0
    messages.mkdir()
    clock.pass_(seconds=1)
    sweeper.tick()
    assert 1 == rung(mirror)["look"]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_server_that_is_away_does_not_end_the_sweep(mirror: Mirror, tmp_path: Path, scheme: str) -> None:
    tick(mirror)
    file = tmp_path / "erpmirror.toml"
    address = f"{scheme}://127.0.0.1:{processes.free_port()}/0"
    file.write_text(f'[broker]\nurl = "{address}"\n{file.read_text()}')
    away = Mirror(mirror.database, configuration.load(file), mirror.sandboxes)
    sweeper = sweeper_of(away)
    with mirror.database.begin() as connection:  # an outstanding ring: then the queue is asked, not filled
        rings = {"connection": BOOKS, "bell": "look", "rung_at": mirror.database.now(connection)}
        connection.execute(sa.insert(tables.rings).values(**rings))
    assert [True, True] == [sweeper.tick() > 0, sweeper.tick() > 0]


def test_a_database_that_is_away_does_not_end_the_sweep(mirror: Mirror) -> None:
    nowhere = Database(f"postgresql+psycopg://nobody@127.0.0.1:{processes.free_port()}/none")
    sweeper = Sweeper(app.create_app(mirror.settings, nowhere), mirror.settings, nowhere)
    assert [True, True] == [sweeper.tick() > 0, sweeper.tick() > 0]


def test_notices_are_kept_for_thirty_days_and_those_not_folded_for_ever(
    mirror: Mirror, clock: Clock, sweeper: Sweeper
) -> None:
    notice(mirror)
    notice(mirror)
    with mirror.database.begin() as connection:
        connection.execute(sa.update(tables.notices).where(tables.notices.c.id == 1).values(state="folded"))
    sweeper.sweep()
    assert [1, 2] == kept(mirror)
    clock.pass_(days=31)
    sweeper_of(mirror).sweep()
    assert [2] == kept(mirror)


def kept(mirror: Mirror) -> list[int]:
    with mirror.database.read() as connection:
        return list(connection.execute(sa.select(tables.notices.c.id).order_by(tables.notices.c.id)).scalars())
