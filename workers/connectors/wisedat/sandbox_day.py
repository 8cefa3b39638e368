"""A day at Wisedat's stand-in: everyday edits, and whatever mirrors of it get wrong."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.connectors.wisedat.sandbox import Sandbox
    from workers.connectors.wisedat.sandbox_books import Thing


class Day:
    """Edits; each says in a sentence what it was."""

    def __init__(self, sandbox: Sandbox, random: Random) -> None:
        self.sandbox = sandbox
        self.books = sandbox.books
        self.random = random

    def everyday(self) -> str:
        """One of the changes of an ordinary day. Deletions are as rare as in a shop that is doing well."""
        often: dict[Callable[[], str], int] = {
            self.order: 8,
            self.add_an_item: 8,
            self.note_on_order: 8,
            self.close_order: 5,
            self.sell: 8,
            self.reprice: 8,
            self.edit_customer: 8,
            self.change_address: 5,
            self.deactivate: 3,
            self.reactivate: 3,
            self.change_image: 3,
            self.change_tax: 1,
            self.delete_open_order: 1,
            self.cancel_closed_order: 1,
            self.rotate: 1,
        }
        (change,) = self.random.choices(list(often), weights=list(often.values()))
        return change()

    def steps(self) -> tuple[Callable[[], str], ...]:
        """What happens in a day that mirrors find hard."""
        return (
            self.order,
            self.order_with_a_strange_id,
            self.note_on_order,
            self.add_an_item,
            self.reprice,
            self.sell,
            self.move_between_warehouses,
            self.edit_customer,
            self.deactivate,
            self.reactivate,
            self.deactivate_salesman,
            self.delete_product,
            self.delete_open_order,
            self.cancel_closed_order,
            self.delete_and_create_again,
            self.rotate_between_pages,
            self.restart,
            self.move_between_pages,
            self.break_order,
            self.edit_broken_order,
            self.mend_order,
            self.break_order,
            self.delete_broken_order,
            self.add_address,
            self.change_address,
            self.remove_address,
            self.change_image,
            self.remove_images,
            self.change_category_image,
            self.delete_category,
            self.new_field,
            self.changed_type,
            self.mend_suppliers_name,
            self.change_tax,
            self.delete_unit,
        )

    def _some(self, resource: str, fits: Callable[[Thing], bool] = lambda _: True) -> Thing | None:
        found = [thing for thing in self.books.tables[resource] if fits(thing)]
        return self.random.choice(found) if found else None

    def _any(self, resource: str) -> Thing:
        return self.random.choice(self.books.tables[resource])

    def _open_order(self) -> Thing:
        return (
            self._some("orders", lambda order: not order.data["closed"] and not self._is_withheld(order))
            or self._ordered()
        )

    def _ordered(self, **fields: Any) -> Thing:
        return self.books.new_order(**fields)

    # Orders.

    def order(self) -> str:
        """Create."""
        return f"a customer ordered: {self._ordered().data['id']}"

    def order_with_a_strange_id(self) -> str:
        """An id that an address cannot hold as it is."""
        order = self._ordered(id_="ECL 2026/A&B 50% nº+#/0999")
        return f"an order was imported: {order.data['id']}"

    def note_on_order(self) -> str:
        """Update of what the list does not show."""
        order = self._open_order()
        self.books.touch(order, notes=f"Entregar às {self.random.randrange(8, 19)} h", vehicle_plate="BB-02-CC")
        return f"order {order.data['id']} has a note, which its list does not show"

    def add_an_item(self) -> str:
        """Update, with a line more."""
        order = self._open_order()
        self.books.edit_items(order)
        return f"an item was added to order {order.data['id']}"

    def close_order(self) -> str:
        """Update: from now on it cannot be deleted."""
        order = self._open_order()
        self.books.touch(order, closed=True, hash=self.random.randbytes(20).hex(), hash_control="1")
        return f"order {order.data['id']} was closed"

    def delete_open_order(self) -> str:
        """The vendor deletes it."""
        order = self._open_order()
        self.books.cancel(order)
        return f"order {order.data['id']} was open and was deleted"

    def cancel_closed_order(self) -> str:
        """The vendor keeps it, canceled."""
        order = self._some("orders", lambda order: order.data["closed"]) or self._ordered(closed=True)
        self.books.cancel(order)
        return f"order {order.data['id']} was closed and is canceled"

    def delete_and_create_again(self) -> str:
        """A deletion that is no longer true."""
        order = self._open_order()
        self.books.cancel(order)
        self._ordered(id_=order.data["id"])
        return f"order {order.data['id']} was deleted and created again under its id"

    def break_order(self) -> str:
        """Its detail is refused from now on."""
        order = self._open_order()
        self.books.touch(order, total=order.data["total"] + 1)
        self.books.withheld.add(order.data["id"])
        return f"order {order.data['id']} was edited elsewhere: the API cannot show its detail"

    def edit_broken_order(self) -> str:
        """Only its line in the list changes."""
        order = self._broken_order()
        self.books.touch(order, expiration_date="2027-01-31", total=order.data["total"] + Decimal("0.5"))
        return f"order {order.data['id']}, which the API cannot show, has another total"

    def mend_order(self) -> str:
        """Its detail is shown again."""
        order = self._broken_order()
        self.books.withheld.discard(order.data["id"])
        self.books.touch(order)
        return f"order {order.data['id']} can be shown again"

    def delete_broken_order(self) -> str:
        """What could not be shown is gone."""
        order = self._broken_order()
        self.books.cancel(order)
        return f"order {order.data['id']}, which the API could not show, was deleted"

    def _is_withheld(self, order: Thing) -> bool:
        return self.books.is_withheld("orders", order)

    def _broken_order(self) -> Thing:
        return self._some("orders", self._is_withheld) or self._ordered()

    # Products and categories.

    def reprice(self) -> str:
        """Update."""
        product = self._any("products")
        self.books.touch(product, price=Decimal(self.random.randrange(100, 99_999)).scaleb(-3))
        return f"product {product.data['name']} has another price"

    def sell(self) -> str:
        """A stock that moves without the modification date."""
        product = self._stocked()
        sold = Decimal(self.random.randrange(1, 20)) / 4
        product.data["stocks"][0]["current_stock"] -= sold
        product.data["current_stock"] -= sold
        return f"{sold} of {product.data['name']} were sold: its stock moved, not its modification date"

    def move_between_warehouses(self) -> str:
        """Update of what the list does not show."""
        product, moved = self._stocked(), Decimal("2.5")
        for stock, change in zip(product.data["stocks"], (-moved, moved), strict=True):
            stock["current_stock"] += change
        self.books.touch(product)
        return f"{moved} of {product.data['name']} went to another warehouse; the sum is the same"

    def _stocked(self) -> Thing:
        return self._some("products", lambda product: bool(product.data["stocks"])) or self.books.new_product(600)

    def delete_product(self) -> str:
        """A hard deletion, which nothing tells."""
        product = self._any("products")
        self.books.remove("products", str(product.data["id"]))
        return f"product {product.data['name']} is gone, and nothing says so"

    def change_image(self) -> str:
        """Update of a product's images."""
        product = self._any("products")
        self.books.touch(product, images=[self.books.image(), *product.data["images"][:1]])
        return f"product {product.data['name']} has another image"

    def remove_images(self) -> str:
        """A part that becomes empty."""
        product = self._some("products", lambda product: bool(product.data["images"])) or self._any("products")
        self.books.touch(product, images=[])
        return f"product {product.data['name']} has no image any more"

    def change_category_image(self) -> str:
        """Update."""
        category = self._any("categories")
        self.books.touch(category, image=self.books.image())
        return f"category {category.data['name']} has another image"

    def delete_category(self) -> str:
        """A hard deletion of what lists show whole."""
        category = self.books.tables["categories"].pop()
        return f"category {category.data['name']} is gone"

    def new_field(self) -> str:
        """A field of a later version."""
        product = self._any("products")
        self.books.touch(product, warranty={"months": 24, "by": "fabricante"})
        return f"product {product.data['name']} has a warranty, a field that no document knows"

    def changed_type(self) -> str:
        """A number that becomes words."""
        product = self._any("products")
        self.books.touch(product, delivery_time="a combinar")
        return f"product {product.data['name']} has words where a number was"

    # Customers and others.

    def edit_customer(self) -> str:
        """Update of what the list does not show."""
        customer = self._any("customers")
        self.books.touch(customer, phone=f"9{self.random.randrange(10**8):08d}", email="")
        return f"customer {customer.data['code']} has another phone, which the list does not show"

    def deactivate(self) -> str:
        """Lists keep it to themselves from now on."""
        customer = self._some("customers", lambda customer: customer.data["active"]) or self._any("customers")
        self.books.touch(customer, active=False)
        return f"customer {customer.data['code']} was deactivated: lists hide it by default"

    def reactivate(self) -> str:
        """Lists show it again."""
        customer = self._some("customers", lambda customer: not customer.data["active"]) or self._any("customers")
        self.books.touch(customer, active=True)
        return f"customer {customer.data['code']} is active again"

    def deactivate_salesman(self) -> str:
        """Likewise."""
        salesman = self._any("salesmen")
        self.books.touch(salesman, active=False)
        return f"salesman {salesman.data['name']} left"

    def add_address(self) -> str:
        """An address more."""
        customer = self._any("customers")
        kind = f"Armazém {self.random.randrange(100, 999)}"
        customer.addresses.append({"type": kind, **self.books.address()})
        return self._readdressed(customer, f"has an address {kind}")

    def change_address(self) -> str:
        """Another phone at an address."""
        customer = self._any("customers")
        self.random.choice(customer.addresses)["phone"] = f"2{self.random.randrange(10**8):08d}"
        return self._readdressed(customer, "has another phone at an address")

    def remove_address(self) -> str:
        """An address less."""
        customer = self._some("customers", lambda customer: len(customer.addresses) > 1) or self._any("customers")
        gone = customer.addresses.pop()
        return self._readdressed(customer, f"has no address {gone['type']} any more")

    def _readdressed(self, customer: Thing, what: str) -> str:
        if not self.books.silent_addresses:
            self.books.touch(customer)
        return f"customer {customer.data['code']} {what}"

    def mend_suppliers_name(self) -> str:
        """The list of suppliers comes under its own name."""
        self.sandbox.suppliers_under = "suppliers"
        supplier = self._any("suppliers")
        self.books.touch(supplier, notes="Só por encomenda")
        return f"lists of suppliers are called so from now on, and {supplier.data['code']} has a note"

    def change_tax(self) -> str:
        """A row of a list that knows no modification date."""
        tax = self._any("taxes")
        self.books.touch(tax, description=f"{tax.data['description'].split(' (')[0]} ({self.random.randrange(1000)})")
        return f"tax {tax.data['id']} has another description"

    def delete_unit(self) -> str:
        """A row of such a list that goes."""
        return f"unit {self.books.tables['units'].pop().data['id']} was deleted"

    # The server.

    def rotate(self) -> str:
        """All tokens die."""
        self.sandbox.rotate()
        return "the server made its daily key: every token is void"

    def rotate_between_pages(self) -> str:
        """All tokens die while somebody reads."""
        self.sandbox.meanwhile.append(lambda _resource: self.sandbox.rotate())
        return "the key will change while a list is being read"

    def restart(self) -> str:
        """All tokens die."""
        self.sandbox.restart()
        order = self._ordered()
        return f"the server was restarted, and {order.data['id']} was ordered"

    def move_between_pages(self) -> str:
        """What was on a later page moves to an earlier one while somebody reads."""
        self.sandbox.latest_first = True
        self.sandbox.meanwhile.append(self.books.save_the_last)
        return "lists begin with the latest change, and somebody saves an object while its list is being read"
