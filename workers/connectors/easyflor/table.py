"""The resources that EasyFlor offers: one declared row for each whose address is known.

`debtor` is documented (EasyFlor API v1, Debtors). The document's other sections are empty, so the other rows come from
EasyFlor's published export test program, which has addresses but no fields: each is unconfirmed until `probe` has read
it at a real account. Resources that only the document's changelog names (Location, Administration, Shop, Prognoses,
ListPreOrderGroupItem, MarkupCategory, TransportRegion, RMAReason, the DateFrom/DateTo addresses, and the requests
InvoiceSync, PreOrderSync and DistributedPurchaseSync) have no known address and no row here; the setting `own` adds
one once its address is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

DATE, KEY = "{date}", "{key}"
"""Placeholders for the day and for the key in an address."""


@dataclass(frozen=True, slots=True)
class Row:
    """A resource of EasyFlor's, with its addresses below `/api/`.

    `path`: of all objects in one array; None if only changes can be read. `since`: of changes on a day or later; None
    if there is no such address. `point`: of one object. `key`: the fields that identify an object. `confirmed`:
    documented by EasyFlor.
    """

    name: str
    path: str | None
    since: str | None = None
    point: str | None = None
    key: tuple[str, ...] = ("Id",)
    confirmed: bool = False


def _incremental(name: str, path: str) -> Row:
    """A resource that EasyFlor's program reads in full once, then by days."""
    return Row(name, f"{path}/", since=f"{path}SinceDate/{DATE}")


DEBTOR = Row("debtor", "debtor", since=f"debtorsincedate/{DATE}", point=f"debtor/{KEY}", confirmed=True)


def debtor(key: tuple[str, ...]) -> Row:
    """The debtors with another key. The address of one debtor takes its `Id`, so any other key has no point reads."""
    is_id = [name.casefold() for name in key] == [name.casefold() for name in DEBTOR.key]
    return replace(DEBTOR, key=key, point=DEBTOR.point if is_id else None)


TABLE = (
    DEBTOR,
    # Small, read whole every day by EasyFlor's program.
    Row("articlegroup", "Articlegroup/"),
    Row("country", "Country/"),
    Row("currency", "Currency/"),
    Row("remark", "Remark/"),
    Row("employee", "Employee/"),
    Row("supplier", "Supplier/"),
    Row("listgroup", "ListGroup/"),
    # Slow, also read whole every day.
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
    # There is no address of all invoices: a full sync asks for changes since the setting `since`, so it is never
    # complete, and a deleted invoice stays in the mirror.
    Row("invoice", None, since=f"InvoiceSinceDate/{DATE}"),
)

ROWS = {row.name: row for row in TABLE}
NAMES = tuple(ROWS)

SORTS, MAX_SORTS = "ListArticleSort", 50
PRICES, MAX_PRICES = "DebtorListArticleSortPrice", 25
"""Point reads by PUT with a body, and the most ids that EasyFlor's program sends in one request."""
