"""JSON and numbers without loss: decimals stay exact from the reply to the column, whatever their size."""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import simplejson

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_UTF8_CHARACTER = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}",
)
_HALF_CHARACTER = re.compile(rb'(?:[\xc2-\xc5\xd0-\xd2]|\xe2[\x80-\xbf]|\xf0\x9f[\x80-\xbf]?)"?\Z')
"""A text's end after which half a character was cut off, in the scripts that these vendors' customers write."""

_LARGEST_EXPONENT = 1000
"""PostgreSQL's numeric ends at 10**131072; no price comes near. A number with a larger exponent is stored as text."""

_LONGEST_INTEGER = 4300
"""Digits. Python refuses to parse and to print longer integers, because the conversion is slow."""

_LARGEST_INTEGER: int = 10**_LONGEST_INTEGER

_DEEPEST = 100
"""No real object is nested deeper. A deeper value is stored as its JSON text, so that recursion cannot fail."""


class TooDeepError(ValueError):
    """JSON that is nested deeper than a decoder can follow."""


def number(text: str) -> int | Decimal | str:
    """A JSON number in its normal form: `1.50` and `15e-1` are both `Decimal("1.5")`.

    An integral value becomes an int, any other a Decimal without trailing zeros; no digit is lost. A number of absurd
    size stays text and is never expanded.
    """
    if len(text) > _LARGEST_EXPONENT or "e" in text or "E" in text:
        try:
            return _normal_form(Decimal(text))
        except ArithmeticError:  # the exponent is too large even for a Decimal
            return text
    if text[-1] == "0" and "." in text:
        text = text.rstrip("0")
        if text[-1] == ".":
            return int(text[:-1])
    return Decimal(text)


def _normal_form(value: Decimal) -> int | Decimal | str:
    if not _has_storable_size(value):
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    sign, digits, exponent = value.as_tuple()
    kept = significant_digits(value)
    return Decimal((sign, kept, int(exponent) + len(digits) - len(kept)))


_DECODER = msgspec.json.Decoder(float_hook=number)
"""The fast decoder. The standard library's accepts some of what it refuses: lone surrogates, very long integers."""


def loads(text: str | bytes) -> Any:
    """Decode JSON; every number is in the normal form of `number`.

    ValueError for what is not JSON: NaN, Infinity, and nesting that no decoder survives.
    """
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _loads_stdlib(text)


def loads_leniently(data: bytes) -> Any:
    """Decode JSON in which a vendor broke the rules but said clearly what it meant; else as `loads`.

    - a control character inside a text is kept: a tab, a newline, NUL
    - NaN, Infinity and -Infinity become these words as text: a number column gets none, and nothing is lost
    - a text that is no UTF-8 is read as Windows-1252, if it is evident (`text_in_utf8`)
    """
    try:
        return loads(data)
    except ValueError:
        text = _TEXT.sub(lambda match: text_in_utf8(match[0]), data).decode("utf-8", "surrogatepass")
        return _loads_stdlib(text, strict=False, parse_constant=str)


def text_in_utf8(text: bytes) -> bytes:
    """A text in UTF-8. If it is none it is Windows-1252; ValueError where that is not evident.

    Not evident: it also holds characters in UTF-8, it ends like one that was cut in half, or it has a byte that
    Windows-1252 does not define.
    """
    try:
        text.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        if _UTF8_CHARACTER.search(text) or _HALF_CHARACTER.search(text):
            raise
        return text.decode("cp1252").encode()
    return text


def _loads_stdlib(text: str | bytes, *, strict: bool = True, parse_constant: Callable[[str], Any] | None = None) -> Any:
    constant = parse_constant or _refuse_constant
    try:
        return json.loads(text, strict=strict, parse_float=number, parse_int=_integer, parse_constant=constant)
    except RecursionError:
        raise TooDeepError("nested too deeply") from None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else digits


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def normalised(value: Any) -> Any:
    """The value with every Decimal in the normal form of `number`; dicts and lists are changed in place.

    For values that `loads` did not decode. It does not recurse: streaming parsers accept deeper nesting than Python.
    """
    whole = [value]
    waiting: list[dict[str, Any] | list[Any]] = [whole]
    while waiting:
        container = waiting.pop()
        items: Iterable[tuple[Any, Any]] = container.items() if isinstance(container, dict) else enumerate(container)
        for key_or_index, item in items:
            if isinstance(item, Decimal):
                container[key_or_index] = _normal_form(item)
            elif isinstance(item, dict | list):
                waiting.append(item)
    return whole[0]


