"""How `request` shows what `getObject` does, learned from objects that `getObject` has shown.

`getObject` answers `{"header", "tableParts", "misc"}`: a link is `{"id", "pr"}`, a text in several languages is
`{"uk", "ru"}`, a table part is an object by row id, or `[]`. A `request` answers flat rows: `person` and `person__pr`,
`name__uk` and `name__ru`, and the rows of a part with their `owner`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from models import exact
from workers.connectors.dilovod.resources import PAGE

if TYPE_CHECKING:
    from models.values import JsonObject

ENOUGH = 20
"""Objects that were read both ways and were equal, before others are read by `request` alone."""

_MOST_ANSWERS = 8
"""Answers with rows in one batch, all parts together: a batch holds the gate, for about 0.3 s a request."""

OWNER = "itsOwner"
"""The alias of a part's `owner`, which no field of a row has."""

_OWNER = "owner"
"""The field by which a part's row names its object."""

Form = tuple[str, ...]
"""How `getObject` shows a field: () as it is, ("id", "pr") as a link, else as a text in these languages."""

_PLAIN: Form = ()
_LINK: Form = ("id", "pr")
_NO_VALUE = re.compile(r"[0\s:.-]*")
"""A text that stands for no value: "", "0", "0.00", "0000-00-00 00:00:00"."""


class DifferenceError(Exception):
    """`request` does not show what `getObject` does, or objects differ in their form. The message says where."""


class TooManyRowsError(DifferenceError):
    """Objects have so many rows that a batch costs no fewer requests. What batches have brought is right."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of headers, or of a part's rows.

    `forms`: of each field that `getObject` shows. `unseen`: fields that the metadata declares and `getObject` has not
    shown yet: an object with a value there may have another form.
    """

    forms: dict[str, Form] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()

    @property
    def multilang(self) -> bool:
        """Whether there are texts in several languages."""
        return any(form not in (_PLAIN, _LINK) for form in self.forms.values())

    @property
    def paths(self) -> dict[str, str]:
        """What to ask for: data path -> alias. The texts of links come by themselves."""
        texts = {f"{name}__pr" for name in self.forms}
        return {name: name for name in ("id", *self.forms, *self.unseen) if name not in texts}

    def learned(self, shown: JsonObject, declared: Iterable[str]) -> Fields:
        """With the fields of another object. DifferenceError if it has other ones."""
        forms = {name: _form(value) for name, value in shown.items()}
        if self.forms and forms != self.forms:
            names = [name for name in {**self.forms, **forms} if forms.get(name) != self.forms.get(name)]
            raise DifferenceError(f"objects have different fields: {', '.join(names)}")
        unseen = self.unseen if self.forms else tuple(name for name in declared if name not in forms and name != _OWNER)
        return Fields(forms, unseen)

    def assembled(self, row: JsonObject) -> JsonObject:
        """A row as `getObject` would show it. DifferenceError if it lacks a field."""
        try:
            return {name: _assembled(row, name, form) for name, form in self.forms.items()}
        except KeyError as lacking:
            raise DifferenceError(f"request lacks {lacking.args[0]}") from None

    def odd(self, row: JsonObject) -> set[str]:
        """The unseen fields of which the row has a value."""
        return {name for name in self.unseen if any(map(_has_value, _values_of(row, name)))}

    def without(self, unseen: Container[str]) -> Fields:
        """Without these of the unseen fields."""
        return replace(self, unseen=tuple(name for name in self.unseen if name not in unseen))


