"""The verb that hands in documents and prints what the vendor read in them."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors, run_now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from models.bookkeeping.documents import DocumentRow
    from workers.context import ConnectionContext

Kind = Annotated[str, typer.Argument(metavar="KIND", help="The kind of document, such as deliverynote.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="PDFs.")]
Order = Annotated[
    str | None,
    typer.Option("--order", metavar="ID", help="The vendor's order that the files belong to.", show_default=False),
]

_BUDGET = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(seconds=60)
"""A document that is due later is left to the workers."""

_POLL_INTERVAL = 0.2


def hand_in(
    connection: common.Name,
    kind: Kind,
    files: Files,
    *,
    order: Order = None,
    wait: run_now.Wait = True,
    config: common.Config = None,
) -> None:
    """Hand in PDFs for a vendor that reads them.

    A PDF is sent once. The same content handed in again is the same document, and is not sent again.

    Example: [bold]erpmirror hand-in goods_in deliverynote scans/*.pdf[/]
    """
    context = common.connection_context(config, connection)
    _check_kind(context, kind)
    order = _checked_order(order)
    _check_files(context, files)
    context.sync_streams()
    keys = {str(path): _hand_in(context, kind, path, order) for path in files}
    if not wait:
        common.wake(context)
        return
    try:
        with common.err().status("Waiting for the vendor …"):
            _wait(context, kind, set(keys.values()))
    except KeyboardInterrupt:
        common.note("Stopped. A document that was being sent may have arrived, so it is parked. Workers send the rest.")
        raise typer.Exit(130) from None
    _print_results(context, kind, keys)


def _check_kind(context: ConnectionContext, kind: str) -> None:
    kinds = [name for name, resource in context.resources.items() if resource.handed_in]
    if not kinds:
        raise errors.UserError(f"{context.name} is a connection to {context.options.system}, which takes no documents")
    if kind not in kinds:
        raise errors.UserError(f'{context.name} takes no documents of a kind "{kind}"{common.suggestion(kind, kinds)}')


def _checked_order(order: str | None) -> str | None:
    from models.bookkeeping import documents

    order = (order or "").strip()
    if len(order) > documents.MAX_ORDER_ID_LENGTH or not order.isprintable():
        raise errors.UserError(f"--order must be one line of at most {documents.MAX_ORDER_ID_LENGTH} characters")
    return order or None


def _check_files(context: ConnectionContext, files: Sequence[Path]) -> None:
    """Check all files before the first is handed in, so that a corrected command can be repeated."""
    from models.settings.connections import TakesDocuments

    largest = context.options.largest if isinstance(context.options, TakesDocuments) else 0
    rejected = [f"  {_printable(path)}: {reason}" for path in files if (reason := _rejection(path, largest))]
    if rejected:
        raise errors.UserError("\n".join(["nothing was handed in", *rejected]))


def _rejection(path: Path, largest: int) -> str | None:
    from models.bookkeeping import documents

    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "this is not a file; name the PDFs in it, as in scans/*.pdf"
    if path.stat().st_size > largest:
        return f"it is larger than {largest} bytes; `largest` of the connection sets the limit"
    if not documents.is_pdf(path.read_bytes()):
        return f"this is not a PDF: {documents.NO_PDF}"
    return None


def _hand_in(context: ConnectionContext, kind: str, path: Path, order: str | None) -> str:
    """Store the document, print its state, and return its key: the sha256."""
    from models.bookkeeping import documents

    content = path.read_bytes()
    with context.database.begin() as tx:
        receipt = documents.hand_in(
            tx, connection=context.name, kind=kind, name=path.name, content=content, order_id=order
        )
    document = _document(context, kind, receipt.sha256)
    state = "new" if receipt.new or document is None else f"known already: {document.state}"
    common.print_lines(common.out(), f"{_printable(path)}: {state} ({receipt.sha256})")
    if order is not None and document is not None and document.order_id != order:
        common.note(f"{_printable(path)}: it was sent with {document.order_id or 'no order'}, which cannot be changed")
    return receipt.sha256


def _printable(path: object) -> str:
    """The path as text, also if its bytes are not text."""
    from models import exact

    return exact.storable_text(str(path))


def _document(context: ConnectionContext, kind: str, sha256: str) -> DocumentRow | None:
    from models.bookkeeping import documents

    with context.database.read() as tx:
        return documents.get(tx, connection=context.name, kind=kind, sha256=sha256)


def _wait(context: ConnectionContext, kind: str, keys: set[str]) -> None:
    """Send what is due, or wait while a worker does, until no document is being sent or due soon."""
    from workers.ingest import loop

    while any(_in_progress(context, kind, sha256) for sha256 in keys):
        if not loop.sync(context, budget=_BUDGET).requests:
            time.sleep(_POLL_INTERVAL)


def _in_progress(context: ConnectionContext, kind: str, sha256: str) -> bool:
    """Whether the document is being sent, or due soon."""
    from models.bookkeeping.documents import State
    from workers.cli import progress

    document = _document(context, kind, sha256)
    if document is None or document.due_at is None or document.inbox_state != "due":
        return False
    if any(each.state != "open" for each in progress.progress(context, [kind])):
        return False
    now = context.now()
    # A sender has its answer before the inbox row is due again. If it died, the next request of the account parks it.
    being_sent = document.state is State.SENDING and document.due_at > now
    return being_sent or _sendable_at(context, document.due_at) < now + _LONGEST_WAIT


def _sendable_at(context: ConnectionContext, due_at: datetime) -> datetime:
    """The first moment at which the document is due and the gate open."""
    with context.database.read() as tx:
        closed_until = context.gate.closed_until(tx)
    return max(due_at, closed_until or due_at)


def _print_results(context: ConnectionContext, kind: str, keys: Mapping[str, str]) -> None:
    from models.bookkeeping.documents import State
    from workers.cli import progress

    resource_errors = [each.error for each in progress.progress(context, [kind]) if each.state != "open"]
    failed = []
    for path, sha256 in keys.items():
        document = _document(context, kind, sha256)
        if document is not None and document.state is State.INTERPRETED:
            result = _summary(context, kind, sha256)
            common.print_lines(common.out(), f"{_printable(path)}: interpreted: {result}")
        elif document is not None:
            reason = document.reason or next(iter(resource_errors), None) or "nothing is known yet"
            failed.append(f"  {_printable(path)}: {document.state}: {reason}")
    if failed:
        raise errors.UserError("\n".join(["not everything could be read", *failed, run_now.retry_parked(context.name)]))


def _summary(context: ConnectionContext, kind: str, sha256: str) -> str:
    """What the vendor read, in a few words."""
    from models.mirror import queries

    with context.database.read() as tx:
        raw = queries.raw_of(tx, context.target(context.resources[kind]), sha256) or {}
    articles = raw.get("articles")
    count = f"{len(articles)} articles" if isinstance(articles, list) else "no list of articles"
    return f"{_supplier(raw) or 'no supplier'}, {count}"


def _supplier(raw: Mapping[str, Any]) -> str | None:
    sender = raw.get("deliveryFrom")
    return raw.get("supplierName") or (sender.get("name") if isinstance(sender, dict) else None)
