"""EasyFlor's login: a token or a cookie, shared by all workers of the account and renewed by one at a time."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

from models import exact, notation
from workers.connectors import objects
from workers.connectors.easyflor import answers
from workers.connectors.http import read_login
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from workers.connectors.contract import ClientRuntime
    from workers.connectors.easyflor.options import Options

_RENEW_BEFORE = timedelta(minutes=5)
"""A token is renewed this long before it expires."""

_COOKIE_AGE = timedelta(minutes=30)
"""The age at which a cookie is replaced; its lifetime is not documented."""

_MAX_STORED = timedelta(days=1)
"""How long a session is stored at most; an old cookie is kept so that it can be logged out."""

_DEFAULT_LIFETIME = timedelta(minutes=30)
"""How long a token is used if its expiration cannot be read. A 401 renews it earlier."""

_MAX_LOGINS = 2
"""Logins per request; if the session from the last is refused too, the request fails."""

_MASKED = "***"
_MIN_REVEALING = 4
"""The number of characters from which a part of a secret must be masked."""


@dataclass(frozen=True, slots=True)
class Session:
    """A login. `value`: the token or the cookies; secret. `since`: its time by the workers' shared clock, aware."""

    kind: str
    value: str = field(repr=False)
    since: datetime

    def encode(self) -> bytes:
        """The session as bytes, for the account's session store."""
        return json.dumps({"kind": self.kind, "value": self.value, "since": self.since.isoformat()}).encode()

    @classmethod
    def decode(cls, stored: bytes) -> Session:
        """The session from the bytes that `encode` made."""
        decoded = json.loads(stored)
        return cls(decoded["kind"], decoded["value"], datetime.fromisoformat(decoded["since"]))

    @property
    def secrets(self) -> frozenset[str]:
        """The texts to redact: `value`, and the value of each cookie that is longer than 4 characters."""
        pairs = self.value.split("; ") if self.kind == "cookie" else ()
        bare = (pair.partition("=")[2] for pair in pairs)
        return frozenset({self.value, *(value for value in bare if len(value) > _MIN_REVEALING)})

    def is_usable(self, kind: str, now: Callable[[], datetime]) -> bool:
        """Whether requests may still use it. The store itself drops expired tokens."""
        young = self.kind != "cookie" or now() - self.since < _COOKIE_AGE
        return self.kind == kind and young

    def sign(self, request: httpx.Request) -> httpx.Request:
        """Add the login to the request, in place of any other cookie; returns the same request."""
        request.headers.pop("Cookie", None)
        header, value = ("Cookie", self.value) if self.kind == "cookie" else ("Authorization", f"Bearer {self.value}")
        request.headers[header] = value
        return request


