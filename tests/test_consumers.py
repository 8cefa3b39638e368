"""The consumers in OPERATING.md, run as they are written there, keep their place and miss nothing."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from models.db import tables
from models.values import ChangeKind
from receiver import app
from receiver.http import server
from tests import services
from tests.documentation import OPERATING, README, blocks
from tests.processes import free_port, kill_group, until
from tests.receiver.api import events, journaling
from tests.receiver.wakers import RecordingWaker
from tests.serving import served
from tests.workers.deliveries import harness
from tests.workers.deliveries.harness import Clock, Told
from workers import configuration
from workers.deliveries import plans
from workers.demo import listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database

TOKEN = "token-of-the-receiver"
SECONDS = 60
"""A safety net, not an expectation."""

(FOLLOWER,) = [block for block in blocks(OPERATING, "python") if "ERPMIRROR_URL" in block]
(ENDPOINT,) = [block for block in blocks(OPERATING, "python") if "CRM_SECRET" in block]
(STATEMENT,) = [block for block in blocks(OPERATING, "sql") if ":last" in block]
STREAM, RESUMED = [block for block in blocks(OPERATING, "bash") if "text/event-stream" in block]


@dataclass
class Receiver:
    """A receiver, again and again on one port. `statuses`: of its answers, the latest last."""

    database: Database
    folder: Path
    port: int = field(default_factory=free_port)
    statuses: list[int] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self, **options: Any) -> Iterator[None]:
        file = self.folder / "erpmirror.toml"
        own = self.database.url.render_as_string(hide_password=False)
        file.write_text(
            f'[database]\nurl = "{own}"\n[receiver]\ntoken = "{TOKEN}"\n{harness.CONNECTION}'
            '[connections.books]\nsystem = "directo"\napi_key = "k"\nresources = ["items"]\n',
            "utf-8",
        )
        made = app.create_app(configuration.load(file), waker=RecordingWaker(), **options)

        async def recorded(scope: Any, receive: Any, send: Any) -> None:
            async def note(message: Any) -> None:
                if message["type"] == "http.response.start":
                    self.statuses.append(message["status"])
                await send(message)

            await made(scope, receive, note if scope["type"] == "http" else send)

        with served(recorded, on=listening.bind("127.0.0.1", self.port), **server.OPTIONS):
            yield


@dataclass
class Programs:
    """Starts programs in an empty folder; what is left at the end is killed."""

    folder: Path
    environment: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str, log: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("wb") as output, (self.folder / f"{log}.err").open("wb") as errors:
            return self._start(*command, stdout=output, stderr=errors, **environment)

    def start_blocked(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """It can print one page of memory; then its `print` waits for a reader that never comes."""
        with (self.folder / "blocked.err").open("wb") as errors:
            return self._start(*command, stdout=subprocess.PIPE, pipesize=4096, stderr=errors, **environment)

    def _start(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        streams = {key: options.pop(key) for key in ("stdout", "stderr", "pipesize") if key in options}
        environment = os.environ | self.environment | options
        process = subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True, **streams)
        self.running.append(process)
        return process

    def printed(self, log: str) -> str:
        return (self.folder / log).read_text("utf-8")

    def complaints(self) -> str:
        return "\n".join(each.read_text("utf-8") for each in sorted(self.folder.glob("*.err")))

    def wait(self, log: str, wanted: str) -> None:
        until(lambda: wanted in self.printed(log), seconds=SECONDS, what=lambda: f"{wanted}: {self.complaints()}")


def wait_until_blocked(process: subprocess.Popen[bytes], longest_line: int) -> None:
    assert process.stdout is not None
    pipe = process.stdout.fileno()

    def is_full() -> bool:
        (unread,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
        return bool(unread + longest_line > 4096)

    until(is_full, seconds=SECONDS, what="the pipe is full")


def killed(process: subprocess.Popen[bytes]) -> str:
    """Kill it; what it had printed."""
    kill_group(process)
    assert process.stdout is not None
    with process.stdout:
        return process.stdout.read().decode()


@pytest.fixture
def receiver(sqlite: Database, tmp_path: Path) -> Receiver:
    return Receiver(sqlite, tmp_path)


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    folder = tmp_path / "program"
    folder.mkdir()
    found = Programs(folder, {"TOKEN": TOKEN, "CRM_SECRET": harness.SECRET, "PYTHONPATH": "", "NO_PROXY": "127.0.0.1"})
    yield found
    for process in found.running:
        kill_group(process)
        if process.stdout is not None:
            process.stdout.close()


# SQL


def _page(database: Database, last: int) -> list[int]:
    with database.read() as tx:
        return [row.id for row in tx.execute(sa.text(STATEMENT), {"last": last})]


def test_the_statement_pages_through_the_journal(database: Database) -> None:
    journaling.write(database, *map(str, range(250)))
    last, found = 0, []
    while page := _page(database, last):
        assert len(page) <= 100
        found += page
        last = page[-1]
    assert list(range(1, 251)) == found


@pytest.mark.postgresql
@services.ON_POSTGRESQL
def test_the_statement_runs_in_psql(database: Database, tmp_path: Path) -> None:
    journaling.write(database, "a", "b", "c")
    file = tmp_path / "changes.sql"
    file.write_text(STATEMENT, "utf-8")
    address = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    command = ["psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "last=1", "-f", str(file), address]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert ["2", "3"] == [line.partition("|")[0] for line in printed.splitlines()]


def test_a_first_row_that_is_not_the_next_shows_that_entries_were_deleted(database: Database) -> None:
    journaling.write(database, *"abcde")
    assert 3 == _page(database, 2)[0]
    journaling.trim(database, 3)
    assert 4 == _page(database, 2)[0]
    assert 4 == _page(database, 3)[0]


class _CrashError(Exception):
    pass


@dataclass
class _Copy:
    """A program that keeps its place in the transaction of its work; each third transaction crashes before it ends."""

    database: Database
    is_written: threading.Event

    def follow(self) -> None:
        for number in itertools.count():
            was_written = self.is_written.is_set()
            with suppress(_CrashError):
                if not self._step(crashes=number % 3 == 1) and was_written:
                    return

    def _step(self, *, crashes: bool) -> int:
        lock = "" if self.database.is_sqlite else " FOR UPDATE"
        with self.database.begin() as tx:
            last = tx.execute(sa.text(f"SELECT last FROM place{lock}")).scalar_one()
            rows = tx.execute(sa.text(STATEMENT), {"last": last}).all()
            if rows:
                tx.execute(sa.text("INSERT INTO done VALUES (:id)"), [{"id": row.id} for row in rows])
                tx.execute(sa.text("UPDATE place SET last = :last"), {"last": rows[-1].id})
            if crashes:
                raise _CrashError
            return len(rows)


def test_copies_that_keep_their_place_in_their_transaction_do_each_change_once(database: Database) -> None:
    with database.begin() as tx:
        for statement in ("CREATE TABLE place (last BIGINT)", "CREATE TABLE done (id BIGINT)"):
            tx.execute(sa.text(statement))
        tx.execute(sa.text("INSERT INTO place VALUES (0)"))
    is_written = threading.Event()
    copies = [threading.Thread(target=_Copy(database, is_written).follow) for _ in range(2)]
    for each in copies:
        each.start()
    for number in range(40):
        journaling.write(database, *(f"{number}.{part}" for part in range(10)))
    is_written.set()
    for each in copies:
        each.join(SECONDS)
        assert not each.is_alive()
    with database.read() as tx:
        assert list(range(1, 401)) == sorted(tx.execute(sa.text("SELECT id FROM done")).scalars())


# Server-Sent Events


def _curl(programs: Programs, receiver: Receiver, block: str, log: str, **environment: str) -> subprocess.Popen[bytes]:
    command = block.replace("127.0.0.1:8000", f"127.0.0.1:{receiver.port}")
    return programs.start("bash", "-c", f"exec {command}", log=log, **environment)


def _events(printed: str) -> list[tuple[str, Any]]:
    found = re.findall(r"^(?:id: \d+\n)?event: (\w+)\ndata: (.*)\n\n", printed, re.MULTILINE)
    return [(kind, json.loads(data)) for kind, data in found]


def test_curl_shows_the_feed_then_the_entries_of_the_connection(receiver: Receiver, programs: Programs) -> None:
    journaling.write(receiver.database, "a")
    with receiver.running():
        _curl(programs, receiver, STREAM, "1")
        programs.wait("1", '"key":"a"')
        journaling.write(receiver.database, "hidden", connection="books", resource="items")
        journaling.write(receiver.database, "a", kind=ChangeKind.DELETED)
        programs.wait("1", "event: deleted")
    found = _events(programs.printed("1"))
    assert ["feed", "created", "deleted"] == [kind for kind, _ in found]
    assert ({"feed", "oldest"}, 1, 3) == (found[0][1].keys(), found[1][1]["id"], found[2][1]["id"])
    assert re.match(r"retry: \d+\n\nevent: feed\n", programs.printed("1"))


def test_curl_resumes_after_the_last_id_a_comments_included(receiver: Receiver, programs: Programs) -> None:
    journaling.write(receiver.database, "a")
    journaling.write(receiver.database, "hidden", connection="books", resource="items")
    with receiver.running(beat_seconds=0.1):
        first = _curl(programs, receiver, STREAM, "1")
        programs.wait("1", "\n:\nid: 2\n")
        kill_group(first)
        last = re.findall(r"^id: (\d+)$", programs.printed("1"), re.MULTILINE)[-1]
        journaling.write(receiver.database, "b")
        _curl(programs, receiver, RESUMED, "2", LAST=last)
        programs.wait("2", "event: created")
    assert [3] == [entry["id"] for kind, entry in _events(programs.printed("2")) if kind != "feed"]


def test_a_changed_feed_comes_as_a_second_one_and_ends_the_answer(receiver: Receiver, programs: Programs) -> None:
    journaling.write(receiver.database, "a")
    with receiver.running():
        curl = _curl(programs, receiver, STREAM, "1")
        programs.wait("1", "event: created")
        _rename_feed(receiver.database)
        journaling.write(receiver.database, "b")
        assert 0 == curl.wait(SECONDS)
    first, *_, second = [data["feed"] for kind, data in _events(programs.printed("1")) if kind == "feed"]
    assert first != second


@pytest.mark.parametrize(
    ("environment", "expected"), [({"TOKEN": "wrong"}, "token"), ({"LAST": "1"}, "gone")], ids=["token", "trimmed"]
)
def test_an_error_comes_as_json_instead_of_events(
    receiver: Receiver, programs: Programs, environment: dict[str, str], expected: str
) -> None:
    journaling.write(receiver.database, *"abcd")
    journaling.trim(receiver.database, 3)
    with receiver.running():
        curl = _curl(programs, receiver, RESUMED, "1", **{"LAST": "3"} | environment)
        curl.wait(SECONDS)
    assert expected == json.loads(programs.printed("1"))["error"]


def _rename_feed(database: Database) -> None:
    with database.begin() as tx:
        tx.execute(sa.update(tables.feed).values(name="restored"))


# The program in Python


def _follower(programs: Programs, receiver: Receiver) -> list[str]:
    (programs.folder / "follower.py").write_text(FOLLOWER, "utf-8")
    programs.environment["ERPMIRROR_URL"] = receiver.address
    return [sys.executable, "follower.py"]


def _ids(printed: str) -> list[int]:
    return [int(number) for number in re.findall(r"^(\d+) ", printed, re.MULTILINE)]


def _place(programs: Programs) -> dict[str, Any]:
    """The place that it keeps, once it keeps one."""
    file = programs.folder / "place.json"
    place: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return place


def _follow_up_to(programs: Programs, command: list[str], last: int, log: str) -> subprocess.Popen[bytes]:
    process = programs.start(*command, log=log)
    programs.wait(log, f"\n{last} " if last > 1 else f"{last} ")
    until(lambda: _place(programs).get("after") == last, seconds=SECONDS, what=programs.complaints)
    return process


def test_a_program_that_is_killed_repeats_at_most_its_page_and_skips_nothing(
    receiver: Receiver, programs: Programs
) -> None:
    journaling.write(receiver.database, *map(str, range(1000)))
    command = _follower(programs, receiver)
    with receiver.running():
        process = programs.start_blocked(*command)
        wait_until_blocked(process, len("1000 created 1000\n"))
        printed = killed(process)
        place = _place(programs)["after"]
        first = _ids(printed)
        assert "start again" in printed
        assert list(range(1, len(first) + 1)) == first
        assert 0 < place <= len(first) <= place + 100
        programs.start(*command, log="2")
        programs.wait("2", "\n1000 ")
    assert list(range(place + 1, 1001)) == _ids(programs.printed("2"))
    assert "start again" not in programs.printed("2")


def test_a_program_is_told_of_a_change_while_it_waits(receiver: Receiver, programs: Programs) -> None:
    journaling.write(receiver.database, "a")
    with receiver.running():
        _follow_up_to(programs, _follower(programs, receiver), 1, "1")
        for number in (2, 3):
            journaling.write(receiver.database, "b")
            programs.wait("1", f"\n{number} created b\n")
    assert {200} == set(receiver.statuses)


def test_a_program_outlives_a_receiver(receiver: Receiver, programs: Programs) -> None:
    journaling.write(receiver.database, "a", "b")
    command = _follower(programs, receiver)
    process = programs.start(*command, log="1")
    with receiver.running():
        programs.wait("1", "\n2 ")
    journaling.write(receiver.database, "c")
    with receiver.running():
        programs.wait("1", "\n3 ")
    assert ([1, 2, 3], None) == (_ids(programs.printed("1")), process.poll())


def test_a_program_whose_entries_were_trimmed_starts_again(receiver: Receiver, programs: Programs) -> None:
    journaling.write(receiver.database, *"abc")
    command = _follower(programs, receiver)
    with receiver.running():
        kill_group(_follow_up_to(programs, command, 3, "1"))
    journaling.write(receiver.database, *"defg")
    journaling.trim(receiver.database, 5)
    with receiver.running():
        _follow_up_to(programs, command, 7, "2")
    assert 410 in receiver.statuses
    assert programs.printed("2").startswith("start again")
    assert [6, 7] == _ids(programs.printed("2"))


@pytest.mark.parametrize("is_running", [True, False], ids=["while it waits", "while it is stopped"])
def test_a_program_starts_again_when_a_backup_was_restored(
    receiver: Receiver,
    programs: Programs,
    is_running: bool,  # noqa: FBT001 - a parameter
) -> None:
    journaling.write(receiver.database, *"abc")
    command = _follower(programs, receiver)
    with receiver.running():
        process = _follow_up_to(programs, command, 3, "1")
        before = _place(programs)["feed"]
        if not is_running:
            kill_group(process)
        journaling.set_back(receiver.database, last=2)
        _rename_feed(receiver.database)
        journaling.write(receiver.database, *"xyz")
        if not is_running:
            programs.start(*command, log="2")
        log = "1" if is_running else "2"
        whole = ["1 created a", "2 created b", "3 created x", "4 created y", "5 created z"]
        until(
            lambda: whole == programs.printed(log).rpartition("start again")[2].splitlines()[1:],
            seconds=SECONDS,
            what=lambda: programs.printed(log) + programs.complaints(),
        )
        until(lambda: _place(programs)["feed"] != before, seconds=SECONDS, what="it keeps the new feed's name")


def test_a_program_with_a_wrong_token_ends_and_says_so(receiver: Receiver, programs: Programs) -> None:
    command = _follower(programs, receiver)
    with receiver.running():
        process = programs.start(*command, log="1", TOKEN="wrong")
        assert 1 == process.wait(SECONDS)
    assert "401 Unauthorized" in programs.complaints()
    assert not (programs.folder / "place.json").exists()


def test_a_program_comes_back_to_a_receiver_that_has_too_many_readers(receiver: Receiver, programs: Programs) -> None:
    journaling.write(receiver.database, "a")
    with receiver.running(most_readers=1):
        with (
            httpx.Client(base_url=receiver.address) as client,
            events.opened(client, headers=f"Authorization: Bearer {TOKEN}\r\n"),
        ):
            process = programs.start(*_follower(programs, receiver), log="1")
            until(lambda: 503 in receiver.statuses, seconds=SECONDS, what=programs.complaints)
        programs.wait("1", "1 created a\n")
    assert process.poll() is None


# The endpoint


@dataclass
class Endpoint:
    programs: Programs
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def command(self, *options: str) -> list[str]:
        (self.programs.folder / "endpoint.py").write_text(ENDPOINT, "utf-8")
        return [sys.executable, "-m", "uvicorn", "endpoint:app", "--port", str(self.port), *options]

    def answers(self) -> bool:
        try:
            return httpx.get(self.address, timeout=5).status_code == 405
        except httpx.TransportError:
            return False

    def start(self, log: str) -> subprocess.Popen[bytes]:
        process = self.programs.start(*self.command(), log=log)
        self.wait()
        return process

    def wait(self) -> None:
        until(self.answers, seconds=SECONDS, what=self.programs.complaints)

    def keys(self, printed: str) -> list[str]:
        return re.findall(r"^dilovod\.catalogs\.goods\.created (\S+)$", printed, re.MULTILINE)

    def wait_for(self, log: str, count: int) -> list[str]:
        until(
            lambda: len(self.keys(self.programs.printed(log))) >= count,
            seconds=SECONDS,
            what=lambda: self.programs.printed(log) + self.programs.complaints(),
        )
        return self.keys(self.programs.printed(log))


@pytest.fixture
def endpoint(programs: Programs) -> Endpoint:
    return Endpoint(programs)


@pytest.fixture
def told(sqlite: Database, tmp_path: Path, endpoint: Endpoint) -> Told:
    """A subscription to the endpoint."""
    clock = Clock()
    sqlite._clock = clock
    found = Told(sqlite, harness.settings(tmp_path, endpoint.address, sqlite), clock)
    plans.sync(sqlite, found.settings)
    return found


def _signed(secret: str, body: str, *, signed: str | None = None, at: datetime | None = None) -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, body if signed is None else signed)
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


BODY = '{"type":"dilovod.catalogs.goods.created","data":{"key":"forged"}}'
OTHER_SECRET = "whsec_" + "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXI="
FORGED = {
    "another secret": _signed(OTHER_SECRET, BODY),
    "another body": _signed(harness.SECRET, BODY, signed=BODY.replace("forged", "right")),
    "too old": _signed(harness.SECRET, BODY, at=datetime.now(UTC) - timedelta(minutes=6)),
    "no signature": {},
    "half a signature": _signed(harness.SECRET, BODY) | {"webhook-signature": "v1"},
    "no Base64": _signed(harness.SECRET, BODY) | {"webhook-signature": "v1,a"},
}


def test_the_endpoint_takes_deliveries_and_refuses_forged_ones(endpoint: Endpoint, told: Told) -> None:
    endpoint.start("1")
    refused = {name: httpx.post(endpoint.address, content=BODY, headers=each) for name, each in FORGED.items()}
    assert dict.fromkeys(FORGED, 401) == {name: answer.status_code for name, answer in refused.items()}
    assert 401 == httpx.post(endpoint.address, content=b"\xff", headers=_signed(harness.SECRET, BODY)).status_code
    told.change("a", "b")
    assert (2, 0) == (told.deliver().delivered, told.row.failed)
    assert [204, 204] == [attempt.status for attempt in told.attempts]
    assert ["a", "b"] == sorted(endpoint.wait_for("1", 2))


def test_the_endpoint_ignores_what_comes_again_also_after_a_restart(endpoint: Endpoint, told: Told) -> None:
    process = endpoint.start("1")
    told.change("a")
    told.deliver()
    endpoint.wait_for("1", 1)
    told.set(position=0)  # as after a restored backup
    assert 1 == told.deliver().delivered
    kill_group(process)
    endpoint.start("2")
    told.set(position=0)
    told.change("b")
    assert 2 == told.deliver().delivered
    endpoint.wait_for("2", 1)
    assert (["a"], ["b"]) == tuple(endpoint.keys(endpoint.programs.printed(log)) for log in ("1", "2"))


def test_the_endpoint_answers_before_its_work_and_a_crash_loses_none(endpoint: Endpoint, told: Told) -> None:
    process = endpoint.programs.start_blocked(*endpoint.command("--no-access-log"))
    endpoint.wait()
    keys = [str(number) for number in range(1000, 1200)]
    told.change(*keys)
    assert 200 == told.deliver().delivered
    wait_until_blocked(process, len("dilovod.catalogs.goods.created 1000\n"))
    first = endpoint.keys(killed(process))
    endpoint.start("2")
    second = endpoint.wait_for("2", 200 - len(first))
    assert keys == sorted({*first, *second})
    assert len(first) + len(second) <= 201
    assert len(first) < 200


def test_the_message_of_subscriptions_test_is_taken(endpoint: Endpoint) -> None:
    endpoint.start("1")
    body = '{"type":"erpmirror.test","timestamp":"2026-01-01T00:00:00+00:00","data":{"subscription":"crm"}}'
    assert 204 == httpx.post(endpoint.address, content=body, headers=_signed(harness.SECRET, body)).status_code
    endpoint.programs.wait("1", "erpmirror.test None\n")


# README


@pytest.mark.parametrize("page", [README, OPERATING], ids=lambda page: page.name)
def test_the_pages_subscription_is_one_that_loads(page: Path, tmp_path: Path) -> None:
    (example,) = [block for block in blocks(page, "toml") if "[subscriptions.crm]" in block]
    connection = harness.CONNECTION.replace('"catalogs.persons"', '"documents.saleOrder"')
    (tmp_path / ".env").write_text(f"CRM_SECRET={harness.SECRET}\n", "utf-8")
    (tmp_path / "erpmirror.toml").write_text(f"{connection}{example}", "utf-8")
    crm = configuration.load(tmp_path / "erpmirror.toml").subscriptions["crm"]
    assert ([harness.SECRET], ("documents.saleOrder",)) == (crm.secrets, crm.resources)
