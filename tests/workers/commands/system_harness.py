"""A sandbox of each system that takes commands, its mirror, and commands to it under a clock that the test moves."""

from __future__ import annotations

import importlib
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from models import exact
from models.bookkeeping import commands, due
from models.bookkeeping.commands import State
from tests.mirroring import table
from tests.serving import served
from tests.workers.vendor_harness import BaseHarness, Clock
from workers import configuration, context
from workers.commands import acceptance
from workers.commands.acceptance import Request
from workers.connectors import discovery
from workers.connectors.commands import GONE, value_at
from workers.connectors.wisedat import command_table
from workers.demo.compare import compare
from workers.queue import due_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from enum import StrEnum
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from models.bookkeeping.commands import Command
    from models.db.database import Database
    from models.values import JsonObject
    from workers.connectors.commands import Action
    from workers.connectors.contract import Connection

SYSTEMS = [name for name, system in discovery.systems().items() if system.actions is not None]


@cache
def options_of(name: str) -> Connection:
    """A connection with the settings of the system's sandbox; it is not served."""
    system = discovery.systems()[name]
    settings = system.sandbox().state.sandbox.settings()
    return system.options.model_validate({"name": name, "url": "http://localhost", **settings})


@cache
def actions_of(name: str) -> tuple[Action, ...]:
    """Every action of the system."""
    declared = discovery.systems()[name].actions
    assert declared is not None
    return declared(options_of(name))


def faults_of(name: str) -> list[StrEnum]:
    """What may become of a write at the system's sandbox."""
    return list(importlib.import_module(f"workers.connectors.{name}.sandbox_writes").WriteFault)


# What is sent.


@dataclass(frozen=True)
class Sample:
    """Arguments of an action: its example, or others of which `about` tells what they do."""

    action: Action
    arguments: JsonObject
    about: str = ""

    @property
    def name(self) -> str:
        return f"{self.action.full_name} {self.about}".strip()

    @property
    def creates(self) -> str | None:
        return self.action.creates(self.arguments)

    @property
    def deletes(self) -> bool:
        return self.action.expected is not None and self.action.expected(self.arguments) is GONE

    @property
    def resource(self) -> str:
        """The resource that it writes."""
        ref = self.action.subject(self.arguments)
        return self.creates or (ref.resource if ref is not None else "")

    @property
    def hidden(self) -> set[str]:
        """What reads do not show of the object."""
        return _HIDDEN.get(self.action.full_name, set()) & self.arguments.keys()


def samples(name: str, sandbox: Any) -> list[Sample]:
    """Each action's example, and more where one action does several things, about objects that the sandbox has."""
    found = []
    for action in actions_of(name):
        changed = _CHANGED.get(action.full_name)
        found.append(Sample(action, changed(action.example, sandbox) if changed else action.example))
        more = _MORE.get(action.full_name, {})
        found += [Sample(action, made(sandbox), about) for about, made in more.items()]
    return found


def _ordering_what_there_is(example: JsonObject, sandbox: Any) -> JsonObject:
    good = min(sandbox.truth("catalogs.goods"))
    return example | {"goods": [row | {"good": good} for row in example["goods"]]}


def _good(sandbox: Any) -> JsonObject:
    return {"header": {"id": min(sandbox.truth("catalogs.goods")), "productNum": "77-1"}}


def _posted_order(sandbox: Any) -> JsonObject:
    rows = [{"good": min(sandbox.truth("catalogs.goods")), "qty": 3, "price": "12.5"}]
    header = {"id": min(sandbox.truth("documents.saleOrder")), "remark": "call first"}
    return {"saveType": 1, "header": header, "tableParts": {"tpGoods": rows}}


def _price(sandbox: Any) -> JsonObject:
    shown = min(sandbox.truth("informationRegisters.goodsPrices").values(), key=str)
    place = {name: shown[name] for name in ("good", "priceType", "currency")}
    return {"header": {"id": "informationRegisters.goodsPrices", "price": "17.25", **place}}


def _product(sandbox: Any) -> JsonObject:
    return {"id": int(max(sandbox.truth("products"))), "price": 7, "notes": "Frágil"}


_CHANGED: dict[str, Callable[[JsonObject, Any], JsonObject]] = {
    "saleOrderCreate": _ordering_what_there_is,
    # The example of `update:customers`, which is sent before, sets the same address.
    "update:customeraddresses": lambda example, _: example | {"street": "Rua Nova, 5"},
}
"""Examples that name what the sandbox lacks, or that change nothing after the ones before them."""

