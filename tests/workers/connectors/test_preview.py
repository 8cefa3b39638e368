"""What `erpmirror command --dry-run` prints is what is sent, less the secrets: for each action of each system."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from starlette.responses import Response

from workers.connectors import discovery
from workers.errors import VendorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.connectors.sandbox_harness import SandboxHarness

SYSTEMS = [name for name, system in discovery.systems().items() if system.actions is not None]


def _values(body: str) -> Any:
    return json.loads(body) if body else ""


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_preview_of_each_action_is_what_arrives(served: Callable[[str], SandboxHarness], system: str) -> None:
    harness = served(system)
    actions = harness.system.actions(harness.options)
    secrets = [each for each in harness.options.login() if each]
    for action in actions:
        with harness.client() as client:
            client.check()
            preview: Any = client
            shown = preview.preview(action, dict(action.example))
            assert not [each for each in secrets if each in json.dumps(shown, default=str)], action.full_name
            with harness.proxy.spoiling(lambda _: Response("{}")), suppress(VendorError):
                preview.send(action, dict(action.example))
        arrived = harness.proxy.last_request
        for secret in secrets:
            arrived = arrived.replace(secret, "***")
        url = urlsplit(shown["url"])
        place = f"{url.path}?{url.query} "
        assert place in arrived, action.full_name
        sent = json.dumps(_values(arrived.partition(place)[2]))
        assert sent == json.dumps(shown.get("body", ""), default=float), action.full_name
