"""The verbs for the start: a demo, a settings file, the tables, a sandbox."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from workers.connectors.contract import Sandbox


def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Run one day, prove equality, exit with 0 or 1.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="Keep the demo's files here. Default: a new temporary folder.", show_default=False),
    ] = None,
) -> None:
    """Show erpmirror at work: sandboxes, a day of edits with lost webhooks, the mirror catching up.

    Needs no settings, no server and no account.

    Example: [bold]erpmirror demo --once[/]
    """
    from workers.demo import run

    raise typer.Exit(run.run(once=once, folder=folder))


def init(config: common.Config = None) -> None:
    """Write a commented erpmirror.toml with a new token. An existing file is never changed.

    Example: [bold]erpmirror init[/]
    """
    import os
    import secrets

    from workers.cli import settings_template
    from workers.connectors import discovery

    file = common.file(config)
    content = settings_template.text(discovery.systems(), secrets.token_urlsafe(32))
    try:
        # Readable by its owner alone: it holds a token, and later keys.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise errors.Problem(f"{file} exists already; edit it, or remove it first") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(content)
    out = common.out()
    out.print(f"Wrote {file}", soft_wrap=True)
    out.print("Next:")
    out.print("  1. open it and fill in your connections")
    out.print("  2. erpmirror migrate    creates the tables")
    out.print("  3. erpmirror check      checks each connection")
    out.print("  4. erpmirror up         mirrors them")


def migrate(config: common.Config = None) -> None:
    """Create the database's tables, or bring them to this version. Harmless when repeated.

    Example: [bold]erpmirror migrate[/]
    """
    from models.db import migration

    database = common.database(common.settings(config), migrated=False)
    before = migration.state(database)
    migration.migrate(database)
    done = {"missing": "The tables are created.", "old": "The tables are brought to this version."}
    common.out().print(done.get(before, "The tables are those of this version already."))


def sandbox(
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="The system, such as dilovod.")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 1,
    edits_per_minute: Annotated[
        float, typer.Option(min=0, metavar="N", help="How often an object is edited; 0: never.")
    ] = 0,
    webhook_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where edits send their webhooks, for systems that have them.", show_default=False
        ),
    ] = None,
) -> None:
    """Run one vendor's sandbox: invented data with the vendor's real shapes, rules and errors.

    It prints the connection to paste into erpmirror.toml, and runs until Ctrl-C.

    Example: [bold]erpmirror sandbox dilovod --port 9001 --edits-per-minute 12[/]
    """
    import uvicorn

    from workers.demo import listening

    made = _sandbox(system, seed, webhook_url)
    stand_in: Sandbox = made.state.sandbox
    with listening.bind("127.0.0.1", port) as listener:
        _print_connection(system, stand_in, listener.getsockname()[1])
        stop = _edit_now_and_then(stand_in, edits_per_minute, seed)
        try:
            config = uvicorn.Config(made, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            stop.set()


def _sandbox(system: str, seed: int, webhook_url: str | None) -> Any:
    from workers.connectors import discovery

    known = {name: each for name, each in discovery.systems().items() if each.has_sandbox}
    if system not in known:
        raise errors.Problem(f'there is no sandbox of "{system}"{common.known(system, list(known))}')
    knobs: dict[str, Any] = {"seed": seed}
    if webhook_url is not None:
        if known[system].webhooks is None:
            raise errors.Problem(f"{system} sends no webhooks; leave out --webhook-url")
        knobs["webhook_url"] = webhook_url
    return known[system].sandbox(**knobs)


def _print_connection(system: str, stand_in: Sandbox, port: int) -> None:
    from workers.cli import settings_template
    from workers.connectors import discovery

    values = stand_in.settings() | {"url": f"http://127.0.0.1:{port}"}
    if "webhook_sources" in discovery.systems()[system].options.model_fields:
        values["webhook_sources"] = ["127.0.0.1"]
    typer.echo(settings_template.table(f"{system}_sandbox", values))
    common.err().print(f"# The sandbox of {system} answers on port {port}. Ctrl-C stops it.")


def _edit_now_and_then(stand_in: Sandbox, per_minute: float, seed: int) -> Any:
    import random
    import threading

    stop = threading.Event()
    if per_minute:
        dice = random.Random(seed)

        def edit() -> None:
            while not stop.wait(60 / per_minute):
                common.err().print(stand_in.edit(dice), markup=False)

        threading.Thread(target=edit, daemon=True).start()
    return stop


def dilovod_node(
    connection: common.Name,
    *,
    url: Annotated[str, typer.Option(metavar="URL", help="The receiver's address as Dilovod reaches it: https://…")],
    config: common.Config = None,
) -> None:
    """Print the settings file that creates Dilovod's API node for a connection.

    It grants read rights and registers the webhook.

    Load it in Dilovod where API nodes are created. It holds the webhook's secret, if one is set.

    Example: [bold]erpmirror dilovod-node shop --url https://mirror.example.com > node.json[/]
    """
    import json

    from workers.connectors.dilovod import node, options

    loaded = common.settings(config)
    found = common.options(loaded, connection)
    if not isinstance(found, options.Options):
        raise errors.Problem(f"{connection} is a connection to {found.system}; only Dilovod has such a file")
    if not url.startswith(("https://", "http://")):
        raise typer.BadParameter("an address begins with https://", param_hint="--url")
    if found.webhook_secret is None:
        common.note("No webhook_secret is set: only the allow-list of senders protects the webhook.")
    typer.echo(json.dumps(node.node_file(found, url), ensure_ascii=False, indent=2))
