"""What can go wrong with a vendor, grouped by what happens to the work.

Fate
├── TryLater        the work stays, its due_at moves, the account's gate may shut
│   ├── TimedOut    no answer within the deadline, or a stream that stalled
│   ├── Busy        the vendor serves somebody else right now; not counted as an attempt
│   └── Closed      outside the vendor's opening hours; shuts full readings only, not counted
├── SetAside        malformed, refused, forbidden: parked with its reason, others go on
│   └── TooLarge    a reply larger than is held whole; a smaller question may be answered
└── NotForUs        nothing of ours: finished, one line in the log

Gone is no error: a connector returns a `Tombstone`. Messages carry the vendor's own words and never a secret.
"""

from __future__ import annotations

from datetime import datetime, timedelta


class VendorError(Exception):
    """Base of the families below."""


class TryLater(VendorError):
    """Unreachable, 5xx, 429, half a body: the same request may succeed later.

    `after`: how long the vendor asked us to wait (None: 1 s doubling to 5 min). `shuts_gate`: nobody else should ask
    the account before that either. `refused`: the vendor certainly did not take the request (nobody answered the call,
    429); without it what was sent may have been done. `of_vendor`: it is not our own side that failed.
    """

    def __init__(
        self,
        message: str,
        *,
        after: timedelta | None = None,
        closes_gate: bool = True,
        refused: bool = False,
        vendors_fault: bool = True,
    ) -> None:
        super().__init__(message)
        self.after = after
        self.closes_gate = closes_gate
        self.refused = refused
        self.vendors_fault = vendors_fault


class TimedOutError(TryLater):
    """The deadline passed or the stream stalled. A smaller question may be answered."""


class BusyError(TryLater):
    """The vendor refuses because somebody else is being served (Dilovod's multithread answer)."""


class ClosedError(TryLater):
    """Outside opening hours; `until` is the next opening, aware."""

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message, closes_gate=False)
        self.until = until


class SetAside(VendorError):
    """Only a person can help: malformed, refused, forbidden.

    `whole_resource`: the vendor refuses the resource itself (a role or a licence lacks it), not one object of it.
    """

    def __init__(self, reason: str, *, whole_resource: bool = False) -> None:
        super().__init__(reason)
        self.whole_resource = whole_resource


class TooLargeError(SetAside):
    """The reply is larger than is held whole. A smaller question may be answered."""


class NotForUs(VendorError):
    """Nothing of ours."""
