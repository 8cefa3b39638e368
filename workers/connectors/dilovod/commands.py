"""Dilovod's writes: `saveObject` and `setDelMark` of any object, and `saleOrderCreate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.connectors.commands import GONE, Action, GoneType, Violation
from workers.connectors.contract import ObjectRef, did_you_mean
from workers.connectors.dilovod import command_sale_order, command_values, resources, table
from workers.connectors.dilovod.command_sale_order import GOODS, HEADER, MOST_ROWS, ORDER
from workers.connectors.dilovod.resources import ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.values import JsonObject
    from workers.connectors.commands import Unique
    from workers.connectors.dilovod.options import Options

_SOURCE = "Dilovod help, API Dilovod, "
_REGISTER, _UNREGISTER = "1", "2"
_PARTS = {ORDER: {"tpGoods": GOODS}}
_HEADERS = {ORDER: HEADER}

_COMPUTED_IN_DOCUMENTS = frozenset({"version", "presentation", "amountCur", "amountCost", "weight", "placed", "author"})
_COMPUTED_IN_ROWS = frozenset(
    {"id", "rowNum", "hash", "baseQty", "priceAmount", "amountCur", "qtyReserve", "qtyPurchase", "qtyProd"}
)
"""What Dilovod computes when it saves, whatever was sent."""


def actions(options: Options) -> tuple[Action, ...]:
    """The writes that a connection may allow."""
    named = {*table.KNOWN, *options.resources, *options.unique}
    unique = {kind: fields for kind in sorted(named) if (fields := table.unique_fields(kind))}
    return _save_object(options.unique, unique), _set_del_mark(), command_sale_order.sale_order_create(options.unique)


# What a command is about.


def target(arguments: JsonObject) -> str:
    """What the command names: the id of an object, or the kind of a new one."""
    return command_values.link(arguments["header"].get("id") if "header" in arguments else arguments.get("id"))


def kind(arguments: JsonObject) -> str:
    """The kind of the object; "" if neither its id nor the command tells it."""
    named = target(arguments)
    return named if "." in named else table.kind_of(named) or str(arguments.get("objectName", ""))


def _creates(arguments: JsonObject) -> str | None:
    named = target(arguments)
    return None if ID.fullmatch(named) or table.is_record(named) else named


def _subject(arguments: JsonObject) -> ObjectRef | None:
    if table.is_record(kind(arguments)):
        return ObjectRef(kind(arguments), "")
    return None if _creates(arguments) else ObjectRef(kind(arguments), target(arguments))


_ID: JsonObject = {
    "type": ["string", "integer", "object"],
    "properties": {"id": {"type": ["string", "integer"]}, "pr": {"type": ["string", "null"]}},
    "additionalProperties": False,
}
_OBJECT_NAME: JsonObject = {
    "type": "string",
    "description": "The kind of the object, as in documents.goodMoving. Mandatory where the first five digits of the "
    "id are of a kind that is not documented; it is not sent to Dilovod",
}


def _name_violations(arguments: JsonObject, path: str) -> Iterator[Violation]:
    """What is wrong with the kind that a command names, and whether it has to name one."""
    named, told = target(arguments), arguments.get("objectName")
    if told is not None and not table.RESOURCE.fullmatch(told):
        yield Violation("objectName", _not_a_kind(told))
    elif ID.fullmatch(named):
        known, wanted = table.kind_of(named), table.prefix_of(told or "")
        if told is None and not known:
            yield Violation(
                "objectName", f"add the kind of {named}, as in documents.goodMoving: its first digits do not tell it"
            )
        elif told is not None and (known not in {"", told} or wanted not in {"", table.prefix(named)}):
            yield Violation(path, f"this is no id of {told}{f', but of {known}' if known else ''}")
    elif told not in {None, named}:
        yield Violation("objectName", f"remove it, or write {named}, which the header names")


def _not_a_kind(named: str) -> str:
    guess = did_you_mean(named, table.KNOWN)
    return f'"{named}" is no kind of object{guess or ";"} write it as in catalogs.goods or documents.saleOrder'


# setDelMark


def _set_del_mark() -> Action:
    return Action(
        name="setDelMark",
        title="Mark a document or a catalogue's record as deleted",
        schema={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": False,
            "required": ["id"],
            "properties": {
                "id": _ID | {"description": "The object's id: 16 digits, as text or number"},
                "objectName": _OBJECT_NAME,
            },
        },
        rules=(
            "A folder of a catalogue is marked with all that is in it and in its folders.",
            "A posted document is also unposted: its records in the registers are taken back.",
            "Dilovod's API can set the mark, and not clear it; a user can.",
        ),
        check=_mark_violations,
        example={"id": "1109100000001029"},
        source=f"{_SOURCE}setDelMark",
        subject=_subject,
        may_change_others=True,
        expected=lambda _: GONE,
        shown=lambda _, found: {"header": {"delMark": command_values.written(found["header"].get("delMark"))}},
    )


def _mark_violations(arguments: JsonObject) -> list[Violation]:
    named = target(arguments)
    if not ID.fullmatch(named):
        return [Violation("id", f'write an id of 16 digits, as in "1100300000001001"; "{named}" is none')]
    if table.is_record(str(arguments.get("objectName"))):
        return [Violation("objectName", "only documents and records of catalogues can be marked, no registers")]
    return list(_name_violations(arguments, "id"))


# saveObject

_FIELD_NAMES: JsonObject = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
_VALUE: JsonObject = {
    "type": ["string", "number", "boolean", "null", "object"],
    "description": "Text; number (as number or text, with a point); boolean (true or 1); date "
    '("2026-01-31 23:59:59", Kyiv\'s wall clock); link (an id of 16 digits, as text, as number or as {"id"}); text in '
    'several languages ({"uk": …, "ru": …})',
}


def _save_object(configured: Mapping[str, str], unique: Mapping[str, Mapping[str, Unique]]) -> Action:
    return Action(
        name="saveObject",
        title="Create or change a catalogue's record, a document or a record of an information register",
        schema={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": False,
            "required": ["header"],
            "properties": {
                "saveType": {
                    "enum": [0, 1, 2, "0", "1", "2"],
                    "description": "Of documents alone. 0: save without posting, which Dilovod takes only for an "
                    "unposted one; 1: save and post, or post anew; 2: save and unpost. Absent: 0",
                },
                "header": {
                    "type": "object",
                    "description": "The object's own fields by their names in `getMetadata`. What is absent stays as "
                    "it is; in a new object it is empty, or the account's default",
                    "required": ["id"],
                    "properties": {
                        "id": _ID
                        | {
                            "description": "The id of what is changed: 16 digits, as text, as number or as in "
                            '{"id": "1100300000001001"}. Of a new object its kind, as in catalogs.goods'
                        }
                    },
                    "propertyNames": _FIELD_NAMES,
                    "additionalProperties": _VALUE,
                },
                "tableParts": {
                    "type": "object",
                    "description": "Table parts by name, as in tpGoods: all their rows, in their order. The rows "
                    "replace those that the part has; [] empties it. A part that is absent stays as it is",
                    "propertyNames": _FIELD_NAMES,
                    "additionalProperties": {
                        "type": "array",
                        "maxItems": MOST_ROWS,
                        "items": {"type": "object", "propertyNames": _FIELD_NAMES, "additionalProperties": _VALUE},
                    },
                },
                "objectName": _OBJECT_NAME,
            },
        },
        rules=(
            "`header.id` of a new object is its kind; of one that is changed it is its id.",
            "Of registers only information registers have records that can be saved, and these have no table parts.",
            "`saveType` is for documents alone; 0 saves only unposted ones.",
            "Beside the id, some field, table part or a `saveType` that posts or unposts is given.",
            "`header.delMark` may only be 0; setDelMark sets the mark. Dilovod answers ok to 0 and leaves the mark.",
            "`parent` is an id of the same catalogue.",
            "`date`, `payBefore` and fields that end in Date are dates by Dilovod's wall clock, without a zone.",
            "The fields of a sale order keep the lengths, digits and links that saleOrderCreate documents.",
            "Where the setting `unique` names `code` or `number`, a new object has it: it is too short for a token.",
        ),
        check=lambda arguments: list(_save_violations(arguments, configured)),
        example={"header": {"id": "catalogs.units", "code": "psi", "name": {"ru": "ПНД", "uk": "ПНД"}}},
        source=f"{_SOURCE}saveObject",
        subject=_subject,
        creates=_creates,
        unique=unique,
        expected=_expected,
        shown=_shown,
        needs_proof=lambda arguments: "delMark" in arguments["header"] and _creates(arguments) is None,
    )


def _save_violations(arguments: JsonObject, configured: Mapping[str, str]) -> Iterator[Violation]:
    named = target(arguments)
    family = kind(arguments).partition(".")[0]
    if not ID.fullmatch(named) and not table.RESOURCE.fullmatch(named):
        yield Violation("header.id", _not_a_target(named))
        return
    yield from _name_violations(arguments, "header.id")
    if table.is_record(kind(arguments)) and family != "informationRegisters":
        yield Violation("header.id", "of registers only informationRegisters.… can be saved; documents fill the others")
    if table.is_record(kind(arguments)) and "tableParts" in arguments:
        yield Violation("tableParts", "remove it: a register's record has no table parts")
    if "saveType" in arguments and family not in {"", "documents"}:
        yield Violation("saveType", "remove it: only documents are posted")
    if not _posts(arguments) and len(arguments["header"]) == 1 and not arguments.get("tableParts"):
        yield Violation("header", "name a field to save beside the id")
    yield from _header_violations(arguments)
    for part, rows in arguments.get("tableParts", {}).items():
        documented = _PARTS.get(kind(arguments), {}).get(part, {})
        for index, row in enumerate(rows):
            yield from _fields_violations(row, f"tableParts.{part}.{index}", documented)
    if created := _creates(arguments):
        yield from command_values.unique_violations(arguments["header"], created, configured)


def _not_a_target(named: str) -> str:
    if named.isascii() and named.isdigit() and named != command_values.NO_LINK:
        return f'an id has 16 digits, as in "1100300000001001"; this has {len(named)}'
    if named in {"", command_values.NO_LINK}:
        return "write the object's id, or for a new one its kind, as in catalogs.goods"
    return _not_a_kind(named)


def _posts(arguments: JsonObject) -> bool:
    return str(arguments.get("saveType", 0)) in {_REGISTER, _UNREGISTER}


def _header_violations(arguments: JsonObject) -> Iterator[Violation]:
    header = {name: value for name, value in arguments["header"].items() if name != "id"}
    if "delMark" in header and command_values.written(header["delMark"]) != "0":
        yield Violation("header.delMark", "use setDelMark to mark it as deleted")
    if "parent" in header and kind(arguments).startswith("catalogs."):
        yield from command_values.link_violations(header["parent"], "header.parent", (kind(arguments),))
        header.pop("parent")
    yield from _fields_violations(header, "header", _HEADERS.get(kind(arguments), {}))


def _fields_violations(
    fields: JsonObject, path: str, documented: Mapping[str, command_sale_order.Field]
) -> Iterator[Violation]:
    yield from command_sale_order.field_violations(documented, fields, path)
    for name, value in fields.items():
        if name in documented:
            continue
        if name in {"date", "payBefore"} or name.endswith("Date"):
            yield from command_values.date_violations(value, f"{path}.{name}")
        else:
            yield from command_values.violations(value, f"{path}.{name}")


# How a change is known to have arrived.


def _compared_header(arguments: JsonObject) -> JsonObject:
    """The fields that Dilovod does not compute itself; all of them if nothing else could be compared."""
    header = {name: value for name, value in arguments["header"].items() if name != "id"}
    if not kind(arguments).startswith("documents."):
        return {name: value for name, value in header.items() if name != "version"} or header
    is_named = command_values.written(header.get("userPresentation")) == "1"
    computed = _COMPUTED_IN_DOCUMENTS - ({"presentation"} if is_named else set())
    compared = {name: value for name, value in header.items() if name not in computed}
    if _posts(arguments):
        compared["posted"] = str(arguments["saveType"]) == _REGISTER
    return compared if compared or arguments.get("tableParts") else header


def _expected(arguments: JsonObject) -> JsonObject | GoneType:
    header = {name: command_values.written(value) for name, value in _compared_header(arguments).items()}
    parts = {
        part: [{name: command_values.written(value) for name, value in row.items()} for row in rows]
        for part, rows in _compared_parts(arguments)
    }
    return {"header": header, "tableParts": parts}


def _shown(arguments: JsonObject, found: JsonObject) -> JsonObject:
    there = found.get("tableParts")
    return {
        "header": command_values.shown_fields(_compared_header(arguments), found.get("header")),
        "tableParts": {
            part: _shown_rows(rows, resources.rows(there.get(part) if isinstance(there, dict) else None))
            for part, rows in _compared_parts(arguments)
        },
    }


def _compared_parts(arguments: JsonObject) -> Iterator[tuple[str, list[JsonObject]]]:
    """Each part's rows in the order in which Dilovod shows them."""
    for part, rows in arguments.get("tableParts", {}).items():
        yield part, [_compared_row(row) for row in _in_order(rows)]


def _compared_row(row: JsonObject) -> JsonObject:
    return {name: value for name, value in row.items() if name not in _COMPUTED_IN_ROWS} or row


def _in_order(rows: Sequence[JsonObject]) -> list[JsonObject]:
    numbers: list[Any] = [command_values.written(row.get("rowNum")) for row in rows]
    if all(isinstance(number, str) and number.isascii() and number.isdigit() for number in numbers):
        # By their texts: `int` refuses thousands of digits, which a caller may send.
        digits = [number.lstrip("0") for number in numbers]
        return [row for _, row in sorted(zip(digits, rows, strict=True), key=lambda pair: (len(pair[0]), pair[0]))]
    return list(rows)


def _shown_rows(sent: Sequence[JsonObject], found: Sequence[JsonObject]) -> list[JsonObject]:
    """The fields that were sent, of each row that is there; rows beyond those that were sent have none."""
    return [
        command_values.shown_fields(sent[index], row) if index < len(sent) else {} for index, row in enumerate(found)
    ]
