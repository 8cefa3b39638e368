"""`GET /changes`: the journal, page by page, with exact numbers. 410 if entries are missing that the caller needs.

They were trimmed, or the database was set back to before the entries that the caller has read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import journal
from models.bookkeeping.feed import Feed
from models.values import Cause, ChangeKind
from receiver.http.answers import Answer, AnswerResponse, Count, Object, Text, Timestamp
from receiver.http.errors import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    import sqlalchemy as sa
    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from models.db.database import Database

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
LARGEST_ID = 2**63 - 1


class Change(Answer, frozen=True):
    """An entry of the journal."""

    id: Annotated[int, Meta(ge=1)]
    at: Timestamp
    connection: Text
    resource: Text
    key: str
    kind: ChangeKind
    revision: Count
    cause: Cause
    before: Annotated[
        Object | None, Meta(description="Of an update: dotted path to earlier value, of the fields that differ.")
    ]
    after: Annotated[Object | None, Meta(description="The whole object, redacted; null when deleted.")]


class Changes(Answer, frozen=True):
    """A page of the journal."""

    changes: Annotated[list[Change], Meta(description="Oldest first.")]
    last: Annotated[Count, Meta(description="Pass it as `after` to get the next page.")]
    oldest: Annotated[Count, Meta(description="The oldest entry that was not trimmed.")]
    feed: Annotated[Text, Meta(description="It changes when a backup was restored: start again from 0.")]


@dataclass(frozen=True, slots=True)
class _Query:
    after: int = 0
    limit: int = DEFAULT_LIMIT
    connection: str | None = None
    resource: str | None = None


class ChangesRoute:
    """`/changes?after=&limit=&connection=&resource=`."""

    def __init__(self, database: Database, *, witness: Path | None = None) -> None:
        self._database = database
        self._feed = Feed(database, witness=witness)

    @property
    def route(self) -> Route:
        """The route."""
        return Route("/changes", self.read)

    async def read(self, request: Request) -> Response:
        """One page. Its `last` is the caller's next `after`, and passes over the entries that a filter left out."""
        query = _parse_query(request.query_params)
        return AnswerResponse(await run_in_threadpool(self._page, query))

    def _page(self, query: _Query) -> Changes:
        with self._database.read() as tx:
            # The newest id is read before the entries: all entries up to it are visible then. The oldest id is read
            # after them, so that trimming in between is detected.
            _, newest, _ = journal.bounds(tx)
            found = journal.read(
                tx,
                after=query.after,
                limit=query.limit,
                connection=query.connection,
                resource=query.resource,
            )
            oldest, _, _ = journal.bounds(tx)
        if query.after > newest:
            self._feed.read_beyond(query.after)
            raise ApiError(
                410,
                "gone",
                f"the journal ends at {newest}, so a backup was restored since the entry {query.after} was read; "
                "start again with after=0",
            )
        if 0 < query.after < oldest - 1:
            raise ApiError(410, "gone", f"the oldest entry is {oldest} now; start again with after=0")
        last = found[-1].id if len(found) == query.limit else max([newest, *(row.id for row in found)])
        return Changes(changes=[_change(row) for row in found], last=last, oldest=oldest, feed=self._feed.name(last))


def _change(row: sa.Row[Any]) -> Change:
    return Change(
        id=row.id,
        at=row.at.isoformat(),
        connection=row.connection,
        resource=row.resource,
        key=row.key,
        kind=row.kind,
        revision=row.revision,
        cause=row.cause,
        before=row.before,
        after=row.after,
    )


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
    for name, least, most in (("after", 0, LARGEST_ID), ("limit", 1, LARGEST_LIMIT)):
        if name in values:
            values[name] = _number(name, values[name], least=least, most=most)
    return _Query(**values)


def _number(name: str, text: str, *, least: int, most: int) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or not least <= int(text) <= most:
        raise _malformed(f"{name} is a whole number from {least} to {most}")
    return int(text)


def _malformed(message: str) -> ApiError:
    return ApiError(400, "malformed", message)
