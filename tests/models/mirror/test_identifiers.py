"""Vendors may name fields anything: no name breaks, hides or overwrites another."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import exact
from models.db import tables
from models.mirror import naming, schema_evolution
from models.mirror.target import Target
from models.values import Kind
from tests.models.mirroring import fields, moment, row, rows, schema_changes, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        "_sent",
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


def test_there_are_many_names_to_test() -> None:
    assert len(NASTY) >= 180


# What must hold


def leaves(value: Any) -> Iterator[str]:
    """Every scalar inside a value, as text; JSON inside a text is decoded."""
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        value = _decoded(value)
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
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
    for part in _parts(database, target):
        for each in rows(database, target, part):
            if (each["_connection"], each["_key"]) == (target.connection, key):
                seen.update(itertools.chain.from_iterable(map(leaves, fields(each).values())))
    return seen


def _parts(database: Database, target: Target) -> list[str]:
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


# The table of names


PLACES: dict[str, Callable[[list[str]], JsonObject]] = {
    "field": lambda some: {name: f"v{number}" for number, name in enumerate(some)},
    "nested": lambda some: {"o": {name: f"v{number}" for number, name in enumerate(some)}},
    "above": lambda some: {name: {"x": f"v{number}"} for number, name in enumerate(some)},
    "line": lambda some: {"p": [{name: f"v{number}" for number, name in enumerate(some)}]},
    "list": lambda some: {name: [f"v{number}", number] for number, name in enumerate(some)},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_field_of_any_name_has_a_column_of_its_own(database: Database, place: str) -> None:
    witness, raw = Witness(database, TARGET), PLACES[place](NASTY)
    write(database, {"1": raw}, target=TARGET, revision=3)
    assert_sound(database, TARGET)
    shown, seen = row_of(database, TARGET, "1"), found(database, TARGET, "1")
    assert escaped(raw) == shown["_raw"]
    assert dict.fromkeys([f"v{number}" for number in range(len(NASTY))], 1) == {
        leaf: count for leaf, count in seen.items() if leaf.startswith("v")
    }
    witness.assert_untouched()


@pytest.mark.parametrize("place", ["part", "deeper"])
def test_a_part_of_any_name_has_a_table_of_its_own(database: Database, place: str) -> None:
    witness = Witness(database, TARGET)
    for number, start in enumerate(range(0, len(NASTY), 80)):
        target = replace(TARGET, resource=f"many{number}")
        parts = {name: [{"x": f"v{count}"}] for count, name in enumerate(NASTY[start : start + 80])}
        raw = parts if place == "part" else {"p": [parts]}
        write(database, {"1": raw}, target=target, revision=3)
        assert_sound(database, target)
        assert_kept(database, target, "1", raw, revision=3)
        assert len(_parts(database, target)) == len(parts) + 1 + (place == "deeper")
    witness.assert_untouched()


def test_a_value_that_does_not_fit_is_in_the_sibling_column_whatever_the_name(database: Database) -> None:
    witness = Witness(database, TARGET)
    write(database, {"1": {name: number + 1000 for number, name in enumerate(NASTY)}}, target=TARGET, revision=2)
    raw = {name: f"v{number}" for number, name in enumerate(NASTY)}
    write(database, {"1": raw}, target=TARGET, revision=3)
    assert_sound(database, TARGET)
    assert_kept(database, TARGET, "1", raw, revision=3)
    assert len(NASTY) == len(schema_changes(database, "overflow"))
    witness.assert_untouched()


def test_a_declared_field_of_any_name_has_its_column(database: Database) -> None:
    paths = {naming.step(name): Kind.TEXT for name in NASTY if visible(name) == name}
    target = replace(TARGET, shape={"": paths, "p": paths})
    witness = Witness(database, target)
    raw = {name: f"v{number}" for number, name in enumerate(NASTY)}
    write(
        database, {"1": {**raw, "p": [{name: f"w{value}" for name, value in raw.items()}]}}, target=target, revision=3
    )
    assert_sound(database, target)
    assert set(raw.values()) <= found(database, target, "1").keys()
    witness.assert_untouched()


@pytest.mark.parametrize("resource", NASTY)
def test_a_resource_of_any_name_has_a_legal_table_apart_from_parts_and_bookkeeping(resource: str) -> None:
    table = naming.table("directo", resource)
    assert is_legal(table)
    assert table.startswith("directo_")
    assert "__" not in table
    assert table not in tables.metadata.tables


def test_a_resource_of_any_name_is_written_and_read(database: Database) -> None:
    witness = Witness(database, TARGET)
    met: set[str] = set()
    for name in [each for each in NASTY if visible(each) == each][::5]:  # a name of the settings file, which is UTF-8
        target = replace(TARGET, resource=name, connection="mine")
        if target.table not in met:
            met.add(target.table)
            raw = {"name": "v1", "rows": [{"x": "v2"}]}
            write(database, {"1": raw}, target=target, revision=3)
            assert_sound(database, target)
            assert_kept(database, target, "1", raw, revision=3)
    assert len(met) > 20
    witness.assert_untouched()


def test_an_object_of_any_key_is_written_and_read(database: Database) -> None:
    objects = {key: {"name": f"v{number}"} for number, key in enumerate(NASTY) if visible(key) == key}
    write(database, objects, target=TARGET, revision=3)
    assert {key: raw["name"] for key, raw in objects.items()} == {
        each["_key"]: each["name"] for each in rows(database, TARGET)
    }


def test_names_that_are_one_once_they_are_storable_stay_two(database: Database) -> None:
    raw = {
        "\0": "nul",
        "\\u0000": "text",
        "\0\\u0000": "both",
        "\\u0000\0": "turned",
        "in": {"\ud800": 1, "\\ud800": 2},
    }
    write(database, {"1": raw}, target=TARGET)
    shown = row(database, "1", TARGET)
    assert Counter(["nul", "text", "both", "turned", "1", "2"]) == Counter(leaves(fields(shown)))
    assert "text" == shown["_raw"]["\\u0000"]
    assert exact.same(shown["_raw"], exact.storable(shown["_raw"])), "once is enough"


def test_more_declared_fields_than_a_table_takes_stop_nothing(database: Database) -> None:
    many = {f"f{number}": Kind.NUMBER for number in range(2500)}
    target = replace(TARGET, shape={"": many, "p": many})
    raw = {**dict.fromkeys(many, 1), "p": [dict.fromkeys(many, 2)]}
    write(database, {"1": raw}, target=target)
    write(database, {"1": {**raw, "another": 1}}, target=target, revision=2)
    assert {**raw, "another": 1} == row(database, "1", target)["_raw"]
    assert {"directo_items", "directo_items__p"} == {table for table, _, _ in schema_changes(database, "capped")}


def test_a_table_full_of_declared_fields_has_no_room_for_what_does_not_fit(database: Database) -> None:
    many = {f"f{number}": Kind.NUMBER for number in range(1400)}
    target = replace(TARGET, shape={"": many})
    write(database, {"1": dict.fromkeys(many, 1)}, target=target)
    for revision in (2, 3):
        write(database, {"1": {**dict.fromkeys(many, "x"), "revision": revision}}, target=target, revision=revision)
    shown = row(database, "1", target)
    assert {**dict.fromkeys(many, "x"), "revision": 3} == shown["_raw"]
    assert 1 == len(schema_changes(database, "capped"))
    assert all(value != 1 for value in fields(shown).values()), "no value of an earlier state"


# Any names


def _spelt(base: str, way: int) -> str:
    ways: list[Callable[[str], str]] = [
        str.upper,
        str.title,
        str.swapcase,
        lambda text: f"_{text}",
        lambda text: f"{text}__text",
    ]
    return ways[way](base)


spellings = st.builds(_spelt, st.sampled_from(["price", "price_vat", "total", "rows", "key"]), st.integers(0, 4))
any_names = st.sampled_from(NASTY) | st.text(st.characters(codec=None), max_size=40) | spellings
kinds_of_leaf = st.sampled_from(["text", "number", "whole", "date", "list", "moment"])
objects = st.recursive(
    kinds_of_leaf,
    lambda inner: (
        st.lists(st.dictionaries(any_names, inner, max_size=4), min_size=1, max_size=3)
        | st.dictionaries(any_names, inner, max_size=5)
    ),
    max_leaves=14,
)
batches = st.lists(st.dictionaries(any_names, objects, min_size=1, max_size=6), min_size=1, max_size=3)


def unique(value: Any, numbers: Iterator[int]) -> Any:
    """The same structure with a unique value at each leaf."""
    if isinstance(value, dict):
        return {name: unique(item, numbers) for name, item in value.items()}
    if isinstance(value, list):
        return [unique(item, numbers) for item in value]
    number = next(numbers)
    day = date(2000, 1, 1) + timedelta(days=number)
    return {
        "text": f"t{number}",
        "number": Decimal(number) + Decimal("0.25"),
        "whole": 10_000 + number,
        "date": day.isoformat(),
        "list": [f"l{number}", 50_000 + number],
        "moment": f"{day.isoformat()} 10:20:30",
    }[value]


fresh = itertools.count()


@settings(max_examples=12, deadline=None, suppress_health_check=[*HealthCheck])
@given(shapes=batches)
def test_whatever_fields_are_called_nothing_is_lost_shared_or_overwritten(
    database: Database, shapes: list[JsonObject]
) -> None:
    target = replace(TARGET, resource=f"any{next(fresh)}")
    witness, numbers = Witness(database, target), itertools.count(1)
    raws = {str(count): unique(shape, numbers) for count, shape in enumerate(shapes)}
    for revision, again in enumerate(({"0": raws["0"]}, raws), start=3):
        write(database, again, target=target, revision=revision, point=True)
    assert_sound(database, target)
    for key, raw in raws.items():
        assert_kept(database, target, key, raw, revision=4)
    witness.assert_untouched()
