"""What can be asked beside the Interpreter: Lagerkoll's suppliers, terms and orders, as `erpmirror ask` spells them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Query:
    """A GET: its path beside the Interpreter's, and its parameters."""

    path: str
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _List:
    """A resource beside the Interpreter: the parameters of its list, and whether one can be asked for by its id."""

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
"""As documented (Lagerkoll API, SuppliersResource, PaymentTermsResource, SupplierDeliveryTermsResource)."""

_HOW = "ask as in: suppliers since=0; suppliers/12; payment_terms; supplier_delivery_terms since=0; purchase_orders/123"


def read(words: Sequence[str]) -> Query:
    """`["suppliers", "since=0"]`, `["purchase_orders/123"]`. SetAside says how to ask."""
    where, *filters = words or [""]
    name, slash, number = where.strip("/").partition("/")
    if name not in LISTS or not all("=" in word for word in filters):
        raise SetAside(_HOW)
    params = {word.partition("=")[0]: word.partition("=")[2] for word in filters}
    if slash:
        return single(name, number, params)
    return listing(name, params)


def listing(name: str, params: Mapping[str, str]) -> Query:
    """A list. SetAside for a parameter that the vendor does not document: he would ignore it."""
    unknown = sorted(params.keys() - set(LISTS[name].params))
    if unknown:
        known = ", ".join(LISTS[name].params) or "none"
        raise SetAside(f"{name} has no parameter {unknown[0]}; it has {known}")
    return Query(f"{name}/", params)


def single(name: str, number: str, params: Mapping[str, str] | None = None) -> Query:
    """One by its id. SetAside where the vendor has no such address, or `number` is no id."""
    if not LISTS[name].single or params:
        raise SetAside(_HOW)
    if not re.fullmatch("[0-9]+", number):
        raise SetAside(f"{number!r} is no id; {_HOW}")
    return Query(f"{name}/{number}", {})
