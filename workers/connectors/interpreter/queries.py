"""The GET requests beside the Interpreter: suppliers, terms and orders, in the syntax of `erpmirror ask`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.errors import MisaskedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Query:
    """A GET request. `path`: relative to the parent of the Interpreter's path."""

    path: str
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _List:
    """A resource: the parameters of its list; `single`: whether one object can be read by its id."""

    params: tuple[str, ...]
    single: bool = False


LISTS = {
    "suppliers": _List(
        ("query", "since", "page", "limit", "order", "sort_column", "open_orders", "article"), single=True
    ),
    "payment_terms": _List(("since",)),
    "supplier_delivery_terms": _List(("since",)),
    "purchase_orders": _List((), single=True),
}
"""Lagerkoll API, SuppliersResource, PaymentTermsResource, SupplierDeliveryTermsResource, PurchaseOrdersResource."""

_ASK_HINT = (
    "for example: suppliers since=0; suppliers/12; payment_terms; supplier_delivery_terms since=0; purchase_orders/123"
)


def parse(words: Sequence[str]) -> Query:
    """Parse `["suppliers", "since=0"]`, `["purchase_orders/123"]`. MisaskedError with examples for anything else."""
    path, *filters = words or [""]
    name, slash, number = path.strip("/").partition("/")
    if name not in LISTS or not all("=" in word for word in filters):
        raise MisaskedError(_ASK_HINT)
    params = {word.partition("=")[0]: word.partition("=")[2] for word in filters}
    if slash:
        return single(name, number, params)
    return listing(name, params)


def listing(name: str, params: Mapping[str, str]) -> Query:
    """The request for a list. MisaskedError for an undocumented parameter, which the vendor would ignore."""
    unknown = sorted(params.keys() - set(LISTS[name].params))
    if unknown:
        known = ", ".join(LISTS[name].params) or "none"
        raise MisaskedError(f"{name} has no parameter {unknown[0]}; it has {known}")
    return Query(f"{name}/", params)


def single(name: str, number: str, params: Mapping[str, str] | None = None) -> Query:
    """The request for one object by its id. MisaskedError if the vendor does not offer it or `number` is not an id."""
    if not LISTS[name].single or params:
        raise MisaskedError(_ASK_HINT)
    if not re.fullmatch("[0-9]+", number):
        raise MisaskedError(f"{number!r} is not an id; {_ASK_HINT}")
    return Query(f"{name}/{number}", {})
