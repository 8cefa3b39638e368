"""How Directo is asked: GET only, filters in the query with the operator in the value, whole resources in one reply.

The vendor has no pages. So bodies are parsed as they arrive, documents are read by windows of their `date` where one
reply takes too long, and the cursor never moves past what was really received.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from models.values import Chunk, End, JsonObject, Mention, Shape, Snapshot, Tombstone, Unreadable
from workers.connectors import http, streaming
from workers.connectors.contract import Greeting
from workers.connectors.directo import answers, cursors, queries, resources, table
from workers.errors import SetAside, TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workers.connectors.contract import Resource, Wire
    from workers.connectors.directo.options import Options

_CHUNK = 500

_MAX_SHOWN = 1000
"""Records that `ask` shows, and that a point read looks through before it calls its filter ignored."""

_FAR_FUTURE = ">2999-12-31T00:00:00"


class Client:
    """One account. See `workers.connectors.contract.Client`."""

    def __init__(self, options: Options, runtime: Wire) -> None:
        self._options = options
        self._resources = resources.catalogue(options)
        self._mirrored = set(options.resources) - {table.DELETED}
        self._http = http.Http(
            runtime,
            base_url=f"{options.url}/v1/",
            timeout=options.timeout,
            headers={
                "X-Directo-Key": options.api_key.get_secret_value(),
                "Accept": f"application/{options.format}",
            },
            hidden=lambda text: text.replace(options.api_key.get_secret_value(), "***"),
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def shape(self, resource: Resource) -> Shape | None:  # noqa: ARG002 - the vendor has no metadata
        """None: Directo's fields are set per company and described nowhere."""
        return None

    def check(self) -> Greeting:
        """Ask the first resource that this key may read for what changes in the far future: proves address and key."""
        *others, last = self._options.resources
        for name in others:
            with suppress(answers.ForbiddenError):
                return self._check_resource(name)
        return self._check_resource(last)

    def _check_resource(self, name: str) -> Greeting:
        date, _ = self._request_empty(name, [])
        return Greeting(f"Directo lets this key read {name}", clock=date)

    def probe(self, resource: Resource) -> str:
        """Likewise for this resource and its filter, which the vendor may refuse; and whether he heeds `ts`."""
        selection = self._selection(resource.name)
        _, ts_works = self._request_empty(resource.name, selection.params)
        result = "can be read" if ts_works or resource.every is None else "can be read, but its `ts` is ignored"
        return f"{result}, filtered by {selection.text}" if selection.text else result

    def _request_empty(self, name: str, params: cursors.Params) -> tuple[datetime | None, bool]:
        """The vendor's clock, and whether nothing came, as nothing changes in the far future."""
        with self._request(name, [*params, ("ts", _FAR_FUTURE)]) as answer:
            return answer.date, next(answer.records, None) is None

    def read(self, resource: str, *filters: queries.Filter) -> Iterator[JsonObject]:
        """The objects of a resource that pass all filters, one by one as they arrive: one request.

        `resource`: a name of the vendor's list, `deleted` too. `filters`: see `queries`; without any all objects are
        read. The connection's own `filter` is not applied. Yields objects as sent, numbers as int or Decimal (in the
        XML format all scalars are text), lines in `rows`, custom fields in `datafields`; a whole object if any of its
        lines passes. Raises SetAside where the vendor refuses or, while reading, where what he sends cannot have
        passed a filter; TryLater where he cannot answer now, TimedOut where he is too slow: ask for less then.
        (Directo API documentation, "API Resources & Endpoints", "Advanced Filtering".)
        """
        if resource not in table.NAMES:
            raise SetAside(f'Directo has no resource "{resource}"; it has {", ".join(sorted(table.NAMES))}')
        selection = queries.Selection(filters, self._options.zone)
        checker = answers.FilterChecker(resource, selection)
        with self._request(resource, selection.params) as answer:
            for record in answer.records:
                checker.check(record)
                yield resources.as_object(record)

    def ask(self, words: Sequence[str]) -> list[Any]:
        """`items code=1011 'ts=>2026-01-01'`: a resource and its filters, as the vendor writes them."""
        name, *filters = words or [""]
        if not re.fullmatch(r"\w+", name, re.ASCII) or not all("=" in word for word in filters):
            raise SetAside("ask for a resource and its filters, as in: items code=1011 'ts=>2026-01-01T00:00:00'")
        params = [(word.partition("=")[0], word.partition("=")[2]) for word in filters]
        if any(parameter.endswith(("<", ">", "!")) for parameter, _ in params):
            # Also the document's own slip: the vendor takes `ts>` for an unknown field, and answers with everything.
            raise SetAside("an operator stands behind the =, as in: customers country=!EE 'ts=>2026-01-01T00:00:00'")
        with self._request(name, params) as answer:
            shown = list(islice(answer.records, _MAX_SHOWN + 1))
        if len(shown) > _MAX_SHOWN:
            raise SetAside(f"{name} answers with more than {_MAX_SHOWN} records: add a filter")
        return shown

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:
        """The object by a filter on its key's fields; gone if it does not pass the connection's own `filter`.

        SetAside where the answer proves nothing.
        """
        values = dict(zip(resource.key, resources.split(resource, key), strict=True))
        if not self._selection(resource.name).accepts(values):
            return Tombstone(key)
        selection = self._selection(resource.name).without(resource.key)
        with self._request(resource.name, [*_key_filter(resource, key), *selection.params]) as answer:
            seen = list(islice(answer.records, _MAX_SHOWN))
        found = [record for record in seen if isinstance(record, dict) and resources.key_of(resource, record) == key]
        if not seen:
            return Tombstone(key)
        if not found:
            raise SetAside(f"{resource.name} answers with other records when asked for {key!r}: the filter is ignored")
        if any(record != found[0] for record in found):
            raise SetAside(f"{resource.name} has {len(found)} different records with the key {key!r}")
        answers.FilterChecker(resource.name, selection).check(found[0])
        return Snapshot(key, found[0])

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """What changed since a finished run, or everything: in one reply, by date windows where that takes too long."""
        position = cursors.Position.decode(cursor) if cursor else cursors.Position()
        if resource.name == table.DELETED:
            return self._deletions(position)
        if position.window is not None:
            return self._full_sync_window(resource, position, position.window)
        if position.since is not None:
            return self._poll(resource, position)
        return self._full_sync(resource)

    def _poll(self, resource: Resource, position: cursors.Position) -> Iterator[Chunk]:
        """One tick."""
        run, selection = cursors.Run(position, self._options, full=False), self._selection(resource.name)
        checker = answers.FilterChecker(resource.name, selection)
        with self._request(resource.name, [*selection.params, *run.params()]) as answer:
            run.observe_clock(answer.date)
            yield from self._chunks(resource, answer.records, run, checker)
        yield Chunk(end=run.end())

    def _full_sync(self, resource: Resource) -> Iterator[Chunk]:
        """A full reading in one reply."""
        run, selection = cursors.Run(cursors.Position(), self._options, full=True), self._selection(resource.name)
        checker = answers.FilterChecker(resource.name, selection)
        try:
            with self._request(resource.name, selection.params) as answer:
                run.observe_clock(answer.date)
                yield from self._chunks(resource, answer.records, run, checker)
        except TimedOut:
            # The error would lose the cursor, so the run itself goes on with smaller questions.
            window = _first_matching_window(selection, cursors.Window.initial(self._options)) if selection.can_be_windowed else None
            if window is None or not table.ROWS[resource.name].dated:
                raise
            yield Chunk(end=End(replace(run.position(), window=window).encode(), more=True))
            return
        yield Chunk(end=run.end(complete=True, warning=checker.warning()))

    def _full_sync_window(self, resource: Resource, position: cursors.Position, window: cursors.Window) -> Iterator[Chunk]:
        """One window of a full reading that is too large for one reply."""
        run, started = cursors.Run(position, self._options, full=True), monotonic()
        selection = self._selection(resource.name)
        checker = answers.FilterChecker(resource.name, selection)
        try:
            with self._request(resource.name, selection.params_between(*window.bounds) or selection.params) as answer:
                answered_quickly = monotonic() - started < self._options.timeout.total_seconds() / 4
                run.observe_clock(answer.date)
                yield from self._chunks(resource, answer.records, run, checker)
        except TimedOut:
            smaller = _first_matching_window(selection, window.halved())
            if smaller is None:
                raise
            yield Chunk(end=End(replace(run.position(), window=smaller).encode(), more=True))
            return
        following = _first_matching_window(selection, window.next(wider=answered_quickly))
        if following is not None:
            yield Chunk(end=End(replace(run.position(), window=following).encode(), more=True))
            return
        # Every date was asked for, before and after all windows too. Only a document without any date is in no
        # window; it counts as missing, which is a mention: the point read then finds it.
        yield Chunk(end=run.end(complete=True, warning=checker.warning()))

    def _chunks(
        self, resource: Resource, records: Iterator[Any], run: cursors.Run, checker: answers.FilterChecker
    ) -> Iterator[Chunk]:
        with streaming.Met() as seen:
            deduplicator = resources.Deduplicator(resource, self._options.zone, seen)
            while batch := list(islice(records, _CHUNK)):
                for record in batch:
                    run.observe_record(record)
                    checker.check(record)
                chunk = deduplicator.chunk(batch)
                _refuse_if_all_unreadable(chunk)
                yield chunk

    def _deletions(self, position: cursors.Position) -> Iterator[Chunk]:
        """`/deleted`: mentions, never proof. Absence from it means nothing, so no reading of it is complete."""
        run = cursors.Run(position, self._options, full=position.since is None)
        seen = cursors.SeenDeletions(position.seen)
        try:
            with self._request(table.DELETED, run.params()) as answer:
                run.observe_clock(answer.date)
                while batch := list(islice(answer.records, _CHUNK)):
                    chunk = self._deletions_chunk(batch, run, seen)
                    _refuse_if_all_unreadable(chunk)
                    yield chunk
        except TimedOut:
            if position.since is not None:
                raise
            yield Chunk(end=End(cursors.Position.recent(self._options).encode(), more=True))
            return
        yield Chunk(end=End(seen.add_to(run.next_position()).encode(), warning=run.warning()))

    def _deletions_chunk(self, batch: Iterable[Any], run: cursors.Run, seen: cursors.SeenDeletions) -> Chunk:
        snapshots: dict[str, Snapshot] = {}
        refs: dict[Mention, None] = {}
        unreadable = []
        for raw in map(resources.as_object, batch):
            deletion = resources.parse_deletion(raw, self._resources)
            if deletion is None:
                unreadable.append(Unreadable(resources.row_digest(raw), _unknown_deletion(raw), raw))
                continue
            stamp = cursors.stamp(deletion.deleted_at, self._options.zone)
            run.observe_stamp(stamp)
            key = f"{deletion.ref.resource}:{deletion.ref.key}:{deletion.deleted_at or resources.row_digest(raw)}"
            snapshots[key] = Snapshot(key, raw)
            if deletion.ref.resource in self._mirrored and seen.is_new(key, stamp) and not run.is_covered_by_full_sync(stamp):
                refs[deletion.ref] = None
        return Chunk(tuple(snapshots.values()), mentions=tuple(refs), unreadable=tuple(unreadable))

    def _selection(self, name: str) -> queries.Selection:
        return self._options.selection(name)

    @contextmanager
    def _request(self, name: str, params: cursors.Params) -> Iterator[_Reply]:
        with self._http.stream("GET", name, params=params) as reply:
            secret = self._options.api_key.get_secret_value()
            yield _Reply(reply.date, answers.records(reply, secret=secret))


@dataclass(frozen=True, slots=True)
class _Reply:
    date: datetime | None
    records: Iterator[Any]


def _refuse_if_all_unreadable(chunk: Chunk) -> None:
    """A whole chunk without a readable row is no bad luck: park the resource, not thousands of its rows."""
    if len(chunk.unreadable) == _CHUNK:
        raise SetAside(chunk.unreadable[0].reason, whole_resource=True)


def _unknown_deletion(record: JsonObject) -> str:
    return f"a row of /deleted that does not say which object it means; it has {resources.field_names(record)}"


def _key_filter(resource: Resource, key: str) -> cursors.Params:
    """Equality on each field of the key. SetAside where the filter language cannot say the value."""
    values = resources.split(resource, key)
    try:
        filters = [queries.Field(name).equals(value) for name, value in zip(resource.key, values, strict=True)]
    except ValueError as error:
        raise SetAside(f"Directo cannot be asked for {key!r}: {error}") from None
    return [pair for each in filters for pair in each.params]


def _first_matching_window(selection: queries.Selection, window: cursors.Window | None) -> cursors.Window | None:
    """This window, or the next one in which the selection has something; None at the end."""
    while window is not None and selection.params_between(*window.bounds) is None:
        window = window.next(wider=False)
    return window
