"""The command line as a person or a script meets it: real files, real databases, vendors' sandboxes over HTTP."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import structlog
from typer.testing import CliRunner

from models.bookkeeping import inbox, streams
from models.db import migration
from models.db.database import Database
from models.values import Cause, Lane, ObjectRef
from tests import serving
from workers import cli, configuration
from workers.cli import settings_template, status
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typer.testing import Result

PATIENCE = 60
GOODS = "catalogs.goods"
VERBS = [
    ["ask"],
    ["backfill"],
    ["beat"],
    ["check"],
    ["demo"],
    ["dilovod-node"],
    ["export"],
    ["flower"],
    ["forget"],
    ["hand-in"],
    ["init"],
    ["migrate"],
    ["parked"],
    ["parked", "drop"],
    ["parked", "list"],
    ["parked", "retry"],
    ["poll"],
    ["rebuild"],
    ["receiver"],
    ["sandbox"],
    ["status"],
    ["up"],
    ["worker"],
]
STATUS = [
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
]


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(configuration.VARIABLE, raising=False)
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def run(*words: str, answer: str = "") -> Result:
    result = CliRunner().invoke(cli.app, list(words), input=answer)
    assert "Traceback" not in result.output
    return result


def ok(*words: str) -> Result:
    result = run(*words)
    assert 0 == result.exit_code, result.output
    return result


def refused(*words: str) -> str:
    result = run(*words)
    assert 1 == result.exit_code, result.output
    return " ".join(result.stderr.split())


def written(text: str) -> Path:
    file = Path("erpmirror.toml").absolute()
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def shop() -> Iterator[Any]:
    """A migrated installation whose connection `shop` leads to Dilovod's sandbox; the sandbox."""
    app = discovery.systems()["dilovod"].sandbox(objects=3)
    with serving.served(app) as url:
        written(
            settings_template.table(
                "shop", app.state.sandbox.settings() | {"url": url, "resources": [GOODS, "catalogs.units"]}
            )
        )
        ok("migrate")
        yield app.state.sandbox


@contextmanager
def database() -> Iterator[Database]:
    opened = Database(configuration.load().database.url)
    yield opened
    opened.close()


# Help


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself_with_an_example(verb: list[str]) -> None:
    assert f"Example: {'ERPMIRROR_FLOWER_AUTH=me:secret ' if verb == ['flower'] else ''}erpmirror" in " ".join(
        ok(*verb, "--help").output.replace("│", " ").split()
    )


def test_every_verb_is_tested_for_its_help() -> None:
    listed = {line.split()[1] for line in ok("--help").output.splitlines() if re.match(r"│ [a-z]", line)}
    assert {verb[0] for verb in VERBS} == listed


def test_help_imports_nothing_heavy() -> None:
    heavy = ("sqlalchemy", "celery", "kombu", "httpx", "uvicorn", "pydantic", "starlette", "alembic")
    script = f"import sys, workers.cli; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "[]" == ran.stdout.strip()


def test_the_version_is_printed_without_any_settings() -> None:
    assert f"erpmirror {version('erpmirror')}\n" == ok("--version").stdout


def test_a_wrong_use_is_status_2() -> None:
    assert 2 == run("no-such-verb").exit_code
    assert 2 == run("poll").exit_code
    written("")
    ok("migrate")
    assert 2 == run("worker", "--queues", "lokos").exit_code


# Settings


def test_init_writes_a_file_that_works_at_once() -> None:
    ok("init")
    loaded = configuration.load()
    assert loaded.receiver.token is not None
    assert {} == loaded.connections
    ok("migrate")
    ok("check")


def test_init_writes_a_file_that_only_its_owner_reads_with_a_token_of_its_own() -> None:
    ok("init", "--config", "one.toml")
    ok("init", "--config", "two.toml")
    tokens = {
        tomllib.loads(Path(name).read_text(encoding="utf-8"))["receiver"]["token"] for name in ("one.toml", "two.toml")
    }
    assert 2 == len(tokens)
    assert 0o600 == Path("one.toml").stat().st_mode & 0o777


def test_init_leaves_an_existing_file_alone() -> None:
    file = written("[receiver]\nport = 1\n")
    assert "exists already" in refused("init")
    assert "[receiver]\nport = 1\n" == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("system", sorted(discovery.systems()))
