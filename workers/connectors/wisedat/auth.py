"""Wisedat's login: the server's public key, the login encrypted with it, a token for half an hour.

The key changes daily and with each restart, which ends every token, so a 401 is everyday and the key is never kept.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
from cryptography.hazmat.primitives.asymmetric import padding as schemes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA1

from models import exact
from workers.connectors.http import words
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.connectors.contract import Wire
    from workers.connectors.wisedat.options import Options

_OK = 200
_UNAUTHORIZED = 401
_BUSY = 429

_TOKEN_LASTS = timedelta(minutes=30) - timedelta(minutes=2)
"""Valid for 30 minutes (Wisedat API 1.3, Login), less what clocks and slow requests need."""

_PADDING_LASTS = timedelta(days=365)
"""A session is kept beyond its token: it also says which padding this server takes."""

_OVERHEAD = {"pkcs1": 11, "oaep": 42}
"""Bytes of a block that the padding itself needs (RFC 8017, 7.1.1 and 7.2.1), in the order in which they are tried."""

_OFFLINE = 0
_ONLINE = 1
_TABLES = 4
"""Irrelevant in this context, says the vendor; so it is, where the key comes with it."""

_STATES = {
    2: "the company was not found: check `api_key`, and that `url` leads to this company's server",
    3: "the API is not activated for this company; activate it in Wisedat",
    _TABLES: "the table management is not active, and no key for the login came with this; activate it in Wisedat",
    5: "the module Wisedat API Server is not available; ask your Wisedat dealer for it",
    6: "the plan is inactive; renew it with your Wisedat dealer",
}
"""What a person must do (Wisedat API 1.3, Status)."""

_REFUSALS = frozenset({400, _UNAUTHORIZED})
_LOGINS = 2
"""So many tokens must be refused as soon as they were given before that is a person's business."""

_SHORTEST_PIECE = 4
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class _LoginRefusedError(SetAside):
    """A wrong login, or one that was encrypted with a key which has changed meanwhile."""


_Flow = Generator[httpx.Request, httpx.Response, Any]


@dataclass(frozen=True, slots=True)
class _Session:
    """What the workers share: the padding of the login, the token that it brought, and until when that is good."""

    padding: str
    token: str = field(default="", repr=False)
    until: datetime = _LONG_AGO

    @classmethod
    def read(cls, kept: bytes | None) -> _Session | None:
        """Back from the box; None where there is nothing that this release can read."""
        with suppress(ValueError, KeyError, TypeError):
            said = exact.loads(kept or b"{}")
            return cls(said["padding"], said["token"], datetime.fromisoformat(said["until"]))
        return None

    def kept(self) -> bytes:
        """For the box."""
        return exact.dumps({"padding": self.padding, "token": self.token, "until": self.until.isoformat()}).encode()

    def is_open(self, now: datetime) -> bool:
        return bool(self.token) and self.until > now


