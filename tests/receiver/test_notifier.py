from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from receiver import notifier as ringing
from receiver.notifier import Notifier
from tests.processes import until
from tests.receiver.wakers import Broken, Quiet, Stuck

if TYPE_CHECKING:
    import pytest


def _nothing() -> None:
    pass


def test_a_wake_up_is_sent() -> None:
    waker = Quiet()
    notifier = Notifier(waker, failed=_nothing)
    notifier.wake("shop")
    notifier.close()
    assert ["shop"] == waker.woken


def test_waiting_wake_ups_become_one_for_each_connection() -> None:
    waker = Stuck()
    notifier = Notifier(waker, failed=_nothing)
    notifier.wake("shop")
    assert waker.reached.wait(30)
    for _ in range(100):
        notifier.wake("shop")
        notifier.wake("second")
    waker.let_go.set()
    notifier.close()
    # The first wake-up was being sent: what was stored after it needs another.
    assert {"shop": 2, "second": 1} == Counter(waker.woken)


def test_wake_ups_that_no_worker_answers_are_spaced_and_the_last_is_sent() -> None:
    stored = 0
    heard: list[int] = []

    class Outstanding(Quiet):
        def wake(self, connection: str) -> bool:  # type: ignore[override] # a real bell says so
            assert "shop" == connection
            heard.append(stored)
            return False

    notifier = Notifier(Outstanding(), failed=_nothing)
    begun = time.monotonic()
    for stored in range(1, 5001):  # noqa: B007 - the bell reads it
        notifier.wake("shop")
    until(lambda: heard[-1:] == [5000], seconds=30, what=lambda: str(heard))
    assert len(heard) <= 2 + (time.monotonic() - begun) / ringing._SPACE
    notifier.close()


def test_a_failing_broker_is_counted_logged_once_and_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    failures = threading.Semaphore(0)
    notifier = Notifier(Broken("amqp://guest:password@broker"), failed=failures.release)
    for _ in range(3):
        notifier.wake("shop")
        assert failures.acquire(timeout=30)
    notifier.close()
    logged = capsys.readouterr().out
    assert 1 == logged.count("wake-up failed")
    assert "password" not in logged


def test_a_broker_that_hangs_does_not_keep_the_process_from_ending() -> None:
    waker = Stuck()
    notifier = Notifier(waker, failed=_nothing)
    notifier.wake("shop")
    assert waker.reached.wait(30)
    notifier.close()
    assert [] == waker.woken
    waker.let_go.set()


def test_a_ringer_that_sent_nothing_can_be_closed() -> None:
    Notifier(Quiet(), failed=_nothing).close()