def test_the_written_file_shows_every_system_ready_to_uncomment(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ok("init")
    text = Path("erpmirror.toml").read_text(encoding="utf-8")
    head, table = re.split(rf"(?=^# \[connections\.my_{system}\]$)", text, flags=re.MULTILINE)
    table = table.partition("\n\n")[0]
    for name in re.findall(r"\$\{(\w+)\}", table):
        monkeypatch.setenv(name, "key")
    written(head + re.sub("^# ", "", table, flags=re.MULTILINE))
    assert system == configuration.load().connections[f"my_{system}"].system


def test_the_file_may_be_named_before_and_after_the_verb() -> None:
    Path("named.toml").write_text("", encoding="utf-8")
    ok("--config", "named.toml", "migrate")
    ok("status", "--config", "named.toml")
    ok("parked", "--config", "named.toml", "list")
    assert "named.toml: there is no such file" not in refused("status")


def test_a_mistake_in_the_file_is_told_without_a_traceback() -> None:
    written('[connections.shop]\nsystem = "dilovot"\n')
    assert 'did you mean "dilovod"' in refused("status")


def test_a_missing_file_says_how_to_make_one() -> None:
    assert "`erpmirror init` writes one" in refused("status")


# Tables


def test_migrate_says_what_it_did_and_repeats_harmlessly() -> None:
    written("")
    assert "created" in ok("migrate").output
    assert "already" in ok("migrate").output


@pytest.mark.parametrize(
    "words",
    [
        ["worker"],
        ["beat"],
        ["flower"],
        ["receiver"],
        ["status"],
        ["parked"],
        ["export", "shop", GOODS],
        ["forget", "shop"],
        ["poll", "shop"],
        ["backfill", "shop"],
        ["rebuild", "shop"],
        ["ask", "shop", "listMetadata"],
    ],
    ids=" ".join,
)
def test_missing_tables_are_refused_with_the_remedy(words: list[str]) -> None:
    written('[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nresources = ["catalogs.goods"]\n')
    assert "run `erpmirror migrate`" in refused(*words)


@pytest.mark.parametrize("words", [["worker"], ["receiver"], ["status"]], ids=" ".join)
def test_tables_of_another_version_are_refused(words: list[str]) -> None:
    written("")
    ok("migrate")
    with database() as opened, opened.begin() as tx:
        tx.exec_driver_sql(f"UPDATE {migration.VERSION_TABLE} SET version_num = '9999'")
    assert "newer than this erpmirror" in refused(*words)


@pytest.mark.parametrize("words", [["status"], ["worker"], ["migrate"]], ids=" ".join)
def test_a_database_that_is_away_is_told_without_its_password(words: list[str]) -> None:
    written(f'[database]\nurl = "postgresql://me:hunter2@127.0.0.1:{free_port()}/mirror"\n')
    said = refused(*words)
    assert "the database cannot be used" in said
    assert "hunter2" not in said


# Check


@pytest.mark.usefixtures("shop")
def test_check_proves_every_connection() -> None:
    said = ok("check").output
    assert "shop (dilovod)" in said
    assert "!!" not in said


def test_check_fails_where_a_vendor_refuses(shop: Any) -> None:
    file = Path("erpmirror.toml")
    key = shop.settings()["api_key"]
    written(file.read_text(encoding="utf-8").replace(f'"{key}"', '"wrong-hunter2"'))
    result = run("check")
    assert 1 == result.exit_code
    assert "!!" in result.output
    assert "wrong-hunter2" not in result.output


def test_check_fails_without_tables_and_says_so() -> None:
    written('[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nresources = ["catalogs.goods"]\n')
    result = run("check")
    assert 1 == result.exit_code
    assert "run `erpmirror migrate`" in " ".join(result.output.split())


def test_check_names_a_broker_that_is_away() -> None:
    written(f'[broker]\nurl = "redis://127.0.0.1:{free_port()}/0"\n')
    ok("migrate")
    result = run("check")
    assert 1 == result.exit_code
    assert "the broker cannot be reached" in " ".join(result.output.split())


# Looking


def test_poll_brings_the_rows_and_status_shows_them(shop: Any) -> None:
    ok("poll", "shop")
    rows = {row["resource"]: row for row in json.loads(ok("status", "--json").output)}
    assert {GOODS, "catalogs.units"} == set(rows)
    for resource, row in rows.items():
        assert STATUS == list(row)
        assert ("shop", "dilovod", len(shop.truth(resource))) == (row["connection"], row["system"], row["rows"])
        assert (0, 0, 0, None) == (row["pending"], row["parked"], row["held"], row["last_error"])
        assert row["complete_as_of"] is not None
    assert GOODS in ok("status").output


@pytest.mark.usefixtures("shop")
def test_status_shows_what_was_never_looked_at() -> None:
    rows = json.loads(ok("status", "--json").output)
    assert {(0, None, None)} == {(row["rows"], row["last_read"], row["complete_as_of"]) for row in rows}
    assert "never" in ok("status").output


@pytest.mark.usefixtures("shop")
def test_poll_of_one_resource_leaves_the_others() -> None:
    ok("poll", "shop", "catalogs.units")
    assert 3 == rows_of("catalogs.units")


def rows_of(resource: str) -> int:
    rows = json.loads(ok("status", "--json").output)
    return int(next(row["rows"] for row in rows if row["resource"] == resource))


@pytest.mark.usefixtures("shop")
def test_poll_without_waiting_only_rings() -> None:
    ok("poll", "shop", "--no-wait")
    assert 0 == rows_of(GOODS)
    assert [] != list(Path("var/broker/messages").iterdir())


def test_backfill_reads_everything_again(shop: Any) -> None:
    ok("poll", "shop")
    with database() as opened:
        before = read_fully(opened)
        ok("backfill", "shop", GOODS)
        assert {GOODS} == {resource for resource, at in read_fully(opened).items() if at > before[resource]}
    assert len(shop.truth(GOODS)) == rows_of(GOODS)


def read_fully(opened: Database) -> dict[str, Any]:
    with opened.read() as tx:
        return {row.resource: row.full_due_at for row in streams.open_streams(tx, connection="shop")}


def test_a_vendor_that_is_away_is_status_1_and_the_work_stays_due() -> None:
    written(
        f'[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nurl = "http://127.0.0.1:{free_port()}"\n'
        'resources = ["catalogs.goods"]\n'
    )
    ok("migrate")
    said = refused("poll", "shop")
    assert "it stays due" in said


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["poll", "shp"], 'did you mean "shop"?'),
        (["backfill", "elsewhere"], "there are: shop"),
        (["poll", "shop", "catalogs.good"], 'did you mean "catalogs.goods"?'),
        (["export", "shop", GOODS], "the mirror holds nothing"),
        (["forget", "elsewhere"], "the mirror holds nothing"),
        (["parked", "retry", "shop"], "no such object is parked"),
        (["parked", "drop", "shop"], "no such object is parked"),
        (["sandbox", "dilovot"], 'did you mean "dilovod"?'),
        (["sandbox", "directo", "--webhook-url", "http://x"], "sends no webhooks"),
        (["flower", "--address", "10.0.0.1"], "set ERPMIRROR_FLOWER_AUTH"),
        (["flower", "--basic-auth", "me"], "reads user:password"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_word_is_answered_with_the_right_one(words: list[str], said: str) -> None:
    assert said in refused(*words)


@pytest.mark.usefixtures("shop")
def test_ask_prints_the_vendors_answer() -> None:
    answer = json.loads(ok("ask", "shop", "getObject", "1100300000001001").output)
    assert "1100300000001001" == answer["header"]["id"]["id"]


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (timedelta(seconds=5), "5 s ago"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=30), "30 h ago"),
        (timedelta(days=3), "2025-06-01 12:00 UTC"),
        (timedelta(seconds=-5), "0 s ago"),
    ],
)
def test_a_moment_is_told_as_a_person_would(age: timedelta, said: str) -> None:
    now = datetime(2025, 6, 4, 12, tzinfo=UTC)
    assert said == status.ago(now - age, now)


