"""A system that reads documents: its connector, its vendor, simulated by the test, and the harness of a connection."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import documents
from models.db import tables
from tests.mirroring import table
from tests.serving import served
from tests.workers import vendor_harness
from workers import configuration, context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from models.bookkeeping.documents import DocumentRow, StoredDocument
    from models.db.database import Database

KIND = "deliverynote"

FILES = {
    "__init__": '"""A system that reads documents."""\n',
    "options": """
from datetime import timedelta
from workers.connectors.contract import Duration, Secret, TakesDocuments, Url

class Options(TakesDocuments):
    url: Url
    api_key: Secret
    resources: tuple[str, ...] = ("deliverynote", "invoice")
    every: Duration = timedelta(seconds=10)

    def login(self):
        return (self.api_key.get_secret_value(),)
""",
    "resources": """
from workers.connectors.contract import Resource

def resources(options):
    common = {"full_every": options.every, "bound": options.every, "fetchable": False, "handed_in": True}
    return tuple(Resource(name, **common) for name in options.resources)
""",
    "client": """
from models.values import Snapshot
from workers.connectors.http import Http
from workers.errors import NotForUs, SetAside

class Killed(BaseException):
    pass

class Client:
    def __init__(self, options, runtime):
        self._http = Http(runtime, base_url=options.url, timeout=options.timeout, route=options.route)

    def close(self):
        self._http.close()

    def interpret(self, resource, document):
        order = {} if document.order_id is None else {"order_id": document.order_id}
        file = {"file": (document.name, document.content, "application/pdf")}
        reply = self._http.read("POST", f"/{resource.name}", files=file, data=order)
        text = reply.body.decode()
        match reply.status:
            case 400:
                raise SetAside(text)
            case 401:
                raise SetAside(text, whole_resource=True)
            case 410:
                raise NotForUs(text)
        found = reply.json()
        if "kill" in found:
            raise Killed
        if "crash" in found:
            raise RuntimeError("a mistake of ours")
        if "misread" in found:
            raise TypeError("not what we were written for")
        return Snapshot(document.sha256, found)
""",
}


def pdf(text: str = "one", *, end: bytes = b"%%EOF\n") -> bytes:
    """A PDF, as far as erpmirror and the test's vendor read one."""
    return b"%PDF-1.7\n" + text.encode() + b"\n" + end


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Vendor:
    """Reads documents. `received`: (kind, sha256, order) of each that arrived.

    `instead`: answers (status, headers, body) that come first, one each. `meanwhile`: what happens, once, while a
    document is being read. `busy`: set while one is being interpreted; `may_answer`: the answer waits for it.
    """

    def __init__(self) -> None:
        self.received: list[tuple[str, str, str | None]] = []
        self.instead: list[tuple[int, dict[str, str], str]] = []
        self.meanwhile: Callable[[], None] | None = None
        self.busy = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.app = Starlette(routes=[Route("/{kind}", self._take, methods=["POST"])])

    @property
    def keys(self) -> list[str]:
        return [key for _, key, _ in self.received]

    async def _take(self, request: Request) -> Response:
        async with request.form() as form:
            file, order = form["file"], form.get("order_id")
            assert isinstance(file, UploadFile)
            assert not isinstance(order, UploadFile)
            return await run_in_threadpool(self._read, request.path_params["kind"], await file.read(), order)

    def _read(self, kind: str, content: bytes, order: str | None) -> Response:
        self.received.append((kind, sha256(content), order))
        status, headers, body = self.instead.pop(0) if self.instead else (200, {}, json.dumps(interpretation(content)))
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            happens()
        self.busy.set()
        self.may_answer.wait(30)
        return Response(body, status, headers)


def interpretation(content: bytes) -> dict[str, Any]:
    """What the vendor reads in a document."""
    text = content.decode().splitlines()[1]
    return {"supplierName": text, "orderValue": 12.5, "articles": [{"articleId": "007"}, {"articleId": "8"}]}


class DocumentHarness(vendor_harness.BaseHarness[Vendor]):
    """A connection to the vendor, its mirror, and what a test does with both."""

    def hand_in(
        self, content: bytes, *, kind: str = KIND, order: str | None = None, name: str = "a.pdf"
    ) -> StoredDocument:
        with self.database.begin() as tx:
            return documents.hand_in(
                tx,
                connection=self.name,
                kind=kind,
                name=name,
                content=content,
                order_id=order,
            )

    def document_row(self, content: bytes, kind: str = KIND) -> DocumentRow | None:
        with self.database.read() as tx:
            return documents.get(tx, connection=self.name, kind=kind, sha256=sha256(content))

    def state(self, content: bytes, kind: str = KIND) -> str | None:
        found = self.document_row(content, kind)
        return None if found is None else found.state.value

    def reason(self, content: bytes) -> str:
        found = self.document_row(content)
        assert found is not None
        return found.reason or ""

    def settle(self) -> None:
        """Everything that is due, now and whenever a lease has run out."""
        self.work()
        self.clock.advance(minutes=10)
        self.work()

    def count(self, name: str) -> int:
        with self.database.read() as tx:
            return tx.execute(
                sa.select(sa.func.count()).select_from(tables.metadata.tables[f"erpmirror_{name}"])
            ).scalar_one()


@contextmanager
def connected(database: Database, folder: Path, *, url: str | None = None, **options: Any) -> Iterator[DocumentHarness]:
    """The system's folder on the path, its vendor served, a connection `six` configured. `url`: a way to the vendor."""
    put = folder / "systems"
    (put / "sixth").mkdir(parents=True)
    for name, text in FILES.items():
        (put / "sixth" / f"{name}.py").write_text(text, encoding="utf-8")
    clock, vendor = vendor_harness.Clock(), Vendor()
    database._clock = clock
    with vendor_harness.connectors_in(put), served(vendor.app) as address:
        file = folder / "erpmirror.toml"
        values = {"system": "sixth", "url": url or address, "api_key": "very-secret", **options}
        file.write_text(table("six", values), encoding="utf-8")
        six = DocumentHarness(database, configuration.load(file), vendor, clock)
        context.sync_streams(database, six.settings)
        yield six
    assert [] == six.failures
