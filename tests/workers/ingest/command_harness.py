"""The sixth system with writes: what its connector has in addition, its vendor, and the harness of a connection."""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import commands, due
from tests.mirroring import table
from tests.serving import served
from tests.workers import sixth_connector, vendor_harness
from workers import configuration, context
from workers.commands import acceptance
from workers.commands.acceptance import Request as CommandRequest
from workers.queue import due_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from models.bookkeeping.commands import Command, State
    from models.db.database import Database

COMMANDS = """
from models.values import ObjectRef
from workers.connectors.commands import GONE, Action, Unique, Violation

_ID = {"type": "string", "pattern": "^[0-9]+$"}
_FIELDS = {"name": {"type": "string", "maxLength": 60}, "code": {}, "qty": {"type": "number"}}

def _schema(required, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}

def _shown(arguments, found):
    return {name: str(found.get(name)) for name in arguments if name != "id"}

def _check(arguments):
    return [Violation("qty", "is not negative")] if arguments.get("qty", 0) < 0 else []

def actions(options):
    goods = {"resource": "goods", "source": "the sixth vendor's document"}
    return (
        Action(
            "create", "Create a good.", _schema(["name"], **_FIELDS), {"name": "Nail"}, lambda _: None,
            creates=lambda _: "goods", check=_check,
            unique={"goods": {"name": Unique(("name",), appends=True, longest=60), "code": Unique(("code",))}}, **goods,
        ),
        Action(
            "update", "Change a good.", _schema(["id"], id=_ID, **_FIELDS), {"id": "1", "name": "Nail"},
            lambda arguments: ObjectRef("goods", arguments["id"]), check=_check,
            expected=lambda sent: {name: str(value) for name, value in sent.items() if name != "id"}, shown=_shown,
            needs_proof=lambda arguments: "code" in arguments, **goods,
        ),
        Action(
            "delete", "Delete a good and what belongs to it.", _schema(["id"], id=_ID), {"id": "1"},
            lambda arguments: ObjectRef("goods", arguments["id"]), expected=lambda _: GONE, may_change_others=True,
            **goods,
        ),
    )
"""

CLIENT = """
from workers.connectors.commands import GONE, Sent
from workers.errors import RefusedError, TryLater

def _request(action, arguments):
    fields = {name: value for name, value in arguments.items() if name != "id"}
    method = {"create": "POST", "update": "PUT", "delete": "DELETE"}[action.name]
    path = f"/{action.resource}/{arguments.get('id', '')}".rstrip("/")
    return {"method": method, "path": path, "json": fields}

class Client(Client):
    def preview(self, action, arguments):
        return self._http.preview(**_request(action, arguments))

    def send(self, action, arguments):
        reply = self._http.read(**_request(action, arguments))
        text = reply.body.decode()
        match reply.status:
            case 400:
                raise RefusedError(text)
            case 403:
                raise SetAside(text, whole_resource=True)
            case 409:
                raise BusyError(text)
            case 425:
                raise TryLater(text, closes_gate=False, refused=True)
            case 418:
                raise RuntimeError("a mistake of ours")
        answer = reply.json()
        return Sent(answer, ObjectRef(action.resource, str(answer["id"])))

    def read_back(self, action, arguments):
        reply = self._asked(f"/{action.resource}/{arguments['id']}")
        return GONE if reply.status == 404 else reply.json()["raw"]

    def find(self, action, arguments, path):
        query = {"field": path[0], "value": arguments[path[0]]}
        return self._http.read("GET", f"/find/{action.resource}", params=query).json()

    def also_changes(self, action, arguments):
        reply = self._asked(f"/parts/{arguments['id']}")
        if reply.status == 418:
            raise RuntimeError("a mistake of ours")
        return [ObjectRef("goods", key) for key in reply.json()]
"""

FILES = {
    **sixth_connector.FILES,
    "commands": COMMANDS,
    "options": sixth_connector.FILES["options"].replace("Connection", "TakesCommands"),
    "client": sixth_connector.FILES["client"] + CLIENT,
}


