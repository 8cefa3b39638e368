"""Batches: what `request` shows of many objects is what `getObject` shows of each, or the batch says that it is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from models import exact
from models.values import Tombstone
from tests.workers.connectors.dilovod.conftest import made_options, opened
from tests.workers.connectors.dilovod.disagreements import DISAGREEMENTS, grow_a_header, grow_declared_rows
from workers.connectors.dilovod import resources
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.batch_plan import ENOUGH, Plan, difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.values import Batch, JsonObject
    from workers.connectors.contract import Resource
    from workers.connectors.dilovod.client import Client
    from workers.connectors.dilovod.sandbox import Sandbox

GOODS, PERSONS, ORDERS = "catalogs.goods", "catalogs.persons", "documents.saleOrder"
LINES = f"{ORDERS}.tpGoods"
OBJECTS = 130


@dataclass
class Account:
    """A sandbox of `OBJECTS` goods, persons and orders, and a client of it."""

    sandbox: Sandbox
    client: Client
    plan: dict[str, str | None] = field(default_factory=dict)

    def resource(self, name: str) -> Resource:
        return next(each for each in resources.resources(made_options()) if each.name == name)

    def keys(self, name: str) -> list[str]:
        return [thing.id for thing in self.sandbox.books.of(name)]

    def batch(self, name: str, keys: list[str] | None = None) -> Batch:
        found = self.client.fetch_many(self.resource(name), keys or self.keys(name), self.plan.get(name))
        self.plan[name] = found.plan
        return found

    def proved(self, name: str) -> None:
        """Prove the plan by two steps, each of which reads ten objects."""
        for _ in range(2):
            found = self.batch(name)
            assert (10, None, {}) == (len(found.snapshots), found.refusal, found.alone)
        self.sandbox.requests.clear()

    def right(self, batch: Batch, name: str) -> list[str]:
        """The keys of the batch's objects, each of which is as `getObject` shows it."""
        truth = self.sandbox.truth(name)
        for each in batch.snapshots:
            assert exact.canonical(truth[each.key]) == exact.canonical(each.raw)
            found = self.client.fetch(self.resource(name), each.key)
            assert not isinstance(found, Tombstone)
            assert (found.raw, found.listed) == (each.raw, each.listed)
        return [each.key for each in batch.snapshots]


@pytest.fixture
def account() -> Iterator[Account]:
    app = dilovod_sandbox.create(seed=3, objects=OBJECTS)
    with opened(app) as client:
        yield Account(app.state.sandbox, client)


@pytest.mark.parametrize(("name", "requests"), [(PERSONS, 1), (ORDERS, 3)])
def test_a_batch_brings_every_object_as_get_object_shows_it(account: Account, name: str, requests: int) -> None:
    account.proved(name)
    found = account.batch(name)
    counts = {each: account.sandbox.requests.count(each) for each in ("request", "getObject")}
    assert {"request": requests, "getObject": 2} == counts
    assert sorted(account.keys(name)) == sorted(account.right(found, name))
    assert (None, False, {}) == (found.refusal, found.distrusted, found.alone)


def test_a_part_that_all_samples_had_empty_is_learned_from_the_first_object_with_rows(account: Account) -> None:
    account.proved(GOODS)  # only the last one has rows
    found = account.batch(GOODS)
    assert sorted(account.keys(GOODS)) == sorted(account.right(found, GOODS))
    plan = Plan.decode(found.plan, _fingerprint(found.plan))
    assert plan.parts["tpGoods"].rows is not None
    assert ENOUGH == plan.proved


def _fingerprint(plan: str | None) -> str:
    return str(exact.loads(plan or "{}")["metadata"])


@pytest.mark.parametrize("disagree", DISAGREEMENTS, ids=lambda each: each.__name__)
def test_what_request_shows_differently_refuses_the_proof(
    account: Account, disagree: Callable[[Sandbox], None]
) -> None:
    disagree(account.sandbox)
    found = account.batch(ORDERS)
    for _ in range(3):
        if found.refusal is None:
            found = account.batch(ORDERS)
    assert DISAGREEMENTS[disagree] in str(found.refusal)
    assert (None, False) == (found.plan, found.distrusted)
    account.right(found, ORDERS)  # what was read by `getObject` is kept


