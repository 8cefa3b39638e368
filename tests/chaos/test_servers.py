"""The servers of the chaos tests do what their verbs say."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from kombu.connection import Connection

from tests.chaos import lifecycle
from tests.chaos.servers import PostgreSQL, RabbitMQ, Redis
from tests.processes import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.chaos


@contextmanager
def connected(server: PostgreSQL) -> Iterator[psycopg.Connection[Any]]:
    address = server.address.set(drivername="postgresql").render_as_string()
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


def client(server: Redis, **options: Any) -> redis.Redis:
    return redis.Redis.from_url(server.address, retry=None, **options)


def memory(maker: int) -> list[str]:
    """The shared memory segments that this process made and that would stay."""
    pieces = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return [piece[1] for piece in pieces if piece[4] == str(maker)]


@pytest.mark.postgresql
def test_what_postgresql_committed_is_there_after_it_was_stopped_and_after_it_was_killed(tmp_path: Path) -> None:
    with PostgreSQL(tmp_path) as server:
        address = server.address
        with connected(server) as connection:
            connection.execute("CREATE TABLE kept (number int)")
        for number, end in enumerate((server.stop, server.kill, server.kill)):
            with connected(server) as connection:
                connection.execute("INSERT INTO kept VALUES (%s)", [number])
            end()
            assert not server.answers()
            server.start()
        assert address == server.address
        with connected(server) as connection:
            assert [(0,), (1,), (2,)] == connection.execute("SELECT number FROM kept ORDER BY number").fetchall()


@pytest.mark.postgresql
def test_postgresql_is_durable(tmp_path: Path) -> None:
    with PostgreSQL(tmp_path) as server, connected(server) as connection:
        durable = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
        assert [("on",), ("on",)] == durable


@pytest.mark.postgresql
def test_a_paused_postgresql_answers_nobody_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with PostgreSQL(tmp_path) as server, connected(server) as connection:
        server.pause()
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(connection.info.dsn, connect_timeout=2)
        server.resume()
        assert (1,) == connection.execute("SELECT 1").fetchone()


@pytest.mark.postgresql
def test_postgresql_leaves_no_process_no_memory_and_no_data(tmp_path: Path) -> None:
    with PostgreSQL(tmp_path) as server:
        maker, pids = server.pid, lifecycle.process_tree(server.pid)
        assert memory(maker)
    assert [] == [pid for pid in pids if not lifecycle.gone(pid)]
    assert [] == memory(maker)
    assert not server.data.exists()


@pytest.mark.redis
@pytest.mark.parametrize("end", ["stop", "kill", "flush"])
def test_redis_forgets_when_it_ends_and_when_it_is_flushed(tmp_path: Path, end: str) -> None:
    with Redis(tmp_path) as server:
        address = server.address
        with client(server) as talk:
            talk.set("key", "value")
            getattr(server, end)()
            if end != "flush":
                with pytest.raises(redis.ConnectionError):
                    talk.get("key")
                server.start()
            assert address == server.address
            assert None is talk.get("key")


def test_a_server_ends_also_when_its_test_fails_while_it_is_paused(tmp_path: Path) -> None:
    def fail() -> None:
        with Redis(tmp_path) as server:
            pids.extend(lifecycle.process_tree(server.pid))
            server.pause()
            raise KeyError("as a test fails")

    pids: list[int] = []
    with pytest.raises(KeyError):
        fail()
    assert [True] == [lifecycle.gone(pid) for pid in pids]


@contextmanager
def queue(server: RabbitMQ) -> Iterator[Any]:
    options = {"confirm_publish": True}
    with Connection(server.address, transport_options=options) as connection:
        yield connection.SimpleQueue("accepted")


@pytest.mark.rabbitmq
def test_rabbitmq_keeps_what_it_confirmed_until_it_is_emptied(tmp_path: Path) -> None:
    with RabbitMQ(tmp_path) as server:
        address = server.address
        for end in (server.stop, server.kill):
            with queue(server) as accepted:
                accepted.put("a message")
            end()
            assert not server.answers()
            server.start()
        assert address == server.address
        with queue(server) as accepted:
            assert 2 == accepted.qsize()
            server.empty()
            assert 0 == accepted.qsize()


@pytest.mark.redis
def test_a_proxy_serves_again_when_its_server_is_back(tmp_path: Path) -> None:
    with (
        Redis(tmp_path) as server,
        TcpProxy(server.address) as line,
        redis.Redis.from_url(line.address, retry=None) as caller,
    ):
        assert caller.ping()
        server.kill()
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                caller.ping()
        server.start()
        assert caller.ping()
