from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Mount, Route

from receiver import app
from receiver.api.openapi import DESCRIPTION
from tests.receiver.wakers import RecordingWaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from starlette.routing import BaseRoute

    from models.db.database import Database
    from models.settings.load import Settings
    from tests.receiver.conftest import Open

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def operations(routes: Iterable[BaseRoute], below: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route of the app. HEAD comes with GET and is not counted."""
    for route in routes:
        if isinstance(route, Mount):
            yield from operations(route.routes, below + route.path)
        else:
            assert isinstance(route, Route)
            path = re.sub(r":\w+}", "}", below + route.path)
            yield from ((method, path) for method in (route.methods or set()) - {"HEAD"})


def test_every_route_of_the_app_is_described_and_nothing_else_is(
    sqlite: Database, configure: Callable[..., Settings]
) -> None:
    existing = operations(app.create_app(configure(sqlite.url), waker=RecordingWaker()).routes)
    described = [(name.upper(), path) for path, item in DESCRIPTION["paths"].items() for name in METHODS & item.keys()]
    assert sorted(existing) == sorted(described)


def test_every_name_in_a_path_is_a_parameter(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        page = client.get("/openapi.json").json()
    for path, item in page["paths"].items():
        named = [_found(page, each["$ref"])["name"] for each in item.get("parameters", [])]
        assert re.findall(r"{(\w+)}", path) == named


@pytest.mark.parametrize(("receiver", "address"), [("", "/"), ('root_path = "/erp/mirror/"', "/erp/mirror")])
def test_the_description_names_the_receivers_root_path(
    sqlite: Database, opened: Open, receiver: str, address: str
) -> None:
    with opened(sqlite, receiver=receiver) as client:
        page = client.get("/openapi.json").json()
    assert [{"url": address}] == page["servers"]
    assert json.loads(json.dumps(DESCRIPTION)) == {key: page[key] for key in page if key != "servers"}


def test_every_referenced_component_exists_and_every_component_is_referenced() -> None:
    referenced = set(_references(DESCRIPTION))
    components = DESCRIPTION["components"]
    existing = {
        f"#/components/{kind}/{name}" for kind in components if kind != "securitySchemes" for name in components[kind]
    }
    assert existing == referenced


def test_only_webhooks_and_liveness_need_no_token_and_commands_need_one_of_their_own() -> None:
    assert [{"token": []}] == DESCRIPTION["security"]
    others = {
        path: item[name]["security"]
        for path, item in DESCRIPTION["paths"].items()
        for name in METHODS & item.keys()
        if "security" in item[name]
    }
    without_token = {path for path, security in others.items() if not security}
    assert {"/hooks/{connection}", "/hooks/{connection}/{secret}", "/livez"} == without_token
    assert {"/commands/{connection}", "/commands/{connection}/{id}"} == others.keys() - without_token
    assert [[{"commands_token": []}]] * 2 == [each for each in others.values() if each]


def test_every_error_has_the_same_schema() -> None:
    shapes = [answer["content"] for answer in DESCRIPTION["components"]["responses"].values()]
    assert [{"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}] * len(shapes) == shapes


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _found(page: dict[str, Any], reference: str) -> dict[str, Any]:
    found: Any = page
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    assert isinstance(found, dict)
    return found