@pytest.mark.parametrize("disagree", DISAGREEMENTS, ids=lambda each: each.__name__)
def test_a_disagreement_that_comes_after_the_proof_discards_the_batch_and_distrusts_earlier_ones(
    account: Account, disagree: Callable[[Sandbox], None]
) -> None:
    account.proved(ORDERS)
    disagree(account.sandbox)
    found = account.batch(ORDERS)
    for _ in range(20):  # a random object shows it, and only some have it
        if found.refusal is None:
            found = account.batch(ORDERS)
    assert DISAGREEMENTS[disagree].partition(":")[0] in str(found.refusal) or "another tpGoods" in str(found.refusal)
    assert (None, True) == (found.plan, found.distrusted)
    account.right(found, ORDERS)


@pytest.mark.parametrize("grow", [grow_a_header, grow_declared_rows], ids=lambda each: each.__name__)
def test_a_declared_field_that_the_samples_did_not_have_is_noticed_by_its_first_value(
    account: Account, grow: Callable[[Sandbox], None]
) -> None:
    grow(account.sandbox)
    found = account.batch(ORDERS)
    for _ in range(2):
        if found.refusal is None:
            found = account.batch(ORDERS)
    assert "objects have different fields" in str(found.refusal)


def test_newer_metadata_void_the_plan(account: Account) -> None:
    account.proved(ORDERS)
    for order in account.sandbox.books.of(ORDERS):
        order.header["shelf"] = ""
    account.sandbox.books.kinds[ORDERS].fields["shelf"] = "varchar (9)"
    found = account.batch(ORDERS)
    assert (None, None, True) == (found.plan, found.refusal, found.distrusted)
    account.proved(ORDERS)
    assert sorted(account.keys(ORDERS)) == sorted(account.right(account.batch(ORDERS), ORDERS))


def _save(account: Account, place: str) -> str:
    """An object is saved just after `place` was read: its lines change with its version."""
    order = account.sandbox.books.of(ORDERS)[5]

    def save() -> None:
        order.parts["tpGoods"][0]["qty"] = "99.000"
        account.sandbox.books.touch(order, remark="saved")

    account.sandbox.books.requests.meanwhile[place] = save
    return order.id


@pytest.mark.parametrize("place", [ORDERS, LINES])
def test_an_object_that_is_saved_between_its_header_and_its_lines_is_left_alone(account: Account, place: str) -> None:
    account.proved(ORDERS)
    key = _save(account, place)
    found = account.batch(ORDERS)
    if key not in found.alone:  # it is one of those that were read both ways
        assert key in account.right(found, ORDERS)
    assert {key} >= found.alone.keys()
    assert {*account.keys(ORDERS)} - {key} <= {*account.right(found, ORDERS)}


def test_a_linked_object_that_is_renamed_meanwhile_is_no_disagreement(account: Account) -> None:
    account.proved(ORDERS)
    books = account.sandbox.books

    def rename() -> None:
        books.touch(books.of("catalogs.firms")[0], name={"uk": "ФОП Інший", "ru": "ФОП Другой"})

    books.requests.meanwhile[LINES] = rename
    found = account.batch(ORDERS)
    assert (None, False, OBJECTS) == (found.refusal, found.distrusted, len(found.snapshots))


def test_answers_in_any_order_and_repeated_rows_give_no_wrong_object(account: Account) -> None:
    account.proved(ORDERS)
    account.sandbox.books.requests.shuffles = True
    found = account.batch(ORDERS)
    assert sorted(account.keys(ORDERS)) == sorted(account.right(found, ORDERS))
    account.sandbox.books.requests.repeats = True
    found = account.batch(ORDERS)
    assert {*found.alone} | {*account.right(found, ORDERS)} == {*account.keys(ORDERS)}
    assert found.alone


