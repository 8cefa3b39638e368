"""`GET /changes`: the journal, page by page or as it is written, with exact numbers.

410 if entries are missing that the caller needs: they were trimmed, or the database was set back to before the entries
that the caller has read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import streams
from models.values import ChangeKind
from receiver.api.change_stream import EventStream
from receiver.api.journal_pages import Selection
from receiver.http.answers import AnswerResponse
from receiver.http.errors import ApiError
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.datastructures import Headers, QueryParams
    from starlette.requests import Request

    from models.db.database import Database
    from models.settings.load import Settings
    from receiver.api.change_stream import WaitingReaders

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
LARGEST_ID = 2**63 - 1
LONGEST_WAIT = 60
"""Seconds; proxies end a request that is silent for longer."""

_REFUSED = re.compile(r"q=0(\.0*)?")
"""What says in Accept that a type is not wanted."""

KINDS = [kind.value for kind in ChangeKind]


@dataclass(frozen=True, slots=True)
class _Query:
    after: int = 0
    limit: int = DEFAULT_LIMIT
    connection: str | None = None
    resource: str | None = None
    kind: str | None = None
    key: str | None = None
    wait: int = 0

    @property
    def selection(self) -> Selection:
        return Selection(self.connection, self.resource, self.kind, self.key)


class ChangesRoute:
    """`/changes?after=&limit=&connection=&resource=&kind=&key=&wait=`."""

    def __init__(self, settings: Settings, *, database: Database, readers: WaitingReaders) -> None:
        self._settings = settings
        self._database = database
        self._readers = readers

    @property
    def route(self) -> Route:
        """The route."""
        return Route("/changes", self.read)

    async def read(self, request: Request) -> Response:
        """A page, at once or as soon as it has an entry, or the journal as Server-Sent Events.

        A page's `last` is the caller's next `after`, and passes over the entries that a filter left out.
        """
        query = _parse_query(request.query_params)
        is_stream = _asks_for_events(request.headers)
        last_event = _last_event_id(request.headers)
        await self._require_known(query)
        if is_stream:
            return EventStream(self._readers, query.selection, after=query.after if last_event is None else last_event)
        if query.wait and request.method != "HEAD":
            return await self._readers.poll(
                request, query.selection, after=query.after, limit=query.limit, wait=query.wait
            )
        page = self._readers.pages.page
        return AnswerResponse(await run_in_threadpool(page, query.selection, after=query.after, limit=query.limit))

    async def _require_known(self, query: _Query) -> None:
        """Raise `ApiError` for a connection or resource that neither the settings name nor the mirror has."""
        if query.connection is None and query.resource is None:
            return
        configured = {
            (name, resource.name)
            for name, options in self._settings.connections.items()
            for resource in discovery.systems()[options.system].resources(options)
        }
        connections = set(self._settings.connections)
        if not _is_known(query, connections, configured):
            stored = await self._readers.from_database(self._stored)
            _require_known(query, connections | {name for name, _ in stored}, configured | stored)

    def _stored(self) -> set[tuple[str, str]]:
        with self._database.read() as tx:
            return streams.names(tx)


def _is_known(query: _Query, connections: set[str], resources: set[tuple[str, str]]) -> bool:
    if query.connection is not None and query.connection not in connections:
        return False
    return query.resource is None or query.resource in _resources_of(query.connection, resources)


def _require_known(query: _Query, connections: set[str], resources: set[tuple[str, str]]) -> None:
    if query.connection is not None and query.connection not in connections:
        raise ApiError(
            404, "unknown_connection", f"there is no connection of this name; there are {_listed(connections)}"
        )
    existing = _resources_of(query.connection, resources)
    if query.resource is not None and query.resource not in existing:
        where = "" if query.connection is None else " in this connection"
        raise ApiError(
            404, "unknown_resource", f"there is no resource of this name{where}; there are {_listed(existing)}"
        )


def _resources_of(connection: str | None, resources: set[tuple[str, str]]) -> set[str]:
    return {resource for name, resource in resources if connection in {None, name}}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _asks_for_events(headers: Headers) -> bool:
    """Whether Accept names event streams, and JSON not before them."""
    accepted = [each.split(";") for each in "".join(",".join(headers.getlist("Accept")).lower().split()).split(",")]
    wanted = [kind for kind, *parameters in accepted if not any(map(_REFUSED.fullmatch, parameters))]
    named = [each for each in wanted if each in {"text/event-stream", "application/json"}]
    return named[:1] == ["text/event-stream"]


def _last_event_id(headers: Headers) -> int | None:
    given = headers.getlist("Last-Event-ID")
    if not given:
        return None
    if len(given) > 1:
        raise _malformed("Last-Event-ID is repeated")
    return _number("Last-Event-ID", given[0], least=0, most=LARGEST_ID)


def _parse_query(params: QueryParams) -> _Query:
    given = params.multi_items()
    known = set(_Query.__slots__)
    for name, value in given:
        if name not in known:
            raise _malformed(f"there is no such parameter; there are {', '.join(_Query.__slots__)}")
        if "\x00" in value or not value:
            raise _malformed(f"{name} is empty or holds a NUL")
    values: dict[str, Any] = dict(given)
    if len(values) < len(given):
        raise _malformed("a parameter is repeated")
    for name, least, most in (("after", 0, LARGEST_ID), ("limit", 1, LARGEST_LIMIT), ("wait", 0, LONGEST_WAIT)):
        if name in values:
            values[name] = _number(name, values[name], least=least, most=most)
    if values.get("kind", KINDS[0]) not in KINDS:
        raise _malformed(f"there is no such kind; there are {', '.join(KINDS)}")
    return _Query(**values)


def _number(name: str, text: str, *, least: int, most: int) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or not least <= int(text) <= most:
        raise _malformed(f"{name} is a whole number from {least} to {most}")
    return int(text)


def _malformed(message: str) -> ApiError:
    return ApiError(400, "malformed", message)
