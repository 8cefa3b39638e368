"""The decoding of Dilovod's webhook."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.workers.connectors.dilovod.conftest import made_options
from workers.connectors.contract import Ignored, MalformedWebhookError, ObjectRef
from workers.connectors.dilovod import webhooks

ORDER = "1109100000001038"


def packet(object_name: Any = "documents.saleOrder", key: Any = ORDER, action: Any = "objectChanged") -> dict[str, Any]:
    return {"action": action, "params": {"objectName": object_name, "id": key}}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (packet(), ObjectRef("documents.saleOrder", ORDER)),
        (packet(key=int(ORDER)), ObjectRef("documents.saleOrder", ORDER)),
        (packet("catalogs.goods", "1100300000000003"), ObjectRef("catalogs.goods", "1100300000000003")),
        (packet() | {"more": 1}, ObjectRef("documents.saleOrder", ORDER)),
        (packet("catalogs.firms", "1100400000001001"), Ignored("catalogs.firms is not configured")),
        (packet("documents.purchase", "1999900000001001"), Ignored("documents.purchase is not configured")),
        (packet("balanceRegisters.goods"), None),
        (packet(action="objectRemoved"), Ignored("unknown action 'objectRemoved'")),
        ({"action": "ping"}, Ignored("unknown action 'ping'")),
        ({"action": "\ud800"}, Ignored(r"unknown action '\ud800'")),
    ],
)
def test_a_well_formed_packet_is_accepted_or_ignored(sent: Any, read: ObjectRef | Ignored | None) -> None:
    if read is None:
        with pytest.raises(MalformedWebhookError, match="contradict"):
            webhooks.read(sent, made_options())
    else:
        assert read == webhooks.read(sent, made_options())


def test_a_webhook_of_a_register_is_ignored() -> None:
    sent = packet("balanceRegisters.goods", "1999900000001001")

    assert isinstance(webhooks.read(sent, made_options()), Ignored)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        "text",
        7,
        {},
        {"action": None},
        {"action": "objectChanged"},
        {"action": "objectChanged", "params": []},
        packet(key=None),
        packet(key=True),
        packet(key=""),
        packet(key="110910000000103"),
        packet(key="11091000000010380"),
        packet(key=-1109100000001038),
        packet(key=" 1109100000001038"),
        packet(key="1109100000001038\n"),
        packet(key="١١٠٩١٠٠٠٠٠٠٠١٠٣٨"),
        packet(key={"id": ORDER}),
        packet(object_name=None),
        packet(object_name=""),
        packet(object_name=["documents.saleOrder"]),
        packet(object_name="documents.saleOrder\x00"),
        packet(object_name="documents.\ud800"),
        packet(object_name="catalogs.goods"),
        packet(object_name="documents.purchase"),
    ],
)
def test_a_packet_that_dilovod_cannot_have_sent_is_malformed(sent: Any) -> None:
    with pytest.raises(MalformedWebhookError):
        webhooks.read(sent, made_options())


def test_an_id_that_is_a_json_number_with_a_point_is_the_id() -> None:
    assert webhooks.read(packet(), made_options()) == webhooks.read(packet(key=Decimal(f"{ORDER}.0")), made_options())
