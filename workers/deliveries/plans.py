"""Brings the subscriptions' rows in line with the settings, when a process starts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from models.bookkeeping import subscriptions
from models.bookkeeping.subscriptions import Plan

if TYPE_CHECKING:
    from models.db.database import Database
    from models.settings.load import Settings
    from models.settings.subscriptions import Subscription


def sync(database: Database, settings: Settings) -> None:
    """As `subscriptions.sync` says."""
    with database.begin() as tx:
        subscriptions.sync(tx, [_plan(each) for each in settings.subscriptions.values()])


def _plan(options: Subscription) -> Plan:
    target = hashlib.sha256(options.url.encode()).hexdigest()  # its query may hold a key
    return Plan(options.name, from_start=options.begin == "start", target=target)
