"""The verb that hands documents in, and shows what the vendor read in them."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import entry, errors, look

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from models.documents import Standing
    from workers.desk import Desk

Kind = Annotated[str, typer.Argument(metavar="KIND", help="What the documents are, as in deliverynote.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="PDFs.")]
Order = Annotated[
    str | None,
    typer.Option("--order", metavar="ID", help="The vendor's order that they belong to.", show_default=False),
]

_BUDGET = timedelta(seconds=1)
_PATIENCE = timedelta(seconds=60)
"""A document that rests for longer is not waited for: the workers send it then."""

_POLL = 0.2


def hand_in(
    connection: entry.Name,
    kind: Kind,
    files: Files,
    *,
    order: Order = None,
    wait: look.Wait = True,
    config: entry.Config = None,
) -> None:
    """Hand in PDFs for a vendor who reads them. Each is sent once: handed in again it is the same document.

    Example: [bold]erpmirror hand-in goods_in deliverynote scans/*.pdf[/]
    """
    at = entry.desk(config, connection)
    _check_kind(at, kind)
    order = _checked_order(order)
    _check_files(at, files)
    at.align()
    handed = {str(path): _handed(at, kind, path, order) for path in files}
    if not wait:
        entry.ring(at)
        return
    try:
        with entry.err().status("Being read …"):
            _wait(at, kind, set(handed.values()))
    except KeyboardInterrupt:
        entry.note(
            "Stopped. What was being read just now may have arrived, so it will be parked; workers go on with the rest."
        )
        raise typer.Exit(130) from None
    _show(at, kind, handed)


def _check_kind(at: Desk, kind: str) -> None:
    kinds = [name for name, resource in at.resources.items() if resource.handed_in]
    if not kinds:
        raise errors.Problem(f"{at.name} leads to {at.options.system}, which takes no documents")
    if kind not in kinds:
        raise errors.Problem(f'{at.name} takes no documents of a kind "{kind}"{entry.known(kind, kinds)}')


def _checked_order(order: str | None) -> str | None:
    from models import documents

    order = (order or "").strip()
    if len(order) > documents.LONGEST_ORDER or not order.isprintable():
        raise errors.Problem(f"--order is one line of at most {documents.LONGEST_ORDER} characters")
    return order or None


def _check_files(at: Desk, files: Sequence[Path]) -> None:
    """All of them before the first is handed in, so that whoever mistyped can repeat the whole line."""
    from models.settings import HandedIn

    largest = at.options.largest if isinstance(at.options, HandedIn) else 0
    wrong = [f"  {_shown(path)}: {said}" for path in files if (said := _wrong(path, largest))]
    if wrong:
        raise errors.Problem("\n".join(["nothing was handed in", *wrong]))


def _wrong(path: Path, largest: int) -> str | None:
    from models import documents

    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "this is no file; name the PDFs in it, as in scans/*.pdf"
    if path.stat().st_size > largest:
        return f"it is larger than {largest} bytes; `largest` of the connection sets the limit"
    if not documents.is_pdf(path.read_bytes()):
        return "this is not a PDF: it does not begin with %PDF-"
    return None


def _handed(at: Desk, kind: str, path: Path, order: str | None) -> str:
    """Its sha256."""
    from models import documents

    content = path.read_bytes()
    with at.database.begin() as opened:
        handed = documents.hand_in(
            opened, connection_name=at.name, kind=kind, name=path.name, content=content, order=order
        )
    standing = _standing(at, kind, handed.sha256)
    said = "new" if handed.new or standing is None else f"known already: {standing.state}"
    entry.out().print(f"{_shown(path)}: {said} ({handed.sha256})", markup=False, soft_wrap=True)
    if order is not None and standing is not None and standing.order != order:
        entry.note(f"{_shown(path)}: it was sent with {standing.order or 'no order'}, and that stays so")
    return handed.sha256


def _shown(path: object) -> str:
    """Also a name that is no text."""
    from models import exact

    return exact.storable_text(str(path))


def _standing(at: Desk, kind: str, sha256: str) -> Standing | None:
    from models import documents

    with at.database.read() as opened:
        return documents.get(opened, connection_name=at.name, kind=kind, sha256=sha256)


def _wait(at: Desk, kind: str, keys: set[str]) -> None:
    """Send what is due, or wait while a worker does; until nothing of these moves any more."""
    from workers import ingest

    while any(_moves(at, kind, sha256) for sha256 in keys):
        if not ingest.look(at, budget=_BUDGET).requests:
            time.sleep(_POLL)


def _moves(at: Desk, kind: str, sha256: str) -> bool:
    """Whether something happens to it soon: it is being sent, or may be."""
    from models.documents import State
    from workers.cli import following

    standing = _standing(at, kind, sha256)
    if standing is None or standing.due_at is None or standing.mention != "due":
        return False
    if any(each.state != "open" for each in following.progress(at, [kind])):
        return False
    now = at.now()
    # Who is sending has an answer when its mention is due again, or it is parked as soon as the gate lets somebody in.
    being_sent = standing.state is State.SENDING and standing.due_at > now
    return being_sent or _rests_until(at, standing.due_at) < now + _PATIENCE


def _rests_until(at: Desk, due_at: datetime) -> datetime:
    """Its own time, or the gate's."""
    import sqlalchemy as sa

    from models.tables import gates

    with at.database.read() as opened:
        shut = opened.execute(sa.select(gates.c.shut_until).where(gates.c.account == at.gate.account)).scalar()
    return max(due_at, shut or due_at)


def _show(at: Desk, kind: str, handed: Mapping[str, str]) -> None:
    from models.documents import State
    from workers.cli import following

    whole = [each.error for each in following.progress(at, [kind]) if each.state != "open"]
    undone = []
    for path, sha256 in handed.items():
        standing = _standing(at, kind, sha256)
        if standing is not None and standing.state is State.INTERPRETED:
            entry.out().print(f"{_shown(path)}: interpreted: {_read(at, kind, sha256)}", markup=False, soft_wrap=True)
        elif standing is not None:
            reason = standing.reason or next(iter(whole), None) or "nothing is known yet"
            undone.append(f"  {_shown(path)}: {standing.state}: {reason}")
    if undone:
        raise errors.Problem("\n".join(["not everything could be read", *undone, _NEXT]))


_NEXT = "what is parked waits for `erpmirror parked retry`; the rest stays due and is tried again"


def _read(at: Desk, kind: str, sha256: str) -> str:
    """What was read, in a few words."""
    from models import documents

    with at.database.read() as opened:
        raw = documents.result(opened, at.target(at.resources[kind]), sha256) or {}
    articles = raw.get("articles")
    count = f"{len(articles)} articles" if isinstance(articles, list) else "no list of articles"
    return f"{_supplier(raw) or 'no supplier'}, {count}"


def _supplier(raw: Mapping[str, Any]) -> str | None:
    sender = raw.get("deliveryFrom")
    return raw.get("supplierName") or (sender.get("name") if isinstance(sender, dict) else None)
