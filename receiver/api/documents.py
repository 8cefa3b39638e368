"""`/documents`: PDFs for a vendor that interprets them, stored before the response. A document's id is its hash."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import sqlalchemy as sa
from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import documents
from models.bookkeeping.documents import State
from models.mirror import queries
from models.mirror.target import Target
from models.settings.connections import TakesDocuments
from receiver.http import body, multipart
from receiver.http.answers import Answer, AnswerResponse, Count, Object, Sha256, Text, Timestamp, iso
from receiver.http.errors import ApiError
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from models.bookkeeping.documents import StoredDocument
    from models.db.database import Database
    from models.settings.load import Settings
    from receiver.http.multipart import Part

_FORM_OVERHEAD = 16 * 2**10
"""Bytes of a form beside its file."""


class Receipt(Answer, frozen=True):
    """A document that was stored. The same content is one document, `new` only the first time."""

    document: Sha256
    new: bool


class DocumentStatus(Answer, frozen=True):
    """A document's state, and the vendor's interpretation of it."""

    document: Sha256
    connection: Text
    kind: Text
    name: Text
    order_id: str | None
    size: Count
    state: State
    reason: str | None
    received_at: Timestamp
    sent_at: Timestamp | None
    answered_at: Timestamp | None
    result: Annotated[Object | None, Meta(description="The vendor's interpretation.")]


class Documents:
    """`/documents/{connection}/{kind}[/{sha256}]`. `wake` wakes a worker for the connection after the commit."""

    def __init__(self, settings: Settings, *, database: Database, wake: Callable[[str], None]) -> None:
        self._database = database
        self._wake = wake
        self._kinds = _kinds(settings)

    @property
    def routes(self) -> list[Route]:
        """The route table."""
        return [
            Route("/documents/{connection}/{kind}", self.hand_in, methods=["POST"]),
            Route("/documents/{connection}/{kind}/{sha256}", self.show),
        ]

    async def hand_in(self, request: Request) -> Response:
        """Store one PDF: the part `file` of a multipart form, with an optional `order_id`. 202 once it is durable."""
        connection, kind = request.path_params["connection"], request.path_params["kind"]
        options = self._options(connection, kind)
        name, content, order_id = await _read_form(request, largest=options.largest)
        try:
            stored = await run_in_threadpool(self._store, connection, kind, name, content, order_id)
        except (sa.exc.SQLAlchemyError, OSError):
            raise _not_durable("the database did not take it") from None
        self._wake(connection)
        return AnswerResponse(Receipt(document=stored.sha256, new=stored.new), 202)

    async def show(self, request: Request) -> Response:
        """The status of one document."""
        connection, kind = request.path_params["connection"], request.path_params["kind"]
        options = self._options(connection, kind)
        sha256 = request.path_params["sha256"]
        status = None
        if re.fullmatch("[0-9a-f]{64}", sha256):
            status = await run_in_threadpool(self._status, options, kind, sha256)
        if status is None:
            raise ApiError(404, "unknown_document", "no such document was handed in here; its name is its sha256")
        return AnswerResponse(status)

    def _options(self, connection: str, kind: str) -> TakesDocuments:
        if connection not in self._kinds:
            raise ApiError(404, "unknown_connection", "no connection of this name takes documents")
        options, kinds = self._kinds[connection]
        if kind not in kinds:
            raise ApiError(404, "unknown_kind", "this connection takes no documents of this kind; see resources")
        return options

    def _store(self, connection: str, kind: str, name: str, content: bytes, order_id: str | None) -> StoredDocument:
        with self._database.begin() as tx:
            return documents.hand_in(
                tx, connection=connection, kind=kind, name=name, content=content, order_id=order_id
            )

    def _status(self, options: TakesDocuments, kind: str, sha256: str) -> DocumentStatus | None:
        target = Target(options.name, options.system, kind)
        with self._database.read() as tx:
            found = documents.get(tx, connection=options.name, kind=kind, sha256=sha256)
            if found is None:
                return None
            result = queries.raw_of(tx, target, sha256)
        return DocumentStatus(
            document=sha256,
            connection=options.name,
            kind=kind,
            name=found.name,
            order_id=found.order_id,
            size=found.size,
            state=found.state,
            reason=found.reason,
            received_at=found.received_at.isoformat(),
            sent_at=iso(found.sent_at),
            answered_at=iso(found.answered_at),
            result=result,
        )


def _kinds(settings: Settings) -> dict[str, tuple[TakesDocuments, set[str]]]:
    """Connection -> its options and the kinds of documents that it takes."""
    found = {}
    for name, options in settings.connections.items():
        if isinstance(options, TakesDocuments):
            resources = discovery.systems()[options.system].resources(options)
            found[name] = options, {resource.name for resource in resources if resource.handed_in}
    return found


async def _read_form(request: Request, *, largest: int) -> tuple[str, bytes, str | None]:
    """The form's one file: its name, its content, and the order id that was given with it."""
    parts = await multipart.read(request, largest=largest + _FORM_OVERHEAD)
    files = [part for part in parts if part.name == "file"]
    if len(files) != 1 or files[0].filename is None:
        raise multipart.malformed("exactly one part `file`, with a file name, belongs into the form")
    content = bytes(files[0].content)
    if len(content) > largest:
        raise body.too_large(largest)
    if not documents.is_pdf(content):
        raise multipart.malformed(f"this is not a PDF: {documents.NO_PDF}")
    return files[0].filename or "document.pdf", content, _order_id([part for part in parts if part.name == "order_id"])


def _order_id(given: list[Part]) -> str | None:
    if len(given) > 1 or any(part.filename is not None for part in given):
        raise multipart.malformed("order_id is one text")
    order_id = given[0].text.strip() if given else ""
    if len(order_id) > documents.MAX_ORDER_ID_LENGTH or not order_id.isprintable():
        raise multipart.malformed(f"order_id is one line of at most {documents.MAX_ORDER_ID_LENGTH} characters")
    return order_id or None


def _not_durable(why: str) -> ApiError:
    message = f"{why}; hand it in again later, it is still one document"
    return ApiError(503, "not_durable", message, headers={"Retry-After": "5"})
