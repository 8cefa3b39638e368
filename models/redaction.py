"""What is never stored: fields named by `omit` rules are taken out before anything else sees the object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.values import JsonObject

_Rule = tuple[str, ...]
_Waiting = tuple[Any, Any, frozenset[_Rule]]

_ONE_LEVEL = "*"
_ANY_DEPTH = "**"


def redact(raw: JsonObject, omit: Sequence[str]) -> JsonObject:
    """The object without what the rules name; the given one is left as it is.

    A rule is a dotted path: `*` stands for one level, `**` for any number of levels. Lists are walked as if they were
    not there, and case does not matter: `debtors.*.password`, `**.passwordsalt`.
    """
    rules = frozenset(tuple(rule.casefold().split(".")) for rule in omit if rule)
    return _without(raw, rules) if rules else raw


def _without(raw: JsonObject, rules: frozenset[_Rule]) -> JsonObject:
    # Walked with a list of our own: a vendor's nesting must not end in a RecursionError that lets a secret pass.
    whole: JsonObject = {}
    waiting: list[_Waiting] = [(raw, whole, rules)]
    while waiting:
        source, copy, current = waiting.pop()
        if isinstance(source, list):
            copy.extend(_kept(item, current, waiting) for item in source)
            continue
        for key, item in source.items():
            deeper = _follow(current, key.casefold())
            if deeper is not None:
                copy[key] = _kept(item, deeper, waiting)
    return whole


def _kept(item: Any, rules: frozenset[_Rule], waiting: list[_Waiting]) -> Any:
    """The item itself; or an empty copy, to be filled when its turn comes."""
    if not rules or not isinstance(item, dict | list):
        return item
    copy: Any = {} if isinstance(item, dict) else []
    waiting.append((item, copy, rules))
    return copy


def _follow(rules: frozenset[_Rule], key: str) -> frozenset[_Rule] | None:
    """What is left of the rules one level below `key`; None if one of them ends there."""
    left: set[_Rule] = set()
    for rule in rules:
        for head, rest in _heads(rule):
            if head not in (key, _ONE_LEVEL, _ANY_DEPTH):
                continue
            if not rest:
                return None
            left.add(rest)
    return frozenset(left)


def _heads(rule: _Rule) -> list[tuple[str, _Rule]]:
    """What the next level may be, and what is left after it: `**` also stands for no level at all."""
    if rule[0] != _ANY_DEPTH or len(rule) == 1:
        return [(rule[0], rule[1:])]
    return [(_ANY_DEPTH, rule), *_heads(rule[1:])]
