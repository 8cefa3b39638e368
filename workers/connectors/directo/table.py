"""The resources that Directo offers: one declared row for each.

Names: Directo API documentation, "API Resources & Endpoints".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A resource of Directo's list.

    `key`: the fields that identify an object. `optional`: those of them that may be empty. `dated`: documents with a
    `date` to filter by, so that a full sync too large for one reply can be split into windows. `computed`: figures
    whose `ts` does not change with them (stock movements leave it as it is), so every poll reads all of them.
    """

    name: str
    key: tuple[str, ...]
    dated: bool = False
    computed: bool = False
    optional: tuple[str, ...] = ()


DELETED = "deleted"

ROW = "row_"
"""The prefix of a line's field in filters."""

TABLE = (
    Row("sales_quotations", ("number",), dated=True),
    Row("orders", ("number",), dated=True),
    Row("invoices", ("number",), dated=True),
    Row("purchase_orders", ("number",), dated=True),
    Row("stock_receipts", ("number",), dated=True),
    Row("purchase_invoices", ("number",), dated=True),
    Row("purchase_payments", ("number",), dated=True),
    Row("customers", ("code",)),
    Row("suppliers", ("code",)),
    Row("contacts", ("code",)),  # inferred
    Row("items", ("code",)),
    Row("itemclasses", ("code",)),
    Row("priceformulas", ("code",)),
    # The three keys are inferred: from the documented stock fields, likewise, and as stock reserved by a document.
    Row("stocklevels", ("item_code", "warehouse"), computed=True, optional=("warehouse",)),
    Row("stocklevels_sn", ("item_code", "warehouse", "serial_number"), computed=True, optional=("warehouse",)),
    Row("allocations", ("item_code", "warehouse", "number"), computed=True, optional=("warehouse",)),
    Row("accounts", ("code",)),
    Row("transactions", ("type", "number"), dated=True),  # numbers repeat between types
    Row(DELETED, ("resource", "key", "ts")),  # the shape is not documented, see `resources.parse_deletion`
    Row("financial_budgets", ("code",)),  # inferred
    Row("events", ("number",), dated=True),  # inferred
    Row("receipts", ("number",), dated=True),
    Row("deliveries", ("number",), dated=True),
    Row("movements", ("number",), dated=True),
    Row("objects", ("code",)),
    Row("projects", ("code",)),
    Row("resources", ("code",)),  # inferred
    Row("sales_contracts", ("number",), dated=True),
    Row("replacementlogs", ("number",), dated=True),  # inferred
)
"""Every resource of Directo's list, in its order. "inferred": no public sample shows the key; `keys` overrides it."""

ROWS = {row.name: row for row in TABLE}
NAMES = frozenset(ROWS)
