"""The data of the Interpreter's sandbox: PDFs, and the purchase orders that are read in them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.values import JsonObject

SUPPLIERS = ("Nordkvist Kontor AB", "Bergs Skruv & Mutter", "Ö-viks Färg HB", "Åkerlund (Import) AB")
_ARTICLES = ("Skruv M6, förzinkad", "Pärm A4", "Takfärg 10 l", "Kopieringspapper", "Mutter M6", "Penna blå")
_BATCHES = ("not applicable", "empty", "filled")
_FIRST_ORDER_ID = 1001
_ORDER_COUNT = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a paper. `article` "": a row of free text. `batches`: "not applicable", "empty" or "filled"."""

    article: str
    name: str
    amount: int = 1
    price: str = "0"
    batches: str = "not applicable"


@dataclass(frozen=True, slots=True)
class Paper:
    """A supplier's delivery note or invoice. `quoted`: the answer has its numbers as text."""

    title: str
    number: int
    supplier: str
    order: int
    date: str
    quoted: bool = True
    rows: tuple[Row, ...] = field(default=())

    def lines(self) -> list[str]:
        """The printed lines."""
        rows = [f"Row: {r.article} | {r.name} | {r.amount} | {r.price} | batches {r.batches}" for r in self.rows]
        numbers = "quoted" if self.quoted else "plain"
        head = [f"{self.title} {self.number}", f"Supplier: {self.supplier}", f"Order: {self.order}"]
        return [*head, f"Date: {self.date}", f"Numbers: {numbers}", *rows]

    def pdf(self) -> bytes:
        """The PDF file."""
        return pdf(self.lines())


def paper(kind: str, number: int, random: Random, today: datetime) -> Paper:
    """A random paper of this kind, for one of the store's orders."""
    title = {"deliverynote": "Delivery note", "invoice": "Invoice"}.get(kind, "Paper")
    rows = tuple(
        Row(
            f"A-{random.randrange(100, 999)}",
            random.choice(_ARTICLES),
            random.randrange(1, 40),
            str(Decimal(random.randrange(100, 90_000)).scaleb(-2)),
            random.choice(_BATCHES),
        )
        for _ in range(random.randrange(1, 4))
    )
    order = _FIRST_ORDER_ID + random.randrange(_ORDER_COUNT)
    return Paper(title, number, random.choice(SUPPLIERS), order, f"{today:%Y-%m-%d}", random.random() < 0.5, rows)  # noqa: PLR2004


def pdf(lines: Sequence[str]) -> bytes:
    """A PDF file with one page of text: six objects, the table of their offsets, and a trailer."""
    operators = "\n".join(f"({_escaped(line)}) Tj T*" for line in lines).encode("cp1252", "replace")
    stream = b"BT /F1 11 Tf 14 TL 60 780 Td\n" + operators + b"\nET"
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Font << /F1 5 0 R >> >>",
    )
    file, offsets = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, content in enumerate(objects, start=1):
        offsets.append(b"%010d 00000 n \n" % len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, b"".join(offsets))
    file += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(file)


def _escaped(line: str) -> str:
    return re.sub(r"([\\()])", r"\\\1", line)


def printed_lines(file: bytes) -> list[str]:
    """The lines of a file that `pdf` created; empty for any other file."""
    operators = re.findall(rb"\(((?:\\.|[^\\)])*)\) Tj T\*", file)
    return [re.sub(r"\\(.)", r"\1", line.decode("cp1252")) for line in operators]


def parse_paper(kind: str, file: bytes) -> Paper:
    """The paper in the file. For a file that `pdf` did not create: a random paper, the same each time."""
    lines = printed_lines(file)
    fields = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("Row: "))
    rows = [line.removeprefix("Row: ") for line in lines if line.startswith("Row: ")]
    invented = paper(kind, 1, _random_of(file), datetime(2026, 1, 2, tzinfo=UTC))
    if not {"Supplier", "Order", "Date"} <= fields.keys():
        return invented
    return replace(
        invented,
        supplier=fields["Supplier"],
        order=int(fields["Order"]),
        date=fields["Date"],
        quoted=fields.get("Numbers") == "quoted",
        rows=tuple(_parse_row(row) for row in rows),
    )


def _parse_row(line: str) -> Row:
    article, name, amount, price, batches = (part.strip() for part in line.split("|"))
    return Row(article, name, int(amount), price, batches.removeprefix("batches "))


def _random_of(file: bytes) -> Random:
    return Random(hashlib.sha256(file).hexdigest())


