"""Dilovod's client: what is read and written of one account, never by two requests at a time."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from models.values import Batch, Chunk, End, Snapshot, Tombstone
from workers.connectors.contract import CheckResult, did_you_mean
from workers.connectors.dilovod import answers, batches, cursors, metadata, queries, table
from workers.connectors.dilovod.options import is_register
from workers.connectors.dilovod.packets import Packets
from workers.connectors.dilovod.queries import SelectionType
from workers.connectors.dilovod.resources import ID, PAGE, is_slice
from workers.connectors.dilovod.writes import Writes
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Unpack

    from models.values import JsonObject, ObjectRef, Shape
    from workers.connectors.commands import Action, GoneType, Sent
    from workers.connectors.contract import ClientRuntime, Resource
    from workers.connectors.dilovod.options import Options

_ONE_ROW = queries.Limit(0, 1)
_T = TypeVar("_T")


class Client:
    """One connection's client, also usable by other programs; every method raises the families of `workers.errors`.

    Each method sends one request; a register method without `fields` asks for the register's metadata first, and
    `fetch_many` sends a dozen or two. Ids are texts of 16 digits. A moment is Dilovod's wall clock, "2026-01-31
    23:59:59", or a day. Values are as sent: numbers as text, "0" for an empty link.
    """

    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        self._options = options
        self._now = runtime.now
        self._metadata_cache = metadata.MetadataCache(runtime)
        self._packets = Packets(options, runtime)
        self._writes = Writes(self._packets, self)

    def close(self) -> None:
        """Close the HTTP connection."""
        self._packets.close()

    # The contract.

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:
        """The object as it is now; a tombstone if it is marked as deleted or does not exist.

        An id names its kind: SetAside for one of another kind, as a person may give for a new object.
        """
        kind = table.kind_of(key)
        if kind and kind.casefold() != resource.name.casefold():
            raise SetAside(f"{key} is of {kind}, not of {resource.name}")
        return self.read(key)

    def read(self, key: str) -> Snapshot | Tombstone:
        """As `fetch`: an id alone names an object."""
        try:
            answer = self.get_object(key)
        except answers.GoneError as gone:
            ids = ID.findall(str(gone))
            if ids and key not in ids:
                raise  # another object is missing, which proves nothing about this one
            return Tombstone(key)
        header = answers.header(answer, key)
        if answers.is_marked(header.get("delMark")):
            return Tombstone(key)
        return Snapshot(key, answer, listed=cursors.token(header))

    def fetch_many(self, resource: Resource, keys: Sequence[str], plan: str | None) -> Batch:
        """Some of these objects by `request`, as far as it shows what `getObject` does (`batches`)."""
        reads = batches.Reads(
            fetch=lambda key: self.fetch(resource, key),
            rows=self._listed_rows,
            declared=lambda: metadata.summary(self._refresh_metadata(resource)),
        )
        declared = self._metadata_cache.get(resource.name) or reads.declared()
        return batches.read(reads, resource.name, keys, plan, declared)

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """One step of a listing: all rows of a register, or one page of ids; of a poll, those of recent documents.

        The first step needs the metadata. If it is not cached, the step only fetches it, so that each step is one
        request. If Dilovod refuses a request that cached metadata led to, the step fetches newer metadata instead.
        """
        position = cursors.Position.decode(cursor)
        since = cursors.since(resource, cursor, self._options, self._now)
        if position is not None:
            yield from self._read_step(resource, position)
        elif (cached := self._metadata_cache.get(resource.name)) is None:
            first = self._first_position(resource, self._refresh_metadata(resource), since)
            yield Chunk(end=End(first.encode(), more=True))
        else:
            first = self._first_position(resource, cached, since)
            try:
                yield from self._read_step(resource, first)
            except (SetAside, answers.UnknownError):
                newer = self._first_position(resource, self._refresh_metadata(resource), since)
                if newer == first:
                    raise
                yield Chunk(end=End(newer.encode(), more=True))

    def _read_step(self, resource: Resource, position: cursors.Position) -> Iterator[Chunk]:
        if is_register(resource.name):
            rows = self._register_rows(resource.name, position)
            yield from cursors.register_chunks(rows, resource, position.dimensions, summed=not is_slice(resource.name))
        else:
            yield self._page(resource.name, position)

    def _first_position(self, resource: Resource, declared: JsonObject, since: str = "") -> cursors.Position:
        return cursors.Position.first(resource, declared, self._chosen_dimensions(resource), since)

    def _refresh_metadata(self, resource: Resource) -> JsonObject:
        declared = self.get_metadata(resource.name)
        self._metadata_cache.put(resource.name, declared)
        return declared

    def shape(self, resource: Resource) -> Shape:
        """The fields that `getMetadata` declares for the resource."""
        declared = self._refresh_metadata(resource)
        if is_register(resource.name):
            return metadata.register_shape(declared, self._chosen_dimensions(resource))
        return metadata.object_shape(declared)

    def check(self) -> CheckResult:
        """Prove address and key, and name the configured resources that the key's role does not see."""
        answer, clock = self._packets.answer_and_clock("listMetadata", {"lang": "uk"})
        offered = answers.as_object(answer)
        unknown = [_with_guess(name, offered) for name in self._options.resources if name not in offered]
        summary = f"the role sees {len(offered)} kinds of objects"
        missing = f"; not among them: {', '.join(unknown)}" if unknown else ", the configured ones among them"
        return CheckResult(f"{summary}{missing}", clock)

    def probe(self, resource: Resource) -> str:
        """Read one object, or one row of a register by the fields in its metadata."""
        if not is_register(resource.name):
            found = self.request(resource.name, {"id": "id"}, limit=_ONE_ROW, assemble_links=False)
            return f"can be read, as {answers.link_id(found[0].get('id'))}" if found else "can be read; it is empty"
        first = self._first_position(resource, self.get_metadata(resource.name))
        result = f"can be read by {', '.join(first.dimensions)}"
        return result if list(self._register_rows(resource.name, first, limit=_ONE_ROW)) else f"{result}; it is empty"

    def ask(self, words: Sequence[str]) -> Any:
        """One read request in the syntax of `queries.parse_query`; the decoded answer as sent."""
        query = queries.parse_query(words)
        if query.register is None:
            return self._packets.answer(query.action, query.params)
        try:
            spellings = self._field_spellings(query.register, query.params["from"])
        except answers.UnknownError as refused:
            raise SetAside(f"{refused}; {queries.FULL_NAME_HINT}") from None
        return metadata.try_spellings(
            spellings, lambda fields: self._packets.answer(query.action, query.params | {"fields": fields})
        )

    # Writes, as `commands.CommandClient`.

    def send(self, action: Action, arguments: JsonObject) -> Sent:
        """Make the one request that writes."""
        return self._writes.send(action, arguments)

    def preview(self, action: Action, arguments: JsonObject) -> JsonObject:
        """The request that `send` would make, without the key."""
        return self._writes.preview(action, arguments)

    def read_back(self, action: Action, arguments: JsonObject) -> JsonObject | GoneType:
        """The object that the command writes as it is now; `GONE` if it does not exist or is marked as deleted."""
        return self._writes.read_back(action, arguments)

    def find(self, action: Action, arguments: JsonObject, path: tuple[str, ...]) -> Sequence[str]:
        """The ids of the objects whose unique field has what the arguments hold at `path`."""
        return self._writes.find(action, arguments, path)

    def also_changes(self, action: Action, arguments: JsonObject) -> Sequence[ObjectRef]:
        """What is in the folder that the command marks."""
        return self._writes.also_changes(action, arguments)

    # Dilovod's read actions.

    def get_object(self, key: str) -> JsonObject:
        """`{"header", "tableParts", "misc"}` of one object or one record of a register (Dilovod help, getObject).

        A link in the header is `{"id", "pr"}`, in a part's row `x` and `x__pr`; a part is an object by row id, or `[]`.
        `answers.GoneError`, a SetAside, if it does not exist.
        """
        return answers.as_object(self._packets.answer("getObject", {"id": key}))

    def request(
        self,
        from_: str | Mapping[str, Any],
        fields: Mapping[str, str],
        *,
        assemble_links: bool = True,
        **options: Unpack[queries.RequestOptions],
    ) -> Sequence[JsonObject]:
        """Rows of a catalogue, a kind of document, a part of either (`documents.saleOrder.tpGoods`) or a register.

        `fields`: data path -> alias; the aliases are a row's keys. Unless `assemble_links` is False, a link also has
        `<alias>__pr`. `multilang`: a text in several languages becomes `<alias>__uk` and `<alias>__ru`. For a register
        the rows are its single records. ValueError for a filter on an alias that `fields` does not have.
        (Dilovod help, request)
        """
        return answers.rows(
            self._packets.answer(
                "request", queries.request_params(from_, fields, assemble_links=assemble_links, **options)
            )
        )

    def balance(
        self,
        register: str,
        fields: Mapping[str, str] | None = None,
        *,
        dimensions: Sequence[str] = (),
        date: str | None = None,
        **options: Unpack[queries.RequestOptions],
    ) -> Iterator[Any]:
        """The balances of a register, now or at the moment `date`, summed over the dimensions left out.

        `register`: `goods` or `balanceRegisters.goods`; an accumulation register by its full name. `fields`: data path
        -> alias, of dimensions, linked objects (`good.code`) and resources (`qty`); None: all in the metadata. Yields
        rows as they arrive, because a register may not fit in memory; a row that cannot be read is a
        `streaming.UnreadableRecord`. (Dilovod help, balance)
        """
        source = queries.register_source(SelectionType.BALANCE, register, date=date, dimensions=dimensions)
        return self._read_register(register, source, fields, options)

    def turnover(
        self,
        register: str,
        start: str,
        end: str,
        fields: Mapping[str, str] | None = None,
        *,
        dimensions: Sequence[str] = (),
        **options: Unpack[queries.RequestOptions],
    ) -> Iterator[Any]:
        """Receipts and expenses in a period, its last second included; otherwise as `balance`.

        Each resource has two fields: `qtyReciept` and `qtyExpence`, or `qtyReceipt` and `qtyExpense`. Without `fields`
        the metadata decides; if it lists neither, the sample's spelling is tried first, then the other.
        (Dilovod help, turnover)
        """
        source = queries.register_source(SelectionType.TURNOVER, register, period=(start, end), dimensions=dimensions)
        return self._read_register(register, source, fields, options)

    def balance_and_turnover(
        self,
        register: str,
        start: str,
        end: str,
        fields: Mapping[str, str] | None = None,
        *,
        dimensions: Sequence[str] = (),
        **options: Unpack[queries.RequestOptions],
    ) -> Iterator[Any]:
        """For each resource `qtyStart`, `qtyReceipt`, `qtyExpense`, `qtyFinal`; otherwise as `turnover`.

        (Dilovod help, balanceAndTurnover)
        """
        source = queries.register_source(
            SelectionType.BALANCE_AND_TURNOVER, register, period=(start, end), dimensions=dimensions
        )
        return self._read_register(register, source, fields, options)

    def slice_last(
        self,
        register: str,
        fields: Mapping[str, str] | None = None,
        *,
        date: str | None = None,
        **options: Unpack[queries.RequestOptions],
    ) -> Iterator[Any]:
        """The newest values of an information register, now or at the moment `date`; rows as in `balance`.

        (Dilovod help, sliceLast)
        """
        return self._read_register(
            register, queries.register_source(SelectionType.SLICE_LAST, register, date=date), fields, options
        )

    def list_metadata(self, lang: str = "uk") -> JsonObject:
        """Every kind of object by name: `{"id", "idPrefix", "presentation"}` (Dilovod help, listMetadata)."""
        return answers.as_object(self._packets.answer("listMetadata", {"lang": lang}))

    def get_metadata(self, name: str, lang: str = "uk") -> JsonObject:
        """The fields of a kind of object (`reqs`), a register's `dimensions` and `resources`, by its name or its id.

        (Dilovod help, getMetadata)
        """
        declared = answers.as_object(self._packets.answer("getMetadata", queries.metadata_params(name, lang)))
        if not declared:
            raise answers.malformed_error(declared, "an object with fields")
        return declared

    def get_statistic(
        self, date_from: str | None = None, date_to: str | None = None, *, partner_key: str | None = None
    ) -> Sequence[JsonObject]:
        """The number of a partner's requests by day, method, client and kind of object.

        `{"date", "method", "clientID", "partnerIntegrationCode", "counter", "errorCounter", "apiVersion", "dbObject"}`.
        `partner_key`: from the partner's account page; secret. (Dilovod help, getStatistic)
        """
        return answers.rows(
            self._packets.answer("getStatistic", queries.statistic_params(date_from, date_to, partner_key=partner_key))
        )

    # Pages of ids, and rows of registers.

    def _page(self, name: str, position: cursors.Position) -> Chunk:
        params = queries.request_params(
            name,
            {field: field for field in position.fields},
            filters=position.filters,
            limit=queries.Limit(position.offset, PAGE),
            assemble_links=False,
        )
        try:
            rows = self._listed_rows(params)
        except (SetAside, answers.UnknownError) as refused:
            if not position.is_version_refusal(refused):
                raise
            return position.without_version(refused=True)
        return position.chunk(rows)

    def _listed_rows(self, params: JsonObject) -> Sequence[Any]:
        """The rows of a `request`, of which one that cannot be read is a `streaming.UnreadableRecord`."""
        return answers.rows(self._packets.answer("request", params, listing=True))

    def _chosen_dimensions(self, resource: Resource) -> Sequence[str]:
        return self._options.dimensions.get(resource.name, ())

    def _register_rows(
        self, name: str, position: cursors.Position, **options: Unpack[queries.RequestOptions]
    ) -> Iterator[Any]:
        fields = {field: field for field in position.fields}
        if is_slice(name):
            return self.slice_last(name, fields, **options)
        return self.balance(name, fields, dimensions=position.dimensions, **options)

    def _read_register(
        self, register: str, source: JsonObject, fields: Mapping[str, str] | None, options: queries.RequestOptions
    ) -> Iterator[Any]:
        selection = SelectionType(source["type"])
        spellings = [fields] if fields else self._field_spellings(queries.full_name(selection, register), source)
        yield from metadata.try_spellings(
            spellings,
            lambda spelling: _with_first_read(self._stream_rows(queries.request_params(source, spelling, **options))),
        )

    def _field_spellings(self, register: str, source: JsonObject) -> Sequence[Mapping[str, str]]:
        """The fields in the metadata: one mapping for each spelling that the sums may have."""
        declared = self.get_metadata(register)
        kept = metadata.selected_dimensions(declared, source.get("dimensions", ()))
        return [
            {name: name for name in (*kept, *sums)}
            for sums in metadata.sum_fields(declared, SelectionType(source["type"]))
        ]

    def _stream_rows(self, params: JsonObject) -> Iterator[Any]:
        with self._packets.rows(params) as body:
            yield from answers.iter_rows(body)


def _with_first_read(rows: Iterator[_T]) -> Iterator[_T]:
    """The same rows, the first already read: an error of the request is raised here and not while iterating."""
    return chain(list(islice(rows, 1)), rows)


def _with_guess(name: str, offered: Iterable[str]) -> str:
    """The name, with one of its family that is spelt alike: all names of a family begin alike."""
    family, _, own = name.partition(".")
    alike = did_you_mean(own, [each.partition(".")[2] for each in offered if each.startswith(f"{family}.")])
    guess = alike.removeprefix("; ").replace('"', f'"{family}.', 1)
    return f"{name} ({guess})" if guess else name
