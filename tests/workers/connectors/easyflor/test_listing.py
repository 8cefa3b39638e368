from __future__ import annotations

import tomllib
import tracemalloc
from datetime import UTC, date, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from models.values import ObjectRef, Snapshot, Tombstone
from tests.serving import served
from tests.workers.connectors.easyflor.conftest import Account, options
from workers.connectors import contract
from workers.connectors.easyflor import resources
from workers.connectors.easyflor.client import Client
from workers.connectors.easyflor.sandbox_data import TABLES
from workers.errors import ClosedError, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

CLOSED = pytest.mark.parametrize("account", [{"closed": True}], indirect=True)


@pytest.mark.parametrize("name", TABLES)
def test_a_full_sync_lists_every_object_as_sent(account: Account, name: str) -> None:
    listing = account.list_all(name)
    assert account.sandbox.truth(name) == listing.objects
    assert (name != "invoice") == listing.end.complete


def test_a_full_sync_by_days_starts_at_the_setting_since_and_is_not_complete(
    account: Account,
) -> None:
    assert not account.list_all("invoice").end.complete
    assert "GET InvoiceSinceDate/20000101" == account.sandbox.requests[-1]


def test_a_point_read_returns_the_debtor_or_a_tombstone(account: Account) -> None:
    assert Snapshot("417", account.sandbox.truth("debtor")["417"]) == account.fetch("debtor", "417")
    assert Tombstone("9") == account.fetch("debtor", "9")


@pytest.mark.parametrize("key", ["417?x=1", "417/1", "417#1", "%34%31%37"])
def test_a_key_is_percent_encoded_in_the_address(account: Account, key: str) -> None:
    assert Tombstone(key) == account.fetch("debtor", key)
    assert f"GET debtor/{key}" == account.sandbox.requests[-1]


def test_a_point_read_accepts_an_object_or_a_list_of_one() -> None:
    def answer(request: Request) -> JSONResponse:
        if request.method == "POST":
            return JSONResponse({"Token": "t", "Expiration": "2099-01-01T00:00:00Z"})
        key = request.path_params["path"].removeprefix("debtor/")
        return JSONResponse({"417": {"Id": 417}, "418": [], "419": [{"Id": 420}], "420": None}[key])

    app = Starlette(routes=[Route("/api/{path:path}", answer, methods=["GET", "POST"])])
    with served(app) as url:
        given = options(url)
        client, (debtor,) = Client(given, contract.standalone()), resources.resources(given)
        assert Snapshot("417", {"Id": 417}) == client.fetch(debtor, "417")
        assert Tombstone("418") == client.fetch(debtor, "418")
        for key in ("419", "420"):
            with pytest.raises(TryLater, match=f"did not answer with debtor {key} when asked"):
                client.fetch(debtor, key)
        client.close()


def test_a_poll_reads_the_last_days_again_by_easyflors_clock(account: Account) -> None:
    cursor = account.list_all("debtor").end.cursor
    account.clock.advance(days=5)
    account.sandbox.day.edit_debtor(Random(1))
    poll = account.list_all("debtor", cursor)
    assert 1 == len(poll.objects)
    assert not poll.end.complete
    account.list_all("debtor", poll.end.cursor)
    days = [asked.removeprefix("GET debtorsincedate/") for asked in account.sandbox.requests[-2:]]
    assert ["20260530", "20260604"] == days


@pytest.mark.parametrize("account", [{"overlap_days": 4, "since_format": "yyyy-MM-dd"}], indirect=True)
def test_overlap_and_form_of_days_are_configurable(account: Account) -> None:
    account.sandbox.form = "%Y-%m-%d"
    account.list_all("debtor", account.list_all("debtor").end.cursor)
    assert "GET debtorsincedate/2026-05-28" == account.sandbox.requests[-1]


