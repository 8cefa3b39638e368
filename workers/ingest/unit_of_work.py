"""One unit of work: the lease is checked first, then rows, parts and inbox or cursor are written, the journal last.

A fetch, a chunk of a listing and a document commit through it. A new caller needs a lease, a target and a cause:

    with UnitOfWork.under(lease, target, cause) as work:
        work.apply(prepared, point=True)
        inbox.finish(work.tx, item)
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models import failpoints
from models.mirror.writer import MirrorWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta

    from models.db.database import Tx
    from models.failpoints import Point
    from models.mirror.target import Target
    from models.values import Cause
    from workers.gate.gate import Lease

    LeaseStep = Callable[[Tx, Lease], object]
    """A transaction's first statement: checks that the lease is still ours, and releases or renews it in the same
    statement. Raises `LeaseLost`.
    """


def release(tx: Tx, lease: Lease) -> datetime:
    """Release the lease: the vendor has answered."""
    return lease.gate.release(tx, lease)


def release_unanswered(tx: Tx, lease: Lease) -> datetime:
    """Release the lease without a usable answer."""
    return lease.gate.release(tx, lease, answered=False)


def renew(tx: Tx, lease: Lease) -> datetime:
    """Renew the lease: another request follows under it."""
    return lease.gate.renew(tx, lease)


@dataclass
class BackOff:
    """Release the lease and close the gate for the whole account.

    `after`: the delay that the vendor asked for. `counts`: the failure lengthens the next backoff. `until`: set by the
    call, when the gate opens again.
    """

    reason: str
    after: timedelta | None
    counts: bool
    until: datetime | None = None

    def __call__(self, tx: Tx, lease: Lease) -> None:
        """Run as a transaction's lease step."""
        self.until = lease.gate.release_and_back_off(
            tx, lease, reason=self.reason, after=self.after, counts=self.counts
        )


@contextmanager
def under_lease(lease: Lease, lease_step: LeaseStep = release) -> Iterator[Tx]:
    """A transaction that begins with a lease step, for work that writes no rows. Raises `LeaseLost`."""
    with lease.gate.database.begin() as tx:
        lease_step(tx, lease)
        yield tx


class UnitOfWork(MirrorWriter):
    """The one transaction of a request: it knows dialect, clock and counter (`tx`), target, revision and cause."""

    @classmethod
    @contextmanager
    def under(
        cls,
        lease: Lease,
        target: Target,
        cause: Cause,
        *,
        lease_step: LeaseStep = release,
        failpoint: Point | None = None,
    ) -> Iterator[UnitOfWork]:
        """Check the lease, let the block write, journal what changed, commit. Raises `LeaseLost` before the block.

        The journal is appended after the block, so it is always the last statement. `failpoint`: where a test can kill
        the process between the journal and the commit.
        """
        with under_lease(lease, lease_step) as tx:
            with cls(tx, target, revision=lease.revision, cause=cause) as work:
                yield work
            if failpoint is not None:
                failpoints.hit(failpoint)
