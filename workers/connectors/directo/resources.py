"""The resources of a Directo account, the keys of their objects, and the objects that rows of `/deleted` name.

Each company manages its own fields in Directo, so every field but the key is optional, and the kinds below are hints
that apply when a field first appears.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models.values import Chunk, JsonObject, Kind, ObjectRef, Shape
from workers.connectors import objects, record_states, streaming
from workers.connectors.contract import ROW, Resource
from workers.connectors.directo import queries, table, wall_clock
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from workers.connectors.directo.options import Options
    from workers.connectors.record_states import Record


def _kinds(kind: Kind, fields: str) -> dict[str, Kind]:
    return dict.fromkeys(fields.split(), kind)


# Codes are text even where they look like numbers: the same field arrives as 0 and as "0".
_FIELDS = (
    _kinds(
        Kind.TEXT,
        "code name description class class_name type level hierarchy object objects project supplier "
        "suppliername customer customercode customername customer_code customer_name item item_code warehouse "
        "location serial_number batch_number barcode unit country county region city contact phone email "
        "regno vatregno vatcode vatzone vatregion currency payterm paymentterm payment_terms priceformula "
        "salesman manager reference comment status supplierinvoiceno correspondancecode loyaltycard address1 "
        "address2 address3 deliveryaddress1 deliveryaddress2 deliveryaddress3 url master cu resource "
        "resource_type",
    )
    | _kinds(
        Kind.NUMBER,
        "number price cost salesprice vatprice vatprice1 vatprice2 vatprice3 vatprice4 specialprice1 "
        "specialprice2 specialprice3 specialprice4 specialprice5 specialprice6 specialprice7 specialprice8 "
        "weight grossweight volume height width depth package1 package2 quantity reserved_quantity "
        "available_quantity currencyrate netamount vat sum balance totalamount creditlimit discount points "
        "closed confirmed",
    )
    | _kinds(
        Kind.TIMESTAMP,
        "ts tscreated ts_created createdts date duedate transactiondate transactiontime delivery_date start "
        "end deleted_at",
    )
)
_LINES = (
    _kinds(
        Kind.TEXT,
        "account object project supplier customer customername item description vatcode currency warehouse "
        "unit invoice order regno",
    )
    | _kinds(
        Kind.NUMBER,
        "rn debitamount creditamount quantity price discount sum vat currencycredit currencydebit "
        "currencyrate received invoicesum",
    )
    | _kinds(Kind.TIMESTAMP, "date")
)

NUMBERS = frozenset(
    [name for name, kind in _FIELDS.items() if kind is Kind.NUMBER]
    + [f"{table.ROW}{name}" for name, kind in _LINES.items() if kind is Kind.NUMBER]
)
"""Number fields by their names in filters, `row_` included; XML sends their values as text."""

_HINTS: Shape = {"": _FIELDS, "rows": _LINES, "datafields": _kinds(Kind.TEXT, "code param content")}


def resources(options: Options) -> tuple[Resource, ...]:
    """The configured resources, and always `deleted`, which lists deletions in all of them."""
    return tuple(_resource(table.ROWS[name], options) for name in dict.fromkeys((*options.resources, table.DELETED)))


def catalogue(options: Options) -> dict[str, Resource]:
    """Every resource that Directo offers, configured or not, by name."""
    return {row.name: _resource(row, options) for row in table.TABLE}


def _resource(row: table.Row, options: Options) -> Resource:
    # A deletion that /deleted does not list is found by the next full sync, hence the bound. A poll brings the row
    # that replaced another, but not that the other is gone, so there are none where a row's key is its hash.
    key = options.keys.get(row.name, row.key)
    by_row = key == ROW
    fields = row.key if isinstance(key, str) else key
    whole = row.computed or by_row
    fetchable = row.name != table.DELETED and not by_row
    full_every = options.every if whole else options.full_every
    return Resource(
        name=row.name,
        key=fields,
        optional_key=fields[1:] if row.name in options.keys else row.optional,
        keyed_by_row=by_row,
        every=None if whole else options.every,
        full_every=full_every,
        bound=full_every,
        fetchable=fetchable,
        can_fetch_key=partial(_can_ask_for, fields) if fetchable else None,
        unpaged=whole,
        register=whole,
        selection=_selection(row.name, options),
        hints=_HINTS,
    )


def _selection(name: str, options: Options) -> str:
    """The filter, and the key if it is set: with another key all objects are read anew."""
    chosen = options.selection(name).text
    return " ".join(filter(None, [chosen, f"keys={options.keys[name]}" if name in options.keys else ""]))


def _can_ask_for(fields: tuple[str, ...], key: str) -> bool:
    """Whether a filter on the key's fields finds this object and no other. Not if the key predates other `keys`."""
    values = objects.split_values(fields, key)
    return values is not None and all(map(queries.finds_exactly, values))


