"""What Wisedat offers to read: one declared row for each resource of the vendor's list.

Names and answers: Wisedat API 1.3, the `Get` of each section.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A resource as the vendor offers it.

    `paged`: listed by `limit`, `page` and `modified_since`, wrapped in `{"pagination": …, "<name>": […]}`; else a bare
    array that knows no "since". `inactive`: takes `show_inactive`, without which inactive objects are kept from lists.
    `detail`: `?id=` shows more than the listing's line. `single`: one object instead of a list.
    """

    name: str
    key: tuple[str, ...] = ("id",)
    paged: bool = False
    inactive: bool = False
    detail: bool = False
    single: bool = False


TABLE = (
    Row("company", single=True),
    Row("products", paged=True, inactive=True, detail=True),
    Row("categories", paged=True),
    Row("customers", paged=True, inactive=True, detail=True),
    Row("salesmen", paged=True, inactive=True, detail=True),
    Row("suppliers", paged=True, inactive=True, detail=True),
    Row("orders", paged=True, detail=True),
    Row("taxes"),
    Row("units"),
    Row("series"),
    Row("warehouses"),
    Row("currencies"),
    Row("countries", ("iso_3166_1",)),
    Row("deliverymethods"),
    Row("exemptionreasons"),
    Row("paymentconditions"),
    Row("paymentmethods"),
    Row("salesdocuments"),
)
"""Every resource of the vendor's list, in its order; customer addresses are a part of their customer."""

ROWS = {row.name: row for row in TABLE}
NAMES = tuple(ROWS)
