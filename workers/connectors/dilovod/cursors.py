"""Dilovod's listings: pages of ids with a token for each object's state, or all rows of a register.

They find changes whose webhook was lost. The cursor carries the fields from the metadata, so that each page costs one
request. A poll lists the documents dated within the setting `lookback`, a full sync all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import Chunk, End, Line, Snapshot
from workers.connectors import objects, streaming
from workers.connectors.dilovod import answers, metadata, queries
from workers.connectors.dilovod.options import is_register
from workers.connectors.dilovod.resources import ID, PAGE
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from models.values import JsonObject
    from workers.connectors.contract import Resource
    from workers.connectors.dilovod.options import Options
    from workers.errors import VendorError

_MAX_PAGES = 20_000
_VERSION = "version"
_DATE = "date"
_TUPLES = ("fields", "dimensions", "fallback_fields")

DONE = "done"
"""The cursor after a finished run. Dilovod cannot list changes, so the next run starts from the beginning."""


def since(resource: Resource, cursor: str | None, options: Options, now: Callable[[], datetime]) -> str:
    """The date from which a run that begins at this cursor lists documents, by Dilovod's wall clock; "": it lists all.

    Only a poll begins where an earlier run ended. There is no last date: a document may be dated in the future. One
    whose date was changed to an earlier one is left to the next full sync, as all older ones are.
    """
    if cursor != DONE or resource.every is None or options.lookback is None:
        return ""
    return queries.to_timestamp(f"{now().astimezone(options.zone) - options.lookback:%Y-%m-%d}")


def token(row: JsonObject) -> str | None:
    """A token of an object's state, `version:delMark`, from its header or listed row; None without a `version`."""
    version = row.get("version")
    if version in (None, ""):
        return None
    return f"{version}:{int(answers.is_marked(row.get('delMark')))}"


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a listing.

    - `fields`: the fields to ask for; `dimensions`: those of a register that its rows are kept by
    - `versioned`: only `version` is asked for, so an object without one shows nothing of its state
    - `fallback_fields`: the fields to ask for if Dilovod refuses `version`, or lists many objects without one
    - `unversioned`: objects listed without a version so far
    - `offset`, `page`: of the next page
    - `previous_page`: fingerprint of the ids on the page before
    - `since`: the date from which documents are listed, the same for all pages of a run; "": all are
    """

    fields: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    versioned: bool = False
    fallback_fields: tuple[str, ...] = ()
    unversioned: int = 0
    offset: int = 0
    page: int = 0
    previous_page: str = ""
    since: str = ""

    @classmethod
    def decode(cls, cursor: str | None) -> Position | None:
        """The position in a cursor; None to begin a run, also for a cursor of an earlier release."""
        if cursor is None or cursor == DONE:
            return None
        try:
            decoded = exact.loads(cursor)
            tuples: dict[str, Any] = {name: tuple(decoded.pop(name)) for name in _TUPLES}
            return cls(**tuples, **decoded)
        except (ValueError, TypeError, KeyError):
            return None

    @classmethod
    def first(
        cls, resource: Resource, declared_metadata: JsonObject, dimensions: Sequence[str] = (), since: str = ""
    ) -> Position:
        """The start of a run, from the resource's metadata. `dimensions`: of a register; empty: all it has.

        If the metadata has no `date`, everything is listed, whatever `since`.
        """
        if is_register(resource.name):
            kept = metadata.selected_dimensions(declared_metadata, dimensions)
            fields = dict.fromkeys((*kept, *metadata.resources(declared_metadata), *resource.key))
            return cls(fields=tuple(fields), dimensions=kept)
        declared = metadata.requisites(declared_metadata)
        since = since if _DATE in declared or not declared else ""
        filtered = (_DATE,) if since else ()  # a filter takes only fields that are asked for
        header_fields = tuple(dict.fromkeys(("id", *declared, "delMark", *filtered)))
        if "version" in declared or not declared:
            fallback = tuple(field for field in header_fields if field != "version")
            versioned = ("id", "version", "delMark", *filtered)
            return cls(fields=versioned, versioned=True, fallback_fields=fallback, since=since)
        return cls(fields=header_fields, since=since)

    @property
    def filters(self) -> list[queries.Filter]:
        """What the request's rows have to match."""
        return [queries.Filter(_DATE, queries.Operator.GREATER_OR_EQUAL, self.since)] if self.since else []

    def encode(self) -> str:
        """The cursor as text."""
        return exact.dumps({name: getattr(self, name) for name in self.__slots__})

    def is_version_refusal(self, error: VendorError) -> bool:
        """Whether Dilovod refused the field `version`."""
        whole = isinstance(error, SetAside) and error.whole_resource
        return self.versioned and not whole and "version" in str(error).lower()

    def without_version(self, *, refused: bool) -> Chunk:
        """An end that restarts the run with all header fields, whose hash is the token of an object without a version.

        `refused`: Dilovod refuses the field `version`, so it is not among them.
        """
        fields = self.fallback_fields if refused else (*self.fallback_fields, _VERSION)
        return Chunk(end=End(Position(fields=fields, since=self.since).encode(), more=True))

    def chunk(self, rows: Sequence[Any]) -> Chunk:
        """The chunk of a page: a line for each row with an id, and the position of the next page.

        A row that cannot be read has a line, too, if its id could be: the object itself may be readable.
        """
        broken = [row for row in rows if isinstance(row, streaming.UnreadableRecord)]
        listed = [row for row in rows if not isinstance(row, streaming.UnreadableRecord)]
        with_id = [row for row in listed if ID.fullmatch(answers.link_id(row.get("id")))]
        named = [row for row in broken if ID.fullmatch(answers.link_id(row.told.get("id")))]
        before = self.unversioned
        unversioned = before + sum(token(row) is None for row in with_id)
        if self.versioned and unversioned > MAX_UNVERSIONED:
            return self.without_version(refused=False)
        ids = [answers.link_id(row.get("id")) for row in with_id] + [answers.link_id(row.told["id"]) for row in named]
        return Chunk(
            lines=[
                *self._lines(with_id, before),
                *(Line(answers.link_id(row.told["id"]), row.digest) for row in named),
            ],
            unreadable=[
                *(objects.unreadable(row, None) for row in broken if row not in named),
                *(objects.without_key(row, "a listed row without an id of 16 digits") for row in _without_id(listed)),
            ],
            end=self._end(len(rows), exact.fingerprint(sorted(ids)), unversioned),
        )

    def _lines(self, rows: Sequence[JsonObject], unversioned: int) -> list[Line]:
        """A line for each row. Of an object without a version no listing shows all of its state, so it is fetched.

        Only the first `MAX_UNVERSIONED` of a run are, `unversioned` of which came before. The others are compared by
        their header fields.
        """
        lines = []
        for row in rows:
            state, marked = token(row), answers.is_marked(row.get("delMark"))
            unversioned += state is None
            is_fetched = state is None and not marked and unversioned <= MAX_UNVERSIONED
            seen = {name: value for name, value in row.items() if name != _VERSION}
            lines.append(
                Line(answers.link_id(row["id"]), state or exact.fingerprint(seen), marked=marked, changed=is_fetched)
            )
        return lines

    def _end(self, count: int, this_page: str, unversioned: int) -> End:
        if count < PAGE:
            return End(DONE, complete=not self.since, gap=_gap(unversioned))
        if this_page == self.previous_page:
            return End(DONE, warning="Dilovod repeated a page of its listing, so some objects may be missing from it")
        if self.page + 1 >= _MAX_PAGES:
            return End(DONE, warning=f"the listing did not end after {_MAX_PAGES} pages")
        position = replace(self, offset=self.offset + PAGE, page=self.page + 1, previous_page=this_page)
        return End(replace(position, unversioned=unversioned).encode(), more=True)


