"""Bells for tests: one that only remembers, one that breaks, one that hangs."""

from __future__ import annotations

import threading


class Quiet:
    """Remembers who was rung for."""

    def __init__(self) -> None:
        self.woken: list[str] = []

    def wake(self, connection: str) -> None:
        self.woken.append(connection)

    def broker_alive(self) -> None:
        pass


class Broken:
    """A broker that is away."""

    def __init__(self, words: str = "refused") -> None:
        self._words = words

    def wake(self, connection: str) -> None:
        raise ConnectionError(f"{self._words} {connection}")

    def broker_alive(self) -> None:
        raise ConnectionError(self._words)


class Stuck(Quiet):
    """A broker that swallows packets: nothing returns before `let_go`."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def wake(self, connection: str) -> None:
        self.reached.set()
        self.let_go.wait(60)
        super().wake(connection)

    def broker_alive(self) -> None:
        self.let_go.wait(60)
