"""Wakers for tests: one that only records, one that fails, one that hangs."""

from __future__ import annotations

import threading


class RecordingWaker:
    """Records the connections that were to be woken."""

    def __init__(self) -> None:
        self.woken: list[str] = []

    def wake(self, connection: str) -> None:
        self.woken.append(connection)

    def check_broker(self) -> None:
        pass


class FailingWaker:
    """Behaves as if the broker were away."""

    def __init__(self, message: str = "refused") -> None:
        self._message = message

    def wake(self, connection: str) -> None:
        raise ConnectionError(f"{self._message} {connection}")

    def check_broker(self) -> None:
        raise ConnectionError(self._message)


class HangingWaker(RecordingWaker):
    """Behaves as if the broker did not answer: no call returns before `released` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.released = threading.Event()

    def wake(self, connection: str) -> None:
        self.reached.set()
        self.released.wait(60)
        super().wake(connection)

    def check_broker(self) -> None:
        self.released.wait(60)