def _without_id(rows: Sequence[JsonObject]) -> list[JsonObject]:
    return [row for row in rows if not ID.fullmatch(answers.link_id(row.get("id")))]


def _gap(unversioned: int) -> str | None:
    """What a person should know of the objects without a version that were not fetched; None if there are none."""
    if unversioned <= MAX_UNVERSIONED:
        return None
    return (
        f"Dilovod lists {unversioned} objects without a version: full syncs compare their header fields, so a change "
        f"to table parts alone is found only by its webhook, and no full sync proves that all is complete"
    )


MAX_UNVERSIONED = 100
"""Objects without a version that each full sync fetches, so that they too are equal within the bound."""


def register_chunks(
    rows: Iterable[Any], resource: Resource, dimensions: Sequence[str], *, summed: bool
) -> Iterator[Chunk]:
    """A register's rows as they arrive, in bounded chunks; the run ends with them.

    They are keyed by the setting `keys`, else by `dimensions`. Two different rows with the same key are reported. If
    rows are sums (`summed`), neither is the register's balance: SetAside of the whole resource. Otherwise the first is
    kept and the others are unreadable.
    """
    keyed = replace(resource, key=resource.key or tuple(dimensions))
    iterator = iter(rows)
    with streaming.SeenKeys() as seen:
        while batch := list(islice(iterator, PAGE)):
            yield _register_chunk(batch, keyed, seen, summed=summed)
    yield Chunk(end=End(DONE, complete=True))


def _register_chunk(batch: Sequence[Any], resource: Resource, seen: streaming.SeenKeys, *, summed: bool) -> Chunk:
    records, broken = objects.readable(batch, lambda told: _register_key(told, resource))
    snapshots: list[Snapshot] = []
    unkeyed: list[tuple[str, JsonObject]] = []
    names = ", ".join(resource.key)
    for row in records:
        key = _register_key(row, resource)
        if key is None:
            unkeyed.append((f"a row without the field {names}", row))
        elif _is_new(key, row, seen):
            snapshots.append(Snapshot(key, row))
        else:
            if summed:
                remedy = "name all dimensions of the register in the setting `dimensions`, or remove the setting"
                reason = f"different rows have the same {names}: Dilovod does not sum by these; {remedy}"
                raise SetAside(reason, whole_resource=True)
            unkeyed.append((f"different rows with the same {names}", row))
    remedy = objects.keys_remedy(resource, records) if unkeyed else ""
    unreadable = [*broken, *(objects.without_key(row, reason, remedy) for reason, row in unkeyed)]
    return Chunk(snapshots=snapshots, unreadable=unreadable)


def _register_key(row: JsonObject, resource: Resource) -> str | None:
    """A row's key. An empty dimension is a value, an absent one is not; an empty link is "0"."""
    if resource.keyed_by_row:
        return objects.key_of(resource, row)
    values = [row.get(name, []) for name in resource.key]
    if any(isinstance(value, dict | list) for value in values):
        return None
    return objects.join_key([objects.key_text(value) for value in values])


def _is_new(key: str, row: JsonObject, seen: streaming.SeenKeys) -> bool:
    """Whether no different row with this key came before; an equal row may repeat."""
    state = bytes.fromhex(exact.fingerprint(exact.storable(row)))
    return seen.remember(key, state) in {None, state}
