"""The verbs that write the settings file, for real accounts or for sandboxes, and its JSON Schema."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from workers.connectors.contract import Sandbox

_FIRST_PORT = 9101
"""Of the sandboxes, which take one each, in the order of their names."""

_INBOX = "incoming"
_RECEIVER = "http://127.0.0.1:8000"
_EDITS_PER_MINUTE = 6.0
_QUICK = {"every": "15s", "full_every": "1m", "reconcile_every": "1m", "requests_per_minute": 600}
"""Intervals that a person can watch."""


def init(
    systems: Annotated[
        list[str] | None,
        typer.Argument(metavar="SYSTEM", help="With --sandbox: which. Default: all.", show_default=False),
    ] = None,
    *,
    config: common.Config = None,
    sandbox: Annotated[
        bool,
        typer.Option("--sandbox", help="Write connections to sandboxes, create the tables, and run the sandboxes."),
    ] = False,
    compose: Annotated[
        bool, typer.Option("--compose", help="Write it for the services of docker-compose.yml.")
    ] = False,
) -> None:
    """Write erpmirror.toml with every setting explained, and a new token. An existing file is kept.

    With --sandbox it also writes a connection to each vendor's sandbox, creates the tables, and runs the sandboxes
    until Ctrl-C; `erpmirror up` in a second terminal mirrors them. Repeated, it runs the sandboxes of the file again.

    Example: [bold]erpmirror init[/]

    Example: [bold]erpmirror init --sandbox dilovod directo[/]
    """
    file = common.settings_file(config)
    if sandbox and compose:
        raise errors.UserError("--sandbox runs without containers, --compose in them; choose one")
    if sandbox:
        _run_sandboxes(file, systems or [])
        return
    if systems:
        raise errors.UserError("systems are named with --sandbox only; `erpmirror init` writes all of them")
    _write(file, {}, compose=compose)
    out = common.out()
    common.print_lines(out, f"Wrote {file}")
    out.print("Next:")
    out.print("  1. open it and fill in your connections")
    if compose:
        out.print("  2. docker compose up -d    mirrors them")
        return
    out.print("  2. erpmirror migrate    creates the tables")
    out.print("  3. erpmirror check      checks each connection")
    out.print("  4. erpmirror up         mirrors them")


def settings_schema() -> None:
    """Print the JSON Schema of erpmirror.toml, by which editors complete and check it.

    The file that `init` writes names it in its first line, as Taplo and Even Better TOML read it.

    Example: [bold]erpmirror settings-schema > erpmirror.schema.json[/]
    """
    import json

    from models.settings import descriptions
    from workers.connectors import discovery

    options = {name: system.options for name, system in discovery.systems().items()}
    typer.echo(json.dumps(descriptions.schema(options), ensure_ascii=False, indent=2))


def _write(file: Path, connections: Mapping[str, Mapping[str, Any]], *, compose: bool = False) -> None:
    import os
    import secrets

    from workers.cli import settings_template
    from workers.connectors import discovery

    content = settings_template.text(discovery.systems(), secrets.token_urlsafe(32), connections)
    if compose:
        content = settings_template.for_compose(content)
    try:
        # Only its owner may read it: it holds the token, and later API keys.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise errors.UserError(f"{file} exists already; edit it, or remove it first") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(content)


# Sandboxes


def _run_sandboxes(file: Path, wanted: list[str]) -> None:
    """Run them until SIGINT or SIGTERM, after the file and the tables exist."""
    import signal
    import threading

    ports = _ports()
    for system in wanted:
        if system not in ports:
            raise errors.UserError(f'there is no sandbox of "{system}"{common.suggestion(system, list(ports))}')
    chosen = [system for system in ports if not wanted or system in wanted]
    if file.exists():
        chosen = _sandboxes_of(file, ports)
    with ExitStack() as stack:
        listeners = {system: stack.enter_context(_listen(system, ports[system])) for system in chosen}
        apps = {system: _app(system, file.parent / _INBOX) for system in chosen}
        if not file.exists():
            _write(file, {f"{system}_sandbox": _connection(system, apps[system], ports[system]) for system in chosen})
        _create_tables(file)
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        for system in chosen:
            stack.callback(_serve(apps[system], listeners[system], stopped))
        _print_next(file, chosen)
        stopped.wait()


def _ports() -> dict[str, int]:
    from workers.connectors import discovery

    names = sorted(name for name, system in discovery.systems().items() if system.has_sandbox)
    return {name: _FIRST_PORT + index for index, name in enumerate(names)}


def _sandboxes_of(file: Path, ports: Mapping[str, int]) -> list[str]:
    """The systems to whose sandboxes an existing file has connections."""
    addresses = {each.url for each in common.settings(file).connections.values()}
    found = [system for system, port in ports.items() if any(url.startswith(_address(port)) for url in addresses)]
    if not found:
        raise errors.UserError(f"{file} exists already and has no connection to a sandbox; remove it first")
    return found


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _listen(system: str, port: int) -> socket.socket:
    from workers.demo import listening

    try:
        return listening.bind("127.0.0.1", port)
    except OSError as error:
        reason = f"the sandbox of {system} cannot answer on port {port}: {error.strerror}"
        raise errors.UserError(f"{reason}; end the program that has it (`lsof -i :{port}` shows it)") from None


def _app(system: str, inbox: Path) -> Any:
    from workers.connectors import discovery

    found = discovery.systems()[system]
    knobs: dict[str, Any] = {} if found.webhooks is None else {"webhook_url": f"{_RECEIVER}/hooks/{system}_sandbox"}
    if "inbox" in found.options.model_fields:
        knobs["inbox"] = inbox
    return found.sandbox(seed=1, **knobs)


def _connection(system: str, app: Any, port: int) -> dict[str, Any]:
    from workers.cli import settings_template
    from workers.connectors import discovery

    fields = discovery.systems()[system].options.model_fields
    values: dict[str, Any] = {"system": system} | app.state.sandbox.settings() | {"url": _address(port)}
    values |= {key: value for key, value in _QUICK.items() if key in fields}
    values |= {"inbox": _INBOX} if "inbox" in fields else {}
    values |= settings_template.commands(discovery.systems()[system])
    return values | ({"webhook_sources": ["127.0.0.1"]} if "webhook_sources" in fields else {})


def _create_tables(file: Path) -> None:
    from models.db import migration

    database = common.database(common.settings(file), migrated=False)
    migration.migrate(database)
    database.close()


def _serve(app: Any, listener: socket.socket, stopped: threading.Event) -> Any:
    """Serve in a thread and edit in another, until `stopped`. Returns what waits for their end."""
    import random
    import threading

    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1))
    controls: Sandbox = app.state.sandbox
    rng = random.Random(1)

    def edit() -> None:
        while not stopped.wait(60 / _EDITS_PER_MINUTE):
            controls.edit(rng)

    threads = [
        threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True),
        threading.Thread(target=edit, daemon=True),
    ]
    for thread in threads:
        thread.start()

    def end() -> None:
        server.should_exit = True
        for thread in threads:
            thread.join(5)

    return end


def _print_next(file: Path, systems: list[str]) -> None:
    out = common.out()
    out.print(f"{file} has connections to sandboxes: {', '.join(systems)}.", soft_wrap=True)
    out.print("They answer here, and change now and then, until Ctrl-C. In a second terminal:")
    out.print("  1. erpmirror up         mirrors them")
    out.print("  2. erpmirror status     shows the rows")