def dumps(value: Any) -> str:
    """Encode JSON: decimals digit by digit, lone surrogates as escapes, so that the text can be sent and kept."""
    text = simplejson.dumps(value, use_decimal=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text if text.isascii() else _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def canonical(value: Any) -> str:
    """The same text for equal values: `1.0` and `1.00` are equal, and the order of keys does not matter."""
    return simplejson.dumps(
        _normalised_copy(value),
        use_decimal=True,
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        separators=(",", ":"),
    )


def _normalised_copy(value: Any) -> Any:
    """A copy with every Decimal in the normal form of `number`."""
    if isinstance(value, dict):
        return {key: _normalised_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normalised_copy(item) for item in value]
    return _normal_form(value) if isinstance(value, Decimal) else value


def significant_digits(value: Decimal) -> tuple[int, ...]:
    """The digits without trailing zeros. `Decimal.normalize` would round to the context's 28 digits."""
    digits = value.as_tuple().digits
    while len(digits) > 1 and digits[-1] == 0:
        digits = digits[:-1]
    return digits


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON: `1.0` is `1.00`, but `true` is not `1`."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def fingerprint(value: Any, *, salt: str = "") -> str:
    """A salted hash of the value, the same for every spelling of it: 32 hexadecimal digits."""
    return digest(canonical(value).encode(errors="surrogatepass"), salt=salt)


_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")


def content_digest(value: Any) -> bytes:
    """A digest of a value that `loads` returned, equal for equal values of one process: 16 bytes."""
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):  # such as a lone surrogate
        text = canonical(storable(value)).encode(errors="surrogatepass")
    return bytes_digest(text)


def bytes_digest(content: bytes) -> bytes:
    """A hash of bytes: 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


def digest(content: bytes, *, salt: str) -> str:
    """A salted hash of bytes: 32 hexadecimal digits. Of a value's canonical text it is the value's `fingerprint`."""
    hashed = hashlib.blake2b(content, digest_size=16, person=b"erpmirror")
    hashed.update(salt.encode())
    return hashed.hexdigest()


def storable(value: Any, *, depth: int = 0) -> Any:
    """The value as every database can hold it.

    NUL and lone surrogates are escaped; numbers of absurd size and nesting of absurd depth become text.
    """
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        return value if _has_storable_size(value) else str(Decimal(value))
    if not isinstance(value, dict | list | tuple):
        return value
    if depth == _DEEPEST:
        return _as_text(value)
    if isinstance(value, dict):
        names = storable_names(value)
        return {names.get(key, key): storable(item, depth=depth + 1) for key, item in value.items()}
    return [storable(item, depth=depth + 1) for item in value]


def is_shallow(value: Any, *, depth: int = 0) -> bool:
    """Whether `storable` would keep the value's nesting as it is."""
    if not isinstance(value, dict | list | tuple):
        return True
    items = value.values() if isinstance(value, dict) else value
    return depth < _DEEPEST and all(is_shallow(item, depth=depth + 1) for item in items)


def _as_text(value: Any) -> str:
    try:
        return storable_text(dumps(value))
    except RecursionError:
        return "nested too deeply to be kept"


def _has_storable_size(value: Decimal | int) -> bool:
    if isinstance(value, int):
        return -_LARGEST_INTEGER < value < _LARGEST_INTEGER
    if not value.is_finite():
        return False
    last_digit = int(value.as_tuple().exponent)
    return abs(value.adjusted()) <= _LARGEST_EXPONENT and abs(last_digit) <= _LARGEST_EXPONENT


def storable_text(text: str) -> str:
    r"""The text with NUL written as `\u0000` and a lone surrogate as `\ud8xx`."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def storable_names(names: Collection[str]) -> dict[str, str]:
    r"""The names that have to change, with their new names. One that would clash with another gets a further `\`."""
    changing = {name: text for name in names if (text := storable_text(name)) != name}
    if not changing:
        return changing
    taken = {name for name in names if name not in changing}
    for name in sorted(changing):
        while changing[name] in taken:
            changing[name] = f"\\{changing[name]}"
        taken.add(changing[name])
    return changing
