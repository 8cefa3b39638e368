"""The verbs for setting up: the demo, the tables, a vendor's sandbox, Dilovod's API node."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors, mending, ports

if TYPE_CHECKING:
    import threading

    from workers.connectors.contract import Sandbox


def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Stop after one day; exit with 0 if equal, else 1.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the demo keeps its files. Default: a temporary folder.", show_default=False),
    ] = None,
) -> None:
    """Run the whole product against made-up companies: a day of edits, lost webhooks, the mirror catching up.

    It needs no settings, no server and no account.

    Example: [bold]erpmirror demo --once[/]
    """
    from workers.demo import run

    raise typer.Exit(run.run(once=once, folder=folder))


def migrate(config: common.Config = None) -> None:
    """Create the database's tables, migrate them to this version, and make anew what is missing of them.

    Repeating it is harmless.

    Example: [bold]erpmirror migrate[/]
    """
    from models.db import migration
    from models.settings import own_files

    loaded = common.settings(config)
    own_files.tighten(loaded)
    database = common.database(loaded, migrated=False)
    state = migration.state(database)
    mending.migrate(database, loaded)
    messages = {
        "missing": "The tables are created.",
        "old": "The tables are migrated to this version.",
        "damaged": "What was missing of the tables is made anew.",
    }
    common.out().print(messages.get(state, "The tables are those of this version already."))


def sandbox(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="The system, such as dilovod.")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 1,
    edits_per_minute: Annotated[float, typer.Option(min=0, metavar="N", help="Edits per minute; 0: none.")] = 0,
    webhook_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where the sandbox sends its webhooks, if the system has any.", show_default=False
        ),
    ] = None,
) -> None:
    """Run one vendor's sandbox: invented data with the vendor's real shapes, rules and errors.

    It prints the connection's settings, to be pasted into erpmirror.toml, and runs until Ctrl-C.

    Example: [bold]erpmirror sandbox dilovod --port 9001 --edits-per-minute 12 --webhook-url http://127.0.0.1:8000/hooks/dilovod_sandbox[/]
    """
    import uvicorn

    from workers.demo import listening

    app = _sandbox_app(system, seed, webhook_url)
    ports.require_free("127.0.0.1", port, setting="--port", host_setting="the name of this machine")
    controls: Sandbox = app.state.sandbox
    with listening.bind("127.0.0.1", port) as listener:
        _print_connection(system, controls, listener.getsockname()[1], webhook_url)
        stop = _start_edits(controls, edits_per_minute, seed)
        try:
            config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            stop.set()


def _sandbox_app(system: str, seed: int, webhook_url: str | None) -> Any:
    from workers.connectors import discovery

    known = {name: each for name, each in discovery.systems().items() if each.has_sandbox}
    if system not in known:
        raise errors.UserError(f'there is no sandbox of "{system}"{common.suggestion(system, list(known))}')
    knobs: dict[str, Any] = {"seed": seed}
    if webhook_url is not None:
        if known[system].webhooks is None:
            raise errors.UserError(f"{system} sends no webhooks; leave out --webhook-url")
        knobs["webhook_url"] = webhook_url
    return known[system].sandbox(**knobs)


def _print_connection(system: str, controls: Sandbox, port: int, webhook_url: str | None) -> None:
    from workers.cli import settings_template
    from workers.connectors import discovery

    values = controls.settings() | {"url": f"http://127.0.0.1:{port}"}
    values |= settings_template.commands(discovery.systems()[system])
    if "webhook_sources" in discovery.systems()[system].options.model_fields:
        values["webhook_sources"] = ["127.0.0.1"]
    typer.echo(settings_template.table(f"{system}_sandbox", values))
    common.err().print(f"# The sandbox of {system} answers on port {port}. Ctrl-C stops it.")
    if discovery.systems()[system].webhooks is not None and webhook_url is None:
        common.err().print("# It sends no webhooks; this option sends them to a receiver:")
        common.err().print(f"#   --webhook-url http://127.0.0.1:8000/hooks/{system}_sandbox", soft_wrap=True)


def _start_edits(controls: Sandbox, per_minute: float, seed: int) -> threading.Event:
    """Make edits in a thread until the event is set."""
    import random
    import threading

    stop = threading.Event()
    if per_minute:
        rng = random.Random(seed)

        def edit() -> None:
            while not stop.wait(60 / per_minute):
                common.err().print(controls.edit(rng), markup=False)

        threading.Thread(target=edit, daemon=True).start()
    return stop


def dilovod_node(
    connection: common.Name,
    *,
    url: Annotated[str, typer.Option(metavar="URL", help="The receiver's address as Dilovod reaches it: https://…")],
    config: common.Config = None,
) -> None:
    """Print the settings file that creates Dilovod's API node for a connection.

    The node may read the configured resources, and sends webhooks to the receiver. Load the file in Dilovod where API
    nodes are created. It holds the webhook's secret, if one is set.

    Example: [bold]erpmirror dilovod-node shop --url https://mirror.example.com > node.json[/]
    """
    import json

    from workers.connectors.dilovod import node, options

    loaded = common.settings(config)
    found = common.options(loaded, connection)
    if not isinstance(found, options.Options):
        raise errors.UserError(f"{connection} is a connection to {found.system}; only Dilovod has such a file")
    if not url.startswith(("https://", "http://")):
        raise typer.BadParameter("the address must begin with https://", param_hint="--url")
    if found.webhook_secret is None:
        common.note("No webhook_secret is set, so only webhook_sources protects the webhook.")
    typer.echo(json.dumps(node.node_file(found, url), ensure_ascii=False, indent=2))
