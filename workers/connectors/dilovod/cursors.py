"""Dilovod's full sync: pages of ids with a token for each object's state, or all rows of a register.

It finds changes whose webhook was lost. The cursor carries the fields from the metadata, so that each page costs one
request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import Chunk, End, Line, Snapshot, Unreadable
from workers.connectors import streaming
from workers.connectors.dilovod import answers, metadata
from workers.connectors.dilovod.resources import ID, is_register
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.values import JsonObject

PAGE = 500
_MAX_PAGES = 20_000
_TUPLES = ("fields", "dimensions", "fallback_fields")

DONE = "done"
"""The cursor after a finished run. Dilovod cannot list changes, so the next run starts from the beginning."""


def token(row: JsonObject) -> str | None:
    """A token of an object's state, `version:delMark`, from its header or listed row; None without a `version`."""
    version = row.get("version")
    if version in (None, ""):
        return None
    return f"{version}:{int(answers.is_marked(row.get('delMark')))}"


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a full sync.

    - `fields`: the fields to ask for; `dimensions`: those of a register that its rows are kept by
    - `versioned`: the token is built from `version`; else it is a hash of the row
    - `fallback_fields`: the fields to ask for if Dilovod refuses `version`
    - `offset`, `page`: of the next page
    - `previous_page`: fingerprint of the ids on the page before
    """

    fields: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    versioned: bool = False
    fallback_fields: tuple[str, ...] = ()
    offset: int = 0
    page: int = 0
    previous_page: str = ""

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
    def first(cls, name: str, declared_metadata: JsonObject, dimensions: Sequence[str] = ()) -> Position:
        """The start of a run over `name`, from its metadata. `dimensions`: of a register; empty: all it has."""
        if is_register(name):
            kept = metadata.selected_dimensions(declared_metadata, dimensions)
            return cls(fields=tuple(dict.fromkeys((*kept, *metadata.resources(declared_metadata)))), dimensions=kept)
        declared = metadata.requisites(declared_metadata)
        header_fields = tuple(dict.fromkeys(("id", *declared, "delMark")))
        if "version" in declared or not declared:
            fallback = tuple(field for field in header_fields if field != "version")
            return cls(fields=("id", "version", "delMark"), versioned=True, fallback_fields=fallback)
        return cls(fields=header_fields)

    def encode(self) -> str:
        """The cursor as text."""
        return exact.dumps({name: getattr(self, name) for name in self.__slots__})

    def is_version_refusal(self, error: SetAside) -> bool:
        """Whether Dilovod refused the field `version`."""
        return self.versioned and not error.whole_resource and "version" in str(error).lower()

    def without_version(self) -> Chunk:
        """An end that restarts the run without `version`: hashes of the listed rows become the tokens."""
        return Chunk(end=End(Position(fields=self.fallback_fields).encode(), more=True))

    def chunk(self, rows: Sequence[JsonObject]) -> Chunk:
        """The chunk of a page: a line for each row with an id, and the position of the next page."""
        if self.versioned and any(token(row) is None for row in rows):
            return self.without_version()
        with_id = [row for row in rows if ID.fullmatch(answers.link_id(row.get("id")))]
        return Chunk(
            lines=[self._line(row) for row in with_id],
            unreadable=[
                Unreadable(f"?{exact.fingerprint(row)}", "the listed row has no id", row)
                for row in rows
                if not ID.fullmatch(answers.link_id(row.get("id")))
            ],
            end=self._end(len(rows), exact.fingerprint(sorted(answers.link_id(row.get("id")) for row in with_id))),
        )

    def _line(self, row: JsonObject) -> Line:
        state = token(row) if self.versioned else None
        return Line(
            answers.link_id(row["id"]), state or exact.fingerprint(row), marked=answers.is_marked(row.get("delMark"))
        )

    def _end(self, count: int, this_page: str) -> End:
        if count < PAGE:
            return End(DONE, complete=True, warning=None if self.versioned else _NO_VERSION_WARNING)
        if this_page == self.previous_page:
            return End(DONE, warning="Dilovod repeated a page of its listing, so some objects may be missing from it")
        if self.page + 1 >= _MAX_PAGES:
            return End(DONE, warning=f"the listing did not end after {_MAX_PAGES} pages")
        return End(
            replace(self, offset=self.offset + PAGE, page=self.page + 1, previous_page=this_page).encode(), more=True
        )


_NO_VERSION_WARNING = (
    "Dilovod lists no version here: full syncs compare header fields, so a change to table parts alone is found only "
    "by its webhook"
)


def register_chunks(rows: Iterable[Any], dimensions: Sequence[str], *, summed: bool) -> Iterator[Chunk]:
    """A register's rows as they arrive, in bounded chunks; the run ends with them.

    Two different rows with the same dimensions are reported. If rows are sums (`summed`), neither is the register's
    balance: SetAside of the whole resource. Otherwise the first is kept and the others are unreadable.
    """
    with streaming.SeenKeys() as seen:
        yield from _deduplicated_chunks(rows, dimensions, seen, summed=summed)


def _deduplicated_chunks(
    rows: Iterable[Any], dimensions: Sequence[str], seen: streaming.SeenKeys, *, summed: bool
) -> Iterator[Chunk]:
    batch: list[Snapshot | Unreadable] = []
    for row in rows:
        found = _to_snapshot(row, dimensions)
        if isinstance(found, Snapshot) and not _is_new(found, seen):
            reason = f"different rows have the same {', '.join(dimensions)}"
            if summed:
                remedy = "name all dimensions of the register in the setting `dimensions`, or remove the setting"
                raise SetAside(f"{reason}: Dilovod does not sum by these; {remedy}", whole_resource=True)
            found = Unreadable(f"?{exact.fingerprint(found.raw)}", reason, found.raw)
        batch.append(found)
        if len(batch) == PAGE:
            yield _to_chunk(batch)
            batch = []
    yield replace(_to_chunk(batch), end=End(DONE, complete=True))


def _is_new(row: Snapshot, seen: streaming.SeenKeys) -> bool:
    """Whether no different row with this key came before; an equal row may repeat."""
    state = bytes.fromhex(exact.fingerprint(exact.storable(row.raw)))
    return seen.remember(row.key, state) in {None, state}


def _to_chunk(found: Sequence[Snapshot | Unreadable]) -> Chunk:
    return Chunk(
        snapshots=[each for each in found if isinstance(each, Snapshot)],
        unreadable=[each for each in found if isinstance(each, Unreadable)],
    )


def _to_snapshot(row: Any, dimensions: Sequence[str]) -> Snapshot | Unreadable:
    """A register's row keyed by its dimensions; unreadable if one is absent (an empty link is "0", not absent)."""
    raw = row if isinstance(row, dict) else {"value": row}
    missing = [name for name in dimensions if not isinstance(raw.get(name), str | int)]
    if missing:
        return Unreadable(f"?{exact.fingerprint(raw)}", f"the row has no value of {', '.join(missing)}", raw)
    return Snapshot(":".join(str(raw[name]) for name in dimensions), raw)
