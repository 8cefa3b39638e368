"""The papers and the company behind Lagerkoll's stand-in: PDFs that say what they are about, and how they read."""

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
_FIRST_ORDER = 1001
_ORDERS = 20


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a paper. `article` "": free text. `batches`: "not applicable", "empty" or "filled"."""

    article: str
    name: str
    amount: int = 1
    price: str = "0"
    batches: str = "not applicable"


@dataclass(frozen=True, slots=True)
class Paper:
    """What a supplier sends along. `quoted`: its numbers come as text in the answer."""

    title: str
    number: int
    supplier: str
    order: int
    date: str
    quoted: bool = True
    rows: tuple[Row, ...] = field(default=())

    def lines(self) -> list[str]:
        """As printed."""
        rows = [f"Row: {r.article} | {r.name} | {r.amount} | {r.price} | batches {r.batches}" for r in self.rows]
        numbers = "quoted" if self.quoted else "plain"
        head = [f"{self.title} {self.number}", f"Supplier: {self.supplier}", f"Order: {self.order}"]
        return [*head, f"Date: {self.date}", f"Numbers: {numbers}", *rows]

    def pdf(self) -> bytes:
        """The file."""
        return pdf(self.lines())


def paper(kind: str, number: int, random: Random, today: datetime) -> Paper:
    """An everyday paper of this kind, for one of the store's orders."""
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
    order = _FIRST_ORDER + random.randrange(_ORDERS)
    return Paper(title, number, random.choice(SUPPLIERS), order, f"{today:%Y-%m-%d}", random.random() < 0.5, rows)  # noqa: PLR2004


def pdf(lines: Sequence[str]) -> bytes:
    """A page of text that PDF readers open: six objects, their places, and a trailer."""
    shown = "\n".join(f"({_escaped(line)}) Tj T*" for line in lines).encode("cp1252", "replace")
    stream = b"BT /F1 11 Tf 14 TL 60 780 Td\n" + shown + b"\nET"
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Font << /F1 5 0 R >> >>",
    )
    file, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, content in enumerate(objects, start=1):
        places.append(b"%010d 00000 n \n" % len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, b"".join(places))
    file += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(file)


def _escaped(line: str) -> str:
    return re.sub(r"([\\()])", r"\\\1", line)


def text(file: bytes) -> list[str]:
    """The lines that `pdf` printed; none for anybody else's file."""
    shown = re.findall(rb"\(((?:\\.|[^\\)])*)\) Tj T\*", file)
    return [re.sub(r"\\(.)", r"\1", line.decode("cp1252")) for line in shown]


def understood(kind: str, file: bytes) -> Paper:
    """What the file is about; of one that is not ours, the same made-up paper each time."""
    lines = text(file)
    told = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("Row: "))
    rows = [line.removeprefix("Row: ") for line in lines if line.startswith("Row: ")]
    made = paper(kind, 1, _chance(file), datetime(2026, 1, 2, tzinfo=UTC))
    if not {"Supplier", "Order", "Date"} <= told.keys():
        return made
    return replace(
        made,
        supplier=told["Supplier"],
        order=int(told["Order"]),
        date=told["Date"],
        quoted=told.get("Numbers") == "quoted",
        rows=tuple(_row(row) for row in rows),
    )


def _row(line: str) -> Row:
    article, name, amount, price, batches = (part.strip() for part in line.split("|"))
    return Row(article, name, int(amount), price, batches.removeprefix("batches "))


def _chance(file: bytes) -> Random:
    return Random(hashlib.sha256(file).hexdigest())


