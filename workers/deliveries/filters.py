"""Makes a subscription's filter from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.bookkeeping.subscriptions import Filter

if TYPE_CHECKING:
    from models.settings.subscriptions import Subscription


def of(options: Subscription) -> Filter:
    """Which changes it is told of."""
    kinds = tuple(kind.value for kind in options.kinds)
    return Filter(connections=options.connections, resources=options.resources, kinds=kinds)
