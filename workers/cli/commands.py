"""The verbs for commands that were accepted: what became of them, and what a person decides."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from models.bookkeeping.commands import Command
    from workers.context import ConnectionContext

Number = Annotated[int, typer.Argument(metavar="ID", help="The command's number.", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: times in UTC.")]

_MOST = 50

app = typer.Typer(
    help=(
        "Show the writes to vendors and what became of them, and decide about those that are uncertain.\n\n"
        "Example: [bold]erpmirror commands list --state uncertain[/]"
    ),
    invoke_without_command=True,
    rich_markup_mode="rich",
)


@app.callback()
def _commands(ctx: typer.Context, config: common.Config = None) -> None:
    if ctx.invoked_subcommand is None:
        commands_list(config=config)
    elif config is not None:
        common.choose_config(config)


@app.command("list", cls=common.Verb)
def commands_list(
    connection: common.MaybeName = None,
    *,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only those that are waiting, sending, done, refused, uncertain or canceled."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The most that are shown, the newest first.")] = _MOST,
    as_json: AsJson = False,
    config: common.Config = None,
) -> None:
    """List commands, the newest first, with the vendor's words where it refused one.

    Example: [bold]erpmirror commands list shop --state refused[/]
    """
    from models.bookkeeping import commands
    from models.bookkeeping.commands import State

    known = [each.value for each in State]
    unknown = [each for each in state or () if each not in known]
    if unknown:
        raise errors.UserError(f'there is no state "{unknown[0]}"{common.suggestion(unknown[0], known)}')
    loaded = common.settings(config)
    with common.database(loaded).read() as tx:
        states = [State(each) for each in state or ()]
        found = commands.listed(tx, connection=connection, states=states, limit=limit)
    if as_json:
        common.print_json([as_row(each) for each in found])
        return
    if not found:
        common.out().print("There are no such commands." if state or connection else "No command was accepted yet.")
    for each in found:
        print_line(each)
    if len(found) == limit:
        common.note(f"The newest {limit}; --limit shows more.")


@app.command("show", cls=common.Verb)
def commands_show(number: Number, *, as_json: AsJson = False, config: common.Config = None) -> None:
    """Show one command: its arguments without what the connection omits, its state, the vendor's answer.

    Example: [bold]erpmirror commands show 17[/]
    """
    from models import exact

    found = _command(common.settings(config), number)
    if as_json:
        common.print_json(as_row(found))
        return
    for name, value in as_row(found).items():
        if value is not None:
            text = exact.dumps(value) if isinstance(value, dict | list) else value
            common.print_lines(common.out(), f"{name}: {text}")
    advice = _advice(found)
    if advice:
        common.note(advice)


@app.command("retry", cls=common.Verb)
def commands_retry(number: Number, *, config: common.Config = None) -> None:
    """Send a refused or waiting command again now, or read an uncertain one back again.

    Example: [bold]erpmirror commands retry 17[/]
    """
    from models.bookkeeping import commands
    from models.bookkeeping.commands import State

    context, found = _with_context(config, number)
    with context.database.begin() as tx:
        if found.state in {State.REFUSED, State.WAITING}:
            changed = commands.send_again(tx, found)
        elif found.state is State.UNCERTAIN:
            changed = commands.read_back_now(tx, found)
        else:
            raise errors.UserError(f"command {number} is {found.state}, so there is nothing to retry")
    _require(changed, number)
    common.wake(context)
    common.out().print(f"Command {number} is due now.")


@app.command("resolve", cls=common.Verb)
def commands_resolve(
    number: Number,
    *,
    arrived: Annotated[
        str | None, typer.Option("--arrived", metavar="KEY", help="It arrived: the key of the object that it wrote.")
    ] = None,
    not_arrived: Annotated[bool, typer.Option("--not-arrived", help="It did not arrive: it is sent again.")] = False,
    config: common.Config = None,
) -> None:
    """Say what became of an uncertain command, after a look into the ERP.

    Example: [bold]erpmirror commands resolve 17 --arrived 1109100000000001[/]
    """
    from models.bookkeeping import commands
    from models.bookkeeping.commands import State
    from models.values import ObjectRef
    from workers.ingest import command as sending

    if (arrived is None) is not not_arrived:
        raise errors.UserError("say either --arrived KEY or --not-arrived")
    context, found = _with_context(config, number)
    if found.state is not State.UNCERTAIN:
        raise errors.UserError(f"command {number} is {found.state}; only an uncertain one needs your word")
    with context.database.begin() as tx:
        if arrived is None:
            _require(commands.send_again(tx, found), number)
        else:
            ref = None if found.resource is None else ObjectRef(found.resource, arrived)
            _require(commands.finish(tx, found, answer=found.answer, ref=ref), number)
            others = [ObjectRef(*each) for each in found.also_changes or ()]
            sending.fetch_changed(tx, context, [*([ref] if ref else []), *others])
    common.wake(context)
    common.out().print(f"Command {number} is {'done' if arrived is not None else 'sent again'}.")


@app.command("cancel", cls=common.Verb)
def commands_cancel(number: Number, *, config: common.Config = None) -> None:
    """Cancel a command that waits. One that was sent cannot be called back.

    Example: [bold]erpmirror commands cancel 17[/]
    """
    from models.bookkeeping import commands

    loaded = common.settings(config)
    found = _command(loaded, number)
    with common.database(loaded).begin() as tx:
        if not commands.cancel(tx, found):
            raise errors.UserError(f"command {number} is {found.state}; only one that waits can be canceled")
    if found.connection in loaded.connections:  # a later command of the same object may be due now
        common.wake(common.connection_context(config, found.connection))
    common.out().print(f"Command {number} is canceled.")


def as_row(found: Command) -> dict[str, Any]:
    """What a person or a program sees of a command."""
    return {
        "command": found.id,
        "connection": found.connection,
        "action": found.action,
        "resource": found.resource,
        "key": found.result_key or found.key or None,
        "state": found.state.value,
        "needs_person": found.waits_for_person,
        "attempts": found.attempts,
        "reason": found.reason,
        "accepted_at": found.accepted_at,
        "sent_at": found.sent_at,
        "answered_at": found.answered_at,
        "caller": found.caller,
        "idempotency_key": found.idempotency_key,
        "arguments": found.arguments,
        "answer": found.answer,
    }


def print_line(found: Command) -> None:
    """One command on a line of its own, its reason below."""
    from rich.padding import Padding
    from rich.text import Text

    console = common.out()
    written = " ".join(each for each in (found.resource, found.result_key or found.key) if each)
    line = f"{found.id}  {found.connection} {found.action} {written}".rstrip()
    common.print_lines(console, f"{line}  {found.state}  {found.accepted_at:%Y-%m-%d %H:%M} UTC")
    for text in (found.reason, _advice(found)):
        if text:
            console.print(Padding.indent(Text(text, overflow="fold"), 4))


def _advice(found: Command) -> str | None:
    """What a person has to do about it, if anything."""
    if not found.waits_for_person:
        return None
    return (
        f"look into the ERP, then `erpmirror commands resolve {found.id} --arrived KEY`, "
        f"or --not-arrived to send it again"
    )


def _command(loaded: Any, number: int) -> Command:
    from models.bookkeeping import commands

    with common.database(loaded).read() as tx:
        found = commands.get(tx, number)
    if found is None:
        raise errors.UserError(f"there is no command {number}; `erpmirror commands` lists them")
    return found


def _with_context(config: Any, number: int) -> tuple[ConnectionContext, Command]:
    found = _command(common.settings(config), number)
    return common.connection_context(config, found.connection), found


def _require(changed: bool, number: int) -> None:  # noqa: FBT001 - what a statement returned
    if not changed:
        raise errors.UserError(f"command {number} has moved on meanwhile; look at it again")
