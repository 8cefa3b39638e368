"""Objects are decoded and laid out only if they differ from their rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.db.database import Database
from models.mirror import apply, prepare
from models.values import Snapshot, UndecodedSnapshot
from tests.models.write_path import TARGET, kinds, moment, row, rows, write


def _read(database: Database, sent: str, *, revision: int, omit: tuple[str, ...] = ()) -> tuple[bool, list[str]]:
    """Write an object that is still JSON text. Returns whether it had to be decoded, and the kinds of the changes."""
    target = replace(TARGET, omit=omit)
    prepared = prepare.prepare(database, target, [UndecodedSnapshot("1", sent.encode())], expect_unchanged=True)
    try:
        with database.begin() as tx:
            changes = apply.apply(tx, target, prepared, revision=revision, now=moment(revision), point=False)
    except apply.NeedsLayoutError as error:
        prepared = prepare.lay_out(database, target, prepared, error.keys)
        with database.begin() as tx:
            changes = apply.apply(tx, target, prepared, revision=revision, now=moment(revision), point=False)
        return True, [kind for _, kind in kinds(changes)]
    return False, [kind for _, kind in kinds(changes)]


def test_bytes_that_were_received_before_are_not_decoded_again(database: Database) -> None:
    write(database, {"0": {"n": 0}})
    assert (True, ["created"]) == _read(database, '{"n": 1.50}', revision=1)
    assert (False, []) == _read(database, '{"n": 1.50}', revision=2)
    assert (True, []) == _read(database, '{ "n": 1.5 }', revision=3)  # the same object in other bytes
    assert (False, []) == _read(database, '{ "n": 1.5 }', revision=4)
    assert (True, ["updated"]) == _read(database, '{"n": 2}', revision=5)
    assert (True, []) == _read(database, '{"n": 2}', revision=6, omit=("secret",))  # under other rules
    assert (False, []) == _read(database, '{"n": 2}', revision=7, omit=("secret",))


def test_no_hash_is_stored_of_bytes_that_hold_a_secret(database: Database) -> None:
    write(database, {"0": {"n": 0}})
    for revision in (1, 2):
        assert _read(database, '{"n": 1, "pin": "0815"}', revision=revision, omit=("pin",))[0]
        assert ({"n": 1}, None) == (row(database, "1")["_raw"], row(database, "1")["_sent_hash"])
    assert _read(database, '{"n": 2}', revision=3, omit=("pin",))[0]
    assert row(database, "1")["_sent_hash"] is not None
    assert _read(database, '{"n": 2, "pin": "0815"}', revision=4, omit=("pin",)) == (True, [])
    assert _read(database, '{"n": 3, "pin": "0815"}', revision=5, omit=("pin",)) == (True, ["updated"])
    assert row(database, "1")["_sent_hash"] is None


def test_an_object_that_was_written_by_other_means_since_is_decoded_again(database: Database) -> None:
    write(database, {"0": {"n": 0}})
    _read(database, '{"n": 1}', revision=1)
    write(database, {"1": {"n": 2}}, revision=2, point=True)
    assert (False, []) == _read(database, '{"n": 3}', revision=1)  # an older reply
    assert (True, ["updated"]) == _read(database, '{"n": 1}', revision=3)
    write(database, tombstones=["1"], revision=4)
    assert (True, ["restored"]) == _read(database, '{"n": 1}', revision=5)
    assert {"n": 1} == row(database, "1")["_raw"]


def test_an_object_that_was_assumed_unchanged_is_laid_out_once_it_differs(database: Database) -> None:
    write(database, {"1": {"n": 1}, "2": {"n": 1}})
    snapshots = [Snapshot("1", {"n": 1}), Snapshot("2", {"n": 2}), Snapshot("3", {"n": 3})]
    prepared = prepare.prepare(database, TARGET, snapshots, expect_unchanged=True)
    with pytest.raises(apply.NeedsLayoutError) as error, database.begin() as tx:
        apply.apply(tx, TARGET, prepared, revision=2, now=moment(2), point=False)
    assert {"2", "3"} == error.value.keys
    prepared = prepare.lay_out(database, TARGET, prepared, error.value.keys)
    assert {"2": 0, "3": 1} == prepared.laid_out
    write(database, {"1": {"n": 4}}, revision=3)
    with pytest.raises(apply.NeedsLayoutError) as error, database.begin() as tx:
        apply.apply(tx, TARGET, prepared, revision=4, now=moment(4), point=False)
    assert [4, 1] == [each["n"] for each in rows(database)]
    prepared = prepare.lay_out(database, TARGET, prepared, error.value.keys)
    with database.begin() as tx:
        changes = apply.apply(tx, TARGET, prepared, revision=4, now=moment(4), point=False)
    assert [("1", "updated"), ("2", "updated"), ("3", "created")] == kinds(changes)
    assert [1, 2, 3] == [each["n"] for each in rows(database)]


def test_without_a_table_every_object_is_laid_out_at_once(database: Database) -> None:
    prepared = prepare.prepare(database, TARGET, [Snapshot("1", {"n": 1})], expect_unchanged=True)
    assert {"1": 0} == prepared.laid_out
