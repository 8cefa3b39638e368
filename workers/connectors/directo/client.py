"""How Directo is asked: GET only, filters in the query with the operator in the value, whole resources in one reply.

The vendor has no pages. So bodies are parsed as they arrive, documents are read by windows of their `date` where one
reply takes too long, and the cursor never moves past what was really received.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import Chunk, End, JsonObject, Mention, Shape, Snapshot, Tombstone, Unreadable
from workers.connectors import http
from workers.connectors.directo import answers, cursors, resources, table
from workers.errors import SetAside, TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from zoneinfo import ZoneInfo

    from workers.connectors.contract import Resource, Wire
    from workers.connectors.directo.options import Options

_CHUNK = 500

_LARGEST_ANSWER = 1000
"""Records that `ask` shows, and that a point read looks through before it calls its filter ignored."""

_FAR_FUTURE = ">2999-12-31T00:00:00"


class Client:
    """One account. See `workers.connectors.contract.Client`."""

    def __init__(self, options: Options, wire: Wire) -> None:
        self._options = options
        self._known = resources.catalogue(options)
        self._mirrored = set(options.resources) - {table.DELETED}
        self._http = http.Http(
            wire,
            base_url=f"{options.url}/v1/",
            timeout=options.timeout,
            headers={
                "X-Directo-Key": options.api_key.get_secret_value(),
                "Accept": f"application/{options.format}",
            },
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def shape(self, resource: Resource) -> Shape | None:  # noqa: ARG002 - the vendor has no metadata
        """None: Directo's fields are set per company and described nowhere."""
        return None

    def check(self) -> str:
        """Ask the first resource for what changes in the far future: proves address, key and permission."""
        name = self._options.resources[0]
        with self._answer(name, [("ts", _FAR_FUTURE)]) as answer:
            next(answer.records, None)
        clock = f"; its clock says {answer.date:%Y-%m-%d %H:%M:%S} UTC" if answer.date else ""
        return f"Directo lets this key read {name}{clock}"

    def ask(self, words: Sequence[str]) -> list[Any]:
        """`items code=1011 'ts=>2026-01-01'`: a resource and its filters, as the vendor writes them."""
        name, *filters = words or [""]
        if not re.fullmatch(r"\w+", name, re.ASCII) or not all("=" in word for word in filters):
            raise SetAside("ask for a resource and its filters, as in: items code=1011 'ts=>2026-01-01T00:00:00'")
        params = [(word.partition("=")[0], word.partition("=")[2]) for word in filters]
        with self._answer(name, params) as answer:
            shown = list(islice(answer.records, _LARGEST_ANSWER + 1))
        if len(shown) > _LARGEST_ANSWER:
            raise SetAside(f"{name} answers with more than {_LARGEST_ANSWER} records: add a filter")
        return shown

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:
        """The object by a filter on its key's fields. SetAside where the answer proves nothing."""
        with self._answer(resource.name, _key_filter(resource, key)) as answer:
            seen = list(islice(answer.records, _LARGEST_ANSWER))
        found = [record for record in seen if isinstance(record, dict) and resources.key_of(resource, record) == key]
        if not seen:
            return Tombstone(key)
        if not found:
            raise SetAside(f"{resource.name} answers with other records when asked for {key!r}: the filter is ignored")
        if any(record != found[0] for record in found):
            raise SetAside(f"{resource.name} has {len(found)} different records with the key {key!r}")
        return Snapshot(key, found[0])

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """What changed since a finished run, or everything: in one reply, by date windows where that takes too long."""
        position = cursors.Position.read(cursor) if cursor else cursors.Position()
        if resource.name == table.DELETED:
            return self._deletions(position)
        if position.window is not None:
            return self._windowed(resource, position, position.window)
        if position.since is not None:
            return self._changes(resource, position)
        return self._everything(resource)

    def _changes(self, resource: Resource, position: cursors.Position) -> Iterator[Chunk]:
        """One tick."""
        run = cursors.Run(position, self._options, full=False)
        with self._answer(resource.name, run.params()) as answer:
            run.told(answer.date)
            yield from self._chunks(resource, answer.records, run)
        yield Chunk(end=run.end())

    def _everything(self, resource: Resource) -> Iterator[Chunk]:
        """A full reading in one reply."""
        run = cursors.Run(cursors.Position(), self._options, full=True)
        try:
            with self._answer(resource.name, []) as answer:
                run.told(answer.date)
                yield from self._chunks(resource, answer.records, run)
        except TimedOut:
            # The error would lose the cursor, so the run itself goes on with smaller questions.
            if not table.ROWS[resource.name].dated:
                raise
            window = cursors.Window.initial(self._options)
            yield Chunk(end=End(replace(run.position(), window=window).text(), more=True))
            return
        yield Chunk(end=run.end(complete=True))

    def _windowed(self, resource: Resource, position: cursors.Position, window: cursors.Window) -> Iterator[Chunk]:
        """One window of a full reading that is too large for one reply."""
        run, started = cursors.Run(position, self._options, full=True), monotonic()
        try:
            with self._answer(resource.name, window.params()) as answer:
                quick = monotonic() - started < self._options.timeout.total_seconds() / 4
                run.told(answer.date)
                yield from self._chunks(resource, answer.records, run)
        except TimedOut:
            smaller = window.halved()
            if smaller is None:
                raise
            yield Chunk(end=End(replace(run.position(), window=smaller).text(), more=True))
            return
        following = window.next(wider=quick)
        if following is not None:
            yield Chunk(end=End(replace(run.position(), window=following).text(), more=True))
            return
        # Every date was asked for, before and after all windows too. Only a document without any date is in no
        # window; it counts as missing, which is a mention: the point read then finds it.
        yield Chunk(end=run.end(complete=True))

    def _chunks(self, resource: Resource, records: Iterator[Any], run: cursors.Run) -> Iterator[Chunk]:
        met = _Met(resource, self._options.zone)
        while batch := list(islice(records, _CHUNK)):
            for record in batch:
                run.saw(record)
            chunk = met.chunk(batch)
            _refuse_hopeless(chunk)
            yield chunk

    def _deletions(self, position: cursors.Position) -> Iterator[Chunk]:
        """`/deleted`: mentions, never proof. Absence from it means nothing, so no reading of it is complete."""
        run = cursors.Run(position, self._options, full=position.since is None)
        memory = cursors.Memory(position.seen)
        try:
            with self._answer(table.DELETED, run.params()) as answer:
                run.told(answer.date)
                while batch := list(islice(answer.records, _CHUNK)):
                    chunk = self._deleted_chunk(batch, run, memory)
                    _refuse_hopeless(chunk)
                    yield chunk
        except TimedOut:
            if position.since is not None:
                raise
            yield Chunk(end=End(cursors.Position.recent(self._options).text(), more=True))
            return
        yield Chunk(end=End(memory.into(run.finished()).text(), warning=run.warning()))

    def _deleted_chunk(self, batch: Iterable[Any], run: cursors.Run, memory: cursors.Memory) -> Chunk:
        snapshots: dict[str, Snapshot] = {}
        mentions: dict[Mention, None] = {}
        unreadable = []
        for raw in map(answers.as_object, batch):
            told = resources.deletion(raw, self._known)
            if told is None:
                unreadable.append(Unreadable(resources.digest(raw), _no_meaning(raw), raw))
                continue
            stamp = cursors.stamp(told.at, self._options.zone)
            run.saw_stamp(stamp)
            key = f"{told.mention.resource}:{told.mention.key}:{told.at or resources.digest(raw)}"
            snapshots[key] = Snapshot(key, raw)
            if told.mention.resource in self._mirrored and memory.is_news(key, stamp) and not run.is_history(stamp):
                mentions[told.mention] = None
        return Chunk(tuple(snapshots.values()), mentions=tuple(mentions), unreadable=tuple(unreadable))

    @contextmanager
    def _answer(self, name: str, params: cursors.Params) -> Iterator[_Answer]:
        with self._http.stream("GET", name, params=params) as reply:
            secret = self._options.api_key.get_secret_value()
            yield _Answer(reply.date, answers.records(reply, secret=secret))


