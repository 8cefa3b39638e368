"""The login at Lagerkoll, and his errorCode made as good as the HTTP status that belongs to it."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import httpx

from workers.connectors.interpreter import answers


class Login(httpx.Auth):
    """Sends the login with every request, as `headers` has it.

    Which HTTP status an error has is not documented but for 429, so the errorCode decides: the limit told under
    another status is a 429 with its `Retry-After`, and a refusal told as 5xx is a refusal, not a breakdown.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """One request; nothing is ever sent a second time."""
        request.headers.update(self._headers)
        response = yield request
        if not response.is_server_error and "Retry-After" not in response.headers:
            return
        response.read()
        error = answers.error(response.content)
        if error is not None:
            busy = error.code == answers.TOO_MANY
            response.status_code = httpx.codes.TOO_MANY_REQUESTS if busy else httpx.codes.BAD_REQUEST
