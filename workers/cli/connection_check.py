"""The checks of one connection: its login, its clock, each resource, its watched folder."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

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

_CLOCK_TOLERANCE = timedelta(seconds=1)
"""A smaller difference counts as none."""

_LARGEST_CLOCK_DIFFERENCE = timedelta(minutes=2)
"""A clock that differs by more is not drifting but set wrong."""


_MANY_AN_HOUR = 50
"""Requests of a resource's full syncs that a person may want to lessen."""

_FEW_PAGES = 5
"""Of so few pages no setting saves much, however often they are listed."""


@dataclass(frozen=True, slots=True)
class CheckOutcome:
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

    def outcomes(self, *, ready: bool) -> Iterator[CheckOutcome]:
        """One outcome for the login, the clock and each resource. `ready`: the tables exist, which the gate needs."""
        if not ready:
            yield self._outcome("login", "not checked: the gate needs the database", ok=False)
            return
        self._report(f"Checking {self._context.name}: login")
        login, *clock = self._login()
        yield login
        yield from clock
        yield from self._hours()
        resources = self._context.resources.values()
        to_check = [resource for resource in resources if not resource.handed_in]
        yield from self._check_resources(to_check) if login.ok else self._skipped(to_check, "the login failed")
        for resource in resources:
            if resource.handed_in:
                yield self._handed_in(resource)

    def _outcome(self, what: str, says: str, remedy: str | None = None, *, ok: bool = True) -> CheckOutcome:
        return CheckOutcome(self._context.name, self._context.options.system, what, says, ok, remedy)

    def _failed(self, what: str, failure: VendorError | GateClosed, remedy: str | None) -> CheckOutcome:
        """The outcome of a request without a usable answer. Closed hours are not a failure."""
        from workers.errors import ClosedError
        from workers.gate.gate import GateClosed

        if isinstance(failure, ClosedError):
            return self._outcome(what, f"closed until {_moment(failure.until)}: {failure}")
        if isinstance(failure, GateClosed):
            says = f"not checked: the account's gate is closed until {_moment(failure.until)}: {failure}"
            return self._outcome(what, says, remedy, ok=False)
        return self._outcome(what, str(failure), remedy, ok=False)

    def _login(self) -> list[CheckOutcome]:
        from workers.cli import vendor_query
        from workers.errors import VendorError
        from workers.gate.gate import GateClosed

        try:
            handshake = vendor_query.check(self._context)
        except (VendorError, GateClosed) as failure:
            return [self._failed("login", failure, hints.of_login(failure, self._context.options, self._table))]
        return [
            self._outcome("login", handshake.summary),
            *([] if handshake.clock_ahead is None else [self._clock(handshake.clock_ahead)]),
        ]

    def _clock(self, ahead: timedelta) -> CheckOutcome:
        if abs(ahead) < _CLOCK_TOLERANCE:
            return self._outcome("clock", "agrees with ours")
        says = f"{spell(abs(ahead))} {'ahead of' if ahead > timedelta(0) else 'behind'} ours"
        ok = abs(ahead) <= _LARGEST_CLOCK_DIFFERENCE
        return self._outcome("clock", says, None if ok else hints.CLOCK, ok=ok)

    def _hours(self) -> Iterator[CheckOutcome]:
        until = self._context.options.closed_until(self._context.now())
        if until is not None:
            yield self._outcome("hours", f"closed for full syncs until {_moment(until)}; changes are polled meanwhile")

    def _check_resources(self, resources: Sequence[Resource]) -> Iterator[CheckOutcome]:
        from workers.cli import vendor_query
        from workers.errors import VendorError
        from workers.gate.gate import GateClosed

        for number, resource in enumerate(resources, 1):
            self._report(f"Checking {self._context.name}: {resource.name} ({number} of {len(resources)})")
            try:
                says = vendor_query.probe(self._context, resource)
                yield self._outcome(resource.name, f"{says}{self._unbatched(resource)}{self._costly(resource)}")
            except (VendorError, GateClosed) as failure:
                yield self._failed(resource.name, failure, hints.of_resource(failure, resource.name, self._table))
                if isinstance(failure, GateClosed):  # it stays closed for the resources that follow
                    yield from self._skipped(resources[number:], "the gate is closed")
                    return

    def _unbatched(self, resource: Resource) -> str:
        """Why workers fetch its objects one by one, although its vendor can be asked for many at once."""
        from models.bookkeeping import streams

        with self._context.database.read() as tx:
            stream = streams.get(tx, self._context.name, resource.name)
        return "" if stream is None or stream.unbatched is None else f"; fetched one by one: {stream.unbatched}"

    def _costly(self, resource: Resource) -> str:
        """How many requests an hour its full syncs take, and which setting makes them cheaper; "" if they are few."""
        from models.bookkeeping import full_syncs

        if not resource.if_costly:
            return ""
        with self._context.database.read() as tx:
            pages = full_syncs.last_pages(tx, connection=self._context.name, resource=resource.name)
        hourly = round(pages * (timedelta(hours=1) / resource.full_every))
        if pages <= _FEW_PAGES or hourly <= _MANY_AN_HOUR:
            return ""
        return f"; its full syncs take {hourly} requests an hour: {resource.if_costly}"

    def _skipped(self, resources: Sequence[Resource], why: str) -> Iterator[CheckOutcome]:
        for resource in resources:
            yield self._outcome(resource.name, f"not checked: {why}", ok=False)

    def _handed_in(self, resource: Resource) -> CheckOutcome:
        """Check the watched folder. The vendor itself gets no request before a document is handed in."""
        from models.settings.connections import TakesDocuments

        inbox = self._context.options.inbox if isinstance(self._context.options, TakesDocuments) else None
        if inbox is None:
            return self._outcome(resource.name, "checked by the first document; no folder is watched")
        # Workers create the folders. If not even their parent exists, the path is wrong or a disk is not mounted.
        kind = inbox / resource.name
        folder = next((each for each in (kind, inbox) if each.exists()), inbox.parent)
        defect = _folder_defect(folder)
        if defect:
            says = f"the watched folder {folder} cannot be used: {defect}"
            return self._outcome(resource.name, says, hints.of_folder(str(folder)), ok=False)
        watched = "is watched" if kind.exists() else "will be made and watched"
        return self._outcome(resource.name, f"checked by the first document; {kind} {watched}")


def _folder_defect(folder: Path) -> str | None:
    """Why the folder cannot be used; None if it can.

    Writes a file: permission bits do not apply to root, and do not show a full disk.
    """
    try:
        next(folder.iterdir(), None)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
