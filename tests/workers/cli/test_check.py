"""`erpmirror check` with each kind of failure: real files, real databases, sandboxes over HTTP."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from starlette.responses import Response
from typer.testing import CliRunner

from models.bookkeeping import full_syncs, streams
from models.values import Cause
from tests.mirroring import table
from tests.serving import served
from tests.workers.cli.runner import run, write_settings
from workers import cli, configuration, context, errors
from workers.cli import check as check_command
from workers.cli import connection_check, hints
from workers.connectors import discovery
from workers.connectors.directo import sandbox as directo
from workers.connectors.interpreter.options import Options as Interpreter
from workers.gate import gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send
    from typer.testing import Result

    from models.db.database import Database

SYSTEMS = [name for name, system in discovery.systems().items() if system.has_sandbox]
RESOURCES = ["items", "orders", "stocklevels", "deleted"]
UNUSED_URL = "http://127.0.0.1:9"


@dataclass
class Proxy:
    """Forwards requests to a sandbox. `instead`: the end of a path -> the response that is sent instead."""

    app: ASGIApp
    instead: dict[str, Response] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = next((each for end, each in self.instead.items() if scope.get("path", "").endswith(end)), self.app)
        await handler(scope, receive, send)


@dataclass(frozen=True)
class Vendor:
    """A sandbox behind a proxy, for the connection `it`."""

    system: str
    sandbox: Any
    proxy: Proxy
    url: str

    def connect(self, **values: Any) -> None:
        """Write the settings file and create the tables."""
        settings = self.sandbox.settings() | {"url": self.url, "requests_per_minute": 600_000} | values
        Path("erpmirror.toml").write_text(table("it", settings), encoding="utf-8")
        assert 0 == CliRunner().invoke(cli.app, ["migrate"]).exit_code


@contextmanager
def vendor(system: str, **knobs: Any) -> Iterator[Vendor]:
    app = discovery.systems()[system].sandbox(**knobs)
    proxy = Proxy(app)
    with served(proxy, date_header="now" not in knobs) as url:
        yield Vendor(system, app.state.sandbox, proxy, url)


@pytest.fixture
def books() -> Iterator[Vendor]:
    """Directo with three resources."""
    with vendor("directo") as served_vendor:
        served_vendor.connect(resources=RESOURCES[:-1])
        yield served_vendor


def check(*words: str) -> Result:
    result = CliRunner().invoke(cli.app, ["check", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def outcomes(*, ok: bool) -> dict[str, dict[str, Any]]:
    """The outcomes for the connection: what was checked -> its row."""
    result = check("--json")
    assert int(not ok) == result.exit_code, result.output
    return {row["what"]: row for row in json.loads(result.stdout) if row["connection"] == "it"}


def oks(found: dict[str, dict[str, Any]]) -> dict[str, bool]:
    return {what: row["ok"] for what, row in found.items()}


# Success


@pytest.mark.parametrize("system", SYSTEMS)
def test_login_and_each_resource_are_checked(system: str) -> None:
    with vendor(system) as served_vendor:
        served_vendor.connect()
        found = outcomes(ok=True)
        options = configuration.load().connections["it"]
        names = [resource.name for resource in discovery.systems()[system].resources(options)]
    assert names == [what for what in found if what not in {"login", "clock", "hours"}]
    assert "login" in found
    assert {True} == {row["ok"] for row in found.values()}
    assert {None} == {row["remedy"] for row in found.values()}
    assert all(row["says"] for row in found.values())


@pytest.mark.parametrize(
    ("pages", "given", "says"),
    [
        (51, {}, "its full syncs take 51 requests an hour"),
        (6, {"reconcile_every": "5m"}, "its full syncs take 72 requests an hour"),
        (50, {}, None),
        (5, {"reconcile_every": "1m"}, None),
        (51, {"lookback": "60d"}, None),
    ],
)
def test_documents_whose_full_syncs_take_many_requests_name_the_setting_that_lessens_them(
    pages: int, given: dict[str, Any], says: str | None
) -> None:
    orders, goods = "documents.saleOrder", "catalogs.goods"
    with vendor("dilovod") as served_vendor:
        served_vendor.connect(resources=[orders, goods], **given)
        loaded = configuration.load()
        database = cli.common.database(loaded)
        context.sync_streams(database, loaded)
        for resource in (orders, goods):
            _finish_a_full_sync(database, resource, pages)
        database.close()
        found = outcomes(ok=True)
    hint = f'; {says}: `lookback = "60d"` lists' if says else ""
    assert (hint in found[orders]["says"], "full syncs take" in found[orders]["says"]) == (True, says is not None)
    assert "full syncs take" not in found[goods]["says"]


def _finish_a_full_sync(database: Database, resource: str, pages: int) -> None:
    with database.begin() as tx:
        stream = streams.get(tx, "it", resource)
        assert stream is not None
        run = full_syncs.begin(tx, stream, revision=tx.draw(), cause=Cause.RECONCILE, now=tx.now)
        for _ in range(pages - 1):
            full_syncs.advance(tx, stream, run=run, cursor="more", pages=1, objects=500)
        full_syncs.finish(tx, stream, run=run, cursor="done", next_at=tx.now, now=tx.now)


@pytest.mark.usefixtures("books")
def test_json_has_the_rows_of_the_table() -> None:
    rows = json.loads(check("--json").stdout)
    printed = check().stdout
    assert [{"connection", "system", "what", "says", "ok", "remedy"}] * len(rows) == [set(row) for row in rows]
    assert ["settings", "database", "broker", "login", "clock", *RESOURCES] == [row["what"] for row in rows]
    assert [(None, None)] * 3 + [("it", "directo")] * 6 == [(row["connection"], row["system"]) for row in rows]
    assert [] == [row["what"] for row in rows if row["what"] not in printed]


def test_a_check_asks_each_resource_and_gives_the_lease_back(books: Vendor) -> None:
    check()
    assert set(RESOURCES) == {each.partition("?")[0] for each in books.sandbox.requests}
    loaded = configuration.load()
    database = cli.common.database(loaded)
    account = gate.Gate(database, loaded.connections["it"])
    account.cancel(account.acquire())
    database.close()


# The login


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_remedy_for_a_wrong_login_names_its_settings_and_resources_are_skipped(system: str) -> None:
    with vendor(system) as served_vendor:
        values = served_vendor.sandbox.settings()
        options = discovery.systems()[system].options.model_validate({"name": "it", "url": UNUSED_URL} | values)
        secrets = [name for name in values if isinstance(getattr(options, name, None), SecretStr)]
        served_vendor.connect(**dict.fromkeys(secrets, "wrong-0-login"))
        result = check()
        found = outcomes(ok=False)
        file = configuration.find()
    login = found.pop("login")
    assert not login["ok"]
    assert [] == [name for name in secrets if f"`{name}`" not in login["remedy"]]
    assert f"[connections.it] of {file}" in login["remedy"]
    answer = "checked by the first document; " if isinstance(options, Interpreter) else "not checked: the login failed"
    assert [] == [row["says"] for row in found.values() if not row["says"].startswith(answer)]
    assert found
    assert "wrong-0-login" not in result.output + json.dumps(found) + json.dumps(login)


def test_the_login_settings_are_those_that_identify_the_account() -> None:
    one = Interpreter.model_validate({"name": "it", "system": "interpreter", "store": "3546", "api_key": "k"})
    other = one.model_copy(update={"api_key": None, "user_id": "17", "user_token": SecretStr("t")})
    assert ["store", "api_key"] == hints.login_keys(one)
    assert ["store", "user_id", "user_token"] == hints.login_keys(other)


def test_the_remedy_for_an_unreachable_vendor_names_its_url(books: Vendor) -> None:
    books.connect(url=UNUSED_URL)
    found = outcomes(ok=False)
    assert not found["login"]["ok"]
    assert f"check `url` in [connections.it] of {configuration.find()}" in found["login"]["remedy"]
    assert {"not checked: the login failed"} == {found[name]["says"] for name in RESOURCES}


@pytest.mark.usefixtures("books")
def test_a_failed_connection_does_not_stop_the_others() -> None:
    file = Path("erpmirror.toml")
    away = table("away", {"system": "dilovod", "api_key": "k", "resources": ["catalogs.goods"], "url": UNUSED_URL})
    file.write_text(away + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert {True} == {row["ok"] for row in outcomes(ok=False).values()}


# The clock


@pytest.mark.parametrize(
    ("off", "says", "ok"),
    [
        (timedelta(hours=3), "3 h ahead of ours", False),
        (timedelta(minutes=-10), "10 min behind ours", False),
        (timedelta(days=-400), "400 d behind ours", False),
        (timedelta(seconds=100), "ahead of ours", True),
        (timedelta(0), "agrees with ours", True),
    ],
    ids=str,
)
def test_a_clock_fails_from_two_minutes_on(off: timedelta, says: str, *, ok: bool) -> None:
    with vendor("directo", now=lambda: datetime.now(UTC) + off) as served_vendor:
        served_vendor.connect(resources=RESOURCES[:-1])
        found = outcomes(ok=ok)
    assert found["clock"]["says"].endswith(says)
    assert (None if ok else hints.CLOCK) == found["clock"]["remedy"]
    assert {"login": True, "clock": ok} | dict.fromkeys(RESOURCES, True) == oks(found)


# Resources


@pytest.mark.parametrize("name", ["orders", "items"])
def test_a_forbidden_resource_fails_alone_and_its_remedy_names_the_missing_right(books: Vendor, name: str) -> None:
    books.sandbox.refused[name] = directo.FORBIDDEN
    found = outcomes(ok=False)
    assert [name] == [what for what, row in found.items() if not row["ok"]]
    assert "API key lacks required permissions" in found[name]["says"]
    assert (
        f"give this login the right to read {name} at the vendor, or leave it out of `resources` in "
        f"[connections.it] of {configuration.find()}"
    ) == found[name]["remedy"]


def test_a_resource_that_the_role_may_not_read_fails_alone() -> None:
    with vendor("dilovod") as served_vendor:
        served_vendor.connect(resources=["catalogs.goods", "catalogs.units"])
        served_vendor.sandbox.books.denied.add("catalogs.goods")
        found = outcomes(ok=False)
    assert ["catalogs.goods"] == [what for what, row in found.items() if not row["ok"]]
    assert "the right to read catalogs.goods" in found["catalogs.goods"]["remedy"]


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (Response("<html>Sorry</html>"), "the answer is not the vendor's"),
        (Response('{"surprise": 1}', media_type="application/json"), "the answer is not the vendor's, or incomplete"),
        (Response("broken", 500), "if the vendor has an outage, wait"),
        (Response("slow down", 429, {"Retry-After": "1"}), "wait 1 s, as the vendor asks"),
    ],
    ids=["html", "other_json", "500", "429"],
)
def test_a_resource_that_cannot_be_read_now_fails_alone(books: Vendor, answer: Response, remedy: str) -> None:
    books.proxy.instead["/orders"] = answer
    found = outcomes(ok=False)
    assert ["orders"] == [what for what, row in found.items() if not row["ok"]]
    assert remedy in found["orders"]["remedy"]


@pytest.mark.timeout(50)  # the longest wait for a lease is a minute
def test_a_gate_that_stays_closed_for_long_is_not_waited_for(books: Vendor) -> None:
    books.proxy.instead["/orders"] = Response("slow down", 429, {"Retry-After": "7200"})
    found = outcomes(ok=False)
    succeeded = dict.fromkeys(["login", "clock", "items"], True)
    assert succeeded | dict.fromkeys(["orders", "stocklevels", "deleted"], False) == oks(found)
    assert "not checked: the account's gate is closed until" in found["stocklevels"]["says"]
    assert "not checked: the gate is closed" == found["deleted"]["says"]
    again = outcomes(ok=False)
    assert "gate is closed until" in again["login"]["says"]
    assert again["login"]["remedy"].startswith("wait until ")


def test_closed_hours_are_no_failure_and_the_next_opening_is_printed() -> None:
    opens = datetime.now(UTC) + timedelta(hours=8)
    hours = f"{opens:%H:%M}", f"{opens + timedelta(hours=2):%H:%M}"
    with vendor("easyflor", closed=True, hours=hours) as served_vendor:
        served_vendor.connect()
        found = outcomes(ok=True)
    assert found["hours"]["says"].startswith(f"closed for full syncs until {opens:%Y-%m-%d %H:%M} UTC")


@pytest.mark.usefixtures("books")
def test_a_reply_that_the_vendor_is_closed_is_no_failure() -> None:
    loaded = configuration.load()
    database = cli.common.database(loaded)
    connection = connection_check.ConnectionCheck(context.connection_context(database, loaded, "it"), lambda _: None)
    closed = errors.ClosedError("only before 5 AM", until=datetime(2026, 6, 1, 18, tzinfo=UTC))
    outcome = connection._failed("items", closed, hints.of_resource(closed, "items", "[connections.it] of f"))
    database.close()
    assert (
        connection_check.CheckOutcome("it", "directo", "items", "closed until 2026-06-01 18:00 UTC: only before 5 AM")
        == outcome
    )


# Folders


@pytest.mark.parametrize("folder", [None, "incoming"])
def test_a_handed_in_resource_is_checked_by_its_first_document(folder: str | None) -> None:
    with vendor("interpreter") as served_vendor:
        if folder is not None:
            Path(folder).mkdir()
        served_vendor.connect(inbox=folder)
        found = outcomes(ok=True)
    assert found["invoice"]["says"].startswith("checked by the first document")


def test_a_watched_folder_that_workers_will_create_need_not_exist() -> None:
    with vendor("interpreter") as served_vendor:
        served_vendor.connect(inbox="incoming")
        found = outcomes(ok=True)
    assert found["invoice"]["says"].endswith("incoming/invoice will be made and watched")
    assert not Path("incoming").exists()


def test_a_watched_folder_without_a_parent_fails_and_the_remedy_creates_it() -> None:
    with vendor("interpreter") as served_vendor:
        served_vendor.connect(inbox="mnt/scans")
        found = outcomes(ok=False)
    missing = Path("mnt").absolute()
    assert {"login": True, "clock": True, "deliverynote": False, "invoice": False} == oks(found)
    assert f"{missing} cannot be used: No such file or directory" in found["invoice"]["says"]
    assert f"mkdir -p {missing}" in found["invoice"]["remedy"]


def test_the_watched_folder_of_each_kind_must_be_writable() -> None:
    Path("incoming").mkdir()
    Path("incoming/invoice").write_text("no folder", encoding="utf-8")
    with vendor("interpreter") as served_vendor:
        served_vendor.connect(inbox="incoming")
        found = outcomes(ok=False)
    assert {"login": True, "clock": True, "deliverynote": True, "invoice": False} == oks(found)
    assert "Not a directory" in found["invoice"]["says"]
    assert [Path("incoming/invoice")] == list(Path("incoming").iterdir()), "nothing is left behind"


# Messages


def _failures(base: type[errors.VendorError] = errors.VendorError) -> Iterator[errors.VendorError]:
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            arguments: dict[str, Any] = {"until": datetime.now(UTC)} if kind is errors.ClosedError else {}
            yield kind("words", **arguments)
            yield from _failures(kind)


@pytest.mark.parametrize("failure", list(_failures()), ids=lambda failure: type(failure).__name__)
def test_every_failure_but_closed_hours_has_a_remedy(failure: errors.VendorError) -> None:
    found = hints.of_resource(failure, "items", "[connections.it] of f")
    assert isinstance(failure, errors.ClosedError) == (found is None)


def test_the_report_fits_80_columns_and_cuts_no_name_path_or_command() -> None:
    long = "informationRegisters.goodsPrices"
    remedy = hints.of_resource(errors.SetAside("no", whole_resource=False), long, "[connections.it] of /etc/x.toml")
    file = "/srv/companies/a-long-name-of-a-company/erpmirror/production/erpmirror.toml"
    rows = [
        connection_check.CheckOutcome(None, None, "settings", file),
        connection_check.CheckOutcome("it", "dilovod", "login", "the role sees 300 kinds of objects, " * 5),
        connection_check.CheckOutcome(
            "it", "dilovod", long, "Access denied, check role settings", ok=False, remedy=remedy
        ),
    ]
    lines = [line for text in check_command.report(rows, 80) for line in text.plain.splitlines()]
    assert file in lines[0]
    assert max(map(len, lines[1:])) <= 80
    assert [["!!", long]] == [line.split()[:2] for line in lines if "!!" in line]
    assert any("`erpmirror check`" in line for line in lines)
    assert "→ the answer is not what this vendor documents" in " ".join(" ".join(lines).split())


def test_without_a_database_each_connection_says_so_in_one_line() -> None:
    write_settings(
        "".join(
            f'[connections.{name}]\nsystem = "directo"\napi_key = "k"\nresources = ["items"]\n'
            for name in ("one", "two")
        )
    )
    logins = [line for line in run("check").stdout.splitlines() if "login" in line]
    assert ["!!  login  not checked: the gate needs the database"] * 2 == logins


@pytest.mark.usefixtures("books")
def test_progress_is_shown_on_a_terminal_and_keeps_the_output_clean() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "workers.cli", "check", "--json"]
    env = {"TERM": "xterm", **os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=env, check=True)
    os.close(theirs)
    progress = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "Checking" in progress
    assert [*RESOURCES] == [row["what"] for row in json.loads(ran.stdout)][-len(RESOURCES) :]
