"""Authentication of everything but webhooks and liveness: the token, or a direct caller on this machine."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from receiver.http import client_address
from receiver.http.client_address import NetworkAllowList
from receiver.http.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network, IPv6Network

    from pydantic import SecretStr
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Receive, Scope, Send


class TokenAuth:
    """ASGI middleware. With a token, every caller needs it; without, only direct loopback callers are allowed.

    A caller at the address of a proxy (`proxies`) is not direct, whatever its headers say.
    """

    def __init__(self, app: ASGIApp, *, token: SecretStr | None, proxies: Iterable[IPv4Network | IPv6Network]) -> None:
        self._app = app
        self._token = token
        self._proxies = NetworkAllowList(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or raise `ApiError`."""
        self._authorize(HTTPConnection(scope))
        await self._app(scope, receive, send)

    def _authorize(self, caller: HTTPConnection) -> None:
        if self._token is not None:
            if not _has_token(caller.headers, self._token.get_secret_value()):
                message = "send the receiver's token as Authorization: Bearer …"
                raise ApiError(401, "token", message, headers={"WWW-Authenticate": "Bearer"})
        elif not client_address.is_direct_loopback(
            caller.client.host if caller.client else None,
            caller.headers,
            version=caller.scope["http_version"],
            proxies=self._proxies,
        ):
            message = "without a token only direct callers on this machine are let in; set token under [receiver]"
            raise ApiError(403, "sender", message)


def require_token(caller: HTTPConnection, token: SecretStr | None) -> None:
    """Raise `ApiError` unless the caller shows this token; without one, nobody is let in."""
    # Compared where there is no token, too, so that the time does not reveal which connection has one.
    is_equal = _has_token(caller.headers, "" if token is None else token.get_secret_value())
    if token is None or not is_equal:
        message = "send the connection's commands_token as Authorization: Bearer …"
        raise ApiError(401, "token", message, headers={"WWW-Authenticate": "Bearer"})


def _has_token(headers: Headers, token: str) -> bool:
    given = headers.getlist("Authorization")
    scheme, _, credentials = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    # The token is compared whatever the scheme, so that the time reveals nothing. Starlette decodes headers as Latin-1.
    return hmac.compare_digest(credentials.strip().encode("latin-1"), token.encode()) and scheme.lower() == "bearer"
