"""The values in a write: which forms Dilovod takes, and in which form it shows them once they have arrived."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from typing import TYPE_CHECKING, Any

from models import exact, notation
from workers.connectors.commands import TOKEN_LENGTH, Violation
from workers.connectors.dilovod import table
from workers.connectors.dilovod.resources import ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.values import JsonObject

NO_LINK = "0"
NO_NUMBER = 'write a number with a point, as in 10.25 or "10.25"'
_ZERO_DATE = "0000-00-00 00:00:00"
_MIDNIGHT = "00:00:00"
_EMPTY = ("", NO_LINK, _ZERO_DATE)
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(f"{_DAY.pattern} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_LANGUAGE = re.compile("[a-z]{2}")


# What Dilovod takes.


def is_link(value: Any) -> bool:
    """Whether the value is a link: an id of 16 digits as text or number, or `{"id"}` as `getObject` shows one."""
    return (isinstance(value, dict) and "id" in value) or bool(ID.fullmatch(link(value)))


def link(value: Any) -> str:
    """The id in a link, as text; "" for what has none."""
    if isinstance(value, dict):
        value = value.get("id")
    return "" if value is None or isinstance(value, bool | dict | list) else str(value).strip()


def link_violations(value: Any, path: str, kinds: Sequence[str] = ()) -> Iterator[Violation]:
    """What is wrong with a link to an object of these kinds, or of any. An empty one is "0", or an empty text."""
    key = link(value)
    surplus = sorted(set(value) - {"id", "pr"}) if isinstance(value, dict) and "id" in value else []
    if surplus:
        yield Violation(f"{path}.{surplus[0]}", 'a link has no other fields than "id" and "pr"')
    elif isinstance(value, bool | list) or (isinstance(value, dict) and "id" not in value):
        yield Violation(path, 'write the id, as in "1100300000001001"')
    elif key in {"", NO_LINK} or (ID.fullmatch(key) and not kinds):
        return
    elif not ID.fullmatch(key):
        yield Violation(path, f'an id has 16 digits, as in "1100300000001001"; this is {_described(key)}')
    elif not _may_be(key, kinds):
        kind = table.kind_of(key)
        known = [f"{each} (it begins with {table.prefix_of(each)})" for each in kinds if table.prefix_of(each)]
        told = f"an id of {kind}" if kind else f"an id that begins with {table.prefix(key)}"
        yield Violation(path, f"this is {told}; write one of {' or '.join(known or kinds)}")


def _described(key: str) -> str:
    return f"{len(key)} digits" if key.isascii() and key.isdigit() else "no number"


def _may_be(key: str, kinds: Sequence[str]) -> bool:
    """Whether an id may be one of these kinds; it may not if all their prefixes are known, or its own is another's."""
    known = {table.prefix_of(kind) for kind in kinds}
    return table.prefix(key) in known or ("" in known and not table.kind_of(key))


def date_violations(value: Any, path: str) -> Iterator[Violation]:
    """What is wrong with a date."""
    if not _is_date(value):
        yield Violation(
            path,
            'write a date by Dilovod\'s wall clock (Kyiv, without a zone), as in "2026-01-31 23:59:59" or '
            f'"2026-01-31"; "{_ZERO_DATE}" is none',
        )


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not (_DAY.fullmatch(value) or _MOMENT.fullmatch(value)):
        return False
    if value in {_ZERO_DATE, _ZERO_DATE[:10]}:  # how Dilovod writes that there is none
        return True
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def decimal_violations(value: Any, path: str, digits: int, scale: int) -> Iterator[Violation]:
    """What is wrong with a number of so many digits, `scale` of them behind the point; it may be written as text."""
    if not is_number(value):
        yield Violation(path, NO_NUMBER)
        return
    whole, _, fraction = written(value).lstrip("-").partition(".")
    if len(fraction.rstrip("0")) > scale:
        yield Violation(path, f"it has more than {scale} digits behind the point, and Dilovod would round it")
    if len(whole) > digits - scale:
        yield Violation(path, f"it has more than {digits - scale} digits before the point")


def is_number(value: Any) -> bool:
    """Whether the value is a number, which may be written as text."""
    return not isinstance(value, bool | dict | list) and bool(_NUMBER.fullmatch(written(value)))


def flag_violations(value: Any, path: str) -> Iterator[Violation]:
    """What is wrong with a boolean."""
    if isinstance(value, dict) or written(value) not in {"0", "1"}:
        yield Violation(path, "write true or false, or 1 or 0")


