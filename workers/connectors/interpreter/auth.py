"""Adds the login to Lagerkoll's requests, and corrects HTTP statuses that contradict the reply's errorCode."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import httpx

from workers.connectors.interpreter import answers


class Login(httpx.Auth):
    """Adds `headers` to every request.

    Except for 429 the vendor does not document the HTTP status of an error, so the errorCode decides: 900429 becomes
    status 429, so that `Http` honours `Retry-After`, and another code with status 5xx becomes 400, a refusal.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request, once."""
        request.headers.update(self._headers)
        response = yield request
        if not response.is_server_error and "Retry-After" not in response.headers:
            return
        response.read()
        error = answers.parse_error(response.content)
        if error is not None:
            limited = error.code == answers.RATE_LIMITED
            response.status_code = httpx.codes.TOO_MANY_REQUESTS if limited else httpx.codes.BAD_REQUEST
