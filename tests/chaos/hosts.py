"""Several hosts on one machine: network namespaces with addresses and clocks of their own, joined by one bridge.

They reach each other and the test at the bridge's address, and nothing else: they have no other route.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import itertools
import json
import os
import signal
import subprocess
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.chaos.lifecycle import PATIENCE, gone, missing, program, signal_all
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST = 50
"""Hosts behind one bridge: the kernel allows names of fifteen letters."""

_FORWARDING = "3"
"""What a bridge calls a port that lets everything through."""

_numbers = itertools.count()


def _ip(*words: str) -> str:
    """Let `ip` do something; a refusal is raised in its own words."""
    done = subprocess.run([_program(), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _program() -> str:
    return str(program("ip", folders=[Path("/usr/sbin"), Path("/sbin")]))


def _vacant() -> ipaddress.IPv4Network:
    """A network that this machine knows nothing of."""
    routes = json.loads(_ip("-json", "-4", "route", "show", "table", "all"))
    known = [ipaddress.ip_network(route["dst"]) for route in routes if route["dst"] != "default"]
    networks = list(ipaddress.IPv4Network("10.64.0.0/10").subnets(new_prefix=24))
    first = os.getpid() % len(networks)  # other test processes choose one at the same time
    candidates = [*networks[first:], *networks[:first]]
    return next(network for network in candidates if not any(network.overlaps(each) for each in known))


def faketime() -> str:
    """The library that shifts the wall clock of the process that loads it."""
    found = importlib.util.find_spec("libfaketime")
    if found is None or found.origin is None:
        missing("the package libfaketime is not installed")
    return str(Path(found.origin).parent / "vendor/libfaketime/src/libfaketime.so.1")


class Host:
    """One host: what is started here has its network, and its clock at the time of the start."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.clock = timedelta()
        self.running: list[subprocess.Popen[bytes]] = []

    def start(
        self, command: Sequence[str | Path], *, log: Path | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a process here, in a group of its own; what it prints is added to its log."""
        with (log or Path(os.devnull)).open("ab") as output:
            process = subprocess.Popen(
                self.command(command),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | self.environment() | environment,
            )
        self.running.append(process)
        return process

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """The command that runs another one here."""
        return [_program(), "netns", "exec", self.name, *map(str, command)]

    def environment(self) -> dict[str, str]:
        """Variables that shift the wall clock of a process and its children; the monotonic clock stays right."""
        if not self.clock:
            return {}
        return {
            "LD_PRELOAD": faketime(),
            "FAKETIME": f"{self.clock.total_seconds():+f}s",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def pids(self) -> list[int]:
        """The processes that run here."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def stop(self) -> None:
        """SIGKILL everything that runs here."""

        def ended() -> bool:
            running = [pid for pid in self.pids() if not gone(pid)]
            signal_all(running, signal.SIGKILL)
            return not running

        until(ended, seconds=PATIENCE, what=f"{self.name} is empty", every=0.01)
        for process in self.running:
            process.wait(PATIENCE)
        self.running.clear()


class Hosts:
    """So many hosts, joined by a bridge on which the test has an `address`, too."""

    def __init__(self, count: int) -> None:
        assert count <= MOST
        self._count, self._stack = count, ExitStack()
        self._tag = f"em{os.getpid():x}-{next(_numbers)}"
        self._hosts: list[Host] = []
        self.address = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, number: int) -> Host:
        return self._hosts[number]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts)

    def cut(self, host: Host) -> None:
        """Nothing reaches the host and nothing leaves it; who is connected hears nothing."""
        _ip("link", "set", host.name, "down")

    def mend(self, host: Host) -> None:
        """As before, once the kernel, which takes its time, lets through what comes."""
        _ip("link", "set", host.name, "up")
        self._is_joined(host)

    def _build(self, stack: ExitStack) -> None:
        addresses = iter(_vacant().hosts())
        self.address = str(next(addresses))
        try:
            _ip("link", "add", self._tag, "type", "bridge")
        except OSError as error:
            missing(f"networks cannot be made here: {error}")
        stack.callback(_ip, "link", "del", self._tag)
        _ip("addr", "add", f"{self.address}/24", "dev", self._tag)
        _ip("link", "set", self._tag, "up")
        for number, address in zip(range(self._count), addresses, strict=False):
            self._hosts.append(self._host(stack, Host(f"{self._tag}-{number}", str(address))))

    def _host(self, stack: ExitStack, host: Host) -> Host:
        try:
            _ip("netns", "add", host.name)
        except OSError as error:
            missing(f"hosts cannot be made here: {error}")
        stack.callback(_ip, "netns", "del", host.name)
        stack.callback(host.stop)
        _ip("link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", host.name)
        stack.callback(_ip, "link", "del", host.name)
        _ip("link", "set", host.name, "master", self._tag, "up")
        _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for name in ("lo", "eth0"):
            _ip("-n", host.name, "link", "set", name, "up")
        self._is_joined(host)
        return host

    def _is_joined(self, host: Host) -> None:
        port = Path("/sys/class/net", host.name, "brport/state")

        def open_on_both_ends() -> bool:
            (eth0,) = json.loads(_ip("-json", "-n", host.name, "link", "show", "eth0"))
            return port.read_text().strip() == _FORWARDING and eth0["operstate"] == "UP"

        until(open_on_both_ends, seconds=PATIENCE, what=f"{host.name} is joined to the others", every=0.01)
