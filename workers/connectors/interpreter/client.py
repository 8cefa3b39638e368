"""How the Interpreter is asked: a PDF is posted once, and what may have arrived is never sent again by itself."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from models.values import Document, JsonObject, Snapshot
from workers.connectors import http
from workers.connectors.contract import Greeting
from workers.connectors.interpreter import answers, auth, queries
from workers.errors import Fate, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workers.connectors.contract import Resource, Wire
    from workers.connectors.interpreter.options import Options

_TAKES_ORDER = "deliverynote"
_OURS = "/interpreter"
_SHORTEST_PIECE = 4


class Client:
    """One store. See `workers.connectors.contract.Client`; `suppliers` and the others are for programs of one's own.

    Every request raises the families of `workers.errors`: TryLater where nobody answers or too many ask (200 a
    minute, Interpreter API, Basics), SetAside for what the vendor refuses (900001: the login).
    """

    def __init__(self, options: Options, wire: Wire) -> None:
        self._options = options
        self._secrets = [value for name, value in options.headers().items() if name in {"api_key", "user_token"}]
        self._http = http.Http(
            wire,
            # The vendor's other resources lie beside the Interpreter, not below it.
            base_url=f"{options.url.removesuffix(_OURS)}/",
            timeout=options.timeout,
            # A connection that was kept may be dead already, and an upload lost on it would be in doubt.
            headers={"Accept": "application/json", "Connection": "close"},
            auth=auth.Login(options.headers()),
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def interpret(self, resource: Resource, document: Document) -> Snapshot:
        """POST the PDF; the snapshot's key is its sha256, its raw the vendor's whole answer (a PurchaseOrderDto).

        `document.order` goes along for delivery notes (Interpreter API, DeliveryNote: order_id, an existing purchase
        order). TryLater with `refused` where nobody answered the call, and for HTTP 429 or errorCode 900429; without it
        for all that is no answer of his (5xx, a stranger's page, half a body, silence): he may have interpreted it.
        SetAside for what he refuses, in his words.
        """
        if document.order and resource.name != _TAKES_ORDER:
            raise SetAside(
                f"only a {_TAKES_ORDER} belongs to an order; this {resource.name} was handed in with order "
                f"{document.order}: hand it in without"
            )
        try:
            with self._discreet():
                return Snapshot(document.sha256, answers.interpreted(self._upload(resource.name, document)))
        except TryLater as fate:
            fate.shuts_gate = True  # each document that follows into the same doubt is a person's work
            raise

    def check(self) -> Greeting:
        """Ask for one supplier: proves address and login. No document is spent on it."""
        reply = self._get(queries.listing("suppliers", {"limit": "1"}))[0]
        return Greeting(f"Lagerkoll knows store {self._options.store} and lets us in", reply.date)

    def probe(self, resource: Resource) -> str:
        """Nothing can be asked without a document, so this says only that."""
        return f"nothing can be asked without a document: hand one in as {resource.name} to see"

    def ask(self, words: Sequence[str]) -> Any:
        """`suppliers since=0`, `suppliers/12`, `payment_terms`, `supplier_delivery_terms`, `purchase_orders/123`."""
        return self._get(queries.read(words))[1]

    def suppliers(self, **params: str | int) -> JsonObject:
        """`{"pages": n, "suppliers": [...]}` (Lagerkoll API, SuppliersResource).

        `query`: words to look for; `since` (0): those that changed after it, ms since 1970; `page` (from 0), `limit`
        (100), `order` (asc or desc), `sort_column` (name); `open_orders`, `article`. SetAside for another name.
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
        name = document.name.encode(errors="replace").decode()  # a folder may hold names that are no UTF-8
        order = {"order_id": document.order} if document.order else {}
        file = (name, document.content, "application/pdf")
        return self._http.read("POST", f"{self._options.url}/{kind}", files={"file": file}, data=order)

    def _list(self, name: str, params: Mapping[str, str | int]) -> JsonObject:
        return self._object(queries.listing(name, {key: str(value) for key, value in params.items()}))

    def _object(self, query: queries.Query) -> JsonObject:
        answer = self._get(query)[1]
        if not isinstance(answer, dict):
            raise SetAside(f"{query.path} answers with a list where an object is documented")
        return answer

    def _get(self, query: queries.Query) -> tuple[http.Reply, Any]:
        with self._discreet():
            reply = self._http.read("GET", query.path, params=dict(query.params))
            return reply, answers.shown(reply)

    @contextmanager
    def _discreet(self) -> Iterator[None]:
        """Errors repeat what a stranger said, and strangers repeat what they were sent: not our secrets."""
        try:
            yield
        except Fate as fate:
            fate.args = (self._masked(str(fate)),)
            raise

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            # A stranger's words are cut after some length, which may be within the secret; ours follow after a "; ".
            text = "; ".join(_without_piece(said, secret) for said in text.replace(secret, "***").split("; "))
        return text


def _without_piece(said: str, secret: str) -> str:
    """The words without the beginning of the secret, if they end with it."""
    pieces = (secret[:length] for length in range(len(secret), _SHORTEST_PIECE - 1, -1))
    return said.removesuffix(next((piece for piece in pieces if said.endswith(piece)), ""))
