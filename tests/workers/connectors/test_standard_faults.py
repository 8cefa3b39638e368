"""The standard tests of a connector: wrong logins, faulty answers, closed hours."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from starlette.responses import Response, StreamingResponse

from models.values import Snapshot, Tombstone, Withheld
from tests.workers.connectors import sandbox_harness
from tests.workers.connectors.sandbox_harness import SYSTEMS, Question, SandboxHarness, by_resource, by_resource_and
from workers.connectors.contract import Connection
from workers.errors import ClosedError, SetAside, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.workers.connectors.sandbox_harness import Outcome, Spoil

_MOST_IN_A_CHUNK = 1000
_QUICK = timedelta(milliseconds=150)
_RETRY_AFTER = timedelta(seconds=5)
_CLOSED_PORT = "http://127.0.0.1:9"
LISTED = by_resource(of=lambda resource: not resource.handed_in)
HANDED_IN = by_resource(of=lambda resource: resource.handed_in)


# Failing logins and vendors


def _errors_without_login(harness: SandboxHarness, options: Connection) -> Iterator[VendorError]:
    """The error of the check and of every question, each with a client that is not logged in."""
    for resource in harness.resources:
        for question in harness.questions(resource):
            with harness.client(options) as client:
                outcome = sandbox_harness.ask(client, question)
            assert outcome.error is not None, question
            yield outcome.error
    with harness.client(options) as client, pytest.raises(VendorError) as checked:
        client.check()
    yield checked.value


def test_a_wrong_login_is_set_aside_and_not_quoted(harness: SandboxHarness) -> None:
    wrong = {
        name: "wrong-0-login"
        for name in type(harness.options).model_fields
        if isinstance(getattr(harness.options, name), SecretStr) and name in harness.given()
    }
    options = harness.system.options.model_validate(harness.given() | wrong)
    for error in _errors_without_login(harness, options):
        assert isinstance(error, SetAside), error
        assert "wrong-0-login" not in str(error) + repr(error)


def test_an_unreachable_vendor_is_tried_later(harness: SandboxHarness) -> None:
    away = harness.options.model_copy(update={"url": _CLOSED_PORT})
    for error in _errors_without_login(harness, away):
        assert isinstance(error, TryLater), error


# Faulty answers


@dataclass(frozen=True)
class Fault:
    """A spoiled answer, and the vendor errors that it may raise.

    - `found`: types that a fetch may return instead, because the status says so
    - `found_later`: the same for later requests of a fetch, which read parts of the object
    - `refused`: the vendor certainly did not process the request; `after`: the wait that it asks for
    - `timeout`: of the client in this case
    """

    spoil: Spoil
    errors: tuple[type[VendorError], ...] = (TryLater,)
    found: tuple[type, ...] = ()
    found_later: tuple[type, ...] = ()
    refused: bool = False
    after: timedelta | None = None
    timeout: timedelta | None = None


def _status(status: int, **headers: str) -> Spoil:
    """A refusal in a form that no vendor documents."""
    return lambda _: Response('{"message": "injected"}', status, headers, "application/json")


def _page(status: int) -> Spoil:
    return lambda _: Response("<html><body>Sorry</body></html>", status, media_type="text/html")


def _half(body: bytes) -> Response:
    return Response(body[: len(body) // 2], media_type="application/json")


def _dripping(body: bytes) -> Response:
    async def drops() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        while True:
            await asyncio.sleep(0.02)
            yield b" "

    return StreamingResponse(drops(), media_type="application/json")


FAULTS = {
    "401": Fault(_status(401), (SetAside, TryLater)),
    "403": Fault(_status(403), (SetAside, TryLater)),
    "404": Fault(_status(404), (SetAside, TryLater), found=(Tombstone,), found_later=(Snapshot,)),
    "401-html": Fault(_page(401)),
    "403-html": Fault(_page(403)),
    "404-html": Fault(_page(404)),
    "403-empty": Fault(lambda _: Response(status_code=403)),
    "redirect": Fault(lambda _: Response("", 302, {"Location": "https://elsewhere.example/"}), refused=True),
    "409": Fault(_status(409), (SetAside, TryLater), found=(Withheld,)),
    "429": Fault(_status(429), refused=True),
    "429-retry-after": Fault(_status(429, **{"Retry-After": "5"}), refused=True, after=_RETRY_AFTER),
    "500": Fault(_status(500)),
    "502-html": Fault(_page(502)),
    "html": Fault(_page(200)),
    "half": Fault(_half),
    "empty": Fault(lambda _: Response(b"")),
    "number": Fault(lambda _: Response("7", media_type="application/json"), (SetAside, TryLater)),
    "drip": Fault(_dripping, timeout=_QUICK),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_answer_to_the_check_raises_a_vendor_error(harness: SandboxHarness, fault: str) -> None:
    expected = FAULTS[fault]
    options = harness.options.model_copy(update={"timeout": expected.timeout or harness.options.timeout})
    with (
        harness.client(options) as client,
        harness.proxy.spoiling(expected.spoil),
        pytest.raises(VendorError) as checked,
    ):
        client.check()
    assert isinstance(checked.value, expected.errors), checked.value


@pytest.mark.parametrize(("system", "name", "fault"), by_resource_and(FAULTS))
def test_a_faulty_answer_proves_nothing_and_raises_a_vendor_error(
    served: Callable[[str], SandboxHarness], system: str, name: str, fault: str
) -> None:
    harness, expected = served(system), FAULTS[fault]
    options = harness.options.model_copy(update={"timeout": expected.timeout or harness.options.timeout})
    for question in harness.questions(harness.resource(name)):
        for skipped in range(harness.requests(question)):
            outcome = harness.put(question, spoil=expected.spoil, skipped=skipped, options=options)
            if question.method == "interpret":
                _judge_document(outcome, expected)
            else:
                _judge(question, outcome, expected, found=expected.found_later if skipped else expected.found)


def _judge(question: Question, outcome: Outcome, expected: Fault, *, found: tuple[type[Any], ...]) -> None:
    if isinstance(outcome.found, found):
        assert question.argument == outcome.found.key
        return
    if expected.timeout is not None and outcome.end is not None:
        # A listing that takes too long may continue with a smaller page, but proves nothing.
        assert (True, False) == (outcome.end.more, outcome.end.complete)
        return
    assert outcome.found is None
    assert outcome.end is None, "a listing that fails has no end"
    assert isinstance(outcome.error, expected.errors), repr(outcome.error)
    if isinstance(outcome.error, TryLater) and expected.refused:
        assert (True, expected.after) == (outcome.error.refused, outcome.error.after)


def _judge_document(outcome: Outcome, expected: Fault) -> None:
    """`refused` only if it was certainly not processed; anything else parks the document, as it may have been."""
    assert outcome.found is None
    assert isinstance(outcome.error, TryLater if expected.refused else (SetAside, TryLater)), repr(outcome.error)
    if isinstance(outcome.error, TryLater):
        assert expected.refused == outcome.error.refused
        assert expected.after == outcome.error.after


# Opening hours


def _closed_at(options: Connection) -> datetime | None:
    """A time within the next day at which full syncs are closed; None for a vendor that is always open."""
    hours = (datetime.now(UTC).replace(minute=30) + timedelta(hours=hour) for hour in range(24))
    return next((moment for moment in hours if options.closed_until(moment) is not None), None)


@pytest.fixture(scope="module")
def closed() -> Iterator[Callable[[str], tuple[SandboxHarness, datetime]]]:
    """Stands of closed vendors, and the time at their clock."""
    with ExitStack() as stack:

        @cache
        def of(system: str) -> tuple[SandboxHarness, datetime]:
            opens = stack.enter_context(sandbox_harness.serve(system, closed=True))
            moment = _closed_at(opens.options)
            assert moment is not None
            opens.sandbox.now = lambda: moment
            return opens, moment

        yield of


CLOSING = [
    name for name in SYSTEMS if type(sandbox_harness.options_of(name)).closed_until is not Connection.closed_until
]


@pytest.mark.parametrize(
    ("system", "name"),
    [
        pytest.param(name, each.name, id=f"{name}-{each.name}-closed")
        for name, each in sandbox_harness.CASES
        if name in CLOSING
    ],
)
def test_closed_hours_stop_only_full_syncs_and_report_the_next_opening(
    served: Callable[[str], SandboxHarness],
    closed: Callable[[str], tuple[SandboxHarness, datetime]],
    system: str,
    name: str,
) -> None:
    harness, moment = closed(system)
    for question in served(system).questions(served(system).resource(name)):
        outcome = harness.put(question)
        if outcome.error is None:
            continue
        assert ("list", None) == (question.method, question.argument), "polls and fetches are allowed all day"
        assert isinstance(outcome.error, ClosedError)
        assert harness.options.closed_until(moment) == outcome.error.until
        assert outcome.end is None


@pytest.mark.parametrize("system", CLOSING)
def test_a_vendor_with_opening_hours_closes_some_listing(
    closed: Callable[[str], tuple[SandboxHarness, datetime]], system: str
) -> None:
    harness, _ = closed(system)
    errors = [harness.put(Question("list", resource)).error for resource in harness.readable]
    assert ClosedError in {type(error) for error in errors}
