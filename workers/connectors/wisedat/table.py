"""All resources that Wisedat's API can read, one declared row each.

Names and forms of replies: Wisedat API 1.3, the `Get` of each section.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A resource of the vendor's API.

    - `key`: the fields that identify an object
    - `paged`: the list has the parameters `limit`, `page` and `modified_since` and the form
      `{"pagination": …, "<name>": […]}`; otherwise it is a bare array without filter
    - `inactive`: the list omits inactive objects unless `show_inactive` is set
    - `detail`: `?id=` returns more fields than the list
    - `single`: one object instead of a list
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
"""In the order of the vendor's document. Customer addresses are missing: they are a part of the customer."""

ROWS = {row.name: row for row in TABLE}
NAMES = tuple(ROWS)
