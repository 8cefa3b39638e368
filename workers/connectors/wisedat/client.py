"""How Wisedat is asked: GET only, one request at a time, since the server is a desktop's neighbour at the customer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from models.values import Chunk, End, Line, Snapshot, Tombstone, Withheld
from workers.connectors.contract import Greeting
from workers.connectors.http import Http
from workers.connectors.wisedat import answers, auth, cursors, table
from workers.errors import Fate, SetAside, TimedOut, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.values import JsonObject, Shape, Unreadable
    from workers.connectors.contract import Resource, Wire
    from workers.connectors.http import Reply
    from workers.connectors.wisedat.options import Options

_CHUNK = 500

_HOPELESS = 20
"""So many rows of which none can be read are no bad luck: the resource is set aside, not its rows one by one."""

_STATUS = "status"
_ADDRESSES = "customeraddresses"

_WITHHELD = {"orders"}
"""Whose detail the server may refuse with 409 (Wisedat API 1.3, Orders)."""

_PAGES = ("id", "limit", "page", "modified_since", "query")
_PEOPLE = (*_PAGES, "name", "code", "tax_id", "show_inactive")
_ORDERS = ("closed", "customer", "salesman", "series", "date", "expiration_date", "your_reference")

PARAMETERS: dict[str, tuple[str, ...]] = {
    **{name: () if row.single else ("id",) for name, row in table.ROWS.items()},
    _STATUS: (),
    _ADDRESSES: ("customer", "type"),
    "products": (*_PAGES, "name", "description", "barcode", "show_inactive"),
    "categories": (*_PAGES, "name", "parent"),
    "customers": _PEOPLE,
    "salesmen": _PEOPLE,
    "suppliers": _PEOPLE,
    "orders": (*_PAGES, *_ORDERS),
}
"""What can be read, and by which parameters (Wisedat API 1.3, each section's Get)."""

_EXAMPLE = "ask for a resource and its parameters, as in: products query=rose limit=5, orders id=2024/7, or status"


class Client:
    """One company's client. See `workers.connectors.contract.Client`; on its own: `Client(options, contract.alone())`.

    Every method raises the families of `workers.errors`.
    """

    def __init__(self, options: Options, wire: Wire) -> None:
        self._options = options
        self._login = auth.Login(options, wire)
        self._http = Http(
            wire,
            base_url=f"{options.url}/",
            timeout=options.timeout,
            headers={"Accept": "application/json"},
            auth=self._login,
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    # What the vendor offers to read.

    def read(self, name: str, /, **parameters: Any) -> Any:
        """One GET, as Wisedat's document names it: `read("products", query="rose", limit=5)`, `read("taxes")`.

        With `id` the detail of one object, else a page `{"pagination", "<name>"}` or a bare list. Numbers are `int` or
        `Decimal`, images `{"sha256", "size"}` unless the connection keeps them. `parameters`: text, numbers, bools,
        dates, aware datetimes (sent in UTC); None is left out. `answers.Gone` for an unknown id,
        `answers.Withholding` for an order that the API cannot show.
        """
        return self._decoded(self._get(name, _query(name, parameters)))

    def every(self, name: str, /, **filters: Any) -> Iterator[JsonObject]:
        """All objects that pass the filters, page by page, one request each: `every("orders", closed=False)`.

        Paged resources bring summaries; inactive objects come only with `show_inactive=True`.
        """
        row = table.ROWS.get(name)
        if row is None:
            raise SetAside(f"Wisedat has no {name} to list; it has {', '.join(table.NAMES)}")
        if not row.paged:
            yield from answers.whole(row, self.read(name, **filters))
            return
        page = pages = 1
        while page <= pages:
            reply = self.read(name, **({"limit": self._options.page_size} | filters | {"page": page}))
            found = answers.page(row, reply)
            yield from found.rows
            page, pages = page + 1, found.pages

    def customer_addresses(self, customer: int | str, kind: str | None = None) -> list[JsonObject]:
        """A customer's addresses; `kind`: those of one type, as "Empresa" or "Entrega". Empty where there are none."""
        try:
            return answers.addresses(self.read(_ADDRESSES, customer=customer, type=kind))
        except answers.Gone as gone:
            if not gone.certain:
                self.read("customers", limit=1)  # a web server's own page: is there anybody behind it?
            return []  # the document shows no answer; whoever fetches has just found the customer himself

    def status(self) -> JsonObject:
        """`{"State", "PublicKey"}`: whether the company's server is online (0 offline, 1 online, else a refusal)."""
        return answers.an_object(self.read(_STATUS))

    # What the spine asks.

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone | Withheld:
        """The detail by id; a customer's comes with `addresses`, which only a second request shows."""
        row = table.ROWS[resource.name]
        try:
            found = self.read(row.name, **({} if row.single else {"id": key}))
        except answers.Withholding:
            if row.name not in _WITHHELD:
                raise
            return Withheld(key, {"detail_unavailable": True})
        except answers.Gone as gone:
            if not gone.certain:
                self.probe(resource)  # is it the object that is not there, or the whole address?
            return Tombstone(key)
        if row.single and answers.key_of(row, answers.an_object(found)) not in {None, key}:
            return Tombstone(key)  # this login's company is another one
        found = answers.one(row, found, key)
        if row.name == "customers":
            found |= {"addresses": self.customer_addresses(key)}
        return Snapshot(key, found)

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """A page of summaries, of whole objects where the vendor has no more to show, or everything at once."""
        row = table.ROWS[resource.name]
        if row.paged:
            return self._page(resource, cursors.Position.read(cursor, limit=self._options.page_size))
        return self._whole(row)

    def shape(self, resource: Resource) -> Shape | None:  # noqa: ARG002 - the vendor has no metadata
        """None: the document fixes the fields."""
        return None

    def check(self) -> Greeting:
        """Log in and ask which company this is."""
        reply = self._get("company", {})
        company = answers.an_object(self._decoded(reply))
        return Greeting(f"Wisedat lets this user in; company {company.get('name') or company.get('id')}", reply.date)

    def probe(self, resource: Resource) -> str:
        """The first object of a paged resource, all of another."""
        row = table.ROWS[resource.name]
        if not row.paged:
            return f"{len(answers.whole(row, self.read(row.name)))} {row.name}"
        found = answers.page(row, self._decoded(self._get(row.name, cursors.Position(limit=1).params(row))))
        return f"{row.name} can be read" if found.items is None else f"{found.items} {row.name}"

    def ask(self, words: Sequence[str]) -> Any:
        """`products query=rose limit=5`, `orders id=2024/7`, `status`: what can be read, as the vendor writes it."""
        name, *filters = words or [""]
        if name not in PARAMETERS or not all("=" in word for word in filters):
            raise SetAside(_EXAMPLE)
        return self.read(name, **dict(word.split("=", 1) for word in filters))

    # Listings.

    def _page(self, resource: Resource, position: cursors.Position) -> Iterator[Chunk]:
        row, started = table.ROWS[resource.name], monotonic()
        try:
            reply = self._get(row.name, position.params(row))
        except (TimedOut, TooLarge) as fate:
            # The error would lose the run's place, so the run itself goes on with smaller questions.
            yield Chunk(end=End(_smaller(position, row, fate).text(), more=True))
            return
        position = position.told(reply.date, age=timedelta(seconds=monotonic() - started))
        page = answers.page(row, self._decoded(reply))
        found, unreadable = answers.keyed(row, page.rows)
        end = position.after(page, found, overlap=self._options.overlap)
        if not row.detail:
            yield from _chunks(found, unreadable, end, _as_snapshots)
            return
        changed, now = position.since is not None, reply.date or datetime.now(UTC)
        yield from _chunks(found, unreadable, end, partial(self._as_lines, resource, changed=changed, now=now))

    def _as_lines(self, resource: Resource, batch: _Batch, *, changed: bool, now: datetime) -> Chunk:
        """Summaries. `changed`: in a tick the vendor says so, and an order's lines are in its detail only."""
        token = partial(cursors.token, selection=resource.selection, now=now, details_every=self._options.details_every)
        is_kept = resource.name in _WITHHELD
        return Chunk(
            lines=[
                Line(key, token(key, summary), changed=changed, summary=summary if is_kept else None)
                for key, summary in batch
            ]
        )

    def _whole(self, row: table.Row) -> Iterator[Chunk]:
        found, unreadable = answers.keyed(row, answers.whole(row, self.read(row.name)))
        # Who a row without a key is cannot be told, so nobody is missing for certain.
        yield from _chunks(found, unreadable, End(cursors.WHOLE, complete=not unreadable), _as_snapshots)

    # The wire.

    def _get(self, name: str, query: dict[str, str]) -> Reply:
        headers = self._login.status_header() if name == _STATUS else None
        try:
            return self._http.read("GET", name, params=query, headers=headers)
        except Fate as fate:
            fate.args = (self._login.hidden(str(fate)),)
            raise

    def _decoded(self, reply: Reply) -> Any:
        try:
            return answers.decoded(reply, images=self._options.images == "keep")
        except Fate as fate:
            fate.args = (self._login.hidden(str(fate)),)
            raise


_Batch = Sequence[tuple[str, "JsonObject"]]


def _smaller(position: cursors.Position, row: table.Row, fate: TimedOut | TooLarge) -> cursors.Position:
    """Where the run goes on after a page that was too much. Raises the fate of a page that gets no smaller."""
    is_large = isinstance(fate, TooLarge)
    smaller = position.smaller(smallest=1) if is_large else position.smaller()
    if smaller is not None:
        return smaller
    if not is_large:
        raise fate
    raise SetAside(
        f"{fate} with a `page_size` of {position.limit}: make the images of the {row.name} smaller "
        "in Wisedat, for `images` only says what is kept of them, or leave the resource out of `resources`"
    ) from None


def _as_snapshots(batch: _Batch) -> Chunk:
    return Chunk(snapshots=[Snapshot(key, raw) for key, raw in batch])


def _chunks(
    found: dict[str, JsonObject], unreadable: Sequence[Unreadable], end: End, made: Callable[[_Batch], Chunk]
) -> Iterator[Chunk]:
    """A reply in bounded chunks."""
    if not found and len(unreadable) >= _HOPELESS:
        raise SetAside(unreadable[0].reason, whole_resource=True)
    objects = iter(found.items())
    while batch := list(islice(objects, _CHUNK)):
        yield made(batch)
    yield Chunk(unreadable=unreadable, end=end)


def _query(name: str, parameters: dict[str, Any]) -> dict[str, str]:
    """The parameters as the vendor writes them. SetAside for one that the document does not have."""
    if name not in PARAMETERS:
        raise SetAside(f"Wisedat has no {name} to read; it has {', '.join(PARAMETERS)}")
    unknown = sorted(parameters.keys() - set(PARAMETERS[name]))
    if unknown:
        takes = ", ".join(PARAMETERS[name]) or "no parameters"
        raise SetAside(f"{name} takes {takes}, but not {', '.join(unknown)}")
    return {parameter: _sent(value) for parameter, value in parameters.items() if value is not None}


def _sent(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return cursors.sent(value)
    return value.isoformat() if isinstance(value, date) else str(value)