def split(resource: Resource, key: str) -> list[str]:
    """The values of the key's fields. SetAside if their number differs: the key predates a change of `keys`."""
    parts = objects.split_key(resource, key)
    if parts is None:
        raise SetAside(
            f"{key!r} is not a key of {resource.name}, which needs {' and '.join(resource.key)}. If the setting `keys` "
            f"was changed, `erpmirror forget` this resource: the next full sync stores it under its new keys"
        )
    return parts


@dataclass(frozen=True, slots=True)
class Deletion:
    """The object that a row of `/deleted` names. `deleted_at`: its time as sent, "" if it has none."""

    ref: ObjectRef
    deleted_at: str


_RESOURCE_FIELDS = ("resource", "resource_type", "resourcetype", "table", "tablename", "type")
_KEY_FIELDS = ("key", "code", "number", "id")
_TIME_FIELDS = ("ts", "time", "timestamp", "deleted_at", "deletedat")


def parse_deletion(record: JsonObject, known: Mapping[str, Resource]) -> Deletion | None:
    """The object that a row of `/deleted` names; None if the row does not identify one. `known`: resources by name.

    The row's shape is not documented (Directo API documentation shows only the address). So the usual field names are
    recognised in upper or lower case, and resource names in the singular too.
    """
    row = objects.folded(record)
    resource_field = next((name for name in _RESOURCE_FIELDS if _resource_named(row.get(name), known)), None)
    if resource_field is None:
        return None
    resource = known[_resource_named(row.pop(resource_field), known)]
    key = _deleted_key(resource, row)
    return Deletion(ObjectRef(resource.name, key), objects.key_text(_first(row, _TIME_FIELDS))) if key else None


def _resource_named(value: Any, known: Mapping[str, Resource]) -> str:
    name = value.lower() if isinstance(value, str) else ""
    return next((candidate for candidate in (name, f"{name}s", f"{name}es") if candidate in known), "")


def _deleted_key(resource: Resource, row: JsonObject) -> str | None:
    names = [field.casefold() for field in resource.key]
    values = [objects.key_text(row.get(name)) for name in names]
    if all(value or field in resource.optional_key for field, value in zip(resource.key, values, strict=True)):
        return objects.join_key(values)
    value = objects.key_text(_first(row, _KEY_FIELDS))
    if len(resource.key) > 1 and len(value.split(":")) != len(resource.key):
        return None
    return value or None