def purchase_order(kind: str, file: bytes, *, store: int) -> JsonObject:
    """What is read in the file, as a PurchaseOrderDto (Interpreter API, Classes): the same for the same file."""
    read, random = understood(kind, file), _chance(file)
    supplier = SUPPLIERS.index(read.supplier) + 1 if read.supplier in SUPPLIERS else None
    sent = _milliseconds(read.date)
    value = sum((row.amount * Decimal(row.price) for row in read.rows), Decimal())
    return {
        "id": read.order,
        "storeId": store,
        "poReference": f"PO-{read.order}",
        "supplierId": supplier,
        "supplierName": read.supplier,
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
        "productCount": len(read.rows),
        "state": 2 if kind == "deliverynote" else 3,
        "supplierOrderId": f"S{random.randrange(10_000, 99_999)}",
        "customerOrderId": None,
        "productionOrderId": None,
        "message": None,
        "isPickNPack": "false" if read.quoted else False,
        "comment": "",
        "deliveryNoteId": f"{random.randrange(1000, 9999)}" if kind == "deliverynote" else None,
        "externalInvoiceReference": f"F-{random.randrange(1000, 9999)}" if kind == "invoice" else None,
        "goodsMarking": "",
        "orderValue": value,
        "orderValueCurrency": "EUR",
        "orderValueStore": value * Decimal("11.275"),
        "articles": [_article(number, row, read, random) for number, row in enumerate(read.rows, start=1)],
    }


def _article(number: int, row: Row, read: Paper, random: Random) -> JsonObject:
    def figure(value: int | str) -> Any:
        return str(value) if read.quoted else Decimal(value)

    if not row.article:
        return {"id": read.order * 100 + number, "articleName": row.name, "batches": None}
    return {
        "id": read.order * 100 + number,
        "articleId": row.article,
        "articleName": row.name,
        "supplierArticleId": f"L{row.article}",
        "orderedAmount": figure(row.amount),
        "deliveredAmount": figure(row.amount),
        "availableAmount": figure(random.randrange(500)),
        "stockWarning": figure(0),
        "barcode": f"73{random.randrange(10**11):011d}",
        "barcodeType": random.choice(("EAN", "CODE128", "QR", "UPC")),
        "purchasePrice": figure(row.price),
        "purchasePriceMisc": figure("0"),
        "purchasePriceShipment": figure("0"),
        "rate": Decimal("11.275"),
        "description": "",
        "unit": "st",
        "type": "Stock",
        "stock": "true" if read.quoted else True,
        "batches": _batches(row, figure, random),
        "units": [_unit(row, random)] if random.random() < 0.5 else [],  # noqa: PLR2004
        "orderedAmountWithUnits": f"{row.amount} st",
    }


def _batches(row: Row, figure: Any, random: Random) -> list[JsonObject] | None:
    if row.batches == "filled":
        batch = {"batchId": f"B{random.randrange(1000)}", "serialNr": None, "orderedAmount": figure(row.amount)}
        return [batch | {"deliveredAmount": figure(row.amount), "bestBefore": 1_767_103_347_340}]
    return [] if row.batches == "empty" else None


def _unit(row: Row, random: Random) -> JsonObject:
    unit = {"id": 7, "externalId": "KRT", "name": "kartong"}
    return {
        "storegroupId": 12,
        "articleId": row.article,
        "unit": unit if random.random() < 0.8 else unit["id"],  # noqa: PLR2004
        "convert": Decimal("24.0"),
        "barcode": "",
    }


def other_edition(kind: str, file: bytes) -> JsonObject:
    """The same paper as the other edition of the vendor's page has it: two addresses, and no purchase order."""
    read = understood(kind, file)
    us = {"name": "Lindqvists Järn", "attention": "Åsa Lindqvist", "address1": "Hamngatan 7", "postalCode": "411 14"}
    return {
        "deliveryFrom": {"name": read.supplier, "attention": None, "address1": "Box 12", "postalCode": "90325"}
        | {"city": "Umeå", "country": "SE", "phone": ""},
        "deliveryTo": us | {"city": "Göteborg", "country": "SE", "phone": "+46 31 700 00 00"},
        "orderNumber": str(read.order),
    }


def orders(store: int) -> dict[int, JsonObject]:
    """The store's purchase orders by id."""
    found = {}
    for number in range(_FIRST_ORDER, _FIRST_ORDER + _ORDERS):
        made = replace(paper("order", number, Random(number), datetime(2026, 1, 2, tzinfo=UTC)), order=number)
        found[number] = purchase_order("order", made.pdf(), store=store)
    return found


def suppliers() -> list[JsonObject]:
    """The store's suppliers, as its list shows them; `changed`: ms since 1970."""
    start = _milliseconds("2026-01-02")
    week = int(timedelta(days=7).total_seconds() * 1000)
    return [{"id": number, "name": name, "changed": start + number * week} for number, name in enumerate(SUPPLIERS, 1)]


def _milliseconds(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000