class Auth(httpx.Auth):
    """Adds the account's session to requests, and logs in again after a 401 unless another worker already has.

    If the new session is refused at once, it logs in once more: another program's login may have just ended it.

    Raises SetAside if EasyFlor refuses the login in its own words, else TryLater. A login answered by 429, 5xx or a
    redirect ends the flow, so that `http.Http` treats that reply like any other.
    """

    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        self._options = options
        self._sessions = runtime.sessions
        self._now = runtime.now
        self._secrets = {options.password.get_secret_value()}

    def redact(self, text: str) -> str:
        """The text without the password and the tokens and cookies used, also if the text's end cuts one off."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = _redact_cut_secret(text.replace(secret, _MASKED), secret)
        return text

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Used instead of `auth_flow`, for which httpx would read each reply whole: collections are streamed."""
        session, logins = self._load(), _MAX_LOGINS
        if session is None or not session.is_usable(self._options.auth, self._now):
            session, logins = (yield from self._renew(request, refused=None)), _MAX_LOGINS - 1
        while session is not None:
            response = yield self._sign(request, session)
            if response.status_code != httpx.codes.UNAUTHORIZED or not logins:
                return
            session, logins = (yield from self._renew(request, refused=session)), logins - 1

    def _sign(self, request: httpx.Request, session: Session) -> httpx.Request:
        self._secrets |= session.secrets
        return session.sign(request)

    def _load(self) -> Session | None:
        stored = self._sessions.get()
        return None if stored is None else Session.decode(stored)

    def _renew(
        self, request: httpx.Request, *, refused: Session | None
    ) -> Generator[httpx.Request, httpx.Response, Session | None]:
        """Another session than `refused`: another worker's if there is one, else a new one. None: the login failed."""
        with self._sessions.login_lock():
            session = self._load()
            if session is not None and session != refused and session.is_usable(self._options.auth, self._now):
                return session
            if session is not None:
                self._sessions.drop()
                if session.kind == "cookie" and session != refused:
                    yield session.sign(self._request(request, "unauthorization"))
            response = yield self._login(request)
            if _is_unrelated_to_login(response):
                return None
            return self._store(response, read_login(response))

    def _login(self, request: httpx.Request) -> httpx.Request:
        """The login request: POST (EasyFlor API v1, Authorization), although EasyFlor's test program sends PUT."""
        path = "authorization" if self._options.auth == "cookie" else "authorizationtoken"
        return self._request(
            request,
            path,
            json={
                "Username": self._options.username,
                "Password": self._options.password.get_secret_value(),
                "Database": self._options.database,
            },
        )

    def _request(self, request: httpx.Request, path: str, **body: Any) -> httpx.Request:
        # The extensions carry the request's deadline, which must be able to end this request too.
        return httpx.Request(
            "POST",
            f"{self._options.url}/{path}",
            headers={"Accept": "application/json"},
            extensions=request.extensions,
            **body,
        )

    def _store(self, response: httpx.Response, body: bytes) -> Session:
        if response.status_code != httpx.codes.OK:
            raise self._refusal(response.status_code, body)
        value, stored_for = _cookie(response) if self._options.auth == "cookie" else _token(response, body)
        now = self._now()
        session = Session(self._options.auth, value, now)
        self._sessions.put(session.encode(), now + stored_for)
        return session

    def _refusal(self, status: int, body: bytes) -> SetAside | TryLater:
        failure = answers.ErrorReply.decode(status, body, redact=self.redact)
        if not failure.is_easyflors:
            return failure.to_foreign_error(closes_gate=True)  # each request of the account needs the login
        login = f"{self._options.username} at the database {self._options.database}"
        return SetAside(f"EasyFlor refuses the login of {login}: {failure.message}", whole_resource=True)


def _redact_cut_secret(text: str, secret: str) -> str:
    for length in range(len(secret) - 1, _MIN_REVEALING - 1, -1):
        if text.endswith(secret[:length]):
            return text[:-length] + _MASKED
    return text


def _is_unrelated_to_login(response: httpx.Response) -> bool:
    """Whether a reply to the login says nothing about the login itself: 429, 5xx or a redirect."""
    busy = response.status_code == httpx.codes.TOO_MANY_REQUESTS
    return busy or response.is_server_error or response.is_redirect


def _cookie(response: httpx.Response) -> tuple[str, timedelta]:
    """The cookies of the reply, and how long to store them. TryLater without any."""
    cookies = [f"{cookie.name}={cookie.value}" for cookie in response.cookies.jar]
    if not cookies:
        raise TryLater("the login was answered without a cookie")
    return "; ".join(cookies), _MAX_STORED


def _token(response: httpx.Response, body: bytes) -> tuple[str, timedelta]:
    """The token of `{"Token", "Expiration"}`, and how long to use it. TryLater without one; never quotes it."""
    try:
        decoded = exact.loads_leniently(body)
    except ValueError:
        decoded = None
    fields = objects.folded(decoded)
    token = fields.get("token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise TryLater("the login was answered without a token")
    lifetime = _lifetime(fields.get("expiration"), _clock(response))
    return token, max(lifetime - _RENEW_BEFORE, lifetime / 2)


def _lifetime(expiration: Any, clock: datetime) -> timedelta:
    """The time from `clock`, EasyFlor's own, to the expiration: our clock may differ from it."""
    found = notation.moment(expiration) if isinstance(expiration, str) else None
    if found is None:
        return _DEFAULT_LIFETIME
    moment = found.wall.replace(tzinfo=UTC) if found.offset is None else found.instant
    # .NET encodes "not set" as year 1, so a new token that has already expired has no expiration.
    return min(moment - clock, _MAX_STORED) if moment is not None and moment > clock else _DEFAULT_LIFETIME


def _clock(response: httpx.Response) -> datetime:
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        moment = parsedate_to_datetime(response.headers.get("Date", ""))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return datetime.now(UTC)
