"""What EasyFlor offers to read: one declared row for each resource whose address is known.

`debtor` is documented (EasyFlor API v1, Debtors). The document's other sections are empty, so the other rows come from
the vendor's published export test program, which shows their addresses and no fields: each is unconfirmed until
`probe` has read it at a real account. What only the document's changelog names (Location, Administration, Shop,
Prognoses, ListPreOrderGroupItem, MarkupCategory, TransportRegion, RMAReason, the DateFrom/DateTo addresses, and the
requests InvoiceSync, PreOrderSync and DistributedPurchaseSync) has no known address to GET and no row here; the setting
`own` adds it when its address is known.
"""

from __future__ import annotations

from dataclasses import dataclass

DATE, KEY = "{date}", "{key}"
"""What stands in an address for the day and for the key."""


@dataclass(frozen=True, slots=True)
class Row:
    """A resource as the vendor offers it, its addresses below `/api/`.

    `path`: everything in one array; None where only changes can be read. `since`: what changed on a day or later; None
    where there is no such address. `point`: one object. `key`: the fields that identify an object. `confirmed`: the
    vendor documents it.
    """

    name: str
    path: str | None
    since: str | None = None
    point: str | None = None
    key: tuple[str, ...] = ("Id",)
    confirmed: bool = False


def _incremental(name: str, path: str) -> Row:
    """Read in full once by the vendor's program, then by days."""
    return Row(name, f"{path}/", since=f"{path}SinceDate/{DATE}")


DEBTOR = Row("debtor", "debtor", since=f"debtorsincedate/{DATE}", point=f"debtor/{KEY}", confirmed=True)

TABLE = (
    DEBTOR,
    # Small ones, read whole every day by the vendor's program.
    Row("articlegroup", "Articlegroup/"),
    Row("country", "Country/"),
    Row("currency", "Currency/"),
    Row("remark", "Remark/"),
    Row("employee", "Employee/"),
    Row("supplier", "Supplier/"),
    Row("listgroup", "ListGroup/"),
    # Slow ones, likewise.
    Row("article", "Article/"),
    Row("list", "List/"),
    _incremental("purchase", "Purchase"),
    _incremental("creditinvoicecustomitem", "CreditInvoiceCustomItem"),
    _incremental("creditinvoicedeposititem", "CreditInvoiceDepositItem"),
    _incremental("creditinvoicepurchaseitem", "CreditInvoicePurchaseItem"),
    _incremental("debetinvoicecustomitem", "DebetInvoiceCustomItem"),
    _incremental("debetinvoicepackagingitem", "DebetInvoicePackagingItem"),
    _incremental("debetinvoicepurchaseitem", "DebetInvoicePurchaseItem"),
    _incremental("debetinvoicetrolleyitem", "DebetInvoiceTrolleyItem"),
    _incremental("packagingindebetinvoicepurchaseitem", "PackagingInDebetInvoicePurchaseItem"),
    _incremental("payment", "Payment"),
    # No address shows all invoices: a full reading asks for what changed since the setting `since`, so it is never
    # complete, and a deleted invoice stays.
    Row("invoice", None, since=f"InvoiceSinceDate/{DATE}"),
)

ROWS = {row.name: row for row in TABLE}
NAMES = tuple(ROWS)

SORTS, MAX_SORTS = "ListArticleSort", 50
PRICES, MAX_PRICES = "DebtorListArticleSortPrice", 25
"""Point reads by PUT with a body, and how many ids the vendor's program sends in one of them."""
