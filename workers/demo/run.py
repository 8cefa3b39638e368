"""The demo: runs every sandbox and `erpmirror up`, makes edits, and compares the mirror with the sandboxes.

The comparison bypasses the mirror's own bookkeeping: it reads each sandbox's objects directly, so it can fail.
"""

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
from models.db.database import Database
from workers import configuration, lifeline
from workers.connectors import discovery
from workers.connectors.http import reachable
from workers.context import all_contexts
from workers.demo import listening
from workers.demo.compare import Comparison, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

    from models.settings.load import Settings
    from workers.connectors.contract import Sandbox

_HOST = "127.0.0.1"
_SCHEDULE = {"every": "2s", "full_every": "8s", "reconcile_every": "4s", "requests_per_minute": 6000}
"""Intervals of seconds instead of minutes and hours, so that a person can watch."""

_LOST_SHARE, _DOUBLED_SHARE = 0.25, 0.25
"""Shares of the webhooks that the sandboxes lose and send twice on purpose."""

_TIMEOUT = 180.0
"""Seconds to wait for the receiver, and again for the mirror to catch up."""

_EDIT_PAUSE = 0.4
_EQUAL = "[green]The mirror equals the sandboxes.[/]"
_DIFFERENT = "[red]The mirror differs from the sandboxes; up.log in the folder above may say why.[/]"


def run(*, once: bool, folder: Path | None = None, seed: int = 1) -> int:
    """Run the demo and return the exit status: 0 if the mirror equals the sandboxes at the end.

    `once`: play one scripted day and stop; otherwise edits go on until Ctrl-C. `folder`: for the settings file, the
    database and the log; a temporary one by default. `seed`: of the sandboxes' data and of the order of edits.
    """
    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM also stops the child processes
    home = (folder or Path(tempfile.mkdtemp(prefix="erpmirror-demo-"))).resolve()
    home.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    with ExitStack() as stack:
        sandboxes = _serve_all(stack, home, port, seed)
        settings = configuration.load(home / configuration.FILE)
        database = Database(settings.database.url)
        stack.callback(database.close)
        _wait_for_receiver(console, port, stack.enter_context(_run_up(home)))
        monitor = _Monitor(database, settings, sandboxes)
        _wait_until_equal(console, monitor, "First full sync")
        try:
            _play_scenario(console, sandboxes, seed)
            if not once:
                _edit_until_interrupted(console, monitor, seed)
        except KeyboardInterrupt:
            console.print("Interrupted. Waiting for the mirror to catch up.")
        equal = _wait_until_equal(console, monitor, "Waiting for the mirror to catch up")
        console.print(_table(monitor.compare()))
        _print_summary(console, home, database)
    console.print(_EQUAL if equal else _DIFFERENT)
    return 0 if equal else 1


# Processes


