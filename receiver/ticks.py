"""Look now: somebody knows that an ERP has news and does not want to wait for the schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models import streams
from receiver.refusals import Refusal
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from models.database import Database
    from models.settings import Settings


class Ticks:
    """`/ticks/{connection}[/{resource}]`. `marked`: told the connection once its resources are due."""

    def __init__(self, settings: Settings, *, database: Database, marked: Callable[[str], None]) -> None:
        self._settings = settings
        self._database = database
        self._marked = marked

    @property
    def routes(self) -> list[Route]:
        """The route table."""
        return [
            Route("/ticks/{connection}", self.look, methods=["POST"]),
            Route("/ticks/{connection}/{resource}", self.look, methods=["POST"]),
        ]

    async def look(self, request: Request) -> Response:
        """Mark what is configured as due now and ring."""
        name, resource = request.path_params["connection"], request.path_params.get("resource")
        self._known(name, resource)
        await run_in_threadpool(self._mark, name, resource)
        self._marked(name)
        return JSONResponse({"ok": True}, status_code=202)

    def _known(self, name: str, resource: str | None) -> None:
        options = self._settings.connections.get(name)
        if options is None:
            raise Refusal(404, "unknown_connection", "no connection of this name is configured")
        configured = {known.name for known in discovery.systems()[options.system].resources(options)}
        if resource is not None and resource not in configured:
            raise Refusal(404, "unknown_resource", "this connection has no resource of this name; see resources")

    def _mark(self, name: str, resource: str | None) -> None:
        with self._database.begin() as connection:
            streams.look_now(connection, connection_name=name, resource=resource)
