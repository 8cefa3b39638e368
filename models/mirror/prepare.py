"""Turns snapshots into rows ready to be written: redacted, hashed, laid out in columns. Outside any transaction."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from models import exact, redaction
from models.mirror import canonical_json, flatten_batch, schema_evolution
from models.mirror.layout import Layout
from models.mirror.rows import Prepared, Row
from models.mirror.spelling import Spellings
from models.values import UndecodedSnapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from models.db.database import Database
    from models.mirror.schemas import Schema
    from models.mirror.target import Target
    from models.values import JsonObject, Shape, Snapshot


_KEY = attrgetter("key")

_RULES_DIGITS = 16


def prepare(
    database: Database,
    target: Target,
    snapshots: Sequence[Snapshot | UndecodedSnapshot],
    *,
    expect_unchanged: bool = False,
) -> Prepared:
    """Prepare a batch, and create the tables and columns that it lacks. Of two snapshots of a key the last counts.

    `expect_unchanged`: most objects are probably unchanged, so none is laid out or decoded before `apply` has reported
    which ones differ. Call it outside any transaction: columns are added in a short one of their own. Raises
    `TableLockedError`, and `MalformedError` for an object that cannot be decoded.
    """
    latest = {exact.storable_text(snapshot.key): snapshot for snapshot in snapshots}
    expect_unchanged = expect_unchanged and schema_evolution.cached(database, target.table) is not None
    salt = target.salt()
    rules = _rules(salt)
    undecoded = {key: each for key, each in latest.items() if expect_unchanged and isinstance(each, UndecodedSnapshot)}
    rows = _rows(target, salt, {key: each for key, each in latest.items() if key not in undecoded})
    rows += [Row(key, {}, "", each.listed, None, rules + _sent_digest(each), each) for key, each in undecoded.items()]
    rows.sort(key=_KEY)
    if expect_unchanged:
        return Prepared({row.key: row for row in rows})
    return _laid_out(database, target, rows, rows)


def lay_out(database: Database, target: Target, prepared: Prepared, keys: Collection[str]) -> Prepared:
    """The same batch with these objects laid out, too. Raises what `prepare` raises."""
    undecoded = {key: row.undecoded for key in keys if (row := prepared.rows[key]).undecoded is not None}
    decoded = {row.key: row for row in _rows(target, target.salt(), undecoded)}
    rows = [decoded.get(key, row) for key, row in prepared.rows.items()]
    return _laid_out(database, target, rows, [row for row in rows if row.key in prepared.laid_out or row.key in keys])


def _laid_out(database: Database, target: Target, all_rows: Iterable[Row], rows: Sequence[Row]) -> Prepared:
    """The batch of `all_rows`, with `rows` laid out. Adds columns until the schema lacks nothing."""
    origin = schema_evolution.Origin(target.connection, target.resource, target.notes)
    declared = target.declared()
    schema = schema_evolution.cached(database, target.table)
    projected = [target.project(row.raw) for row in rows]
    spellings = _spellings(declared, schema)
    flat = flatten_batch.flatten_batch(projected, declared, spellings)
    missing = schema_evolution.gap(schema, target.shape)
    while True:
        if schema is not None and not missing:
            layout = Layout(schema, declared, projected, spellings)
            batches = layout.batches(rows, flat)
            missing = layout.missing
            if not missing:
                laid_out = {row.key: index for index, row in enumerate(rows)}
                return Prepared({row.key: row for row in all_rows}, batches, laid_out)
        schema = schema_evolution.add_columns(database, origin, target.table, missing)
        missing = schema_evolution.SchemaGap()


def _spellings(declared: Shape, schema: Schema | None) -> Spellings:
    """The declared fields' spellings first, then those of the columns."""
    tables = schema.tables if schema is not None else {}
    columns = {part: table.columns for part, table in tables.items()}
    return Spellings({part: (*declared.get(part, ()), *columns.get(part, ())) for part in {**declared, **columns}})


def _rows(target: Target, salt: str, snapshots: Mapping[str, Snapshot | UndecodedSnapshot]) -> list[Row]:
    given = [snapshot.raw for snapshot in snapshots.values()]
    raws = [redaction.redact(raw, target.omit) for raw in given] if target.omit else given
    rules = _rules(salt)
    sent_hashes = [_sent_hash(*each, rules) for each in zip(snapshots.values(), given, raws, strict=True)]
    return [
        _row(key, snapshot, raw, text, sent_hash, salt)
        for (key, snapshot), raw, text, sent_hash in zip(
            snapshots.items(), raws, canonical_json.of(raws), sent_hashes, strict=True
        )
    ]


def _rules(salt: str) -> str:
    """The beginning of `_sent_hash`: bytes that were received under other rules are not known again."""
    return exact.digest(b"", salt=salt)[:_RULES_DIGITS]


def _sent_digest(snapshot: UndecodedSnapshot) -> str:
    return (snapshot.digest or exact.bytes_digest(snapshot.encoded)).hex()


def _sent_hash(snapshot: Snapshot | UndecodedSnapshot, given: JsonObject, raw: JsonObject, rules: str) -> str | None:
    """The hash of the received bytes. None if redaction removed something: a short secret could be guessed from it."""
    if not isinstance(snapshot, UndecodedSnapshot) or (raw is not given and raw != given):
        return None
    return rules + _sent_digest(snapshot)


def _row(
    key: str,
    snapshot: Snapshot | UndecodedSnapshot,
    raw: JsonObject,
    text: str | None,
    sent_hash: str | None,
    salt: str,
) -> Row:
    if text is not None:
        hash_ = exact.digest(text.encode(), salt=salt)
        return Row(key, raw, hash_, snapshot.listed, text, sent_hash)
    raw = exact.storable(raw)
    return Row(key, raw, exact.fingerprint(raw, salt=salt), snapshot.listed, None, sent_hash)
