"""The scenario of Wisedat's sandbox: everyday edits, and a day of changes that mirrors get wrong."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.connectors.wisedat.sandbox_data import Thing
    from workers.connectors.wisedat.sandbox_server import Server


class Day:
    """Makes edits at a server. Each public method makes one change and returns a sentence on it."""

    def __init__(self, server: Server, random: Random) -> None:
        self.server = server
        self.books = server.books
        self.random = random

    def everyday(self) -> str:
        """Make one random everyday change. Deletions are rare, so that the company does not run out of objects."""
        weights: dict[Callable[[], str], int] = {
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
        (change,) = self.random.choices(list(weights), weights=list(weights.values()))
        return change()

    def steps(self) -> tuple[Callable[[], str], ...]:
        """The changes of the scripted day, in order."""
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
            self.repair_order,
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
            self.fix_suppliers_name,
            self.change_tax,
            self.delete_unit,
        )

    def _pick_where(self, resource: str, matches: Callable[[Thing], bool] = lambda _: True) -> Thing | None:
        found = [thing for thing in self.books.tables[resource] if matches(thing)]
        return self.random.choice(found) if found else None

    def _pick(self, resource: str) -> Thing:
        return self.random.choice(self.books.tables[resource])

    def _open_order(self) -> Thing:
        return (
            self._pick_where("orders", lambda order: not order.data["closed"] and not self._is_withheld(order))
            or self._new_order()
        )

    def _new_order(self, **fields: Any) -> Thing:
        return self.books.new_order(**fields)

    # Orders.

    def order(self) -> str:
        """Create an order."""
        return f"a customer ordered: {self._new_order().data['id']}"

    def order_with_a_strange_id(self) -> str:
        """Create an order whose id has to be escaped in a URL."""
        order = self._new_order(id_="ECL 2026/A&B 50% nº+#/0999")
        return f"an order was imported: {order.data['id']}"

    def note_on_order(self) -> str:
        """Change fields that the list does not show."""
        order = self._open_order()
        self.books.touch(order, notes=f"Entregar às {self.random.randrange(8, 19)} h", vehicle_plate="BB-02-CC")
        return f"order {order.data['id']}: new note, not shown in lists"

    def add_an_item(self) -> str:
        """Add an item to an open order."""
        order = self._open_order()
        self.books.edit_items(order)
        return f"an item was added to order {order.data['id']}"

    def close_order(self) -> str:
        """Close an order: it can no longer be deleted."""
        order = self._open_order()
        self.books.touch(order, closed=True, hash=self.random.randbytes(20).hex(), hash_control="1")
        return f"order {order.data['id']} was closed"

    def delete_open_order(self) -> str:
        """Delete an open order: the vendor deletes it."""
        order = self._open_order()
        self.books.cancel(order)
        return f"open order {order.data['id']} was deleted"

    def cancel_closed_order(self) -> str:
        """Delete a closed order: the vendor keeps it and marks it as canceled."""
        order = self._pick_where("orders", lambda order: order.data["closed"]) or self._new_order(closed=True)
        self.books.cancel(order)
        return f"closed order {order.data['id']} was canceled"

    def delete_and_create_again(self) -> str:
        """Delete an order and create another with the same id."""
        order = self._open_order()
        self.books.cancel(order)
        self._new_order(id_=order.data["id"])
        return f"order {order.data['id']} was deleted and created again"

    def break_order(self) -> str:
        """Edit an order with another application: the API refuses its detail."""
        order = self._open_order()
        self.books.touch(order, total=order.data["total"] + 1)
        self.books.withheld.add(order.data["id"])
        return f"order {order.data['id']} was edited elsewhere; the API hides it"

    def edit_broken_order(self) -> str:
        """Change an order whose detail is refused: only its line in the list shows it."""
        order = self._broken_order()
        self.books.touch(order, expiration_date="2027-01-31", total=order.data["total"] + Decimal("0.5"))
        return f"hidden order {order.data['id']} has a new total"

    def repair_order(self) -> str:
        """Make an order's detail available again."""
        order = self._broken_order()
        self.books.withheld.discard(order.data["id"])
        self.books.touch(order)
        return f"order {order.data['id']} is visible again"

    def delete_broken_order(self) -> str:
        """Delete an order whose detail is refused."""
        order = self._broken_order()
        self.books.cancel(order)
        return f"hidden order {order.data['id']} was deleted"

    def _is_withheld(self, order: Thing) -> bool:
        return self.books.is_withheld("orders", order)

    def _broken_order(self) -> Thing:
        return self._pick_where("orders", self._is_withheld) or self._new_order()

    # Products and categories.

    def reprice(self) -> str:
        """Change a price."""
        product = self._pick("products")
        self.books.touch(product, price=Decimal(self.random.randrange(100, 99_999)).scaleb(-3))
        return f"product {product.data['name']} has a new price"

    def sell(self) -> str:
        """Change a stock without changing the modification date."""
        product = self._stocked()
        sold = Decimal(self.random.randrange(1, 20)) / 4
        product.data["stocks"][0]["current_stock"] -= sold
        product.data["current_stock"] -= sold
        return f"product {product.data['name']}: {sold} sold; modification date unchanged"

    def move_between_warehouses(self) -> str:
        """Change stocks so that the total in the list stays equal."""
        product, moved = self._stocked(), Decimal("2.5")
        for stock, change in zip(product.data["stocks"], (-moved, moved), strict=True):
            stock["current_stock"] += change
        self.books.touch(product)
        return f"product {product.data['name']}: {moved} moved to another warehouse"

    def _stocked(self) -> Thing:
        return self._pick_where("products", lambda product: bool(product.data["stocks"])) or self.books.new_product(600)

    def delete_product(self) -> str:
        """Delete a product; the API shows no trace of it."""
        product = self._pick("products")
        self.books.remove("products", str(product.data["id"]))
        return f"product {product.data['name']} was deleted without a trace"

    def change_image(self) -> str:
        """Add an image to a product."""
        product = self._pick("products")
        self.books.touch(product, images=[self.books.image(), *product.data["images"][:1]])
        return f"product {product.data['name']} has a new image"

    def remove_images(self) -> str:
        """Remove all images of a product: the part becomes empty."""
        product = self._pick_where("products", lambda product: bool(product.data["images"])) or self._pick("products")
        self.books.touch(product, images=[])
        return f"product {product.data['name']} lost its images"

    def change_category_image(self) -> str:
        """Change a category's image."""
        category = self._pick("categories")
        self.books.touch(category, image=self.books.image())
        return f"category {category.data['name']} has a new image"

    def delete_category(self) -> str:
        """Delete an object of a resource without detail."""
        category = self.books.tables["categories"].pop()
        return f"category {category.data['name']} was deleted"

    def new_field(self) -> str:
        """Add a field that the document does not have, as a later version may."""
        product = self._pick("products")
        self.books.touch(product, warranty={"months": 24, "by": "fabricante"})
        return f"product {product.data['name']} has an undocumented field: warranty"

    def changed_type(self) -> str:
        """Change a number into text."""
        product = self._pick("products")
        self.books.touch(product, delivery_time="a combinar")
        return f"product {product.data['name']} has text in a number field"

    # Customers and others.

    def edit_customer(self) -> str:
        """Change fields that the list does not show."""
        customer = self._pick("customers")
        self.books.touch(customer, phone=f"9{self.random.randrange(10**8):08d}", email="")
        return f"customer {customer.data['code']}: new phone, not shown in lists"

    def deactivate(self) -> str:
        """Deactivate a customer: lists omit it by default."""
        customer = self._pick_where("customers", lambda customer: customer.data["active"]) or self._pick("customers")
        self.books.touch(customer, active=False)
        return f"customer {customer.data['code']} was deactivated; lists omit it"

    def reactivate(self) -> str:
        """Activate an inactive customer."""
        customer = self._pick_where("customers", lambda customer: not customer.data["active"]) or self._pick(
            "customers"
        )
        self.books.touch(customer, active=True)
        return f"customer {customer.data['code']} is active again"

    def deactivate_salesman(self) -> str:
        """Deactivate a salesman."""
        salesman = self._pick("salesmen")
        self.books.touch(salesman, active=False)
        return f"salesman {salesman.data['name']} was deactivated"

    def add_address(self) -> str:
        """Add an address to a customer."""
        customer = self._pick("customers")
        kind = f"Armazém {self.random.randrange(100, 999)}"
        customer.addresses.append({"type": kind, **self.books.address()})
        return self._address_changed(customer, f"has a new address {kind}")

    def change_address(self) -> str:
        """Change the phone of an address."""
        customer = self._pick("customers")
        self.random.choice(customer.addresses)["phone"] = f"2{self.random.randrange(10**8):08d}"
        return self._address_changed(customer, "has a new phone at an address")

    def remove_address(self) -> str:
        """Remove an address of a customer."""
        customer = self._pick_where("customers", lambda customer: len(customer.addresses) > 1) or self._pick(
            "customers"
        )
        removed = customer.addresses.pop()
        return self._address_changed(customer, f"lost the address {removed['type']}")

    def _address_changed(self, customer: Thing, what: str) -> str:
        if not self.books.silent_addresses:
            self.books.touch(customer)
        return f"customer {customer.data['code']} {what}"

    def fix_suppliers_name(self) -> str:
        """Change the name of the list of suppliers from the documented `salesmen` to `suppliers`."""
        self.server.suppliers_under = "suppliers"
        supplier = self._pick("suppliers")
        self.books.touch(supplier, notes="Só por encomenda")
        return f"supplier {supplier.data['code']} has a note; their list has a new name"

    def change_tax(self) -> str:
        """Change an object of an unpaged list, which has no modification dates."""
        tax = self._pick("taxes")
        self.books.touch(tax, description=f"{tax.data['description'].split(' (')[0]} ({self.random.randrange(1000)})")
        return f"tax {tax.data['id']} has a new description"

    def delete_unit(self) -> str:
        """Delete an object of an unpaged list."""
        return f"unit {self.books.tables['units'].pop().data['id']} was deleted"

    # The server.

    def rotate(self) -> str:
        """Change the key, which invalidates all tokens."""
        self.server.rotate()
        return "the server changed its daily key; all tokens are invalid"

    def rotate_between_pages(self) -> str:
        """Invalidate all tokens between two pages of the next listing."""
        self.server.between_pages.append(lambda _resource: self.server.rotate())
        return "the key will change between two pages of a list"

    def restart(self) -> str:
        """Restart the server, which invalidates all tokens."""
        self.server.restart()
        order = self._new_order()
        return f"the server was restarted; new order {order.data['id']}"

    def move_between_pages(self) -> str:
        """Move an object to an earlier page between two pages of the next listing."""
        self.server.latest_first = True
        self.server.between_pages.append(self.books.save_the_last)
        return "an object will move between two pages of a list"
