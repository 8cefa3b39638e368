"""The verb that hands documents in, and shows how the vendor decoded them."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors, status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from models.bookkeeping.documents import DocumentRow
    from workers.context import ConnectionContext

Kind = Annotated[str, typer.Argument(metavar="KIND", help="The kind of document, such as deliverynote.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="PDFs.")]
Order = Annotated[
    str | None,
    typer.Option("--order", metavar="ID", help="The order at the vendor that they belong to.", show_default=False),
]

_BUDGET = timedelta(seconds=1)
_PATIENCE = timedelta(seconds=60)
"""A document that is due later is not waited for: a worker sends it then."""

_POLL = 0.2


def hand_in(
    connection: common.Name,
    kind: Kind,
    files: Files,
    *,
    order: Order = None,
    wait: status.Wait = True,
    config: common.Config = None,
) -> None:
    """Hand in PDFs for a vendor that decodes them.

    Each is sent once: handed in again it is the same document.

    Example: [bold]erpmirror hand-in goods_in deliverynote scans/*.pdf[/]
    """
    at = common.connection_context(config, connection)
    _check_kind(at, kind)
    order = _checked_order(order)
    _check_files(at, files)
    at.sync_streams()
    handed = {str(path): _handed(at, kind, path, order) for path in files}
    if not wait:
        common.wake(at)
        return
    try:
        with common.err().status("Waiting for the vendor …"):
            _wait(at, kind, set(handed.values()))
    except KeyboardInterrupt:
        common.note(
            "Stopped. A document that was being sent may have arrived, so it will be parked; workers send the rest."
        )
        raise typer.Exit(130) from None
    _show(at, kind, handed)


def _check_kind(at: ConnectionContext, kind: str) -> None:
    kinds = [name for name, resource in at.resources.items() if resource.handed_in]
    if not kinds:
        raise errors.Problem(f"{at.name} is a connection to {at.options.system}, which takes no documents")
    if kind not in kinds:
        raise errors.Problem(f'{at.name} takes no documents of a kind "{kind}"{common.known(kind, kinds)}')


def _checked_order(order: str | None) -> str | None:
    from models.bookkeeping import documents

    order = (order or "").strip()
    if len(order) > documents.MAX_ORDER_LENGTH or not order.isprintable():
        raise errors.Problem(f"--order is one line of at most {documents.MAX_ORDER_LENGTH} characters")
    return order or None


def _check_files(at: ConnectionContext, files: Sequence[Path]) -> None:
    """Check all of them before the first is handed in, so that a mistyped line can be repeated."""
    from models.settings.connections import TakesDocuments

    largest = at.options.largest if isinstance(at.options, TakesDocuments) else 0
    wrong = [f"  {_shown(path)}: {reason}" for path in files if (reason := _wrong(path, largest))]
    if wrong:
        raise errors.Problem("\n".join(["nothing was handed in", *wrong]))


def _wrong(path: Path, largest: int) -> str | None:
    from models.bookkeeping import documents

    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "this is no file; name the PDFs in it, as in scans/*.pdf"
    if path.stat().st_size > largest:
        return f"it is larger than {largest} bytes; `largest` of the connection sets the limit"
    if not documents.is_pdf(path.read_bytes()):
        return "this is not a PDF: it does not begin with %PDF-"
    return None


def _handed(at: ConnectionContext, kind: str, path: Path, order: str | None) -> str:
    """Its sha256."""
    from models.bookkeeping import documents

    content = path.read_bytes()
    with at.database.begin() as opened:
        handed = documents.hand_in(opened, connection=at.name, kind=kind, name=path.name, content=content, order=order)
    standing = _standing(at, kind, handed.sha256)
    state = "new" if handed.new or standing is None else f"known already: {standing.state}"
    common.out().print(f"{_shown(path)}: {state} ({handed.sha256})", markup=False, soft_wrap=True)
    if order is not None and standing is not None and standing.order != order:
        common.note(f"{_shown(path)}: it was sent with {standing.order or 'no order'}, and that stays so")
    return handed.sha256


def _shown(path: object) -> str:
    """The path as text, even if its bytes are none."""
    from models import exact

    return exact.storable_text(str(path))


def _standing(at: ConnectionContext, kind: str, sha256: str) -> DocumentRow | None:
    from models.bookkeeping import documents

    with at.database.read() as opened:
        return documents.get(opened, connection=at.name, kind=kind, sha256=sha256)


def _wait(at: ConnectionContext, kind: str, keys: set[str]) -> None:
    """Send what is due, or wait while a worker does, until none of these documents makes progress."""
    from workers.ingest import loop

    while any(_moves(at, kind, sha256) for sha256 in keys):
        if not loop.sync(at, budget=_BUDGET).requests:
            time.sleep(_POLL)


def _moves(at: ConnectionContext, kind: str, sha256: str) -> bool:
    """Whether it is being sent, or is due soon."""
    from models.bookkeeping.documents import State
    from workers.cli import progress

    standing = _standing(at, kind, sha256)
    if standing is None or standing.due_at is None or standing.inbox_state != "due":
        return False
    if any(each.state != "open" for each in progress.progress(at, [kind])):
        return False
    now = at.now()
    # A sender has its answer before the inbox row is due again; if it died, the next one through the gate parks it.
    being_sent = standing.state is State.SENDING and standing.due_at > now
    return being_sent or _rests_until(at, standing.due_at) < now + _PATIENCE


def _rests_until(at: ConnectionContext, due_at: datetime) -> datetime:
    """When it is due and the gate is open."""
    import sqlalchemy as sa

    from models.db.tables import gates

    with at.database.read() as opened:
        shut = opened.execute(sa.select(gates.c.closed_until).where(gates.c.account == at.gate.account)).scalar()
    return max(due_at, shut or due_at)


def _show(at: ConnectionContext, kind: str, handed: Mapping[str, str]) -> None:
    from models.bookkeeping.documents import State
    from workers.cli import progress

    whole = [each.error for each in progress.progress(at, [kind]) if each.state != "open"]
    undone = []
    for path, sha256 in handed.items():
        standing = _standing(at, kind, sha256)
        if standing is not None and standing.state is State.INTERPRETED:
            common.out().print(f"{_shown(path)}: interpreted: {_read(at, kind, sha256)}", markup=False, soft_wrap=True)
        elif standing is not None:
            reason = standing.reason or next(iter(whole), None) or "nothing is known yet"
            undone.append(f"  {_shown(path)}: {standing.state}: {reason}")
    if undone:
        raise errors.Problem("\n".join(["not everything could be read", *undone, _NEXT]))


_NEXT = "what is parked waits for `erpmirror parked retry`; the rest stays due and is tried again"


def _read(at: ConnectionContext, kind: str, sha256: str) -> str:
    """The decoded document in a few words."""
    from models.bookkeeping import documents

    with at.database.read() as opened:
        raw = documents.result(opened, at.target(at.resources[kind]), sha256) or {}
    articles = raw.get("articles")
    count = f"{len(articles)} articles" if isinstance(articles, list) else "no list of articles"
    return f"{_supplier(raw) or 'no supplier'}, {count}"


def _supplier(raw: Mapping[str, Any]) -> str | None:
    sender = raw.get("deliveryFrom")
    return raw.get("supplierName") or (sender.get("name") if isinstance(sender, dict) else None)
