"""The vendors that commands write to: a sandbox in a process of its own, the writes, and a bare client that makes them.

The bare client is what a program has without us: one HTTP connection, kept open, one request after the other, the
same requests as ours, nothing stored and nothing checked.
"""

from __future__ import annotations

import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx

from tests.serving import served
from workers.connectors import discovery
from workers.connectors.dilovod import answers, writes
from workers.connectors.wisedat import command_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from models.values import JsonObject

_TOKEN = "a-token-for-benchmarks"


@dataclass(frozen=True, slots=True)
class Write:
    """One kind of write. `resource`: of the object it writes. `request`: the object's key and a number -> the command.

    A creation gets the key of an object that the new one refers to.
    """

    name: str
    resource: str
    request: Callable[[str, int], JsonObject]


class Bare(ABC):
    """A program that calls the vendor directly."""

    def __init__(self, url: str, **headers: str) -> None:
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    @abstractmethod
    def write(self, command: JsonObject, key: str) -> str:
        """Make the one request; returns the key of the object that was written."""

    @abstractmethod
    def read(self, resource: str, key: str) -> None:
        """Read the object by as many requests as show what the mirror has of it; a deleted one may be gone."""


class _BareDilovod(Bare):
    def write(self, command: JsonObject, key: str) -> str:
        answer = self._call(*writes.request_of(command["action"], command["arguments"]))
        return answers.written_id(answer) or key

    def read(self, resource: str, key: str) -> None:  # noqa: ARG002 - an id alone names an object
        self._call("getObject", {"id": key})

    def _call(self, action: str, params: JsonObject) -> Any:
        packet = {"version": "0.25", "key": "sandbox-key", "action": action, "params": params}
        answer = self._http.post("/", json=packet).raise_for_status().json()
        if isinstance(answer, dict) and answer.keys() & {"error", "errorMessage"}:
            raise RuntimeError(f"{action}: {answer}")
        return answer


class _BareWisedat(Bare):
    def __init__(self, url: str) -> None:
        super().__init__(url, Authorization=f"Bearer {_TOKEN}")

    def write(self, command: JsonObject, key: str) -> str:
        verb, given = command["action"], command["arguments"]
        path = command_table.spellings(verb, command["resource"])[0]
        sent: dict[str, Any] = {"params": given} if verb == command_table.DELETE else {"json": given}
        answer = self._http.request(command_table.METHODS[verb], f"/{path}", **sent).raise_for_status()
        return str(answer.json()["id"]) if verb == command_table.CREATE else key

    def read(self, resource: str, key: str) -> None:
        self._http.get(f"/{resource}", params={"id": key})
        if resource == "customers":
            self._http.get("/customeraddresses", params={"customer": key})


@dataclass(frozen=True, slots=True)
class System:
    """A vendor as this benchmark uses it.

    `writes`: a creation, a change, a deletion; the deletion is of what was created. `settings`: the connection's, in
    addition to the sandbox's. `arrived`: the sandbox -> the key and the fate of each write that has reached it.
    """

    writes: tuple[Write, Write, Write]
    settings: dict[str, Any]
    bare: Callable[[str], Bare]
    arrived: Callable[[Any], list[tuple[str, bool]]]


def _sale_order(person: str, number: int) -> JsonObject:
    arguments = {
        "header": {"person": person, "remarkFromPerson": f"number {number}"},
        "goods": [{"productNum": "007", "qty": 1 + number % 9}],
    }
    return {"action": "saleOrderCreate", "arguments": arguments}


def _person(person: str, number: int) -> JsonObject:
    return {"action": "saveObject", "arguments": {"header": {"id": person, "details": f"number {number}"}}}


def _mark(order: str, _: int) -> JsonObject:
    return {"action": "setDelMark", "arguments": {"id": order}}


def _order(customer: str, number: int) -> JsonObject:
    arguments = {
        "customer": int(customer),
        "date": "2026-06-01",
        "expiration_date": "2026-07-01",
        "series": "2026",
        "your_reference": f"number {number}",
        "items": [{"type": 1, "id": 101, "quantity": 1 + number % 9}],
    }
    return {"action": "create", "resource": "orders", "arguments": arguments}


def _customer(customer: str, number: int) -> JsonObject:
    arguments = {"id": int(customer), "notes": f"number {number}"}
    return {"action": "update", "resource": "customers", "arguments": arguments}


def _cancel(order: str, _: int) -> JsonObject:
    return {"action": "delete", "resource": "orders", "arguments": {"id": order}}


SYSTEMS = {
    "dilovod": System(
        (
            Write("saleOrderCreate", "documents.saleOrder", _sale_order),
            Write("saveObject", "catalogs.persons", _person),
            Write("setDelMark", "documents.saleOrder", _mark),
        ),
        {"commands": ["saleOrderCreate", "saveObject", "setDelMark"], "reconcile_every": "24h"},
        _BareDilovod,
        lambda sandbox: [(each.made or each.about, each.executed) for each in sandbox.writes],
    ),
    "wisedat": System(
        (
            Write("create order", "orders", _order),
            Write("update customer", "customers", _customer),
            Write("delete order", "orders", _cancel),
        ),
        {"commands": ["create:orders", "update:customers", "delete:orders"]},
        _BareWisedat,
        lambda sandbox: [(each.id, each.executed) for each in sandbox.writes],
    ),
}


@dataclass(frozen=True, slots=True)
class Vendor:
    """A sandbox in a process of its own; to `compare` it is a sandbox."""

    url: str
    settings: dict[str, Any]
    _pipe: Connection

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The objects of a resource as the mirror must show them."""
        return self._ask("truth", resource)  # type: ignore[no-any-return]

    def arrived(self) -> list[tuple[str, bool]]:
        """Each write that has reached the sandbox: the object's key, and whether it was done."""
        return self._ask("arrived")  # type: ignore[no-any-return]

    def answer_after(self, seconds: float) -> None:
        """Let each answer take so long from now on."""
        self._ask("latency", seconds)

    def _ask(self, *question: str | float) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()


@contextmanager
def vendor(system: str, *, objects: int) -> Iterator[Vendor]:
    """A sandbox that answers at once, with so many objects of each kind."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, system, objects), daemon=True)
    process.start()
    try:
        url, settings = here.recv()
        yield Vendor(url, settings, here)
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection, system: str, objects: int) -> None:
    app = discovery.systems()[system].sandbox(objects=objects)
    sandbox = app.state.sandbox
    if system == "wisedat":
        sandbox.largest_page = None
        sandbox._tokens[_TOKEN] = sandbox.now() + timedelta(days=1)
    with served(app) as url:
        pipe.send((url, sandbox.settings()))
        while True:
            match pipe.recv():
                case ("truth", resource):
                    pipe.send(sandbox.truth(resource))
                case ("arrived",):
                    with sandbox.lock:
                        pipe.send(SYSTEMS[system].arrived(sandbox))
                case ("latency", seconds):
                    sandbox.latency = seconds
                    pipe.send(None)
