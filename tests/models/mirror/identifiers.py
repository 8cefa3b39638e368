"""Names that vendors may use, and what must hold for the mirror whatever they are."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import exact
from models.db import tables
from models.mirror import naming, schema_evolution
from models.mirror.target import Target
from tests.models.write_path import fields, moment, rows, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.db.database import Database
    from models.values import JsonObject

QUOTES = ["'", '"', "`", "]", "[", "''", '""', ";", "\\", "\\\\", "--", "/*", "*/", "*", "|", "\n", "\t", "a\tb", " a "]


PLACEHOLDERS = ["%", "%%", "%s", "%(name)s", "50%", ":name", ":1", "?", "$1", "{}", "{0}", "{name}", "@p1", "#"]


ATTACKS = [
    "x'); DELETE FROM erpmirror_changes; --",
    'x"; DROP TABLE erpmirror_webhooks; --',
    "x`; DROP TABLE erpmirror_webhooks; --",
    "x]; DROP TABLE erpmirror_webhooks; --",
    'a" TEXT, "_raw" TEXT, "b',
    "a) VALUES (1); --",
    "a\\'; DROP TABLE erpmirror_inbox; --",
    "a.b.c",
    "public.erpmirror_webhooks",
    "a\\.b",
]


RESERVED = [
    *("select", "table", "user", "order", "group", "primary", "constraint", "references", "default", "null", "check"),
    *("all", "analyse", "current_user", "limit", "offset", "returning", "window", "index", "where", "SELECT", "values"),
]


LIBRARIES = ["packed", "unpacked", "excluded", "news", "pairs", "key", "token", "keys", "items", "c", "columns", "name"]


LONG = ["a" * 200, "A" * 200, "a" * 201, "ä" * 200, "a" * 55, "a" * 56, "x_" * 100, "CamelCase" * 30, "." * 200]


UNICODE = [
    *("😀", "😀😀", "a😀b", "👩‍👩‍👧", "e\u0301", "é", "É", "İ", "i̇", "ı", "ß", "ẞ", "ſ", "K", "Å", "ǅ", "ﬁ", "①", "²"),
    *(
        "\u202eabc",
        "\u200b",
        "to\u200btal",
        "total\u3164",
        "\uffa0total",
        "\ufeff",
        "\u2028",
        "العربية",
        "назва",
        "名前",
    ),
    *("\0", "a\0b", "\\u0000", "a\\u0000b", "\ud800", "a\udfffb", "\\ud800", "\U0010ffff", "\x7f", "\x1b[31m"),
]


FOLDING = [
    *("Price", "price", "PRICE", "pricE", "price ", "price.", "priceVat", "price_vat", "price.vat", "price__vat"),
    *("PriceVAT", "price-vat", "price vat", "field", "Field", "total", "Total", "total__text", "total_text", "TOTAL"),
    *("rows", "Rows", "ROWS", "rows__text", "a__b", "a_b", "aB", "a.b", "A__B", "x__", "x", "x__text", "x__text__text"),
]


OURS = [
    *(
        "_connection",
        "_key",
        "_raw",
        "_hash",
        "_sent_hash",
        "_listed",
        "_revision",
        "_first_seen_at",
        "_changed_at",
        "_observed_at",
    ),
    *("_deleted_at", "_position", "_parent_position", "__key", "_KEY", " _key", "connection", "key_", "raw", "_id"),
]


EMPTY = ["", " ", "_", "__", "-", "\\-", ".", "1", "1st", "007", "0", "-1", "+"]


SYSTEMS = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid", "rowid", "_rowid_", "CTID", "xMin", "Ctid."]


TABLES = [
    "items__rows",
    "directo_items",
    "directo_items__rows",
    "webhooks",
    "schema_changes",
    "pg_class",
    "sqlite_master",
]


HASHED = [naming.column(each, {"price", "total", "field"}) for each in ("PRICE", "Total", "😀")]
"""What another field is called after a clash."""


_ALL = (
    QUOTES,
    PLACEHOLDERS,
    ATTACKS,
    RESERVED,
    LIBRARIES,
    LONG,
    UNICODE,
    FOLDING,
    OURS,
    EMPTY,
    SYSTEMS,
    TABLES,
    HASHED,
)


NASTY = list(dict.fromkeys(itertools.chain.from_iterable(_ALL)))


TARGET = Target("books", "directo", "items")


NEIGHBOUR = replace(TARGET, connection="other")


OUR_COLUMNS = set(OURS[:13])


def leaves(value: Any) -> Iterator[str]:
    """Every scalar inside a value, as text; JSON inside a text is decoded; a column of times has a date as midnight."""
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        value = _decoded(value)
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    elif isinstance(value, datetime) and value.time() == time.min:
        yield value.date().isoformat()
    elif value is not None:
        yield f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


def _decoded(text: str) -> Any:
    try:
        return exact.loads(text)
    except ValueError:
        return text.replace("[", "(")


def found(database: Database, target: Target, key: str) -> Counter[str]:
    """In how many field columns each scalar is stored, in the object's own table and its parts."""
    seen: Counter[str] = Counter()
    for part in parts_of(database, target):
        for each in rows(database, target, part):
            if (each["_connection"], each["_key"]) == (target.connection, key):
                seen.update(itertools.chain.from_iterable(map(leaves, fields(each).values())))
    return seen