_MORE: dict[str, dict[str, Callable[[Any], JsonObject]]] = {
    "saveObject": {"that updates": _good, "with rows": _posted_order, "of a register": _price},
    "update:products": {"without a warehouse": _product},
}
"""Arguments beside an action's example, made of what the sandbox has."""

_HIDDEN = {"update:products": {"warehouse"}}
"""Fields that no read shows (Wisedat API 1.3, Products, Get): whether they arrived is not known."""


# How it is sent.

_AT_MOST = timedelta(hours=12)
"""Longer than a command is tried at a vendor that stays busy."""


@dataclass(frozen=True)
class Variant:
    """A way in which commands are sent to a system.

    - `knobs`: of the sandbox
    - `unique`: which one of the fields that find a new object again is set; None: none is
    - `wanted`: the commands that this way is about
    - `before_fault`: how many writes of a command arrive before the one with a fault
    - `faults`: names of those that make a difference here; empty: all
    """

    system: str
    about: str
    knobs: dict[str, Any] = field(default_factory=dict)
    unique: int | None = 0
    wanted: Callable[[Sample], bool] = lambda _: True
    before_fault: int = 0
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.system}-{self.about}"


def _is_spelled_in_two_ways(sample: Sample) -> bool:
    return len(command_table.spellings(sample.action.name, str(sample.action.resource))) > 1


def _is_creation(sample: Sample) -> bool:
    return sample.creates is not None


_NOT_UNIQUE = Variant("", "not-unique", unique=None, wanted=_is_creation, faults=("LOST_BEFORE", "LOST_AFTER"))
_PLURAL = Variant("wisedat", "plural", {"spelling": "plural"}, unique=-1, wanted=_is_spelled_in_two_ways)
"""The address is first spelled in a way that the server does not know: nothing is done there, whatever is lost."""

VARIANTS = [
    *(Variant(system, "unique") for system in SYSTEMS),
    *(replace(_NOT_UNIQUE, system=system) for system in SYSTEMS),
    replace(_PLURAL, faults=("BUSY", "LOST_AFTER", "HALF", "DOUBLED")),
    replace(_PLURAL, about="plural-second", before_fault=1),
]


def _unique_fields(name: str, number: int) -> dict[str, str]:
    """By resource, one of the fields that find what the actions' examples create."""
    chosen = {}
    for action in actions_of(name):
        created = action.creates(action.example) or ""
        fields = [
            field
            for field, each in action.unique.get(created, {}).items()
            if each.appends or value_at(action.example, each.path) is not None
        ]
        if fields:
            chosen[created] = fields[number]
    return chosen


