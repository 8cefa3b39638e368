"""Wisedat's login: fetch the server's public RSA key, send the encrypted login, use the token for half an hour.

The server changes its key daily and at each restart, and all tokens end with it. So a 401 is normal, and the key is
never stored.
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
from workers.connectors import objects
from workers.connectors.http import excerpt, foreign_error, is_page, read_login
from workers.connectors.wisedat import answers
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.connectors.contract import ClientRuntime
    from workers.connectors.wisedat.options import Options

_OK = 200
_UNAUTHORIZED = 401
_BUSY = 429

_TOKEN_LIFETIME = timedelta(minutes=30) - timedelta(minutes=2)
"""30 minutes (Wisedat API 1.3, Login), minus a margin for clock differences and slow requests."""

_SESSION_LIFETIME = timedelta(days=365)
"""A session is stored longer than its token, because it also records which padding this server accepts."""

_PADDING_BYTES = {"pkcs1": 11, "oaep": 42}
"""Padding -> bytes of a block that it uses (RFC 8017, 7.1.1 and 7.2.1), in the order in which they are tried."""

_OFFLINE = 0
_ONLINE = 1
_TABLES_INACTIVE = 4
"""Irrelevant for the API according to the vendor. It is an error only if no public key comes with it."""

_STATE_REMEDIES = {
    2: "the company was not found: check `api_key`, and that `url` leads to this company's server",
    3: "the API is not activated for this company; activate it in Wisedat",
    _TABLES_INACTIVE: "the table management is not active, and the server sent no public key; activate it in Wisedat",
    5: "the module Wisedat API Server is not available; ask your Wisedat dealer for it",
    6: "the plan is inactive; renew it with your Wisedat dealer",
}
"""State -> cause and remedy (Wisedat API 1.3, Status)."""

_LOGIN_REFUSED = frozenset({400, _UNAUTHORIZED})
_MAX_LOGINS = 2
"""New logins per request. If the last token is refused as well, a person has to act."""

_MIN_FRAGMENT = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _LoginRefusedError(SetAside):
    """The login is wrong, or the server's key changed between `/status` and the login."""


_Flow = Generator[httpx.Request, httpx.Response, Any]


@dataclass(frozen=True, slots=True)
class _Session:
    """The session that all workers share: padding of the login, token, and the token's expiry (aware)."""

    padding: str
    token: str = field(default="", repr=False)
    until: datetime = _EPOCH

    @classmethod
    def decode(cls, stored: bytes | None) -> _Session | None:
        """From the stored form; None if there is none, or one of another release."""
        with suppress(ValueError, KeyError, TypeError):
            fields = exact.loads(stored or b"{}")
            return cls(fields["padding"], fields["token"], datetime.fromisoformat(fields["until"]))
        return None

    def encode(self) -> bytes:
        """The form that `Sessions` stores."""
        return exact.dumps({"padding": self.padding, "token": self.token, "until": self.until.isoformat()}).encode()

    def is_valid(self, now: datetime) -> bool:
        return bool(self.token) and self.until > now


