"""A refused sender is named in the log once, with what to set: the caller is often a proxy of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from receiver.http.client_address import NetworkAllowList, address
from receiver.webhooks.refusal_log import RefusalLog
from tests.receiver import samples

if TYPE_CHECKING:
    from models.db.database import Database
    from tests.receiver.conftest import Open


@pytest.mark.parametrize(
    ("proxies", "headers", "sender", "remedy"),
    [
        ("", {}, "127.0.0.1", "add it to webhook_sources in [connections.shop]"),
        ("", {"X-Forwarded-For": samples.VENDOR}, "127.0.0.1", "add its address to trusted_proxies in [receiver]"),
        ("127.0.0.1", {}, "127.0.0.1", "sent no X-Forwarded-For"),
        ("127.0.0.1", {"X-Forwarded-For": "rubbish"}, "unknown", "holds no address"),
        ("127.0.0.1", {"X-Forwarded-For": "6.6.6.6"}, "6.6.6.6", "add it to webhook_sources in [connections.shop]"),
    ],
)
def test_a_refused_sender_is_logged_once_with_what_to_set(
    sqlite: Database, opened: Open, proxies: str, headers: dict[str, str], sender: str, remedy: str
) -> None:
    receiver = f'trusted_proxies = ["{proxies}"]' if proxies else ""
    with (
        structlog.testing.capture_logs() as logs,
        opened(sqlite, receiver=receiver, shop=f'webhook_sources = ["{samples.VENDOR}"]') as client,
    ):
        for _ in range(3):
            samples.refused((403, "sender"), client.get("/hooks/shop", headers=headers))
    (logged,) = [entry for entry in logs if entry["event"] == "webhook refused"]
    assert ("shop", sender, "127.0.0.1") == (logged["connection"], logged["sender"], logged["peer"])
    assert remedy in logged["remedy"]


def test_a_wrong_secret_is_logged_without_it(sqlite: Database, opened: Open) -> None:
    shop = 'webhook_sources = ["127.0.0.1"]\nwebhook_secret = "s3cret"'
    with structlog.testing.capture_logs() as logs, opened(sqlite, shop=shop) as client:
        for secret in ("wr0ng", "wr0nger"):
            samples.refused((403, "secret"), client.get(f"/hooks/shop/{secret}"))
    (logged,) = [entry for entry in logs if entry["event"] == "webhook refused"]
    assert "end in webhook_secret of [connections.shop]" in logged["remedy"]
    assert "wr0ng" not in str(logs)
    assert "s3cret" not in str(logs)


def test_strangers_of_many_addresses_do_not_fill_the_log() -> None:
    refusals = RefusalLog(NetworkAllowList([]))
    with structlog.testing.capture_logs() as logs:
        for last in range(65_536):
            stranger = address(f"2001:db8::{last:x}")
            refusals.sender("shop", sender=stranger, peer=stranger, forwarded=False)
    assert "further refusals are only counted" == logs[-1]["event"]
    assert 101 == len(logs)