def _first(row: JsonObject, names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _state(record: Record) -> bytes:
    """What is remembered of a record: its digest, and its `ts` as sent."""
    ts = objects.field(record_states.told(record), "ts")
    return record_states.digest(record) + (ts.encode(errors="surrogatepass") if isinstance(ts, str) else b"")


def _is_later(state: bytes, other: bytes, zone: ZoneInfo) -> bool:
    stamp, earlier = (
        wall_clock.parse(each[record_states.SIZE :].decode(errors="surrogatepass"), zone) for each in (state, other)
    )
    return stamp is not None and earlier is not None and stamp > earlier


class Deduplicator:
    """Finds different records with the same key within one reply, so that none is dropped silently.

    Remembers the states of the whole reply, because Directo does not document any order.
    """

    def __init__(self, resource: Resource, zone: ZoneInfo, seen: streaming.SeenKeys) -> None:
        self._resource = resource
        self._zone = zone
        self._seen = seen
        self._fields: set[str] = set()
        self._read_key = objects.KeyReader(resource)
        self._key_fields = frozenset(map(str.casefold, resource.key))

    def chunk(self, batch: Sequence[Any]) -> Chunk:
        """The batch by key: of two states, the one with the later `ts`; without an order, the first.

        In the second case the other record is unreadable: the key does not identify the object.
        """
        unkeyed: list[tuple[str, Record]] = []
        records, broken = record_states.readable(batch, partial(objects.told_key, self._resource))
        if not self._has_key_fields:
            for record in records:
                self._fields.update(map(str.casefold, record_states.told(record)))
        # A field that Directo omits is empty, but one that no record has is named wrongly.
        read_key = self._read_key if self._has_key_fields else _no_key
        keyed: list[tuple[str, Record, bytes]] = []
        for record in records:
            key = read_key(record_states.told(record))
            if key is None:
                unkeyed.append((_missing_key(self._resource), record))
            else:
                keyed.append((key, record, _state(record)))
        found = self._of_each_key(keyed, unkeyed)
        remedy = objects.keys_remedy(self._resource, list(map(record_states.decoded, records))) if unkeyed else ""
        return Chunk(
            tuple(record_states.snapshot(key, *each) for key, each in found.items()),
            unreadable=(
                *broken,
                *(objects.without_key(record_states.decoded(each), reason, remedy) for reason, each in unkeyed),
            ),
        )

    def _of_each_key(
        self, keyed: Sequence[tuple[str, Record, bytes]], unkeyed: list[tuple[str, Record]]
    ) -> dict[str, tuple[Record, bytes]]:
        """The records by key, each with its state; those of a key that another one has are added to `unkeyed`."""
        states = self._seen.remember_all({key: state for key, _, state in reversed(keyed)})
        found: dict[str, tuple[Record, bytes]] = {}
        for key, record, state in keyed:
            previous = states.setdefault(key, state)
            if previous is state:
                found[key] = record, state
            elif _is_later(state, previous, self._zone):
                self._seen.replace(key, state)
                states[key], found[key] = state, (record, state)
            elif not _is_later(previous, state, self._zone):
                earlier, _ = found.get(key, (None, b""))
                if not record_states.same(state, record, previous, earlier):
                    unkeyed.append((_same_key(self._resource), record))
        return found

    @property
    def _has_key_fields(self) -> bool:
        return self._resource.keyed_by_row or self._fields >= self._key_fields


def _no_key(_record: JsonObject) -> None:
    return None


def glance(resource: Resource, selection: queries.Selection) -> streaming.Glance | None:
    """The fields by which a record is judged without being decoded; None if it takes the whole record."""
    names = (*resource.key, "ts", *(each.name for each in selection.filters))
    return None if resource.keyed_by_row else streaming.Glance(tuple(dict.fromkeys(names)))


def require_key(resource: Resource, batch: Sequence[Any]) -> None:
    """SetAside with the remedy if none of these records has the resource's key."""
    records, _ = objects.readable(batch, partial(objects.told_key, resource))
    fields = {name for raw in records for name in objects.folded(raw)}
    named = resource.keyed_by_row or fields.issuperset(map(str.casefold, resource.key))
    if records and not (named and any(objects.key_of(resource, raw) for raw in records)):
        found = objects.field_names(records[0])
        raise SetAside(f"{_missing_key(resource)}; it has {found}; {objects.keys_remedy(resource, records)}")


def _missing_key(resource: Resource) -> str:
    return f"a record of {resource.name} without {' and '.join(resource.key)}"


def _same_key(resource: Resource) -> str:
    return f"different records of {resource.name} with the same {' and '.join(resource.key)}"