# Exporting, rebuilding, forgetting


def test_export_prints_one_object_a_line(shop: Any) -> None:
    ok("poll", "shop", GOODS)
    lines = [json.loads(line) for line in ok("export", "shop", GOODS).output.splitlines()]
    assert [["key", "deleted_at", "raw"]] * len(lines) == [list(line) for line in lines]
    assert shop.truth(GOODS).keys() == {line["key"] for line in lines}


def test_export_as_csv_has_the_columns_of_the_table(shop: Any) -> None:
    ok("poll", "shop", GOODS)
    rows = list(csv.DictReader(io.StringIO(ok("export", "shop", GOODS, "--format", "csv").output)))
    assert shop.truth(GOODS).keys() == {row["_key"] for row in rows}
    assert {"id__id", "code", "del_mark"} <= rows[0].keys()
    assert not {name for name in rows[0] if name.startswith("_")} - {"_key", "_deleted_at"}


def test_rebuild_asks_nobody_and_says_how_many(shop: Any) -> None:
    ok("poll", "shop", GOODS)
    written(Path("erpmirror.toml").read_text(encoding="utf-8") + 'omit = ["header.code"]\n')
    assert f"{GOODS}: {len(shop.truth(GOODS))} objects rebuilt" in ok("rebuild", "shop", GOODS).output
    assert "code" not in json.loads(ok("export", "shop", GOODS).output.splitlines()[0])["raw"]["header"]


