"""The verbs for subscriptions: how each does, and what a person decides."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from models.bookkeeping.deliveries import Attempt
    from models.bookkeeping.subscriptions import Subscriber
    from models.bookkeeping.undelivered import Waiting
    from models.db.database import Database, Tx
    from models.settings.load import Settings
    from models.settings.subscriptions import Subscription
    from workers.deliveries.standing import Standing

Name = Annotated[str, typer.Argument(metavar="NAME", help="A subscription's name in the settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: times in UTC.")]

_FEW = 10
_SECRET_BYTES = 32

app = typer.Typer(
    help=(
        "Show which programs are told of changes and how far each was told; pause one, go on, tell it again.\n\n"
        "Example: [bold]erpmirror subscriptions[/] lists them, [bold]erpmirror subscriptions show crm[/] shows one."
    ),
    invoke_without_command=True,
    rich_markup_mode="rich",
)


@app.callback()
def _subscriptions(ctx: typer.Context, config: common.Config = None) -> None:
    if ctx.invoked_subcommand is None:
        subscriptions_list(config=config)
    elif config is not None:
        common.choose_config(config)


@app.command("list", cls=common.Verb)
def subscriptions_list(*, as_json: AsJson = False, config: common.Config = None) -> None:
    """List the subscriptions: what each is told, what waits, why one is paused or fails.

    Example: [bold]erpmirror subscriptions list --json[/]
    """
    from workers.cli import printable, subscription_printing, subscription_words
    from workers.deliveries import standing

    loaded = common.settings(config)
    with common.database(loaded).read() as tx:
        every = standing.every(tx, loaded.subscriptions)
    if as_json:
        common.print_json([subscription_words.as_row(each) for each in every])
        return
    if not every:
        common.print_lines(
            common.out(),
            "There is no subscription yet. Add [subscriptions.NAME] with `url` and `secret` to "
            f"{loaded.file}; `erpmirror subscriptions secret` makes a secret.",
        )
    printable.escape_unencodable()
    for each in every:
        subscription_printing.standing(common.out(), each)


@app.command("show", cls=common.Verb)
def subscriptions_show(
    name: Name,
    *,
    change: Annotated[
        int | None,
        typer.Option("--change", metavar="ID", parser=common.whole_number, help="Only of this change of the journal."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", parser=common.whole_number, help="The most of what waits, and of the attempts."
        ),
    ] = _FEW,
    as_json: AsJson = False,
    config: common.Config = None,
) -> None:
    """Show one subscription: what waits for it, and the latest attempts with the endpoint's answers.

    Example: [bold]erpmirror subscriptions show crm --change 17[/]
    """
    from models.bookkeeping import deliveries, undelivered
    from workers.cli import printable, subscription_printing, subscription_words
    from workers.deliveries import standing

    loaded = common.settings(config)
    with common.database(loaded).read() as tx:
        found = standing.find(tx, loaded.subscriptions, name)
        if found is None:
            raise _unknown(loaded, name)
        waiting = undelivered.listed(tx, name, change=change, limit=limit)
        attempts = deliveries.recent(tx, name, change=change, limit=limit)
        note = None if change is None or waiting else _where_it_is(tx, found, change)
    if as_json:
        rows = {
            "waiting": [_waiting_row(each) for each in waiting],
            "attempts": [_attempt_row(each) for each in attempts],
        }
        common.print_json(subscription_words.as_row(found) | rows)
        return
    printable.escape_unencodable()
    console = common.out()
    subscription_printing.standing(console, found, is_shown=True)
    if waiting:
        common.print_lines(console, "\nWhat waits for a retry, or behind one of its object:")
    for one in waiting:
        subscription_printing.waiting(console, one, found)
    if attempts:
        common.print_lines(console, "\nThe latest attempts:")
    for each in attempts:
        subscription_printing.attempt(console, each)
    if note:
        common.note(note)


@app.command("pause", cls=common.Verb)
def subscriptions_pause(name: Name, *, config: common.Config = None) -> None:
    """Tell a subscription of nothing until you resume it. Its place is kept.

    Example: [bold]erpmirror subscriptions pause crm[/]
    """
    from models.bookkeeping import subscriptions
    from models.bookkeeping.subscriptions import PausedBy, State

    loaded = common.settings(config)
    with common.database(loaded).begin() as tx:
        row = _row(tx, loaded, name)
        changed = subscriptions.pause(tx, name, by=PausedBy.PERSON, reason="paused on the command line")
    if not changed and row.state is State.PAUSED:
        common.out().print(f"{name} is paused already.")
        return
    common.print_lines(
        common.out(),
        f"{name} is paused after what is under way. `erpmirror subscriptions resume {name}` goes on where it was; "
        "changes older than `keep_changes` are deleted meanwhile.",
    )


@app.command("resume", cls=common.Verb)
def subscriptions_resume(
    name: Name,
    *,
    skip: Annotated[
        list[int] | None,
        typer.Option(
            "--skip",
            metavar="ID",
            parser=common.whole_number,
            help="Do not deliver this change that waits; may be repeated.",
        ),
    ] = None,
    config: common.Config = None,
) -> None:
    """Go on where a subscription was paused, or try one that fails again at once.

    Example: [bold]erpmirror subscriptions resume crm --skip 17[/]
    """
    from models.bookkeeping import journal, subscriptions
    from models.bookkeeping.subscriptions import State
    from workers.cli import subscription_printing

    loaded = common.settings(config)
    database = common.database(loaded)
    with database.begin() as tx:
        row = _row(tx, loaded, name)
        skipped = [_skipped(tx, row, id_) for id_ in dict.fromkeys(skip or ())]
        oldest, _, _ = journal.bounds(tx)
        if not subscriptions.resume(tx, name, skip=[each.change for each in skipped]):
            raise _not_started(name)
    common.wake_subscription(loaded, database, name)
    for each in skipped:
        common.print_lines(common.out(), f"Skipped: change {each.change}, {subscription_printing.object_of(each)}")
    if row.position < oldest - 1:
        common.note(
            f"changes {row.position + 1} to {oldest - 1} were deleted (`keep_changes`) before {name} was told of "
            f"them; it goes on with the oldest, {oldest}"
        )
    did = (
        "goes on"
        if row.state is State.PAUSED
        else "is tried now"
        if row.failures
        else "was not paused; it is tried now"
    )
    common.out().print(f"{name} {did}.")


@app.command("redeliver", cls=common.Verb)
def subscriptions_redeliver(
    name: Name,
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Changes from this date or time on, in UTC.")
    ] = None,
    change: Annotated[
        int | None, typer.Option("--change", metavar="ID", parser=common.whole_number, help="This change.")
    ] = None,
    of_object: Annotated[
        tuple[str, str, str] | None,
        typer.Option("--object", metavar="CONNECTION RESOURCE KEY", help="All changes of this object."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All changes that are kept.")] = False,
    yes: common.Yes = False,
    config: common.Config = None,
) -> None:
    """Tell a subscription again of changes that its filter lets through, each object's in their order.

    Each is sent with the webhook-id that it had, so an endpoint that remembers ids may ignore it.

    Example: [bold]erpmirror subscriptions redeliver crm --since 2026-12-24[/]
    """
    from models.bookkeeping.subscriptions import Filter
    from workers.cli import redelivery
    from workers.cli.changes import require_known

    chosen = redelivery.choose(since=since, change=change, of_object=of_object, every=every)
    loaded = common.settings(config)
    database = common.database(loaded)
    if chosen.of is not None:
        require_known(loaded, database, Filter((chosen.of.connection,), (chosen.of.resource,)))
    with database.read() as tx:
        row = _row(tx, loaded, name)
        plan = redelivery.plan(tx, loaded.subscriptions[name], row, chosen)
    for text in plan.notes:
        common.note(text)
    if not plan.count:
        if not plan.coming:
            common.out().print("No change matches, so nothing is sent again.")
        return
    if not yes:
        typer.confirm(f"Send {plan.words} to {name} again?", abort=True)
    sent = redelivery.run(database, plan)
    common.wake_subscription(loaded, database, name)
    common.out().print(f"{redelivery.changes(sent)} will be sent to {name} again.")
    _say_if_held_up(database, name)


@app.command("test", cls=common.Verb)
def subscriptions_test(name: Name, *, config: common.Config = None) -> None:
    """Post a signed message of the type erpmirror.test to the endpoint, and print its answer. It is about no change.

    Example: [bold]erpmirror subscriptions test crm[/]
    """
    from datetime import UTC, datetime

    from workers.cli import printable
    from workers.deliveries import message
    from workers.deliveries.endpoint import Endpoint

    loaded = common.settings(config)
    options = loaded.subscriptions.get(name)
    if options is None:
        raise _unknown(loaded, name)
    now = datetime.now(UTC)
    composed = message.test_message(options, now)
    endpoint = Endpoint(options)
    with common.err().status(f"Posting to {printable.without_query(options.url)} …"):
        answer = endpoint.post(message.headers(composed, message.signers(options.secrets), now), composed.body)
    endpoint.close()
    printable.escape_unencodable()
    if answer.error is not None:
        words = f": {printable.escaped(answer.text)}" if answer.text else ""
        raise errors.UserError(f"{name} did not take it: {answer.error}{words}")
    common.print_lines(
        common.out(), f"{name} took {composed.id}: status {answer.status}, {1000 * answer.seconds:.0f} ms."
    )
    if answer.text:
        common.print_lines(common.out(), f"answer: {printable.escaped(answer.text)}")


@app.command("secret", cls=common.Verb)
def subscriptions_secret() -> None:
    """Print a new secret for a subscription.

    Example: [bold]erpmirror subscriptions secret[/]
    """
    import base64
    import secrets

    typer.echo(f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}")
    common.note(
        'Put it into `secret` of the subscription and give it to its endpoint. To rotate: secret = ["the new", "the '
        'old"], restart, teach the endpoint the new one, then remove the old one.'
    )


def _skipped(tx: Tx, row: Subscriber, change: int) -> Waiting:
    """The row of a change that can be skipped. UserError if none waits, or if it may be sent all the same."""
    from models.bookkeeping import undelivered

    found = undelivered.listed(tx, row.name, change=change, limit=1)
    if not found:
        raise errors.UserError(
            f"change {change} does not wait for {row.name}, so nothing was done; "
            f"`erpmirror subscriptions show {row.name}` lists what does"
        )
    if row.leased_until is not None and row.leased_until > tx.now:
        raise errors.UserError(
            f"{row.name} is being delivered to, so change {change} may be sent at this moment; nothing was done. "
            f"`erpmirror subscriptions pause {row.name}`, wait for what is under way, then skip it"
        )
    if change > row.position:  # its worker was killed: it would be read from the journal again
        raise errors.UserError(
            f"earlier changes than {change} were not sent to {row.name} yet, so it cannot be skipped and nothing was "
            f"done; `erpmirror subscriptions resume {row.name}`, then try again"
        )
    return found[0]


def _say_if_held_up(database: Database, name: str) -> None:
    from models.bookkeeping import subscriptions
    from models.bookkeeping.subscriptions import State

    with database.read() as tx:
        row, now = subscriptions.get(tx, name), tx.now
    if row is None or (row.state is State.ACTIVE and row.due_at <= now):
        return
    until = (
        "it is paused"
        if row.state is State.PAUSED
        else f"its endpoint fails; it is tried {row.due_at:%Y-%m-%d %H:%M} UTC"
    )
    common.note(f"{until}: `erpmirror subscriptions resume {name}` sends now")


def _waiting_row(one: Waiting) -> dict[str, Any]:
    return {
        "change": one.change,
        **one.of._asdict(),
        "attempts": one.attempts,
        "next_try_at": one.due_at,
        "failing_since": one.failing_since,
        "reason": one.reason,
    }


def _attempt_row(each: Attempt) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(each)


def _where_it_is(tx: Tx, found: Standing, change: int) -> str | None:
    """What became of a change that does not wait for a retry."""
    from workers.cli import redelivery

    if found.options is None or found.row is None:
        return None
    return redelivery.whereabouts(tx, found.options, found.row, change)


def _row(tx: Tx, loaded: Settings, name: str) -> Subscriber:
    """The row of a configured subscription. UserError if it is not configured, or not started yet."""
    from models.bookkeeping import subscriptions
    from models.bookkeeping.subscriptions import State

    row = subscriptions.get(tx, name)
    if name not in loaded.subscriptions:
        if row is None:
            raise _unknown(loaded, name)
        raise errors.UserError(
            f"{name} is not in {loaded.file} any more, so it is told of nothing; its place, after change "
            f"{row.position}, is kept, and it goes on there if it comes back"
        )
    if row is None or row.state is State.REMOVED:
        raise _not_started(name)
    return row


def _not_started(name: str) -> errors.UserError:
    return errors.UserError(
        f"{name} is in the settings and was not started yet; `erpmirror up`, or a worker and the scheduler, start it"
    )


def _unknown(loaded: Settings, name: str) -> errors.UserError:
    known: dict[str, Subscription] = loaded.subscriptions
    return errors.UserError(f'there is no subscription "{name}" in {loaded.file}{common.suggestion(name, list(known))}')
