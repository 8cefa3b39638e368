"""Every error is answered in JSON, Starlette's own included: `{"error": code, "message": text}`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from receiver.http.answers import AnswerResponse, Error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

_LINGER_SECONDS = 1.0
_LINGER_BYTES = 4 * 2**20


class ApiError(HTTPException):
    """An error response: `code` for programs, `message` for a person. Neither repeats what was sent."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers=headers)
        self.code = code


class BodyError(ApiError):
    """An error while the body is still arriving. The rest is not read, so the connection is closed."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message, headers={"Connection": "close"})


class LingeringResponse(AnswerResponse):
    """A response before the end of the request's body.

    Closing a socket while the client still sends makes the kernel reset the connection, and the client loses the
    response. So some of the rest is read and discarded first.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the signature of ASGI
        """Send the response, discard some of the body, close."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await _discard(receive)
        await send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    discarded = 0
    while discarded < _LINGER_BYTES:
        message = await receive()
        if not message.get("more_body", False):  # the end of the body, or of the connection
            return
        discarded += len(message.get("body", b""))


async def http_error(_: Request, error: Exception) -> Response:
    """The response to an `ApiError` or to an exception of Starlette's own (404, 405)."""
    assert isinstance(error, HTTPException)  # noqa: S101 - HANDLERS registers it for nothing else
    phrase = HTTPStatus(error.status_code).phrase
    code = error.code if isinstance(error, ApiError) else phrase.lower().replace(" ", "_")
    response = LingeringResponse if isinstance(error, BodyError) else AnswerResponse
    return response(Error(error=code, message=error.detail or phrase), error.status_code, headers=error.headers)


async def _database_failed(_: Request, error: Exception) -> Response:
    # Only the error's type is logged: its text holds the statement's parameters, which are customers' data.
    log.warning("database failed", error=type(error).__name__)
    return _respond(503, "database", "the database does not answer, or its tables are missing; see /readyz")


async def _disconnected(_request: Request, _error: Exception) -> Response:
    return _respond(400, "malformed", "the request ended before its body did")


async def _unexpected(_request: Request, _error: Exception) -> Response:
    return _respond(500, "failed", "something went wrong here; the log says what")


def _respond(status: int, code: str, message: str) -> Response:
    return AnswerResponse(Error(error=code, message=message), status)


HANDLERS = {
    HTTPException: http_error,
    sa.exc.SQLAlchemyError: _database_failed,
    ClientDisconnect: _disconnected,
    Exception: _unexpected,
}
"""For `Starlette(exception_handlers=…)`."""
