"""Directo's client: GET requests with filters in the query, each answered by the whole result in one reply.

Directo has no pages. So bodies are parsed as they arrive, a full sync that takes too long is split into windows of the
documents' `date`, and the cursor never moves past what was received.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from models.values import Chunk, End, JsonObject, ObjectRef, Shape, Snapshot, Tombstone
from workers.connectors import http, objects, streaming
from workers.connectors.contract import CheckResult
from workers.connectors.directo import answers, cursors, queries, resources, table, wall_clock
from workers.errors import MisaskedError, SetAside, TimedOutError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workers.connectors.contract import ClientRuntime, Resource
    from workers.connectors.directo.options import Options

_CHUNK = 500

_MAX_SHOWN = 1000
"""Most records that `ask` returns, and that a point read compares before it concludes that its filter was ignored."""

_PROBED = 200
"""Records that a probe reads of a resource whose key is inferred, to see whether they have it."""

_UNKNOWN_DELETION = "a row of /deleted that does not identify an object"

_FAR_FUTURE = ">2999-12-31T00:00:00"


class Client:
    """The client of one account. See `workers.connectors.contract.Client`."""

    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        self._options = options
        self._resources = resources.catalogue(options)
        self._mirrored = set(options.resources) - {table.DELETED}
        self._http = http.Http(
            runtime,
            base_url=f"{options.url}/v1/",
            timeout=options.timeout,
            route=options.route,
            headers={
                "X-Directo-Key": options.api_key.get_secret_value(),
                "Accept": f"application/{options.format}",
            },
            redact=lambda text: text.replace(options.api_key.get_secret_value(), "***"),
        )

    def close(self) -> None:
        """Close the HTTP connection."""
        self._http.close()

    def shape(self, resource: Resource) -> Shape | None:  # noqa: ARG002 - there is no metadata
        """None: Directo's fields are set per company, and no request describes them."""
        return None

    def check(self) -> CheckResult:
        """Prove address and key by an empty request to the first configured resource that the key may read."""
        *others, last = self._options.resources
        for name in others:
            with suppress(answers.ForbiddenError):
                return self._check_resource(name)
        return self._check_resource(last)

    def _check_resource(self, name: str) -> CheckResult:
        date, _ = self._request_empty(name, [])
        return CheckResult(f"Directo lets this key read {name}", clock=date)

    def probe(self, resource: Resource) -> str:
        """Prove by an empty request that the resource can be read with its filter, and whether Directo applies `ts`.

        SetAside if the first stock levels, of which no public sample shows the key, do not have it.
        """
        selection = self._selection(resource.name)
        if table.ROWS[resource.name].computed:
            with self._request(resource.name, selection.params) as answer:
                resources.require_key(resource, list(islice(answer.records, _PROBED)))
        _, ts_works = self._request_empty(resource.name, selection.params)
        result = "can be read" if ts_works or resource.every is None else "can be read, but its `ts` is ignored"
        return f"{result}, filtered by {selection.text}" if selection.text else result

    def _request_empty(self, name: str, params: queries.Params) -> tuple[datetime | None, bool]:
        """Ask for changes in the far future: Directo's clock, and whether the reply was empty as it should be."""
        with self._request(name, [*params, ("ts", _FAR_FUTURE)]) as answer:
            return answer.date, next(answer.records, None) is None

    def read(self, resource: str, *filters: queries.Filter) -> Iterator[JsonObject]:
        """The objects of a resource that pass all filters, one by one as they arrive, by one request.

        `resource`: a name in Directo's list, `deleted` included. `filters`: see `queries`; without any, all objects.
        The connection's own `filter` is not applied. Yields objects as sent, numbers as int or Decimal (in the XML
        format all scalars are text), lines in `rows`, custom fields in `datafields`; an object is sent whole if any of
        its lines passes.

        Raises SetAside if Directo refuses the request or sends an object that cannot have passed a filter, TryLater if
        it cannot answer now, TimedOutError if it is too slow: add a filter then.
        (Directo API documentation, "API Resources & Endpoints", "Advanced Filtering".)
        """
        if resource not in table.NAMES:
            raise MisaskedError(f'Directo has no resource "{resource}"; it has {", ".join(sorted(table.NAMES))}')
        selection = queries.Selection(filters, self._options.zone)
        checker = answers.FilterChecker(resource, selection)
        with self._request(resource, selection.params) as answer:
            for record in streaming.readable(answer.records):
                checker.check(record)
                yield objects.as_object(record)

    def ask(self, words: Sequence[str]) -> list[Any]:
        """`items code=1011 'ts=>2026-01-01'`: a resource and filters in Directo's syntax; the records found.

        MisaskedError for a malformed request, and for a reply of more than 1000 records.
        """
        name, *filters = words or [""]
        if not re.fullmatch(r"\w+", name, re.ASCII) or not all("=" in word for word in filters):
            raise MisaskedError("ask for a resource and its filters, as in: items code=1011 'ts=>2026-01-01T00:00:00'")
        params = [(word.partition("=")[0], word.partition("=")[2]) for word in filters]
        if any(parameter.endswith(("<", ">", "!")) for parameter, _ in params):
            # Directo's document makes this mistake too: the server ignores the unknown field `ts>` and sends all.
            raise MisaskedError("put the operator after the =, as in: customers country=!EE 'ts=>2026-01-01T00:00:00'")
        with self._request(name, params) as answer:
            records = list(islice(streaming.readable(answer.records), _MAX_SHOWN + 1))
        if len(records) > _MAX_SHOWN:
            raise MisaskedError(f"{name} answers with more than {_MAX_SHOWN} records: add a filter")
        return records

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:
        """The object, read by a filter on its key fields; a tombstone if the connection's `filter` excludes it.

        SetAside if the reply does not prove the object's state: the filter was ignored, or the key is not unique.
        """
        values = dict(zip(resource.key, resources.split(resource, key), strict=True))
        if not self._selection(resource.name).accepts(values):
            return Tombstone(key)
        selection = self._selection(resource.name).without(resource.key)
        with self._request(resource.name, [*_key_filter(resource, key), *selection.params]) as answer:
            records = list(islice(streaming.readable(answer.records), _MAX_SHOWN))
        found = [each for each in records if isinstance(each, dict) and objects.key_of(resource, each) == key]
        if not records:
            return Tombstone(key)
        if not found:
            raise SetAside(f"{resource.name} answers with other records when asked for {key!r}: the filter is ignored")
        if any(record != found[0] for record in found):
            raise SetAside(f"{resource.name} has {len(found)} different records with the key {key!r}")
        answers.FilterChecker(resource.name, selection).check(found[0])
        return Snapshot(key, found[0])

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """A poll (changes since the cursor) or a full sync: one reply, or date windows if that takes too long."""
        position = cursors.Position.decode(cursor) if cursor else cursors.Position()
        if resource.name == table.DELETED:
            return self._deletions(position)
        if position.window is not None:
            return self._full_sync_window(resource, position, position.window)
        if position.since is not None:
            return self._poll(resource, position)
        return self._full_sync(resource)

    def _poll(self, resource: Resource, position: cursors.Position) -> Iterator[Chunk]:
        """The objects whose `ts` is after the cursor, in one reply."""
        run, selection = cursors.Run(position, self._options, full=False), self._selection(resource.name)
        checker = answers.FilterChecker(resource.name, selection)
        glance = resources.glance(resource, selection)
        with self._request(resource.name, [*selection.params, *run.params()], glance) as answer:
            run.observe_clock(answer.date)
            yield from self._chunks(resource, answer.records, run, checker)
        yield Chunk(end=run.end())

    def _full_sync(self, resource: Resource) -> Iterator[Chunk]:
        """All objects in one reply; if that times out, the run goes on by windows."""
        run, selection = cursors.Run(cursors.Position(), self._options, full=True), self._selection(resource.name)
        checker = answers.FilterChecker(resource.name, selection)
        try:
            with self._request(resource.name, selection.params, resources.glance(resource, selection)) as answer:
                run.observe_clock(answer.date)
                yield from self._chunks(resource, answer.records, run, checker)
        except TimedOutError:
            # Raising would lose the cursor, so the run continues with smaller requests.
            window = self._initial_window(resource, selection)
            if window is None:
                raise
            yield Chunk(end=End(replace(run.position(), window=window).encode(), more=True))
            return
        yield Chunk(end=run.end(complete=True, warning=checker.warning()))

    def _initial_window(self, resource: Resource, selection: queries.Selection) -> cursors.Window | None:
        if not table.ROWS[resource.name].dated or not selection.can_be_windowed:
            return None
        return _first_matching_window(selection, cursors.Window.initial(self._options))

    def _full_sync_window(
        self, resource: Resource, position: cursors.Position, window: cursors.Window
    ) -> Iterator[Chunk]:
        """One window of a full sync; if it times out, the run goes on with a window half as long."""
        run, started = cursors.Run(position, self._options, full=True), monotonic()
        selection = self._selection(resource.name)
        checker = answers.FilterChecker(resource.name, selection)
        params, glance = _window_params(selection, window) or selection.params, resources.glance(resource, selection)
        try:
            with self._request(resource.name, params, glance) as answer:
                answered_quickly = monotonic() - started < self._options.timeout.total_seconds() / 4
                run.observe_clock(answer.date)
                yield from self._chunks(resource, answer.records, run, checker)
        except TimedOutError:
            smaller = _first_matching_window(selection, window.halved())
            if smaller is None and not window.by_ts:
                raise
            # The windows of `date` are read, so all that has a date is written: only the proof is missing.
            gap = _UNDATED.format(window=f"`ts` from {window.start}") if smaller is None else None
            yield Chunk(end=self._next_window(run, smaller, checker, gap))
            return
        following = _first_matching_window(selection, window.next(wider=answered_quickly))
        if following is None and not window.by_ts:
            following = replace(cursors.Window.initial(self._options), by_ts=True)
        yield Chunk(end=self._next_window(run, following, checker))

    def _next_window(
        self, run: cursors.Run, window: cursors.Window | None, checker: answers.FilterChecker, gap: str | None = None
    ) -> End:
        """The position at this window, or the end of the run. `gap`: what the run could not read."""
        if window is not None:
            return End(replace(run.position(), window=window).encode(), more=True)
        return replace(run.end(complete=True, warning=checker.warning()), gap=gap)

    def _chunks(
        self, resource: Resource, records: Iterator[Any], run: cursors.Run, checker: answers.FilterChecker
    ) -> Iterator[Chunk]:
        with streaming.SeenKeys() as seen:
            deduplicator = resources.Deduplicator(resource, self._options.zone, seen)
            for batch in streaming.batches(records):
                run.observe_records(batch)
                checker.check_all(batch)
                yield deduplicator.chunk(batch)

    def _deletions(self, position: cursors.Position) -> Iterator[Chunk]:
        """Rows of `/deleted`: each enqueues its object, and only the point read proves the deletion.

        The run is never complete: a row that is missing from the list proves nothing.
        """
        run = cursors.Run(position, self._options, full=position.since is None)
        seen = cursors.SeenDeletions(position.seen)
        try:
            with self._request(table.DELETED, run.params()) as answer:
                run.observe_clock(answer.date)
                while batch := list(islice(answer.records, _CHUNK)):
                    yield self._deletions_chunk(batch, run, seen)
        except TimedOutError:
            if position.since is not None:
                raise
            yield Chunk(end=End(cursors.Position.recent(self._options).encode(), more=True))
            return
        yield Chunk(end=End(seen.add_to(run.next_position()).encode(), warning=run.warning()))

    def _deletions_chunk(self, batch: Iterable[Any], run: cursors.Run, seen: cursors.SeenDeletions) -> Chunk:
        snapshots: dict[str, Snapshot] = {}
        refs: dict[ObjectRef, None] = {}
        unreadable = []
        for record in batch:
            if isinstance(record, streaming.UnreadableRecord):
                unreadable.append(objects.unreadable(record, None))
                continue
            raw = objects.as_object(record)
            deletion = resources.parse_deletion(raw, self._resources)
            if deletion is None:
                unreadable.append(objects.without_key(raw, _UNKNOWN_DELETION))
                continue
            ref, stamp = deletion.ref, wall_clock.parse(deletion.deleted_at, self._options.zone)
            run.observe_stamp(stamp)
            key = f"{ref.resource}:{ref.key}:{deletion.deleted_at or objects.digest(raw)}"
            snapshots[key] = Snapshot(key, raw)
            if ref.resource in self._mirrored and seen.is_new(key, stamp) and not run.is_covered_by_full_sync(stamp):
                refs[ref] = None
        return Chunk(tuple(snapshots.values()), refs=tuple(refs), unreadable=tuple(unreadable))

    def _selection(self, name: str) -> queries.Selection:
        return self._options.selection(name)

    @contextmanager
    def _request(self, name: str, params: queries.Params, glance: streaming.Glance | None = None) -> Iterator[_Reply]:
        with self._http.stream("GET", name, params=params) as reply:
            secret = self._options.api_key.get_secret_value()
            yield _Reply(reply.date, answers.records(reply, secret=secret, glance=glance))