@pytest.mark.usefixtures("shop")
def test_what_is_no_longer_configured_is_named_until_it_is_forgotten() -> None:
    ok("poll", "shop", "catalogs.units")
    text = Path("erpmirror.toml").read_text(encoding="utf-8")
    written(text.replace(', "catalogs.units"', ""))
    for verb in ("status", "check"):
        assert "shop catalogs.units is no longer configured: its 3 rows" in " ".join(ok(verb).stderr.split())
    left = [row for row in json.loads(ok("status", "--json").stdout) if row["resource"] == "catalogs.units"]
    assert [(3, None)] == [(row["rows"], row["bound"]) for row in left]
    ok("forget", "shop", "catalogs.units", "--yes")
    assert "no longer configured" not in ok("status").stderr


@pytest.mark.usefixtures("shop")
def test_a_whole_connection_that_is_no_longer_configured_can_be_forgotten() -> None:
    ok("poll", "shop", "catalogs.units")
    written("")
    assert "shop catalogs.units is no longer configured" in ok("status").stderr
    ok("forget", "shop", "--yes")
    assert [] == json.loads(ok("status", "--json").stdout)


@pytest.mark.usefixtures("shop")
def test_forget_asks_first() -> None:
    ok("poll", "shop", "catalogs.units")
    assert 0 != run("forget", "shop", answer="n\n").exit_code
    assert 3 == rows_of("catalogs.units")


@pytest.mark.usefixtures("shop")
def test_what_is_forgotten_but_configured_is_read_anew() -> None:
    ok("poll", "shop", "catalogs.units")
    assert "begins with a full sync" in ok("forget", "shop", "catalogs.units", "--yes").stderr
    assert 0 == rows_of("catalogs.units")
    ok("poll", "shop", "catalogs.units")
    assert 3 == rows_of("catalogs.units")


# Parked and held


def put_aside(key: str, how: Callable[..., None], reason: str) -> None:
    with database() as opened, opened.begin() as tx:
        inbox.enqueue(
            tx,
            connection="shop",
            refs=[ObjectRef(GOODS, key)],
            lane=Lane.LIVE,
            cause=Cause.WEBHOOK,
        )
        (item,) = inbox.due(tx, connection="shop", now=opened.now(tx))
        how(tx, item, reason=reason)


@pytest.mark.usefixtures("shop")
def test_parked_lists_key_and_reason() -> None:
    put_aside("1", inbox.park, "the vendor's own words")
    assert "the vendor's own words" in ok("parked").output
    listed = json.loads(ok("parked", "list", "shop", "--json").output)
    assert [("shop", GOODS, "1", "parked")] == [
        (row["connection"], row["resource"], row["key"], row["state"]) for row in listed
    ]
    assert [] == json.loads(ok("parked", "list", "books", "--json").output)


@pytest.mark.usefixtures("shop")
def test_a_parked_key_is_tried_again() -> None:
    put_aside("1", inbox.park, "no")
    ok("parked", "retry", "shop", GOODS, "1")
    assert "Nothing is parked" in ok("parked").output
    assert [] != list(Path("var/broker/messages").iterdir())


@pytest.mark.usefixtures("shop")
def test_held_deletions_are_approved_only_after_a_question() -> None:
    put_aside("1", inbox.hold, "too many")
    assert 0 != run("parked", "retry", "shop", answer="n\n").exit_code
    assert "held" in ok("parked").output
    ok("parked", "retry", "shop", "--yes")
    with database() as opened, opened.read() as tx:
        (item,) = inbox.due(tx, connection="shop", now=opened.now(tx))
        assert item.approved


@pytest.mark.usefixtures("shop")
def test_what_is_dropped_is_forgotten() -> None:
    put_aside("1", inbox.park, "no")
    put_aside("2", inbox.park, "no")
    ok("parked", "drop", "shop", GOODS, "1", "--yes")
    assert ["2"] == [row["key"] for row in json.loads(ok("parked", "list", "--json").output)]


@pytest.mark.usefixtures("shop")
def test_a_parked_resource_is_listed_and_reopened() -> None:
    ok("poll", "shop", "catalogs.units")
    with database() as opened, opened.begin() as tx:
        now = opened.now(tx)
        streams.park(tx, "shop", "catalogs.units", reason="the role may not", now=now)
    assert "(all of it)" in ok("parked").output
    ok("parked", "retry", "shop", "catalogs.units")
    assert "Nothing is parked" in ok("parked").output