class Login(httpx.Auth):
    """Adds the token to each request; logs in if there is no valid token, and again after a 401.

    A request that has an `Authorization` header is sent unchanged. Raises TryLater while the server is offline, and
    SetAside if a person has to act first (wrong login, inactive plan).

    `is_out`: the caller's own request was sent, and not answered 401, so the vendor may have done what it asks. False
    while and after a login fails: nothing but the login's own requests was sent.
    """

    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        self._url = options.url
        self._login = options.login()
        self._configured_padding = options.rsa_padding
        self._sessions = runtime.sessions
        self._now = runtime.now
        self._secrets = set(self._login)
        self.is_out = False

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request, with at most `_MAX_LOGINS` new logins: a restart can invalidate a new token at once."""
        self.is_out = False
        if "Authorization" in request.headers:
            self.is_out = True
            yield request
            return
        session, logins = self._session(), _MAX_LOGINS
        if session is None or not session.is_valid(self._now()):
            session, logins = (yield from self._renew(request, refused=None)), _MAX_LOGINS - 1
        for is_last in (*[False] * logins, True):
            if session is None:
                return
            self._secrets.add(session.token)
            request.headers["Authorization"] = f"Bearer {session.token}"
            self.is_out = True
            reply = yield request
            if reply.status_code != _UNAUTHORIZED:
                return
            self.is_out = False
            if is_last:
                raise self._refusal(reply, "a token that it has just issued")
            session = yield from self._renew(request, refused=session)

    def status_header(self) -> dict[str, str]:
        """The header for `GET /status`, which wants the API key instead of a token."""
        return {"Authorization": f"WDAPI {self._login[0]}"}

    def redact(self, text: str) -> str:
        """The text without login and tokens: a server's error page may quote the request."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
            # Excerpts of a reply are cut at a fixed length, so a text may end within a secret.
            fragments = (secret[:length] for length in range(len(secret), _MIN_FRAGMENT - 1, -1))
            text = text.removesuffix(next((fragment for fragment in fragments if text.endswith(fragment)), ""))
        return text

    def _session(self) -> _Session | None:
        return _Session.decode(self._sessions.get())

    def _store(self, session: _Session) -> _Session:
        self._sessions.put(session.encode(), self._now() + _SESSION_LIFETIME)
        return session

    def _renew(self, request: httpx.Request, *, refused: _Session | None) -> _Flow:
        """Return a session other than the refused one: another worker's new one, or one from an own login.

        Returns None if the vendor failed (429, 5xx, redirect). The flow then ends with that reply, and `Http` raises
        the error as for any other request.
        """
        with self._sessions.login_lock():
            known = self._session()
            if known is not None and known.is_valid(self._now()) and known != refused:
                return known
            if known is not None and known.token:
                self._store(_Session(known.padding))  # if this login fails, no worker tries the old token again
            key = yield from self._public_key(request)
            try:
                return (yield from self._log_in(request, key, known)) if key else None
            except _LoginRefusedError:
                # The key may have changed since it was fetched; with the same key the login itself is wrong.
                newer = yield from self._public_key(request)
                if newer is not None and key is not None and newer.public_numbers() == key.public_numbers():
                    raise
            return (yield from self._log_in(request, newer, known)) if newer else None

    def _public_key(self, request: httpx.Request) -> _Flow:
        reply = yield self._login_request(request, "GET", "status", self.status_header()["Authorization"])
        if _is_handled_by_http(reply):
            return None
        if reply.status_code != _OK:
            raise self._refusal(reply, "the status")
        return public_key(_decoded(reply))

    def _log_in(self, request: httpx.Request, key: rsa.RSAPublicKey, known: _Session | None) -> _Flow:
        """Try the login with each usable padding: a wrong padding is refused like a wrong login."""
        login = ";".join(self._login).encode()
        candidates = self._paddings(known)
        usable = [name for name in candidates if len(login) <= capacity(key, name)]
        if not usable:
            raise _too_long(login, key, candidates)
        refusals: list[httpx.Response] = []
        for name in usable:
            encrypted = _encrypted(login, key, name)
            self._secrets.add(encrypted)  # valid as a login until the key changes
            reply = yield self._login_request(request, "POST", "authentication/login", f"WDAPI {encrypted}")
            if reply.status_code == _OK:
                return self._store(_Session(name, _auth_token(_decoded(reply)), self._now() + _TOKEN_LIFETIME))
            refusals.append(reply)
            # A server may answer a padding that it does not support with 5xx instead of a refusal.
            if reply.status_code not in _LOGIN_REFUSED and not (reply.is_server_error and known is None):
                break
        reply = next((reply for reply in refusals if reply.status_code == _UNAUTHORIZED), refusals[-1])
        if _is_handled_by_http(reply):
            return None
        # Wisedat has just answered `/status`, so its refusal may be bare.
        what = f"the login (RSA padding {' and '.join(usable)})"
        refusal = self._refusal(reply, what, is_wisedats=not is_page(reply.read()))
        raise _LoginRefusedError(str(refusal), whole_resource=True) if isinstance(refusal, SetAside) else refusal

    def _paddings(self, known: _Session | None) -> list[str]:
        """The paddings to try: the configured one, else the one that worked last and then the other."""
        if self._configured_padding:
            return [self._configured_padding]
        return sorted(_PADDING_BYTES, key=lambda name: known is None or name != known.padding)

    def _login_request(self, request: httpx.Request, method: str, path: str, authorization: str) -> httpx.Request:
        """A request for the login itself. It shares the original request's extensions, and so its deadline."""
        headers = {"Authorization": authorization, "Accept": "application/json"}
        return httpx.Request(method, f"{self._url}/{path}", headers=headers, extensions=request.extensions)

    def _refusal(self, reply: httpx.Response, what: str, *, is_wisedats: bool = False) -> SetAside | TryLater:
        """The error for a refused login. It sets the whole resource aside: every object would be refused alike.

        TryLater for the whole account if Wisedat did not write the reply.
        """
        body = read_login(reply)
        if not (is_wisedats or answers.is_wisedats(body)):
            return TryLater(str(foreign_error(reply.status_code, body, redact=self.redact)))
        quoted = excerpt(body, redact=self.redact, is_error=True) or reply.reason_phrase
        is_login = reply.status_code == _UNAUTHORIZED
        remedy = "check `api_key`, `user` and `password`, and the user's rights" if is_login else "check `url`"
        return SetAside(f"HTTP {reply.status_code}: Wisedat refused {what}: {quoted}; {remedy}", whole_resource=True)


