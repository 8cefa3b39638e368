"""The write path: rows equal the objects, never go backwards, and each change is journaled once."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import exact
from models.bookkeeping import journal
from models.db.database import Database
from models.mirror import naming, prepare, queries
from models.values import ChangeKind, Kind, Snapshot
from tests.models.write_path import INVOICE, START, TARGET, fields, kinds, live, moment, replayed, row, rows, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_a_new_object_is_created_with_its_parts(database: Database) -> None:
    assert [("7", "created")] == kinds(write(database, {"7": INVOICE}))
    found = row(database, "7")
    assert {"number": Decimal(7), "total": Decimal("12.50"), "customer__code": "A1"} == fields(found)
    assert [(0, Decimal(1)), (1, Decimal(2))] == [
        (each["_position"], each["rn"]) for each in rows(database, part="rows")
    ]
    assert (INVOICE, moment(1), None, 1) == (
        found["_raw"],
        found["_first_seen_at"],
        found["_deleted_at"],
        found["_revision"],
    )


def test_an_equal_object_changes_and_journals_nothing(database: Database) -> None:
    write(database, {"7": INVOICE})
    before = row(database, "7")
    respelled = {**dict(reversed(INVOICE.items())), "total": Decimal("12.5000")}
    assert [] == write(database, {"7": respelled}, revision=2)
    assert before == row(database, "7")


def test_a_point_read_of_an_equal_object_raises_revision_and_observation_time(database: Database) -> None:
    write(database, {"7": INVOICE})
    assert [] == write(database, {"7": INVOICE}, revision=2, point=True)
    found = row(database, "7")
    assert (moment(2), moment(1), 2) == (found["_observed_at"], found["_changed_at"], found["_revision"])


def test_an_update_journals_the_earlier_values(database: Database) -> None:
    write(database, {"7": INVOICE})
    later = {"number": 7, "total": 13, "rows": [{"rn": 1, "price": Decimal("0.10")}], "paid": True, "a.b": 1}
    (change,) = write(database, {"7": later}, revision=2)
    assert ChangeKind.UPDATED is change.kind
    assert {
        "total": Decimal("12.50"),
        "customer": {"code": "A1"},
        "rows.0.price": None,
        "rows.1": {"rn": 2},
        "paid": None,
        "a\\.b": None,
    } == change.before
    assert later == change.after
    found = row(database, "7")
    assert (moment(1), moment(2)) == (found["_first_seen_at"], found["_changed_at"])
    assert [Decimal("0.10")] == [each["price"] for each in rows(database, part="rows")]


def test_a_lower_revision_never_overwrites_a_higher_one(database: Database) -> None:
    write(database, {"7": INVOICE}, revision=5)
    assert [] == write(database, {"7": {"number": 8}}, revision=4, listed={"7": "old"})
    assert [] == write(database, tombstones=["7"], revision=4)
    assert (INVOICE, 5, None) == (
        row(database, "7")["_raw"],
        row(database, "7")["_revision"],
        row(database, "7")["_listed"],
    )


def test_a_deletion_keeps_the_row_as_last_seen_and_removes_its_parts(database: Database) -> None:
    write(database, {"7": INVOICE, "8": INVOICE})
    (change,) = write(database, tombstones=["7", "unknown"], revision=2)
    assert ("7", ChangeKind.DELETED, None, None) == (change.key, change.kind, change.before, change.after)
    found = row(database, "7")
    assert (moment(2), INVOICE, Decimal("12.50"), 2) == (
        found["_deleted_at"],
        found["_raw"],
        found["total"],
        found["_revision"],
    )
    assert {"8"} == {each["_key"] for each in rows(database, part="rows")}


def test_a_deleted_object_changes_nothing_more(database: Database) -> None:
    write(database, {"7": INVOICE})
    write(database, tombstones=["7"], revision=2)
    assert [] == write(database, tombstones=["7"], revision=3, listed={"7": "marked"}, point=True)
    found = row(database, "7")
    assert (moment(2), moment(3), "marked") == (found["_deleted_at"], found["_observed_at"], found["_listed"])


@pytest.mark.parametrize("again", [INVOICE, {**INVOICE, "total": 1}])
def test_an_object_that_comes_back_is_restored_with_its_parts(database: Database, again: dict[str, Any]) -> None:
    write(database, {"7": INVOICE})
    write(database, tombstones=["7"], revision=2)
    (change,) = write(database, {"7": again}, revision=3)
    assert (ChangeKind.RESTORED, None, again) == (change.kind, change.before, change.after)
    assert row(database, "7")["_deleted_at"] is None
    assert 2 == len(rows(database, part="rows"))


def test_of_two_snapshots_in_one_batch_the_last_counts(database: Database) -> None:
    changes = write(database, [Snapshot("7", {"n": 1}), Snapshot("8", {"n": 1}), Snapshot("7", {"n": 2})])
    assert [("7", {"n": 2}), ("8", {"n": 1})] == [(change.key, change.after) for change in changes]


def test_changes_come_in_the_order_of_the_keys(database: Database) -> None:
    write(database, {key: {"n": 1} for key in ("b", "B", "ä", "1")})
    changes = write(database, {key: {"n": 2} for key in ("ä", "b", "a")}, tombstones=["B", "1"], revision=2)
    assert ["1", "B", "a", "b", "ä"] == [change.key for change in changes]


def test_tokens_are_stored_for_equal_rows_too(database: Database) -> None:
    write(
        database, [Snapshot("1", {"n": 1}, listed="v1"), Snapshot("2", {"n": 1}), Snapshot("3", {"n": 1}, listed="v1")]
    )
    assert [] == write(
        database, {"1": {"n": 1}, "2": {"n": 1}, "3": {"n": 1}}, revision=2, listed={"1": "v2", "2": "w"}
    )
    write(database, {"3": {"n": 2}}, revision=3)
    with database.read() as tx:
        tokens = queries.listed_tokens(tx, TARGET, ["1", "2", "3", "4"])
    assert {"1": ("v2", False), "2": ("w", False), "3": (None, False)} == tokens


def test_a_snapshots_own_token_wins_over_the_listings(database: Database) -> None:
    write(database, [Snapshot("1", {"n": 1}, listed="fetched")], listed={"1": "earlier"})
    assert "fetched" == row(database, "1")["_listed"]


def test_a_new_rule_rewrites_the_row_and_journals_no_change(database: Database) -> None:
    write(database, [Snapshot("7", INVOICE, listed="v1")])
    ruled = replace(TARGET, hints={"": {"number": Kind.TEXT}})
    assert [] == write(database, {"7": INVOICE}, revision=2, target=ruled)
    found = row(database, "7")
    assert (moment(1), moment(2), 2, "v1") == (
        found["_changed_at"],
        found["_observed_at"],
        found["_revision"],
        found["_listed"],
    )


def test_an_omitted_field_is_neither_stored_nor_journaled(database: Database) -> None:
    write(database, {"7": {"n": 1, "debtor": {"password": "hunter2", "name": "A"}}})
    ruled = replace(TARGET, omit=("**.Password",))
    (change,) = write(
        database, {"7": {"n": 2, "debtor": {"password": "hunter3", "name": "A"}}}, revision=2, target=ruled
    )
    assert {"n": 1} == change.before
    found = row(database, "7")
    assert "hunter" not in repr((change, found))
    assert found["debtor__password"] is None


QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


texts = st.text(alphabet=st.characters(codec=None), max_size=12)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**1200), max_value=10**1200)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["0000-00-00", "9999-12-31T23:59:59-14:00", "0001-01-01", "\0", "\ud800", "1e999999", "-0.00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@QUICK
@given(st.lists(st.dictionaries(texts, anything, max_size=5), min_size=1, max_size=4))
def test_any_json_is_stored_and_comes_back_equal(database: Database, objects: list[Any]) -> None:
    with database.begin() as tx:
        revision = database.draw(tx)
    write(database, {str(number): item for number, item in enumerate(objects)}, revision=revision)
    for number, item in enumerate(objects):
        assert exact.same(exact.storable(item), row(database, str(number))["_raw"])


def test_a_very_deep_and_a_very_wide_object_are_stored(database: Database) -> None:
    deep: Any = {"x": 1}
    for _ in range(300):
        deep = {"x": [deep]}
    write(database, {"deep": deep, "wide": {f"f{number}": [{"a": number}] for number in range(200)}})
    assert 2 == len(rows(database))


@pytest.fixture
def statements(database: Database) -> Iterator[Callable[[], int]]:
    seen: list[str] = []

    def count(_c: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", count)

    def taken() -> int:
        number = len(seen)
        seen.clear()
        return number

    yield taken
    sa.event.remove(database.engine, "before_cursor_execute", count)


def test_no_statement_is_repeated_for_each_row(database: Database, statements: Callable[[], int]) -> None:
    counted = []
    for size in (150, 400):
        target = replace(TARGET, connection=f"of {size}")
        objects = {str(number): {**INVOICE, "number": number} for number in range(size)}
        write(database, {"0": INVOICE}, target=target)
        statements()
        write(database, objects, target=target)
        created = statements()
        write(database, {key: {**item, "total": 1} for key, item in objects.items()}, target=target, revision=2)
        updated = statements()
        write(database, objects, target=target, revision=3, listed=dict.fromkeys(objects, "v"), point=True)
        write(database, objects, target=target, revision=4, listed=dict.fromkeys(objects, "w"), point=True)
        touched = statements()
        write(database, tombstones=list(objects), target=target, revision=5)
        counted.append((created, updated, touched, statements()))
    assert counted[0] == counted[1]
    assert max(counted[0]) <= 20


@pytest.mark.postgresql
def test_writers_of_the_same_keys_in_opposite_orders_never_deadlock(database: Database) -> None:
    other = Database(database.url)
    numbers = [str(number) for number in range(60)]
    failures: list[BaseException] = []

    def run(mine: Database, order: list[str], start: int) -> None:
        try:
            for revision in range(start, start + 30, 2):
                write(mine, {key: {"n": revision, "rows": [{"a": revision}]} for key in order}, revision=revision)
        except BaseException as error:  # noqa: BLE001 - a failure in the thread fails the test
            failures.append(error)

    prepare.prepare(database, TARGET, [Snapshot("0", {"n": 1, "rows": [{"a": 1}]})])
    threads = [
        threading.Thread(target=run, args=(database, numbers, 1)),
        threading.Thread(target=run, args=(other, numbers[::-1], 2)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    other.close()
    assert [] == failures
    assert {"n": 30, "rows": [{"a": 30}]} == row(database, "59")["_raw"]
    assert live(database) == replayed(database)


def test_the_same_batch_twice_at_once_is_created_once(database: Database) -> None:
    other = Database(database.url)
    together = threading.Barrier(2)
    created: list[tuple[str, str]] = []

    def run(mine: Database) -> None:
        together.wait(timeout=10)
        created.extend(kinds(write(mine, {"1": {"n": 1}, "2": {"n": 1}})))

    prepare.prepare(database, TARGET, [Snapshot("1", {"n": 1})])
    threads = [threading.Thread(target=run, args=(mine,)) for mine in (database, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    other.close()
    assert [("1", "created"), ("2", "created")] == sorted(created)


def test_many_objects_are_journaled_like_one(database: Database) -> None:
    others = replace(TARGET, connection="others")
    write(database, {"042": {"n": "another connection's"}}, target=others)
    write(database, {"042": {"n": 0}, "077": {"n": 0}, "150": {"n": 0}})
    odd = 'a tab\t, a "quote", \\ and \u2028'
    many = {f"{number:03}": {"n": Decimal(f"{number}.50"), "text": odd} for number in range(149)}
    changes = write(database, many, tombstones=["150"], revision=2)
    with database.read() as tx:
        entries = journal.read(tx, after=4, limit=1000)
    assert list(range(5, 155)) == [entry.id for entry in entries]
    journaled = {entry.key: (entry.kind, entry.before, entry.after) for entry in entries}
    assert {change.key: (change.kind, change.before, change.after) for change in changes} == journaled
    assert {"created": 147, "updated": 2, "deleted": 1} == Counter(kind for kind, *_ in journaled.values())
    assert many == {key: after for key, (_, _, after) in journaled.items() if after is not None}


def test_a_table_is_named_as_documented() -> None:
    assert "directo_invoices__rows" == naming.table_name("directo", "invoices", "rows")
    assert START < moment(1)
