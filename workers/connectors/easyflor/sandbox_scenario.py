"""Everyday edits of the company in EasyFlor's sandbox, and a script of changes that mirrors most often miss."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from workers.connectors.easyflor import sandbox_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from models.values import JsonObject
    from workers.connectors.easyflor.sandbox_data import Books


class Day:
    """Edits; each returns a sentence that describes it."""

    def __init__(self, books: Books) -> None:
        self.books = books

    def everyday(self, random: Random) -> str:
        """Make one random everyday change."""
        edits: list[Callable[[Random], str]] = [
            *[self.edit_debtor] * 4,
            *[self.purchase] * 3,
            *[self.invoice] * 2,
            self.create_debtor,
            self.delete_debtor,
            self.reprice,
            self.change_password,
        ]
        return random.choice(edits)(random)

    def scenario(self, random: Random) -> Iterator[str]:
        """A scripted day of the changes that mirrors most often miss."""
        steps: tuple[Callable[[Random], str], ...] = (
            self.edit_debtor,
            self.create_debtor,
            self.delete_debtor,
            self.create_and_delete_debtor,
            self.change_password,
            self.password_elsewhere,
            self.edit_person,
            self.null_lists,
            self.new_field,
            self.changed_type,
            self.placeholder_date,
            self.move_order_time,
            self.only_old_currency,
            self.purchase,
            self.cancel_purchase,
            self.invoice,
            self.reprice,
            self.rename_country,
            self.delete_and_restore_debtor,
        )
        for step in steps:
            yield step(random)

    def edit_debtor(self, random: Random) -> str:
        """Change a debtor's second name."""
        debtor = self._random_debtor(random)
        self.books.touch("debtor", debtor, SecondName=f"filiaal {random.randrange(1000)}")
        return f"debtor {debtor['Id']} has another second name"

    def create_debtor(self, _random: Random) -> str:
        """Create a debtor."""
        return f"debtor {self.books.new_debtor()['Id']} is new"

    def delete_debtor(self, random: Random) -> str:
        """Delete a debtor, which no address reports."""
        debtor = self._deletable_debtor(random)
        self.books.tables["debtor"].remove(debtor)
        return f"debtor {debtor['Id']} was deleted, and no address reports it"

    def create_and_delete_debtor(self, _random: Random) -> str:
        """Create a debtor and delete it at once; a mirror may see it, but must not keep it."""
        debtor = self.books.new_debtor()
        self.books.tables["debtor"].remove(debtor)
        return f"debtor {debtor['Id']} was created and deleted on one day"

    def delete_and_restore_debtor(self, random: Random) -> str:
        """Delete a debtor and restore it."""
        debtor = self._deletable_debtor(random)
        self.books.tables["debtor"].remove(debtor)
        self.books.add("debtor", debtor | {"SecondName": "terug"})
        return f"debtor {debtor['Id']} was deleted and restored"

    def change_password(self, random: Random) -> str:
        """Change a password, of which nothing may be stored."""
        debtor = self._debtor_with_user(random)
        debtor["Contacts"][0]["Users"][0].update(self.books.password())
        self.books.touch("debtor", debtor)
        return f"a webshop user of debtor {debtor['Id']} has another password"

    def password_elsewhere(self, random: Random) -> str:
        """Put a password into an undocumented field, in another spelling."""
        debtor = self._random_debtor(random)
        secret = self.books.password()
        hidden = {"shop": [{"PASSWORD": secret["Password"], "passwordSalt": secret["PasswordSalt"], "Theme": "roos"}]}
        self.books.touch("debtor", debtor, Config=debtor["Config"] | {"Extra": hidden})
        return f"debtor {debtor['Id']} shows a password deep inside its configuration"

    def edit_person(self, random: Random) -> str:
        """Change personal data only."""
        debtor = self._random_debtor(random)
        debtor["Contacts"][0].update(DateOfBirth=f"1990-01-{random.randrange(10, 28)}T00:00:00Z", Nationality="Duitse")
        self.books.touch("debtor", debtor)
        return f"a contact of debtor {debtor['Id']} has another nationality"

    def null_lists(self, random: Random) -> str:
        """Set lists to null, which are documented as never null."""
        debtor = self._random_debtor(random)
        self.books.touch("debtor", debtor, OrderDays=None, MailAddresses=None, Employees=None)
        return f"debtor {debtor['Id']} has null where lists were"

    def new_field(self, random: Random) -> str:
        """Add a field that no debtor had before."""
        debtor = self._random_debtor(random)
        self.books.touch("debtor", debtor, LoyaltyTier="gold")
        return f"debtor {debtor['Id']} has a field LoyaltyTier"

    def changed_type(self, random: Random) -> str:
        """Put texts where all debtors had a boolean and a number."""
        debtor = self._random_debtor(random)
        self.books.touch("debtor", debtor, PaysVAT="intracommunautair", ParentId="geen")
        return f"debtor {debtor['Id']} has texts where a boolean and a number were"

    def placeholder_date(self, random: Random) -> str:
        """Set a date to the placeholder in EasyFlor's sample."""
        debtor = self._random_debtor(random)
        self.books.touch("debtor", debtor, CreatedOn="DateTime")
        return f"debtor {debtor['Id']} was created on “DateTime”"

    def move_order_time(self, random: Random) -> str:
        """Set TimeSpans with one-digit days, two-digit days and no days."""
        debtor = self._random_debtor(random)
        times = ("-2.09:00:00", "-01.13:50:01", "13:50:01")
        days = [sandbox_data.order_day(number) | {"MaxDefaultOrderTime": time} for number, time in enumerate(times)]
        self.books.touch("debtor", debtor, OrderDays=days)
        return f"debtor {debtor['Id']} may order until other times"

    def only_old_currency(self, random: Random) -> str:
        """Send the deprecated currency field without the one that replaced it."""
        debtor = self._random_debtor(random)
        self.books.touch("debtor", debtor, Currency="GBP")
        debtor.pop("CurrencyISOCode", None)
        return f"debtor {debtor['Id']} has its currency in the deprecated field only"

    def purchase(self, _random: Random) -> str:
        """Create a purchase; its collection can be read by days."""
        return f"purchase {self.books.new_purchase()['Id']} was booked"

    def cancel_purchase(self, random: Random) -> str:
        """Delete a purchase; its collection has no point reads."""
        purchase = random.choice(self.books.tables["purchase"][:-1] or [self.books.new_purchase()])
        self.books.tables["purchase"].remove(purchase)
        return f"purchase {purchase['Id']} was deleted"

    def invoice(self, _random: Random) -> str:
        """Create an invoice; its collection can only be read by days."""
        return f"invoice {self.books.new_invoice()['Id']} was sent"

    def reprice(self, random: Random) -> str:
        """Change an article; its collection cannot be read by days."""
        article = random.choice(self.books.tables["article"])
        self.books.touch("article", article, PriceDefault=Decimal(random.randrange(5, 900)).scaleb(-3))
        return f"article {article['Id']} has another price"

    def rename_country(self, random: Random) -> str:
        """Add a language to a country's name."""
        country = random.choice(self.books.tables["country"])
        self.books.touch("country", country, Name=country["Name"] | {"en": f"{country['Code']} (new)"})
        return f"country {country['Code']} has an English name"

    def _random_debtor(self, random: Random) -> JsonObject:
        return random.choice(self.books.tables["debtor"] or [self.books.new_debtor()])

    def _deletable_debtor(self, random: Random) -> JsonObject:
        debtors = self.books.tables["debtor"]
        return random.choice(debtors[1:]) if len(debtors) > 1 else self.books.new_debtor()

    def _debtor_with_user(self, random: Random) -> JsonObject:
        debtor = self._random_debtor(random)
        contact = debtor["Contacts"][0]
        contact["Users"] = contact["Users"] or [{"Username": f"shop{debtor['Id']}", "CanOrder": True}]
        return debtor
