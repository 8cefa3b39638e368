"""How Dilovod is asked: one address, one verb, one JSON packet a request, one request at a time."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from models import exact
from models.values import Chunk, End, Snapshot, Tombstone
from workers.connectors.contract import Greeting
from workers.connectors.dilovod import answers, cursors, metadata, queries
from workers.connectors.dilovod.queries import SelectionType
from workers.connectors.dilovod.resources import ID, is_register, is_slice
from workers.connectors.http import Http
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import Unpack

    from models.values import JsonObject, Shape
    from workers.connectors.contract import Resource, Wire
    from workers.connectors.dilovod.options import Options

_OK = 200
_ONE_ROW = queries.Limit(0, 1)
_T = TypeVar("_T")


class Client:
    """One connection's client; every method raises the families of `workers.errors`.

    Each is one request, but where a register's names are left to its metadata, which is asked first. Also for programs
    of one's own: `Client(options, contract.alone())`. Ids are texts of 16 digits. A moment is the vendor's wall clock,
    "2026-01-31 23:59:59", or a bare day. Values come as the vendor writes them: numbers as text, "0" for no link.
    """

    def __init__(self, options: Options, runtime: Wire) -> None:
        self._options = options
        self._key = options.api_key.get_secret_value()
        self._secrets = {self._key}  # and partners' keys, once they were sent
        self._metadata_cache = metadata.MetadataCache(runtime)
        self._http = Http(runtime, base_url=options.url, timeout=options.timeout, hidden=self._mask)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _mask(self, text: str) -> str:
        return answers.mask_secrets(text, self._secrets)

    # What the spine asks.

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:  # noqa: ARG002 - an id names its type
        """The object as it is now; a tombstone when it is marked as deleted, or the vendor knows no such id."""
        try:
            answer = self.get_object(key)
        except answers.GoneError as gone:
            ids = ID.findall(str(gone))
            if ids and key not in ids:
                raise  # it speaks of another object, and proves nothing about this one
            return Tombstone(key)
        header = answers.header(answer, key)
        if answers.is_marked(header.get("delMark")):
            return Tombstone(key)
        return Snapshot(key, answer, listed=cursors.token(header))

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """One step of a full reading: the register's rows or a page of names.

        What the metadata says of it is remembered for a day; where it is not, asking for it is a step of its own, and
        where the vendor refuses what followed from it, it is asked for again.
        """
        position = cursors.Position.decode(cursor)
        if position is not None:
            yield from self._read_step(resource, position)
        elif (cached := self._metadata_cache.get(resource.name)) is None:
            yield Chunk(end=End(self._first_position(resource, self._refresh_metadata(resource)).encode(), more=True))
        else:
            first = self._first_position(resource, cached)
            try:
                yield from self._read_step(resource, first)
            except SetAside:
                newer = self._first_position(resource, self._refresh_metadata(resource))
                if newer == first:
                    raise
                yield Chunk(end=End(newer.encode(), more=True))

    def _read_step(self, resource: Resource, position: cursors.Position) -> Iterator[Chunk]:
        if is_register(resource.name):
            rows = self._register_rows(resource.name, position)
            yield from cursors.register_chunks(rows, position.dimensions, summed=not is_slice(resource.name))
        else:
            yield self._page(resource.name, position)

    def _first_position(self, resource: Resource, declared: JsonObject) -> cursors.Position:
        return cursors.Position.first(resource.name, declared, self._chosen_dimensions(resource))

    def _refresh_metadata(self, resource: Resource) -> JsonObject:
        declared = self.get_metadata(resource.name)
        self._metadata_cache.put(resource.name, declared)
        return declared

    def shape(self, resource: Resource) -> Shape:
        """What `getMetadata` declares of it."""
        declared = self._refresh_metadata(resource)
        if is_register(resource.name):
            return metadata.register_shape(declared, self._chosen_dimensions(resource))
        return metadata.object_shape(declared)

    def check(self) -> Greeting:
        """Prove address and key; which of the configured resources the vendor does not know."""
        answer, clock = self._answer_and_clock("listMetadata", {"lang": "uk"})
        offered = answers.as_object(answer)
        unknown = [name for name in self._options.resources if name not in offered]
        summary = f"the role sees {len(offered)} kinds of objects"
        missing = f"; not among them: {', '.join(unknown)}" if unknown else ", the configured ones among them"
        return Greeting(f"{summary}{missing}", clock)

    def probe(self, resource: Resource) -> str:
        """Ask for one object; or for one row of a register, as it is mirrored, once its metadata has said how."""
        if not is_register(resource.name):
            found = self.request(resource.name, {"id": "id"}, limit=_ONE_ROW, assemble_links=False)
            return f"can be read, as {answers.link_id(found[0].get('id'))}" if found else "can be read; it is empty"
        first = self._first_position(resource, self.get_metadata(resource.name))
        result = f"can be read by {', '.join(first.dimensions)}"
        return result if list(self._register_rows(resource.name, first, limit=_ONE_ROW)) else f"{result}; it is empty"

    def ask(self, words: Sequence[str]) -> Any:
        """One reading question as `queries.question` spells it; the decoded answer, as the vendor gave it."""
        query = queries.parse_query(words)
        if query.register is None:
            return self._answer(query.action, query.params)
        try:
            spellings = self._field_spellings(query.register, query.params["from"])
        except SetAside as refused:
            if refused.whole_resource:
                raise
            raise SetAside(f"{refused}; {queries.FULL_NAME_HINT}") from None
        return metadata.try_spellings(spellings, lambda fields: self._answer(query.action, query.params | {"fields": fields}))

    # What the vendor offers to read.

    def get_object(self, key: str) -> JsonObject:
        """`{"header", "tableParts", "misc"}` of one object or one record of a register (Dilovod help, getObject).

        A link in the header is `{"id", "pr"}`, in a part's row `x` and `x__pr`; a part is an object by row id, or `[]`.
        `answers.Gone`, a SetAside, when there is none.
        """
        return answers.as_object(self._answer("getObject", {"id": key}))

    def request(
        self,
        from_: str | Mapping[str, Any],
        fields: Mapping[str, str],
        *,
        assemble_links: bool = True,
        **options: Unpack[queries.RequestOptions],
    ) -> Sequence[JsonObject]:
        """Rows of a catalogue, a kind of document, a part of either (`documents.saleOrder.tpGoods`) or a register.

        `fields`: data path -> alias; a row is keyed by the aliases, and a link brings `<alias>__pr` too, unless
        `assemble_links` is False. `multilang`: a text in several languages comes as `<alias>__uk` and `<alias>__ru`.
        A register's name asks for its records one by one. ValueError for a filter on what `fields` does not name.
        (Dilovod help, request)
        """
        return answers.rows(self._answer("request", queries.request_params(from_, fields, assemble_links=assemble_links, **options)))

    def balance(
        self,
        register: str,
        fields: Mapping[str, str] | None = None,
        *,
        dimensions: Sequence[str] = (),
        date: str | None = None,
        **options: Unpack[queries.RequestOptions],
    ) -> Iterator[Any]:
        """What a register holds now, or at a moment, summed over what `dimensions` leaves out (Dilovod help, balance).

        `register`: `goods` or `balanceRegisters.goods`, or an accumulation register by its full name. `fields`:
        dimensions, what they link to (`good.code`), resources (`qty`); without it all that the metadata names. Rows as
        they arrive, because a register may be too large to be held.
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
        """What came and went in a period, its last second included; else as `balance` (Dilovod help, turnover).

        Each resource is two: `qtyReciept` and `qtyExpence`, or `qtyReceipt` and `qtyExpense`. Without `fields` the
        metadata decides; where it is silent, the sample's spelling is tried first, then the other.
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
        """Of each resource `qtyStart`, `qtyReceipt`, `qtyExpense`, `qtyFinal`; else as `turnover`.

        (Dilovod help, balanceAndTurnover)
        """
        source = queries.register_source(SelectionType.BALANCE_AND_TURNOVER, register, period=(start, end), dimensions=dimensions)
        return self._read_register(register, source, fields, options)

    def slice_last(
        self,
        register: str,
        fields: Mapping[str, str] | None = None,
        *,
        date: str | None = None,
        **options: Unpack[queries.RequestOptions],
    ) -> Iterator[Any]:
        """The newest values of an information register, now or at a moment, as `balance` brings its rows.

        (Dilovod help, sliceLast)
        """
        return self._read_register(register, queries.register_source(SelectionType.SLICE_LAST, register, date=date), fields, options)

    def list_metadata(self, lang: str = "uk") -> JsonObject:
        """Every kind of object by name: `{"id", "idPrefix", "presentation"}` (Dilovod help, listMetadata)."""
        return answers.as_object(self._answer("listMetadata", {"lang": lang}))

    def get_metadata(self, name: str, lang: str = "uk") -> JsonObject:
        """The fields of a kind of object (`reqs`), a register's `dimensions` and `resources`, by its name or its id.

        (Dilovod help, getMetadata)
        """
        return answers.as_object(self._answer("getMetadata", queries.metadata_params(name, lang)))

    def get_statistic(
        self, date_from: str | None = None, date_to: str | None = None, *, partner_key: str | None = None
    ) -> Sequence[JsonObject]:
        """How often a partner's integrations asked, by day, method, client and kind of object.

        `{"date", "method", "clientID", "partnerIntegrationCode", "counter", "errorCounter", "apiVersion", "dbObject"}`.
        `partner_key`: of the partner's cabinet, given by Dilovod; secret. (Dilovod help, getStatistic)
        """
        return answers.rows(self._answer("getStatistic", queries.statistic_params(date_from, date_to, partner_key=partner_key)))

    # The sweep and the registers.

    def _page(self, name: str, position: cursors.Position) -> Chunk:
        params = queries.request_params(
            name,
            {field: field for field in position.fields},
            limit=queries.Limit(position.offset, cursors.PAGE),
            assemble_links=False,
        )
        try:
            rows = answers.rows(self._answer("request", params))
        except SetAside as refused:
            if not position.is_version_refusal(refused):
                raise
            return position.without_version()
        return position.chunk(rows)

    def _chosen_dimensions(self, resource: Resource) -> Sequence[str]:
        return self._options.dimensions.get(resource.name, ())

    def _register_rows(self, name: str, position: cursors.Position, **options: Unpack[queries.RequestOptions]) -> Iterator[Any]:
        fields = {field: field for field in position.fields}
        if is_slice(name):
            return self.slice_last(name, fields, **options)
        return self.balance(name, fields, dimensions=position.dimensions, **options)

    def _read_register(
        self, register: str, source: JsonObject, fields: Mapping[str, str] | None, options: queries.RequestOptions
    ) -> Iterator[Any]:
        spellings = [fields] if fields else self._field_spellings(queries.full_name(SelectionType(source["type"]), register), source)
        yield from metadata.try_spellings(spellings, lambda way: _start(self._stream_rows(queries.request_params(source, way, **options))))

    def _field_spellings(self, register: str, source: JsonObject) -> Sequence[Mapping[str, str]]:
        """The fields that the metadata names, in each spelling that the sums may have."""
        declared = self.get_metadata(register)
        kept = metadata.selected_dimensions(declared, source.get("dimensions", ()))
        return [{name: name for name in (*kept, *sums)} for sums in metadata.sum_fields(declared, SelectionType(source["type"]))]

    def _stream_rows(self, params: JsonObject) -> Iterator[Any]:
        with self._http.stream("POST", "", **self._request_body("request", params)) as streamed:
            head = answers.read_head(streamed)
            if streamed.status != _OK or not head.endswith(b"["):
                answer = self._decode(streamed.status, head + streamed.read())
                raise answers.malformed_error(answer, "a list of rows")
            yield from answers.iter_rows(streamed)

    # The packet.

    def _answer(self, action: str, params: JsonObject) -> Any:
        return self._answer_and_clock(action, params)[0]

    def _answer_and_clock(self, action: str, params: JsonObject) -> tuple[Any, datetime | None]:
        """The answer, and the vendor's clock."""
        self._secrets |= {str(params.get("partnerAPIkey", ""))}
        reply = self._http.read("POST", "", **self._request_body(action, params))
        return self._decode(reply.status, reply.body), reply.date

    def _request_body(self, action: str, params: JsonObject) -> dict[str, Any]:
        packet: JsonObject = {"version": self._options.version, "key": self._key}
        if self._options.client_id is not None:
            packet["clientID"] = self._options.client_id
        packet |= {"action": action, "params": params}
        if self._options.packet == "form":
            return {"data": {"packet": exact.dumps(packet)}}  # escaped, unlike in the help's sample
        return {"content": exact.dumps(packet).encode(), "headers": {"Content-Type": "application/json"}}

    def _decode(self, status: int, body: bytes) -> Any:
        try:
            answer = exact.loads(body)
        except ValueError:
            raise answers.not_json_error(status, body, self._secrets) from None
        answers.raise_for_error(answer, secrets=self._secrets)
        if status != _OK:
            raise TryLater(f"HTTP {status}: {answers.describe(answer)}")
        return answer


def _start(rows: Iterator[_T]) -> Iterator[_T]:
    """The rows, once the vendor's answer has turned out to hold some or none."""
    return chain(list(islice(rows, 1)), rows)
