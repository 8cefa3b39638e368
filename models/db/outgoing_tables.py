"""The bookkeeping tables of what leaves the mirror: commands to the vendors, deliveries to subscriptions."""

from __future__ import annotations

import sqlalchemy as sa

from models.db.shared_metadata import shared as metadata
from models.db.types import BigId, ExactJSON, Instant, KeyText

# Writes to the vendors.

OPEN = sa.text("state IN ('waiting', 'sending', 'uncertain')")
"""The condition of commands whose fate is open; the same text as in the partial index, so that a plan can use that."""

DOUBTFUL = sa.text("state IN ('sending', 'uncertain')")
"""Likewise, of open commands that may have arrived."""

commands = sa.Table(
    "erpmirror_commands",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),  # in the order of acceptance, never reused
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # under the vendor's own name
    sa.Column("named", sa.Text),  # the resource that the caller named beside the action, where a vendor has that
    sa.Column("resource", sa.Text),  # of the object that it writes; NULL where that is not known before the answer
    sa.Column("key", sa.Text),  # of that object; NULL for one that it creates, which waits for no other command
    sa.Column("idempotency_key", KeyText, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),  # of what the caller sent: the same key with other content is
    # refused
    sa.Column("arguments", ExactJSON, nullable=False),  # redacted by `omit`, for people
    sa.Column(
        "payload", sa.Text
    ),  # the arguments as they are sent, in JSON, in the caller's order of fields; NULL once
    # they cannot be sent again
    sa.Column("state", sa.Text, nullable=False),  # waiting | sending | done | refused | uncertain | canceled
    sa.Column("due_at", Instant),  # when it may be sent or read back; NULL: it waits for a person, or is final
    sa.Column("attempts", sa.Integer, nullable=False),  # requests that were sent, or may have been
    sa.Column("failures", sa.Integer, nullable=False),  # in a row, of this command alone: it is refused after some
    sa.Column("accepted_at", Instant, nullable=False),
    sa.Column("caller", sa.Text, nullable=False),  # the caller's address, or that it came from the command line
    sa.Column("before", ExactJSON),  # what was known of the object before it was sent
    sa.Column("also_changes", ExactJSON),  # further objects that it changes, as [resource, key], fetched afterwards
    sa.Column("sent_at", Instant),  # committed before the request: what may have arrived is not sent again
    sa.Column("unchanged_at", Instant),  # when the object was first read back as it had been before
    sa.Column("answered_at", Instant),  # when its fate was known
    sa.Column("answer", ExactJSON),  # the vendor's answer, redacted
    sa.Column("result_key", sa.Text),  # the key of the object that was written
    sa.Column("reason", sa.Text),  # why it waits, was refused or is uncertain, in the vendor's words where it said any
    sa.UniqueConstraint("connection", "idempotency_key"),
    sa.Index("ix_erpmirror_commands_open", "connection", "due_at", "id", sqlite_where=OPEN, postgresql_where=OPEN),
    sa.Index(
        "ix_erpmirror_commands_doubtful",
        "connection",
        "due_at",
        "id",
        sqlite_where=DOUBTFUL,
        postgresql_where=DOUBTFUL,
    ),
    sa.Index(
        "ix_erpmirror_commands_object",
        "connection",
        "resource",
        "key",
        "id",
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    ),
    sa.Index("ix_erpmirror_commands_accepted_at", "accepted_at"),
    sqlite_autoincrement=True,
)
"""Writes to a vendor, accepted from a caller: each is sent in its order, at most once."""


# Who is told of changes.

subscriptions = sa.Table(
    "erpmirror_subscriptions",
    metadata,
    sa.Column("name", KeyText, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),  # active | paused | removed (from the settings)
    # Every change up to this id was delivered, is in `erpmirror_undelivered`, or is filtered out.
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("since", Instant, nullable=False),  # when it was first seen in the settings
    sa.Column("target", sa.Text, nullable=False),  # a hash of its address: a new one is tried at once
    # Pauses.
    sa.Column("paused_at", Instant),
    sa.Column("paused_by", sa.Text),  # person | gone (410) | gave_up | trimmed: only a person or a new address ends it
    sa.Column("reason", sa.Text),  # why it is paused, or why the last attempt failed
    # Failures of the endpoint, whatever is delivered.
    sa.Column("failures", sa.Integer, nullable=False),  # failed attempts in a row
    sa.Column("due_at", Instant, nullable=False),  # before this nothing is sent: it backs off
    sa.Column("failing_since", Instant),
    # The one worker that delivers.
    sa.Column("lease", sa.BigInteger),  # a revision; who writes proves that it is still its own
    sa.Column("leased_until", Instant),
    # Counters, for the metrics.
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("delivered_at", Instant),  # when a delivery last succeeded
    sa.Column("removed_at", Instant),  # when it was last seen missing from the settings
)
"""How far each subscription was told of the journal's changes."""

undelivered = sa.Table(
    "erpmirror_undelivered",
    metadata,
    sa.Column("subscription", KeyText, primary_key=True),
    sa.Column("change", sa.BigInteger, primary_key=True, autoincrement=False),  # `erpmirror_changes.id`
    sa.Column("connection", KeyText, nullable=False),
    sa.Column("resource", KeyText, nullable=False),
    sa.Column("key", KeyText, nullable=False),
    sa.Column("due_at", Instant, nullable=False),  # when it may be tried; it also waits for earlier ones of its object
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("failing_since", Instant),  # when it first failed: after `give_up_after` the subscription is paused
    sa.Column("reason", sa.Text),  # why the last attempt failed
    sa.Index("ix_erpmirror_undelivered_due", "subscription", "due_at", "change"),
    sa.Index("ix_erpmirror_undelivered_object", "subscription", "connection", "resource", "key", "change"),
)
"""Changes that a subscription's position has passed: that failed, wait for an earlier one, or are to be sent again."""

deliveries = sa.Table(
    "erpmirror_deliveries",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("at", Instant, nullable=False),  # when its outcome was known
    sa.Column("subscription", KeyText, nullable=False),
    sa.Column("change", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),  # of this change, from 1
    sa.Column("outcome", sa.Text, nullable=False),  # delivered | failed
    sa.Column("status", sa.Integer),  # of the answer; NULL if there was none
    sa.Column("error", sa.Text),  # why it failed
    sa.Column("answer", sa.Text),  # the answer's first 1,024 bytes
    sa.Column("seconds", sa.Float, nullable=False),  # until the answer
    sa.Index("ix_erpmirror_deliveries_change", "subscription", "change"),
    sa.Index("ix_erpmirror_deliveries_at", "at"),
    sqlite_autoincrement=True,
)
"""Every attempt to deliver a change, and what came of it."""
