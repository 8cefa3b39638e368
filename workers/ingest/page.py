"""Writes one reply to a listing into the mirror, chunk by chunk."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models import exact, failpoints, redaction
from models.bookkeeping import full_syncs, inbox, parked, seen_keys, streams, unkeyed
from models.db import faults
from models.db.faults import Fault
from models.failpoints import Point
from models.mirror import apply, prepare, queries, schema_evolution
from models.mirror.rows import Prepared
from models.values import Cause, Chunk, Lane, MalformedError, ObjectRef, Unreadable
from workers.errors import TryLater
from workers.ingest import absence, chunks, failures
from workers.ingest.unit_of_work import UnitOfWork, release, renew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from models.values import Change, End, JsonObject, Line
    from workers.connectors.contract import Resource
    from workers.context import WorkSession
    from workers.gate.gate import Lease

log = structlog.get_logger()


_MANY = 20
"""Objects: where the database refuses all of so many, it is not for what they hold."""


@dataclass(frozen=True, slots=True)
class PreparedChunk:
    """A chunk, ready to be written. `continues`: the next reply is requested under the same lease."""

    chunk: Chunk
    prepared: Prepared | None = None
    continues: bool = False


@dataclass(frozen=True, slots=True)
class _Proof:
    """What a full sync proves at its end.

    - `absence`: a key that it did not name may be gone; a fetch decides
    - `deletion`: where no fetch can, its absence does
    - `complete`: once what it found is worked off, the mirror has every change that was made before it
    """

    absence: bool
    deletion: bool
    complete: bool


class Page:
    """A reply to a listing, and what its chunks need to be written. `next_page` moves it on to the following reply.

    `point`: each of its objects was requested by its key, so an unchanged one counts as observed.
    """

    point = False

    def __init__(self, session: WorkSession, stream: Stream, resource: Resource, *, full: bool) -> None:
        self.session, self.stream, self.resource, self.full = session, stream, resource, full
        self.context, self.database = session.context, session.context.database
        self.target = session.context.target(resource, stream)
        self.run = stream.full_run
        self.first_revision = stream.full_revision
        self.analyzed = False
        self.next_stream: Stream | None = None

    @property
    def cause(self) -> Cause:
        """`backfill` for the first full sync and one that a person requested, else `reconcile`, or `poll`."""
        if self.full and (self.stream.cursor is None or self.stream.full_requested):
            return Cause.BACKFILL
        return Cause.RECONCILE if self.full and not self.resource.register else Cause.POLL

    def begin(self, tx: Tx, revision: int) -> None:
        """Record the attempt; a full sync that starts gets its run."""
        if self.full and self.run is None:
            if self.resource.fetchable:  # else the listing itself brings what was parked
                parked.retry_refused(tx, connection=self.context.name, resource=self.resource.name)
            self.run = full_syncs.begin(tx, self.stream, revision=revision, cause=self.cause, now=tx.now)
            self.first_revision = revision
        else:
            streams.record_attempt(tx, self.stream, now=tx.now)

    def next_page(self) -> bool:
        """Move on to the next reply; False if the full sync was restarted or stopped since."""
        stream = self.next_stream
        if stream is None:
            return False
        self.stream = stream
        self.target = self.context.target(self.resource, stream)
        return True

    def _reload_stream(self, tx: Tx) -> None:
        """Read the stream as this transaction leaves it, to know whether the next reply is still wanted."""
        stream = streams.get(tx, self.context.name, self.resource.name)
        if stream is None or stream.full_run != self.run:
            self.next_stream = None
            return
        stream = replace(stream, failures=0)  # the attempt counted since the last page is this one
        self.next_stream = stream if stream.is_due(tx.now, full=True) else None

    def prepare(self, chunk: Chunk, *, continues: bool) -> PreparedChunk:
        """Do all the work on a chunk that needs no transaction."""
        chunk = chunks.with_short_keys(chunk)
        try:
            # In all but the first full sync most objects are unchanged.
            known = self.stream.cursor is not None and not self.point
            with _malformed_is_temporary():
                prepared = prepare.prepare(self.database, self.target, chunk.snapshots, expect_unchanged=known)
            if not (known or self.database.is_sqlite):
                prepared.encode()
            return PreparedChunk(chunk, prepared, continues)
        except schema_evolution.TableLockedError:
            return PreparedChunk(chunk, None, continues)  # perhaps by our own writer: `write` prepares it again

    def write(self, lease: Lease, ready: PreparedChunk, meanwhile: Callable[[], None]) -> None:
        """Write one chunk; if the database refuses a value, park that row alone.

        `meanwhile` is called when this thread is about to wait for the database.
        """
        failpoints.hit(Point.CHUNK_ARRIVED)
        chunk = ready.chunk
        with _malformed_is_temporary():
            prepared = ready.prepared or prepare.prepare(self.database, self.target, chunk.snapshots)
        try:
            self._commit(lease, chunk, prepared, meanwhile, continues=ready.continues)
        except apply.NeedsLayoutError as stale:
            with _malformed_is_temporary():
                prepared = prepare.lay_out(self.database, self.target, prepared, stale.keys)
            self.write(lease, replace(ready, prepared=prepared), meanwhile)
        except sa.exc.DBAPIError as error:
            if faults.of(error) is not Fault.REFUSED or not chunk.snapshots:
                raise
            self._write_apart(lease, ready, error, meanwhile)

    def _write_apart(
        self, lease: Lease, ready: PreparedChunk, error: sa.exc.DBAPIError, meanwhile: Callable[[], None]
    ) -> None:
        """Write the chunk in halves, until each snapshot that the database refuses is alone, and park those.

        Raises the error if it refuses each of many: then something stands in the way of the whole resource.
        """
        chunk, refused = ready.chunk, list[Unreadable]()
        waiting = [(chunk.snapshots, error)]
        while waiting:
            self.session.heartbeat()  # what is refused is rolled back, and the lease's renewal with it
            snapshots, error = waiting.pop()
            if len(snapshots) == 1:
                # Without a raw, so that it can be retried by its key.
                refused.append(Unreadable(snapshots[0].key, failures.refusal(self.context, error), {}))
                continue
            for half in chunks.halves(snapshots):
                try:
                    self._write_alone(lease, Chunk(snapshots=half), meanwhile)
                except sa.exc.DBAPIError as again:
                    if faults.of(again) is not Fault.REFUSED:
                        raise
                    waiting.append((half, again))
        if len(refused) == len(chunk.snapshots) >= _MANY:
            raise error
        rest = replace(chunk, snapshots=(), unreadable=[*chunk.unreadable, *refused])
        self.write(lease, PreparedChunk(rest, continues=ready.continues), meanwhile)

    def _write_alone(self, lease: Lease, chunk: Chunk, meanwhile: Callable[[], None]) -> None:
        """Write a part of a chunk. Raises the database's refusal."""
        with _malformed_is_temporary():
            prepared = prepare.prepare(self.database, self.target, chunk.snapshots)
        self._commit(lease, chunk, prepared, meanwhile, continues=False)

    def _commit(
        self,
        lease: Lease,
        chunk: Chunk,
        prepared: Prepared,
        meanwhile: Callable[[], None],
        *,
        continues: bool,
    ) -> None:
        end = chunk.end
        lease_step = renew if end is None or continues else release
        with UnitOfWork.under(
            lease, self.target, self.cause, lease_step=lease_step, failpoint=Point.CHUNK_JOURNALED
        ) as work:
            tx = work.tx
            listed = {each.key: each.listed for each in chunk.snapshots if each.listed is not None}
            # First, because it may raise `NeedsLayoutError`, and then all of this is repeated.
            changes = work.apply(prepared, listed=listed, point=self.point, meanwhile=meanwhile)
            inbox.lock(tx, connection=self.context.name)
            self._enqueue_all(tx, chunk, lease.revision)
            failpoints.hit(Point.CHUNK_ENQUEUED)
            proof = None
            if self.full:
                self._record_seen(tx, chunk, changes)
                proof = self._prove(tx, chunk)
                if proof is not None and proof.absence:
                    absence.settle_missing(
                        work, self.context, self.resource, first_revision=self._reading, proven=proof.deletion
                    )
            failpoints.hit(Point.CHUNK_APPLIED)
            self._advance(tx, chunk, proof, continues=continues)
            if continues:
                self._reload_stream(tx)
            failpoints.hit(Point.CHUNK_ADVANCED)
        failpoints.hit(Point.CHUNK_COMMITTED)
        self._after_commit(chunk, changes=len(work.changes))

    def _after_commit(self, chunk: Chunk, *, changes: int) -> None:
        """Count and log; analyze the table once, after the first chunk of a full sync that changed it."""
        if self.full and changes and not self.analyzed:
            queries.analyze(self.database, self.target)
            self.analyzed = True
        self.session.changes += changes
        names = {"connection": self.context.name, "resource": self.resource.name}
        log.info("listed", **names, objects=chunks.size(chunk), changes=changes, cause=self.cause.value)

    def _record_seen(self, tx: Tx, chunk: Chunk, changes: Sequence[Change]) -> None:
        """Record which keys the full sync named; a row that this request wrote shows it by its revision."""
        written = {change.key for change in changes}
        keys = [
            exact.storable_text(row.key) for rows in (chunk.snapshots, chunk.lines, chunk.unreadable) for row in rows
        ]
        keys = [key for key in keys if key not in written]
        seen_keys.record(tx, connection=self.context.name, resource=self.resource.name, keys=keys)

    def _enqueue_all(self, tx: Tx, chunk: Chunk, revision: int) -> None:
        """Finish the keys whose objects came, enqueue the changed and referenced ones, park what is unreadable."""
        name, resource = self.context.name, self.resource.name
        keys = [row.key for row in chunk.snapshots]
        inbox.finish_listed(tx, connection=name, resource=resource, keys=keys, before=revision)
        lines = [replace(line, key=exact.storable_text(line.key)) for line in chunk.lines]
        changed = self._changed_lines(tx, lines)
        self._enqueue(
            tx,
            [ObjectRef(resource, line.key) for line in changed],
            tokens={line.key: line.token for line in changed},
            summaries={line.key: redaction.redact(line.summary, self.target.omit) for line in changed if line.summary},
        )
        self._enqueue(tx, [each for each in chunk.refs if each.resource in self.context.resources])
        parked.park_unreadable(
            tx,
            connection=name,
            resource=resource,
            unreadable=[row for row in chunk.unreadable if row.has_key],
            cause=self.cause,
        )
        without_key = [row for row in chunk.unreadable if not row.has_key]
        unkeyed.record(
            tx,
            connection=name,
            resource=resource,
            unreadable=[replace(row, raw=redaction.redact(row.raw, self.target.omit)) for row in without_key],
            cause=self.cause,
            reading=self._reading if self.full else revision,
            full=self.full,
        )

    def _enqueue(
        self,
        tx: Tx,
        refs: Sequence[ObjectRef],
        *,
        tokens: dict[str, str] | None = None,
        summaries: dict[str, JsonObject] | None = None,
    ) -> None:
        inbox.enqueue(
            tx,
            connection=self.context.name,
            refs=refs,
            lane=Lane.BULK,
            cause=self.cause,
            tokens=tokens,
            summaries=summaries,
        )

    def _changed_lines(self, tx: Tx, lines: Sequence[Line]) -> list[Line]:
        """The lines that the vendor calls changed, or that differ from what was listed last; all of them in a backfill
        that a person requested.
        """
        if not lines:
            return []
        keys = [line.key for line in lines]
        rows = queries.listed_tokens(tx, self.target, keys)
        waiting = inbox.tokens(tx, connection=self.context.name, resource=self.resource.name, keys=keys)
        full_requested = self.stream.full_requested
        return [
            line
            for line in lines
            if full_requested or line.changed or _is_changed(line, rows.get(line.key), waiting.get(line.key))
        ]

    def _advance(self, tx: Tx, chunk: Chunk, proof: _Proof | None, *, continues: bool) -> None:
        """Move the position; the cursor moves only with the last page of a complete run."""
        end = chunk.end
        streams.reopen_listed(tx, self.stream)
        if end is not None and proof is not None:
            self._finish_full_sync(tx, chunk, end, complete=proof.complete)
        elif self.full:
            full_syncs.advance(
                tx,
                self.stream,
                run=self.run or 0,
                cursor=None if end is None else end.cursor,
                pages=0 if end is None else 1,
                objects=chunks.size(chunk),
                next_tried_at=tx.now if continues else None,
            )
        elif end is not None and end.more:
            streams.advance_poll(tx, self.stream, cursor=end.cursor, now=tx.now)
        elif end is not None:
            next_at = tx.now + self._poll_interval
            streams.finish_poll(tx, self.stream, cursor=end.cursor, next_at=next_at, now=tx.now, warning=end.warning)

    @property
    def _reading(self) -> int:
        """The number of the full sync: the revision of its first request."""
        return self.first_revision or 0

    def _prove(self, tx: Tx, chunk: Chunk) -> _Proof | None:
        """What the full sync proves, if it ends with this chunk."""
        end = chunk.end
        if end is None or end.more:
            return None
        found = unkeyed.finish(tx, connection=self.context.name, resource=self.resource.name, reading=self._reading)
        # If all that was listed has no key, the key is named wrongly, and nothing is missing.
        keyed = not found.some or chunks.size(chunk) > 0 or full_syncs.objects(tx, run=self.run or 0) > 0
        # A record that hides its key could be any object that seems to be missing; a fetch of that one decides.
        all_named = end.gap is None and not found.hidden
        # A stream of events does not list what exists, so nothing can be missing from it.
        lists_what_exists = self.resource.fetchable or self.resource.unpaged
        is_whole = end.complete or not lists_what_exists
        return _Proof(
            absence=end.complete and keyed,
            deletion=all_named,
            complete=is_whole and keyed and end.gap is None and (all_named or self.resource.fetchable),
        )

    def _finish_full_sync(self, tx: Tx, chunk: Chunk, end: End, *, complete: bool) -> None:
        full_syncs.finish(
            tx,
            self.stream,
            run=self.run or 0,
            objects=chunks.size(chunk),
            cursor=end.cursor,
            next_at=tx.now + self.resource.full_every,
            now=tx.now,
            first_poll_at=tx.now + self._poll_interval,
            moves_cursor=self.stream.full_requested or not self.resource.summaries,
            complete=complete,
            warning="; ".join(filter(None, [end.gap, end.warning])) or None,
        )

    @property
    def _poll_interval(self) -> timedelta:
        return self.resource.every or self.resource.full_every


@contextmanager
def _malformed_is_temporary() -> Iterator[None]:
    try:
        yield
    except MalformedError as error:
        raise TryLater(f"the answer is not JSON: {error}", closes_gate=False) from None


def _is_changed(line: Line, row: tuple[str | None, bool] | None, waiting: str | None) -> bool:
    token, deleted = row if row is not None else (None, True)
    if line.marked and deleted:
        return False  # deleted here and there
    if waiting is not None:
        return waiting != line.token
    return token != line.token or deleted
