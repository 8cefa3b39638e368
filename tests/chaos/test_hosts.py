"""The hosts of the chaos tests are apart as hosts are: in network, in clock, in processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos import lifecycle
from tests.chaos.hosts import Host, Hosts, _ip
from tests.processes import TcpProxy, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.chaos

ASK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3) as line:
        print(line.recv(100).decode() + " to " + line.getsockname()[0])
except OSError:
    print("away")
"""

CLOCKS = """
import os, queue, subprocess, sys, threading, time
def wall():
    print(round(time.time()), flush=True)
wall()
if os.fork() == 0:
    wall()
    os._exit(0)
os.wait()
subprocess.run([sys.executable, "-c", "import time; print(round(time.time()))"])
"""

WAITS = """
import asyncio, queue, select, threading, time
def waited(wait):
    before = time.monotonic()
    wait()
    return time.monotonic() - before
def condition():
    it = threading.Condition()
    with it:
        it.wait(0.3)
def get():
    try:
        queue.Queue().get(timeout=0.3)
    except queue.Empty:
        pass
asleep = [condition, get, lambda: threading.Event().wait(0.3), lambda: select.select([], [], [], 0.3),
    lambda: time.sleep(0.3), lambda: asyncio.run(asyncio.sleep(0.3))]
print(*(waited(each) for each in asleep), sep="\\n")
"""


@contextmanager
def greeter(address: str) -> Iterator[str]:
    """The port of a service there that greets every caller."""
    with socket.create_server((address, 0)) as listener:
        threading.Thread(target=greet, args=[listener], daemon=True).start()
        yield str(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def greet(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            with listener.accept()[0] as caller:
                caller.sendall(b"hello")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts(2) as made:
        yield made


def output_of(host: Host, script: str, *words: str) -> list[str]:
    command, environment = host.command([sys.executable, "-c", script, *words]), os.environ | host.environment()
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()


def ours() -> list[str]:
    """The namespaces and interfaces that this process has made."""
    names = [line.split()[0] for line in _ip("netns", "list").splitlines()]
    interfaces = [path.name for path in Path("/sys/class/net").iterdir()]
    return [name for name in [*names, *interfaces] if name.startswith(f"em{os.getpid():x}-")]


def test_hosts_reach_each_other_and_the_test_until_one_is_cut_off(hosts: Hosts) -> None:
    with greeter(hosts.address) as port:
        assert [["hello to " + host.address] for host in hosts] == [
            output_of(host, ASK, hosts.address, port) for host in hosts
        ]
        hosts.cut(hosts[0])
        assert [["away"], ["hello to " + hosts[1].address]] == [
            output_of(host, ASK, hosts.address, port) for host in hosts
        ]
        hosts.mend(hosts[0])
        # The host may still hold that nobody answers at this address: it asks again within seconds.
        again = ["hello to " + hosts[0].address]
        until(lambda: again == output_of(hosts[0], ASK, hosts.address, port), seconds=60, what="the host is back")


def test_a_host_has_no_route_to_anything_else(hosts: Hosts) -> None:
    routes = [line.split() for line in _ip("-n", hosts[0].name, "route").splitlines()]
    assert [["dev", "eth0"]] == [words[1:3] for words in routes]
    with greeter("127.0.0.1") as port:
        assert ["away"] == output_of(hosts[0], ASK, "127.0.0.1", port)


def test_a_forwarder_brings_a_loopback_service_to_the_hosts(hosts: Hosts) -> None:
    with greeter("127.0.0.1") as port, TcpProxy(f"tcp://127.0.0.1:{port}", host=hosts.address) as line:
        there = line.address.rpartition(":")[2]
        assert ["hello to " + hosts[0].address] == output_of(hosts[0], ASK, hosts.address, there)
        line.cut()
        assert ["away"] == output_of(hosts[0], ASK, hosts.address, there)
        line.mend()
        assert ["hello to " + hosts[0].address] == output_of(hosts[0], ASK, hosts.address, there)


OFFSETS = [timedelta(hours=1), timedelta(hours=-1), timedelta(seconds=-7.5)]


@pytest.mark.parametrize("offset", OFFSETS, ids=str)
def test_a_hosts_clock_is_apart_in_all_its_processes_and_its_waits_are_as_long_as_elsewhere(
    hosts: Hosts, offset: timedelta
) -> None:
    hosts[0].clock = offset
    for host, expected in ((hosts[0], offset.total_seconds()), (hosts[1], 0.0)):
        before = time.time()
        walls = [int(wall) - expected for wall in output_of(host, CLOCKS)]
        assert 3 == len(walls)
        assert before - 1 <= min(walls) <= max(walls) <= time.time() + 1
    waits = [float(wait) for wait in output_of(hosts[0], WAITS)]
    assert 6 == len(waits)
    assert min(waits) > 0.25


def test_hosts_go_with_their_processes_also_when_the_test_fails() -> None:
    def fail() -> None:
        with Hosts(2) as hosts:
            assert 5 == len(ours())
            started = hosts[0].start([sys.executable, "-c", "import os, time; os.fork(); time.sleep(1000)"])
            until(lambda: 2 == len(hosts[0].pids()), seconds=60, what="it forks")
            pids.extend([*hosts[0].pids(), started.pid])
            raise KeyError("as a test fails")

    pids: list[int] = []
    with pytest.raises(KeyError):
        fail()
    assert [True] * 3 == [lifecycle.gone(pid) for pid in pids]
    assert [] == ours()