def parts_of(database: Database, target: Target) -> list[str]:
    with database.read() as tx:
        schema = schema_evolution.current(tx, target.table)
    assert schema is not None
    return list(schema.tables)


def physical(database: Database, target: Target) -> dict[str, list[str]]:
    """The columns of each of the resource's tables, as the database lists them."""
    with database.read() as tx:
        owned = sa.select(tables.parts.c.table_name).where(tables.parts.c.owner == target.table)
        chosen = list(tx.execute(owned).scalars())
        inspector = sa.inspect(tx)
        return {name: [column["name"] for column in inspector.get_columns(name)] for name in chosen}


def is_legal(name: str) -> bool:
    """Whether every database accepts the quoted name and keeps it apart from every other."""
    plain = all(char.isalnum() or char == "_" for char in name.replace("\u0307", ""))
    return plain and name == name.lower() and 0 < len(name.encode()) <= 63


def assert_sound(database: Database, target: Target) -> None:
    """Every name is legal, no field uses a bookkeeping column, no two share one, and each column belongs to a field."""
    there = physical(database, target)
    with database.read() as tx:
        known = tx.execute(sa.select(tables.columns).where(tables.columns.c.table_name.in_(there))).all()
    for name, own in there.items():
        assert is_legal(name)
        assert name.startswith("directo_")
        assert ("__" in name) is (name != target.table)
        assert [] == [each for each in own if not is_legal(each)]
        assert len(own) == len({each.lower() for each in own})
        assert {each for each in own if each.startswith("_")} <= OUR_COLUMNS
        assert {each for each in own if not each.startswith("_")} == {
            each.column_name for each in known if each.table_name == name
        }
    assert len(known) == len({(each.table_name, each.path, each.overflow) for each in known})


def assert_kept(database: Database, target: Target, key: str, raw: JsonObject, *, revision: int) -> None:
    """The row is this object, under its key, with the bookkeeping that was written."""
    shown = row_of(database, target, key)
    assert exact.same(escaped(raw), shown["_raw"])
    assert (moment(revision), revision, None, None) == (
        shown["_observed_at"],
        shown["_revision"],
        shown["_deleted_at"],
        shown["_listed"],
    )
    wanted = Counter(leaves(raw))
    seen = found(database, target, key)
    assert wanted == Counter({leaf: seen[leaf] for leaf in wanted})


def row_of(database: Database, target: Target, key: str) -> dict[str, Any]:
    (shown,) = (
        each for each in rows(database, target) if (each["_connection"], each["_key"]) == (target.connection, key)
    )
    return shown


def escaped(value: Any) -> Any:
    """NUL and lone surrogates written as in JSON; nothing else changes."""
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if isinstance(value, dict):
        return {escaped_name(name, value): escaped(item) for name, item in value.items()}
    return value


def escaped_name(name: str, among: JsonObject) -> str:
    """The same for a name; one that would then be another's gets a backslash more, the smaller name first."""
    taken = {each for each in among if visible(each) == each}
    for each in sorted(each for each in among if visible(each) != each):
        shown = visible(each)
        while shown in taken:
            shown = f"\\{shown}"
        if each == name:
            return shown
        taken.add(shown)
    return name


def visible(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" if char == "\0" or "\ud800" <= char <= "\udfff" else char for char in text)


class Witness:
    """What must not change: the same resource of another connection, another resource, the bookkeeping."""

    def __init__(self, database: Database, target: Target) -> None:
        self._database = database
        self._others = [replace(target, connection="other"), replace(target, resource="neighbours")]
        for other in self._others:
            write(database, {"1": {"witness": "kept", "price": 1, "rows": [{"price": 1}]}}, target=other, revision=7)
        self._before = self._seen()

    def _seen(self) -> list[Any]:
        kept = []
        for other in self._others:
            for part in ("", "rows"):
                mine = (each for each in rows(self._database, other, part) if each["_connection"] == other.connection)
                kept.append([{name: value for name, value in each.items() if value is not None} for each in mine])
        return kept

    def assert_untouched(self) -> None:
        assert self._before == self._seen()
        with self._database.read() as tx:
            there = set(sa.inspect(tx).get_table_names())
            ours = set(tx.execute(sa.select(tables.parts.c.table_name)).scalars())
        assert {*tables.metadata.tables, *ours} == there