def public_key(answer: Any) -> rsa.RSAPublicKey:
    """The RSA key in a reply of `/status`. SetAside if its State says that a person has to act, else TryLater."""
    fields = objects.folded(answer)
    digits = str(fields.get("state"))
    state = int(digits) if digits.isdecimal() else None
    if state == _OFFLINE:
        raise TryLater("Wisedat reports that this company's server is offline (State 0)")
    if state == _ONLINE or (state == _TABLES_INACTIVE and fields.get("publickey")):
        return _rsa_key(fields.get("publickey"))
    if state in _STATE_REMEDIES:
        raise SetAside(f"Wisedat's State {state}: {_STATE_REMEDIES[state]}", whole_resource=True)
    raise TryLater("the reply of /status has no State that Wisedat documents; check `url`")


def capacity(key: rsa.RSAPublicKey, padding: str) -> int:
    """The longest login in bytes that one RSA block can hold with this padding."""
    return (key.key_size + 7) // 8 - _PADDING_BYTES[padding]


def _rsa_key(value: Any) -> rsa.RSAPublicKey:
    """Parse modulus and exponent (Base64, big-endian): an object, or the list that the document shows."""
    pair: Any = (
        [objects.field(value, "Modulus"), objects.field(value, "Exponent")] if isinstance(value, dict) else value
    )
    try:
        modulus, exponent = (int.from_bytes(base64.b64decode(part, validate=True)) for part in pair)
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except (binascii.Error, TypeError, ValueError):
        raise TryLater("the PublicKey of /status is not an RSA key in Base64") from None


def _scheme(padding: str) -> schemes.AsymmetricPadding:
    if padding == "pkcs1":
        return schemes.PKCS1v15()
    return schemes.OAEP(mgf=schemes.MGF1(algorithm=SHA1()), algorithm=SHA1(), label=None)  # noqa: S303 - the vendor requires it


def _encrypted(login: bytes, key: rsa.RSAPublicKey, padding: str) -> str:
    try:
        return base64.b64encode(key.encrypt(login, _scheme(padding))).decode()
    except ValueError:
        # The numbers parse but make no key: an even modulus, or one that OpenSSL refuses.
        raise SetAside("the PublicKey of /status cannot encrypt the login", whole_resource=True) from None


def _too_long(login: bytes, key: rsa.RSAPublicKey, paddings: Sequence[str]) -> SetAside:
    limits = " or ".join(f"{capacity(key, name)} bytes with {name}" for name in paddings)
    return SetAside(
        f"the login is {len(login)} bytes long, but this server's {key.key_size}-bit key allows {limits}: "
        "choose a shorter password for the API's user",
        whole_resource=True,
    )


def _auth_token(answer: Any) -> str:
    token = objects.folded(answer).get("auth_token")
    if isinstance(token, str) and re.fullmatch("[!-~]+", token):
        return token
    raise TryLater("the reply to the login has no auth_token that fits a header")


def _is_handled_by_http(reply: httpx.Response) -> bool:
    return reply.is_server_error or reply.status_code == _BUSY or reply.is_redirect


def _decoded(reply: httpx.Response) -> Any:
    try:
        return exact.loads_leniently(read_login(reply))
    except ValueError:
        # The body is not quoted: half a reply to the login contains half a token.
        raise TryLater("the reply to the login is not JSON", closes_gate=False) from None