class Login(httpx.Auth):
    """Logs in where no worker has done so, and once more where the token is refused.

    A request that brings its own `Authorization` goes as it is. TryLater while the server is offline; SetAside where a
    person must do something first.
    """

    def __init__(self, options: Options, wire: Wire) -> None:
        self._url = options.url
        self._login = options.login()
        self._configured = options.rsa_padding
        self._sessions = wire.sessions
        self._now = wire.now
        self._sent = set(self._login)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The request, with at most two new logins: one may be ended, too, by a restart in that very moment."""
        if "Authorization" in request.headers:
            yield request
            return
        session, logins = self._session(), _LOGINS
        if session is None or not session.is_open(self._now()):
            session, logins = (yield from self._renewed(request, refused=None)), _LOGINS - 1
        for is_last in (*[False] * logins, True):
            if session is None:
                return
            self._sent.add(session.token)
            request.headers["Authorization"] = f"Bearer {session.token}"
            reply = yield request
            if reply.status_code != _UNAUTHORIZED:
                return
            if is_last:
                raise self._refused(reply, "a token that it has just given")
            session = yield from self._renewed(request, refused=session)

    def status_header(self) -> dict[str, str]:
        """For `GET /status`, which takes the API key instead of a token."""
        return {"Authorization": f"WDAPI {self._login[0]}"}

    def hidden(self, text: str) -> str:
        """The text without login and token: a server's error page may repeat what it was sent."""
        for secret in sorted(self._sent, key=len, reverse=True):
            text = text.replace(secret, "***")
            # A stranger's words are cut after some length, which may be within the secret.
            pieces = (secret[:length] for length in range(len(secret), _SHORTEST_PIECE - 1, -1))
            text = text.removesuffix(next((piece for piece in pieces if text.endswith(piece)), ""))
        return text

    def _session(self) -> _Session | None:
        return _Session.read(self._sessions.get())

    def _keep(self, session: _Session) -> _Session:
        self._sessions.put(session.kept(), self._now() + _PADDING_LASTS)
        return session

    def _renewed(self, request: httpx.Request, *, refused: _Session | None) -> _Flow:
        """A session that is not the refused one: what somebody else just got, else our own.

        None where the vendor failed: the flow ends with that reply, and `Http` judges it like any other.
        """
        with self._sessions.renewing():
            known = self._session()
            if known is not None and known.is_open(self._now()) and known != refused:
                return known
            if known is not None and known.token:
                self._keep(_Session(known.padding))  # should this login fail, nobody tries the old token again
            key = yield from self._public_key(request)
            try:
                return (yield from self._logged_in(request, key, known)) if key else None
            except _LoginRefusedError:
                newer = yield from self._public_key(request)
                if newer is not None and key is not None and newer.public_numbers() == key.public_numbers():
                    raise
            return (yield from self._logged_in(request, newer, known)) if newer else None

    def _public_key(self, request: httpx.Request) -> _Flow:
        reply = yield self._aside(request, "GET", "status", self.status_header()["Authorization"])
        if _is_judged_elsewhere(reply):
            return None
        if reply.status_code != _OK:
            raise self._refused(reply, "the status")
        return public_key(_decoded(reply))

    def _logged_in(self, request: httpx.Request, key: rsa.RSAPublicKey, known: _Session | None) -> _Flow:
        """One try, or one for each padding: a wrong one looks like a wrong login."""
        login = ";".join(self._login).encode()
        candidates = self._paddings(known)
        fitting = [name for name in candidates if len(login) <= room(key, name)]
        if not fitting:
            raise _too_long(login, key, candidates)
        refusals: list[httpx.Response] = []
        for name in fitting:
            sealed = _encrypted(login, key, name)
            self._sent.add(sealed)  # it lets anybody in until the key changes
            reply = yield self._aside(request, "POST", "authentication/login", f"WDAPI {sealed}")
            if reply.status_code == _OK:
                return self._keep(_Session(name, _token(_decoded(reply)), self._now() + _TOKEN_LASTS))
            refusals.append(reply)
            # A server that has never taken this padding may break over it instead of refusing it.
            if reply.status_code not in _REFUSALS and not (reply.is_server_error and known is None):
                break
        telling = [reply for reply in refusals if reply.status_code == _UNAUTHORIZED] or refusals[-1:]
        if _is_judged_elsewhere(telling[0]):
            return None
        refused = self._refused(telling[0], f"the login (RSA padding {' and '.join(fitting)})")
        raise _LoginRefusedError(str(refused), whole_resource=True)

    def _paddings(self, known: _Session | None) -> list[str]:
        """Which to try: the configured one, else what worked last and then the other."""
        if self._configured:
            return [self._configured]
        return sorted(_OVERHEAD, key=lambda name: known is None or name != known.padding)

    def _aside(self, request: httpx.Request, method: str, path: str, authorization: str) -> httpx.Request:
        """A request of the login's own, under the deadline of the one that waits for it."""
        headers = {"Authorization": authorization, "Accept": "application/json"}
        return httpx.Request(method, f"{self._url}/{path}", headers=headers, extensions=request.extensions)

    def _refused(self, reply: httpx.Response, what: str) -> SetAside:
        """Every object would be refused alike, so the resource is set aside and not its objects one by one."""
        said = words(self.hidden(reply.read().decode(errors="replace")).encode()) or reply.reason_phrase
        is_login = reply.status_code == _UNAUTHORIZED
        remedy = "check `api_key`, `user` and `password`, and the user's rights" if is_login else "check `url`"
        return SetAside(f"HTTP {reply.status_code}: Wisedat refused {what}: {said}; {remedy}", whole_resource=True)


