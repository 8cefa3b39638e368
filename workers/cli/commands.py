"""The verbs for commands that were accepted: what became of them, and what a person decides."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from models.bookkeeping.commands import Command
    from models.db.database import Tx
    from workers.context import ConnectionContext

Number = Annotated[int, typer.Argument(metavar="ID", help="The command's number.", parser=common.whole_number)]
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
    is_open: Annotated[bool, typer.Option("--open", help="Only those whose fate is not known yet.")] = False,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", parser=common.whole_number, help="The most that are shown, the newest first."
        ),
    ] = _MOST,
    as_json: AsJson = False,
    config: common.Config = None,
) -> None:
    """List commands, the newest first, with the vendor's words where it refused one.

    Example: [bold]erpmirror commands list shop --state refused[/]
    """
    from models.bookkeeping import commands
    from models.bookkeeping.commands import FINAL, State

    known = [each.value for each in State]
    unknown = [each for each in state or () if each not in known]
    if unknown:
        raise errors.UserError(f'there is no state "{unknown[0]}"{common.suggestion(unknown[0], known)}')
    if state and is_open:
        raise errors.UserError("say either --state or --open")
    loaded = common.settings(config)
    with common.database(loaded).read() as tx:
        states = [State(each) for each in state or ()] or (
            [each for each in State if each not in FINAL] if is_open else []
        )
        found = commands.listed(tx, connection=connection, states=states, limit=limit)
        notes = {} if as_json else {each.id: _why_it_waits(tx, loaded, each) for each in found}
    if not found and connection is not None:
        common.options(loaded, connection)  # it may be misspelt
    if as_json:
        common.print_json([as_row(each) for each in found])
        return
    if not found:
        common.out().print("There are no such commands." if states or connection else "No command was accepted yet.")
    for each in found:
        print_line(each, note=notes[each.id])
    if len(found) == limit:
        common.note(f"The newest {limit}; --limit shows more.")


@app.command("show", cls=common.Verb)
def commands_show(number: Number, *, as_json: AsJson = False, config: common.Config = None) -> None:
    """Show one command: its arguments without what the connection omits, its state, the vendor's answer.

    Example: [bold]erpmirror commands show 17[/]
    """
    from models import exact

    loaded = common.settings(config)
    found = _command(loaded, number)
    if as_json:
        common.print_json(as_row(found))
        return
    for name, value in as_row(found).items():
        if value is None or value is False:
            continue
        match value:
            case dict() | list():
                shown = exact.dumps(value)
            case datetime():
                shown = f"{value:%Y-%m-%d %H:%M:%S} UTC"
            case _:
                shown = "yes" if value is True else str(value)
        common.print_lines(common.out(), f"{name.replace('_', ' ')}: {shown}")
    with common.database(loaded).read() as tx:
        note = _why_it_waits(tx, loaded, found)
    for text in (note, _advice(found)):
        if text:
            common.note(text)


@app.command("retry", cls=common.Verb)
def commands_retry(
    number: Number,
    *,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also if a later command of the same object is done.")
    ] = False,
    config: common.Config = None,
) -> None:
    """Send a refused or waiting command again now, or read an uncertain one back again.

    Example: [bold]erpmirror commands retry 17[/]
    """
    from models.bookkeeping import command_order, commands
    from models.bookkeeping.commands import State

    context, found = _with_context(config, number)
    with context.database.begin() as tx:
        before = command_order.first_open_before(tx, found)
        if found.state in {State.REFUSED, State.WAITING}:
            later = command_order.written_since(tx, found)
            if later is not None and not anyway:
                raise errors.UserError(
                    f"command {later.id} has changed the same object since, or may have, and this one would undo "
                    "that; send a new command, or say --anyway"
                )
            changed = commands.send_again(tx, found)
        elif found.state is State.UNCERTAIN:
            changed = commands.read_back_now(tx, found)
        else:
            raise errors.UserError(f"command {number} is {found.state}, so there is nothing to retry")
    _require(changed, number)
    common.wake(context)
    is_held_up = found.state is not State.UNCERTAIN and before is not None
    after = f"once command {before.id} of the same object is settled" if is_held_up and before else "now"
    common.out().print(f"Command {number} is due {after}.")


@app.command("resolve", cls=common.Verb)
def commands_resolve(
    number: Number,
    *,
    arrived: Annotated[
        str | None, typer.Option("--arrived", metavar="KEY", help="It arrived: the key of the object that it wrote.")
    ] = None,
    not_arrived: Annotated[bool, typer.Option("--not-arrived", help="It did not arrive: it is sent again.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="With --not-arrived: it is canceled instead.")] = False,
    config: common.Config = None,
) -> None:
    """Say what became of an uncertain command, after a look into the ERP.

    Example: [bold]erpmirror commands resolve 17 --arrived 1109100000000001[/]
    """
    from models.bookkeeping import commands
    from models.bookkeeping.commands import State
    from models.values import ObjectRef
    from workers.ingest import command as sending

    if (arrived is None) is not not_arrived or (drop and not not_arrived):
        raise errors.UserError("say either --arrived KEY, or --not-arrived, with or without --drop")
    loaded = common.settings(config)
    found = _command(loaded, number)
    if not _needs_word(loaded, found):
        raise errors.UserError(f"command {number} is {found.state}; only an uncertain one needs your word")
    if found.key and arrived not in {None, found.key}:
        raise errors.UserError(f"command {number} writes {found.resource} {found.key}, so that is the KEY")
    context = common.connection_context(config, found.connection) if found.connection in loaded.connections else None
    if context is None and not_arrived and not drop:
        raise errors.UserError(f"{found.connection} is not configured, so nothing is sent to it: say --drop, too")
    with common.database(loaded).begin() as tx:
        if found.state is State.SENDING:
            commands.doubt(tx, found, reason="its connection left the settings while it was sent", due_at=None)
            found = commands.get(tx, number) or found
        if arrived is not None:
            ref = None if found.resource is None else ObjectRef(found.resource, arrived)
            _require(commands.finish(tx, found, answer=found.answer, ref=ref), number)
            others = [ObjectRef(*each) for each in found.also_changes or ()]
            if context is not None:
                sending.fetch_changed(tx, context, [*([ref] if ref else []), *others])
        else:
            _require(commands.cancel(tx, found) if drop else commands.send_again(tx, found), number)
    if context is not None:
        common.wake(context)
    fate = "done" if arrived is not None else "canceled" if drop else "sent again"
    common.out().print(f"Command {number} is {fate}.")


@app.command("cancel", cls=common.Verb)
def commands_cancel(number: Number, *, config: common.Config = None) -> None:
    """Cancel a command that waits. One that was sent cannot be called back.

    Example: [bold]erpmirror commands cancel 17[/]
    """
    from models.bookkeeping import commands
    from models.bookkeeping.commands import State

    loaded = common.settings(config)
    found = _command(loaded, number)
    if found.state is not State.WAITING:
        raise errors.UserError(f"command {number} is {found.state}; only one that waits can be canceled")
    with common.database(loaded).begin() as tx:
        _require(commands.cancel(tx, found), number)
    if found.connection in loaded.connections:  # a later command of the same object may be due now
        common.wake(common.connection_context(config, found.connection))
    common.out().print(f"Command {number} is canceled.")


def _needs_word(loaded: Any, found: Command) -> bool:
    """Whether a person may say what became of it: it is uncertain, or no worker will find out what was being sent."""
    from models.bookkeeping.commands import State

    is_left = found.state is State.SENDING and found.connection not in loaded.connections
    return found.state is State.UNCERTAIN or is_left


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


def _why_it_waits(tx: Tx, loaded: Any, found: Command) -> str | None:
    """What a waiting command waits for, beside the vendor."""
    from models.bookkeeping import command_order
    from models.bookkeeping.commands import FINAL, State

    if found.state not in FINAL and found.connection not in loaded.connections:
        return f"{found.connection} is not configured any more, so nothing is sent to it or read back"
    before = command_order.first_open_before(tx, found) if found.state is State.WAITING else None
    return None if before is None else f"waits for command {before.id} of the same object"


def print_line(found: Command, *, note: str | None = None) -> None:
    """One command on a line of its own, its reason below."""
    from rich.padding import Padding
    from rich.text import Text

    console = common.out()
    written = " ".join(each for each in (found.resource, found.result_key or found.key) if each)
    line = f"{found.id}  {found.connection} {found.action} {written}".rstrip()
    common.print_lines(console, f"{line}  {found.state}  {found.accepted_at:%Y-%m-%d %H:%M} UTC")
    for text in (found.reason, note, _advice(found)):
        if text:
            console.print(Padding.indent(Text(text, overflow="fold"), 4))


def _advice(found: Command) -> str | None:
    """What a person has to do about it, if anything."""
    if not found.waits_for_person:
        return None
    return (
        f"look into the ERP, then `erpmirror commands resolve {found.id} --arrived KEY`, "
        f"or --not-arrived to send it again, or --not-arrived --drop to leave it"
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