def test_without_a_date_header_a_poll_asks_from_a_day_earlier() -> None:
    asked: list[str] = []

    def answer(request: Request) -> JSONResponse:
        asked.append(request.path_params["path"])
        return JSONResponse({"Token": "t", "Expiration": "soon"} if request.method == "POST" else [])

    app = Starlette(routes=[Route("/api/{path:path}", answer, methods=["GET", "POST"])])
    with served(app, date_header=False) as url:
        given = options(url, overlap_days=1)
        client, (debtor,) = Client(given, contract.standalone()), resources.resources(given)
        before = datetime.now(UTC).date()
        (*_, last) = client.list(debtor, None)
        assert last.end is not None
        list(client.list(debtor, last.end.cursor))
        client.close()
        after = datetime.now(UTC).date()
    day = datetime.strptime(asked[-1].removeprefix("debtorsincedate/"), "%Y%m%d").replace(tzinfo=UTC).date()
    assert before.toordinal() - 2 <= day.toordinal() <= after.toordinal() - 2


@CLOSED
def test_only_full_syncs_of_large_collections_are_refused_as_closed(account: Account) -> None:
    account.clock.now = datetime(2026, 6, 1, 19, tzinfo=UTC)
    cursor = account.list_all("debtor").end.cursor
    account.clock.now = datetime(2026, 6, 2, 12, tzinfo=UTC)
    for name in ("debtor", "article", "purchase"):
        with pytest.raises(ClosedError, match="ApiOpeningHoursException"):
            account.list_all(name)
    account.list_all("debtor", cursor)
    account.fetch("debtor", "417")
    account.list_all("country")


@CLOSED
@pytest.mark.parametrize(
    ("configured", "now", "until"),
    [
        (["20:00-04:00"], "2026-06-01T19:00", "2026-06-01T20:00"),
        (["20:00-04:00"], "2026-06-01T21:00", "2026-06-02T18:00"),
        ([], "2026-06-01T12:00", "2026-06-01T18:00"),
        ([], "2026-06-01T17:59", "2026-06-01T18:00"),
        ([], "2026-06-01T18:00", "2026-06-02T18:00"),
        ([], "2026-06-01T19:00", "2026-06-02T18:00"),
    ],
)
def test_a_closed_answer_names_the_next_opening_by_settings_or_document(
    account: Account, configured: list[str], now: str, until: str
) -> None:
    account.sandbox.hours = ("22:00", "05:00")
    account.clock.now = datetime.fromisoformat(now).replace(tzinfo=UTC)
    with account.another(opening_hours=configured) as client, pytest.raises(ClosedError) as raised:
        list(client.list(account.resource("debtor"), None))
    assert datetime.fromisoformat(until).replace(tzinfo=UTC) == raised.value.until


@CLOSED
def test_a_probe_reports_closed_hours_and_an_empty_collection(account: Account) -> None:
    account.sandbox.books.tables["country"].clear()
    assert "closed until 2026-06-01 18:00 UTC" in account.client.probe(account.resource("article"))
    assert "it is empty" in account.client.probe(account.resource("country"))
    assert "nothing changed today" == account.client.probe(account.resource("debtor"))


def test_a_probe_reads_only_the_first_object(account: Account) -> None:
    assert "its objects have ArticlegroupId, Id, Name, PriceDefault" in account.client.probe(
        account.resource("article")
    )


def test_a_probe_names_the_fields_of_objects_that_have_another_key(account: Account) -> None:
    account.sandbox.books.tables["country"][:] = [{"IsoCode": "NLD", "Secret": "value"}]
    with pytest.raises(
        SetAside, match=r'country without Id; it has IsoCode, Secret; set keys.country = "row"'
    ) as raised:
        account.client.probe(account.resource("country"))
    assert "value" not in str(raised.value)


def test_check_returns_easyflors_clock(account: Account) -> None:
    assert account.clock.now == account.client.check().clock


@pytest.mark.parametrize("form", ["%Y%m%d", "%Y-%m-%d"])
def test_check_works_with_both_forms_of_days(account: Account, form: str) -> None:
    account.sandbox.form = form
    assert "EasyFlor-Demo" in account.client.check().summary