def public_key(answer: Any) -> rsa.RSAPublicKey:
    """The key of an answer to `/status`. TryLater where the server is offline, SetAside what a person must mend."""
    said = answer if isinstance(answer, dict) else {}
    digits = str(said.get("State"))
    state = int(digits) if digits.isdecimal() else None
    if state == _OFFLINE:
        raise TryLater("Wisedat says that this company's server is offline (State 0)")
    if state == _ONLINE or (state == _TABLES and said.get("PublicKey")):
        return _key(said.get("PublicKey"))
    if state in _STATES:
        raise SetAside(f"Wisedat's State {state}: {_STATES[state]}", whole_resource=True)
    raise SetAside("the answer to /status has no State that Wisedat documents; check `url`", whole_resource=True)


def room(key: rsa.RSAPublicKey, padding: str) -> int:
    """How many bytes one block takes."""
    return (key.key_size + 7) // 8 - _OVERHEAD[padding]


def _key(said: Any) -> rsa.RSAPublicKey:
    """Modulus and exponent, Base64 and big-endian, by name, or as the list that the document shows."""
    pair: Any = [said.get("Modulus"), said.get("Exponent")] if isinstance(said, dict) else said
    try:
        modulus, exponent = (int.from_bytes(base64.b64decode(part, validate=True)) for part in pair)
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except (binascii.Error, TypeError, ValueError):
        raise SetAside("the PublicKey of /status is no RSA key in Base64", whole_resource=True) from None


def _scheme(padding: str) -> schemes.AsymmetricPadding:
    if padding == "pkcs1":
        return schemes.PKCS1v15()
    return schemes.OAEP(mgf=schemes.MGF1(algorithm=SHA1()), algorithm=SHA1(), label=None)  # noqa: S303 - the vendor's


def _encrypted(login: bytes, key: rsa.RSAPublicKey, padding: str) -> str:
    try:
        return base64.b64encode(key.encrypt(login, _scheme(padding))).decode()
    except ValueError:
        # Numbers that look like a key: an even modulus, or one beyond what OpenSSL takes.
        raise SetAside("nothing can be encrypted with the PublicKey of /status", whole_resource=True) from None


def _too_long(login: bytes, key: rsa.RSAPublicKey, paddings: Sequence[str]) -> SetAside:
    limits = " or ".join(f"{room(key, name)} bytes with {name}" for name in paddings)
    return SetAside(
        f"the login is {len(login)} bytes long, and this server's {key.key_size}-bit key takes {limits}: "
        "choose a shorter password for the API's user",
        whole_resource=True,
    )


def _token(answer: Any) -> str:
    token = answer.get("auth_token") if isinstance(answer, dict) else None
    if isinstance(token, str) and re.fullmatch("[!-~]+", token):
        return token
    raise SetAside("the answer to the login has no auth_token that a header takes", whole_resource=True)


def _is_judged_elsewhere(reply: httpx.Response) -> bool:
    return reply.is_server_error or reply.status_code == _BUSY or reply.is_redirect


def _decoded(reply: httpx.Response) -> Any:
    body = reply.read()
    try:
        return exact.loads(body)
    except ValueError:
        # Not its words: half an answer to the login is half a token.
        raise TryLater("the answer to the login is not JSON", shuts_gate=False) from None