def purchase_order(kind: str, file: bytes, *, store: int) -> JsonObject:
    """The file's PurchaseOrderDto (Interpreter API, Classes); equal for equal files."""
    source, random = parse_paper(kind, file), _random_of(file)
    supplier = SUPPLIERS.index(source.supplier) + 1 if source.supplier in SUPPLIERS else None
    sent = _epoch_ms(source.date)
    value = sum((row.amount * Decimal(row.price) for row in source.rows), Decimal())
    return {
        "id": source.order,
        "storeId": store,
        "poReference": f"PO-{source.order}",
        "supplierId": supplier,
        "supplierName": source.supplier,
        "orderSentDate": sent,
        "deliveryDate": sent + 5 * 86_400_000,
        "confirmedDeliveryDate": None,
        "deliveredDate": sent + random.randrange(86_400_000) if kind == "deliverynote" else None,
        "paymentTerms": "30",
        "paymentTermsDescription": "30 dagar netto",
        "deliveryTerms": "FVL",
        "deliveryTermsDescription": "Fritt vårt lager",
        "deliveryContact": "Åsa Lindqvist",
        "deliveryCompany": "Lindqvists Järn",
        "deliveryPhone": "+46 31 700 00 00",
        "deliveryAddress": "Hamngatan 7",
        "deliveryAddress2": "",
        "deliveryCity": "Göteborg",
        "deliveryZip": "411 14",
        "deliveryCountry": "SE",
        "contactPerson": "Bo Ek",
        "contactEmail": "order@example.se",
        "productCount": len(source.rows),
        "state": 2 if kind == "deliverynote" else 3,
        "supplierOrderId": f"S{random.randrange(10_000, 99_999)}",
        "customerOrderId": None,
        "productionOrderId": None,
        "message": None,
        "isPickNPack": "false" if source.quoted else False,
        "comment": "",
        "deliveryNoteId": f"{random.randrange(1000, 9999)}" if kind == "deliverynote" else None,
        "externalInvoiceReference": f"F-{random.randrange(1000, 9999)}" if kind == "invoice" else None,
        "goodsMarking": "",
        "orderValue": value,
        "orderValueCurrency": "EUR",
        "orderValueStore": value * Decimal("11.275"),
        "articles": [_article(number, row, source, random) for number, row in enumerate(source.rows, start=1)],
    }


def _article(number: int, row: Row, source: Paper, random: Random) -> JsonObject:
    def as_sent(value: int | str) -> Any:
        return str(value) if source.quoted else Decimal(value)

    if not row.article:
        return {"id": source.order * 100 + number, "articleName": row.name, "batches": None}
    return {
        "id": source.order * 100 + number,
        "articleId": row.article,
        "articleName": row.name,
        "supplierArticleId": f"L{row.article}",
        "orderedAmount": as_sent(row.amount),
        "deliveredAmount": as_sent(row.amount),
        "availableAmount": as_sent(random.randrange(500)),
        "stockWarning": as_sent(0),
        "barcode": f"73{random.randrange(10**11):011d}",
        "barcodeType": random.choice(("EAN", "CODE128", "QR", "UPC")),
        "purchasePrice": as_sent(row.price),
        "purchasePriceMisc": as_sent("0"),
        "purchasePriceShipment": as_sent("0"),
        "rate": Decimal("11.275"),
        "description": "",
        "unit": "st",
        "type": "Stock",
        "stock": "true" if source.quoted else True,
        "batches": _batch_list(row, as_sent, random),
        "units": [_random_unit(row, random)] if random.random() < 0.5 else [],  # noqa: PLR2004
        "orderedAmountWithUnits": f"{row.amount} st",
    }


def _batch_list(row: Row, as_sent: Any, random: Random) -> list[JsonObject] | None:
    if row.batches == "filled":
        batch = {"batchId": f"B{random.randrange(1000)}", "serialNr": None, "orderedAmount": as_sent(row.amount)}
        return [batch | {"deliveredAmount": as_sent(row.amount), "bestBefore": 1_767_103_347_340}]
    return [] if row.batches == "empty" else None


def _random_unit(row: Row, random: Random) -> JsonObject:
    unit = {"id": 7, "externalId": "KRT", "name": "kartong"}
    return {
        "storegroupId": 12,
        "articleId": row.article,
        "unit": unit if random.random() < 0.8 else unit["id"],  # noqa: PLR2004
        "convert": Decimal("24.0"),
        "barcode": "",
    }


def other_edition(kind: str, file: bytes) -> JsonObject:
    """The answer in the form of the other edition of the vendor's page: two addresses, no purchase order."""
    source = parse_paper(kind, file)
    store = {
        "name": "Lindqvists Järn",
        "attention": "Åsa Lindqvist",
        "address1": "Hamngatan 7",
        "postalCode": "411 14",
    }
    return {
        "deliveryFrom": {"name": source.supplier, "attention": None, "address1": "Box 12", "postalCode": "90325"}
        | {"city": "Umeå", "country": "SE", "phone": ""},
        "deliveryTo": store | {"city": "Göteborg", "country": "SE", "phone": "+46 31 700 00 00"},
        "orderNumber": str(source.order),
    }


def orders(store: int) -> dict[int, JsonObject]:
    """The store's purchase orders by id."""
    by_id = {}
    for number in range(_FIRST_ORDER_ID, _FIRST_ORDER_ID + _ORDER_COUNT):
        invented = replace(paper("order", number, Random(number), datetime(2026, 1, 2, tzinfo=UTC)), order=number)
        by_id[number] = purchase_order("order", invented.pdf(), store=store)
    return by_id


def suppliers() -> list[JsonObject]:
    """The store's suppliers as listed; `changed`: ms since 1970."""
    start = _epoch_ms("2026-01-02")
    week = int(timedelta(days=7).total_seconds() * 1000)
    return [{"id": number, "name": name, "changed": start + number * week} for number, name in enumerate(SUPPLIERS, 1)]


def _epoch_ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000
