from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from models.values import Snapshot
from tests.workers.connectors.easyflor.conftest import Account, options, shared_sessions
from workers.connectors import contract
from workers.connectors.easyflor.auth import Session
from workers.connectors.easyflor.sandbox import Fault
from workers.errors import SetAside, TimedOutError, TryLater, VendorError
from workers.gate.gate import Gate

if TYPE_CHECKING:
    from models.db.database import Database

BOTH = pytest.mark.parametrize(
    "account", [{"auth": "token"}, {"auth": "cookie"}], indirect=True, ids=["token", "cookie"]
)
COOKIE = pytest.mark.parametrize("account", [{"auth": "cookie"}], indirect=True)
WORKERS = 4


def at_once(account: Account, database: Database) -> list[object]:
    """Fetch with several workers at the same time, each with its own client, and one session store for all."""
    settings = options(account.url, **account.sandbox.settings())
    gate = Gate(database, settings)
    gate.cancel(gate.acquire())  # creates the account's row, as its first request would

    def fetch(_: int) -> object:
        with account.another(runtime=shared_sessions(database, settings)) as client:
            return client.fetch(account.resource("debtor"), "417")

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(fetch, range(WORKERS)))


@BOTH
def test_one_login_serves_many_requests(account: Account) -> None:
    for _ in range(3):
        account.list_all("debtor")
    with account.another() as client:
        client.fetch(account.resource("debtor"), "417")
    assert account.sandbox.logins == 1


@BOTH
def test_one_login_serves_all_workers(account: Account, sqlite: Database) -> None:
    account.sandbox.latency = 0.3
    found = at_once(account, sqlite)
    assert [Snapshot("417", account.sandbox.truth("debtor")["417"])] * WORKERS == found
    assert account.sandbox.logins == 1
    assert account.sandbox.max_parallel > 1


@COOKIE
def test_a_session_that_ended_elsewhere_is_renewed_by_one_worker_for_all(account: Account, sqlite: Database) -> None:
    at_once(account, sqlite)
    account.sandbox.log_in_elsewhere()
    account.sandbox.latency = 0.3
    assert WORKERS == len(at_once(account, sqlite))
    assert account.sandbox.logins == 2


@BOTH
def test_a_session_that_ended_is_renewed_once(account: Account) -> None:
    account.list_all("debtor")
    account.sandbox.expire()
    account.sandbox.log_in_elsewhere()
    account.list_all("debtor")
    assert account.sandbox.logins == 2


@BOTH
def test_a_session_that_ends_right_after_login_is_renewed_again(account: Account) -> None:
    account.list_all("debtor")
    account.sandbox.faults.extend([Fault.UNAUTHORIZED] * 2)
    account.list_all("debtor")
    assert account.sandbox.logins == 3


@dataclass
class SessionBox:
    """A session store with a clock that the test sets."""

    now: datetime = datetime(2031, 1, 1, tzinfo=UTC)  # differs from EasyFlor's clock
    session: bytes | None = None
    until: datetime = datetime(2000, 1, 1, tzinfo=UTC)

    def get(self) -> bytes | None:
        return self.session if self.until > self.now else None

    def put(self, session: bytes, until: datetime) -> None:
        self.session, self.until = session, until

    def drop(self) -> None:
        self.session = None

    def login_lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    def runtime(self) -> contract.ClientRuntime:
        return contract.ClientRuntime(heartbeat=lambda: None, sessions=self, now=lambda: self.now)


