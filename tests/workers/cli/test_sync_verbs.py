"""`poll`, `backfill`, `status` and `ask` against Dilovod's sandbox."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from rich.console import Console
from rich.progress import BarColumn

from models.bookkeeping import streams
from models.db import tables
from tests.processes import free_port
from tests.workers.cli.runner import GOODS, database, ok, refused, rows_of, run, write_settings
from workers import configuration, context
from workers.cli import progress, settings_template, status

if TYPE_CHECKING:
    from models.db.database import Database

PRICES = "informationRegisters.goodsPrices"
STATUS_FIELDS = [
    "connection",
    "system",
    "resource",
    "rows",
    "last_read",
    "complete_as_of",
    "bound",
    "pending",
    "parked",
    "held",
    "last_error",
    "warning",
    "unredacted_rows",
    "unredacted_entries",
    "unbatched",
]


def test_poll_writes_the_rows_and_status_counts_them(shop: Any) -> None:
    ok("poll", "shop")
    rows = {row["resource"]: row for row in json.loads(ok("status", "--json").output)}
    assert {GOODS, "catalogs.units"} == set(rows)
    for resource, row in rows.items():
        assert STATUS_FIELDS == list(row)
        assert ("shop", "dilovod", len(shop.truth(resource))) == (row["connection"], row["system"], row["rows"])
        assert (0, 0, 0, None) == (row["pending"], row["parked"], row["held"], row["last_error"])
        assert row["complete_as_of"] is not None
    assert GOODS in ok("status").output


@pytest.mark.usefixtures("terminal")
def test_status_and_check_say_why_objects_are_fetched_one_by_one(shop: Any) -> None:
    shop.fill(60)
    ok("poll", "shop")
    assert "one by one" not in ok("status").output + ok("check").output
    shop.books.requests.hidden = {"weight"}
    for good in shop.books.of(GOODS):
        shop.books.touch(good, description={"uk": "нове", "ru": "новое"})
    ok("backfill", "shop")
    assert f"  {GOODS}: fetched one by one: request lacks weight\n" in ok("status").output
    assert "fetched one by one: request lacks weight" in " ".join(ok("check").output.split())
    said = {row["resource"]: row["unbatched"] for row in json.loads(ok("status", "--json").output)}
    assert {GOODS: "request lacks weight", "catalogs.units": None} == said
    checked = {row["what"]: row["says"] for row in json.loads(ok("check", "--json").stdout)}
    assert checked[GOODS].endswith("; fetched one by one: request lacks weight")


@pytest.mark.usefixtures("shop")
def test_status_lists_resources_that_were_never_synced() -> None:
    rows = json.loads(ok("status", "--json").output)
    assert {(0, None, None)} == {(row["rows"], row["last_read"], row["complete_as_of"]) for row in rows}
    assert "never" in ok("status").output


@pytest.mark.usefixtures("shop", "terminal")
def test_status_keeps_the_names_whole_on_a_narrow_terminal() -> None:
    settings = Path("erpmirror.toml")
    settings.write_text(settings.read_text(encoding="utf-8").replace("catalogs.units", PRICES), encoding="utf-8")
    ok("poll", "shop")
    with database() as opened, opened.begin() as tx:
        runs, rows = tables.runs.c, tables.streams.c
        full_run = sa.select(sa.func.max(runs.id)).where(runs.resource == PRICES).scalar_subquery()
        values = {"full_run": full_run, "last_error": "it is away", "complete_as_of": tx.now - timedelta(days=3)}
        tx.execute(sa.update(tables.streams).where(rows.resource == PRICES).values(values))
    lines = ok("status").output.splitlines()
    heading = lines.index("shop (dilovod)")
    assert "" == lines[heading - 1]
    assert ["last", "complete"] == lines[heading + 1].split()
    assert ["resource", "rows", "synced", "as", "of"] == lines[heading + 2].split()[:5]
    assert {GOODS, PRICES} <= {line.split(" ")[0] for line in lines}
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert [f"  {PRICES}: full sync under way, 3 objects so far", f"  {PRICES}: it is away"] == lines[-2:]


def _many_connections(count: int) -> None:
    values = {"system": "directo", "url": "http://127.0.0.1:9", "api_key": "k", "resources": ["items"]}
    write_settings("".join(settings_template.table(f"books{number:02}", values) for number in range(count)))
    ok("migrate")
    with database() as opened:
        context.sync_streams(opened, configuration.load())


def test_status_shows_the_connection_that_is_named() -> None:
    _many_connections(3)
    assert {"books01"} == {row["connection"] for row in json.loads(ok("status", "books01", "--json").stdout)}
    printed = ok("status", "books01").stdout
    assert ("books01 (directo)" in printed, "books00" in printed) == (True, False)
    assert 'there is no connection "books1"' in refused("status", "books1")


def test_of_many_connections_status_shows_those_that_need_a_look() -> None:
    _many_connections(60)
    printed = ok("status").stdout
    assert 50 == printed.count("(directo)")
    assert "10 more connections are not shown; 10 of them need a look, too" in printed
    with database() as opened, opened.begin() as tx:
        tx.execute(sa.update(tables.streams).values(complete_as_of=tx.now))
        tx.execute(sa.update(tables.streams).where(tables.streams.c.connection == "books58").values(last_error="away"))
    printed = ok("status").stdout
    assert ["books58 (directo)"] == [line for line in printed.splitlines() if "(directo)" in line]
    assert "59 more connections are not shown; none of them needs a look" in printed
    assert 60 == len({row["connection"] for row in json.loads(ok("status", "--json").stdout)})


@pytest.mark.usefixtures("shop")
def test_status_shows_a_long_bound_in_two_units() -> None:
    ok("poll", "shop")
    with database() as opened, opened.begin() as tx:
        tx.execute(sa.update(tables.streams).values(bound=2821 * 60))
    (line,) = [line for line in ok("status").output.splitlines() if line.startswith(GOODS)]
    assert " 1d 23h " in line


@pytest.mark.usefixtures("shop")
def test_poll_of_one_resource_syncs_only_that() -> None:
    ok("poll", "shop", "catalogs.units")
    assert 3 == rows_of("catalogs.units")


@pytest.mark.usefixtures("shop")
def test_poll_without_waiting_only_wakes_the_workers() -> None:
    ok("poll", "shop", "--no-wait")
    assert 0 == rows_of(GOODS)
    assert [] != list(Path("var/broker/messages").iterdir())


def test_backfill_reads_everything_again(shop: Any) -> None:
    ok("poll", "shop")
    with database() as opened:
        before = full_syncs_due(opened)
        ok("backfill", "shop", GOODS)
        assert {GOODS} == {resource for resource, at in full_syncs_due(opened).items() if at > before[resource]}
    assert len(shop.truth(GOODS)) == rows_of(GOODS)


def full_syncs_due(opened: Database) -> dict[str, Any]:
    with opened.read() as tx:
        return {row.resource: row.full_due_at for row in streams.open_streams(tx, connection="shop")}


def test_an_unreachable_vendor_is_exit_status_1_and_the_work_stays_due() -> None:
    write_settings(
        f'[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nurl = "http://127.0.0.1:{free_port()}"\n'
        'resources = ["catalogs.goods"]\n'
    )
    ok("migrate")
    message = refused("poll", "shop")
    assert "it stays due" in message


def test_an_error_stands_below_the_bars_on_one_line() -> None:
    console = Console(width=80, file=io.StringIO())
    bars = progress.Bars(BarColumn(), console=console)
    bars.add_task(GOODS, error=None)
    bars.add_task(PRICES, error="no answer\n" + "from the vendor, " * 9)
    console.print(bars.get_renderable())
    *_, last = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert 3 == len(console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    assert last.startswith(f"{PRICES}: no answer from the vendor, from")
    assert (80, "…") == (len(last), last[-1])


@pytest.mark.usefixtures("terminal")
def test_poll_shows_why_a_vendor_is_not_read_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    write_settings(
        f'[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nurl = "http://127.0.0.1:{free_port()}"\n'
        'resources = ["catalogs.goods", "catalogs.units"]\n'
    )
    ok("migrate")
    printed = run("poll", "shop").stderr
    assert "catalogs.goods: 127.0.0.1" in printed.partition("Error")[0]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["poll", "shp"], 'did you mean "shop"?'),
        (["backfill", "elsewhere"], "there are: shop"),
        (["poll", "shop", "catalogs.good"], 'did you mean "catalogs.goods"?'),
        (["export", "shop", GOODS], "the mirror holds nothing"),
        (["forget", "elsewhere"], "the mirror holds nothing"),
        (["ask", "shop", "getObject", "1", "2"], "Error: 2 is one argument too many"),
        (["parked", "retry", "shop"], "no such object is parked"),
        (["parked", "drop", "shop"], "no such object is parked"),
        (["sandbox", "dilovot"], 'did you mean "dilovod"?'),
        (["sandbox", "directo", "--webhook-url", "http://x"], "sends no webhooks"),
        (["flower", "--address", "10.0.0.1"], "set ERPMIRROR_FLOWER_AUTH"),
        (["flower", "--basic-auth", "me"], "as user:password"),
        (["flower", "--basic-auth", "me:secret,word"], "without a space or a comma"),
        (["flower", "--basic-auth", "me:geheimnüs"], "in printable ASCII"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_error_for_a_wrong_argument_names_the_remedy(words: list[str], message: str) -> None:
    assert message in refused(*words)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("verb", [["forget"], ["export"]], ids=" ".join)
def test_a_misspelt_name_of_what_the_mirror_holds_is_guessed(verb: list[str]) -> None:
    ok("poll", "shop", GOODS)
    assert f'did you mean "{GOODS}"?' in refused(*verb, "shop", "catalogs.godos")
    if verb == ["forget"]:
        assert 'did you mean "shop"?' in refused(*verb, "shpo")


@pytest.mark.usefixtures("shop")
def test_ask_prints_the_vendors_reply() -> None:
    answer = json.loads(ok("ask", "shop", "getObject", "1100300000001001").output)
    assert "1100300000001001" == answer["header"]["id"]["id"]


@pytest.mark.parametrize(
    ("age", "message"),
    [
        (timedelta(seconds=5), "5 s ago"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=30), "30 h ago"),
        (timedelta(days=3), "2025-06-01 12:00 UTC"),
        (timedelta(seconds=-5), "0 s ago"),
    ],
)
def test_a_moment_is_printed_as_an_age_or_a_date(age: timedelta, message: str) -> None:
    now = datetime(2025, 6, 4, 12, tzinfo=UTC)
    assert message == status.ago(now - age, now)
