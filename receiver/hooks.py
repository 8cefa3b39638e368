"""Webhooks: who may send, what is accepted, and the 200 that is only given once the notice is durable."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.notices import Letter
from models.settings import Webhooked
from receiver import packets, senders
from receiver.letterbox import NotDurable
from receiver.refusals import Refusal
from receiver.senders import Senders
from workers.connectors import contract, discovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter
    from starlette.requests import Request

    from models.settings import Settings
    from receiver.letterbox import Letterbox


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
    """`/hooks/{connection}[/{secret}]`. `stored`: told the connection once one of its notices is durable.

    `outcomes`: a counter by connection and outcome; an unknown connection's name is never a label.
    """

    def __init__(
        self, settings: Settings, *, letterbox: Letterbox, stored: Callable[[str], None], outcomes: Counter
    ) -> None:
        self._proxies = Senders(settings.receiver.trusted_proxies)
        self._letterbox = letterbox
        self._stored = stored
        self._outcomes = outcomes
        self._hooks = _hooks(settings)

    @property
    def routes(self) -> list[Route]:
        """To be mounted at `/hooks`."""
        return [
            Route("/{connection}", self.receive, methods=["GET", "POST"]),
            Route("/{connection}/{secret:path}", self.receive, methods=["GET", "POST"]),
        ]

    async def receive(self, request: Request) -> Response:
        """Take one webhook and count what became of it."""
        name = request.path_params["connection"]
        try:
            outcome = await self._receive(name, request)
        except Refusal as refusal:
            self._outcomes.labels(name if name in self._hooks else "", refusal.code).inc()
            raise
        self._outcomes.labels(name, outcome).inc()
        return JSONResponse({"ok": True})

    async def _receive(self, name: str, request: Request) -> str:
        letter = await self._judge(name, request)
        try:
            await self._letterbox.keep(letter)
        except NotDurable as error:
            raise Refusal(503, "not_durable", f"{error}; send it again later", headers={"Retry-After": "5"}) from None
        if letter.reason is not None:
            return "ignored"
        self._stored(name)
        return "accepted"

    async def _judge(self, name: str, request: Request) -> Letter:
        hook = self._admit(name, request)
        packet = await packets.text(request)
        try:
            found = hook.notices.read(packets.decode(packet), hook.options)
        except contract.Malformed as error:
            raise Refusal(400, "malformed", str(error)) from None
        if isinstance(found, contract.Ignored):
            return Letter(name, packet, reason=found.reason)
        return Letter(name, packet, resource=found.resource, key=found.key)

    def _admit(self, name: str, request: Request) -> _Hook:
        if request.method == "HEAD":  # Starlette lets it in beside GET, but there is nothing to look at
            raise Refusal(405, "method_not_allowed", "a webhook is GET or POST", headers={"Allow": "GET, POST"})
        hook = self._hooks.get(name)
        if hook is None:
            raise Refusal(404, "unknown_connection", "no connection of this name takes webhooks")
        peer = None if request.client is None else request.client.host
        if senders.sender(peer, request.headers, proxies=self._proxies) not in hook.senders:
            raise Refusal(403, "sender", "webhooks are not taken from this address; see webhook_sources")
        if not hook.opens(request.path_params.get("secret", "")):
            raise Refusal(403, "secret", "the address of this webhook is not complete or not right")
        return hook


def _hooks(settings: Settings) -> dict[str, _Hook]:
    found = {}
    for name, options in settings.connections.items():
        notices = discovery.systems()[options.system].notices
        if notices is not None and isinstance(options, Webhooked):
            found[name] = _Hook(options, notices, Senders(options.webhook_sources))
    return found
