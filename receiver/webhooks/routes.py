"""`/hooks`: who may send a webhook, what is accepted, and the 200 that is sent only once the webhook is durable."""

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
from receiver.webhooks.batcher import NotDurable, Placement
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
"""The key of the scope under which `Shortcut` passes an error on to the route."""


@dataclass(frozen=True, slots=True)
class _Hook:
    """A connection that takes webhooks."""

    options: SendsWebhooks
    webhooks: discovery.Webhooks
    senders: NetworkAllowList

    def accepts(self, secret: str) -> bool:
        """Whether the address ended in this connection's secret, or in nothing where none is configured."""
        expected = self.options.webhook_secret
        text = "" if expected is None else expected.get_secret_value()
        return hmac.compare_digest(secret.encode(errors="surrogatepass"), text.encode())


class Hooks:
    """`/hooks/{connection}[/{secret}]`. `wake` wakes a worker for the connection after the commit.

    `outcomes` counts by connection and outcome. The name of an unknown connection never becomes a label: anyone could
    make as many as it likes.
    """

    def __init__(
        self, settings: Settings, *, letterbox: WebhookBatcher, wake: Callable[[str], None], outcomes: Counter
    ) -> None:
        self._proxies = NetworkAllowList(settings.receiver.trusted_proxies)
        self._letterbox = letterbox
        self._wake = wake
        self._outcomes = outcomes
        self._counters: dict[tuple[str, str], Callable[[], None]] = {}
        self._hooks = _hooks(settings)

    def __contains__(self, name: object) -> bool:
        """Whether the connection takes webhooks."""
        return name in self._hooks

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
        await self.take(request.path_params["connection"], request.path_params.get("secret", ""), request)
        return _ACCEPTED

    async def take(self, connection: str, secret: str, request: Request) -> None:
        """Store one webhook and count its outcome. Raises `Refusal`."""
        try:
            outcome = await self._take(connection, secret, request)
        except ApiError as refusal:
            self._count(connection if connection in self._hooks else "", refusal.code)
            raise
        self._count(connection, outcome)

    def _count(self, connection: str, outcome: str) -> None:
        increment = self._counters.get((connection, outcome))
        if increment is None:
            increment = self._counters[connection, outcome] = self._outcomes.labels(connection, outcome).inc
        increment()

    async def _take(self, connection: str, secret: str, request: Request) -> str:
        webhook = await self._read(connection, secret, request)
        try:
            place = await self._letterbox.store(webhook)
        except NotDurable as error:
            raise ApiError(503, "not_durable", f"{error}; send it again later", headers={"Retry-After": "5"}) from None
        if webhook.reason is not None:
            return "ignored"
        if place is Placement.STORED:  # for what is in the spool, a worker is woken when it is drained
            self._wake(connection)
        return "accepted"

    async def _read(self, connection: str, secret: str, request: Request) -> AcceptedWebhook:
        hook = self._authorize(connection, secret, request)
        packet = await payload.text(request)
        try:
            found = hook.webhooks.read(payload.decode(packet), hook.options)
        except contract.Malformed as error:
            raise ApiError(400, "malformed", str(error)) from None
        if isinstance(found, contract.Ignored):
            return AcceptedWebhook(connection, packet, reason=found.reason)
        return AcceptedWebhook(connection, packet, resource=found.resource, key=found.key)

    def _authorize(self, connection: str, secret: str, request: Request) -> _Hook:
        if request.method == "HEAD":  # Starlette adds it to GET; a webhook has no page to describe
            raise ApiError(405, "method_not_allowed", "a webhook is GET or POST", headers={"Allow": "GET, POST"})
        hook = self._hooks.get(connection)
        if hook is None:
            raise ApiError(404, "unknown_connection", "no connection of this name takes webhooks")
        peer = None if request.client is None else request.client.host
        if client_address.sender(peer, request.headers, proxies=self._proxies) not in hook.senders:
            raise ApiError(403, "sender", "webhooks are not taken from this address; see webhook_sources")
        if not hook.accepts(secret):
            raise ApiError(403, "secret", "the address of this webhook is not complete or not right")
        return hook


class WebhookFastPath:
    """ASGI middleware that answers accepted webhooks itself: nearly all requests, and they need no other middleware.

    Every other request, and every error, goes through the app, so that errors are answered in one place.
    """

    def __init__(self, app: ASGIApp, *, hooks: Hooks, root_path: str) -> None:
        self._app = app
        self._hooks = hooks
        self._root = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a webhook, or pass the request on."""
        connection, secret = self._parse(scope)
        if connection not in self._hooks:
            await self._app(scope, receive, send)
            return
        try:
            await self._hooks.take(connection, secret, Request(scope, receive))
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


def _hooks(settings: Settings) -> dict[str, _Hook]:
    found = {}
    for name, options in settings.connections.items():
        webhooks = discovery.systems()[options.system].webhooks
        if webhooks is not None and isinstance(options, SendsWebhooks):
            found[name] = _Hook(options, webhooks, NetworkAllowList(options.webhook_sources))
    return found
