"""Tells the operator who was refused, and what to set: the caller, often a proxy of ours, only gets a 403."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from receiver.http.client_address import Address, NetworkAllowList

log = structlog.get_logger(__name__)

_MOST = 100
"""Lines of one process: anyone can send from any number of addresses, and none of them may fill the log."""


class RefusalLog:
    """Logs each refused sender once for each connection."""

    def __init__(self, proxies: NetworkAllowList) -> None:
        self._proxies = proxies
        self._logged: set[tuple[str, str, str]] = set()

    def sender(self, connection: str, *, sender: Address | None, peer: Address | None, forwarded: bool) -> None:
        """A webhook from an address outside `webhook_sources`. `forwarded`: it came with X-Forwarded-For."""
        remedy = self._remedy(connection, sender=sender, peer=peer, forwarded=forwarded)
        self._log(connection, sender=str(sender or "unknown"), peer=str(peer or "unknown"), remedy=remedy)

    def secret(self, connection: str, *, sender: Address | None) -> None:
        """A webhook from an allowed address, without the connection's secret."""
        remedy = f"let the webhook's address at the vendor end in webhook_secret of [connections.{connection}]"
        self._log(connection, sender=str(sender), peer="", remedy=remedy)

    def _remedy(self, connection: str, *, sender: Address | None, peer: Address | None, forwarded: bool) -> str:
        if peer not in self._proxies:
            if forwarded:
                return "it forwards for others: if it is your proxy, add its address to trusted_proxies in [receiver]"
            return f"if the vendor sends from it, add it to webhook_sources in [connections.{connection}]"
        if sender is None:
            return "a trusted proxy sent an X-Forwarded-For that holds no address: let it write the caller's address"
        if not forwarded:
            return "a trusted proxy sent no X-Forwarded-For: let it write the caller's address there"
        return f"if the vendor sends from it, add it to webhook_sources in [connections.{connection}]"

    def _log(self, connection: str, *, sender: str, peer: str, remedy: str) -> None:
        known = (connection, sender, peer)
        if known in self._logged or len(self._logged) >= _MOST:
            return
        self._logged.add(known)
        log.warning("webhook refused", connection=connection, sender=sender, peer=peer, remedy=remedy)
        if len(self._logged) == _MOST:
            log.warning("further refusals are only counted", metric="erpmirror_webhooks_total")