class Door:
    """An ASGI app before the sandbox that counts the requests inside, also those whose client has left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_request = scope["type"] == "http"
        self.inside += is_request
        try:
            await self._app(scope, receive, send)
        finally:
            self.inside -= is_request


@dataclass(frozen=True, repr=False)
class Outcome:
    """What became of one command.

    - `arrived`: how many of its writes reached the vendor; `executed`: how many of them it did
    - `met`: one of them met the fault; `done_then`: and was done all the same
    - `created`: keys that the vendor has since; `changed`: it shows something else of the resource than before
    - `took`: by the test's clock
    """

    command: Command
    arrived: int
    executed: int
    met: bool
    done_then: bool
    created: frozenset[str]
    changed: bool
    took: timedelta

    def __repr__(self) -> str:
        told = f"{self.command.state}: {self.command.reason}"
        return f"{told}; {self.executed} of {self.arrived} executed, {self.met=} {self.changed=} {[*self.created]}"


@dataclass(frozen=True)
class SystemHarness(BaseHarness[Any]):
    """A connection to a system's sandbox (`vendor`), its mirror, and commands."""

    door: Door = field(kw_only=True)

    @cached_property
    def context(self) -> context.ConnectionContext:
        """Made once: it declares every action anew."""
        return context.connection_context(self.database, self.settings, self.name)

    def samples(self) -> list[Sample]:
        return samples(self.name, self.vendor)

    def about_what_there_is(self, sample: Sample, created: dict[str, str]) -> Sample:
        """The sample; a deletion is of what was created (its key, by resource), because nothing uses that yet."""
        if not sample.deletes or "id" not in sample.arguments:
            return sample
        if sample.resource not in created:
            creation = next(each for each in self.samples() if each.creates == sample.resource)
            (created[sample.resource],) = self.send(creation).created
        key = created.pop(sample.resource)
        is_number = isinstance(sample.arguments["id"], int)
        return replace(sample, arguments=sample.arguments | {"id": int(key) if is_number else key})

    def send(self, sample: Sample, faults: Sequence[StrEnum | None] = ()) -> Outcome:
        """Have a command sent whose writes meet these faults, and let time pass until nothing more happens to it."""
        vendor, began, number = self.vendor, self.clock.now, len(self.vendor.writes)
        before = vendor.truth(sample.resource)
        vendor.write_faults.extend(faults)
        command = self._accept(sample, key=str(number))
        self.rest()
        while not self._is_settled(command, number):
            assert self.clock.now < began + _AT_MOST, f"still {self.command(command)}"
            self.clock.now = self._next_due()
            self.rest()
        is_met = bool(faults) and len(vendor.write_faults) < len(faults) and not vendor.write_faults
        vendor.write_faults.clear()
        writes, after = vendor.writes[number:], vendor.truth(sample.resource)
        return Outcome(
            self.command(command),
            arrived=len(writes),
            executed=sum(each.executed for each in writes),
            met=is_met,
            done_then=is_met and writes[len(faults) - 1].executed,
            created=frozenset(after.keys() - before.keys()),
            changed=exact.canonical(before) != exact.canonical(after),
            took=self.clock.now - began,
        )

    def _accept(self, sample: Sample, *, key: str) -> int:
        request = Request(sample.action.name, sample.action.resource, sample.arguments)
        new = acceptance.prepare(self.context, request, key=key, caller="192.0.2.1")
        return acceptance.store(self.context, new)[0].id

    def command(self, number: int) -> Command:
        with self.database.read() as tx:
            found = commands.get(tx, number)
        assert found is not None
        return found

    def _is_settled(self, command: int, number: int) -> bool:
        """Whether nothing more happens to it.

        The vendor first ends what it is at, because minutes may pass now; but not before a first look at a command that
        may have arrived, which is a second later.
        """
        found = self.command(command)
        if found.state is State.UNCERTAIN and found.due_at is not None and found.unchanged_at is None:
            return False
        while self.door.inside or (found.attempts and len(self.vendor.writes) == number):  # the client did not wait
            time.sleep(0.001)
        return found.state in commands.FINAL or found.waits_for_person

    def rest(self) -> None:
        """Do what is due. Time passes only while the gate is closed, whatever the vendor is still at."""
        while True:
            self.sync()
            found = due.load(self.database)
            short, long = due_work.has_work(self.context, found)
            if not short and not long:
                return
            if self.context.gate.account in found.closed:
                self.clock.now = self._next_due()
            elif long:
                self.full_sync()

    def defer_schedules(self) -> None:
        """Have nothing polled or listed for a year, so that the mirror follows only what commands have fetched."""
        later = self.clock.now + timedelta(days=365)
        for resource in self.context.resources:
            self.change(resource, due_at=later, full_due_at=later)

    def let_a_minute_pass(self) -> None:
        """After it a second listing confirms what one lacked."""
        self.clock.advance(minutes=1)
        self.rest()

    def list_all(self, resources: Iterable[str]) -> None:
        """Have a full sync of these resources."""
        for resource in resources:
            self.change(resource, full_due_at=self.clock.now)
        self.rest()

    def differences(self) -> dict[str, tuple[str, ...]]:
        """Resource -> keys, of those that differ."""
        rows = compare(self.database, [self.context], {self.name: self.vendor})
        return {row.resource: row.differences for row in rows if row.differences}


@contextmanager
def connected(
    database: Database, folder: Path, variant: Variant, *, timeout: timedelta | None = None
) -> Iterator[SystemHarness]:
    """The system's sandbox served, and a connection that allows every command and mirrors what they write."""
    name, clock = variant.system, Clock()
    database._clock = clock
    app = discovery.systems()[name].sandbox(now=clock, objects=2, **variant.knobs)
    sandbox, door = app.state.sandbox, Door(app)
    with served(door, date_header=False) as url:
        values = sandbox.settings() | {"url": url}
        values["resources"] = sorted({each.resource for each in samples(name, sandbox) if variant.wanted(each)})
        values["commands"] = sorted({each.name for each in actions_of(name)})
        values["unique"] = {} if variant.unique is None else _unique_fields(name, variant.unique)
        file = folder / "erpmirror.toml"
        file.write_text(table(name, values), encoding="utf-8")
        settings = configuration.load(file)
        if timeout is not None:  # shorter than the settings take
            options = settings.connections[name].model_copy(update={"timeout": timeout})
            settings = replace(settings, connections={name: options})
        harness = SystemHarness(database, settings, sandbox, clock, name, door=door)
        context.sync_streams(database, settings)
        harness.rest()
        harness.defer_schedules()
        yield harness
