"""The data of Wisedat's sandbox: an invented company, and what lists and details show of its objects."""

from __future__ import annotations

import base64
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.values import JsonObject

PAGED = ("products", "categories", "customers", "salesmen", "suppliers", "orders")
NUMERIC = ("products", "categories", "customers", "salesmen", "suppliers")
"""Resources with a numeric id. The document claims it for orders as well, but their ids are text."""

_HIDES_INACTIVE = ("products", "customers", "salesmen", "suppliers")
_PARTNER = ("id", "code", "name", "tax_id", "active")
_LIST_FIELDS: dict[str, tuple[str, ...]] = {
    "products": (
        *("id", "name", "description", "barcode", "price", "current_stock", "type", "active"),
        *("tax", "unit", "categories"),
    ),
    "categories": ("id", "id_parent", "name", "short_name", "image"),
    "customers": _PARTNER,
    "salesmen": (*_PARTNER, "commission"),
    "suppliers": _PARTNER,
    "orders": (
        *("id", "customer", "series", "delivery_method", "payment_condition", "payment_method", "sales_document"),
        *("currency", "exchange_rate", "date", "expiration_date", "canceled", "closed", "merchandise", "postage"),
        *("discounts", "subtotal", "taxes", "adjustment", "total", "entity_discount", "financial_discount"),
    ),
}
_PARTNER_FILTERS = {"query": ("name", "code", "tax_id"), "name": ("name",), "code": ("code",), "tax_id": ("tax_id",)}
_FILTERS: dict[str, dict[str, tuple[str, ...]]] = {
    "products": {
        "query": ("name", "description", "barcode"),
        "name": ("name",),
        "description": ("description",),
        "barcode": ("barcode",),
    },
    "categories": {"query": ("name",), "name": ("name",), "parent": ("id_parent",)},
    "customers": _PARTNER_FILTERS,
    "salesmen": _PARTNER_FILTERS,
    "suppliers": _PARTNER_FILTERS,
    "orders": {
        "query": ("customer.code", "customer.name", "salesman.code", "salesman.name", "series.id", "your_reference"),
        "closed": ("closed",),
        "customer": ("customer.id", "customer.code", "customer.name"),
        "salesman": ("salesman.id", "salesman.code", "salesman.name"),
        "series": ("series.id",),
        "date": ("date",),
        "expiration_date": ("expiration_date",),
        "your_reference": ("your_reference",),
    },
}
"""Parameter -> fields, one of which must contain its value (Wisedat API 1.3, `Parameters` of each `Get`)."""

_CODE_LISTS: dict[str, tuple[JsonObject, ...]] = {
    "company": (),
    "exemptionreasons": (
        {"id": "M07", "description": "Isento artigo 9.º do CIVA"},
        {"id": "M99", "description": "Não sujeito ou não tributado"},
    ),
    "taxes": (
        {"id": "NO", "value": Decimal("23.0"), "description": "Taxa normal", "type": 3},
        {"id": "IN", "value": Decimal("13.0"), "description": "Taxa intermédia", "type": 2},
        {"id": "RE", "value": Decimal("6.0"), "description": "Taxa reduzida", "type": 1},
        {"id": "IS", "value": Decimal("0.0"), "description": "Isento", "type": 0},
    ),
    "units": tuple(
        {"id": id_, "description": text}
        for id_, text in (("UN", "Unidade"), ("KG", "Quilograma"), ("CX", "Caixa"), ("PAL", "Palete"))
    ),
    "series": (
        {"id": "2026", "description": "Série 2026", "vat_cash_system": False, "active": True},
        {"id": "2025", "description": "Série 2025", "vat_cash_system": False, "active": False},
        {"id": "IVAC", "description": "Regime de IVA de caixa", "vat_cash_system": True, "active": True},
    ),
    "currencies": (
        {"id": "EUR", "description": "Euro", "symbol": "€", "decimal_cases": 2},
        {"id": "USD", "description": "Dólar americano", "symbol": "$", "decimal_cases": 2},
    ),
    "countries": tuple(
        {"iso_3166_1": code, "name": name} for code, name in (("PT", "Portugal"), ("ES", "Espanha"), ("FR", "França"))
    ),
    "deliverymethods": ({"id": "1", "description": "Nossa viatura"}, {"id": "2", "description": "Transportadora"}),
    "paymentconditions": ({"id": "0", "description": "Pronto pagamento"}, {"id": "30", "description": "30 dias"}),
    "paymentmethods": ({"id": "NU", "description": "Numerário"}, {"id": "TB", "description": "Transferência"}),
    "salesdocuments": tuple(
        {
            "id": id_,
            "description": text,
            "default_series": "2026",
            "document_type": kind,
            "saft_invoice_type": saft,
            "active": True,
        }
        for id_, text, kind, saft in (
            ("ORC", "Orçamento", 1, 0),
            ("ECL", "Encomenda de cliente", 2, -1),
            ("GR", "Guia de remessa", 3, 0),
            ("FT", "Fatura", 4, 0),
            ("FR", "Fatura-recibo", 4, 7),
        )
    ),
}
_CITIES = (("Lisboa", "1100-053"), ("Porto", "4000-322"), ("Évora", "7000-508"), ("Póvoa de Varzim", "4490-000"))
_STREETS = ("Rua Augusta", "Avenida da Liberdade", "Travessa do Carmo", "Largo da Sé", "Rua de São João")
_PRODUCTS = ("Azeite virgem", "Café torrado", "Sardinha em lata", "Queijo da Serra", "Pão de ló", "Vinho do Porto")
_COMPANIES = ("Mercearia Açores, Lda", "Padaria São João", "Quinta & Filhos", "O Peixe Fresco, SA", "Tasca d'Ávila")
_PEOPLE = ("João Gonçalves", "Conceição Simões", "Inês Araújo")


