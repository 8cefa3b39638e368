"""Which writes each section of Wisedat's document has: addresses, fields, and what finds a new object again.

Source: Wisedat API 1.3, `Post`, `Put` and `Delete` of each section.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.connectors.commands import Unique

if TYPE_CHECKING:
    from collections.abc import Mapping

CREATE, UPDATE, DELETE = "create", "update", "delete"
VERBS = (CREATE, UPDATE, DELETE)
METHODS = {CREATE: "POST", UPDATE: "PUT", DELETE: "DELETE"}

ADDRESSES = "customeraddresses"


@dataclass(frozen=True, slots=True)
class Write:
    """One write of a section. `path`: as the document spells it. `mandatory`, `optional`: names of fields."""

    path: str
    mandatory: str
    optional: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The writes of one resource.

    - `title`: what one object is called
    - `text_id`: its id is text, and the caller chooses it (a tax's) or the vendor does (an order's); else a number
    - `unique`: the fields by which `find` finds a new object again
    """

    title: str
    create: Write
    update: Write
    delete: Write
    text_id: bool = False
    unique: Mapping[str, Unique] = field(default_factory=dict)

    def write(self, verb: str) -> Write:
        """The write of this verb."""
        return {CREATE: self.create, UPDATE: self.update, DELETE: self.delete}[verb]


_BY_CODE = {"code": Unique(("code",))}
_PERSON = "tax_id email phone notes"
_ADDRESS = "postal_code postal_code_location phone fax region"
_ORDER_TERMS = (
    "salesman your_reference notes vehicle_plate delivery_method sales_document payment_condition payment_method "
    "closed currency exchange_rate entity_discount financial_discount alternate_billing_address "
    "alternate_shipping_address loading_location unloading_location items"
)
_LONGEST_REFERENCE = 50
"""Characters. The document has no limit. A text that the vendor cuts off would lose the token at its end."""

_PRODUCT_TEXTS = "brief_description commercial_description notes"

SECTIONS: Mapping[str, Section] = {
    "products": Section(
        "product",
        Write("products", "name description price type", f"barcode tax unit warehouse {_PRODUCT_TEXTS} categories"),
        Write(
            "product",
            "id",
            f"description barcode price type tax warehouse {_PRODUCT_TEXTS} categories suppliers main_supplier",
        ),
        Write("product", "id"),
        unique={"name": Unique(("name",)), "barcode": Unique(("barcode",))},
    ),
    "categories": Section(
        "category",
        Write("category", "name", "short_name id_parent"),
        Write("category", "id", "name short_name"),
        Write("category", "id"),
    ),
    "customers": Section(
        "customer",
        Write(
            "customers",
            "code name country",
            f"{_PERSON} website currency birthday salesman billing_address shipping_address",
        ),
        Write(
            "customer",
            "id",
            f"name {_PERSON} website currency birthday salesman country billing_address shipping_address",
        ),
        Write("customers", "id"),
        unique=_BY_CODE,
    ),
    ADDRESSES: Section(
        "customer's address",
        Write(ADDRESSES, "customer type street city country", _ADDRESS),
        Write(ADDRESSES, "customer type", f"street city country {_ADDRESS}"),
        # The document's usage line has `?id=`, its errors say that customer and type are mandatory.
        Write(ADDRESSES, "customer type"),
    ),
    "salesmen": Section(
        "salesman",
        Write("salesmen", "code name country", f"{_PERSON} commission address"),
        Write("salesmen", "id", f"name country {_PERSON} commission address"),
        Write("salesmen", "id"),
        unique=_BY_CODE,
    ),
    "suppliers": Section(
        "supplier",
        Write("suppliers", "code name country", f"{_PERSON} address"),
        Write("suppliers", "id", f"name country {_PERSON} address"),
        Write("suppliers", "id"),
        unique=_BY_CODE,
    ),
    "orders": Section(
        "order",
        Write("orders", "customer date expiration_date series", _ORDER_TERMS),
        Write("orders", "id", f"customer date expiration_date series {_ORDER_TERMS}"),
        Write("orders", "id"),
        text_id=True,
        unique={"your_reference": Unique(("your_reference",), appends=True, longest=_LONGEST_REFERENCE)},
    ),
    "taxes": Section(
        "tax",
        Write("taxes", "id value description type", "exemption_reason"),
        Write("taxes", "id", "value description type exemption_reason"),
        Write("taxes", "id"),
        text_id=True,
        unique={"id": Unique(("id",), longest=2)},
    ),
    "units": Section(
        "unit",
        Write("units", "id description"),
        # The document has PUT/taxes here, copied from the section before: it would change a tax of the same id.
        Write("units", "id", "description"),
        Write("units", "id"),
        text_id=True,
        unique={"id": Unique(("id",), longest=5)},
    ),
    "series": Section(
        "series",
        Write("series", "id description", "vat_cash_system"),
        Write("series", "id", "description vat_cash_system"),
        Write("series", "id"),
        text_id=True,
        unique={"id": Unique(("id",), longest=5)},
    ),
    "warehouses": Section(
        "warehouse",
        Write("warehouses", "code description", "address"),
        Write("warehouses", "id", "description address"),
        Write("warehouses", "id"),
        unique={"code": Unique(("code",), longest=8)},
    ),
}
"""In the order of the vendor's document."""

CHOOSES_ITS_ID = frozenset({"taxes", "units", "series"})
"""Resources whose creation names the new object's id."""


def spellings(verb: str, resource: str) -> tuple[str, ...]:
    """The addresses to try: as documented, then the plural, under which everything is read."""
    return tuple(dict.fromkeys((SECTIONS[resource].write(verb).path, resource)))
