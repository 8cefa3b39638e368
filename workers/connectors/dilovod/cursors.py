"""The sweep that finds what no webhook told: pages of ids with a token for each object's state, one page a request.

Its position is the cursor's text, and carries what the metadata said, so that each page costs one request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import Chunk, End, Line, Unreadable
from workers.connectors.dilovod import answers, metadata
from workers.connectors.dilovod.resources import ID, is_register
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    def first(cls, name: str, described: JsonObject) -> Position:
        """The beginning of a reading of `name`, as its metadata describes it."""
        if is_register(name):
            return cls._of_register(name, described)
        declared = metadata.requisites(described)
        everything = tuple(dict.fromkeys(("id", *declared, "delMark")))
        if "version" in declared or not declared:
            without = tuple(field for field in everything if field != "version")
            return cls(fields=("id", "version", "delMark"), versioned=True, spare=without)
        return cls(fields=everything)

    @classmethod
    def _of_register(cls, name: str, described: JsonObject) -> Position:
        dimensions = tuple(metadata.dimensions(described))
        if not dimensions:
            raise SetAside(f"the metadata of {name} names no dimensions, so nothing identifies its rows")
        return cls(fields=tuple(dict.fromkeys((*dimensions, *metadata.resources(described)))), dimensions=dimensions)

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
