"""Dilovod's writes as the client makes them: one request each, and the reads that find out what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from models.values import ObjectRef, Tombstone
from workers.connectors.commands import GONE, TOKEN_LENGTH, GoneType, Sent
from workers.connectors.dilovod import answers, command_values, commands, queries, table
from workers.connectors.dilovod.queries import Filter, Limit, Operator
from workers.connectors.dilovod.resources import ID, PAGE
from workers.errors import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Unpack

    from models.values import JsonObject, Snapshot
    from workers.connectors.commands import Action
    from workers.connectors.dilovod.packets import Packets

_LONGEST_LIST = 50
"""Values of an `IL` filter: public clients send no more."""

_MOST_LEVELS = 50
"""Levels of folders. A circle of folders ends without it; more are no real catalogue."""

_TOKEN_BEGIN = "EM"  # noqa: S105 - no secret: it is written into the object


class Reads(Protocol):
    """The client's reads that writes need."""

    def read(self, key: str) -> Snapshot | Tombstone:
        """One object as it is now."""

    def request(
        self,
        from_: str | Mapping[str, Any],
        fields: Mapping[str, str],
        *,
        assemble_links: bool = True,
        **options: Unpack[queries.RequestOptions],
    ) -> Sequence[JsonObject]:
        """Rows of a catalogue, a kind of document or a register's records."""

    def slice_last(
        self,
        register: str,
        fields: Mapping[str, str] | None = None,
        *,
        date: str | None = None,
        **options: Unpack[queries.RequestOptions],
    ) -> Iterator[Any]:
        """The newest values of an information register."""


# What is sent.


def request_of(action: str, arguments: JsonObject) -> tuple[str, JsonObject]:
    """Dilovod's action and its params, in the forms that its samples show."""
    return _REQUESTS[action](arguments)


def _save_object(arguments: JsonObject) -> tuple[str, JsonObject]:
    save_type = {"saveType": int(arguments["saveType"])} if "saveType" in arguments else {}
    header = _sent_fields(arguments["header"]) | {"id": commands.target(arguments)}
    parts = {part: [_sent_fields(row) for row in rows] for part, rows in arguments.get("tableParts", {}).items()}
    return "saveObject", save_type | {"header": header} | ({"tableParts": parts} if parts else {})


def _set_del_mark(arguments: JsonObject) -> tuple[str, JsonObject]:
    # The help names a parameter `id`, but its sample and public clients send a header.
    return "setDelMark", {"header": {"id": commands.target(arguments)}}


def _sale_order_create(arguments: JsonObject) -> tuple[str, JsonObject]:
    given: JsonObject = {
        "header": _sent_fields(arguments["header"]),
        "goods": [_sent_fields(row) for row in arguments["goods"]],
    }
    if "placement" in arguments:  # the help describes an object, and its sample shows a list of one
        placement = arguments["placement"]
        given["placement"] = placement[0] if isinstance(placement, list) else placement
    if "deliveryData" in arguments:
        given["deliveryData"] = arguments["deliveryData"]
    return "call", {"method": "saleOrderCreate", "arguments": given}


_REQUESTS: Mapping[str, Callable[[JsonObject], tuple[str, JsonObject]]] = {
    "saveObject": _save_object,
    "setDelMark": _set_del_mark,
    "saleOrderCreate": _sale_order_create,
}


def _sent_fields(fields: JsonObject) -> JsonObject:
    return {name: command_values.sent(value) for name, value in fields.items()}


