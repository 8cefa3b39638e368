"""A subscription's filter, from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.bookkeeping.subscriptions import Filter

if TYPE_CHECKING:
    from models.settings.subscriptions import Subscription


def of(options: Subscription) -> Filter:
    """Which changes the subscription is told of."""
    return Filter(options.connections, options.resources, tuple(kind.value for kind in options.kinds))
