"""One resource, read in full."""

from datetime import timedelta

from tests.benchmarks.systems.paged.options import Options
from workers.connectors.contract import Resource

_DAY = timedelta(days=1)


def resources(_options: Options) -> tuple[Resource, ...]:
    return (Resource("orders", full_every=_DAY, bound=_DAY),)
