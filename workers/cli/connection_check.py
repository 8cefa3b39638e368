"""The checks of one connection: its login, its clock, each resource, its watched folder."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from models.durations import spell
from workers.cli import hints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from workers.connectors.contract import Resource
    from workers.context import ConnectionContext
    from workers.errors import VendorError
    from workers.gate.gate import GateClosed

_CLOCK_READ_WITHIN = timedelta(seconds=1)
_LARGEST_CLOCK_DIFFERENCE = timedelta(minutes=2)
"""A clock that differs by more does not drift: it is set wrong."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of one check: what was checked, its answer, and the remedy if it failed.

    `connection` and `system` are None for what all connections share.
    """

    connection: str | None
    system: str | None
    what: str
    says: str
    ok: bool = True
    remedy: str | None = None


class ConnectionCheck:
    """Checks one connection: the login first, since without it every other answer is the same refusal."""

    def __init__(self, context: ConnectionContext, report: Callable[[str], None]) -> None:
        self._context = context
        self._report = report
        self._table = f"[connections.{context.name}] of {context.settings.file}"

    def proofs(self, *, ready: bool) -> Iterator[Proof]:
        """One result for the login, the clock and each resource. `ready`: the tables exist, so the gate works."""
        if not ready:
            remedy = "correct the database first"
            yield self._proof("login", "not checked: the gate needs the database", remedy, ok=False)
            return
        self._report(f"Checking {self._context.name}: login")
        login, *clock = self._login()
        yield login
        yield from clock
        yield from self._hours()
        resources = self._context.resources.values()
        asked = [resource for resource in resources if not resource.handed_in]
        yield from self._readable(asked) if login.ok else self._unasked(asked, "the login failed")
        for resource in resources:
            if resource.handed_in:
                yield self._handed_in(resource)

    def _proof(self, what: str, says: str, remedy: str | None = None, *, ok: bool = True) -> Proof:
        return Proof(self._context.name, self._context.options.system, what, says, ok, remedy)

    def _ended(self, what: str, ended: VendorError | GateClosed, remedy: str | None) -> Proof:
        """The result where there was no answer. Closed hours are no failure."""
        from workers.errors import ClosedError
        from workers.gate.gate import GateClosed

        if isinstance(ended, ClosedError):
            return self._proof(what, f"closed until {_moment(ended.until)}: {ended}")
        if isinstance(ended, GateClosed):
            says = f"not checked: the account's gate is closed until {_moment(ended.until)}: {ended}"
            return self._proof(what, says, remedy, ok=False)
        return self._proof(what, str(ended), remedy, ok=False)

    def _login(self) -> list[Proof]:
        from workers.cli import vendor_query
        from workers.errors import VendorError
        from workers.gate.gate import GateClosed

        try:
            greeting = vendor_query.check(self._context)
        except (VendorError, GateClosed) as ended:
            return [self._ended("login", ended, hints.of_login(ended, self._context.options, self._table))]
        return [self._proof("login", greeting.says), *([] if greeting.ahead is None else [self._clock(greeting.ahead)])]

    def _clock(self, ahead: timedelta) -> Proof:
        if abs(ahead) < _CLOCK_READ_WITHIN:
            return self._proof("clock", "agrees with ours")
        says = f"{spell(abs(ahead))} {'ahead of' if ahead > timedelta(0) else 'behind'} ours"
        ok = abs(ahead) <= _LARGEST_CLOCK_DIFFERENCE
        return self._proof("clock", says, None if ok else hints.CLOCK, ok=ok)

    def _hours(self) -> Iterator[Proof]:
        until = self._context.options.closed_until(self._context.now())
        if until is not None:
            yield self._proof("hours", f"closed for full syncs until {_moment(until)}; changes are polled meanwhile")

    def _readable(self, resources: Sequence[Resource]) -> Iterator[Proof]:
        from workers.cli import vendor_query
        from workers.errors import VendorError
        from workers.gate.gate import GateClosed

        for number, resource in enumerate(resources, 1):
            self._report(f"Checking {self._context.name}: {resource.name} ({number} of {len(resources)})")
            try:
                yield self._proof(resource.name, vendor_query.probe(self._context, resource))
            except (VendorError, GateClosed) as ended:
                yield self._ended(resource.name, ended, hints.of_resource(ended, resource.name, self._table))
                if isinstance(ended, GateClosed):  # for all that follow, too
                    yield from self._unasked(resources[number:], "the gate is closed")
                    return

    def _unasked(self, resources: Sequence[Resource], why: str) -> Iterator[Proof]:
        for resource in resources:
            yield self._proof(resource.name, f"not checked: {why}", ok=False)

    def _handed_in(self, resource: Resource) -> Proof:
        """Nothing is sent to the vendor before a document is handed in, but its watched folder can be checked."""
        from models.settings.connections import TakesDocuments

        inbox = self._context.options.inbox if isinstance(self._context.options, TakesDocuments) else None
        if inbox is None:
            return self._proof(resource.name, "checked by the first document; no folder is watched")
        # Workers make the folders; if not even the inbox's parent exists, the path is wrong or a disk is not mounted.
        kind = inbox / resource.name
        folder = next((each for each in (kind, inbox) if each.exists()), inbox.parent)
        trouble = _trouble(folder)
        if trouble:
            says = f"the watched folder {folder} cannot be used: {trouble}"
            return self._proof(resource.name, says, hints.of_folder(str(folder)), ok=False)
        watched = "is watched" if kind.exists() else "will be made and watched"
        return self._proof(resource.name, f"checked by the first document; {kind} {watched}")


def _trouble(folder: Path) -> str | None:
    """Why the folder cannot be used; None if it can. Tried out: permissions say nothing of root or of a full disk."""
    try:
        next(folder.iterdir(), None)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