@pytest.mark.parametrize("record", [{"Name": "no id"}, {"Id": None}, {"Id": ""}, {"Id": True}, 7, None, "text"])
def test_a_record_without_key_is_unreadable_and_others_are_kept(record: Any) -> None:
    with _serving([{"Id": 1}, record]) as (client, country):
        chunks = list(client.list(country, None))
    assert [Snapshot("1", {"Id": 1})] == [row for chunk in chunks for row in chunk.snapshots]
    (unreadable,) = [row for chunk in chunks for row in chunk.unreadable]
    assert (record if isinstance(record, dict) else {"value": record}) == unreadable.raw


def test_records_without_the_key_share_a_reason_and_name_the_setting_that_tells_them_apart() -> None:
    records = [{"Code": f"C{number}", "Price": number % 3} for number in range(20)]
    with _serving([{"Id": 1}, *records]) as (client, country):
        chunks = list(client.list(country, None))
    unreadable = [row for chunk in chunks for row in chunk.unreadable]
    assert {"an object of country without Id"} == {row.reason for row in unreadable}
    assert {'set keys.country = "row" (then a hash of the whole row is its key)'} == {row.remedy for row in unreadable}
    with _serving(records) as (client, country):
        (row, *_) = next(iter(client.list(country, None))).unreadable
    assert 'set keys.country = ["Code"] or keys.country = "row"' in row.remedy


def test_debtors_without_an_id_name_the_setting_that_is_accepted_for_them() -> None:
    debtors = [{"Code": f"C{number}", "Name": "same"} for number in range(3)]
    with _serving(debtors, resource="debtor") as (client, debtor):
        (row, *_) = next(iter(client.list(debtor, None))).unreadable
        with pytest.raises(SetAside) as refused:
            client.probe(debtor)
    assert row.remedy.startswith('set own.debtor = { path = "debtor", key = "Code" }')
    assert "set own.debtor" in str(refused.value)
    set_as_told = tomllib.loads(row.remedy.removeprefix("set ").partition(", with")[0])
    with _serving(debtors, resource="debtor", **set_as_told) as (client, debtor):
        assert ["C0", "C1", "C2"] == [row.key for chunk in client.list(debtor, None) for row in chunk.snapshots]


def test_settings_may_name_other_keys_or_the_whole_row() -> None:
    records = [{"Code": "A", "Lang": None, "Name": "x"}, {"Code": "A", "Lang": "nl", "Name": "x"}]
    named, by_row, default = (
        {each.name: each for each in resources.resources(options(resources=["country"], keys=keys))}["country"]
        for keys in ({"country": ["Code", "Lang"]}, {"country": "row"}, {})
    )
    with _serving(records) as (client, _):
        assert ["A:", "A:nl"] == [row.key for chunk in client.list(named, None) for row in chunk.snapshots]
        assert 2 == len({row.key for chunk in client.list(by_row, None) for row in chunk.snapshots})
    assert (True, False, None) == (by_row.register, by_row.fetchable, by_row.every)
    assert 3 == len({named.selection, by_row.selection, default.selection})


@pytest.mark.parametrize("keys", [{"debtor": ["Name"]}, {"article": "row"}, {"country": []}, {"country": "Code"}])
def test_a_key_that_cannot_be_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="key"):
        options(resources=["country", "debtor"], keys=keys)


def test_ids_become_texts() -> None:
    with _serving([{"Id": 7}, {"Id": "007"}, {"Id": "debtors/8"}]) as (client, country):
        chunks = list(client.list(country, None))
    assert ["7", "007", "debtors/8"] == [row.key for chunk in chunks for row in chunk.snapshots]


def test_an_equal_record_repeated_in_one_reply_is_not_enqueued(account: Account) -> None:
    account.table.append(account.table[0])
    assert [] == account.list_all("debtor").refs


def test_a_debtor_with_two_states_in_one_reply_is_enqueued(account: Account) -> None:
    account.table.append(account.table[0] | {"Name": "other"})
    assert [ObjectRef("debtor", "417")] == account.list_all("debtor").refs


def test_a_second_object_with_the_same_key_is_unreadable() -> None:
    with _serving([{"Id": 1, "Name": "one"}, {"Id": 1, "Name": "other"}]) as (client, country):
        chunks = list(client.list(country, None))
    (unreadable,) = [row for chunk in chunks for row in chunk.unreadable]
    assert {"Id": 1, "Name": "other"} == unreadable.raw


