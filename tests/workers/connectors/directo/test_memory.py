from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.serving import served
from tests.workers.connectors.directo.conftest import client, options
from workers.connectors.directo import resources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

RECORDS = 10_000
NAME = "x" * 1500


def large_json() -> Iterator[str]:
    yield "["
    for start in range(0, RECORDS, 100):
        records = (f'{{"code":"{number}","name":"{NAME}"}}' for number in range(start, start + 100))
        yield ("," if start else "") + ",".join(records)
    yield "]"


def large_xml() -> Iterator[str]:
    yield "<items>"
    for start in range(0, RECORDS, 100):
        yield "".join(f'<item code="{number}" name="{NAME}"/>' for number in range(start, start + 100))
    yield "</items>"


def answer(request: Request) -> StreamingResponse:
    as_xml = request.headers["Accept"] == "application/xml"
    return StreamingResponse(large_xml() if as_xml else large_json(), media_type=request.headers["Accept"])


@pytest.mark.parametrize("wanted", ["json", "xml"])
def test_a_large_reply_is_never_all_in_memory(wanted: str) -> None:
    with served(Starlette(routes=[Route("/v1/items", answer)])) as url:
        opened, items = client(url, format=wanted), resources.catalogue(options(url))["items"]
        tracemalloc.start()
        try:
            received, largest = 0, 0
            for chunk in opened.list(items, None):
                received += len(chunk.snapshots)
                largest = max(largest, len(chunk.snapshots))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            opened.close()
    assert (RECORDS, 500) == (received, largest)
    assert peak < RECORDS * len(NAME) / 3
