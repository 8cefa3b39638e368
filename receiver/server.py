"""How uvicorn must run the receiver: its defaults would believe proxies for us and print what strangers send."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, Any] = {
    "http": "h11",
    "proxy_headers": False,  # whom to believe is settled by trusted_proxies; uvicorn would rewrite the peer
    "access_log": False,  # it prints query strings, and a webhook's query is its payload
    "server_header": False,
    "h11_max_incomplete_event_size": 2 * 2**20,  # an oversized query gets our answer in JSON, not uvicorn's text
    "timeout_graceful_shutdown": 15,
}
"""For `uvicorn.run("receiver.app:create", factory=True, **OPTIONS)`."""
