"""The sweep that finds what no webhook told: pages of ids with a token for each object's state, one page a request.

Its position is the cursor's text, and carries what the metadata said, so that each page costs one request.
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

DONE = "done"
"""The cursor of a finished reading. Dilovod has no "since", so the next reading starts from the beginning."""


def token(row: JsonObject) -> str | None:
    """What stands for an object's state, from its header or its line in the sweep; None without a `version`."""
    version = row.get("version")
    if version in (None, ""):
        return None
    return f"{version}:{int(answers.is_marked(row.get('delMark')))}"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reading stands. `spare`: the fields to list instead, should the vendor refuse `version`."""

    fields: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    versioned: bool = False
    fallback_fields: tuple[str, ...] = ()
    offset: int = 0
    page: int = 0
    previous_page: str = ""
    """Fingerprint of the ids on the page before."""

    @classmethod
    def decode(cls, cursor: str | None) -> Position | None:
        """The position in a cursor; None where a reading begins, as it does for a cursor of an earlier release."""
        if cursor is None or cursor == DONE:
            return None
        try:
            decoded = exact.loads(cursor)
            tuples: dict[str, Any] = {name: tuple(decoded.pop(name)) for name in ("fields", "dimensions", "spare")}
            return cls(**tuples, **decoded)
        except (ValueError, TypeError, KeyError):
            return None

    @classmethod
    def first(cls, name: str, declared_metadata: JsonObject, dimensions: Sequence[str] = ()) -> Position:
        """The beginning of a reading of `name` as its metadata describes it; a register by these dimensions, or all."""
        if is_register(name):
            kept = metadata.selected_dimensions(declared_metadata, dimensions)
            return cls(fields=tuple(dict.fromkeys((*kept, *metadata.resources(declared_metadata)))), dimensions=kept)
        declared = metadata.requisites(declared_metadata)
        header_fields = tuple(dict.fromkeys(("id", *declared, "delMark")))
        if "version" in declared or not declared:
            fallback = tuple(field for field in header_fields if field != "version")
            return cls(fields=("id", "version", "delMark"), versioned=True, spare=fallback)
        return cls(fields=header_fields)

    def encode(self) -> str:
        """The position as a cursor."""
        return exact.dumps({name: getattr(self, name) for name in self.__slots__})

    def is_version_refusal(self, error: SetAside) -> bool:
        """Whether the vendor means the field `version`."""
        return self.versioned and not error.whole_resource and "version" in str(error).lower()

    def without_version(self) -> Chunk:
        """Begin again, this time with the content of the listed rows for tokens."""
        return Chunk(end=End(Position(fields=self.fallback_fields).encode(), more=True))

    def chunk(self, rows: Sequence[JsonObject]) -> Chunk:
        """A page's names and where the reading goes on."""
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
        return Line(answers.link_id(row["id"]), state or exact.fingerprint(row), marked=answers.is_marked(row.get("delMark")))

    def _end(self, count: int, this_page: str) -> End:
        if count < PAGE:
            return End(DONE, complete=True, warning=None if self.versioned else _NO_VERSION_WARNING)
        if this_page == self.previous_page:
            return End(DONE, warning="the vendor repeats a page of its listing, so not every object was named")
        if self.page + 1 >= _MAX_PAGES:
            return End(DONE, warning=f"the listing did not end after {_MAX_PAGES} pages")
        return End(replace(self, offset=self.offset + PAGE, page=self.page + 1, seen=this_page).encode(), more=True)


_NO_VERSION_WARNING = (
    "the vendor lists no version here: the sweep compares header fields, and a change to table parts alone is found "
    "by its webhook only"
)


def register_chunks(rows: Iterable[Any], dimensions: Sequence[str], *, summed: bool) -> Iterator[Chunk]:
    """A register's rows as they arrive, in bounded chunks; the reading ends with them.

    Of different rows with the same dimensions none may be lost in silence. Where rows are sums (`summed`), none of them
    is what the register holds: SetAside, of the whole resource. Else the first is kept, and the others are set aside.
    """
    with streaming.Met() as seen:
        yield from _deduplicated_chunks(rows, dimensions, seen, summed=summed)


def _deduplicated_chunks(rows: Iterable[Any], dimensions: Sequence[str], seen: streaming.Met, *, summed: bool) -> Iterator[Chunk]:
    batch: list[Snapshot | Unreadable] = []
    for row in rows:
        found = _to_snapshot(row, dimensions)
        if isinstance(found, Snapshot) and not _is_new(found, seen):
            reason = f"different rows have the same {', '.join(dimensions)}"
            if summed:
                remedy = "let the setting `dimensions` name all that the register has, or leave it out"
                raise SetAside(f"{reason}: they are not summed by these; {remedy}", whole_resource=True)
            found = Unreadable(f"?{exact.fingerprint(found.raw)}", reason, found.raw)
        batch.append(found)
        if len(batch) == PAGE:
            yield _to_chunk(batch)
            batch = []
    yield replace(_to_chunk(batch), end=End(DONE, complete=True))


def _is_new(row: Snapshot, seen: streaming.Met) -> bool:
    """Whether no other row of this key was met; the same row again is no other."""
    state = bytes.fromhex(exact.fingerprint(exact.storable(row.raw)))
    return seen.first(row.key, state) in {None, state}


def _to_chunk(found: Sequence[Snapshot | Unreadable]) -> Chunk:
    return Chunk(
        snapshots=[each for each in found if isinstance(each, Snapshot)],
        unreadable=[each for each in found if isinstance(each, Unreadable)],
    )


def _to_snapshot(row: Any, dimensions: Sequence[str]) -> Snapshot | Unreadable:
    """A register's row under its dimensions. An empty link is "0", so no value at all identifies nothing."""
    raw = row if isinstance(row, dict) else {"value": row}
    missing = [name for name in dimensions if not isinstance(raw.get(name), str | int)]
    if missing:
        return Unreadable(f"?{exact.fingerprint(raw)}", f"the row has no value of {', '.join(missing)}", raw)
    return Snapshot(":".join(str(raw[name]) for name in dimensions), raw)
