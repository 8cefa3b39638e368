"""Documents for a vendor who reads them: kept before they are answered, asked for by their content's hash."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models import documents, exact, records
from models.settings import HandedIn
from receiver import forms
from receiver.refusals import Refusal
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from models.database import Database
    from models.documents import Handed
    from models.settings import Settings
    from receiver.forms import Part

_ENVELOPE = 16 * 2**10
"""Bytes that a form may have beside its file."""


class Documents:
    """`/documents/{connection}/{kind}[/{sha256}]`. `stored`: told the connection once a document is durable."""

    def __init__(self, settings: Settings, *, database: Database, stored: Callable[[str], None]) -> None:
        self._database = database
        self._stored = stored
        self._kinds = _kinds(settings)

    @property
    def routes(self) -> list[Route]:
        """The route table."""
        return [
            Route("/documents/{connection}/{kind}", self.take, methods=["POST"]),
            Route("/documents/{connection}/{kind}/{sha256}", self.show),
        ]

    async def take(self, request: Request) -> Response:
        """Keep one PDF: the part `file` of a multipart form, optionally with `order_id`. 202 once it is durable."""
        name, kind = request.path_params["connection"], request.path_params["kind"]
        options = self._known(name, kind)
        title, content, order = await _upload(request, largest=options.largest)
        try:
            handed = await run_in_threadpool(self._keep, name, kind, title, content, order)
        except (sa.exc.SQLAlchemyError, OSError):
            raise _not_durable("the database did not take it") from None
        self._stored(name)
        return JSONResponse({"document": handed.sha256, "new": handed.new}, status_code=202)

    async def show(self, request: Request) -> Response:
        """How a document stands, and what the vendor read in it."""
        name, kind = request.path_params["connection"], request.path_params["kind"]
        options = self._known(name, kind)
        sha256 = request.path_params["sha256"]
        shown = None
        if re.fullmatch("[0-9a-f]{64}", sha256):
            shown = await run_in_threadpool(self._shown, options, kind, sha256)
        if shown is None:
            raise Refusal(404, "unknown_document", "no such document was handed in here; its name is its sha256")
        return Response(exact.dumps(shown), media_type="application/json")

    def _known(self, name: str, kind: str) -> HandedIn:
        if name not in self._kinds:
            raise Refusal(404, "unknown_connection", "no connection of this name takes documents")
        options, kinds = self._kinds[name]
        if kind not in kinds:
            raise Refusal(404, "unknown_kind", "this connection takes no documents of this kind; see resources")
        return options

    def _keep(self, name: str, kind: str, title: str, content: bytes, order: str | None) -> Handed:
        with self._database.begin() as connection:
            return documents.hand_in(
                connection,
                connection_name=name,
                kind=kind,
                name=title,
                content=content,
                order=order,
            )

    def _shown(self, options: HandedIn, kind: str, sha256: str) -> dict[str, Any] | None:
        target = records.Target(options.name, options.system, kind)
        with self._database.read() as connection:
            standing = documents.get(connection, connection_name=options.name, kind=kind, sha256=sha256)
            if standing is None:
                return None
            result = documents.result(connection, target, sha256)
        moments = {each: getattr(standing, each) for each in ("received_at", "sent_at", "answered_at")}
        return {
            "document": sha256,
            "connection": options.name,
            "kind": kind,
            "name": standing.name,
            "order_id": standing.order,
            "size": standing.size,
            "state": standing.state.value,
            "reason": standing.reason,
            **{each: None if moment is None else moment.isoformat() for each, moment in moments.items()},
            "result": result,
        }


def _kinds(settings: Settings) -> dict[str, tuple[HandedIn, set[str]]]:
    """Connection -> its options and the kinds of documents that it takes."""
    found = {}
    for name, options in settings.connections.items():
        if isinstance(options, HandedIn):
            resources = discovery.systems()[options.system].resources(options)
            found[name] = options, {resource.name for resource in resources if resource.handed_in}
    return found


async def _upload(request: Request, *, largest: int) -> tuple[str, bytes, str | None]:
    """The one file of the form, its name, and the order that was named with it."""
    parts = await forms.parts(request, largest=largest + _ENVELOPE)
    files = [part for part in parts if part.name == "file"]
    if len(files) != 1 or files[0].filename is None:
        raise forms.malformed("exactly one part `file`, with a file name, belongs into the form")
    content = bytes(files[0].content)
    if len(content) > largest:
        raise forms.too_large(largest)
    if not documents.is_pdf(content):
        raise forms.malformed("this is not a PDF: it does not begin with %PDF-")
    # Some senders tell their whole path.
    name = PureWindowsPath(files[0].filename).name or "document.pdf"
    return name, content, _order([part for part in parts if part.name == "order_id"])


def _order(given: list[Part]) -> str | None:
    if len(given) > 1 or any(part.filename is not None for part in given):
        raise forms.malformed("order_id is one text")
    order = given[0].text.strip() if given else ""
    if len(order) > documents.LONGEST_ORDER or not order.isprintable():
        raise forms.malformed(f"order_id is one line of at most {documents.LONGEST_ORDER} characters")
    return order or None


def _not_durable(why: str) -> Refusal:
    message = f"{why}; hand it in again later, it is still one document"
    return Refusal(503, "not_durable", message, headers={"Retry-After": "5"})
