"""`POST /polls`: lets another program that knows of changes in an ERP have it polled now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import streams
from receiver.http.answers import AnswerResponse, Ok
from receiver.http.errors import ApiError
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from models.db.database import Database
    from models.settings.load import Settings


class Polls:
    """`/polls/{connection}[/{resource}]`. `wake` wakes a worker for the connection after the commit."""

    def __init__(self, settings: Settings, *, database: Database, wake: Callable[[str], None]) -> None:
        self._settings = settings
        self._database = database
        self._wake = wake

    @property
    def routes(self) -> list[Route]:
        """The route table."""
        return [
            Route("/polls/{connection}", self.poll, methods=["POST"]),
            Route("/polls/{connection}/{resource}", self.poll, methods=["POST"]),
        ]

    async def poll(self, request: Request) -> Response:
        """Make one resource or all of the connection's due now, and wake a worker."""
        connection, resource = request.path_params["connection"], request.path_params.get("resource")
        self._require_configured(connection, resource)
        await run_in_threadpool(self._make_due, connection, resource)
        self._wake(connection)
        return AnswerResponse(Ok(ok=True), 202)

    def _require_configured(self, connection: str, resource: str | None) -> None:
        """Raise `ApiError` for a connection or resource that is not configured."""
        options = self._settings.connections.get(connection)
        if options is None:
            raise ApiError(404, "unknown_connection", "no connection of this name is configured")
        configured = {known.name for known in discovery.systems()[options.system].resources(options)}
        if resource is not None and resource not in configured:
            raise ApiError(404, "unknown_resource", "this connection has no resource of this name; see resources")

    def _make_due(self, connection: str, resource: str | None) -> None:
        with self._database.begin() as tx:
            streams.poll_now(tx, connection=connection, resource=resource)