def test_ask_takes_easyflors_addresses(account: Account) -> None:
    ask = account.client.ask
    assert [account.sandbox.truth("debtor")["417"]] == ask(["debtor/417"])
    assert [] == ask(["debtorsincedate/20260601"])
    assert [1, 2, 3] == [each["Id"] for each in ask(["ListArticleSort", "1,2,3"])]
    assert [417, 417] == [each["DebtorId"] for each in ask(["DebtorListArticleSortPrice", "417", "1,2"])]


@pytest.mark.parametrize(
    "words",
    [
        [],
        [""],
        ["debtor/417", "x"],
        ["../authorization"],
        ["debtor/../x"],
        ["https://elsewhere.example/"],
        ["//elsewhere.example/"],
        ["debtor?x=1"],
        ["authorizationtoken"],
        ["Unauthorization/"],
        ["ListArticleSort"],
        ["DebtorListArticleSortPrice/", "1,2"],
    ],
)
def test_ask_refuses_addresses_that_cannot_be_read(account: Account, words: list[str]) -> None:
    with pytest.raises(SetAside, match="as in: debtor/417"):
        account.client.ask(words)
    assert [] == account.sandbox.requests


def test_more_ids_than_easyflor_accepts_are_not_sent(account: Account) -> None:
    for words in (["ListArticleSort", ",".join(["1"] * 51)], ["DebtorListArticleSortPrice", "417", ",".join("1" * 26)]):
        with pytest.raises(SetAside, match="ids at once"):
            account.client.ask(words)
    assert [] == account.sandbox.requests
    assert 50 == len(account.client.list_article_sorts(range(1, 51)))
    assert 25 == len(account.client.debtor_list_article_sort_prices(417, range(1, 26)))


@pytest.mark.parametrize("account", [{"objects": 1001}], indirect=True)
def test_ask_refuses_a_reply_of_more_than_1000_objects(account: Account) -> None:
    with pytest.raises(SetAside, match="more than 1000 objects"):
        account.client.ask(["debtor"])


def test_days_before_the_setting_since_are_not_read(account: Account) -> None:
    with account.another(since=str(date(2026, 5, 20))) as client:
        keys = [row.key for chunk in client.list(account.resource("invoice"), None) for row in chunk.snapshots]
    assert 0 < len(keys) < len(account.sandbox.truth("invoice"))


def test_a_collection_is_never_all_in_memory() -> None:
    count, name = 10_000, "x" * 1500

    def body() -> Iterator[str]:
        yield "["
        for start in range(0, count, 100):
            yield ("," if start else "") + ",".join(f'{{"Id":{n},"Name":"{name}"}}' for n in range(start, start + 100))
        yield "]"

    with _serving(body) as (client, country):
        client.check()
        tracemalloc.start()
        try:
            sizes = [len(chunk.snapshots) for chunk in client.list(country, None)]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert count == sum(sizes)
    assert max(sizes) <= 2000
    assert peak < count * len(name) / 2


class _serving:  # noqa: N801 - read as a sentence: with _serving(records)
    """(client, resource): of an app whose countries, or debtors, are `records`."""

    def __init__(self, records: Any, *, resource: str = "country", **settings: Any) -> None:
        def answer(request: Request) -> Any:
            if request.method == "POST":
                return JSONResponse({"Token": "t", "Expiration": "2099-01-01T00:00:00Z"})
            if not request.path_params["path"].lower().startswith(resource):
                return JSONResponse([])
            return StreamingResponse(records()) if callable(records) else JSONResponse(records)

        self._settings = {"resources": [resource], **settings}
        self._served = served(Starlette(routes=[Route("/api/{path:path}", answer, methods=["GET", "POST"])]))

    def __enter__(self) -> tuple[Client, contract.Resource]:
        given = options(self._served.__enter__(), **self._settings)
        self._client = Client(given, contract.standalone())
        return self._client, resources.resources(given)[0]

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._served.__exit__(*error)  # type: ignore[arg-type]
