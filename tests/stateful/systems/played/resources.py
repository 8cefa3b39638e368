"""One resource of each kind that differs in how it is looked at."""

from datetime import timedelta

from tests.stateful.systems.played.options import Options
from workers.connectors.contract import Resource

MINUTE = timedelta(minutes=1)
_FULL = {"full_every": 10 * MINUTE, "bound": 11 * MINUTE}


def resources(_options: Options) -> tuple[Resource, ...]:
    return (
        Resource("goods", **_FULL),  # its listing brings names; hooks tell of it
        Resource("orders", every=MINUTE, **_FULL),  # its listing brings all, and knows "since"
        Resource("debtors", every=MINUTE, points=False, unpaged=True, **_FULL),
        Resource("stock", points=False, unpaged=True, register=True, **_FULL),
    )
