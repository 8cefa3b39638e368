"""Dilovod's kinds of objects: how their names are written, how their ids begin, and what finds a new one again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workers.connectors.commands import Unique

if TYPE_CHECKING:
    from collections.abc import Mapping

RESOURCE = re.compile(
    r"(catalogs|documents|balanceRegisters|informationRegisters|accumulationRegisters)\.[A-Za-z][A-Za-z0-9_]*"
)
KNOWN = (
    *("catalogs.goods", "catalogs.persons", "catalogs.units", "catalogs.employees", "catalogs.contacts"),
    *("catalogs.storages", "catalogs.firms", "catalogs.contracts", "catalogs.cashAccounts", "catalogs.priceTypes"),
    *("catalogs.currency", "catalogs.taxes", "catalogs.states", "catalogs.departments", "catalogs.deliveryMethods"),
    *("documents.saleOrder", "documents.saleInvoice", "balanceRegisters.goods", "informationRegisters.currencyRates"),
)
"""Names that the help mentions, to guess at what is meant. An account has many more: `check` knows them."""

ACTIONS = ("saveObject", "setDelMark", "saleOrderCreate")
"""The writes of Dilovod's API."""

_PREFIX_LENGTH = 5
_PREFIXES = {
    "10002": "catalogs.users",
    "10007": "catalogs.roles",
    "11001": "catalogs.persons",
    "11003": "catalogs.goods",
    "11004": "catalogs.firms",
    "11007": "catalogs.storages",
    "11011": "catalogs.cashAccounts",
    "11012": "catalogs.currency",
    "11013": "catalogs.priceTypes",
    "11017": "catalogs.employees",
    "11019": "catalogs.departments",
    "11032": "catalogs.tradeChanels",
    "11036": "catalogs.units",
    "11068": "documents.sale",
    "11091": "documents.saleOrder",
    "11115": "catalogs.states",
}
"""The digits that an id begins with, which are the same in every account (Dilovod help, "Структура даних"). The help
and public programs show only these; `listMetadata` has all of an account."""

_BY_KIND = {kind: prefix for prefix, kind in _PREFIXES.items()}


def prefix(key: str) -> str:
    """The digits of an id that name its kind."""
    return key[:_PREFIX_LENGTH]


def kind_of(key: str) -> str:
    """The kind of an object, by its id; "" if it is not known."""
    return _PREFIXES.get(prefix(key), "")


def prefix_of(kind: str) -> str:
    """How the ids of a kind begin; "" if it is not known."""
    return _BY_KIND.get(kind, "")


_NUMBER = Unique(("header", "number"), longest=10)
_REMARK = Unique(("header", "remark"), appends=True, longest=150)
_CATALOGUE = {"code": Unique(("header", "code"), longest=10)}
_DOCUMENT = {"number": _NUMBER, "remark": _REMARK}
_MORE = {
    "catalogs.goods": {"productNum": Unique(("header", "productNum"), longest=30)},
    "catalogs.persons": {"remark": _REMARK},
    "documents.saleOrder": {
        "remarkFromPerson": Unique(("header", "remarkFromPerson"), appends=True, longest=100),
        "remarkForPerson": Unique(("header", "remarkForPerson"), appends=True, longest=100),
    },
}


def unique_fields(kind: str) -> Mapping[str, Unique]:
    """The fields by which a new object of the kind may be found again; none for a register.

    Lengths are those of `saleOrderCreate` (Dilovod help); that of a code is the longest that public programs show.
    """
    family = kind.partition(".")[0]
    common = {"catalogs": _CATALOGUE, "documents": _DOCUMENT}.get(family, {})
    return common | _MORE.get(kind, {})


def is_record(kind: str) -> bool:
    """Whether the kind is a register, whose records have no keys in the mirror."""
    return kind.partition(".")[0].endswith("Registers")