def _serve_all(stack: ExitStack, home: Path, port: int, seed: int) -> dict[str, Sandbox]:
    """Serve each system's sandbox on its own port, and write the settings file with a connection to each."""
    sandboxes: dict[str, Sandbox] = {}
    tables = [f'[receiver]\nport = {port}\n\n[database]\nurl = "sqlite:///var/erpmirror.db"\n']
    for name, system in discovery.systems().items():
        if not system.has_sandbox:
            continue
        knobs: dict[str, Any] = {"seed": seed}
        if system.webhooks is not None:
            hook = f"http://{_HOST}:{port}/hooks/{name}"
            knobs |= {"webhook_url": hook, "lost": _LOST_SHARE, "doubled": _DOUBLED_SHARE}
        app = system.sandbox(**knobs)
        url = stack.enter_context(_serve(app))
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
def _serve(app: Starlette) -> Iterator[str]:
    with listening.bind(_HOST, 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://{_HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(5)


@contextmanager
def _run_up(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `erpmirror up` inside the block; its output goes to `up.log`."""
    with (home / "up.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "workers.cli", "up", "--config", str(home / configuration.FILE)]
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.PIPE,  # its lifeline: it ends with the demo
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=lifeline.environment(),
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for_receiver(console: Console, port: int, up: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    with console.status("Starting receiver, workers and scheduler …"):
        while not reachable(f"http://{_HOST}:{port}/livez"):
            if up.poll() is not None:
                raise ChildProcessError("`erpmirror up` ended; up.log in the demo's folder says why")
            if time.monotonic() > deadline:
                raise TimeoutError("the receiver did not start; see up.log in the demo's folder")
            time.sleep(0.1)


# Edits and comparison


def _play_scenario(console: Console, sandboxes: dict[str, Sandbox], seed: int) -> None:
    """Play the scripted day of every sandbox, interleaved at random."""
    console.rule("A day of edits")
    scenarios = {name: sandbox.scenario() for name, sandbox in sandboxes.items()}
    rng = random.Random(seed)
    while scenarios:
        name = rng.choice(list(scenarios))
        description = next(scenarios[name], None)
        if description is None:
            del scenarios[name]
            continue
        console.print(f"[bold]{name:>12}[/]  {description}")
        time.sleep(_EDIT_PAUSE * rng.random())


def _edit_until_interrupted(console: Console, monitor: _Monitor, seed: int) -> None:
    """Make everyday edits until Ctrl-C, and keep the table up to date."""
    console.rule("Edits continue until Ctrl-C")
    rng = random.Random(seed)
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            name = rng.choice(list(monitor.sandboxes))
            description = monitor.sandboxes[name].edit(rng)
            table = _table(monitor.compare())
            table.caption = f"{name}: {description}"
            live.update(table)
            time.sleep(1 + rng.random())


class _Monitor:
    """Compares the sandboxes' objects with the mirror's rows, and counts pending keys."""

    def __init__(self, database: Database, settings: Settings, sandboxes: dict[str, Sandbox]) -> None:
        self.sandboxes = sandboxes
        self._database = database
        self._contexts = all_contexts(database, settings)

    def compare(self) -> list[Comparison]:
        """Compare every mirrored resource."""
        return compare(self._database, self._contexts, self.sandboxes)

    def pending(self) -> int:
        """Inbox keys that still wait for a fetch."""
        return sum(row.pending for row in status.resources(self._database))


def _wait_until_equal(console: Console, monitor: _Monitor, title: str) -> bool:
    """Wait until no object differs and no key is pending; False after `_TIMEOUT` seconds."""
    deadline = time.monotonic() + _TIMEOUT
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, left="")
        while time.monotonic() < deadline:
            comparisons = monitor.compare()
            objects = sum(row.objects for row in comparisons)
            different = sum(len(row.differences) for row in comparisons)
            progress.update(
                task, total=objects, completed=max(0, objects - different), left=f"{different} of {objects} differ"
            )
            if different == 0 and monitor.pending() == 0:
                return True
            time.sleep(0.3)
    return False


def _table(comparisons: list[Comparison]) -> Table:
    table = Table(title="Objects in the sandboxes and in the mirror")
    table.add_column("connection", no_wrap=True)
    table.add_column("resource", no_wrap=True)
    for name in ("in sandbox", "in mirror", "differ"):
        table.add_column(name, justify="right")
    for row in comparisons:
        colour = "red" if row.differences else "green"
        different = f"[{colour}]{len(row.differences)}[/]"
        table.add_row(row.connection, row.resource, str(row.objects), str(row.rows), different)
    return table


def _print_summary(console: Console, home: Path, database: Database) -> None:
    with database.read() as tx:
        changes = tx.execute(sa.text("SELECT count(*) FROM erpmirror_changes")).scalar_one()
        webhooks = tx.execute(sa.text("SELECT count(*) FROM erpmirror_webhooks")).scalar_one()
    console.print(f"{webhooks} webhooks received, {changes} changes in the journal.")
    console.print(f"Query the mirror:  [bold]sqlite3 {home / 'var' / 'erpmirror.db'}[/]", soft_wrap=True)
    console.print(f"Log:               {home / 'up.log'}", soft_wrap=True)
