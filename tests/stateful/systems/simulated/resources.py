"""One resource of each way to be synced."""

from datetime import timedelta
from functools import partial

from tests.stateful.systems.simulated.options import Options
from workers.connectors.contract import Resource

MINUTE = timedelta(minutes=1)
_resource = partial(Resource, full_every=10 * MINUTE, bound=11 * MINUTE)


def resources(_options: Options) -> tuple[Resource, ...]:
    return (
        _resource("goods"),  # its listing brings names; webhooks announce its changes
        _resource("orders", every=MINUTE),  # its listing brings whole objects and takes "since"
        _resource("debtors", every=MINUTE, fetchable=False, unpaged=True),
        _resource("stock", fetchable=False, unpaged=True, register=True),
    )
