"""The verb that sends commands: one, or one for each row of a CSV file; without an action it shows what can be sent."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.bookkeeping.commands import Command, NewCommand
    from models.db.database import Tx
    from models.values import JsonObject
    from workers.commands.acceptance import RejectedError
    from workers.connectors.commands import CommandClient
    from workers.context import ConnectionContext

_BUDGET = timedelta(seconds=1)
_POLL_INTERVAL = 0.5
_MAX_SHOWN = 20


def command(
    connection: common.Name,
    action: Annotated[
        str | None, typer.Argument(metavar="ACTION", help="The vendor's name of the write.", show_default=False)
    ] = None,
    *,
    resource: Annotated[
        str | None, typer.Option("--resource", metavar="NAME", help="Where the action has one beside it.")
    ] = None,
    arguments: Annotated[
        str | None, typer.Option("--arguments", metavar="FILE", help="Their JSON; - reads standard input.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="TEXT", help="Your own name for this command: with the same, it is sent once."),
    ] = None,
    each: Annotated[
        Path | None,
        typer.Option("--each", metavar="CSV", help="One command for each row; FILE has its cells as ${column}."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, and print what would be sent.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the vendor has answered, and do it here.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: common.Config = None,
) -> None:
    """Send a write to the vendor, at most once. Without an ACTION: show what can be sent, and with which arguments.

    Only what the connection's `commands` allows is sent. `erpmirror commands` shows what became of it.

    In the file of --each, "${qty:number}" makes a number of a cell and "${active:boolean}" true or false; a field whose
    cell is empty is left out. Repeating the same file sends nothing twice.

    Example: [bold]erpmirror command shop saleOrderCreate --arguments order.json --wait[/]
    """
    from workers.commands.acceptance import RejectedError

    context = common.connection_context(config, connection)
    if arguments is None and (key is not None or each is not None or dry_run or wait):
        raise errors.UserError("name the file of the arguments with --arguments; without it nothing is sent")
    try:
        if action is None or arguments is None:
            _show(context, action, resource, as_json=as_json)
            return
        prepared = list(_prepared(context, action, resource, _read(arguments), key=key, each=each))
        if dry_run:
            _print_requests(context, prepared, as_json=as_json)
            return
        stored = _store(context, prepared)
    except RejectedError as rejected:
        raise errors.UserError(_explained(rejected)) from None
    if wait:
        context.sync_streams()  # what it changes is fetched, also where no process has started yet
        stored = _until_settled(context, [each.id for each in stored])
    else:
        common.wake(context)
    _report(stored, as_json=as_json, waited=wait)


def _read(file: str) -> JsonObject:
    """The arguments, or their template. UserError if the file is no JSON object."""
    from workers.commands import acceptance
    from workers.commands.acceptance import RejectedError

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise errors.UserError(f"{file} cannot be read: {words}") from None
    try:
        found = acceptance.decode(text)
    except RejectedError as rejected:
        raise errors.UserError(f"{file}: {rejected}") from None
    if not isinstance(found, dict):
        raise errors.UserError(f"{file} holds no JSON object; the arguments are {{…}}")
    return found


def _prepared(
    context: ConnectionContext,
    action: str,
    resource: str | None,
    arguments: JsonObject,
    *,
    key: str | None,
    each: Path | None,
) -> Iterator[NewCommand]:
    """The checked commands. All rows are checked before any is stored. UserError with what is wrong in which row."""
    import secrets

    from models.bookkeeping.commands import COMMAND_LINE
    from workers.commands import acceptance, templates
    from workers.commands.acceptance import RejectedError, Request

    if each is None:
        if templates.has_columns(arguments):
            raise errors.UserError("the arguments have columns, as in ${name}: name their file with --each")
        key = secrets.token_hex(16) if key is None else key
        yield acceptance.prepare(context, Request(action, resource, arguments), key=key, caller=COMMAND_LINE)
        return
    try:
        rows = list(templates.rows(_text(each), arguments, prefix=f"{action}\n{resource}\n{key or ''}"))
    except templates.TemplateError as error:
        raise errors.UserError(f"{each}: {error}") from None
    if not rows:
        raise errors.UserError(f"{each} has no rows below its header")
    mistakes = []
    for row in rows:
        request = Request(action, resource, row.arguments)
        try:
            yield acceptance.prepare(context, request, key=row.idempotency_key, caller=COMMAND_LINE)
        except RejectedError as rejected:
            if not rejected.violations:
                raise
            mistakes += [f"  row {row.number}: {each.path}: {each.message}" for each in rejected.violations]
    if mistakes:
        more = [f"  and {len(mistakes) - _MAX_SHOWN} more"] if len(mistakes) > _MAX_SHOWN else []
        head = f"{each}: nothing was sent, correct these first"
        raise errors.UserError("\n".join([head, *mistakes[:_MAX_SHOWN], *more]))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise errors.UserError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise errors.UserError(f"{file} is not UTF-8; save it as CSV UTF-8") from None


def _store(context: ConnectionContext, prepared: Sequence[NewCommand]) -> list[Command]:
    """Store the commands; the report says which were known already."""
    from workers.commands import acceptance

    with common.progress_bar("Accepting", len(prepared), hidden=len(prepared) == 1) as advance:
        stored = []
        for number, each in enumerate(prepared, start=1):
            found, new = acceptance.store(context, each, limited=False)
            stored.append(found)
            if not new:
                common.note(f"command {found.id} was accepted before, with the same key; it is sent once")
                _warn_if_overtaken(context, found)
            advance(number)
    return stored


def _warn_if_overtaken(context: ConnectionContext, known: Command) -> None:
    """Tell that a later command has changed the object since, so that it does not show what was sent again now."""
    from models.bookkeeping import command_order

    with context.database.read() as tx:
        later = command_order.written_since(tx, known)
    if later is not None:
        common.note(f"  command {later.id} has changed that object since; to send this one again, name a new --key")


def _until_settled(context: ConnectionContext, ids: Sequence[int]) -> list[Command]:
    """Do the commands here, or wait while workers do, until each is final or needs a person, or one before it does."""
    from models.bookkeeping import commands
    from models.bookkeeping.commands import FINAL
    from workers.ingest import loop

    told: dict[int, str] = {}  # command -> the reason that was printed
    is_idle = False
    try:
        with common.progress_bar("Sending", len(ids), hidden=len(ids) == 1) as advance:
            while True:
                with context.database.read() as tx:
                    found = commands.get_all(tx, ids)
                    waiting = [each for each in found if each.state not in FINAL and not each.waits_for_person]
                    stuck = [_is_stuck(tx, each, told) for each in waiting] if is_idle else []
                advance(len(found) - len(waiting))
                if all(stuck) and len(stuck) == len(waiting):
                    return found
                _tell_reasons(waiting, told)
                is_idle = not loop.sync(context, budget=_BUDGET).requests
                if is_idle:
                    time.sleep(_POLL_INTERVAL)
    except KeyboardInterrupt:
        common.note("Stopped. What is accepted is sent by the workers; `erpmirror commands` shows it.")
        raise typer.Exit(130) from None


def _is_stuck(tx: Tx, waiting: Command, told: dict[int, str]) -> bool:
    """Whether it is held up by a command that needs a person; then that is told."""
    from models.bookkeeping import command_order

    before = command_order.first_open_before(tx, waiting)
    if before is None or not before.waits_for_person:
        return False
    reason = f"waits for command {before.id} of the same object, which needs you: `erpmirror commands show {before.id}`"
    if told.get(waiting.id) != reason:
        common.note(f"command {waiting.id} {reason}")
        told[waiting.id] = reason
    return True


def _tell_reasons(waiting: Sequence[Command], told: dict[int, str]) -> None:
    """Print why commands are not done yet, each reason once. `told`: command -> the reason that was printed."""
    for each in waiting:
        if each.reason is not None and told.get(each.id) != each.reason:
            common.note(f"command {each.id} {each.state}: {each.reason}")
            told[each.id] = each.reason


def _report(stored: Sequence[Command], *, as_json: bool, waited: bool) -> None:
    """Print a line for each command; exit 1 if one that was waited for is not done."""
    from models.bookkeeping.commands import State
    from workers.cli.commands import as_row, print_line

    if as_json:
        common.print_json([as_row(each) for each in stored])
    else:
        for each in stored:
            print_line(each)
    if waited and any(each.state is not State.DONE for each in stored):
        raise typer.Exit(1)


def _print_requests(context: ConnectionContext, prepared: Sequence[NewCommand], *, as_json: bool) -> None:
    """Print the requests that the commands would make, without secrets; a list if there are many."""
    from contextlib import closing
    from typing import cast

    from workers.connectors import contract
    from workers.errors import VendorError

    try:
        with closing(context.system.client(context.options, contract.standalone())) as client:
            writing = cast("CommandClient", client)
            rows = [writing.preview(context.actions[each.action, each.named], each.payload) for each in prepared]
    except VendorError as error:  # a certificate that cannot be used
        raise errors.UserError(str(error)) from None
    common.print_json(rows if as_json or len(rows) > 1 else rows[0])
    common.note(f"{len(rows)} checked; nothing was sent.")


def _explained(rejected: RejectedError) -> str:
    lines = [f"  {each.path or '(the whole)'}: {each.message}" for each in rejected.violations]
    return "\n".join([str(rejected), *lines])


# What can be sent.


def _show(context: ConnectionContext, action: str | None, resource: str | None, *, as_json: bool) -> None:
    """Print the actions: those that are allowed, or one with its fields and an example."""
    from workers.commands import acceptance, schemas
    from workers.commands.acceptance import Request

    if action is not None:
        chosen = [acceptance.find_action(context, Request(action, resource, {}))]
    else:
        chosen = acceptance.allowed_actions(context)
    if as_json:
        common.print_json(schemas.described(chosen))
        return
    if not chosen:
        names = dict.fromkeys(each.name for each in context.actions.values())
        one = next((each.full_name for each in context.actions.values() if each.resource is not None), None)
        raise errors.UserError(
            f"{context.name} allows no commands: add those you want to its `commands` in {context.settings.file}, "
            f"of {', '.join(names)}" + (f', or of one resource, as "{one}"' if one else "")
        )
    console = common.out()
    for each in chosen:
        flag = "" if each.resource is None else f" --resource {each.resource}"
        common.print_lines(console, f"{each.name}{flag}", style="bold")
        common.print_lines(console, f"  {each.title}")
        if action is not None:
            for line in schemas.lines(each):
                common.print_lines(console, line)
    if action is None:
        common.note(f"`erpmirror command {context.name} ACTION` shows one with its arguments.")
