"""An example of each write's arguments, with every kind of field that it takes.

Source: Wisedat API 1.3, `Body` of each `Post` and `Put`, filled in.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from workers.connectors.wisedat.command_table import ADDRESSES, CREATE, DELETE, UPDATE

if TYPE_CHECKING:
    from models.values import JsonObject

_PORTUGAL: JsonObject = {"iso_3166_1": "PT"}
_PLACE: JsonObject = {
    "street": "Rua Augusta, 12",
    "city": "Lisboa",
    "postal_code": "1100-053",
    "postal_code_location": "LISBOA",
    "country": _PORTUGAL,
}
_SITE: JsonObject = _PLACE | {"phone": "213000000", "fax": "213000001"}
_ADDRESS: JsonObject = _SITE | {"region": "Lisboa"}
_PERSON: JsonObject = {
    "name": "Mercearia do Largo, Lda",
    "tax_id": "501442600",
    "email": "geral@example.pt",
    "phone": "213000000",
    "notes": "Fecha à segunda",
    "country": "PT",
}
_CUSTOMER: JsonObject = _PERSON | {
    "website": "https://example.pt",
    "currency": "EUR",
    "birthday": "1974-04-25",
    "salesman": 21,
    "billing_address": _ADDRESS,
    "shipping_address": _ADDRESS | {"street": "Largo da Sé, 3"},
}
_ITEMS: list[JsonObject] = [
    {
        "type": 1,
        "id": 101,
        "description": "Azeite virgem",
        "tax": "RE",
        "price": Decimal("6.95"),
        "quantity": 12,
        "discount": 5,
        "warehouse": 1,
    },
    {"type": 2, "description": "Portes", "price": Decimal("4.5")},
    {"type": 4, "description": "Desconto", "tax": "NO", "price": 2, "quantity": 1},
    {"type": 6, "description": "Entregar de manhã"},
]
_ORDER: JsonObject = {
    "customer": 201,
    "salesman": 21,
    "series": "2026",
    "your_reference": "PO 4711",
    "notes": "Tocar à campainha",
    "vehicle_plate": "AA-01-BB",
    "delivery_method": "1",
    "sales_document": "ECL",
    "payment_condition": "30",
    "payment_method": "TB",
    "date": "2026-06-01",
    "expiration_date": "2026-07-01",
    "closed": False,
    "currency": "EUR",
    "exchange_rate": 1,
    "entity_discount": Decimal("2.5"),
    "financial_discount": 0,
    "alternate_billing_address": "Empresa",
    "alternate_shipping_address": "Empresa",
    "loading_location": _PLACE,
    "unloading_location": _PLACE | {"street": "Largo da Sé, 3"},
    "items": _ITEMS,
}
_PRODUCT: JsonObject = {
    "description": "Azeite virgem extra 0,75 l",
    "barcode": "5601234567890",
    "price": Decimal("6.95"),
    "type": 1,
    "tax": "RE",
    "warehouse": 1,
    "brief_description": "Azeite",
    "commercial_description": "Azeite virgem extra do Alentejo",
    "notes": "Guardar ao abrigo da luz",
    "categories": [{"id": 11}, {"id": 13}],
}
_ID: JsonObject = {"id": 101}

EXAMPLES: dict[tuple[str, str], JsonObject] = {
    (CREATE, "products"): {"name": "AZEITE075", "unit": "UN"} | _PRODUCT,
    (UPDATE, "products"): _ID
    | _PRODUCT
    | {"barcode": "5609876543210"}
    | {"suppliers": [{"id": 31, "cost_price": Decimal("4.2"), "unit": "UN"}, {"id": 32}], "main_supplier": 31},
    (DELETE, "products"): _ID,
    (CREATE, "categories"): {"name": "Azeites", "short_name": "AZE", "id_parent": 11},
    (UPDATE, "categories"): {"id": 14, "name": "Natal", "short_name": "NAT"},
    (DELETE, "categories"): {"id": 14},
    (CREATE, "customers"): {"code": "C4711"} | _CUSTOMER,
    (UPDATE, "customers"): {"id": 201} | _CUSTOMER,
    (DELETE, "customers"): {"id": 201},
    (CREATE, ADDRESSES): {"customer": 201, "type": "Armazém"} | _ADDRESS,
    (UPDATE, ADDRESSES): {"customer": 201, "type": "Empresa"} | _ADDRESS,
    (DELETE, ADDRESSES): {"customer": 201, "type": "Armazém"},
    (CREATE, "salesmen"): {"code": "S4711", "commission": Decimal("2.5"), "address": _ADDRESS} | _PERSON,
    (UPDATE, "salesmen"): {"id": 21, "commission": 3, "address": _ADDRESS} | _PERSON,
    (DELETE, "salesmen"): {"id": 21},
    (CREATE, "suppliers"): {"code": "F4711", "address": _ADDRESS} | _PERSON,
    (UPDATE, "suppliers"): {"id": 31, "address": _ADDRESS} | _PERSON,
    (DELETE, "suppliers"): {"id": 31},
    (CREATE, "orders"): _ORDER,
    (UPDATE, "orders"): {"id": "ECL 2026/2"} | _ORDER,
    (DELETE, "orders"): {"id": "ECL 2026/2"},
    (CREATE, "taxes"): {"id": "M9", "value": 0, "description": "Isento", "type": 0, "exemption_reason": "M07"},
    (UPDATE, "taxes"): {"id": "RE", "value": 5, "description": "Taxa reduzida 5 %", "type": 1},
    (DELETE, "taxes"): {"id": "RE"},
    (CREATE, "units"): {"id": "GRF", "description": "Garrafa"},
    (UPDATE, "units"): {"id": "CX", "description": "Caixa de 6"},
    (DELETE, "units"): {"id": "CX"},
    (CREATE, "series"): {"id": "2027", "description": "Série 2027", "vat_cash_system": False},
    (UPDATE, "series"): {"id": "2025", "description": "Série encerrada", "vat_cash_system": False},
    (DELETE, "series"): {"id": "2025"},
    (CREATE, "warehouses"): {"code": "LOJA03", "description": "Armazém da Baixa", "address": _SITE},
    (UPDATE, "warehouses"): {"id": 2, "description": "Armazém do Porto", "address": _SITE},
    (DELETE, "warehouses"): {"id": 2},
}
