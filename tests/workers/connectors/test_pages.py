"""A JSON page is split without decoding its objects; an unusual page is decoded object by object."""

from __future__ import annotations

from typing import Any

import pytest

from models import exact
from models.values import Snapshot, UndecodedSnapshot
from workers.connectors import pages
from workers.connectors.http import Reply
from workers.errors import TryLater


def page(body: str, key: str = "id") -> pages.Page:
    return pages.split_page(Reply(200, body.encode(), None), "items", key)


def test_objects_stay_bytes_and_the_other_fields_are_decoded() -> None:
    found = page('{"next": "/2", "items": [{"id": "7", "n": 1.50}, {"n": {"id": 0}, "id": 8}], "total": 2.0}')
    assert [
        UndecodedSnapshot("7", b'{"id": "7", "n": 1.50}'),
        UndecodedSnapshot("8", b'{"n": {"id": 0}, "id": 8}'),
    ] == found.objects
    assert "1.5" == str(found.objects[0].raw["n"])
    assert {"next": "/2", "total": exact.loads("2.0")} == found.rest
    assert not found.unreadable


@pytest.mark.parametrize("odd", ['{"n": 1}', '{"id": null}', '{"id": 1.5}', '{"id": true}', '{"id": ["a"]}', "7", "[]"])
def test_an_object_without_a_usable_key_is_unreadable_and_the_others_are_not(odd: str) -> None:
    found = page(f'{{"items": [{{"id": "7"}}, {odd}, {{"id": 8}}]}}')
    assert [Snapshot("7", {"id": "7"}), Snapshot("8", {"id": 8})] == found.objects
    (unreadable,) = found.unreadable
    raw: Any = exact.loads(odd)
    assert (raw if isinstance(raw, dict) else {"item": raw}) == unreadable.raw


def test_objects_that_the_fast_decoder_refuses_are_still_read() -> None:
    (found,) = page('{"items": [{"id": "\\ud800", "n": 1}]}').objects
    assert ("\ud800", {"id": "\ud800", "n": 1}) == (found.key, found.raw)
    assert [("7", 10**30)] == [
        (item.key, item.raw["n"]) for item in page(f'{{"items":[{{"id":7,"n":{10**30}}}]}}').objects
    ]


@pytest.mark.parametrize("body", ["{}", '{"items": null}', '{"items": {"id": 1}}', "[]", "7", '{"items": []}'])
def test_a_page_without_a_list_has_no_objects(body: str) -> None:
    assert ([], []) == (list(page(body).objects), list(page(body).unreadable))


@pytest.mark.parametrize("body", ["", "<html>", '{"items": [{"id": 1}', '{"items": [{"id": 1}], "next": nothing}'])
def test_a_cut_or_malformed_page_is_tried_again(body: str) -> None:
    with pytest.raises(TryLater, match="not JSON"):
        page(body)