@dataclass(frozen=True, slots=True)
class _Reply:
    """A streamed reply. `date`: Directo's clock, aware; None without a Date header."""

    date: datetime | None
    records: Iterator[Any]


def _key_filter(resource: Resource, key: str) -> queries.Params:
    """Equality on each field of the key. SetAside for a value that Directo's filter syntax cannot express."""
    values = resources.split(resource, key)
    try:
        filters = [queries.Field(name).equals(value) for name, value in zip(resource.key, values, strict=True)]
    except ValueError as error:
        raise SetAside(f"Directo cannot filter by the key {key!r}: {error}") from None
    return [param for each in filters for param in each.params]


def _window_params(selection: queries.Selection, window: cursors.Window) -> queries.Params | None:
    """The parameters for the objects of the window; None if the selection's range of dates does not meet it."""
    after, before = window.bounds
    if not window.by_ts:
        return selection.params_between(after, before)
    params = [*selection.params]
    params += [("ts", f">{wall_clock.to_param(after)}")] if after is not None else []
    return params + ([("ts", f"<{wall_clock.to_param(before)}")] if before is not None else [])


_UNDATED = (
    "Directo takes too long for {window}, so a document without a date may be missing from the mirror, and no full "
    "sync proves that all is complete; a longer `timeout` may help"
)


def _first_matching_window(selection: queries.Selection, window: cursors.Window | None) -> cursors.Window | None:
    """This window, or the next one that meets the selection's date range; None after the last."""
    while window is not None and _window_params(selection, window) is None:
        window = window.next(wider=False)
    return window
