"""A listing: its replies, one after the other, are asked for and written under one slot of the gate."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog

from models import faults, inbox, streams
from models.faults import Point
from workers import ahead, fates, gate, shapes
from workers.errors import Fate, SetAside
from workers.page import Page

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from models.database import Tx
    from workers.connectors.contract import Resource
    from workers.desk import Shift
    from workers.gate import Slot
    from workers.page import Piece

log = structlog.get_logger()

_LONGEST_SLOT = 5.0
"""Seconds for which a full reading keeps the gate from page to page: others have their turn in between."""


class _NotDueError(Exception):
    """Another worker has read it meanwhile."""


class _Start:
    """Runs in the transaction that takes the lease: reads the stream, counts the attempt, gives a full sync its run."""

    page: Page

    def __init__(self, shift: Shift, resource: Resource, *, full: bool) -> None:
        self._shift, self._resource, self._full = shift, resource, full

    def __call__(self, tx: Tx, revision: int, _until: datetime) -> None:
        # A listing holds the gate alone: nobody else moves this position from here on.
        stream = shapes.stream_of(tx, self._shift.desk, self._resource)
        if not stream.is_due(tx.now, full=self._full):
            raise _NotDueError
        self.page = Page(self._shift, stream, self._resource, full=self._full)
        self.page.begin(tx, revision)


def read(shift: Shift, resource: Resource, *, now: datetime, full: bool) -> None:
    """One request of a tick or of a full reading. `now`: the database's clock. Raises `gate.Shut`."""
    desk = shift.desk
    if full and (until := desk.options.closed_until(now)) is not None:
        told = f"closed until {until:%Y-%m-%d %H:%M} UTC: the next full reading waits for that"
        with desk.database.begin() as tx:
            streams.change(tx, desk.name, resource.name, full_due_at=until, warning=told)
        return
    try:
        _read(shift, resource, full=full)
    except gate.LeaseLost:
        log.warning("lease lost", connection=desk.name, resource=resource.name)  # its stream is still due


def _read(shift: Shift, resource: Resource, *, full: bool) -> None:
    try:
        _list(shift, resource, full=full)
    except shapes.Undescribed as undescribed:
        if shapes.describe(shift, resource, undescribed.stream, partial(fates.of_stream, shift.desk, full=full)):
            _list(shift, resource, full=full)


def _list(shift: Shift, resource: Resource, *, full: bool) -> None:
    start = _Start(shift, resource, full=full)
    with suppress(_NotDueError, shapes.Resting), shift.turn(begin=start) as slot:
        faults.reach(Point.READING_BEGUN)
        shift.requests += 1
        _receive(start.page, slot)


def _receive(page: Page, slot: Slot) -> None:
    """Write the reply, and under the same slot those that follow while nobody else waits."""
    desk = page.desk
    try:
        with fates.sorted_out(desk), ahead.few_collections():
            made = _pieces(page, asked_at=slot.sent_at)
            with ahead.one_ahead(made) if page.full else ahead.none_ahead(made) as pieces:
                for piece in pieces:
                    page.write(slot, piece, pieces.begin)
                    if piece.goes_on and not page.turn_over():
                        pieces.close()
                        desk.gate.abandon(slot)
                        return
    except Fate as fate:
        fates.of_stream(desk, slot, page.stream, fate, full=page.full)


def _pieces(page: Page, *, asked_at: datetime) -> Generator[Piece, None, None]:
    """What the vendor replies, reply after reply; each must end with an end."""
    position, goes_on = page.stream.position(asked_at, full=page.full), True
    may_go_on = _Patience(page)
    while goes_on:
        end = None
        for chunk in page.shift.client.list(page.resource, position):
            end = chunk.end
            goes_on = end is not None and end.more and may_go_on()
            yield page.prepared(chunk, goes_on=goes_on)
        if end is None:
            raise SetAside("the connector's listing had no end")
        position = end.cursor


class _Patience:
    """Whether a full reading may ask for its next page under the slot that it has, while the last is written."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._until = min(page.shift.until, time.monotonic() + _LONGEST_SLOT)

    def __call__(self) -> bool:
        page, desk = self._page, self._page.desk
        if not page.full or page.resource.described or desk.gate.paced or time.monotonic() > self._until:
            return False
        names = [desk.name, *(each.name for each in desk.sharing)]
        with desk.database.alone() as tx:
            waits, now = inbox.live_waits(tx, connections=names)
        return not waits and desk.options.closed_until(now) is None
