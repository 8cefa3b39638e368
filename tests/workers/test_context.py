"""A connection's context: its streams, the connections that share its account, and its secrets."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from models import status
from tests.workers import vendor_harness
from workers import configuration, context

if TYPE_CHECKING:
    from tests.workers.conftest import Connect


def test_an_unknown_connection_is_named_with_the_configured_ones(connect: Connect) -> None:
    with connect() as six, pytest.raises(LookupError, match=r'"seven".*configured: six'):
        context.connection_context(six.database, six.settings, "seven")


def test_there_is_a_context_for_every_connection(connect: Connect) -> None:
    with connect(also={"seven": {}}) as six:
        assert ["six", "seven"] == [each.name for each in context.all_contexts(six.database, six.settings)]


def test_connections_with_different_logins_share_no_account(connect: Connect) -> None:
    with connect(also={"same": {}, "other": {"api_key": "other"}}) as six:
        assert ["same"] == [each.name for each in six.context.same_account]
        assert six.context.gate.account != context.connection_context(six.database, six.settings, "other").gate.account


def test_a_trailing_slash_makes_no_other_account(connect: Connect) -> None:
    with connect() as six:
        url = six.settings.connections["six"].url
    assert not url.endswith("/")


def test_a_resource_that_left_the_configuration_is_retired_and_not_asked(connect: Connect) -> None:
    with connect(kinds={"goods": {}, "orders": {}}) as six:
        six.vendor.objects["orders"]["1"] = {"v": 1}
        six.work()
        file = six.settings.file
        text = file.read_text(encoding="utf-8").replace(', \\"orders\\": {}', "")
        file.write_text(text, encoding="utf-8")
        fewer = configuration.load(file)
        context.sync_streams(six.database, fewer)
        assert {"goods": "open", "orders": "retired"} == {
            row.resource: row.state for row in status.resources(six.database)
        }
        smaller = vendor_harness.Harness(six.database, fewer, six.vendor, six.clock)
        smaller.vendor.asked.clear()
        smaller.change("orders", full_due_at=six.clock.now)
        smaller.work()
        assert [] == smaller.vendor.asked
        assert {"1"} == six.live("orders").keys(), "its rows are not touched"


@pytest.mark.parametrize("key", ["k-1", "with space & sign", "a/b?c=d"])
def test_secrets_are_masked_as_they_are_and_as_an_address_writes_them(connect: Connect, key: str) -> None:
    with connect(api_key=key) as six:
        written = quote(key, safe="")
        assert "it was *** or *** here" == six.context.redact_text(f"it was {key} or {written} here")


def test_settings_that_are_shown_show_no_secret(connect: Connect) -> None:
    with connect() as six:
        assert "very-secret" not in repr(six.context)
        assert "very-secret" not in repr(six.settings)


def test_a_context_that_keeps_its_client_leaves_it_open(connect: Connect) -> None:
    with connect() as six:
        lasting = context.connection_context(six.database, six.settings, "six", keeps_client=True)
        clients = []
        for _ in range(2):
            with lasting.work_session() as session:
                clients.append(session.client)
        assert clients[0] is clients[1]
        with six.context.work_session() as first, six.context.work_session() as second:
            assert first.client is not second.client


def test_after_a_session_that_broke_off_a_new_client_is_opened(connect: Connect) -> None:
    with connect() as six:
        lasting = context.connection_context(six.database, six.settings, "six", keeps_client=True)
        clients = []
        with suppress(TimeoutError), lasting.work_session() as session:
            clients.append(session.client)
            raise TimeoutError
        with lasting.work_session() as session:
            clients.append(session.client)
        assert clients[0] is not clients[1]
