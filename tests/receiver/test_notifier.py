from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from receiver.notifier import MIN_INTERVAL, Notifier
from tests.processes import until
from tests.receiver.wakers import FailingWaker, HangingWaker, RecordingWaker

if TYPE_CHECKING:
    import pytest


def _nothing() -> None:
    pass


def test_a_wake_up_is_sent() -> None:
    waker = RecordingWaker()
    notifier = Notifier(waker, on_failure=_nothing)
    notifier.wake("shop")
    notifier.close()
    assert ["shop"] == waker.woken


def test_waiting_wake_ups_become_one_for_each_connection() -> None:
    waker = HangingWaker()
    notifier = Notifier(waker, on_failure=_nothing)
    notifier.wake("shop")
    assert waker.reached.wait(30)
    for _ in range(100):
        notifier.wake("shop")
        notifier.wake("second")
    waker.released.set()
    notifier.close()
    # The first wake-up was being sent, so the webhooks stored after it need another.
    assert {"shop": 2, "second": 1} == Counter(waker.woken)


def test_wake_ups_that_no_worker_answers_are_spaced_and_the_last_is_sent() -> None:
    stored = 0
    at_wake_ups: list[int] = []

    class Outstanding(RecordingWaker):
        def wake(self, connection: str) -> bool:  # type: ignore[override] # a real waker returns it
            assert "shop" == connection
            at_wake_ups.append(stored)
            return False

    notifier = Notifier(Outstanding(), on_failure=_nothing)
    begun = time.monotonic()
    for stored in range(1, 5001):  # noqa: B007 - `Outstanding` reads it
        notifier.wake("shop")
    until(lambda: at_wake_ups[-1:] == [5000], seconds=30, what=lambda: str(at_wake_ups))
    assert len(at_wake_ups) <= 2 + (time.monotonic() - begun) / MIN_INTERVAL
    notifier.close()


def test_a_failing_broker_is_counted_logged_once_and_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    failures = threading.Semaphore(0)
    notifier = Notifier(FailingWaker("amqp://guest:password@broker"), on_failure=failures.release)
    for _ in range(3):
        notifier.wake("shop")
        assert failures.acquire(timeout=30)
    notifier.close()
    logged = capsys.readouterr().out
    assert 1 == logged.count("wake-up failed")
    assert "password" not in logged


def test_a_broker_that_hangs_does_not_keep_the_process_from_ending() -> None:
    waker = HangingWaker()
    notifier = Notifier(waker, on_failure=_nothing)
    notifier.wake("shop")
    assert waker.reached.wait(30)
    notifier.close()
    assert [] == waker.woken
    waker.released.set()


def test_a_notifier_that_sent_nothing_can_be_closed() -> None:
    Notifier(RecordingWaker(), on_failure=_nothing).close()
