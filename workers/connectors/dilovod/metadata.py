"""Decodes `getMetadata` leniently: `valueType` is a text, an object or a list, and the help does not say when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from models import exact
from models.values import Kind
from workers.connectors.dilovod import answers
from workers.connectors.dilovod.queries import SelectionType
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.values import JsonObject, Shape
    from workers.connectors.contract import ClientRuntime

_KINDS = {
    "datetime": Kind.TIMESTAMP,
    "date": Kind.TIMESTAMP,
    "timestamp": Kind.TIMESTAMP,
    "varchar": Kind.TEXT,
    "char": Kind.TEXT,
    "string": Kind.TEXT,
    "text": Kind.TEXT,
    "decimal": Kind.NUMBER,
    "numeric": Kind.NUMBER,
    "number": Kind.NUMBER,
    "integer": Kind.NUMBER,
    "int": Kind.NUMBER,
    "bigint": Kind.NUMBER,
    "float": Kind.NUMBER,
    "boolean": Kind.BOOLEAN,
    "bool": Kind.BOOLEAN,
}
_T = TypeVar("_T")
_MULTILANG = "multilangvarchar"
_LANGUAGES = ("uk", "ru")
_LINK = "link"
_DOTTED = re.compile(r"[A-Za-z]+\.[A-Za-z]\w*")
_WORD = re.compile(r"[A-Za-z]+")


def requisites(metadata: JsonObject) -> dict[str, Any]:
    """An object's own fields (`reqs`): name -> declaration."""
    return _by_name(metadata.get("reqs"))


def dimensions(metadata: JsonObject) -> dict[str, Any]:
    """The fields that identify a register's row: name -> declaration."""
    return _by_name(metadata.get("dimensions"))


def resources(metadata: JsonObject) -> dict[str, Any]:
    """The quantities of a register: name -> declaration, without the sums (`qtyReceipt`) that may be listed too."""
    declared = _by_name(metadata.get("resources"))
    sum_names = {
        f"{name}{suffix}"
        for name in declared
        for pair in _SPELLINGS
        if all(f"{name}{each}" in declared for each in pair)
        for suffix in ("Start", *pair, "Final")
    }
    return {name: item for name, item in declared.items() if name not in sum_names}