def text_violations(value: Any, path: str, longest: int) -> Iterator[Violation]:
    """What is wrong with a text, or with one in several languages."""
    texts = {f"{path}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {path: value}
    for place, text in texts.items():
        if isinstance(text, str) and len(text) > longest:
            yield Violation(place, f"it has {len(text)} characters; Dilovod takes {longest}")


def violations(value: Any, path: str) -> Iterator[Violation]:
    """What is wrong with a value of a field whose type is not known."""
    if isinstance(value, dict) and "id" in value:
        yield from link_violations(value, path)
    elif isinstance(value, dict) and not (value and all(_is_text_in(name, text) for name, text in value.items())):
        yield Violation(path, 'an object is a link, {"id": "1100300000001001"}, or a text by language, {"uk": "…"}')


def _is_text_in(language: str, text: Any) -> bool:
    return bool(_LANGUAGE.fullmatch(language)) and isinstance(text, str)


def unique_violations(header: JsonObject, kind: str, configured: Mapping[str, str]) -> Iterator[Violation]:
    """Whether a new object lacks the field that has to find it again, and that is too short for a token.

    `configured`: by kind, that field.
    """
    field = configured.get(kind, "")
    known = table.unique_fields(kind).get(field)
    if known is not None and known.longest < TOKEN_LENGTH and not written(header.get(field)):
        yield Violation(f"header.{field}", "give it: the setting `unique` finds the new object again by it alone")


def sent(value: Any) -> Any:
    """A value as it is sent: ids as text, without the name of what they link to; booleans as 1 and 0."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        return [sent(each) for each in value]
    if is_link(value):
        return link(value) or NO_LINK
    return value


# How it shows them.


def written(value: Any) -> Any:
    """The normal form of a value, as sent and as shown: text, or for a text in several languages one by each."""
    if isinstance(value, dict):
        return link(value) or NO_LINK if "id" in value else {name: written(text) for name, text in value.items()}
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Decimal):
        return f"{value:f}"
    return "" if value is None else str(value).replace("\r\n", "\n").strip()


def shown(value: Any, found: Any) -> Any:
    """The normal form of what was found: that of the value which was sent, if Dilovod shows this one so."""
    return written(value) if _shows(value, found) else written(found)


def _shows(value: Any, found: Any) -> bool:
    expected, actual = written(value), written(found)
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(actual.get(language) == text for language, text in expected.items())
    if isinstance(actual, dict):  # of a text without a language it is not known which one it sets
        return expected in actual.values() and all(text in ("", expected) for text in actual.values())
    if isinstance(value, bool):
        return notation.boolean(actual) is value
    if expected == "":
        return actual in _EMPTY or (bool(_NUMBER.fullmatch(actual)) and not Decimal(actual))
    return (
        expected == actual
        or (bool(_DAY.fullmatch(expected)) and actual == f"{expected} {_MIDNIGHT}")
        or _is_number_of(expected, actual, is_text=isinstance(value, str))
        or _is_same_json(expected, actual)
    )


def _is_number_of(expected: str, actual: str, *, is_text: bool) -> bool:
    """Whether a number is shown so: with as many digits behind the point as its field has, rounded if it had more.

    Of a text, which may be a code, Dilovod may have added zeros, but took none away.
    """
    if not (_NUMBER.fullmatch(expected) and _NUMBER.fullmatch(actual)):
        return False
    number, other, scale = Decimal(expected), Decimal(actual), _scale(actual)
    if number == other:
        return not is_text or scale >= _scale(expected)
    if not 0 < scale < _scale(expected.rstrip("0")):
        return False
    step = Decimal(1).scaleb(-scale)
    with localcontext(prec=len(expected) + scale + 1):  # the usual 28 digits may be too few
        return other in {number.quantize(step, rounding) for rounding in (ROUND_HALF_UP, ROUND_HALF_EVEN)}


def _scale(number: str) -> int:
    return len(number.partition(".")[2])


def _is_same_json(expected: str, actual: str) -> bool:
    """Whether both are JSON, as `details` of persons are, and mean the same."""
    if expected[:1] not in {"{", "["} or actual[:1] not in {"{", "["}:
        return False
    try:
        return bool(exact.loads(expected) == exact.loads(actual))
    except ValueError:
        return False


def shown_fields(fields: JsonObject, found: Any) -> JsonObject:
    """`shown` for the fields that were sent; one that the object lacks is left out."""
    there = found if isinstance(found, dict) else {}
    return {name: shown(value, there[name]) for name, value in fields.items() if name in there}
