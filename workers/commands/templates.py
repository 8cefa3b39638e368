"""Fills a template of arguments from the rows of a CSV file: one command for each row.

A text in the template holds columns as `${column}`. A text that is nothing but one such column takes its value whole:
`"${qty:number}"` becomes a number, `"${active:boolean}"` true or false, and where the cell is empty its field is left
out.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models import exact, notation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.values import JsonObject

_COLUMN = re.compile(r"\$\{([^{}:]+)(?::(number|boolean))?\}")
_STRAY = re.compile(r"\$\{")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_ABSENT = object()


class TemplateError(ValueError):
    """The template and the row do not fit. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, filled in. `number`: of its line's record in the file, the header being the first."""

    number: int
    arguments: JsonObject
    idempotency_key: str


def rows(content: str, template: JsonObject, *, prefix: str) -> Iterator[Row]:
    """The rows of a CSV file, each as arguments. Raises `TemplateError`.

    A row's idempotency key is a hash of `prefix` and what it is filled to: the same file gives the same keys, so what
    was sent is not sent again. Equal rows of a file are told apart by their order.
    """
    check(template)
    text = io.StringIO(content.removeprefix("\ufeff"), newline="")
    reader = _records(csv.reader(text, delimiter=_delimiter(content), strict=True))
    header = [name.strip() for name in next(reader, [])]
    while header and not header[-1]:
        header.pop()  # spreadsheets end their lines with empty cells
    missing = sorted(_columns(template) - set(header))
    if missing:
        raise TemplateError(f"the file has no column {', '.join(missing)}; it has {', '.join(header) or 'none'}")
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise TemplateError(f"the file has the column {', '.join(twice)} twice; rename one of them")
    seen: Counter[str] = Counter()
    for number, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(header) and not any(cell.strip() for cell in cells[len(header) :]):
            cells = cells[: len(header)]  # noqa: PLW2901 - likewise
        if len(cells) != len(header):
            raise TemplateError(f"row {number} has {len(cells)} cells, the header has {len(header)}")
        arguments = _filled(template, dict(zip(header, cells, strict=True)), number)
        written = exact.canonical(arguments)
        seen[written] += 1
        digest = hashlib.sha256(f"{prefix}\n{written}\n{seen[written]}".encode()).hexdigest()
        yield Row(number, arguments, digest)


def check(template: JsonObject) -> None:
    """Raise `TemplateError` for a `${` that is no column: it would be sent as it stands."""
    for text in _texts(template):
        if _STRAY.search(_COLUMN.sub("", text)):
            raise TemplateError(f'"{text}" is no column; write "${{name}}", "${{name:number}}" or "${{name:boolean}}"')


def has_columns(arguments: JsonObject) -> bool:
    """Whether the arguments are a template."""
    return bool(_columns(arguments))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _records(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise TemplateError(f"row {number}: {error}; a quotation mark inside a cell is written twice") from None
        if cells is None:
            return
        yield cells


def _delimiter(content: str) -> str:
    """A semicolon, as spreadsheets write in countries with decimal commas, or a comma."""
    first = content.partition("\n")[0]
    return ";" if first.count(";") > first.count(",") else ","


def _columns(value: Any) -> set[str]:
    return {match[1] for text in _texts(value) for match in _COLUMN.finditer(text)}


def _filled(value: Any, cells: Mapping[str, str], number: int) -> Any:
    if isinstance(value, dict):
        filled = {name: _filled(each, cells, number) for name, each in value.items()}
        return {name: each for name, each in filled.items() if each is not _ABSENT}
    if isinstance(value, list):
        return [each for each in (_filled(each, cells, number) for each in value) if each is not _ABSENT]
    if not isinstance(value, str):
        return value
    whole = _COLUMN.fullmatch(value)
    if whole is not None:
        return _whole(cells[whole[1]].strip(), whole[2], f"row {number}, column {whole[1]}")
    return _COLUMN.sub(lambda match: cells[match[1]], value)


def _whole(cell: str, kind: str | None, place: str) -> Any:
    if not cell:
        return _ABSENT
    if kind == "number":
        if not _NUMBER.fullmatch(cell):
            raise TemplateError(f"{place}: {cell!r} is not a number, as in 12.50")
        return exact.number(cell)
    if kind == "boolean":
        found = notation.boolean(cell)
        if found is None:
            raise TemplateError(f"{place}: {cell!r} is neither true nor false")
        return found
    return cell
