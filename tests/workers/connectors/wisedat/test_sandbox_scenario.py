"""The sandbox's scenario and everyday edits."""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from workers.connectors.wisedat import sandbox_scenario, table

if TYPE_CHECKING:
    from tests.workers.connectors.wisedat.conftest import Caller
    from workers.connectors.wisedat.sandbox import Sandbox


# Edits.


def _everything(sandbox: Sandbox) -> dict[str, Any]:
    return {name: sandbox.truth(name) for name in table.NAMES}


QUIET = {
    "the server changed its daily key; all tokens are invalid",
    "the key will change between two pages of a list",
    "an object will move between two pages of a list",
}


def test_each_step_of_the_scenario_changes_the_company_or_the_server(caller: Caller) -> None:
    sentences: list[str] = []
    before = _everything(caller.sandbox)
    for sentence in caller.sandbox.scenario():
        sentences.append(sentence)
        after = _everything(caller.sandbox)
        assert (before != after) or sentence in QUIET, sentence
        before = after

    assert 15 <= len(sentences)
    assert [] == [sentence for sentence in sentences if sentences.count(sentence) > 1]


def test_the_scenario_has_every_kind_of_change_that_mirrors_get_wrong(caller: Caller) -> None:
    """Classify each change by whether the modification date and the list's line show it; all kinds must occur."""
    books = caller.sandbox.books
    seen: set[object] = set()
    lines = _lines(caller)
    truth, stamps = _everything(caller.sandbox), _stamps(caller)
    for _ in caller.sandbox.scenario():
        caller.advance(minutes=1)
        for name in ("products", "customers", "orders"):
            for key in truth[name].keys() & caller.sandbox.truth(name).keys():
                now = caller.sandbox.truth(name)[key]
                thing = books.find(name, key)
                assert thing is not None
                if now == truth[name][key]:
                    continue
                same_line = books.line(name, thing) == lines[name][key]
                seen.add(("silent" if thing.modified == stamps[name][key] else "dated", same_line))
            seen |= {f"deleted {name}"} if truth[name].keys() - caller.sandbox.truth(name).keys() else set()
        seen |= {"withheld"} if books.withheld else {"readable"} if "withheld" in seen else set()
        lines, truth, stamps = _lines(caller), _everything(caller.sandbox), _stamps(caller)

    expected = {
        ("dated", True),
        ("dated", False),
        ("silent", False),
        "deleted products",
        "deleted orders",
        "withheld",
        "readable",
    }
    assert expected == seen


def _lines(caller: Caller) -> dict[str, dict[str, Any]]:
    books = caller.sandbox.books
    return {
        name: {books.key(name, thing): books.line(name, thing) for thing in books.tables[name]}
        for name in ("products", "customers", "orders")
    }


def _stamps(caller: Caller) -> dict[str, dict[str, datetime]]:
    books = caller.sandbox.books
    return {
        name: {books.key(name, thing): thing.modified for thing in books.tables[name]}
        for name in ("products", "customers", "orders")
    }


@pytest.mark.parametrize("caller", [{"silent_addresses": True}], indirect=True)
def test_an_address_can_change_without_the_customers_modification_date(caller: Caller) -> None:
    day = sandbox_scenario.Day(caller.sandbox, Random(1))
    stamps, truth = _stamps(caller)["customers"], caller.sandbox.truth("customers")
    caller.advance(minutes=1)

    day.change_address()

    assert truth != caller.sandbox.truth("customers")
    assert stamps == _stamps(caller)["customers"]


def test_hundreds_of_everyday_edits_leave_enough_objects(caller: Caller) -> None:
    random, sentences = Random(2), set()
    for _ in range(300):
        caller.advance(seconds=30)
        sentences.add(caller.sandbox.edit(random).split(" ")[0])

    assert {"order", "product", "customer", "tax"} <= sentences
    assert 12 <= len(caller.sandbox.truth("orders"))
    assert 12 == len(caller.sandbox.truth("products"))
    for name in table.NAMES:
        assert caller.sandbox.truth(name)