@dataclass(frozen=True, slots=True)
class _Answer:
    date: datetime | None
    records: Iterator[Any]


@dataclass(frozen=True, slots=True)
class _State:
    """What a record said and when, as small as a whole reply of them must be."""

    said: bytes
    at: datetime | None

    @classmethod
    def of(cls, raw: JsonObject, zone: ZoneInfo) -> _State:
        said = bytes.fromhex(exact.fingerprint(exact.storable(raw)))
        return cls(said, cursors.stamp(raw.get("ts"), zone))

    def is_later(self, other: _State) -> bool:
        return self.at is not None and other.at is not None and self.at > other.at


class _Met:
    """What one reply has brought so far, so that of two different records with one key none is lost in silence.

    Kept for the whole reply, because the vendor promises no order.
    """

    def __init__(self, resource: Resource, zone: ZoneInfo) -> None:
        self._resource = resource
        self._zone = zone
        self._states: dict[str, _State] = {}

    def chunk(self, batch: Iterable[Any]) -> Chunk:
        """The batch by key: of two states the later one; of two records that no `ts` puts in order the first."""
        found: dict[str, JsonObject] = {}
        unreadable = []
        for raw in map(answers.as_object, batch):
            key = resources.key_of(self._resource, raw)
            if key is None:
                unreadable.append(Unreadable(resources.digest(raw), _no_key(self._resource, raw), raw))
                continue
            state = _State.of(raw, self._zone)
            met = self._states.setdefault(key, state)
            if met is state or state.is_later(met):
                self._states[key], found[key] = state, raw
            elif met.said != state.said and not met.is_later(state):
                reason = f"{self._resource.name} has different records with the key {key}; see the setting `keys`"
                unreadable.append(Unreadable(resources.digest(raw), reason, raw))
        return Chunk(tuple(Snapshot(key, raw) for key, raw in found.items()), unreadable=tuple(unreadable))


def _refuse_hopeless(chunk: Chunk) -> None:
    """A whole chunk without a readable row is no bad luck: park the resource, not thousands of its rows."""
    if len(chunk.unreadable) == _CHUNK:
        raise SetAside(chunk.unreadable[0].reason, whole_resource=True)


def _no_key(resource: Resource, record: JsonObject) -> str:
    wanted = " and ".join(resource.key)
    return (
        f"a record of {resource.name} without {wanted}; it has {_fields(record)}; the setting `keys` says what to take"
    )


def _no_meaning(record: JsonObject) -> str:
    return f"a row of /deleted that does not say which object it means; it has {_fields(record)}"


def _fields(record: JsonObject) -> str:
    return ", ".join(sorted(record)[:20]) or "no fields"


def _key_filter(resource: Resource, key: str) -> cursors.Params:
    """Equality on each field of the key. SetAside where the filter language cannot say the value."""
    values = resources.split(resource, key)
    for value in values:
        # A comma means "or", a leading operator compares, % matches anything (Directo API documentation, filtering).
        if not value or "," in value or "%" in value or value[0] in "<>!":
            raise SetAside(f"Directo cannot be asked for {value!r}: its filters read it as an operator")
    return list(zip(resource.key, values, strict=True))