@dataclass(slots=True)
class Thing:
    """One object. `data`: its detail; a customer's addresses are kept separately."""

    data: JsonObject
    modified: datetime
    addresses: list[JsonObject] = field(default_factory=list)


class Books:
    """The company's objects by resource. `now`: the server's clock, aware.

    `silent_addresses`: editing an address does not change the customer's modification date. `withheld`: ids of orders
    whose detail the API cannot show.
    """

    def __init__(self, seed: int, now: Callable[[], datetime]) -> None:
        self.random = Random(seed)
        self.now = now
        self.tables: dict[str, list[Thing]] = {name: [] for name in (*PAGED, *_CODE_LISTS, "warehouses")}
        self.silent_addresses = False
        self.withheld: set[str] = set()

    # What the vendor shows.

    def key(self, resource: str, thing: Thing) -> str:
        """The object's key."""
        return str(thing.data["iso_3166_1" if resource == "countries" else "id"])

    def find(self, resource: str, key: str) -> Thing | None:
        """The object with this key, if it exists."""
        return next((thing for thing in self.tables[resource] if self.key(resource, thing) == key), None)

    def is_withheld(self, resource: str, thing: Thing) -> bool:
        """Whether the API cannot show the object's detail."""
        return resource == "orders" and thing.data["id"] in self.withheld

    def detail(self, resource: str, thing: Thing) -> JsonObject:
        """The object as `?id=` shows it."""
        answer = deepcopy(thing.data)
        return answer | self._addresses(thing) if resource == "customers" else answer

    def line(self, resource: str, thing: Thing) -> JsonObject:
        """The object as a list shows it."""
        answer = {name: deepcopy(thing.data[name]) for name in _LIST_FIELDS[resource]}
        if resource == "products":
            answer["image"] = thing.data["images"][0] if thing.data["images"] else ""
        if resource == "orders":
            answer["customer"] = {name: answer["customer"][name] for name in _PARTNER}
        return answer

    def listed(
        self, resource: str, params: Mapping[str, str], *, since: datetime | None, inclusive: bool
    ) -> list[Thing]:
        """The objects that a list with these parameters contains, in the order of creation."""
        hidden = resource in _HIDES_INACTIVE and params.get("show_inactive", "false").lower() != "true"
        return [
            thing
            for thing in self.tables[resource]
            if (not hidden or thing.data["active"])
            and (since is None or thing.modified > since or (inclusive and thing.modified == since))
            and _matches(thing.data, resource, params)
        ]

    def _addresses(self, thing: Thing) -> JsonObject:
        """The addresses inside a customer; two types are special (Wisedat API 1.3, Orders, Post)."""
        typed = {address["type"]: address for address in thing.addresses}
        others = [deepcopy(address) for kind, address in typed.items() if kind not in {"Empresa", "Entrega"}]
        return {
            "billing_address": _untyped(typed.get("Empresa")),
            "shipping_address": _untyped(typed.get("Entrega")),
            "other_addresses": others,
        }

    # Changes.

    def add(self, resource: str, data: JsonObject, *, back: timedelta = timedelta()) -> Thing:
        """Add an object that was modified `back` ago."""
        thing = Thing(data, self.now() - back)
        self.tables[resource].append(thing)
        return thing

    def touch(self, thing: Thing, **changes: Any) -> None:
        """Edit the object as a user does: changes the modification date."""
        thing.data.update(changes)
        thing.modified = self.now()

    def change(self, resource: str, key: str, **changes: Any) -> None:
        """`touch` the object with this key. KeyError if there is none."""
        self.touch(self._existing(resource, key), **changes)

    def remove(self, resource: str, key: str) -> None:
        """Delete the object; the API shows no trace of it. KeyError if there is none."""
        self.tables[resource].remove(self._existing(resource, key))
        if resource == "orders":
            self.withheld.discard(key)

    def _existing(self, resource: str, key: str) -> Thing:
        thing = self.find(resource, key)
        if thing is None:
            raise KeyError(key)
        return thing

    def cancel(self, order: Thing) -> None:
        """Delete an open order, or mark a closed one as canceled (Wisedat API 1.3, Orders, Delete)."""
        if order.data["closed"]:
            self.touch(order, canceled=True)
        else:
            self.remove("orders", order.data["id"])

    def save_the_last(self, resource: str) -> None:
        """Save the object with the oldest modification date, without a change: it moves to another page."""
        self.touch(min(self.tables[resource], key=lambda thing: thing.modified))

    # The company.

    def create_company(self, objects: int) -> None:
        """Create the base data, and `objects` products, customers and orders each."""
        for name, rows in _CODE_LISTS.items():
            for row in rows:
                self.add(name, deepcopy(row), back=timedelta(days=900))
        for thing in self.tables["taxes"]:
            reason = self.tables["exemptionreasons"][0].data if thing.data["type"] == 0 else None
            thing.data["exemption_reason"] = deepcopy(reason)
        self._create_base_data()
        for number, name in enumerate(_PEOPLE):
            self._new_partner("salesmen", 21 + number, name, commission=Decimal("2.5") * number)
        for number in range(3):
            self._new_partner("suppliers", 31 + number, f"{_COMPANIES[number]} (fornecedor)")
        for number in range(objects):
            self.new_product(number)
            self.new_customer(number)
        for number in range(objects):
            self.new_order(back=timedelta(days=1 + number), closed=number % 2 == 0)

    def _create_base_data(self) -> None:
        for number, name in enumerate(("Mercearia", "Bebidas", "Vinhos", "Sazonal")):
            self.add(
                "categories",
                {
                    "id": 11 + number,
                    "id_parent": 12 if name == "Vinhos" else None,
                    "name": name,
                    "short_name": name[:3].upper(),
                    "image": "" if number % 2 else self.image(),
                },
                back=timedelta(days=400),
            )
        for number, code in enumerate(("SEDE", "LOJA02")):
            address = {name: value for name, value in self.address().items() if name != "region"}
            self.add(
                "warehouses",
                {"id": number + 1, "code": code, "description": f"Armazém {code}", "address": address},
                back=timedelta(days=900),
            )
        currency, other = (deepcopy(thing.data) for thing in self.tables["currencies"])
        company = {"id": "LOJA", "name": "Loja do Bairro, Lda", "tax_id": _nif(9_876_543), "address": self.address()}
        self.add("company", company | {"currency": currency, "alt_currency": other})

    def image(self) -> str:
        """A random image, Base64."""
        return base64.b64encode(self.random.randbytes(self.random.randrange(60, 200))).decode()

    def address(self) -> JsonObject:
        """A Portuguese address without its type."""
        city, postal_code = self.random.choice(_CITIES)
        return {
            "street": f"{self.random.choice(_STREETS)}, {self.random.randrange(1, 200)}",
            "city": city,
            "postal_code": postal_code,
            "postal_code_location": city.upper(),
            "phone": "",
            "fax": None,
            "region": "",
            "country": deepcopy(self.tables["countries"][0].data),
        }

    def _partner(self, id_: int, code: str, name: str) -> JsonObject:
        return {
            "id": id_,
            "code": code,
            "name": name,
            "tax_id": _nif(id_ * 7919),
            "email": f"{code.lower()}@example.pt",
            "phone": f"2{self.random.randrange(10**8):08d}",
            "notes": "",
            "active": True,
            "country": deepcopy(self.tables["countries"][0].data),
        }

    def _new_partner(self, resource: str, id_: int, name: str, **fields: Any) -> None:
        data = self._partner(id_, f"{resource[0].upper()}{id_:04d}", name) | {"address": self.address()} | fields
        self.add(resource, data, back=timedelta(days=300))

    def _pick(self, resource: str) -> JsonObject:
        return deepcopy(self.random.choice(self.tables[resource]).data)

    def new_product(self, number: int) -> Thing:
        """Add a product with its stocks; every sixth is a service, every seventh is inactive."""
        service, supplier = (number + 1) % 6 == 0, self.random.choice(self.tables["suppliers"]).data
        stocks = [] if service else [self._stock(warehouse) for warehouse in (1, 2)]
        unit, name = self._pick("units"), _PRODUCTS[number % len(_PRODUCTS)]
        product = {
            "id": 101 + number,
            "name": f"ART{number + 1:03d}",
            "description": f"{name} {number + 1}",
            "barcode": f"560{number:010d}" if number % 4 else "",
            "brief_description": name,
            "commercial_description": None,
            "notes": "",
            "images": [self.image() for _ in range(number % 3)],
            "price": _random_price(self.random),
            "current_stock": sum((stock["current_stock"] for stock in stocks), Decimal()),
            "type": 2 if service else 1,
            "net_weight": Decimal("0.75"),
            "gross_weight": Decimal("0.9"),
            "volume": Decimal("0.001"),
            "delivery_time": number % 4,
            "active": (number + 1) % 7 != 0,
            "tax": self._pick("taxes"),
            "unit": unit,
            "categories": [self._in_category(11 + number % 3)],
            "stocks": stocks,
            "suppliers": [{"id": supplier["id"], "cost_price": _random_price(self.random), "unit": deepcopy(unit)}],
            "main_supplier": {key: supplier[key] for key in _PARTNER} if number % 2 else None,
        }
        return self.add("products", product, back=timedelta(days=number + 1))

    def _stock(self, warehouse: int) -> JsonObject:
        return {
            "id_warehouse": warehouse,
            "id_location": None,
            "id_lot": self.random.choice((None, 7)),
            "current_stock": Decimal(self.random.randrange(20, 900)) / 2,
            "reserved_stock": Decimal(0),
        }

    def _in_category(self, id_: int) -> JsonObject:
        category = next(thing.data for thing in self.tables["categories"] if thing.data["id"] == id_)
        return {name: category[name] for name in ("id", "id_parent", "name", "short_name")}

    def new_customer(self, number: int) -> Thing:
        """Add a customer with its addresses. Empty fields are null or an empty text, as with the vendor."""
        salesman = self._pick("salesmen")
        customer = self._partner(
            201 + number, f"C{number + 1:04d}", f"{_COMPANIES[number % len(_COMPANIES)]} {number + 1}"
        )
        customer |= {
            "website": None if number % 2 else "https://example.pt",
            "active": (number + 1) % 5 != 0,
            "birthday": None if number % 3 else "1974-04-25",
            "payment_method": self._pick("paymentmethods"),
            "payment_condition": self._pick("paymentconditions"),
            "delivery_method": self._pick("deliverymethods"),
            "currency": deepcopy(self.tables["currencies"][0].data),
            "salesman": {name: salesman[name] for name in (*_PARTNER, "commission")} if number % 4 else None,
        }
        thing = self.add("customers", customer, back=timedelta(days=number + 1))
        kinds = ("Empresa", "Entrega", "Obra Nova")[: 1 + number % 3]
        thing.addresses = [{"type": kind, **self.address()} for kind in kinds]
        return thing

    def new_order(self, *, back: timedelta = timedelta(), closed: bool = False, id_: str = "") -> Thing:
        """Add an order with items and the totals computed from them."""
        day = self.now() - back
        series = deepcopy(self.tables["series"][0].data)
        items = [self.item() for _ in range(self.random.randrange(1, 4))]
        items.append({**_NO_PRODUCT, "type": 2, "description": "Portes", "price": Decimal("4.5"), "tax": self._tax()})
        items.append({**_NO_PRODUCT, "type": 6, "description": "Entregar de manhã; não dobrar"})
        order = {
            "id": id_ or f"ECL {series['id']}/{self.next_number()}",
            **self.terms_of(self.random.choice(self.tables["customers"])),
            "exchange_rate": Decimal("1.0"),
            "series": series,
            "sales_document": deepcopy(self.tables["salesdocuments"][1].data),
            "items": items,
            "your_reference": "",
            "notes": "",
            "vehicle_plate": "AA-01-BB" if closed else "",
            "date": f"{day:%Y-%m-%d}",
            "expiration_date": f"{day + timedelta(days=30):%Y-%m-%d}",
            "canceled": False,
            "closed": closed,
            **totals(items),
            "entity_discount": Decimal(0),
            "financial_discount": Decimal(0),
            "alternate_billing_address": "",
            "alternate_shipping_address": "",
            "hash": base64.b64encode(self.random.randbytes(32)).decode() if closed else "",
            "hash_control": "1" if closed else "",
            "loading_location": self._place(),
            "unloading_location": self._place(),
        }
        return self.add("orders", order, back=back)

    def terms_of(self, thing: Thing) -> JsonObject:
        """The fields that an order copies from this customer."""
        customer, addresses = deepcopy(thing.data), self._addresses(thing)
        names = ("salesman", "delivery_method", "payment_condition", "payment_method", "currency")
        partner = {name: customer[name] for name in (*_PARTNER, "email", "phone", "country")}
        partner |= {name: addresses[name] for name in ("billing_address", "shipping_address")}
        return {"customer": partner, **{name: customer[name] for name in names}}

    def next_number(self) -> int:
        """The number of the next order."""
        return max((int(thing.data["id"].rpartition("/")[2]) for thing in self.tables["orders"]), default=0) + 1

    def _tax(self) -> JsonObject:
        return deepcopy(self.tables["taxes"][0].data)

    def _place(self) -> JsonObject:
        address = self.address()
        return {name: address[name] for name in ("street", "city", "postal_code", "postal_code_location", "country")}

    def item(self) -> JsonObject:
        """A random order item with a product."""
        product = self._pick("products")
        return {
            "product": {name: product[name] for name in ("id", "name", "barcode", "type", "unit")},
            "tax": product["tax"],
            "price": product["price"],
            "quantity": Decimal(self.random.randrange(1, 40)) / 2,
            "discount": Decimal(self.random.choice((0, 0, 5))),
            "type": 1,
            "description": product["description"],
            "warehouse": 1,
        }

    def edit_items(self, order: Thing) -> None:
        """Add an item to the order and compute its totals."""
        items = [*order.data["items"], self.item()]
        self.touch(order, items=items, **totals(items))


