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
_MOST_PAGES = 20_000

DONE = "done"
"""The cursor of a finished reading. Dilovod has no "since", so the next reading starts from the beginning."""


def token(row: JsonObject) -> str | None:
    """What stands for an object's state, from its header or its line in the sweep; None without a `version`."""
    version = row.get("version")
    if version in (None, ""):
        return None
    return f"{version}:{int(answers.marked(row.get('delMark')))}"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a reading stands. `spare`: the fields to list instead, should the vendor refuse `version`."""

    fields: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    versioned: bool = False
    spare: tuple[str, ...] = ()
    offset: int = 0
    page: int = 0
    seen: str = ""
    """Fingerprint of the ids on the page before."""

    @classmethod
    def read(cls, cursor: str | None) -> Position | None:
        """The position in a cursor; None where a reading begins, as it does for a cursor of an earlier release."""
        if cursor is None or cursor == DONE:
            return None
        try:
            kept = exact.loads(cursor)
            tuples: dict[str, Any] = {name: tuple(kept.pop(name)) for name in ("fields", "dimensions", "spare")}
            return cls(**tuples, **kept)
        except (ValueError, TypeError, KeyError):
            return None

    @classmethod
    def first(cls, name: str, described: JsonObject, dimensions: Sequence[str] = ()) -> Position:
        """The beginning of a reading of `name` as its metadata describes it; a register by these dimensions, or all."""
        if is_register(name):
            by = metadata.kept(described, dimensions)
            return cls(fields=tuple(dict.fromkeys((*by, *metadata.resources(described)))), dimensions=by)
        declared = metadata.requisites(described)
        everything = tuple(dict.fromkeys(("id", *declared, "delMark")))
        if "version" in declared or not declared:
            without = tuple(field for field in everything if field != "version")
            return cls(fields=("id", "version", "delMark"), versioned=True, spare=without)
        return cls(fields=everything)

    def text(self) -> str:
        """The position as a cursor."""
        return exact.dumps({name: getattr(self, name) for name in self.__slots__})

    def refused_version(self, refused: SetAside) -> bool:
        """Whether the vendor means the field `version`."""
        return self.versioned and not refused.whole_resource and "version" in str(refused).lower()

    def without_version(self) -> Chunk:
        """Begin again, this time with the content of the listed rows for tokens."""
        return Chunk(end=End(Position(fields=self.spare).text(), more=True))

    def chunk(self, listed: Sequence[JsonObject]) -> Chunk:
        """A page's names and where the reading goes on."""
        if self.versioned and any(token(row) is None for row in listed):
            return self.without_version()
        named = [row for row in listed if ID.fullmatch(answers.link(row.get("id")))]
        return Chunk(
            lines=[self._line(row) for row in named],
            unreadable=[
                Unreadable(f"?{exact.fingerprint(row)}", "the listed row has no id", row)
                for row in listed
                if not ID.fullmatch(answers.link(row.get("id")))
            ],
            end=self._end(len(listed), exact.fingerprint(sorted(answers.link(row.get("id")) for row in named))),
        )

    def _line(self, row: JsonObject) -> Line:
        state = token(row) if self.versioned else None
        return Line(answers.link(row["id"]), state or exact.fingerprint(row), marked=answers.marked(row.get("delMark")))

    def _end(self, count: int, seen: str) -> End:
        if count < PAGE:
            return End(DONE, complete=True, warning=None if self.versioned else _CONTENT_ONLY)
        if seen == self.seen:
            return End(DONE, warning="the vendor repeats a page of its listing, so not every object was named")
        if self.page + 1 >= _MOST_PAGES:
            return End(DONE, warning=f"the listing did not end after {_MOST_PAGES} pages")
        return End(replace(self, offset=self.offset + PAGE, page=self.page + 1, seen=seen).text(), more=True)


_CONTENT_ONLY = (
    "the vendor lists no version here: the sweep compares header fields, and a change to table parts alone is found "
    "by its webhook only"
)


def of_register(rows: Iterable[Any], dimensions: Sequence[str], *, summed: bool) -> Iterator[Chunk]:
    """A register's rows as they arrive, in bounded chunks; the reading ends with them.

    Of different rows with the same dimensions none may be lost in silence. Where rows are sums (`summed`), none of them
    is what the register holds: SetAside, of the whole resource. Else the first is kept, and the others are set aside.
    """
    with streaming.Met() as met:
        yield from _met_once(rows, dimensions, met, summed=summed)


def _met_once(rows: Iterable[Any], dimensions: Sequence[str], met: streaming.Met, *, summed: bool) -> Iterator[Chunk]:
    chunk: list[Snapshot | Unreadable] = []
    for row in rows:
        found = _keyed(row, dimensions)
        if isinstance(found, Snapshot) and not _is_first(found, met):
            reason = f"different rows have the same {', '.join(dimensions)}"
            if summed:
                remedy = "let the setting `dimensions` name all that the register has, or leave it out"
                raise SetAside(f"{reason}: they are not summed by these; {remedy}", whole_resource=True)
            found = Unreadable(f"?{exact.fingerprint(found.raw)}", reason, found.raw)
        chunk.append(found)
        if len(chunk) == PAGE:
            yield _sorted_out(chunk)
            chunk = []
    yield replace(_sorted_out(chunk), end=End(DONE, complete=True))


def _is_first(row: Snapshot, met: streaming.Met) -> bool:
    """Whether no other row of this key was met; the same row again is no other."""
    state = bytes.fromhex(exact.fingerprint(exact.storable(row.raw)))
    return met.first(row.key, state) in {None, state}


def _sorted_out(found: Sequence[Snapshot | Unreadable]) -> Chunk:
    return Chunk(
        snapshots=[each for each in found if isinstance(each, Snapshot)],
        unreadable=[each for each in found if isinstance(each, Unreadable)],
    )


def _keyed(row: Any, dimensions: Sequence[str]) -> Snapshot | Unreadable:
    """A register's row under its dimensions. An empty link is "0", so no value at all identifies nothing."""
    raw = row if isinstance(row, dict) else {"value": row}
    missing = [name for name in dimensions if not isinstance(raw.get(name), str | int)]
    if missing:
        return Unreadable(f"?{exact.fingerprint(raw)}", f"the row has no value of {', '.join(missing)}", raw)
    return Snapshot(":".join(str(raw[name]) for name in dimensions), raw)
