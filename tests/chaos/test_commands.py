"""Commands while every process is killed: none is lost, none sent twice, and those of one object arrive in order.

Programs send orders, and changes of one person after another, over HTTP; after a broken connection they repeat the
command with its key. What has arrived is counted at the vendor's door.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from models.bookkeeping import commands
from models.bookkeeping.commands import State
from models.db import outgoing_tables, tables
from models.failpoints import Point
from tests.chaos.harness import ChaosHarness, on
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from random import Random

    from models.bookkeeping.commands import Command
    from tests.chaos.results import FaultResult, Results

STEPS = [point for point in Point if point.startswith("command")]
"""The steps of a command's way."""

TOKEN = "commands-of-the-shop"
ORDER, PERSON = "documents.saleOrder", "catalogs.persons"
OPTIONS: dict[str, Any] = {
    "commands": ["saleOrderCreate", "saveObject"],
    "commands_token": TOKEN,
    "commands_per_minute": 100_000,
    "unique": {ORDER: "remarkFromPerson"},
}

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


class Program(threading.Thread):
    """A program that sends one command after the other until it is stopped, and knows which were accepted.

    `accepted`: idempotency key -> the command's number, of those that were answered 202.
    """

    def __init__(self, harness: ChaosHarness, name: str) -> None:
        super().__init__(daemon=True)
        self._harness, self._name = harness, name
        self._over = threading.Event()
        self.accepted: dict[str, int] = {}
        self.failures: list[str] = []
        self.count = 0

    def request(self) -> dict[str, Any]:
        """The next command."""
        raise NotImplementedError

    def run(self) -> None:
        """Send, and send again with the same key until there is an answer."""
        url = f"{self._harness.installation.address}/commands/dilovod"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(headers=headers, timeout=10, trust_env=False) as client:
            while not self._over.wait(0.1):
                self.count += 1
                key, request = f"{self._name}-{self.count}", self.request()
                while (answer := _answer(client, url, request, key)) is None:
                    time.sleep(0.05)
                if answer.status_code != httpx.codes.ACCEPTED:
                    self.failures.append(answer.text)
                else:
                    self.accepted[key] = answer.json()["command"]

    def stop(self) -> None:
        """Send no more; what is under way gets its answer first, so its receiver has to run."""
        self._over.set()


def _answer(client: httpx.Client, url: str, request: dict[str, Any], key: str) -> httpx.Response | None:
    """The answer; None if the receiver is dead or cannot store it."""
    try:
        found = client.post(url, json=request, headers={"Idempotency-Key": key})
    except httpx.TransportError:
        return None
    again = {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.REQUEST_TIMEOUT}  # the latter: this machine is busy
    return None if found.status_code in again else found


class Orders(Program):
    """Creates orders."""

    def request(self) -> dict[str, Any]:
        truth = self._harness.mirror.sandboxes["dilovod"].truth
        goods, persons = min(truth("catalogs.goods")), min(truth(PERSON))
        header = {"person": persons, "remarkFromPerson": f"{self._name} {self.count}"}
        return {
            "action": "saleOrderCreate",
            "arguments": {"header": header, "goods": [{"good": goods, "qty": self.count}]},
        }


class Changes(Program):
    """Numbers one person."""

    def __init__(self, harness: ChaosHarness, name: str, person: str) -> None:
        super().__init__(harness, name)
        self.person = person

    def request(self) -> dict[str, Any]:
        header = {"id": self.person, "details": f"number {self.count}"}
        return {"action": "saveObject", "arguments": {"header": header}}


def _settled(harness: ChaosHarness) -> bool:
    """Whether each command's fate is known. The second look at an object is due at once, to save the time."""
    harness.revive()
    c = outgoing_tables.commands.c
    with harness.mirror.database.begin() as tx:
        now = harness.mirror.database.now(tx)
        seen = sa.select(c.id).where(c.state == "uncertain", c.unchanged_at.is_not(None), c.due_at > now)
        earlier = {c.due_at: now, c.unchanged_at: now - timedelta(hours=1)}
        tx.execute(
            sa.update(outgoing_tables.commands).where(c.id.in_(seen.with_for_update(skip_locked=True))).values(earlier)
        )
    with harness.mirror.database.read() as tx:
        found = commands.listed(tx)
    for each in found:
        if each.waits_for_person:
            _decide(harness, each)
    return all(each.state in commands.FINAL for each in found)


def _decide(harness: ChaosHarness, command: Command) -> None:
    """Decide as a person does, by what the vendor has: a user has edited the object, or the webhook of that was lost.

    A person's changes are numbered, and each is done once, so their count tells whether this one was.
    """
    writes = harness.mirror.sandboxes["dilovod"].writes
    done = sum(each.executed for each in writes if each.about == command.key)
    number = int(command.arguments["header"]["details"].split()[1])
    assert done in {number - 1, number}, "nothing was sent past an uncertain command, and nothing twice"
    words = ["--arrived", str(command.key)] if done == number else ["--not-arrived"]
    decided = harness.installation.start("commands", "resolve", str(command.id), *words)
    decided.wait(60)  # it says no where another look has decided meanwhile


