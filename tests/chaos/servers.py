"""Servers of a test's own, which it may stop, kill, pause and start again: PostgreSQL, Redis and RabbitMQ."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import IO, Any

import psycopg
import redis
import sqlalchemy as sa
from kombu.connection import Connection

from tests.chaos.lifecycle import PATIENCE, Server, missing, program, vacant_port

# PostgreSQL

SETTINGS = """
shared_buffers = 16MB
max_connections = 200
autovacuum = off
jit = off
unix_socket_directories = ''
dynamic_shared_memory_type = mmap
"""
"""Quick to start and easy to clear away. What is committed is on disk, as in production."""

EVERYBODY = "host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n"


@cache
def _account() -> dict[str, Any]:
    """The account that PostgreSQL runs as, because it refuses root; as arguments of `subprocess`."""
    if os.geteuid() != 0:
        return {}
    known = {account.pw_name: account for account in pwd.getpwall()}
    account = known.get("postgres") or known.get("nobody") or missing("an account other than root for PostgreSQL")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _postgresql(name: str) -> Path:
    config = shutil.which("pg_config")
    bindir = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout if config else ""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return program(name, folders=[Path(bindir.strip()), *packaged])


def _let_through(folder: Path) -> None:
    """Let PostgreSQL's account walk to its folder: pytest creates its folders for the owner only."""
    if _account():
        for parent in (folder, *folder.parents):
            parent.chmod(parent.stat().st_mode | 0o011)


@cache
def _cluster() -> tempfile.TemporaryDirectory[str]:
    """An empty cluster, made once and copied for every server; it goes when the tests end."""
    made = tempfile.TemporaryDirectory(prefix="erpmirror-postgresql-")
    data = Path(made.name) / "data"
    account = _account()
    if account:
        os.chown(made.name, account["user"], account["group"])
    options = ["--no-sync", "--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8", "--wal-segsize=1"]
    command = [str(_postgresql("initdb")), *options, "--pgdata", str(data)]
    subprocess.run(command, check=True, capture_output=True, cwd=made.name, **account)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(SETTINGS)
    (data / "pg_hba.conf").write_text(EVERYBODY)
    return made


class PostgreSQL(Server):
    """PostgreSQL with an empty database, durable as in production."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast shutdown": connected clients are disconnected

    @property
    def address(self) -> sa.URL:
        return sa.make_url(f"postgresql+psycopg://postgres@{self.host}:{self.port}/postgres")

    def prepare(self) -> None:
        subprocess.run(["cp", "-a", f"{_cluster().name}/data", self.data], check=True)  # noqa: S607 - wherever it lies

    def launch(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        _let_through(self.folder)
        command = [str(_postgresql("postgres")), "-D", str(self.data), "-h", self.host, "-p", str(self.port)]
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd="/", **_account()
        )

    def answers(self) -> bool:
        address = self.address.set(drivername="postgresql").update_query_dict({"connect_timeout": "5"})
        try:
            psycopg.connect(address.render_as_string()).close()
        except psycopg.OperationalError:
            return False
        return True

    def clean(self) -> None:
        """A killed one leaves a piece of shared memory, too."""
        lock = self.data / "postmaster.pid"
        for memory in lock.read_text().splitlines()[6:7] if lock.exists() else ():
            subprocess.run(["ipcrm", "--shmem-id", memory.split()[-1]], check=True)  # noqa: S607 - wherever it lies
        super().clean()


# Redis


class Redis(Server):
    """Redis that remembers nothing once it ends."""

    name = "redis"

    @property
    def address(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def launch(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        reach = ["--bind", self.host, "--port", str(self.port), "--protected-mode", "no"]
        command = [str(program("redis-server")), *reach, "--save", "", "--appendonly", "no", "--dir", str(self.data)]
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.address, socket_timeout=5) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def flush(self) -> None:
        """Forget everything, in all its databases."""
        with redis.Redis.from_url(self.address) as client:
            client.flushall()


# RabbitMQ


class RabbitMQ(Server):
    """A node of its own, which knows no other: its names are kept by a port mapper that it does not share."""

    name = "rabbitmq"

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        super().__init__(folder, host=host)
        self._mapper: subprocess.Popen[bytes] | None = None
        self._environment = {
            "HOME": str(self.data),  # its cookie lies there
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(vacant_port("127.0.0.1")),
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(self.data / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(vacant_port("127.0.0.1")),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data / "plugins"),
            "RABBITMQ_LOG_BASE": str(self.data),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_NODENAME": "erpmirror@localhost",
        }

    @property
    def address(self) -> str:
        return f"amqp://guest:guest@{self.host}:{self.port}//"

    def prepare(self) -> None:
        super().prepare()
        listen = f"listeners.tcp.1 = {self.host}:{self.port}\nloopback_users = none\n"
        (self.data / "rabbitmq.conf").write_text(f"{listen}log.file = false\nlog.console = true\n")
        (self.data / "plugins").touch()
        quiet = subprocess.DEVNULL
        self._mapper = subprocess.Popen([program("epmd")], env=self._own(), stdout=quiet, stderr=quiet)

    def launch(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [_rabbitmq("rabbitmq-server")],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self.data,  # a crash is dumped there
            env=self._own(),
        )

    def answers(self) -> bool:
        with Connection(self.address, connect_timeout=5) as connection:
            try:
                connection.connect()
            except connection.connection_errors:
                return False
            return True

    def empty(self) -> None:
        """Purge every queue; messages that a consumer holds unacknowledged stay."""
        purge = "[rabbit_amqqueue:purge(Queue) || Queue <- rabbit_amqqueue:list()]."
        subprocess.run([_rabbitmq("rabbitmqctl"), "eval", purge], check=True, capture_output=True, env=self._own())

    def clean(self) -> None:
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait(PATIENCE)
        super().clean()

    def _own(self) -> dict[str, str]:
        return os.environ | self._environment


def _rabbitmq(name: str) -> Path:
    """The program itself: Debian puts a wrapper before it, which runs the machine's node."""
    return program(name, folders=[Path("/usr/lib/rabbitmq/bin")])
