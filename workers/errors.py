"""What can go wrong with a vendor, grouped by what happens to the work.

VendorError
├── TryLater           the work stays, its due_at moves, the account's gate may close
│   ├── TimedOutError  no answer within the deadline, or a stream that stalled
│   ├── InsecureError  no TLS connection that can be trusted: the message names the setting that helps
│   ├── BusyError      another request or login of the account is in progress; not counted as an attempt
│   └── ClosedError    outside the vendor's opening hours; stops full syncs only, not counted
├── SetAside           refused in the vendor's own words, or malformed: the key is parked with its reason. A listing
│   │                  is tried again; only a refusal of the `whole_resource` parks it, until it is tried again, seldom
│   ├── RefusedError   a write that the vendor refused in its own words: nothing was written
│   ├── TooLargeError  a reply above the size limit; a smaller request may be answered
│   └── MisaskedError  a person's request (`ask`) that cannot be asked so: the words are ours, not the vendor's
└── NotForUs           concerns nothing that is mirrored: finished, one line in the log

A missing object is no error: a connector returns a `Tombstone`. Messages carry the vendor's own words and no secret.
"""

from __future__ import annotations

from datetime import datetime, timedelta


class VendorError(Exception):
    """Base of the families below."""


class TryLater(VendorError):  # noqa: N818 - says what to do, and reads well where it is raised
    """Unreachable, 5xx, 429, half a body, a reply that is not the vendor's: the same request may succeed later.

    - `after`: the delay that the vendor asked for (None: 1 s doubling to 5 min)
    - `closes_gate`: no other request of the account should be sent before that either
    - `refused`: the vendor certainly did not take the request (no connection, 429). Otherwise it may have been done
    - `vendors_fault`: the failure is not on our own side
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
    """The deadline passed or the stream stalled. A smaller request may be answered."""


class InsecureError(TryLater):
    """No TLS connection that can be trusted. Nothing was sent. The message names the setting that helps."""


class BusyError(TryLater):
    """The account is in use: the vendor serves another request of it (Dilovod), or another worker is logging in."""


class ClosedError(TryLater):
    """Outside opening hours; `until` is the next opening, aware."""

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message, closes_gate=False)
        self.until = until


class SetAside(VendorError):  # noqa: N818 - likewise
    """Only a person can help: malformed, refused, forbidden. Never for a body that the vendor did not write.

    `whole_resource`: the vendor's own words refuse the resource itself (a role or a licence lacks it), not one object.
    """

    def __init__(self, reason: str, *, whole_resource: bool = False) -> None:
        super().__init__(reason)
        self.whole_resource = whole_resource


class RefusedError(SetAside):
    """The vendor refuses this write, and has written nothing. Any other error of a write leaves that open."""


class TooLargeError(SetAside):
    """The reply is above the size limit. A smaller request may be answered."""


class MisaskedError(SetAside):
    """A person's request (`ask`) that cannot be asked so. The message is ours and says how."""


class NotForUs(VendorError):  # noqa: N818 - likewise
    """Concerns nothing that is mirrored."""
