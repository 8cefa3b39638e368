"""The journal as others read it: page by page, exact, and honest about what can no longer be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models import exact, journal
from models.feed import Feed
from receiver.refusals import Refusal

if TYPE_CHECKING:
    import sqlalchemy as sa
    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from models.database import Database

LIMIT = 100
LARGEST_LIMIT = 1000
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Question:
    after: int = 0
    limit: int = LIMIT
    connection: str | None = None
    resource: str | None = None


class Changes:
    """`/changes?after=&limit=&connection=&resource=`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feed = Feed(database)

    @property
    def route(self) -> Route:
        """The page."""
        return Route("/changes", self.read)

    async def read(self, request: Request) -> Response:
        """`{"changes": […], "last": id, "oldest": id, "feed": text}`.

        `last` is where to go on: the next question is `after=last`. It passes over what a filter leaves out.
        """
        question = _question(request.query_params)
        page = await run_in_threadpool(self._page, question)
        return Response(exact.dumps(page), media_type="application/json")

    def _page(self, question: _Question) -> dict[str, Any]:
        with self._database.read() as connection:
            # The end is read before the entries: what it covers, they show. The beginning after them: what was trimmed
            # meanwhile is not passed over in silence.
            _, end, _ = journal.bounds(connection)
            found = journal.read(
                connection,
                after=question.after,
                limit=question.limit,
                connection_name=question.connection,
                resource=question.resource,
            )
            oldest, _, _ = journal.bounds(connection)
        if 0 < question.after < oldest - 1:
            raise Refusal(410, "gone", f"the oldest entry is {oldest} now; start again with after=0")
        last = found[-1].id if len(found) == question.limit else max([end, *(row.id for row in found)])
        return {
            "changes": [_shown(row) for row in found],
            "last": last,
            "oldest": oldest,
            "feed": self._feed.tell(last),
        }


def _shown(row: sa.Row[Any]) -> dict[str, Any]:
    return {**row._mapping, "at": row.at.isoformat()}  # noqa: SLF001 - SQLAlchemy's public accessor, underscored against clashes


def _question(query: QueryParams) -> _Question:
    given = query.multi_items()
    known = set(_Question.__slots__)
    for name, value in given:
        if name not in known:
            raise _malformed(f"there is no such parameter; there are {', '.join(_Question.__slots__)}")
        if "\x00" in value or not value:
            raise _malformed(f"{name} is empty or holds a NUL")
    values: dict[str, Any] = dict(given)
    if len(values) < len(given):
        raise _malformed("a parameter is repeated")
    for name, least, most in (("after", 0, LARGEST_ID), ("limit", 1, LARGEST_LIMIT)):
        if name in values:
            values[name] = _number(name, values[name], least=least, most=most)
    return _Question(**values)


def _number(name: str, text: str, *, least: int, most: int) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or not least <= int(text) <= most:
        raise _malformed(f"{name} is a whole number from {least} to {most}")
    return int(text)


def _malformed(message: str) -> Refusal:
    return Refusal(400, "malformed", message)
