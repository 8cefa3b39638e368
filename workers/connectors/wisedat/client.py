"""The Wisedat client. One request at a time, because the server often runs on an office PC.

Paged resources list summaries. A full sync or poll yields their keys, and `fetch` reads each detail.
Writes are in `writes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from models.values import Chunk, End, Line, ObjectRef, Snapshot, Tombstone, Withheld
from workers.connectors.contract import CheckResult
from workers.connectors.http import Http
from workers.connectors.wisedat import answers, auth, cursors, table
from workers.connectors.wisedat.writes import Writes
from workers.errors import MisaskedError, SetAside, TimedOutError, TooLargeError, VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.values import JsonObject, Shape, Unreadable
    from workers.connectors.contract import ClientRuntime, Resource
    from workers.connectors.http import Reply
    from workers.connectors.wisedat.options import Options

_CHUNK = 500

_STATUS = "status"
_ADDRESSES = "customeraddresses"

_WITHHOLDABLE = {"orders"}
"""Resources whose detail the server may refuse with 409 (Wisedat API 1.3, Orders)."""

_PAGE_PARAMETERS = ("id", "limit", "page", "modified_since", "query")
_PARTNER_PARAMETERS = (*_PAGE_PARAMETERS, "name", "code", "tax_id", "show_inactive")
_ORDER_FILTERS = ("closed", "customer", "salesman", "series", "date", "expiration_date", "your_reference")

PARAMETERS: dict[str, tuple[str, ...]] = {
    **{name: () if row.single else ("id",) for name, row in table.ROWS.items()},
    _STATUS: (),
    _ADDRESSES: ("customer", "type"),
    "products": (*_PAGE_PARAMETERS, "name", "description", "barcode", "show_inactive"),
    "categories": (*_PAGE_PARAMETERS, "name", "parent"),
    "customers": _PARTNER_PARAMETERS,
    "salesmen": _PARTNER_PARAMETERS,
    "suppliers": _PARTNER_PARAMETERS,
    "orders": (*_PAGE_PARAMETERS, *_ORDER_FILTERS),
}
"""What can be read, with the parameters that each accepts (Wisedat API 1.3, each section's Get)."""

_ASK_HINT = "give a resource and its parameters, for example: products query=rose limit=5, orders id=2024/7, or status"


class Client(Writes):
    """The client of one company; implements `workers.connectors.contract.Client` and `commands.CommandClient`.

    Scripts can use it without erpmirror: `Client(options, contract.standalone())`. Methods that make a request raise
    the classes of `workers.errors`.
    """

    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        self._options = options
        self._login = auth.Login(options, runtime)
        self._known_paths = {}
        self._http = Http(
            runtime,
            base_url=f"{options.url}/",
            timeout=options.timeout,
            route=options.route,
            headers={"Accept": "application/json"},
            auth=self._login,
        )

    def close(self) -> None:
        """Close the HTTP connection."""
        self._http.close()

    # For scripts: reads as in the vendor's document.

    def read(self, name: str, /, **parameters: Any) -> Any:
        """Make one GET request: `read("products", query="rose", limit=5)`, `read("taxes")`. Returns the decoded reply.

        - with `id`: the detail of one object; else a page `{"pagination", "<name>"}`, or a bare list
        - numbers are int or Decimal; images are `{"sha256", "size"}` unless the connection keeps them
        - `parameters`: text, numbers, bools, dates, aware datetimes (sent in UTC); None is left out

        Raises `answers.NotFoundError` for an unknown id, `answers.DetailWithheldError` for an order that the API cannot
        show, MisaskedError for a parameter that the document does not have.
        """
        return self._decoded(self._get(name, _query(name, parameters)))

    def read_all(self, name: str, /, **filters: Any) -> Iterator[JsonObject]:
        """Yield all objects that match the filters, one request per page: `read_all("orders", closed=False)`.

        Paged resources yield summaries. Inactive objects are included only with `show_inactive=True`.
        """
        row = table.ROWS.get(name)
        if row is None:
            raise MisaskedError(f"Wisedat has no {name} to list; it has {', '.join(table.NAMES)}")
        if not row.paged:
            yield from answers.parse_list(row, self.read(name, **filters))
            return
        page = pages = 1
        while page <= pages:
            reply = self.read(name, **({"limit": self._options.page_size} | filters | {"page": page}))
            found = answers.parse_page(row, reply)
            yield from found.rows
            page, pages = page + 1, found.pages

    def customer_addresses(self, customer: int | str, kind: str | None = None) -> list[JsonObject]:
        """A customer's addresses, perhaps none. `kind`: only those of one type, such as "Empresa" or "Entrega"."""
        try:
            return answers.parse_addresses(self._read_surely(_ADDRESSES, customer=customer, type=kind))
        except answers.NotFoundError:
            return []  # the document does not show this case; the customer exists, as `fetch` has just read it

    def status(self) -> JsonObject:
        """`{"State", "PublicKey"}`. State 0: offline, 1: online, others: not usable (Wisedat API 1.3, Status)."""
        return answers.require_object(self.read(_STATUS))

    # For the core: the contract's methods.

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone | Withheld:
        """Fetch the detail by id. A customer costs a second request, whose result is added as `addresses`."""
        return self.fetch_named(resource.name, key)

    def fetch_named(self, name: str, key: str) -> Snapshot | Tombstone | Withheld:
        """`fetch` of a resource by its name."""
        row = table.ROWS[name]
        try:
            found = self._read_surely(row.name, **({} if row.single else {"id": key}))
        except answers.DetailWithheldError:
            if row.name not in _WITHHOLDABLE:
                raise
            return Withheld(key, {"detail_unavailable": True})
        except answers.NotFoundError:
            return Tombstone(key)
        if row.single and answers.key_of(row, answers.require_object(found)) not in {None, key}:
            return Tombstone(key)  # this login now belongs to another company
        found = answers.parse_object(row, found, key)
        if row.name == "customers":
            found |= {"addresses": self.customer_addresses(key)}
        return Snapshot(key, found)

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """One page of summaries, one page of whole objects for resources without detail, or an unpaged list."""
        row = table.ROWS[resource.name]
        if row.paged:
            return self._page(resource, cursors.Position.decode(cursor, limit=self._options.page_size))
        return self._unpaged(resource, row)

    def shape(self, resource: Resource) -> Shape | None:  # noqa: ARG002 - the vendor has no metadata
        """None: the vendor's document declares the fields, see `resources.py`."""
        return None

    def check(self) -> CheckResult:
        """Log in and read the company."""
        reply = self._get("company", {})
        company = answers.require_object(self._decoded(reply))
        return CheckResult(f"logged in to Wisedat; company {company.get('name') or company.get('id')}", reply.date)

    def probe(self, resource: Resource) -> str:
        """Read one object of a paged resource, or the whole list of an unpaged one."""
        row = table.ROWS[resource.name]
        if not row.paged:
            return f"{len(answers.parse_list(row, self.read(row.name)))} {row.name}"
        found = answers.parse_page(row, self._decoded(self._get(row.name, cursors.Position(limit=1).params(row))))
        return f"{row.name} can be read" if found.items is None else f"{found.items} {row.name}"

    def ask(self, words: Sequence[str]) -> Any:
        """`products query=rose limit=5`, `orders id=2024/7`, `status`: a name and parameters of `PARAMETERS`."""
        name, *filters = words or [""]
        if name not in PARAMETERS or not all("=" in word for word in filters):
            raise MisaskedError(_ASK_HINT)
        return self.read(name, **dict(word.split("=", 1) for word in filters))

    def _read_surely(self, name: str, **parameters: Any) -> Any:
        """`read`, but a 404 that Wisedat may not have written counts only if it comes twice.

        In between a list is read, which proves that Wisedat itself answers: raises TryLater if it does not.
        """
        with suppress(answers.MaybeGoneError):
            return self.read(name, **parameters)
        listed = table.ROWS.get(name, table.ROWS["customers"])
        self.read(listed.name, **({"limit": 1} if listed.paged else {}))
        try:
            return self.read(name, **parameters)
        except answers.MaybeGoneError as error:
            raise answers.NotFoundError(str(error)) from None

    # Listings.

    def _page(self, resource: Resource, position: cursors.Position) -> Iterator[Chunk]:
        row, started = table.ROWS[resource.name], monotonic()
        try:
            reply = self._get(row.name, position.params(row))
        except (TimedOutError, TooLargeError) as error:
            # Raising would repeat the same page, so the run restarts with smaller pages.
            yield Chunk(end=End(_smaller(position, row, error).encode(), more=True))
            return
        position = position.with_clock(reply.date, age=timedelta(seconds=monotonic() - started))
        page = answers.parse_page(row, self._decoded(reply, listing=True))
        found, unreadable = answers.by_key(resource, page.rows)
        # From a clock that was ahead the cursor was, too: what changed since the poll before was not asked for.
        missed = self._options.every if position.is_ahead else timedelta()
        end = position.end_after(page, found, overlap=self._options.overlap + missed)
        if not row.detail:
            yield from _chunks(found, unreadable, end, _as_snapshots)
            return
        # Of a summary that cannot be read the detail may be readable.
        refs = tuple(ObjectRef(row.name, each.key) for each in unreadable if not each.raw)
        unreadable = [each for each in unreadable if each.raw]
        if refs:
            yield Chunk(refs=refs)
        changed, now = position.since is not None, reply.date or datetime.now(UTC)
        yield from _chunks(found, unreadable, end, partial(self._as_lines, resource, changed=changed, now=now))

    def _as_lines(self, resource: Resource, batch: _Batch, *, changed: bool, now: datetime) -> Chunk:
        """Lines for a batch of summaries.

        `changed`: it is a poll, so the vendor reports these as modified. They are fetched even if the summary is equal,
        because for example an order's items are only in its detail.
        """
        token = partial(cursors.token, selection=resource.selection, now=now, details_every=self._options.details_every)
        is_kept = resource.name in _WITHHOLDABLE
        return Chunk(
            lines=[
                Line(key, token(key, summary), changed=changed, summary=summary if is_kept else None)
                for key, summary in batch
            ]
        )

    def _unpaged(self, resource: Resource, row: table.Row) -> Iterator[Chunk]:
        reply = self._decoded(self._get(row.name, {}), listing=True)
        found, unreadable = answers.by_key(resource, answers.parse_list(row, reply))
        yield from _chunks(found, unreadable, End(cursors.UNPAGED, complete=True), _as_snapshots)

    # HTTP.

    def _get(self, name: str, query: dict[str, str]) -> Reply:
        headers = self._login.status_header() if name == _STATUS else None
        try:
            return self._http.read("GET", name, params=query, headers=headers)
        except VendorError as error:
            error.args = (self._login.redact(str(error)),)
            raise

    def _decoded(self, reply: Reply, *, listing: bool = False) -> Any:
        try:
            return answers.decode(reply, keep_images=self._options.keeps_images, listing=listing)
        except VendorError as error:
            error.args = (self._login.redact(str(error)),)
            raise


_Batch = Sequence[tuple[str, "JsonObject"]]


def _smaller(position: cursors.Position, row: table.Row, error: TimedOutError | TooLargeError) -> cursors.Position:
    """The run's position with smaller pages after a page that failed. Raises if the page cannot get smaller."""
    is_large = isinstance(error, TooLargeError)
    smaller = position.with_smaller_pages(minimum=1) if is_large else position.with_smaller_pages()
    if smaller is not None:
        return smaller
    if not is_large:
        raise error
    raise SetAside(
        f"{error} with a `page_size` of {position.limit}: make the images of the {row.name} smaller "
        "in Wisedat (`images` only decides what is stored of them), or remove the resource from `resources`"
    ) from None


def _as_snapshots(batch: _Batch) -> Chunk:
    return Chunk(snapshots=[Snapshot(key, raw) for key, raw in batch])


def _chunks(
    found: dict[str, JsonObject], unreadable: Sequence[Unreadable], end: End, to_chunk: Callable[[_Batch], Chunk]
) -> Iterator[Chunk]:
    """Split a reply into bounded chunks; the last one has the `end`."""
    objects = iter(found.items())
    while batch := list(islice(objects, _CHUNK)):
        yield to_chunk(batch)
    yield Chunk(unreadable=unreadable, end=end)


def _query(name: str, parameters: dict[str, Any]) -> dict[str, str]:
    """The query string's parameters. MisaskedError for a name that the vendor's document does not have."""
    if name not in PARAMETERS:
        raise MisaskedError(f"Wisedat has no {name} to read; it has {', '.join(PARAMETERS)}")
    unknown = sorted(parameters.keys() - set(PARAMETERS[name]))
    if unknown:
        accepted = ", ".join(PARAMETERS[name]) or "no parameters"
        raise MisaskedError(f"{name} accepts {accepted}, but not {', '.join(unknown)}")
    return {parameter: _parameter_text(value) for parameter, value in parameters.items() if value is not None}


def _parameter_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return cursors.utc_text(value)
    return value.isoformat() if isinstance(value, date) else str(value)
