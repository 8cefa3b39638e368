"""Ways in which the sandbox's `request` and `getObject` disagree about sale orders, and what a batch says of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.connectors.dilovod.sandbox import Sandbox

ORDERS = "documents.saleOrder"


def hide(sandbox: Sandbox) -> None:
    sandbox.books.requests.hidden = {"rate"}


def round_amounts(sandbox: Sandbox) -> None:
    sandbox.books.requests.rounded = {"amountCur": 1}


def restrict(sandbox: Sandbox) -> None:
    sandbox.books.requests.restricted = {"person"}


def refuse(sandbox: Sandbox) -> None:
    sandbox.books.unknown_fields = {"rate"}


def refuse_in_rows(sandbox: Sandbox) -> None:
    sandbox.books.unknown_fields = {"ratio"}


def grow_rows(sandbox: Sandbox) -> None:
    """The rows of every second order get a field that no metadata declares."""
    for order in sandbox.books.of(ORDERS)[::2]:
        for row in order.parts["tpGoods"]:
            row["promotion"] = "-5%"


def grow_declared_rows(sandbox: Sandbox) -> None:
    """The rows of one order get a field that the metadata declares."""
    parts = sandbox.books.kinds[ORDERS].parts
    assert parts is not None
    parts["tpGoods"]["promotion"] = "varchar (9)"
    for row in sandbox.books.of(ORDERS)[7].parts["tpGoods"]:
        row["promotion"] = "-5%"


def grow_a_header(sandbox: Sandbox) -> None:
    """One order gets a field that the metadata declares."""
    sandbox._new_field(sandbox.books.random)


DISAGREEMENTS: dict[Callable[[Sandbox], None], str] = {
    hide: "request lacks rate",
    round_amounts: "request shows another",
    restrict: "request shows another header.person.pr",
    refuse: "request refuses: unknown field rate",
    refuse_in_rows: "request refuses: unknown field ratio",
    grow_rows: "promotion",  # objects differ; or where all samples have it, `request` does not know it
}