def test_rows_that_do_not_fit_into_an_answer_are_asked_for_by_fewer_owners(account: Account) -> None:
    account.proved(ORDERS)
    books = account.sandbox.books
    for order in books.of(ORDERS):
        for _ in range(8):
            account.sandbox._order_row(order, books.random)
    found = account.batch(ORDERS)
    assert sorted(account.keys(ORDERS)) == sorted(account.right(found, ORDERS))
    for _ in range(500):
        account.sandbox._order_row(order, books.random)
    assert [order.id] == list(account.batch(ORDERS).alone)


def _give_rows(account: Account, count: int) -> None:
    books = account.sandbox.books
    for order in books.of(ORDERS):
        for _ in range(count):
            books.add_row(order, "tpGoods", good=books.of(GOODS)[0].id)


def test_a_batch_has_no_more_objects_than_a_few_answers_hold_rows_of(account: Account) -> None:
    _give_rows(account, 40)
    account.proved(ORDERS)
    found = account.batch(ORDERS)
    brought = account.right(found, ORDERS)
    assert account.keys(ORDERS)[: len(brought)] == sorted(brought)
    assert 50 < len(brought) < OBJECTS
    assert account.sandbox.requests.count("request") <= 2 + 8 + 1


def test_where_objects_have_too_many_rows_for_batches_that_is_said_and_nothing_is_distrusted(account: Account) -> None:
    account.proved(ORDERS)
    _give_rows(account, 200)
    found = account.batch(ORDERS)
    account.right(found, ORDERS)
    found = account.batch(ORDERS, account.keys(ORDERS)[-20:])
    assert ("its objects have too many rows for batches", False) == (found.refusal, found.distrusted)


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("longest", [50, 64, 100])
def test_the_longest_list_that_dilovod_takes_is_found_and_remembered(
    account: Account,
    longest: int,
    cuts: bool,  # noqa: FBT001 - a column of a truth table
) -> None:
    knobs = account.sandbox.books.requests
    knobs.longest_list, knobs.cuts_lists = longest, cuts
    account.proved(ORDERS)
    first = account.right(account.batch(ORDERS), ORDERS)
    rest = [key for key in account.keys(ORDERS) if key not in first]
    account.sandbox.requests.clear()
    second = account.batch(ORDERS, rest)
    assert 50 <= len(first) <= longest
    assert (3, {}) == (account.sandbox.requests.count("request"), second.alone)
    assert len(account.right(second, ORDERS)) == min(len(first), len(rest))


def test_deleted_marked_and_versionless_objects_are_left_to_point_reads(account: Account) -> None:
    account.proved(ORDERS)
    books = account.sandbox.books
    gone, marked, versionless, *_ = books.of(ORDERS)
    keys = account.keys(ORDERS)
    books.remove(gone)
    books.mark(marked)
    versionless.header["version"] = ""
    found = account.batch(ORDERS, keys)
    assert {gone.id, marked.id, versionless.id} == found.alone.keys()
    assert {*keys} - found.alone.keys() == {*account.right(found, ORDERS)}


def test_a_plan_of_another_release_is_learned_anew(account: Account) -> None:
    account.plan[PERSONS] = '{"metadata":"x","more":[]}'
    account.proved(PERSONS)


@pytest.mark.parametrize(
    ("shown", "assembled", "where"),
    [
        ({"header": {"a": "1"}}, {"header": {"a": "1"}}, None),
        ({"header": {"a": "1"}}, {"header": {"a": 1}}, "header.a"),
        ({"header": {"a": "1", "b": None}}, {"header": {"a": "1"}}, "header.b"),
        ({"tableParts": {"tp": {"7": {"x": "1"}}}}, {"tableParts": {"tp": {"7": {"x": "2"}}}}, "tp.x"),
        ({"tableParts": {"tp": []}}, {"tableParts": {"tp": {}}}, "tp"),
        ({"misc": False}, {"misc": None}, "misc"),
    ],
)
def test_a_difference_is_named_by_its_field_and_shows_no_value(
    shown: JsonObject, assembled: JsonObject, where: Any
) -> None:
    assert where == difference(shown, assembled)
