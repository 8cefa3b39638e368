"""The Interpreter's client. It sends each PDF once and never repeats by itself one that may have arrived."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from models.values import Document, JsonObject, Snapshot
from workers.connectors import http
from workers.connectors.contract import CheckResult
from workers.connectors.interpreter import answers, auth, queries
from workers.errors import SetAside, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workers.connectors.contract import ClientRuntime, Resource
    from workers.connectors.interpreter.options import Options

_ACCEPTS_ORDER = "deliverynote"
_INTERPRETER_PATH = "/interpreter"
_MIN_FRAGMENT = 4


class Client:
    """The client of one store; implements `workers.connectors.contract.Client`, with `interpret` instead of `fetch`.

    `suppliers`, `supplier` and the following methods are for scripts. Every request raises the classes of
    `workers.errors`: TryLater if the server is unreachable or the rate limit is reached (200 a minute, Interpreter API,
    Basics), SetAside if the vendor refuses (900001: the login).
    """

    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        self._options = options
        self._secrets = [value for name, value in options.headers().items() if name in {"api_key", "user_token"}]
        self._http = http.Http(
            runtime,
            # The other resources are siblings of /interpreter, not below it.
            base_url=f"{options.url.removesuffix(_INTERPRETER_PATH)}/",
            timeout=options.timeout,
            route=options.route,
            # A kept-alive connection may be dead, and it would be unclear whether an upload lost on it arrived.
            headers={"Accept": "application/json", "Connection": "close"},
            auth=auth.Login(options.headers()),
        )

    def close(self) -> None:
        """Close the HTTP client."""
        self._http.close()

    def interpret(self, resource: Resource, document: Document) -> Snapshot:
        """POST the PDF. The snapshot's key is the document's sha256, its raw the whole answer (a PurchaseOrderDto).

        `document.order_id` is sent with delivery notes (Interpreter API, DeliveryNote: order_id, an existing purchase
        order). Raises:

        - TryLater with `refused`: no connection, HTTP 429 or errorCode 900429. Nothing was processed
        - TryLater without `refused`: 5xx, a proxy's page, a cut body, a timeout. It may have been processed
        - SetAside: the vendor refused it; the message is the vendor's
        """
        if document.order_id and resource.name != _ACCEPTS_ORDER:
            raise SetAside(
                f"only a {_ACCEPTS_ORDER} can have an order; this {resource.name} has order "
                f"{document.order_id}: hand it in without one"
            )
        try:
            with self._redacting():
                return Snapshot(document.sha256, answers.parse_interpretation(self._upload(resource.name, document)))
        except TryLater as error:
            error.closes_gate = True  # back off the account: each further unclear document would need a person
            raise

    def check(self) -> CheckResult:
        """Read one supplier, which proves address and login without using up a document."""
        reply = self._get(queries.listing("suppliers", {"limit": "1"}))[0]
        return CheckResult(f"logged in to Lagerkoll as store {self._options.store}", reply.date)

    def probe(self, resource: Resource) -> str:
        """Makes no request: a kind of document cannot be tested without a document."""
        return f"cannot be tested without a document: hand one in as {resource.name}"

    def ask(self, words: Sequence[str]) -> Any:
        """`suppliers since=0`, `suppliers/12`, `payment_terms`, `supplier_delivery_terms`, `purchase_orders/123`."""
        return self._get(queries.parse(words))[1]

    def suppliers(self, **params: str | int) -> JsonObject:
        """`{"pages": n, "suppliers": [...]}` (Lagerkoll API, SuppliersResource).

        `query`: text to search; `since` (0): changed after it, ms since 1970; `page` (from 0), `limit` (100), `order`
        (asc or desc), `sort_column` (name); `open_orders`, `article`. SetAside for any other name.
        """
        return self._list("suppliers", params)

    def supplier(self, number: int) -> JsonObject:
        """One supplier, in the same wrapper as a list of them (Lagerkoll API, SuppliersResource)."""
        return self._object(queries.single("suppliers", str(number)))

    def payment_terms(self, since: int = 0) -> JsonObject:
        """`{"paymentTerms": [...], "since": n}` (Lagerkoll API, PaymentTermsResource); n is the next `since`."""
        return self._list("payment_terms", {"since": since})

    def supplier_delivery_terms(self, since: int = 0) -> JsonObject:
        """A list and the next `since`, as with payment terms (Lagerkoll API, SupplierDeliveryTermsResource)."""
        return self._list("supplier_delivery_terms", {"since": since})

    def purchase_order(self, number: int) -> JsonObject:
        """One purchase order by its id, a PurchaseOrderDto (Lagerkoll API, PurchaseOrdersResource)."""
        return self._object(queries.single("purchase_orders", str(number)))

    def _upload(self, kind: str, document: Document) -> http.Reply:
        name = document.name.encode(errors="replace").decode()  # file names in a folder may not be UTF-8
        order = {"order_id": document.order_id} if document.order_id else {}
        file = (name, document.content, "application/pdf")
        return self._http.read("POST", f"{self._options.url}/{kind}", files={"file": file}, data=order)

    def _list(self, name: str, params: Mapping[str, str | int]) -> JsonObject:
        return self._object(queries.listing(name, {key: str(value) for key, value in params.items()}))

    def _object(self, query: queries.Query) -> JsonObject:
        answer = self._get(query)[1]
        if not isinstance(answer, dict):
            raise SetAside(f"{query.path} returned a list where an object is documented")
        return answer

    def _get(self, query: queries.Query) -> tuple[http.Reply, Any]:
        with self._redacting():
            reply = self._http.read("GET", query.path, params=dict(query.params))
            return reply, answers.parse_reply(reply)

    @contextmanager
    def _redacting(self) -> Iterator[None]:
        """Remove secrets from errors raised inside: messages quote replies, and a server may echo the request."""
        try:
            yield
        except VendorError as error:
            error.args = (self._redact(str(error)),)
            raise

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            # An excerpt of a reply is cut at a fixed length, so it may end within the secret; our text follows "; ".
            text = "; ".join(_without_fragment(part, secret) for part in text.replace(secret, "***").split("; "))
        return text


def _without_fragment(text: str, secret: str) -> str:
    """The text without a beginning of the secret at its end."""
    fragments = (secret[:length] for length in range(len(secret), _MIN_FRAGMENT - 1, -1))
    return text.removesuffix(next((fragment for fragment in fragments if text.endswith(fragment)), ""))