_NO_PRODUCT: JsonObject = {
    "product": None,
    "tax": None,
    "price": Decimal(0),
    "quantity": Decimal(1),
    "discount": Decimal(0),
    "warehouse": None,
}


def _untyped(address: JsonObject | None) -> JsonObject | None:
    return None if address is None else {name: deepcopy(value) for name, value in address.items() if name != "type"}


def totals(items: list[JsonObject]) -> JsonObject:
    """An order's totals, computed as documented (Wisedat API 1.3, Orders, Get)."""
    of_type = {
        kind: round(sum((_item_value(item) for item in items if item["type"] == kind), Decimal()), 2)
        for kind in range(1, 6)
    }
    taxes = round(sum((_item_value(item) * item["tax"]["value"] / 100 for item in items if item["tax"]), Decimal()), 2)
    subtotal = of_type[1] + of_type[2] - of_type[4] - of_type[5]
    return {
        "merchandise": of_type[1],
        "postage": of_type[2],
        "discounts": of_type[4] + of_type[5],
        "subtotal": subtotal,
        "taxes": taxes,
        "adjustment": of_type[3],
        "total": subtotal + taxes - of_type[3],
    }


def _item_value(item: JsonObject) -> Decimal:
    value: Decimal = item["price"] * item["quantity"] * (100 - item["discount"]) / 100
    return value


def _random_price(random: Random) -> Decimal:
    return Decimal(random.randrange(50, 99_999)).scaleb(-3)


def _nif(number: int) -> str:
    """A Portuguese tax id (NIF) with a valid control digit."""
    digits = f"5{number % 10**7:07d}"
    control = -sum(int(digit) * (9 - place) for place, digit in enumerate(digits)) % 11
    return f"{digits}{control % 10}"


def _matches(data: JsonObject, resource: str, params: Mapping[str, str]) -> bool:
    """Whether the object matches all filters of the resource that are set."""
    return all(
        any(params[name].lower() in _text_at(data, path) for path in paths)
        for name, paths in _FILTERS[resource].items()
        if name in params
    )


def _text_at(data: Any, path: str) -> str:
    for name in path.split("."):
        data = (data or {}).get(name)
    return "" if data is None else str(data).lower()
