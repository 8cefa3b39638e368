"""The verbs that do work now, in this process: poll, full sync, a single request to the vendor."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.cli import progress
    from workers.context import ConnectionContext

Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Do it here with a progress bar, or leave it to the workers.")
]


def retry_parked(connection: str) -> str:
    """The remedy where some work is parked."""
    return (
        f"remove the cause (`erpmirror check` may name it), then run `erpmirror parked retry {connection}`; "
        "what is not parked stays due, and workers try it again"
    )


def poll(
    connection: common.Name,
    resource: common.MaybeResource = None,
    *,
    wait: Wait = True,
    config: common.Config = None,
) -> None:
    """Poll now for what changed, without waiting for the schedule.

    A resource that was parked as a whole is tried again.

    Example: [bold]erpmirror poll shop catalogs.goods[/]
    """
    from models.bookkeeping import streams

    context = common.connection_context(config, connection)
    names = common.resources(context, resource)
    context.sync_streams()
    with context.database.begin() as tx:
        streams.poll_now(tx, connection=context.name, resource=resource)
    _until_done(context, names, wait=wait)


def backfill(
    connection: common.Name,
    resource: common.MaybeResource = None,
    *,
    wait: Wait = True,
    config: common.Config = None,
) -> None:
    """Read everything again: a full sync. After Ctrl-C it resumes where it stopped, here or in a worker.

    Equal objects change nothing. A key that the vendor no longer lists is fetched before it counts as deleted.

    Example: [bold]erpmirror backfill books invoices[/]
    """
    from models.bookkeeping import streams

    context = common.connection_context(config, connection)
    names = common.resources(context, resource)
    context.sync_streams()
    with context.database.begin() as tx:
        streams.backfill_now(tx, connection=context.name, resource=resource)
    _until_done(context, names, wait=wait)


def _until_done(context: ConnectionContext, names: Sequence[str], *, wait: bool) -> None:
    """Do what is due in this process and print the result, or only wake the workers."""
    from workers.cli import progress

    if not wait:
        common.wake(context)
        return
    try:
        results, done = progress.until_done(context, names, common.err(), rows=lambda: _rows(context, names))
    except KeyboardInterrupt:
        common.note("Stopped. A worker resumes it, or this command when you repeat it.")
        raise typer.Exit(130) from None
    after = _rows(context, names)
    for each in results:
        common.out().print(f"{each.resource}: {after.get(each.resource, 0)} rows", markup=False)
    failed = [each for each in results if each.error or each.state != "open"]
    if failed or not done:
        raise errors.UserError(
            "\n".join(["not everything could be synced", *map(_failure, failed), _remedy(context.name, failed)])
        )


def _failure(each: progress.ResourceProgress) -> str:
    return f"  {each.resource}: {each.error or each.state}"


def _remedy(connection: str, failed: Sequence[progress.ResourceProgress]) -> str:
    if any(each.state == "parked" for each in failed):
        return retry_parked(connection)
    return "it stays due, and workers try it again"


def _rows(context: ConnectionContext, names: Sequence[str]) -> dict[str, int]:
    from models.mirror import queries

    with context.database.read() as tx:
        targets = {name: context.target(context.resources[name], None) for name in names}
        return {name: queries.count_live(tx, target) for name, target in targets.items()}


def ask(
    connection: common.Name,
    words: Annotated[
        list[str], typer.Argument(metavar="WORDS…", help="The request in the vendor's own terms, as in the example.")
    ],
    *,
    config: common.Config = None,
) -> None:
    """Send the vendor one read request and print its answer. It waits at the account's gate like every request.

    Example: [bold]erpmirror ask shop getObject 1100300000001001[/]
    """
    import simplejson

    from workers.cli import vendor_query

    context = common.connection_context(config, connection)
    with common.err().status("Asking …"):
        answer = vendor_query.ask(context, words)
    typer.echo(simplejson.dumps(answer, use_decimal=True, ensure_ascii=False, indent=2))
