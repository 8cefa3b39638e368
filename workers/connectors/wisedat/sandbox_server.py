"""The state of Wisedat's sandbox: its data, its login (RSA key and tokens), and the behaviours that tests switch on."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections import deque
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import padding as paddings
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA1

from workers.connectors.wisedat import sandbox_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.values import JsonObject

_OFFLINE, _ONLINE, _NO_COMPANY = 0, 1, 2
_TOKEN_LIFETIME = timedelta(minutes=30)
_DAY = timedelta(days=1)
_KEYS = 3
"""Generating an RSA key is slow, so a process generates a few, and all servers rotate between them."""

_OAEP = paddings.OAEP(mgf=paddings.MGF1(SHA1()), algorithm=SHA1(), label=None)  # noqa: S303 - .NET's OAEP


class Fault(StrEnum):
    """What the server does to its next response."""

    HTML = "html"
    HALF = "half"
    DRIP = "drip"
    EMPTY = "empty"
    SCALAR = "scalar"
    BUSY = "429"
    BROKEN = "500"
    SLOW = "slow"


class Server:
    """The server of one company.

    Behaviours that tests set:

    - `faults`: done to the next responses, in order; `slow`: seconds of a slow one; `drip`: seconds between two bytes
      of a dripping one; `latency`: seconds before each response
    - `state`: the number in `/status` (1: online); `starting`: the number of `/status` responses that still say
      offline; `key_as_list`: the form of the public key
    - `inclusive`: whether `modified_since` includes its moment; `largest_page`: the maximum of `limit`;
      `latest_first`: the order of lists; `suppliers_under`: the name of the list of suppliers; `addresses_wrapped`:
      whether customer addresses come inside an object
    - `between_pages`: called (with the resource's name) right after a page that is not the last, one after each page

    Records: `requests`: method, path and query of each request; `logins` and `refused_logins`; `max_parallel`: the
    highest number of requests at one time.
    """

    def __init__(
        self, *, seed: int, now: Callable[[], datetime], key_bits: int, padding: str, login: tuple[str, str, str]
    ) -> None:
        self.now = now
        self.books = sandbox_data.Books(seed, now)
        self.padding = padding
        self.faults: deque[Fault] = deque()
        self.slow, self.drip, self.latency = 5.0, 0.05, 0.0
        self.state = _ONLINE
        self.starting = 0
        self.key_as_list = False
        self.inclusive = True
        self.largest_page: int | None = 5
        self.latest_first = False
        self.suppliers_under = "salesmen"  # as documented
        self.addresses_wrapped = False
        self.between_pages: deque[Callable[[str], object]] = deque()
        self.requests: list[str] = []
        self.logins = self.refused_logins = 0
        self.max_parallel = 0
        self.lock = threading.RLock()
        self._login = login
        self._key_bits = key_bits
        self._key_number = 0
        self._key_since = now()
        self._tokens: dict[str, datetime] = {}

    def expire(self) -> None:
        """Invalidate all tokens; the key stays."""
        with self.lock:
            self._tokens.clear()

    def rotate(self) -> None:
        """Change the key, which invalidates all tokens (Wisedat API 1.3, Status)."""
        with self.lock:
            self._key_number += 1
            self._key_since = self.now()
            self._tokens.clear()

    def restart(self, *, starting: int = 0) -> None:
        """Restart the server: the key changes, and the next `starting` responses of `/status` say offline."""
        with self.lock:
            self.rotate()
            self.starting = starting

    def rotate_if_due(self) -> None:
        """Change the key once a day."""
        if self.now() - self._key_since >= _DAY:
            self.rotate()

    def accepts_token(self, token: str) -> bool:
        """Whether the token is valid now."""
        return self._tokens.get(token, self.now()) > self.now()

    def status(self, authorization: str) -> JsonObject:
        """The response of `/status`; it has a public key only if the server is online."""
        state = self.state
        if authorization != f"WDAPI {self._login[0]}":
            state = _NO_COMPANY
        elif self.starting:
            self.starting -= 1
            state = _OFFLINE
        answer: JsonObject = {"State": state}
        if state == _ONLINE:
            numbers = self._private_key().public_key().public_numbers()
            key = {"Modulus": _base64(numbers.n), "Exponent": _base64(numbers.e)}
            answer["PublicKey"] = list(key.values()) if self.key_as_list else key
        return answer

    def log_in(self, authorization: str) -> str | None:
        """A new token; None if the login is refused."""
        scheme, _, encrypted = authorization.partition(" ")
        if scheme != "WDAPI" or self.state != _ONLINE or not self._is_login(encrypted):
            self.refused_logins += 1
            return None
        self.logins += 1
        until = self.now() + _TOKEN_LIFETIME
        token = _new_token(self.logins, until)
        self._tokens[token] = until
        return token

    def _private_key(self) -> rsa.RSAPrivateKey:
        return _rsa_key(self._key_bits, self._key_number % _KEYS)

    def _is_login(self, encrypted: str) -> bool:
        scheme = paddings.PKCS1v15() if self.padding == "pkcs1" else _OAEP
        try:
            login = self._private_key().decrypt(base64.b64decode(encrypted, validate=True), scheme)
        except ValueError:
            return False
        return login == ";".join(self._login).encode()


@cache
def _rsa_key(bits: int, _number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _base64(number: int) -> str:
    return base64.b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big")).decode()


def _new_token(session: int, until: datetime) -> str:
    """A token in the form of a JSON Web Token; its last part is random, so it cannot be guessed."""
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sid": session, "exp": int(until.timestamp())})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, secrets.token_urlsafe(32)])
