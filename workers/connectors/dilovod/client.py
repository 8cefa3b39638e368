"""How Dilovod is asked: one address, one verb, one JSON packet a request, one request at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ijson

from models import exact
from models.values import Chunk, End, Snapshot, Tombstone, Unreadable
from workers.connectors.dilovod import answers, cursors, metadata, queries
from workers.connectors.dilovod.resources import ID, is_register
from workers.connectors.http import Http, words
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.values import JsonObject, Shape
    from workers.connectors.contract import Resource, Wire
    from workers.connectors.dilovod.options import Options
    from workers.connectors.http import Streamed

_OK = 200
_CHUNK = 500
_BLANKS = b" \t\r\n\xef\xbb\xbf"
"""JSON's blanks, and the byte order mark that a PHP file may begin with."""


class Client:
    """One connection's client. Every method is one request, and raises the families of `workers.errors`."""

    def __init__(self, options: Options, wire: Wire) -> None:
        self._options = options
        self._key = options.api_key.get_secret_value()
        self._http = Http(wire, base_url=options.url, timeout=options.timeout)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    # What the spine asks.

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:  # noqa: ARG002 - an id names its type
        """The object as it is now; a tombstone when it is marked as deleted, or the vendor knows no such id."""
        try:
            answer = self.get_object(key)
        except answers.Gone as gone:
            named = ID.findall(str(gone))
            if named and key not in named:
                raise  # it speaks of another object, and proves nothing about this one
            return Tombstone(key)
        header = answers.header(answer, key)
        if answers.marked(header.get("delMark")):
            return Tombstone(key)
        return Snapshot(key, answer, listed=cursors.token(header))

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """One step of a full reading: the metadata that it needs, then the register's rows or a page of names."""
        position = cursors.Position.read(cursor)
        if position is None:
            described = self.get_metadata(resource.name)
            yield Chunk(end=End(cursors.Position.first(resource.name, described).text(), more=True))
        elif is_register(resource.name):
            yield from self._register_rows(resource.name, position)
        else:
            yield self._page(resource.name, position)

    def shape(self, resource: Resource) -> Shape:
        """What `getMetadata` declares of it."""
        described = self.get_metadata(resource.name)
        return metadata.of_rows(described) if is_register(resource.name) else metadata.of_objects(described)

    def check(self) -> str:
        """Prove address and key."""
        listed = self.list_metadata()
        unknown = [name for name in self._options.resources if name not in listed]
        seen = f"the role sees {len(listed)} kinds of objects"
        return f"{seen}; not among them: {', '.join(unknown)}" if unknown else f"{seen}, the configured ones among them"

    def ask(self, words: Sequence[str]) -> Any:
        """`getObject ID`, `getMetadata NAME`, `listMetadata [LANG]`, `request JSON`; or JSON params for any of them."""
        action, params = _question(words)
        return self._ask(action, params)

    # What the vendor offers to read.

    def get_object(self, key: str) -> JsonObject:
        """Header, table parts and misc of one object. `answers.Gone` when there is none."""
        return answers.an_object(self._ask("getObject", {"id": key}))

    def request(
        self,
        from_: str | Mapping[str, Any],
        fields: Mapping[str, str],
        *,
        filters: Sequence[queries.Filter] = (),
        limit: queries.Limit | None = None,
        multilang: bool = False,
        assemble_links: bool = True,
    ) -> Sequence[JsonObject]:
        """Rows of a catalogue, a kind of document, a part of either (`documents.saleOrder.tpGoods`) or a register.

        `fields`: data path -> alias; a row is keyed by the aliases, and a link brings `<alias>__pr` too, unless
        `assemble_links` is False. `multilang`: a text in several languages comes as `<alias>__uk` and `<alias>__ru`.
        """
        asked = queries.params(
            from_, fields, filters=filters, limit=limit, multilang=multilang, assemble_links=assemble_links
        )
        return answers.rows(self._ask("request", asked))

    def balance(
        self,
        register: str,
        fields: Mapping[str, str],
        *,
        dimensions: Sequence[str] = (),
        date: str | None = None,
        filters: Sequence[queries.Filter] = (),
    ) -> Iterator[Any]:
        """What a register holds now, or at a moment of the vendor's wall clock, summed up by `dimensions`.

        Rows as they arrive, because a register may be too large to be held.
        """
        source = queries.register("balance", register, date=date, dimensions=dimensions)
        return self._streamed_rows(queries.params(source, fields, filters=filters))

    def slice_last(
        self,
        register: str,
        fields: Mapping[str, str],
        *,
        date: str | None = None,
        filters: Sequence[queries.Filter] = (),
    ) -> Iterator[Any]:
        """The newest values of an information register, as `balance` brings its rows."""
        source = queries.register("sliceLast", register, date=date)
        return self._streamed_rows(queries.params(source, fields, filters=filters))

    def list_metadata(self, lang: str = "uk") -> JsonObject:
        """Every kind of object by name: `{"id", "idPrefix", "presentation"}`."""
        return answers.an_object(self._ask("listMetadata", {"lang": lang}))

    def get_metadata(self, name: str, lang: str = "uk") -> JsonObject:
        """The fields of one kind of object (`reqs`), a register's `dimensions` and `resources`."""
        return answers.an_object(self._ask("getMetadata", {"objectName": name, "lang": lang}))

    # The sweep and the registers.

    def _page(self, name: str, position: cursors.Position) -> Chunk:
        asked = queries.params(
            name,
            {field: field for field in position.fields},
            limit=queries.Limit(position.offset, cursors.PAGE),
            assemble_links=False,
        )
        try:
            listed = answers.rows(self._ask("request", asked))
        except SetAside as refused:
            if not position.refused_version(refused):
                raise
            return position.without_version()
        return position.chunk(listed)

    def _register_rows(self, name: str, position: cursors.Position) -> Iterator[Chunk]:
        fields, dimensions = {field: field for field in position.fields}, position.dimensions
        is_sliced = name.startswith("informationRegisters.")
        rows = self.slice_last(name, fields) if is_sliced else self.balance(name, fields, dimensions=dimensions)
        snapshots: list[Snapshot] = []
        unreadable: list[Unreadable] = []
        for row in rows:
            found = _keyed(row, dimensions)
            (snapshots if isinstance(found, Snapshot) else unreadable).append(found)  # type: ignore[arg-type]
            if len(snapshots) + len(unreadable) == _CHUNK:
                yield Chunk(snapshots=snapshots, unreadable=unreadable)
                snapshots, unreadable = [], []
        yield Chunk(snapshots=snapshots, unreadable=unreadable, end=End(cursors.DONE, complete=True))

    def _streamed_rows(self, params: JsonObject) -> Iterator[Any]:
        with self._http.stream("POST", "", **self._packet("request", params)) as streamed:
            head = _head(streamed)
            if streamed.status != _OK or not head.endswith(b"["):
                answer = self._inspected(streamed.status, head + streamed.read())
                raise answers.malformed(answer, "a list of rows")
            try:
                yield from ijson.items(_Rejoined(b"[", streamed), "item")
            except ijson.JSONError as error:
                reason = str(error).partition("\n")[0]  # the other lines repeat what the answer holds
                raise TryLater(f"the answer is not JSON: {reason}", shuts_gate=False) from None

    # The packet.

    def _ask(self, action: str, params: JsonObject) -> Any:
        reply = self._http.read("POST", "", **self._packet(action, params))
        return self._inspected(reply.status, reply.body)

    def _packet(self, action: str, params: JsonObject) -> dict[str, Any]:
        packet: JsonObject = {"version": self._options.version, "key": self._key}
        if self._options.client_id is not None:
            packet["clientID"] = self._options.client_id
        packet |= {"action": action, "params": params}
        # Raw JSON and not the form field that the help shows first: `+`, `&` and the operator `%` need no escaping.
        return {"content": exact.dumps(packet).encode(), "headers": {"Content-Type": "application/json"}}

    def _inspected(self, status: int, body: bytes) -> Any:
        try:
            answer = exact.loads(body)
        except ValueError:
            said = f"HTTP {status}, and the answer is not JSON: {self._said(body)}"
            raise TryLater(said, shuts_gate=False) from None
        answers.inspect(answer, secret=self._key)
        if status != _OK:
            raise TryLater(f"HTTP {status}: {answers.described(answer)}")
        return answer

    def _said(self, body: bytes) -> str:
        """A page's words, but nothing of half an object: it may be what is never to be stored."""
        if body.lstrip(_BLANKS)[:1] in {b"{", b"["}:
            return "it breaks off or has a mistake"
        return words(body.replace(self._key.encode(), b"***"))