class Vendor(vendor_harness.Vendor):
    """Takes writes, too. `writes`: (method, path) of each that arrived, in their order.

    `faults`: what befalls the next writes, one each: "lost" (done, and the answer is an error), "failed" (not done,
    likewise), "half" (done, half an answer), "late" (done by `finish_late`, the answer is an error), "ignored"
    (answered as if it were done), or a status and a body without doing it. `parts`: key -> keys deleted with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[str, str]] = []
        self.faults: list[str | tuple[int, str]] = []
        self.parts: dict[str, list[str]] = {}
        self.late: list[Callable[[], object]] = []
        self._ids = itertools.count(100)
        writes = Route("/{resource}/{key}", self._write, methods=["PUT", "DELETE"])
        creations = Route("/{resource}", self._write, methods=["POST"])
        self.app.router.routes[:0] = [writes, creations, Route("/find/{resource}", self._find), self._parts_route]

    @property
    def _parts_route(self) -> Route:
        def parts(request: Request) -> Response:
            self.asked.append(request.url.path.strip("/"))
            return self._instead("parts") or Response(json.dumps(self.parts.get(request.path_params["key"], [])))

        return Route("/parts/{key}", parts)

    def finish_late(self) -> None:
        """Do the writes that were late."""
        while self.late:
            self.late.pop(0)()

    async def _write(self, request: Request) -> Response:
        return await run_in_threadpool(self._written, request, json.loads(await request.body() or b"null"))

    def _written(self, request: Request, fields: dict[str, Any]) -> Response:
        self.writes.append((request.method, request.url.path.strip("/")))
        happens = self.meanwhile.pop("write", None)
        if happens is not None:
            happens()
        resource, key = request.path_params["resource"], request.path_params.get("key") or str(next(self._ids))
        fault = self.faults.pop(0) if self.faults else ""
        if isinstance(fault, tuple):
            return Response(fault[1], fault[0])

        def do() -> None:
            objects = self.objects[resource]
            if request.method == "DELETE":
                for each in (key, *self.parts.get(key, [])):
                    objects.pop(each, None)
            else:
                objects[key] = objects.get(key, {}) | fields

        if fault == "late":
            self.late.append(do)
        elif fault not in {"failed", "ignored"}:
            do()
        if fault in {"lost", "failed", "late"}:
            return Response("out of order", 500)
        return Response(json.dumps({"id": int(key)})[: 3 if fault == "half" else None])

    def _find(self, request: Request) -> Response:
        field, value = request.query_params["field"], request.query_params["value"]
        self.asked.append(request.url.path.strip("/"))
        found = [key for key, raw in self.objects[request.path_params["resource"]].items() if raw.get(field) == value]
        return self._instead("find") or Response(json.dumps(found))


class CommandHarness(vendor_harness.BaseHarness[Vendor]):
    """A connection to the vendor, its mirror, and what a test does with both."""

    def send(self, action: str, key: str = "", **arguments: Any) -> int:
        """Accept one command; its id. `key`: of idempotency, by default one of its own."""
        key = key or f"key-{len(self.all())}"
        request = CommandRequest(action, "goods", arguments)
        new = acceptance.prepare(self.context, request, key=key, caller="192.0.2.1")
        return acceptance.store(self.context, new)[0].id

    def command(self, number: int) -> Command:
        with self.database.read() as tx:
            found = commands.get(tx, number)
        assert found is not None
        return found

    def all(self) -> list[Command]:
        with self.database.read() as tx:
            return commands.listed(tx)

    def command_state(self, number: int) -> State:
        return self.command(number).state

    def work(self) -> None:
        """Everything that is due, until the gate closes."""
        for _ in range(100):
            found = due.load(self.database)
            works = due_work.has_local_work if self.context.gate.account in found.closed else due_work.has_work
            short, long = works(self.context, found)
            if long:
                self.full_sync()
            if short:
                self.sync()
            if not (short or long):
                return
        raise AssertionError("there is always something due")

    def settle(self, *, minutes: float = 10) -> None:
        """Everything that is due, now and in each half minute until then."""
        for _ in range(int(minutes * 2) + 1):
            self.work()
            self.clock.advance(seconds=30)


@contextmanager
def connected(
    database: Database, folder: Path, *, unique: dict[str, str] | None = None, **options: Any
) -> Iterator[CommandHarness]:
    """The system's folder on the path, its vendor served, a connection `six` that allows every command."""
    put = folder / "systems"
    (put / "sixth").mkdir(parents=True)
    for name, text in FILES.items():
        (put / "sixth" / f"{name}.py").write_text(text, encoding="utf-8")
    clock, vendor = vendor_harness.Clock(), Vendor()
    database._clock = clock
    with vendor_harness.connectors_in(put), served(vendor.app) as url:
        allowed = {"commands": ["create", "update", "delete"], "kinds": json.dumps({"goods": {}})}
        file = folder / "erpmirror.toml"
        values = {"system": "sixth", "url": url, "api_key": "very-secret", **allowed, **options}
        fields = "".join(f'{resource} = "{field}"\n' for resource, field in (unique or {}).items())
        file.write_text(f"{table('six', values)}\n[connections.six.unique]\n{fields}", encoding="utf-8")
        six = CommandHarness(database, configuration.load(file), vendor, clock)
        vendor.objects["goods"] = {}
        context.sync_streams(database, six.settings)
        six.work()
        yield six
    assert [] == six.failures
