"""Removes what must not be stored: the fields that `omit` rules name, and secrets inside texts."""

from __future__ import annotations

import base64
import html
import json
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from models.notation import PlainNames

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from models.values import JsonObject

_Rule = tuple[str, ...]
_Waiting = tuple[Any, Any, frozenset[_Rule]]

_CONTAINERS = (dict, list)

_ONE_LEVEL = "*"
_ANY_DEPTH = "**"


def redact(raw: JsonObject, omit: Sequence[str]) -> JsonObject:
    """The object without the fields that the rules name: a copy, or itself if it has none of them.

    A rule is a dotted path: `*` stands for one level, `**` for any number of levels. Lists are transparent, and case is
    ignored: `debtors.*.password`, `**.passwordsalt`.
    """
    rules = frozenset(tuple(rule.casefold().split(".")) for rule in omit if rule)
    return _without(raw, rules) if rules and _may_apply(raw, rules) else raw


def redact_at(steps: Sequence[str], value: Any, omit: Sequence[str]) -> tuple[Any, ...]:
    """The value at this place inside an object, without what the rules name; () if they name the place itself.

    `steps`: names of fields and indexes of lists. A number may be either, so a rule that fits one of them applies.
    """
    rules = frozenset(tuple(rule.casefold().split(".")) for rule in omit if rule)
    for step in steps:
        deeper = _follow(rules, step.casefold())
        if deeper is None:
            return ()
        rules = deeper | rules if step.isdecimal() else deeper
    return (_without({"": value}, frozenset(("", *rule) for rule in rules))[""],)


def _may_apply(raw: JsonObject, rules: frozenset[_Rule]) -> bool:
    """Whether some field, at any depth, has the name at which a rule ends: much quicker than to follow the rules."""
    plain = _plain_names(rules)
    waiting: list[Any] = [raw]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if not plain.cover(value):
                return True
            value = value.values()
        waiting += [item for item in value if isinstance(item, _CONTAINERS)]
    return False


@lru_cache(maxsize=100)
def _plain_names(rules: frozenset[_Rule]) -> PlainNames:
    """The names that no rule ends with; none if a rule ends with any name."""
    last = {rule[-1] for rule in rules}
    ends_anywhere = not last.isdisjoint({_ONE_LEVEL, _ANY_DEPTH})
    return PlainNames(lambda name: ends_anywhere or name.casefold() in last)


def _without(raw: JsonObject, rules: frozenset[_Rule]) -> JsonObject:
    # An explicit stack: deep nesting must not end in a RecursionError that lets a secret pass.
    whole: JsonObject = {}
    waiting: list[_Waiting] = [(raw, whole, rules)]
    while waiting:
        source, copy, current = waiting.pop()
        if isinstance(source, list):
            copy.extend(_kept(item, current, waiting) for item in source)
            continue
        for key, item in source.items():
            deeper = _below(current, key)
            if deeper is not None:
                copy[key] = _kept(item, deeper, waiting) if isinstance(item, _CONTAINERS) else item
    return whole


def _kept(item: Any, rules: frozenset[_Rule], waiting: list[_Waiting]) -> Any:
    """The item itself, or an empty copy that is filled later from the stack."""
    if not rules or not isinstance(item, _CONTAINERS):
        return item
    copy: Any = {} if isinstance(item, dict) else []
    waiting.append((item, copy, rules))
    return copy


@lru_cache(maxsize=10_000)
def _below(rules: frozenset[_Rule], key: str) -> frozenset[_Rule] | None:
    """`_follow` of a name as it is written."""
    return _follow(rules, key.casefold())


def _follow(rules: frozenset[_Rule], key: str) -> frozenset[_Rule] | None:
    """The rules as they apply one level below `key`; None if a rule names `key` itself."""
    deeper: set[_Rule] = set()
    for rule in rules:
        for head, rest in _heads(rule):
            if head not in (key, _ONE_LEVEL, _ANY_DEPTH):
                continue
            if not rest:
                return None
            deeper.add(rest)
    return frozenset(deeper)


def _heads(rule: _Rule) -> list[tuple[str, _Rule]]:
    """What the next level must match, each with the rest of the rule. `**` also stands for no level."""
    if rule[0] != _ANY_DEPTH or len(rule) == 1:
        return [(rule[0], rule[1:])]
    return [(_ANY_DEPTH, rule), *_heads(rule[1:])]


_LONGEST_PIECE = 8
_SHORTEST_PIECE = 5
_HIDDEN = "***"


class Mask:
    """Masks secrets in a text, plain or encoded, whole or in part: vendors repeat them in messages and cut those.

    A part of a secret is masked from half of its length on, but not below five characters, and always from eight on.
    """

    def __init__(self, secrets: Collection[str]) -> None:
        self._pieces: defaultdict[int, set[str]] = defaultdict(set)
        for form in {form for secret in secrets if secret for form in _encodings(secret)}:
            length = min(len(form), max(_SHORTEST_PIECE, min(_LONGEST_PIECE, (len(form) + 1) // 2)))
            self._pieces[length].update(_windows(form, length))

    def __call__(self, text: str) -> str:
        """The text with every secret replaced by `***`."""
        secret = bytearray(len(text))
        for length, pieces in self._pieces.items():
            for start, window in enumerate(_windows(text, length)):
                if window in pieces:
                    secret[start : start + length] = b"\x01" * length
        return "".join(_masked(text, secret)) if any(secret) else text


def _windows(text: str, length: int) -> Iterator[str]:
    return (text[start : start + length] for start in range(len(text) - length + 1))


def _masked(text: str, secret: bytearray) -> Iterator[str]:
    for position, char in enumerate(text):
        if not secret[position]:
            yield char
        elif position == 0 or not secret[position - 1]:
            yield _HIDDEN


def _encodings(secret: str) -> Iterator[str]:
    """The secret as it is, and encoded for a URL, JSON (PHP escapes slashes), HTML and base64."""
    yield secret
    for written in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield written
        yield written.lower()
    for ascii_only in (True, False):
        written = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield written
        yield written.replace("/", "\\/")
    yield html.escape(secret)
    # In Basic authentication the secret follows a user name, so it begins at any byte of a group of three.
    for before in range(3):
        raw = b"\0" * before + secret.encode(errors="surrogatepass")
        first, last = (before * 8 + 5) // 6, len(raw) * 8 // 6
        if last - first >= _SHORTEST_PIECE:
            yield base64.b64encode(raw).decode()[first:last]
            yield base64.urlsafe_b64encode(raw).decode()[first:last]