def _check(harness: ChaosHarness, programs: list[Program], result: FaultResult) -> None:
    """Count what was lost, what was done twice, and what went backwards."""
    sandbox = harness.mirror.sandboxes["dilovod"]
    accepted = {key: number for program in programs for key, number in program.accepted.items()}
    with harness.mirror.database.read() as tx:
        stored = {each.idempotency_key: each for each in commands.listed(tx)}
        numbers = _numbers(tx, [program.person for program in programs if isinstance(program, Changes)])
    assert [] == [failure for program in programs for failure in program.failures]
    assert accepted == {key: stored[key].id for key in accepted}
    not_done = {key: (each.state, each.reason) for key, each in stored.items() if each.state is not State.DONE}
    assert {} == not_done
    # Counted at the door: users delete orders meanwhile.
    made = Counter(each.made for each in sandbox.writes if each.action == "saleOrderCreate" and each.executed)
    ordered = Counter(each.result_key for key, each in stored.items() if key.startswith("orders"))
    result.lost += (ordered - made).total()
    result.doubled += (made - ordered).total()
    result.backwards += sum(each != sorted(each) for each in numbers)
    for program in programs:
        if isinstance(program, Changes):
            executed = sum(each.executed for each in sandbox.writes if each.about == program.person)
            result.lost += max(program.count - executed, 0)
            result.doubled += max(executed - program.count, 0)
            shown = sandbox.truth(PERSON)[program.person]["header"]["details"]
            assert shown == f"number {program.count}", "the last change of a person is the one that it shows"


def _numbers(tx: Any, persons: list[str]) -> list[list[int]]:
    """The numbers of each person in the order of the journal."""
    c = tables.changes.c
    found: dict[str, list[int]] = {person: [] for person in persons}
    chosen = sa.select(c.key, c.after).where(c.resource == PERSON, c.key.in_(persons)).order_by(c.id)
    for key, after in tx.execute(chosen):
        words = str((after or {}).get("header", {}).get("details", "")).split()
        if words[:1] == ["number"]:
            found[key].append(int(words[1]))
    return list(found.values())


@contextmanager
def _commanding(harness: ChaosHarness, name: str) -> Iterator[FaultResult]:
    """Programs send commands while the block injects the fault; then the promises are checked."""
    persons = sorted(harness.mirror.sandboxes["dilovod"].truth(PERSON))[:2]
    programs: list[Program] = [Orders(harness, "orders"), *(Changes(harness, f"of-{each}", each) for each in persons)]
    with harness.fault(name, hurried=True, pause=0.5) as result:
        for program in programs:
            program.start()
        try:
            yield result
        finally:
            for program in programs:
                program.stop()
        harness.revive()
        for program in programs:
            program.join(60)
            assert not program.is_alive()
        harness.leases_run_out()
        until(lambda: _settled(harness), seconds=150, what=lambda: _report(harness), every=0.4)
        result.edits += sum(program.count for program in programs)
        _check(harness, programs, result)


def _report(harness: ChaosHarness) -> str:
    with harness.mirror.database.read() as tx:
        found = [each for each in commands.listed(tx) if each.state not in commands.FINAL]
    return f"{found} {harness.report()}"


def _installed(kind: str, folder: Path, results: Results, random: Random) -> AbstractContextManager[ChaosHarness]:
    systems: dict[str, dict[str, Any]] = {"dilovod": {"seed": 4, "options": OPTIONS}}
    return on(kind, folder, results=results, random=random, systems=systems)


KINDS = [
    "SQLite",
    pytest.param("Redis", marks=[pytest.mark.redis, pytest.mark.postgresql]),
    pytest.param("RabbitMQ", marks=[pytest.mark.rabbitmq, pytest.mark.postgresql, pytest.mark.xdist_group("rabbitmq")]),
]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_each_step_of_a_command_none_is_lost_or_sent_twice(
    kind: str, tmp_path: Path, results: Results, random: Random
) -> None:
    with _installed(kind, tmp_path, results, random) as harness:
        harness.start()
        with _commanding(harness, f"killed at each step of a command's way ({kind})") as result:
            for point in STEPS:
                if point is Point.COMMAND_READ_BACK:
                    harness.arm(Point.COMMAND_ANSWERED)  # so that there is something to read back
                harness.arm(point)
                _await(harness, point)
                result.times += 1


def _await(harness: ChaosHarness, point: Point) -> None:
    until(lambda: _is_passed(harness, point), seconds=150, what=lambda: f"{point} is reached: {_report(harness)}")
    harness.revive()
    harness.leases_run_out()


def _is_passed(harness: ChaosHarness, point: Point) -> bool:
    harness.revive()
    harness.leases_run_out()
    return harness.was_hit(point)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_no_command_is_lost_or_sent_twice(
    kind: str, tmp_path: Path, results: Results, random: Random
) -> None:
    with _installed(kind, tmp_path, results, random) as harness:
        harness.start()
        with _commanding(harness, f"a process killed at random ({kind})") as result:
            for _ in range(12):
                time.sleep(random.uniform(0.1, 1.5))
                harness.kill(random.choice(sorted(harness.running)))
                result.times += 1
                harness.revive()
                harness.leases_run_out()