# Dilovod's node


def test_the_node_file_leads_dilovod_to_the_receiver() -> None:
    written(
        '[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nwebhook_secret = "s3"\n'
        'resources = ["catalogs.goods", "balanceRegisters.goods"]\n'
    )
    node = json.loads(ok("dilovod-node", "shop", "--url", "https://mirror.example.com/").stdout)
    assert "https://mirror.example.com/hooks/shop/s3" == node["webHookUrl"]
    assert ["catalogs.goods"] == node["webHookObjects"]
    assert {"catalogs.goods": "read", "balanceRegisters.goods": "read"} == node["accessRules"]


def test_only_dilovod_has_a_node_file() -> None:
    written('[connections.books]\nsystem = "directo"\napi_key = "k"\nresources = ["items"]\n')
    assert "only Dilovod has such a file" in refused("dilovod-node", "books", "--url", "https://x")


# Processes


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`erpmirror …` as a process of its own; its output is in the file."""
    said = Path(f"{words[0]}.log").absolute()
    with said.open("wb") as file:
        started = subprocess.Popen([sys.executable, "-m", "workers.cli", *words], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield started, said
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        started.wait(PATIENCE)


def until(condition: Callable[[], Any], said: Path) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, said.read_text(encoding="utf-8")
        time.sleep(0.05)
    return value


def answers(port: int, path: str) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return bool(200 == response.status)
    except (URLError, OSError):
        return False


def test_the_receiver_starts_without_a_database() -> None:
    port = free_port()
    written(f'[receiver]\nport = {port}\n[database]\nurl = "postgresql://me:hunter2@127.0.0.1:{free_port()}/mirror"\n')
    with process("receiver") as (_, said):
        until(lambda: answers(port, "/livez"), said)
        assert not answers(port, "/readyz")
        assert "hunter2" not in said.read_text(encoding="utf-8")


@pytest.mark.parametrize("system", [name for name, each in discovery.systems().items() if each.has_sandbox])
def test_a_sandbox_prints_a_connection_that_works(system: str) -> None:
    with process("sandbox", system, "--edits-per-minute", "6000") as (_, said):
        until(lambda: "Ctrl-C stops it" in said.read_text(encoding="utf-8"), said)
        table = said.read_text(encoding="utf-8").partition("# The sandbox")[0]
        written(table)
        ok("migrate")
        ok("check")
        lines = said.read_text(encoding="utf-8").count("\n")
        until(lambda: said.read_text(encoding="utf-8").count("\n") > lines, said)


def test_up_runs_the_whole_product_and_stops_clean(shop: Any) -> None:
    port = free_port()
    file = written(Path("erpmirror.toml").read_text(encoding="utf-8") + f"[receiver]\nport = {port}\n")
    with process("up", "--config", str(file), "--concurrency", "1") as (started, said):
        until(lambda: answers(port, "/readyz"), said)
        until(lambda: rows_of(GOODS) == len(shop.truth(GOODS)), said)
        started.send_signal(signal.SIGINT)
        assert 0 == started.wait(PATIENCE)
        text = said.read_text(encoding="utf-8")
    pids = [int(pid) for pid in re.findall(r"runs as process (\d+)", text)]
    assert 4 == len(pids)
    assert [] == [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in text


def test_the_log_of_a_process_shows_no_address_and_no_local_variable() -> None:
    script = (
        "import logging, structlog\n"
        "from workers.cli import logs\n"
        "logs.configure()\n"
        "logging.getLogger('httpx').info('GET https://erp.example.com/?key=hunter2')\n"
        "logging.getLogger('ours').info('standard words')\n"
        "def fail():\n"
        "    packet = 'hunter' + '2'\n"
        "    raise ValueError('no')\n"
        "try:\n"
        "    fail()\n"
        "except ValueError:\n"
        "    structlog.get_logger().exception('structured words')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "" == ran.stdout
    assert "standard words" in ran.stderr
    assert "structured words" in ran.stderr
    assert "ValueError: no" in ran.stderr
    assert "hunter2" not in ran.stderr


@pytest.mark.usefixtures("shop")
def test_a_reader_who_has_enough_is_no_error() -> None:
    ok("poll", "shop", GOODS)
    command = [sys.executable, "-m", "workers.cli", "export", "shop", GOODS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert b"" == started.stderr.read()
