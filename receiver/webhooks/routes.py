"""`/hooks`: which senders and packets are accepted, and the 200 that is sent only once the webhook is durable."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping.webhooks import AcceptedWebhook
from models.settings.connections import SendsWebhooks
from receiver.http import client_address
from receiver.http.answers import AnswerResponse, Ok
from receiver.http.client_address import NetworkAllowList
from receiver.http.errors import ApiError
from receiver.webhooks import payload
from receiver.webhooks.batcher import NotDurableError, Placement
from receiver.webhooks.refusal_log import RefusalLog
from workers.connectors import contract, discovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter
    from starlette.types import ASGIApp, Receive, Scope, Send

    from models.settings.load import Settings
    from receiver.webhooks.batcher import WebhookBatcher

_METHODS = ("GET", "POST")
_ACCEPTED = AnswerResponse(Ok(ok=True))
_ERROR = "erpmirror.error"
"""The scope's key under which `WebhookFastPath` passes an error on to the route."""


@dataclass(frozen=True, slots=True)
class _WebhookConnection:
    """A connection that accepts webhooks."""

    options: SendsWebhooks
    webhooks: discovery.Webhooks
    senders: NetworkAllowList

    def has_secret(self, secret: str) -> bool:
        """Whether this is the connection's secret, or empty if none is configured."""
        expected = self.options.webhook_secret
        text = "" if expected is None else expected.get_secret_value()
        return hmac.compare_digest(secret.encode(errors="surrogatepass"), text.encode())


class WebhookRoutes:
    """`/hooks/{connection}[/{secret}]`. `wake` wakes a worker for the connection after the commit.

    `outcomes` counts by connection and outcome. The name of an unknown connection never becomes a label: a caller could
    create any number of them.
    """

    def __init__(
        self, settings: Settings, *, batcher: WebhookBatcher, wake: Callable[[str], None], outcomes: Counter
    ) -> None:
        self._proxies = NetworkAllowList(settings.receiver.trusted_proxies)
        self._refusals = RefusalLog(self._proxies)
        self._batcher = batcher
        self._wake = wake
        self._outcomes = outcomes
        self._counters: dict[tuple[str, str], Callable[[], None]] = {}
        self._connections = _webhook_connections(settings)

    def __contains__(self, name: object) -> bool:
        """Whether the connection accepts webhooks."""
        return name in self._connections

    @property
    def routes(self) -> list[Route]:
        """To be mounted at `/hooks`."""
        return [
            Route("/{connection}", self.receive, methods=_METHODS),
            Route("/{connection}/{secret:path}", self.receive, methods=_METHODS),
        ]

    async def receive(self, request: Request) -> Response:
        """Answer one webhook."""
        if (error := request.scope.get(_ERROR)) is not None:
            raise error
        await self.accept(request.path_params["connection"], request.path_params.get("secret", ""), request)
        return _ACCEPTED

    async def accept(self, connection: str, secret: str, request: Request) -> None:
        """Store one webhook and count its outcome. Raises `ApiError`."""
        try:
            outcome = await self._accept(connection, secret, request)
        except ApiError as refusal:
            self._count(connection if connection in self._connections else "", refusal.code)
            raise
        self._count(connection, outcome)

    def _count(self, connection: str, outcome: str) -> None:
        increment = self._counters.get((connection, outcome))
        if increment is None:
            increment = self._counters[connection, outcome] = self._outcomes.labels(connection, outcome).inc
        increment()

    async def _accept(self, connection: str, secret: str, request: Request) -> str:
        webhook = await self._read(connection, secret, request)
        try:
            placed = await self._batcher.store(webhook)
        except NotDurableError as error:
            raise ApiError(503, "not_durable", f"{error}; send it again later", headers={"Retry-After": "5"}) from None
        if webhook.reason is not None:
            return "ignored"
        if placed is Placement.STORED:  # the drainer wakes a worker for a spooled webhook
            self._wake(connection)
        return "accepted"

    async def _read(self, connection: str, secret: str, request: Request) -> AcceptedWebhook:
        target = self._authorize(connection, secret, request)
        packet = await payload.read(request)
        try:
            found = target.webhooks.read(payload.decode(packet), target.options)
        except contract.MalformedWebhookError as error:
            raise ApiError(400, "malformed", str(error)) from None
        if isinstance(found, contract.Ignored):
            return AcceptedWebhook(connection, packet, reason=found.reason)
        return AcceptedWebhook(connection, packet, resource=found.resource, key=found.key)

    def _authorize(self, connection: str, secret: str, request: Request) -> _WebhookConnection:
        if request.method == "HEAD":  # Starlette allows HEAD wherever GET is
            raise ApiError(405, "method_not_allowed", "a webhook is GET or POST", headers={"Allow": "GET, POST"})
        target = self._connections.get(connection)
        if target is None:
            raise ApiError(404, "unknown_connection", "no connection of this name takes webhooks")
        peer = None if request.client is None else request.client.host
        sender = client_address.sender(peer, request.headers, proxies=self._proxies)
        if sender not in target.senders:
            nearest, forwarded = client_address.address(peer or ""), "X-Forwarded-For" in request.headers
            self._refusals.sender(connection, sender=sender, peer=nearest, forwarded=forwarded)
            raise ApiError(403, "sender", "webhooks are not taken from this address; see webhook_sources")
        if not target.has_secret(secret):
            self._refusals.secret(connection, sender=sender)
            raise ApiError(403, "secret", "the address of this webhook is not complete or not right")
        return target


class WebhookFastPath:
    """ASGI middleware that answers accepted webhooks itself, past the app's routing and other middleware.

    They are nearly all requests. Every other request and every error goes through the app, so that errors are answered
    in one place.
    """

    def __init__(self, app: ASGIApp, *, webhooks: WebhookRoutes, root_path: str) -> None:
        self._app = app
        self._webhooks = webhooks
        self._root = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept a webhook, or pass the request on."""
        connection, secret = self._parse(scope)
        if connection not in self._webhooks:
            await self._app(scope, receive, send)
            return
        try:
            await self._webhooks.accept(connection, secret, Request(scope, receive))
        except Exception as error:  # noqa: BLE001 - raised again by the route, whose handlers answer it
            await self._app({**scope, _ERROR: error}, receive, send)
        else:
            await _ACCEPTED(scope, receive, send)

    def _parse(self, scope: Scope) -> tuple[str, str]:
        """The connection and the secret in the path; `("", "")` if the path is not below `/hooks/`."""
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            return "", ""
        path: str = scope["path"]
        if self._root and path.startswith(f"{self._root}/"):
            path = path[len(self._root) :]
        if not path.startswith("/hooks/"):
            return "", ""
        connection, _, secret = path[len("/hooks/") :].partition("/")
        return connection, secret


def _webhook_connections(settings: Settings) -> dict[str, _WebhookConnection]:
    found = {}
    for name, options in settings.connections.items():
        webhooks = discovery.systems()[options.system].webhooks
        if webhooks is not None and isinstance(options, SendsWebhooks):
            found[name] = _WebhookConnection(options, webhooks, NetworkAllowList(options.webhook_sources))
    return found