class Writes:
    """`CommandClient` of one connection."""

    def __init__(self, packets: Packets, reads: Reads) -> None:
        self._packets = packets
        self._reads = reads

    def send(self, action: Action, arguments: JsonObject) -> Sent:
        """Make the one request that writes."""
        answer = self._packets.write(*request_of(action.name, arguments))
        return Sent(answer, _written(action, arguments, answers.written_id(answer)))

    def preview(self, action: Action, arguments: JsonObject) -> JsonObject:
        """The request that `send` would make, without the key."""
        return self._packets.preview(*request_of(action.name, arguments))

    def read_back(self, action: Action, arguments: JsonObject) -> JsonObject | GoneType:
        """The object that the command writes as it is now. ValueError for a creation: that is found, not read back."""
        if action.subject(arguments) is None:
            raise ValueError(f"{action.name} creates an object, whose id is not known")
        named = commands.target(arguments)
        if not ID.fullmatch(named):
            return self._record(action, arguments)
        found = self._reads.read(named)
        return GONE if isinstance(found, Tombstone) else found.raw

    def find(self, action: Action, arguments: JsonObject, path: tuple[str, ...]) -> Sequence[str]:
        """The keys of the objects whose unique field has what the arguments hold at `path`; marked ones among them."""
        kind, field = action.creates(arguments) or "", path[-1]
        value = arguments
        for name in path:
            value = value[name]
        text = command_values.written(value)
        token = text[-TOKEN_LENGTH:]
        by_token = table.unique_fields(kind)[field].appends and token.startswith(_TOKEN_BEGIN)
        sought, operator = (token, Operator.CONTAINS) if by_token else (text, Operator.EQUAL)
        # With a token: Dilovod may have changed blanks before it. What is found is looked at: filters may be loose.
        rows = self._all(kind, {"id": "id", field: field}, [Filter(field, operator, sought)])
        shown = ((answers.link_id(row.get("id")), command_values.written(row.get(field))) for row in rows)
        return [key for key, value in shown if key and (sought in value if by_token else sought == value.strip())]

    def also_changes(self, action: Action, arguments: JsonObject) -> Sequence[ObjectRef]:
        """What is in the folder that is marked, level by level; marked objects too, as it may be asked again."""
        folder = action.subject(arguments)
        if not action.may_change_others or folder is None or not folder.resource.startswith("catalogs."):
            return ()
        found = self._reads.read(folder.key)
        if isinstance(found, Tombstone) or not _is_folder(found.raw["header"]):
            return ()
        fields = {name: name for name in ("id", "parent", "isGroup") if name in found.raw["header"]}
        seen, level = {folder.key: None}, [folder.key]
        for _ in range(_MOST_LEVELS):
            rows = self._children(folder.resource, level, fields)
            new = {key: row for row in rows if (key := answers.link_id(row.get("id"))) and key not in seen}
            seen |= dict.fromkeys(new)
            level = [key for key, row in new.items() if _is_folder(row)]
            if not level:
                break
        return [ObjectRef(folder.resource, key) for key in seen if key != folder.key]

    def _children(self, catalogue: str, folders: Sequence[str], fields: Mapping[str, str]) -> Iterator[JsonObject]:
        for start in range(0, len(folders), _LONGEST_LIST):
            listed = list(folders[start : start + _LONGEST_LIST])
            yield from self._all(catalogue, fields, [Filter("parent", Operator.IN_LIST, listed)])

    def _all(self, kind: str, fields: Mapping[str, str], filters: Sequence[Filter]) -> Iterator[JsonObject]:
        """All rows, page by page: until one is short, or brings no new id."""
        seen: set[str] = set()
        offset = 0
        while True:
            limit = Limit(offset, PAGE)
            rows = self._reads.request(kind, fields, filters=filters, limit=limit, assemble_links=False)
            new = [row for row in rows if answers.link_id(row.get("id")) not in seen]
            seen |= {answers.link_id(row.get("id")) for row in new}
            yield from new
            if len(rows) < PAGE or not new:
                return
            offset += PAGE

    def _record(self, action: Action, arguments: JsonObject) -> JsonObject | GoneType:
        """The register's record that is as the command writes it, else another at its place; `GONE` if there is none.

        Its place is its date and what it links to. Without a date it is written as of now, so the newest values are
        asked for.
        """
        register = commands.target(arguments)
        sent = {name: value for name, value in arguments["header"].items() if name != "id"}
        fields = {name: name for name in sent}
        links = [
            Filter(name, Operator.EQUAL, command_values.link(value))
            for name, value in sent.items()
            if command_values.is_link(value)
        ]
        if "date" in sent:
            date = Filter("date", Operator.EQUAL, queries.to_timestamp(sent["date"]))
            rows = self._reads.request(register, fields, filters=[date, *links], limit=Limit(0, PAGE))
        else:
            rows = [row for row in self._reads.slice_last(register, fields, filters=links) if isinstance(row, dict)]
        records: list[JsonObject] = [{"header": row} for row in rows]
        if action.expected is None or action.shown is None or not records:
            return records[0] if records else GONE
        wanted = action.expected(arguments)
        return next((each for each in records if action.shown(arguments, each) == wanted), records[0])


def _written(action: Action, arguments: JsonObject, key: str) -> ObjectRef | None:
    """The object that was written. TryLater if the answer names another than the command does."""
    subject = action.subject(arguments)
    if subject is None:
        kind = action.creates(arguments) or ""
        known = table.prefix_of(kind)
        if key and known not in {"", table.prefix(key)}:
            raise TryLater(f"malformed: an id of {kind} was expected, not {key}", closes_gate=False)
        return ObjectRef(kind, key) if key else None
    if subject.key and key not in {"", subject.key}:
        raise TryLater(f"malformed: the answer names {key}, not {subject.key}", closes_gate=False)
    return subject


def _is_folder(header: JsonObject) -> bool:
    """Whether it may hold others: it is a folder, or its catalogue has no folders and each record may hold others."""
    return answers.is_marked(header["isGroup"]) if "isGroup" in header else "parent" in header
