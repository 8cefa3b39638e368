"""Webhooks: who may send, what is accepted, and the 200 that is only given once the notice is durable."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.notices import Letter
from models.settings import Webhooked
from receiver import packets, senders
from receiver.letterbox import Kept, NotDurable
from receiver.refusals import Refusal
from receiver.senders import Senders
from workers.connectors import contract, discovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter
    from starlette.types import ASGIApp, Receive, Scope, Send

    from models.settings import Settings
    from receiver.letterbox import Letterbox

_METHODS = ("GET", "POST")
_TAKEN = JSONResponse({"ok": True})
_ERROR = "erpmirror.error"
"""Where a scope holds what went wrong with a webhook that took the shortcut."""


@dataclass(frozen=True, slots=True)
class _Hook:
    """A connection that takes webhooks."""

    options: Webhooked
    notices: discovery.Notices
    senders: Senders

    def opens(self, secret: str) -> bool:
        """Whether the last part of the address is this connection's secret; a secret that nobody set opens nothing."""
        expected = self.options.webhook_secret
        text = "" if expected is None else expected.get_secret_value()
        return hmac.compare_digest(secret.encode(errors="surrogatepass"), text.encode())


class Hooks:
    """`/hooks/{connection}[/{secret}]`. `stored`: told the connection once one of its notices is in the database.

    `outcomes`: a counter by connection and outcome; an unknown connection's name is never a label.
    """

    def __init__(
        self, settings: Settings, *, letterbox: Letterbox, stored: Callable[[str], None], outcomes: Counter
    ) -> None:
        self._proxies = Senders(settings.receiver.trusted_proxies)
        self._letterbox = letterbox
        self._stored = stored
        self._outcomes = outcomes
        self._counts: dict[tuple[str, str], Callable[[], None]] = {}
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
        return _TAKEN

    async def take(self, name: str, secret: str, request: Request) -> None:
        """Take one webhook and count what became of it. Raises `Refusal`."""
        try:
            outcome = await self._take(name, secret, request)
        except Refusal as refusal:
            self._count(name if name in self._hooks else "", refusal.code)
            raise
        self._count(name, outcome)

    def _count(self, name: str, outcome: str) -> None:
        count = self._counts.get((name, outcome))
        if count is None:
            count = self._counts[name, outcome] = self._outcomes.labels(name, outcome).inc
        count()

    async def _take(self, name: str, secret: str, request: Request) -> str:
        letter = await self._judge(name, secret, request)
        try:
            place = await self._letterbox.keep(letter)
        except NotDurable as error:
            raise Refusal(503, "not_durable", f"{error}; send it again later", headers={"Retry-After": "5"}) from None
        if letter.reason is not None:
            return "ignored"
        if place is Kept.STORED:  # what waits in the spool is rung for when it is drained
            self._stored(name)
        return "accepted"

    async def _judge(self, name: str, secret: str, request: Request) -> Letter:
        hook = self._admit(name, secret, request)
        packet = await packets.text(request)
        try:
            found = hook.notices.read(packets.decode(packet), hook.options)
        except contract.Malformed as error:
            raise Refusal(400, "malformed", str(error)) from None
        if isinstance(found, contract.Ignored):
            return Letter(name, packet, reason=found.reason)
        return Letter(name, packet, resource=found.resource, key=found.key)

    def _admit(self, name: str, secret: str, request: Request) -> _Hook:
        if request.method == "HEAD":  # Starlette lets it in beside GET, but there is nothing to look at
            raise Refusal(405, "method_not_allowed", "a webhook is GET or POST", headers={"Allow": "GET, POST"})
        hook = self._hooks.get(name)
        if hook is None:
            raise Refusal(404, "unknown_connection", "no connection of this name takes webhooks")
        peer = None if request.client is None else request.client.host
        if senders.sender(peer, request.headers, proxies=self._proxies) not in hook.senders:
            raise Refusal(403, "sender", "webhooks are not taken from this address; see webhook_sources")
        if not hook.opens(secret):
            raise Refusal(403, "secret", "the address of this webhook is not complete or not right")
        return hook


class Shortcut:
    """ASGI middleware: the way of nearly all requests, past routes and middlewares that a webhook needs none of.

    Whatever is not simply taken goes the ordinary way, where it is answered as everything else.
    """

    def __init__(self, app: ASGIApp, *, hooks: Hooks, root_path: str) -> None:
        self._app = app
        self._hooks = hooks
        self._root = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a webhook, or pass on."""
        name, secret = self._named(scope)
        if name not in self._hooks:
            await self._app(scope, receive, send)
            return
        try:
            await self._hooks.take(name, secret, Request(scope, receive))
        except Exception as error:  # noqa: BLE001 - raised again by the route, where its answer is known
            await self._app({**scope, _ERROR: error}, receive, send)
        else:
            await _TAKEN(scope, receive, send)

    def _named(self, scope: Scope) -> tuple[str, str]:
        """The connection and what follows it; nobody, if the address is not a webhook's."""
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            return "", ""
        path: str = scope["path"]
        if self._root and path.startswith(f"{self._root}/"):
            path = path[len(self._root) :]
        if not path.startswith("/hooks/"):
            return "", ""
        name, _, secret = path[len("/hooks/") :].partition("/")
        return name, secret


def _hooks(settings: Settings) -> dict[str, _Hook]:
    found = {}
    for name, options in settings.connections.items():
        notices = discovery.systems()[options.system].notices
        if notices is not None and isinstance(options, Webhooked):
            found[name] = _Hook(options, notices, Senders(options.webhook_sources))
    return found