@dataclass(frozen=True, slots=True)
class Part:
    """A table part.

    `rows`: the fields of its rows; None as long as every object that was shown had none. `empty`: how an object without
    rows shows it, as JSON; None as long as none was shown. `owners`: whose rows fit into one answer, as far as known.
    """

    rows: Fields | None = None
    empty: str | None = None
    owners: int = PAGE

    def learned(self, name: str, shown: Any, declared: Iterable[str]) -> Part:
        """With the rows of another object. DifferenceError if they are other ones."""
        if not shown:
            empty = exact.canonical(shown)
            if self.empty not in (None, empty):
                raise DifferenceError(f"{name} without rows has two forms")
            return replace(self, empty=empty)
        rows = self.rows or Fields()
        if not isinstance(shown, Mapping):
            raise DifferenceError(f"{name} is not keyed by row id")
        for row in shown.values():
            if not isinstance(row, Mapping):
                raise DifferenceError(f"{name} has rows without fields")
            rows = rows.learned(dict(row), declared)
        return replace(self, rows=rows)

    def holding(self, owners: int, rows: int) -> Part:
        """With `owners` such that an answer stays well below `PAGE`, if so many have so many rows."""
        return replace(self, owners=max(1, min(PAGE, PAGE * 7 * owners // (10 * rows))) if rows else PAGE)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a resource is read by `request`.

    `metadata`: the fingerprint of the metadata by which it was learned. `rest`: what an answer has beside header and
    parts, as JSON. `size`: ids that a list may have. `proved`: how many objects were read both ways and were equal.
    """

    metadata: str
    header: Fields = Fields()
    parts: dict[str, Part] = field(default_factory=dict)
    rest: str | None = None
    size: int = PAGE
    proved: int = 0

    @classmethod
    def decode(cls, text: str | None, metadata: str) -> Plan:
        """The plan in a text; a new one if there is none, or if it was learned by other metadata."""
        try:
            plan = msgspec.json.decode(text or "", type=cls)
        except ValueError:
            return cls(metadata)
        return plan if plan.metadata == metadata else cls(metadata)

    def encode(self) -> str:
        """The plan as text."""
        return msgspec.json.encode(self).decode()

    @property
    def is_proved(self) -> bool:
        """Whether objects may be read by `request` alone."""
        return self.proved >= ENOUGH

    @property
    def objects(self) -> int:
        """How many objects a batch may have, so that their rows fit into `_MOST_ANSWERS`."""
        answers_each = sum(1 / part.owners for part in self.parts.values())
        return min(self.size, int(_MOST_ANSWERS / answers_each)) if answers_each else self.size

    def learned(self, shown: JsonObject, declared: JsonObject) -> Plan:
        """With another `getObject` answer. `declared`: `metadata.summary`. DifferenceError if it has another form."""
        header = self.header.learned(shown["header"], declared.get("reqs", ()))
        if "version" not in header.forms:
            raise DifferenceError("objects have no version")
        tables, rest = shown.get("tableParts"), {name: value for name, value in shown.items() if name != "header"}
        named: Mapping[str, Any] = tables if isinstance(tables, Mapping) else {}
        if isinstance(tables, Mapping):
            rest["tableParts"] = {}
        if self.rest not in (None, exact.canonical(rest)) or (
            self.rest is not None and named.keys() != self.parts.keys()
        ):
            raise DifferenceError("objects differ beside header and rows")
        rows = declared.get("tableParts", {})
        parts = {
            name: self.parts.get(name, Part()).learned(name, part, rows.get(name, ())) for name, part in named.items()
        }
        return replace(self, header=header, parts=parts, rest=exact.canonical(rest))

    def assembled(self, header: JsonObject, rows: Mapping[str, Sequence[JsonObject]]) -> JsonObject:
        """An object as `getObject` would show it, from its header and the rows of each part."""
        whole: JsonObject = {"header": self.header.assembled(header), **exact.loads(self.rest or "{}")}
        for name, part in self.parts.items():
            whole["tableParts"][name] = (
                {str(row["id"]): part.rows.assembled(row) for row in rows[name]}
                if part.rows is not None and rows[name]
                else exact.loads(part.empty or "[]")
            )
        return whole


def difference(shown: Any, assembled: Any) -> str | None:
    """Where `assembled` differs from what `getObject` shows, as `header.weight` or `tpGoods.price`; None if nowhere."""
    path = _difference(shown, assembled, ())
    if path is None:
        return None
    # Neither `tableParts` nor a row's id says more.
    named = path[1:2] + path[3:] if path[:1] == ("tableParts",) else path
    return ".".join(named) or "answer"


def _difference(one: Any, other: Any, path: tuple[str, ...]) -> tuple[str, ...] | None:
    if isinstance(one, dict) and isinstance(other, dict):
        found = (
            _difference(one[name], other[name], (*path, name)) if name in one and name in other else (*path, name)
            for name in {**one, **other}
        )
        return next((each for each in found if each is not None), None)
    return None if exact.same(one, other) else path


def _form(value: Any) -> Form:
    if not isinstance(value, Mapping):
        return _PLAIN
    names = tuple(sorted(value))
    return _LINK if names == _LINK else names


def _assembled(row: JsonObject, name: str, form: Form) -> Any:
    if form == _PLAIN:
        return row[name]
    if form == _LINK:
        return {"id": row[name], "pr": row[f"{name}__pr"]}
    return {language: row[f"{name}__{language}"] for language in form}


def _values_of(row: JsonObject, name: str) -> list[Any]:
    """The value of a field, or its texts in several languages."""
    languages = [key for key in row if key.startswith(f"{name}__") and key != f"{name}__pr"]
    return [row.get(key) for key in (name, *languages)]


def _has_value(value: Any) -> bool:
    return bool(value) and not _NO_VALUE.fullmatch(str(value))
