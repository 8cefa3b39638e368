"""The command line: one module per group of verbs. A verb's module is imported when it runs, or for `--help`.

A verb imports what it needs when it runs, so that `--help` stays fast.
"""

from __future__ import annotations

import gc
import os
import pkgutil
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from models import private
from workers import lifeline
from workers.cli import common

_BROKEN_PIPE = 141
"""The exit status of a program that SIGPIPE ended, as shells show it."""


_START, _RUN, _DATA, _MAINTAIN = "Start", "Run", "Your data", "Maintenance"

_VERBS = {
    "demo": (_START, "setup:demo"),
    "init": (_START, "init:init"),
    "check": (_START, "check:check"),
    "migrate": (_START, "setup:migrate"),
    "up": (_RUN, "serve:up"),
    "receiver": (_RUN, "serve:receiver"),
    "worker": (_RUN, "serve:worker"),
    "beat": (_RUN, "serve:beat"),
    "flower": (_RUN, "serve:flower"),
    "status": (_DATA, "status:status"),
    "changes": (_DATA, "changes:changes"),
    "poll": (_DATA, "run_now:poll"),
    "backfill": (_DATA, "run_now:backfill"),
    "export": (_DATA, "export:export"),
    "ask": (_DATA, "run_now:ask"),
    "hand-in": (_DATA, "hand_in:hand_in"),
    "command": (_DATA, "command:command"),
    "commands": (_DATA, "commands:app"),
    "subscriptions": (_DATA, "subscriptions:app"),
    "rebuild": (_MAINTAIN, "maintenance:rebuild"),
    "forget": (_MAINTAIN, "maintenance:forget"),
    "sandbox": (_START, "setup:sandbox"),
    "settings-schema": (_START, "init:settings_schema"),
    "dilovod-node": (_START, "setup:dilovod_node"),
    "parked": (_MAINTAIN, "parked:app"),
}
"""Each verb's panel in `--help`, and its function, or the Typer of its own verbs, in a module beside this one."""


_BRIEF = {"status"}
"""Verbs that end before there is garbage to collect."""


class _Group(TyperGroup):
    """Makes the command of a verb when it is asked for: the other verbs' modules are not imported.

    Prints an expected error as one block with its remedy, exit status 1; an unexpected one has a traceback. Where the
    program that reads our output has ended, as after `| head`, it ends quietly.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        return list(_VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for name in [cmd_name] if cmd_name in _VERBS else _VERBS:  # a misspelt verb is compared with all
            if name not in self.commands:
                self.commands[name] = _command(name)
        return super().get_command(ctx, cmd_name)

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


def _command(name: str) -> Any:
    panel, place = _VERBS[name]
    found = pkgutil.resolve_name(f"{__name__}.{place}")
    only = typer.Typer(rich_markup_mode="rich")
    if isinstance(found, typer.Typer):
        only.add_typer(found, name=name, rich_help_panel=panel)
    else:
        only.command(name, rich_help_panel=panel, cls=common.Verb)(found)
    return typer.main.get_group(only).commands[name]


def _silence_broken_output() -> bool:
    """Send to nowhere what is left for a pipe that nothing reads; returns whether there is one."""
    broken = [descriptor for descriptor in (1, 2) if common.is_broken(descriptor)]
    for descriptor in broken:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return bool(broken)


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
    if context.invoked_subcommand not in _BRIEF:
        gc.enable()
    common.choose_config(config)
    if context.invoked_subcommand != "up":  # it starts no thread
        lifeline.follow_parent()


def main() -> None:
    """Run the console script."""
    gc.disable()  # imports make many objects and no garbage
    # pydantic would look for plugins in the metadata of all installed packages.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    private.keep_private()
    app(prog_name="erpmirror")
