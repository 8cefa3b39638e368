"""Two hosts over one database, with clocks two hours apart, and one that the network loses for a while."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests import processes
from tests.chaos.harness import ChaosHarness, chaos_harness
from tests.chaos.hosts import Host, Hosts
from tests.processes import FULL_SYNC, SYNC, TcpProxy, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from tests.chaos.results import Results

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@contextmanager
def _reachable(harness: ChaosHarness, hosts: Hosts) -> Iterator[Path]:
    """A settings file for the hosts: every service of this machine stands at the bridge's address."""
    text = harness.installation.file.read_text(encoding="utf-8")
    settings = harness.mirror.settings
    services = [settings.database.url, settings.broker.url, *(each.url for each in settings.connections.values())]
    with ExitStack() as stack:
        for address in services:
            proxy = stack.enter_context(TcpProxy(address, host=hosts.address))
            text = text.replace(_place(address), _place(proxy.address))
        file = harness.installation.file.with_name("hosts.toml")
        file.write_text(text.replace('"127.0.0.1"', f'"{hosts.address}"'), encoding="utf-8")
        yield file


def _place(address: str) -> str:
    return urlsplit(address).netloc.rpartition("@")[2]


def _begin(host: Host, file: Path, port: int) -> str:
    """Everything runs there; the address of its hooks."""
    receiver = ("receiver", "--host", host.address, "--port", str(port))
    for verb in (receiver, SYNC, FULL_SYNC, ("beat",)):
        log = file.with_name(f"{host.name}-{verb[0]}-{verb[2] if len(verb) > 2 else ''}.log")
        host.start([sys.executable, "-m", "workers.cli", *verb, "--config", file], log=log, NO_COLOR="1")
    return f"http://{host.address}:{port}/hooks/dilovod"


@pytest.mark.redis
@pytest.mark.postgresql
def test_hosts_with_clocks_apart_are_one_mirror(tmp_path: Path, results: Results, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        Hosts(2) as hosts,
        chaos_harness(database, tmp_path, broker, results=results, random=random) as harness,
        _reachable(harness, hosts) as file,
    ):
        hosts[0].clock, hosts[1].clock = timedelta(hours=1), timedelta(hours=-1)
        hooks = [_begin(host, file, free_port()) for host in hosts]
        harness.webhook_proxy.forward_to(hooks)
        harness.settle()
        with harness.fault("two hosts with clocks two hours apart") as result:
            time.sleep(4)
            result.times = 1
        assert 0 == harness.mirror.sandboxes["dilovod"].overlaps
        harness.webhook_proxy.forward_to(hooks[1:])
        with harness.fault("a host lost by the network past its leases") as result:
            hosts.cut(hosts[0])
            time.sleep(2)
            harness.leases_run_out()
            time.sleep(3)
            hosts.mend(hosts[0])
            result.times = 1
