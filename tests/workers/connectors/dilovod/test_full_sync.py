"""Full syncs: pages of ids and rows of registers, from the sandbox and from malformed answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette

from models import exact
from models.values import End, Line, Snapshot
from tests.serving import served
from tests.workers.connectors.dilovod.conftest import answering, made_options, opened
from workers.connectors.contract import standalone
from workers.connectors.dilovod import cursors, metadata
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.client import Client
from workers.connectors.dilovod.resources import resources
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.values import Chunk, JsonObject
    from workers.connectors.contract import Resource

RESOURCES = {resource.name: resource for resource in resources(made_options())}
ORDERS, GOODS, UNITS = (RESOURCES[name] for name in ("documents.saleOrder", "catalogs.goods", "catalogs.units"))
STOCK, PRICES = RESOURCES["balanceRegisters.goods"], RESOURCES["informationRegisters.goodsPrices"]
MISSING = "1109100000099999"


def read_all(client: Client, resource: Resource, cursor: str | None = None) -> tuple[list[Chunk], End]:
    """Every chunk of a full sync, each step continued from the cursor before."""
    chunks: list[Chunk] = []
    while True:
        page = list(client.list(resource, cursor))
        chunks += page
        end = page[-1].end
        assert end is not None
        assert [None] * (len(page) - 1) == [chunk.end for chunk in page[:-1]]
        if not end.more:
            return chunks, end
        cursor = end.cursor


def lines(chunks: Sequence[Chunk]) -> list[Line]:
    return [line for chunk in chunks for line in chunk.lines]


def snapshots(chunks: Sequence[Chunk]) -> dict[str, JsonObject]:
    return {snapshot.key: snapshot.raw for chunk in chunks for snapshot in chunk.snapshots}


# Full syncs


@pytest.mark.parametrize("resource", [ORDERS, GOODS, UNITS, RESOURCES["catalogs.persons"]], ids=lambda each: each.name)
def test_a_full_sync_lists_every_object(client: Client, sandbox: dilovod_sandbox.Sandbox, resource: Resource) -> None:
    chunks, end = read_all(client, resource)

    assert set(sandbox.truth(resource.name)) == {line.key for line in lines(chunks)}
    assert (end.complete, end.warning) == (True, None)


def test_a_listed_line_has_the_same_token_as_the_fetched_object(client: Client) -> None:
    chunks, _ = read_all(client, ORDERS)

    for line in lines(chunks):
        found = client.fetch(ORDERS, line.key)
        assert isinstance(found, Snapshot)
        assert found.listed == line.token


def test_any_change_changes_the_token(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    before, _ = read_all(client, ORDERS)
    changed, marked = sandbox.books.of(ORDERS.name)[:2]
    sandbox.books.touch(changed)
    sandbox.books.mark(marked)

    after, _ = read_all(client, ORDERS)

    assert {changed.id, marked.id} == {line.key for line in set(lines(after)) - set(lines(before))}
    assert [marked.id] == [line.key for line in lines(after) if line.marked]


def test_each_step_of_a_full_sync_is_one_request_and_needs_only_its_cursor() -> None:
    app = dilovod_sandbox.create(objects=0)
    books = app.state.sandbox.books
    added = {books.add("catalogs.persons", name={"ru": "", "uk": str(number)}).id for number in range(1001)}
    persons = RESOURCES["catalogs.persons"]
    cursor, named, sizes = None, set(), []
    while cursor != cursors.DONE:
        with opened(app) as client:
            (chunk,) = client.list(persons, cursor)
        assert chunk.end is not None
        sizes.append(len(chunk.lines))
        named |= {line.key for line in chunk.lines}
        cursor = chunk.end.cursor

    assert sizes == [0, 500, 500, 1]
    assert app.state.sandbox.requests == ["getMetadata", "request", "request", "request"]
    assert added == named


@pytest.mark.parametrize("resource", [ORDERS, STOCK], ids=lambda each: each.name)
def test_the_metadata_is_requested_once_and_cached(
    client: Client, sandbox: dilovod_sandbox.Sandbox, resource: Resource
) -> None:
    client.shape(resource)
    first, _ = read_all(client, resource)
    second, _ = read_all(client, resource)
    assert ["getMetadata", "request", "request"] == sandbox.requests
    assert (lines(first), snapshots(first)) == (lines(second), snapshots(second))


def test_metadata_older_than_a_day_is_requested_again(sandbox: dilovod_sandbox.Sandbox, app: Starlette) -> None:
    now = datetime.now(UTC)
    runtime = replace(standalone(), now=lambda: now)
    with served(app) as url:
        client = Client(made_options(url=url), runtime)
        read_all(client, UNITS)
        now += timedelta(hours=24)
        read_all(client, UNITS)
        now += timedelta(hours=2)
        read_all(client, UNITS)
        client.close()
    assert ["getMetadata", "request", "request", "getMetadata", "request"] == sandbox.requests


def test_a_refused_field_causes_a_new_request_for_the_metadata(
    sandbox: dilovod_sandbox.Sandbox, app: Starlette
) -> None:
    runtime = standalone()
    gone = {"dimensions": ["firm", "storage", "good", "shelf"], "resources": ["qty", "amount"]}
    metadata.MetadataCache(runtime).put(STOCK.name, gone)
    with served(app) as url:
        client = Client(made_options(url=url), runtime)
        chunks, end = read_all(client, STOCK)
        client.close()

    assert sandbox.truth(STOCK.name) == snapshots(chunks)
    assert end.complete
    assert ["request", "getMetadata", "request"] == sandbox.requests


def test_a_denied_resource_is_refused_after_one_metadata_request(
    client: Client, sandbox: dilovod_sandbox.Sandbox
) -> None:
    client.shape(ORDERS)
    sandbox.books.denied = {ORDERS.name}
    sandbox.requests.clear()
    with pytest.raises(SetAside, match="denied"):
        read_all(client, ORDERS)
    assert len(sandbox.requests) <= len(["request", "getMetadata", "request"])


@pytest.mark.parametrize(
    "cursor", [cursors.DONE, "{}", "not ours", '{"fields":["id"],"dimensions":[],"fallback_fields":[],"x":1}']
)
def test_a_finished_or_unknown_cursor_starts_a_new_run(
    client: Client, sandbox: dilovod_sandbox.Sandbox, cursor: str
) -> None:
    assert len(sandbox.truth(UNITS.name)) == len(lines(read_all(client, UNITS, cursor)[0]))


def test_if_the_version_is_refused_the_token_is_a_hash_of_the_row(
    client: Client, sandbox: dilovod_sandbox.Sandbox
) -> None:
    sandbox.books.unknown_fields = {"version"}
    before, end = read_all(client, ORDERS)
    changed = sandbox.books.of(ORDERS.name)[0]
    sandbox.books.touch(changed, remark="ще раз")

    after, _ = read_all(client, ORDERS)

    assert end.complete
    assert [changed.id] == [line.key for line in set(lines(after)) - set(lines(before))]


def test_without_a_version_in_the_metadata_the_token_is_a_hash_of_the_row(
    client: Client, sandbox: dilovod_sandbox.Sandbox
) -> None:
    del sandbox.books.kinds[UNITS.name].fields["version"]

    chunks, end = read_all(client, UNITS)

    assert set(sandbox.books.things) >= {line.key for line in lines(chunks)}
    assert 3 == len({line.token for line in lines(chunks)})
    assert end.complete


def test_a_repeated_page_ends_the_run_as_incomplete() -> None:
    page = {"columns": ["id", "version", "delMark"], "data": [[f"11091{n:011d}", "1", "0"] for n in range(500)]}
    position = cursors.Position(("id", "version", "delMark"), versioned=True)
    with opened(answering(exact.dumps(page))) as client:
        chunks, end = read_all(client, ORDERS, position.encode())

    assert len(chunks) == 2
    assert not end.complete
    assert end.warning is not None


def test_a_listing_without_end_is_abandoned() -> None:
    rows = [{"id": f"11091{number:011d}", "version": "1"} for number in range(500)]

    end = cursors.Position(("id", "version"), versioned=True, page=19_999).chunk(rows).end

    assert end is not None
    assert (end.more, end.complete) == (False, False)
    assert end.warning == "the listing did not end after 20000 pages"


def _versionless(count: int) -> list[dict[str, Any]]:
    return [{"id": f"11091{number:011d}", "version": None, "delMark": "0"} for number in range(count)]


def test_an_object_without_a_version_is_fetched_and_the_others_are_judged_by_theirs() -> None:
    first = cursors.Position(("id", "version", "delMark"), versioned=True, fallback_fields=("id", "code"))
    odd, marked = _versionless(2)
    rows = [odd, {"id": "1109100000000003", "version": "4", "delMark": "0"}, marked | {"delMark": "1"}]
    chunk = first.chunk(rows)

    assert [True, False, False] == [line.changed for line in chunk.lines]
    assert "4:0" == chunk.lines[1].token
    assert chunk.end is not None
    assert (True, None) == (chunk.end.complete, chunk.end.gap)


def test_many_objects_without_a_version_are_compared_by_header_fields_and_are_not_complete() -> None:
    first = cursors.Position(
        ("id", "version", "delMark"), versioned=True, fallback_fields=("id", "code"), unversioned=99
    )
    assert first.chunk(_versionless(1)).end == End(cursors.DONE, complete=True)
    end = first.chunk(_versionless(2)).end
    assert end is not None
    assert end.more
    again = cursors.Position.decode(end.cursor)
    assert cursors.Position(("id", "code", "version")) == again

    rows = [row | {"code": "1"} for row in _versionless(150)]
    chunk = again.chunk([*rows, {"id": "1109100000000999", "version": "4", "delMark": "0", "code": "1"}])
    changed = again.chunk([rows[0] | {"code": "2"}])
    assert ([True] * 100 + [False] * 51, "4:0") == ([line.changed for line in chunk.lines], chunk.lines[-1].token)
    assert changed.lines[0].token != chunk.lines[0].token
    assert chunk.end is not None
    assert chunk.end.gap is not None
    assert "Dilovod lists 150 objects without a version" in chunk.end.gap


def test_a_row_that_cannot_be_read_has_a_line_by_its_id_or_is_parked() -> None:
    page = (
        '[{"id":"1109100000000001","version":"4","delMark":"0"},{"id":"1109100000000002","version":None},{"id":None}]'
    )
    position = cursors.Position(("id", "version", "delMark"), versioned=True)
    with opened(answering(page)) as client:
        (chunk,) = client.list(ORDERS, position.encode())
    first, second = chunk.lines
    assert Line("1109100000000001", "4:0") == first
    assert "1109100000000002" == second.key
    assert ["the record is no JSON, and its key cannot be told"] == [row.reason for row in chunk.unreadable]


def test_a_listed_row_without_an_id_is_unreadable() -> None:
    page = [{"id": "1109100000000001", "version": "4", "delMark": "0"}, {"id": None, "version": "1", "delMark": "0"}]
    position = cursors.Position(("id", "version", "delMark"), versioned=True)
    with opened(answering(exact.dumps(page))) as client:
        (chunk,) = client.list(ORDERS, position.encode())

    assert [Line("1109100000000001", "4:0")] == chunk.lines
    assert [page[1]] == [row.raw for row in chunk.unreadable]


# Registers


@pytest.mark.parametrize("resource", [STOCK, PRICES], ids=lambda each: each.name)
def test_a_register_is_read_whole_and_keyed_by_its_dimensions(
    client: Client, sandbox: dilovod_sandbox.Sandbox, resource: Resource
) -> None:
    chunks, end = read_all(client, resource)

    assert sandbox.truth(resource.name) == snapshots(chunks)
    assert end.complete
    assert sandbox.requests == ["getMetadata", "request"]


def test_a_long_register_is_read_in_bounded_chunks_with_exact_numbers() -> None:
    rows = ",".join(f'{{"good":"{n}","qty":0.10000000000000000001}}' for n in range(1201))
    position = cursors.Position(("good", "qty"), dimensions=("good",))
    with opened(answering(f" \n[{rows}] ")) as client:
        chunks, end = read_all(client, STOCK, position.encode())

    assert [500, 500, 201, 0] == [len(chunk.snapshots) for chunk in chunks]
    assert str(snapshots(chunks)["7"]["qty"]) == "0.10000000000000000001"
    assert end.complete


def test_an_empty_dimension_is_a_value_and_an_absent_one_is_unreadable() -> None:
    rows = (
        '[{"good":"0","firm":"1"},{"good":null,"firm":"1"},{"good":"","firm":"2"},{"good":"3","firm":null},'
        '{"good":null,"firm":null},{"firm":"1","qty":1},"odd",{"good":{},"firm":"1"}]'
    )
    position = cursors.Position(("good", "firm"), dimensions=("good", "firm"))
    with opened(answering(rows)) as client:
        chunks, _ = read_all(client, STOCK, position.encode())

    assert ["0:1", ":1", ":2", "3:", ":"] == list(snapshots(chunks))
    assert ["a row without the field good, firm"] * 3 == [row.reason for chunk in chunks for row in chunk.unreadable]


def test_a_register_of_one_dimension_has_a_row_for_the_empty_one() -> None:
    position = cursors.Position(("good", "qty"), dimensions=("good",))
    with opened(answering('[{"good":null,"qty":"1"},{"good":"7","qty":"2"}]')) as client:
        assert ["", "7"] == list(snapshots(read_all(client, STOCK, position.encode())[0]))


BAR_CODES = [{"good": good, "barCode": f"{good}{number}", "unit": "1"} for good in "78" for number in range(3)]


def _keyed(key: str | list[str] | None) -> Resource:
    name = "informationRegisters.barCodes"
    (resource,) = resources(made_options(resources=[name], keys={name: key} if key else {}))
    return resource


def test_several_bar_codes_of_one_article_need_a_key_that_the_entry_names() -> None:
    position = cursors.Position(("good", "barCode", "unit"), dimensions=("good",))
    with opened(answering(exact.dumps(BAR_CODES))) as client:
        chunks, _ = read_all(client, _keyed(None), position.encode())
        named, _ = read_all(client, _keyed(["good", "barCode"]), position.encode())
        by_row, _ = read_all(client, _keyed("row"), position.encode())

    unreadable = [row for chunk in chunks for row in chunk.unreadable]
    assert ["different rows with the same good"] * 4 == [row.reason for row in unreadable]
    assert 'set keys."informationRegisters.barCodes" = ["barCode"] or keys.' in unreadable[0].remedy
    assert {f"{good}:{good}{number}" for good in "78" for number in range(3)} == set(snapshots(named))
    assert 6 == len(snapshots(by_row))
    assert 3 == len({_keyed(key).selection for key in (None, ["good", "barCode"], "row")})


def test_an_information_register_may_be_kept_by_some_of_its_dimensions() -> None:
    name = "informationRegisters.barCodes"
    (resource,) = resources(made_options(resources=[name], dimensions={name: ["barCode"]}))
    declared = {"dimensions": ["good", "barCode"], "resources": ["unit"], "reqs": []}
    position = cursors.Position.first(resource, declared, ["barCode"])
    assert ("barCode", "unit") == position.fields
    with opened(answering(exact.dumps(BAR_CODES))) as client:
        chunks, _ = read_all(client, resource, position.encode())
    assert {f"{good}{number}" for good in "78" for number in range(3)} == set(snapshots(chunks))


def test_a_field_that_only_the_key_names_is_asked_for() -> None:
    declared = {"dimensions": ["good"], "resources": ["price"], "reqs": []}
    assert ("good", "price", "date") == cursors.Position.first(_keyed(["good", "date"]), declared).fields


@pytest.mark.parametrize("keys", [{"catalogs.goods": ["code"]}, {"balanceRegisters.buyers": ["person"]}])
def test_only_a_mirrored_register_takes_a_key(keys: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="remove it here"):
        made_options(keys=keys)


ROWS = '[{"good":"1","qty":"5"},{"good":"1","qty":"5"},{"good":"1","qty":"7"},{"good":"2","qty":"1"}]'


def test_a_balance_that_is_not_summed_by_its_dimensions_parks_the_whole_resource() -> None:
    position = cursors.Position(("good", "qty"), dimensions=("good",))
    with (
        opened(answering(ROWS)) as client,
        pytest.raises(SetAside, match="rows have the same good: Dilovod does not") as raised,
    ):
        read_all(client, STOCK, position.encode())
    assert raised.value.whole_resource


def test_the_first_of_two_newest_values_is_kept_and_the_other_unreadable() -> None:
    position = cursors.Position(("good", "qty"), dimensions=("good",))
    with opened(answering(ROWS)) as client:
        chunks, end = read_all(client, PRICES, position.encode())

    assert {"1": {"good": "1", "qty": "5"}, "2": {"good": "2", "qty": "1"}} == snapshots(chunks)
    assert [{"good": "1", "qty": "7"}] == [row.raw for chunk in chunks for row in chunk.unreadable]
    assert end.complete


def test_a_register_without_dimensions_raises_set_aside() -> None:
    with (
        opened(answering('{"name":"balanceRegisters.goods","reqs":[]}')) as client,
        pytest.raises(SetAside, match="dimensions"),
    ):
        list(client.list(STOCK, None))