@pytest.mark.parametrize(("life", "kept"), [(60, 55), (20, 15), (8, 4)])
def test_a_token_is_renewed_five_minutes_before_it_expires_by_easyflors_clock(
    account: Account, life: int, kept: int
) -> None:
    account.sandbox.token_life = timedelta(minutes=life)
    box = SessionBox()
    with account.another(runtime=box.runtime()) as client:
        for minutes, logins in ((0, 1), (kept - 1, 1), (kept, 2)):
            box.now = datetime(2031, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
            client.fetch(account.resource("debtor"), "417")
            assert logins == account.sandbox.logins


def test_no_token_is_stored_for_longer_than_a_day(account: Account) -> None:
    account.sandbox.token_life = timedelta(days=365_000)
    box = SessionBox()
    with account.another(runtime=box.runtime()) as client:
        client.fetch(account.resource("debtor"), "417")
    assert box.now < box.until < box.now + timedelta(days=1)


@COOKIE
def test_no_text_contains_a_cookie_or_its_bare_value(account: Account) -> None:
    account.list_all("debtor")
    (issued,) = account.sandbox.issued
    redact = account.client._auth.redact
    assert "***" == redact(issued)
    assert "the session *** is bad" == redact(f"the session {issued} is bad")


def test_a_short_cookie_value_is_not_masked() -> None:
    session = Session("cookie", "Lang=1; EasyFlorSession=0123456789", datetime(2031, 1, 1, tzinfo=UTC))
    assert {session.value, "0123456789"} == session.secrets


@COOKIE
def test_a_cookie_older_than_thirty_minutes_is_logged_out_before_a_new_login(account: Account) -> None:
    box = SessionBox()
    with account.another(runtime=box.runtime()) as client:
        client.fetch(account.resource("debtor"), "417")
        box.now += timedelta(minutes=29)
        client.fetch(account.resource("debtor"), "417")
        assert (1, 0) == (account.sandbox.logins, account.sandbox.logouts)
        box.now += timedelta(minutes=1)
        account.sandbox.requests.clear()
        client.fetch(account.resource("debtor"), "417")
    assert ["POST unauthorization", "POST authorization", "GET debtor/417"] == account.sandbox.requests
    assert (2, 1) == (account.sandbox.logins, account.sandbox.logouts)


@COOKIE
def test_a_cookie_replaced_by_a_token_is_logged_out(account: Account) -> None:
    account.list_all("debtor")
    account.sandbox.requests.clear()
    with account.another(auth="token") as client:
        client.fetch(account.resource("debtor"), "417")
    assert ["POST unauthorization", "POST authorizationtoken", "GET debtor/417"] == account.sandbox.requests


@COOKIE
def test_a_refused_cookie_is_not_logged_out(account: Account) -> None:
    account.list_all("debtor")
    account.sandbox.log_in_elsewhere()
    account.sandbox.requests.clear()
    account.list_all("debtor")
    assert ["GET debtor", "POST authorization", "GET debtor"] == account.sandbox.requests


@BOTH
def test_no_repr_contains_a_session(account: Account) -> None:
    account.list_all("debtor")
    stored = account.runtime.sessions.get()
    assert stored is not None
    session = Session.decode(stored)
    (issued,) = account.sandbox.issued
    assert issued in session.value
    assert issued not in repr(session)


@BOTH
@pytest.mark.parametrize("wrong", [{"password": "my-secret"}, {"username": "nobody"}, {"database": "Another"}])
def test_a_refused_login_raises_set_aside_without_the_password(account: Account, wrong: dict[str, Any]) -> None:
    with account.another(**wrong) as client, pytest.raises(SetAside, match="HTTP 401") as raised:
        client.check()
    assert raised.value.whole_resource
    assert str(wrong.get("database", "EasyFlor-Demo")) in str(raised.value)
    assert "my-secret" not in str(raised.value)
    assert "wouldntyouliketoknow" not in str(raised.value)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.HTML, TryLater),
        (Fault.EMPTY, TryLater),
        (Fault.HALF, TryLater),
        (Fault.SCALAR, TryLater),
        (Fault.OBJECT, TryLater),
        (Fault.BUSY, TryLater),
        (Fault.BROKEN, TryLater),
        (Fault.REFUSED, SetAside),
        (Fault.MALFORMED, SetAside),
    ],
)
def test_a_bad_reply_to_a_login_raises_the_right_error_and_the_next_works(
    account: Account, fault: Fault, error: type[VendorError]
) -> None:
    account.sandbox.login_faults.append(fault)
    with pytest.raises(VendorError) as raised:
        account.list_all("debtor")
    assert error is type(raised.value)
    assert account.list_all("debtor").end.complete


@pytest.mark.parametrize("fault", [Fault.HTML, Fault.EMPTY, Fault.BROKEN])
@COOKIE
def test_a_login_without_a_cookie_raises_try_later(account: Account, fault: Fault) -> None:
    account.sandbox.login_faults.append(fault)
    with pytest.raises(TryLater):
        account.list_all("debtor")
    assert account.list_all("debtor").end.complete


@pytest.mark.parametrize("account", [{"timeout": timedelta(seconds=1.5)}], indirect=True)
@pytest.mark.parametrize("fault", [Fault.SLOW, Fault.DRIP])
def test_a_slow_login_is_ended_by_the_deadline_of_the_request(account: Account, fault: Fault) -> None:
    account.sandbox.login_faults.append(fault)
    with pytest.raises(TimedOutError):
        account.list_all("debtor")
    account.sandbox.slow = 0.0
    assert account.list_all("debtor").end.complete


def test_retry_after_of_a_login_is_passed_on(account: Account) -> None:
    account.sandbox.login_faults.append(Fault.BUSY)
    with pytest.raises(TryLater, match="HTTP 429") as raised:
        account.list_all("debtor")
    assert timedelta(seconds=1) == raised.value.after
