"""The demo: every system's sandbox, a day of edits, the whole product catching up, and a table that proves equality."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import uvicorn
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from models import status
from models.database import Database
from workers import configuration, listening
from workers.comparison import Comparison, compare
from workers.connectors import discovery
from workers.connectors.http import reachable
from workers.desk import desks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

    from models.settings import Settings
    from workers.connectors.contract import Sandbox

_HOST = "127.0.0.1"
_SCHEDULE = {"every": "2s", "full_every": "8s", "reconcile_every": "4s", "requests_per_minute": 6000}
"""A demo is watched: what an installation does in hours happens in seconds."""

_LOST, _DOUBLED = 0.25, 0.25
"""Shares of the webhooks that are lost and doubled on purpose."""

_PATIENCE = 180.0
_EDIT_PAUSE = 0.4


def run(*, once: bool, folder: Path | None = None, seed: int = 1) -> int:
    """Play the demo; the exit status. `once`: one scripted day, then prove equality; else edits until interrupted."""
    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whatever it started ends with it
    home = (folder or Path(tempfile.mkdtemp(prefix="erpmirror-demo-"))).resolve()
    home.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    with ExitStack() as stack:
        sandboxes = _serve_all(stack, home, port, seed)
        settings = configuration.load(home / configuration.FILE)
        database = Database(settings.database.url)
        stack.callback(database.close)
        stack.enter_context(_up(home))
        _wait_for_receiver(console, port)
        shown = _Watch(database, settings, sandboxes)
        _catch_up(console, shown, "First load")
        try:
            _story(console, sandboxes, seed)
            if not once:
                _everyday(console, shown, seed)
        except KeyboardInterrupt:
            console.print("Interrupted: one last look at the differences.")
        equal = _catch_up(console, shown, "Catching up")
        console.print(_table(shown.compare()))
        _say_where(console, home, database)
    console.print("[green]The mirror equals the sandboxes.[/]" if equal else "[red]The mirror differs.[/]")
    return 0 if equal else 1


# The stage


def _serve_all(stack: ExitStack, home: Path, port: int, seed: int) -> dict[str, Sandbox]:
    """Every system's sandbox on a port of its own, and the settings file that leads to them."""
    sandboxes: dict[str, Sandbox] = {}
    tables = [f'[receiver]\nport = {port}\n\n[database]\nurl = "sqlite:///var/erpmirror.db"\n']
    for name, system in discovery.systems().items():
        if not system.has_sandbox:
            continue
        knobs: dict[str, Any] = {"seed": seed}
        if system.notices is not None:
            hook = f"http://{_HOST}:{port}/hooks/{name}"
            knobs |= {"webhook_url": hook, "lost": _LOST, "doubled": _DOUBLED}
        app = system.sandbox(**knobs)
        url = stack.enter_context(_served(app))
        sandboxes[name] = app.state.sandbox
        values = app.state.sandbox.settings() | {"url": url}
        fields = system.options.model_fields
        values |= {key: value for key, value in _SCHEDULE.items() if key in fields}
        if "webhook_sources" in fields:
            values["webhook_sources"] = [_HOST]
        tables.append(_toml(f"connections.{name}", values))
    (home / configuration.FILE).write_text("\n".join(tables), encoding="utf-8")
    return sandboxes


def _toml(name: str, values: dict[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


@contextmanager
def _served(app: Starlette) -> Iterator[str]:
    with listening.on(_HOST, 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://{_HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(5)


@contextmanager
def _up(home: Path) -> Iterator[None]:
    """`erpmirror up`, its output in a file."""
    with (home / "up.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "workers.cli", "up", "--config", str(home / configuration.FILE)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)  # noqa: S603 - our own command
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for_receiver(console: Console, port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    with console.status("Starting receiver, workers and beat …"):
        while not reachable(f"http://{_HOST}:{port}/livez"):
            if time.monotonic() > deadline:
                raise TimeoutError("the receiver did not start; up.log in the demo's folder says why")
            time.sleep(0.1)


# The play


def _story(console: Console, sandboxes: dict[str, Sandbox], seed: int) -> None:
    """The scripted day of every sandbox, in turns."""
    console.rule("A day of edits")
    stories = {name: sandbox.story() for name, sandbox in sandboxes.items()}
    chance = random.Random(seed)
    while stories:
        name = chance.choice(list(stories))
        sentence = next(stories[name], None)
        if sentence is None:
            del stories[name]
            continue
        console.print(f"[bold]{name:>12}[/]  {sentence}")
        time.sleep(_EDIT_PAUSE * chance.random())


def _everyday(console: Console, shown: _Watch, seed: int) -> None:
    """Everyday edits until interrupted, with the table kept up to date."""
    console.rule("Edits go on; Ctrl-C ends")
    chance = random.Random(seed)
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            name = chance.choice(list(shown.sandboxes))
            sentence = shown.sandboxes[name].edit(chance)
            table = _table(shown.compare())
            table.caption = f"{name}: {sentence}"
            live.update(table)
            time.sleep(1 + chance.random())


class _Watch:
    """The vendors' truth beside the mirror's rows."""

    def __init__(self, database: Database, settings: Settings, sandboxes: dict[str, Sandbox]) -> None:
        self.sandboxes = sandboxes
        self._database = database
        self._desks = desks(database, settings)

    def compare(self) -> list[Comparison]:
        """Every resource that the sandboxes can tell the truth of."""
        return compare(self._database, self._desks, self.sandboxes)

    def pending(self) -> int:
        """Keys that still wait for a fetch."""
        return sum(row.pending for row in status.resources(self._database))


def _catch_up(console: Console, shown: _Watch, title: str) -> bool:
    """Wait until nothing differs and nothing waits; False when that takes too long."""
    deadline = time.monotonic() + _PATIENCE
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, left="")
        while time.monotonic() < deadline:
            compared = shown.compare()
            objects = sum(row.objects for row in compared)
            different = sum(len(row.differences) for row in compared)
            progress.update(
                task, total=objects, completed=max(0, objects - different), left=f"{different} of {objects} differ"
            )
            if different == 0 and shown.pending() == 0:
                return True
            time.sleep(0.3)
    return False


def _table(compared: list[Comparison]) -> Table:
    table = Table(title="The mirror beside the vendors")
    table.add_column("connection", no_wrap=True)
    table.add_column("resource", no_wrap=True)
    for name in ("at the vendor", "in the mirror", "differ"):
        table.add_column(name, justify="right")
    for row in compared:
        colour = "red" if row.differences else "green"
        different = f"[{colour}]{len(row.differences)}[/]"
        table.add_row(row.connection, row.resource, str(row.objects), str(row.rows), different)
    return table


def _say_where(console: Console, home: Path, database: Database) -> None:
    with database.read() as connection:
        entries = connection.execute(sa.text("SELECT count(*) FROM changes")).scalar_one()
        received = connection.execute(sa.text("SELECT count(*) FROM notices")).scalar_one()
    console.print(f"{received} webhooks received, {entries} changes in the journal.")
    console.print(f"Look around:  [bold]sqlite3 {home / 'var' / 'erpmirror.db'}[/]")
    console.print(f"What ran:     {home / 'up.log'}")