def selected_dimensions(metadata: JsonObject, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """A register's dimensions in the metadata's order, only the `wanted` ones if any are given.

    SetAside of the whole resource if the register has no dimensions or lacks a wanted one.
    """
    name, available = metadata.get("name") or "the register", tuple(dimensions(metadata))
    if not available:
        raise SetAside(f"the metadata of {name} has no dimensions, so nothing identifies its rows", whole_resource=True)
    unknown = [each for each in wanted if each not in available]
    if unknown:
        raise SetAside(
            f"{name} has no dimension {', '.join(unknown)}; choose from {', '.join(available)}",
            whole_resource=True,
        )
    return tuple(each for each in available if each in wanted) or available


_CACHED_FOR = timedelta(hours=25)
"""Longer than a day, so that an entry is renewed with the daily shape request before it expires."""


def summary(metadata: JsonObject) -> JsonObject:
    """The names that a `getMetadata` answer declares, and a fingerprint of the whole answer.

    `{"name", "reqs", "dimensions", "resources", "tableParts", "fingerprint"}`: lists of names, by part for table parts.
    """
    return {
        "name": metadata.get("name"),
        **{part: list(_by_name(metadata.get(part))) for part in ("reqs", "dimensions", "resources")},
        "tableParts": {part: list(fields) for part, fields in _parts(metadata)},
        "fingerprint": exact.fingerprint(metadata),
    }


class MetadataCache:
    """The `summary` of each resource's metadata, cached for a day in the account's session store, for all workers.

    If two workers write at once, one entry may be lost and is fetched again.
    """

    def __init__(self, runtime: ClientRuntime) -> None:
        self._sessions = runtime.sessions
        self._now = runtime.now

    def get(self, name: str) -> JsonObject | None:
        """The cached summary; None if there is none."""
        found = self._entries().get(name)
        return None if found is None else dict(found["declared"])

    def put(self, name: str, metadata: JsonObject) -> None:
        """Cache the summary of a `getMetadata` answer."""
        until = (self._now() + _CACHED_FOR).isoformat()
        entry = {"declared": summary(metadata), "until": until}
        self._sessions.put(exact.dumps({**self._entries(), name: entry}).encode(), self._now() + _CACHED_FOR)

    def _entries(self) -> dict[str, Any]:
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            entries, now = exact.loads(self._sessions.get() or b"{}"), self._now()
            return {name: each for name, each in entries.items() if datetime.fromisoformat(each["until"]) > now}
        return {}


_SPELLINGS = (("Receipt", "Expense"), ("Reciept", "Expence"))
"""Suffixes for receipts and expenses: as in the help's text, and as in its only sample of a turnover."""

_SUM_SUFFIXES: dict[SelectionType, tuple[tuple[str, ...], ...]] = {
    SelectionType.TURNOVER: _SPELLINGS[::-1],
    SelectionType.BALANCE_AND_TURNOVER: tuple(("Start", *pair, "Final") for pair in _SPELLINGS),
}
"""Suffixes for each selection type, the spelling of its own sample first."""


def sum_fields(metadata: JsonObject, selection: SelectionType) -> list[tuple[str, ...]]:
    """The fields of a selection's sums, one tuple for each spelling to try; one only, if the metadata lists it."""
    quantities, declared = resources(metadata), _by_name(metadata.get("resources"))
    spellings = [
        tuple(f"{name}{suffix}" for name in quantities for suffix in suffixes)
        for suffixes in _SUM_SUFFIXES.get(selection, (("",),))
    ]
    return [fields for fields in spellings if declared.keys() >= set(fields)] or spellings


def try_spellings(spellings: Sequence[Mapping[str, str]], ask: Callable[[Mapping[str, str]], _T]) -> _T:
    """The answer for the first of `spellings` whose field names Dilovod does not refuse."""
    for fields in spellings[:-1]:
        try:
            return ask(fields)
        except answers.UnknownError as refused:
            message = str(refused).lower()
            if not any(name.lower() in message for name in fields.keys() - spellings[-1].keys()):
                raise
    return ask(spellings[-1])


def object_shape(metadata: JsonObject) -> Shape:
    """The shape of a catalogue or a kind of document, of objects as `resources.project` returns them."""
    own: dict[str, Kind] = {}
    for field, declared in requisites(metadata).items():
        own |= _header_field(field, declared)
    own |= {"id.id": Kind.TEXT, "id.pr": Kind.TEXT}
    own.pop("id", None)
    return {"": own} | {part: _part(fields) for part, fields in _parts(metadata)}


def register_shape(metadata: JsonObject, wanted: Sequence[str] = ()) -> Shape:
    """The shape of a register's rows by the wanted dimensions (none given: all); links flat, `good` and `good__pr`."""
    own: dict[str, Kind] = {}
    chosen = {name: declared for name, declared in dimensions(metadata).items() if not wanted or name in wanted}
    for field, declared in {**chosen, **resources(metadata)}.items():
        own |= _row_field(field, declared)
    return {"": own}


def _parts(metadata: JsonObject) -> Iterator[tuple[str, dict[str, Any]]]:
    for part, declared in _by_name(metadata.get("tableParts")).items():
        fields = declared.get("reqs", declared) if isinstance(declared, dict) else None
        yield part, _by_name(fields)


def _part(fields: dict[str, Any]) -> dict[str, Kind]:
    row: dict[str, Kind] = {}
    for field, declared in fields.items():
        row |= _row_field(field, declared)
    return row | {"id": Kind.TEXT, "rowNum": Kind.NUMBER}


def _header_field(field: str, declared: Any) -> dict[str, Kind]:
    kind = _kind(declared)
    if kind == _LINK:
        return {f"{field}.id": Kind.TEXT, f"{field}.pr": Kind.TEXT}
    return _plain_field(field, kind)


def _row_field(field: str, declared: Any) -> dict[str, Kind]:
    kind = _kind(declared)
    if kind == _LINK:
        return {field: Kind.TEXT, f"{field}__pr": Kind.TEXT}
    return _plain_field(field, kind)


def _plain_field(field: str, kind: Kind | str | None) -> dict[str, Kind]:
    if kind == _MULTILANG:
        return {f"{field}.{language}": Kind.TEXT for language in _LANGUAGES}
    return {field: kind} if isinstance(kind, Kind) else {}


def _kind(declared: Any) -> Kind | str | None:
    """The kind of a field if all its types agree; None: the column's type follows from the values."""
    kinds = {kind for text in _texts(_value_type(declared)) if (kind := _kind_of_text(text)) is not None}
    return kinds.pop() if len(kinds) == 1 else None


def _value_type(declared: Any) -> Any:
    return declared["valueType"] if isinstance(declared, dict) and "valueType" in declared else declared


def _kind_of_text(text: str) -> Kind | str | None:
    if _DOTTED.match(text):
        return _LINK
    word = _WORD.match(text)
    name = word[0].lower() if word else ""
    return name if name in {_LINK, _MULTILANG} else _KINDS.get(name)


def _texts(value: Any) -> Iterator[str]:
    """Every text in the value, keys included: it is not documented whether a type is a key or a value."""
    if isinstance(value, str):
        yield from (text.strip() for text in value.split(","))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _by_name(value: Any) -> dict[str, Any]:
    """Name -> declaration, from an object by name, a list of objects with `name`, a list of names, or `[]`."""
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    if not isinstance(value, list):
        return {}
    return {
        name: item
        for item in value
        if isinstance(name := item.get("name") if isinstance(item, dict) else item, str) and name
    }
