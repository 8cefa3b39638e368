"""The command line: one module per group of verbs. A verb imports what it needs when it runs: `--help` stays fast."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from models import private
from workers import lifeline
from workers.cli import check, common, export, hand_in, init, maintenance, parked, run_now, serve, setup, status

if TYPE_CHECKING:
    from collections.abc import Callable


_BROKEN_PIPE = 141
"""The exit status of a program that SIGPIPE ended, as shells show it."""


class _Group(TyperGroup):
    """Prints an expected error as one block with its remedy, exit status 1; an unexpected one has a traceback.

    Where the program that reads our output has ended, as after `| head`, it ends quietly.
    """

    def invoke(self, ctx: Any) -> Any:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a verb may have something to finish
        try:
            try:
                with common.explaining():
                    return super().invoke(ctx)
            finally:
                if sys.stdout is not None:  # it is None where it was closed before the start
                    sys.stdout.flush()  # else it fails at the exit, with a message of the interpreter's own
        except BrokenPipeError:
            if not _silence_broken_output():
                raise
            raise typer.Exit(_BROKEN_PIPE) from None


def _silence_broken_output() -> bool:
    """Send to nowhere what is left for a pipe that nothing reads; returns whether there is one."""
    broken = [descriptor for descriptor in (1, 2) if _is_broken(descriptor)]
    for descriptor in broken:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return bool(broken)


def _is_broken(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # they hold keys and packets
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "A live, typed SQL mirror of your company's ERP.\n\n"
        "New here? [bold]erpmirror demo[/] shows it with made-up companies. For your own: "
        "[bold]erpmirror init[/], fill in erpmirror.toml, [bold]erpmirror migrate[/], "
        "[bold]erpmirror check[/], [bold]erpmirror up[/]."
    ),
)


def _print_version(is_set: bool) -> None:  # noqa: FBT001 - Typer calls it with the option's value
    if is_set:
        from importlib.metadata import version  # noqa: PLC0415 - takes longer than all else that `--help` needs

        typer.echo(f"erpmirror {version('erpmirror')}")
        raise typer.Exit


_Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def _root(
    context: typer.Context,
    config: common.Config = None,
    *,
    version: _Version = False,  # noqa: ARG001 - its callback acts
) -> None:
    common.choose_config(config)
    if context.invoked_subcommand != "up":  # it starts no thread
        lifeline.follow_parent()


def _verb(panel: str, name: str, function: Callable[..., Any]) -> None:
    app.command(name, rich_help_panel=panel, cls=common.Verb)(function)


_START, _RUN, _DATA, _MAINTAIN = "Start", "Run", "Your data", "Maintenance"

_verb(_START, "demo", setup.demo)
_verb(_START, "init", init.init)
_verb(_START, "check", check.check)
_verb(_START, "migrate", setup.migrate)
_verb(_RUN, "up", serve.up)
_verb(_RUN, "receiver", serve.receiver)
_verb(_RUN, "worker", serve.worker)
_verb(_RUN, "beat", serve.beat)
_verb(_RUN, "flower", serve.flower)
_verb(_DATA, "status", status.status)
_verb(_DATA, "poll", run_now.poll)
_verb(_DATA, "backfill", run_now.backfill)
_verb(_DATA, "export", export.export)
_verb(_DATA, "ask", run_now.ask)
_verb(_DATA, "hand-in", hand_in.hand_in)
app.add_typer(parked.app, name="parked", rich_help_panel=_MAINTAIN)
_verb(_MAINTAIN, "rebuild", maintenance.rebuild)
_verb(_MAINTAIN, "forget", maintenance.forget)
_verb(_START, "sandbox", setup.sandbox)
_verb(_START, "settings-schema", init.settings_schema)
_verb(_START, "dilovod-node", setup.dilovod_node)


def main() -> None:
    """Run the console script."""
    private.keep_private()
    app(prog_name="erpmirror")
