"""The flower exporter in EasyFlor's sandbox: the objects of its collections."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, date, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from models.values import JsonObject

AMSTERDAM = ZoneInfo("Europe/Amsterdam")

TABLES = ("debtor", "articlegroup", "country", "article", "purchase", "invoice")
_FLOWERS = ("Roos", "Tulp", "Lelie", "Gerbera", "Chrysant", "Pioenroos")
_SHOPS = ("Bloemenhuis Vörös", "Fleurs d'Été", "De Groene Vaas", "Blumen Groß", "Kwiaciarnia Łąka", "Flora & Zn.")
_COUNTRIES = ("NLD", "DEU", "FRA", "BEL")


class Books:
    """The company's collections, of objects as replies show them. `now`: EasyFlor's clock, aware.

    `changed`: (collection, id) -> day of the last change. `secrets`: every password hash and salt ever sent.
    """

    def __init__(self, seed: int, now: Callable[[], datetime]) -> None:
        self.random = Random(seed)
        self.now = now
        self.tables: dict[str, list[JsonObject]] = {name: [] for name in TABLES}
        self.changed: dict[tuple[str, str], date] = {}
        self.secrets: set[str] = set()
        self._last = 416

    def today(self) -> date:
        """The day in UTC, by which changes are listed."""
        return self.now().astimezone(UTC).date()

    def add(self, table: str, record: JsonObject, *, back: int = 0) -> JsonObject:
        """Add an object that was created `back` days ago."""
        self.tables[table].append(record)
        self.changed[table, str(record["Id"])] = self.today() - timedelta(days=back)
        return record

    def touch(self, table: str, record: JsonObject, **changes: Any) -> None:
        """Change an object as a user would."""
        record.update(changes)
        self.changed[table, str(record["Id"])] = self.today()

    def since(self, table: str, day: date) -> list[JsonObject]:
        """The existing objects that changed on this day or later."""
        return [record for record in self.tables[table] if self.changed[table, str(record["Id"])] >= day]

    # The company.

    def fill(self, objects: int) -> None:
        """Fill the collections with objects of several years."""
        for number, code in enumerate(_COUNTRIES):
            self.add("country", {"Id": number + 1, "Code": code, "Name": _language_value(code.title())}, back=900)
        for number, name in enumerate(_FLOWERS):
            self.add("articlegroup", {"Id": number + 1, "Name": _language_value(name)}, back=900)
        for number in range(objects):
            self.new_debtor(back=10 + number)
            self.new_article(number)
        for number in range(objects):
            self.new_purchase(back=10 + number)
            self.new_invoice(back=10 + number)

    def new_debtor(self, *, back: int = 0) -> JsonObject:
        """A debtor; optional fields are absent or null in turn."""
        self._last += 1
        number = self._last
        debtor: JsonObject = {
            "Id": number,
            "ParentId": None if number % 3 else 417,
            "Name": _SHOPS[number % len(_SHOPS)],
            "PaysVAT": bool(number % 2),
            "Language": "nl",
            "Config": {
                "Id": f"ShopWhyDebtorConfigs/debtors/{number}",
                "DebtorId": f"debtors/{number}",
                "SalesUnits": [],
                "DirectPay": False,
            },
            "Addresses": None,
            "Numbers": None,
            "Contacts": [self._contact(number)],
            "MailAddresses": None if number % 2 else [{"Category": "MAIL_1", "Value": f"info{number}@example.org"}],
            "CurrencyISOCode": "EUR",
            "CreatedOn": (self.now() - timedelta(days=back)).astimezone(AMSTERDAM).isoformat(timespec="seconds"),
            "OrderDays": [order_day(1), order_day(2)] if number % 4 else None,
        }
        if number % 5 == 0:
            debtor |= {"Code": f"0{number}", "Block": False, "Country": "NLD", "Employees": ["anna", "bert"]}
            del debtor["Addresses"]
        return self.add("debtor", debtor, back=back)

    def _contact(self, number: int) -> JsonObject:
        return {
            "Initials": "m",
            "FirstName": ("Marco", "Jolanda", "Sören")[number % 3],
            "MiddleName": None,
            "LastName": "de Klein",
            "PlaceOfBirth": None,
            "DateOfBirth": f"19{60 + number % 40}-12-10T00:00:00Z",
            "Function": None,
            "Gender": "Man",
            "Nationality": "Nederlandse",
            "MailAddresses": [{"Category": "MAIL_1", "Value": f"contact{number}@example.org"}],
            "Numbers": None,
            "Users": [{"Username": f"shop{number}", "CanOrder": True, **self.password()}] if number % 2 else None,
        }

    def password(self) -> JsonObject:
        """The secret fields of a webshop user with a new password."""
        made = {"Password": self._secret(32), "PasswordSalt": self._secret(8)}
        self.secrets.update(made.values())
        return made

    def _secret(self, length: int) -> str:
        return b64encode(self.random.randbytes(length)).decode()

    def new_article(self, number: int) -> JsonObject:
        """An article; its id is a text, although some look like numbers."""
        flower = _FLOWERS[number % len(_FLOWERS)]
        return self.add(
            "article",
            {
                "Id": f"{1000 + number}" if number % 3 else f"A-{number:03d}",
                "Name": _language_value(f"{flower} {40 + 10 * (number % 4)} cm"),
                "ArticlegroupId": number % len(_FLOWERS) + 1,
                "PriceDefault": Decimal(self.random.randrange(5, 900)).scaleb(-3),
            },
            back=30 + number,
        )

    def new_purchase(self, *, back: int = 0) -> JsonObject:
        """A purchase of an article, with features."""
        article = self.random.choice(self.tables["article"])
        return self.add(
            "purchase",
            {
                "Id": self._next("purchase", 9001),
                "ArticleId": article["Id"],
                "Date": f"{self.today() - timedelta(days=back)}",
                "Quantity": self.random.randrange(10, 500),
                "Price": article["PriceDefault"],
                "Features": [{"FeatureType": "S01", "Value": "060"}, {"FeatureType": "S05", "Value": "023"}],
            },
            back=back,
        )

    def new_invoice(self, *, back: int = 0) -> JsonObject:
        """An invoice to a random debtor."""
        debtor = self.random.choice(self.tables["debtor"])
        total = Decimal(self.random.randrange(100, 900_000)).scaleb(-2)
        invoice = {"Id": self._next("invoice", 70_001), "DebtorId": f"debtors/{debtor['Id']}", "Total": total}
        return self.add("invoice", invoice, back=back)

    def _next(self, table: str, first: int) -> int:
        return max((record["Id"] for record in self.tables[table]), default=first - 1) + 1


def order_day(number: int) -> JsonObject:
    """An order day of a debtor, with a TimeSpan as in EasyFlor's sample."""
    return {
        "Id": f"orderdays/{number}",
        "Name": f"Levering {('maandag', 'dinsdag', 'woensdag')[number % 3]}",
        "Day": number,
        "MaxDefaultOrderTime": "-1.15:30:00",
        "Lists": [
            {"Id": 73, "MaxOrderTime": "-1.15:30:00", "MinOrderTime": "00:00:00"},
            {"Id": 98, "MaxOrderTime": "-1.15:30:00", "MinOrderTime": "00:00:00"},
        ],
    }


def _language_value(name: str) -> JsonObject:
    """A LanguageValue: language -> text."""
    return {"nl": name, "de": f"{name} (de)", "fr": f"{name} (fr)"}
