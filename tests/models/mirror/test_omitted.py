"""A rule of `omit` that comes late: what was stored before is counted, and cleared in rows, journal and inbox."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models import redaction, status
from models.bookkeeping import parked, stream_plans, streams
from models.db import tables
from models.mirror import diff, rebuild
from models.values import Cause, Unreadable
from tests.models.write_path import TARGET, live, replayed, write

if TYPE_CHECKING:
    from models.db.database import Database

RULES = ("customer.email", "**.phone", "rows.note")
LATER = replace(TARGET, omit=RULES)
SECRET = "anna@example.com"


def person(version: int) -> dict[str, Any]:
    return {
        "v": version,
        "total": Decimal("12.50"),
        "customer": {"email": f"{version}{SECRET}", "phone": SECRET},
        "rows": [{"note": f"{version}{SECRET}", "n": 1}],
    }


def plan(database: Database, *rules: str) -> None:
    with database.begin() as tx:
        planned = stream_plans.Plan("invoices", timedelta(hours=1), polls=True, omit=rules)
        stream_plans.sync(tx, connection="books", system="directo", plans=[planned])


def shown(database: Database) -> tuple[int, int]:
    (row,) = status.resources(database)
    assert (row.warning is not None) is bool(row.unredacted_rows or row.unredacted_entries)
    return row.unredacted_rows, row.unredacted_entries


def everything(database: Database) -> str:
    """All that is stored, as text."""
    found = []
    with database.read() as tx:
        for name in sa.inspect(tx).get_table_names():
            if "stream" not in name:
                found += [str(tuple(row)) for row in tx.execute(sa.text(f'SELECT * FROM "{name}"'))]
    return "\n".join(found)


@pytest.fixture
def mirror(database: Database) -> Database:
    plan(database)
    for version in (1, 2):
        with database.begin() as tx:
            revision = tx.draw()
        write(database, {key: person(version) for key in "123"}, revision=revision)
    with database.begin() as tx:
        revision = tx.draw()
    write(database, tombstones=["3"], revision=revision)
    with database.begin() as tx:
        unreadable = [Unreadable("9", "no number", person(9))]
        parked.park_unreadable(tx, connection="books", resource="invoices", unreadable=unreadable, cause=Cause.POLL)
    return database


def test_a_late_rule_is_told_until_all_follows_it(mirror: Database) -> None:
    assert (0, 0) == shown(mirror)
    plan(mirror, *RULES)
    assert (3, 7) == shown(mirror)
    plan(mirror, *RULES)
    assert (3, 7) == shown(mirror)
    rebuild.rebuild(mirror, LATER, progress=lambda _: None)
    assert (0, 0) == shown(mirror)
    assert SECRET not in everything(mirror)
    assert live(mirror) == replayed(mirror) == {key: redaction.redact(person(2), RULES) for key in "12"}


def test_what_was_written_since_the_rule_came_is_not_counted(mirror: Database) -> None:
    plan(mirror, *RULES)
    with mirror.begin() as tx:
        revision = tx.draw()
    write(mirror, {"1": person(3), "2": person(3)}, revision=revision, target=LATER)
    assert (1, 7) == shown(mirror), "the deleted row keeps its object"


def test_a_rule_that_is_taken_back_and_comes_again_is_told_again(mirror: Database) -> None:
    plan(mirror, *RULES)
    rebuild.rebuild(mirror, LATER, progress=lambda _: None)
    plan(mirror, *RULES[:1])
    assert (0, 0) == shown(mirror)
    plan(mirror, *RULES)
    assert (3, 9) == shown(mirror)


def test_clearing_the_journal_goes_on_where_it_stopped(mirror: Database) -> None:
    plan(mirror, *RULES)
    with mirror.begin() as tx:
        (stored,) = tx.execute(sa.select(tables.streams.c.redaction)).scalars()
        streams.update(tx, "books", "invoices", redaction={**stored, "cleared": 3})
    assert 4 == shown(mirror)[1]
    rebuild.rebuild(mirror, LATER, progress=lambda _: None)
    with mirror.read() as tx:
        cleared = [SECRET not in str(after) for after in tx.execute(sa.select(tables.changes.c.after)).scalars()]
    assert [False] * 3 + [True] * (len(cleared) - 3) == cleared


@pytest.mark.parametrize("rules", [RULES, ("*.email",), ("**",), ("rows.*",), ("customer",), ()])
def test_earlier_values_lose_what_the_objects_would_lose(rules: tuple[str, ...]) -> None:
    """Where a rule names nothing that an index of a list could be."""
    before, after = person(1), {"v": 2, "rows": [{"note": "x"}, {"note": SECRET}]}
    whole, part = (diff.between(*pair) for pair in ((before, after), (after, before)))
    for changes, earlier in ((whole, before), (part, after)):
        kept = diff.redact(changes, rules)
        assert kept.keys() <= changes.keys()
        texts = [str(value) for value in kept.values() if value is not None]
        left = str(redaction.redact(earlier, rules))
        assert [] == [text for text in texts if SECRET in text and SECRET not in left]
    assert (whole if not rules else None) in (diff.redact(whole, rules), None)


@pytest.mark.parametrize(
    ("path", "rule", "kept"),
    [
        ("customer.email", "customer.email", {}),
        ("customer", "customer.email", {"customer": {"phone": "1"}}),
        ("rows.0.note", "rows.note", {}),
        ("rows.0", "rows.note", {"rows.0": {"email": "a", "phone": "1"}}),
        ("rows.0.name", "rows.note", {"rows.0.name": {"email": "a", "phone": "1"}}),
        ("a\\.b", "a.b", {"a\\.b": {"email": "a", "phone": "1"}}),
    ],
)
def test_a_rule_applies_to_a_dotted_path(path: str, rule: str, kept: dict[str, Any]) -> None:
    value = {"email": "a", "phone": "1"} | ({"note": "x"} if path == "rows.0" else {})
    assert kept == diff.redact({path: value}, [rule])
