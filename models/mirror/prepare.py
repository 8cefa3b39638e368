"""Turns snapshots into rows ready to be written: redacted, hashed, laid out in columns. Outside any transaction."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from models import exact, redaction
from models.mirror import canonical_json, flatten_batch, schema_evolution
from models.mirror.layout import Layout
from models.mirror.rows import Prepared, Row
from models.values import Received

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from models.db.database import Database
    from models.mirror.target import Target
    from models.values import JsonObject, Snapshot


_KEY = attrgetter("key")


def prepare(
    database: Database, target: Target, snapshots: Sequence[Snapshot | Received], *, as_known: bool = False
) -> Prepared:
    """Prepare a batch, and create the tables and columns that it lacks. Of two snapshots of a key the last counts.

    `as_known`: most objects are unchanged, so none is laid out or decoded until `apply` reports which ones differ.
    Call it outside any transaction: columns are added in a short one of their own. Raises `TableLockedError` and
    `MalformedError`.
    """
    latest = {exact.storable_text(snapshot.key): snapshot for snapshot in snapshots}
    as_known = as_known and schema_evolution.cached(database, target.table) is not None
    salt = target.salt()
    waiting = {key: each for key, each in latest.items() if as_known and isinstance(each, Received)}
    rows = _rows(target, salt, {key: each for key, each in latest.items() if key not in waiting})
    rows += [_undecoded(key, each, salt) for key, each in waiting.items()]
    rows.sort(key=_KEY)
    if as_known:
        return Prepared({row.key: row for row in rows})
    return _laid_out(database, target, rows, rows)


def lay_out(database: Database, target: Target, prepared: Prepared, keys: Collection[str]) -> Prepared:
    """The same batch with these objects laid out too. Raises what `prepare` raises."""
    waiting = {key: row.received for key in keys if (row := prepared.rows[key]).received is not None}
    decoded = {row.key: row for row in _rows(target, target.salt(), waiting)}
    rows = [decoded.get(key, row) for key, row in prepared.rows.items()]
    return _laid_out(database, target, rows, [row for row in rows if row.key in prepared.numbers or row.key in keys])


def _laid_out(database: Database, target: Target, all_rows: Iterable[Row], rows: Sequence[Row]) -> Prepared:
    """The batch of `all_rows`, with `rows` laid out. Adds columns until the schema lacks nothing."""
    origin = schema_evolution.Origin(target.connection, target.resource, target.notes)
    declared = target.declared()
    schema = schema_evolution.cached(database, target.table)
    projected = [target.project(row.raw) for row in rows]
    flat = flatten_batch.flatten_batch(projected, declared)
    missing = schema_evolution.gap(schema, target.shape)
    while True:
        if schema is not None and not missing:
            layout = Layout(schema, declared, projected)
            batches = layout.batches(rows, flat)
            missing = layout.missing
            if not missing:
                numbers = {row.key: number for number, row in enumerate(rows)}
                return Prepared({row.key: row for row in all_rows}, batches, numbers)
        schema = schema_evolution.add_columns(database, origin, target.table, missing)
        missing = schema_evolution.SchemaGap()


def _rows(target: Target, salt: str, snapshots: Mapping[str, Snapshot | Received]) -> list[Row]:
    given = [snapshot.raw for snapshot in snapshots.values()]
    raws = [redaction.redact(raw, target.omit) for raw in given] if target.omit else given
    sent = [_digest(*each, salt) for each in zip(snapshots.values(), given, raws, strict=True)]
    return [
        _row(key, snapshot, raw, text, digest, salt)
        for (key, snapshot), raw, text, digest in zip(
            snapshots.items(), raws, canonical_json.of(raws), sent, strict=True
        )
    ]


def _digest(snapshot: Snapshot | Received, given: JsonObject, raw: JsonObject, salt: str) -> str | None:
    """The hash of the received bytes. None if redaction removed something: a short secret could be guessed from it."""
    if not isinstance(snapshot, Received) or (raw is not given and raw != given):
        return None
    return exact.digest(snapshot.sent, salt=salt)


def _row(
    key: str, snapshot: Snapshot | Received, raw: JsonObject, text: str | None, sent: str | None, salt: str
) -> Row:
    if text is not None:
        hash_ = exact.digest(text.encode(), salt=salt)
        return Row(key, raw, hash_, snapshot.listed, text, sent)
    raw = exact.storable(raw)
    return Row(key, raw, exact.fingerprint(raw, salt=salt), snapshot.listed, None, sent)


def _undecoded(key: str, received: Received, salt: str) -> Row:
    sent = exact.digest(received.sent, salt=salt)
    return Row(key, {}, "", received.listed, None, sent, received)