class _Rejoined:
    """A file of what was already read and what follows."""

    def __init__(self, head: bytes, rest: Streamed) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. ijson asks for none first, to learn what kind of file this is."""
        if size == 0 or not self._head:
            return self._rest.read(size)
        head, self._head = self._head, b""
        return head


def _head(streamed: Streamed) -> bytes:
    """The body up to its first character that says what kind of answer it is."""
    head = b""
    while (byte := streamed.read(1)) and byte in _BLANKS:
        head = b""
    return head + byte


def _keyed(row: Any, dimensions: Sequence[str]) -> Snapshot | Unreadable:
    """A register's row under its dimensions. An empty link is "0", so no value at all identifies nothing."""
    raw = row if isinstance(row, dict) else {"value": row}
    missing = [name for name in dimensions if not isinstance(raw.get(name), str | int)]
    if missing:
        return Unreadable(f"?{exact.fingerprint(raw)}", f"the row has no value of {', '.join(missing)}", raw)
    return Snapshot(":".join(str(raw[name]) for name in dimensions), raw)


_ARGUMENTS = {"getObject": "id", "getMetadata": "objectName", "listMetadata": "lang", "request": None}
"""The reading actions, and which parameter a bare word is; the writing ones are not for a mirror."""


def _question(words: Sequence[str]) -> tuple[str, JsonObject]:
    """The action and its params."""
    match words:
        case ["listMetadata"]:
            return "listMetadata", {"lang": "uk"}
        case [action, text] if action in _ARGUMENTS and text.lstrip().startswith("{"):
            return action, _json_params(text)
        case [action, text] if (name := _ARGUMENTS.get(action)) is not None:
            return action, {name: text}
    raise SetAside("ask getObject ID, getMetadata NAME, listMetadata [LANG] or request JSON; only reading is allowed")


def _json_params(text: str) -> JsonObject:
    try:
        params = exact.loads(text)
    except ValueError as error:
        raise SetAside(f"that is not JSON: {error}") from None
    return answers.an_object(params)
