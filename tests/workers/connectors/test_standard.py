"""What the contract promises, proved for every system that is found and for each resource of its sandbox."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr, ValidationError
from starlette.responses import Response

from models import exact, records
from models.values import Chunk, Kind, Snapshot, Tombstone
from tests.mirroring import mirrored
from tests.serving import served
from workers.connectors import discovery
from workers.connectors.contract import Wire
from workers.errors import Fate, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

    from models.database import Database
    from workers.connectors.contract import Client, Connection, Resource

SYSTEMS = [name for name, system in discovery.systems().items() if system.has_sandbox]
_MOST_IN_A_CHUNK = 1000
_MOST_REQUESTS = 50


class Sessions:
    """The contract's sessions, in memory."""

    def __init__(self) -> None:
        self.session: bytes | None = None

    def get(self) -> bytes | None:
        return self.session

    def put(self, session: bytes, until: datetime) -> None:  # noqa: ARG002 - it never ends here
        self.session = session

    def drop(self) -> None:
        self.session = None


class Proxy:
    """Stands between a client and the sandbox; `fault` decides what becomes of each answer of status 2xx."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.fault: Callable[[bytes], Response] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.fault is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = bytearray()

        async def kept(message: Message) -> None:
            await asyncio.sleep(0)
            body.extend(message.get("body", b""))

        await self.app(scope, receive, kept)
        await self.fault(bytes(body))(scope, receive, send)


@dataclass
class Stand:
    """A system's sandbox as it is served, behind the proxy, and clients of it."""

    system: Any
    sandbox: Any
    proxy: Proxy
    options: Connection

    @property
    def resources(self) -> tuple[Resource, ...]:
        found: tuple[Resource, ...] = self.system.resources(self.options)
        return found

    @contextmanager
    def client(self, options: Connection | None = None) -> Iterator[Client]:
        made = self.system.client(options or self.options, Wire(alive=lambda: None, sessions=Sessions()))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(params=SYSTEMS)
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    system = discovery.systems()[request.param]
    app = system.sandbox(seed=11)
    proxy = Proxy(app)
    with served(proxy) as url:  # type: ignore[arg-type]
        options = system.options.model_validate({"name": "it", "url": url} | app.state.sandbox.settings())
        yield Stand(system, app.state.sandbox, proxy, options)


def _given(stand: Stand) -> dict[str, Any]:
    return {"name": "it", "url": stand.options.url} | stand.sandbox.settings()


def _whole_run(client: Client, resource: Resource) -> list[Chunk]:
    chunks, cursor = [], None
    for _ in range(_MOST_REQUESTS):
        reply = list(client.list(resource, cursor))
        assert [] == [chunk for chunk in reply[:-1] if chunk.end is not None], "only a reply's last chunk has an end"
        assert reply[-1].end is not None
        chunks += reply
        if not reply[-1].end.more:
            return chunks
        cursor = reply[-1].end.cursor
    raise AssertionError(f"{resource.name} never ends")


def test_options_refuse_what_they_do_not_know(stand: Stand) -> None:
    with pytest.raises(ValidationError, match="no_such_key"):
        stand.system.options.model_validate(_given(stand) | {"no_such_key": 1})


def test_the_login_identifies_the_account_and_is_shown_nowhere(stand: Stand) -> None:
    login = stand.options.login()
    assert login
    assert all(isinstance(word, str) and word for word in login)
    secrets = [value.get_secret_value() for _, value in stand.options if isinstance(value, SecretStr)]
    assert secrets, "what lets us in is a secret"
    assert not [secret for secret in secrets if secret in repr(stand.options) or secret in str(stand.options)]


def test_resources_have_unique_names_and_sane_bounds(stand: Stand) -> None:
    names = [resource.name for resource in stand.resources]
    assert sorted(set(names)) == sorted(names)
    for resource in stand.resources:
        assert resource.bound >= resource.full_every or resource.every is not None
        assert resource.full_every.total_seconds() >= 1
        assert resource.every is None or resource.every <= resource.bound
        for kinds in (*resource.shape.values(), *resource.hints.values()):
            assert set(kinds.values()) <= set(Kind)


def test_the_check_says_something_to_a_person(stand: Stand) -> None:
    with stand.client() as client:
        assert client.check()


def test_a_fetch_shows_what_is_true_and_a_tombstone_for_what_nobody_knows(stand: Stand) -> None:
    with stand.client() as client:
        for resource in (each for each in stand.resources if each.points):
            truth = stand.sandbox.truth(resource.name)
            assert truth, f"the sandbox has some {resource.name}"
            for key in sorted(truth)[:3]:
                found = client.fetch(resource, key)
                assert isinstance(found, Snapshot)
                assert (key, exact.canonical(truth[key])) == (found.key, exact.canonical(found.raw))
            unknown = _unlike(min(truth), truth)
            assert Tombstone(unknown) == client.fetch(resource, unknown)


def _unlike(key: str, known: dict[str, Any]) -> str:
    """A key of the same form that nobody has: its digits turned into nines, one by one, from the end."""
    letters = list(key)
    for place in [index for index, letter in enumerate(letters) if letter.isdigit()][::-1] or [len(letters) - 1]:
        letters[place] = "9"
        if "".join(letters) not in known:
            return "".join(letters)
    raise AssertionError(key)


def test_a_full_listing_names_everything_exactly_once_in_bounded_chunks(stand: Stand) -> None:
    with stand.client() as client:
        for resource in stand.resources:
            chunks = _whole_run(client, resource)
            keys = [row.key for chunk in chunks for row in chunk.snapshots]
            keys += [row.key for chunk in chunks for row in chunk.lines if not row.marked]
            truth = stand.sandbox.truth(resource.name)
            assert sorted(truth) == sorted(keys), resource.name
            assert [] == [row for chunk in chunks for row in chunk.unreadable], resource.name
            assert all(len(chunk.snapshots) + len(chunk.lines) <= _MOST_IN_A_CHUNK for chunk in chunks)
            end = chunks[-1].end
            assert end is not None
            assert end.complete == (resource.points or resource.unpaged), resource.name
            for snapshot in (row for chunk in chunks for row in chunk.snapshots):
                assert exact.canonical(truth[snapshot.key]) == exact.canonical(snapshot.raw)


def test_a_finished_runs_cursor_can_be_asked_from_as_long_as_ticks_exist(stand: Stand) -> None:
    with stand.client() as client:
        for resource in (each for each in stand.resources if each.every is not None):
            end = _whole_run(client, resource)[-1].end
            assert end is not None
            again = list(client.list(resource, end.cursor))
            assert again[-1].end is not None


def test_shapes_are_kinds(stand: Stand) -> None:
    with stand.client() as client:
        for resource in stand.resources:
            shape = client.shape(resource) if resource.described else None
            assert resource.described == (shape is not None)
            for kinds in (shape or {}).values():
                assert set(kinds.values()) <= set(Kind)


def test_projecting_is_pure(stand: Stand) -> None:
    for resource in stand.resources:
        for raw in stand.sandbox.truth(resource.name).values():
            before = deepcopy(raw)
            assert resource.project(raw) == resource.project(raw)
            assert before == raw


def _each_question(stand: Stand, options: Connection | None = None) -> Iterator[Fate]:
    """How a fetch, a listing and the check end."""
    for resource in stand.resources:
        key = next(iter(stand.sandbox.truth(resource.name)), "1")
        with stand.client(options) as client:
            with pytest.raises(Fate) as listed:
                list(client.list(resource, None))
            yield listed.value
        if resource.points:
            with stand.client(options) as client, pytest.raises(Fate) as fetched:
                client.fetch(resource, key)
            yield fetched.value
    with stand.client(options) as client, pytest.raises(Fate) as checked:
        client.check()
    yield checked.value


def test_a_wrong_login_is_set_aside_and_told_nobody(stand: Stand) -> None:
    wrong = {
        name: "wrong-0-login"
        for name in type(stand.options).model_fields
        if isinstance(getattr(stand.options, name), SecretStr) and name in _given(stand)
    }
    options = stand.system.options.model_validate(_given(stand) | wrong)
    for fate in _each_question(stand, options):
        assert isinstance(fate, SetAside), fate
        assert "wrong-0-login" not in str(fate)


def test_a_vendor_who_is_away_is_tried_later(stand: Stand) -> None:
    away = stand.options.model_copy(update={"url": "http://127.0.0.1:9"})
    for fate in _each_question(stand, away):
        assert isinstance(fate, TryLater), fate


def _half(body: bytes) -> Response:
    return Response(body[: len(body) // 2], media_type="application/json")


FAULTS: dict[str, tuple[Callable[[bytes], Response], tuple[type[Fate], ...]]] = {
    "a proxy's page": (lambda _: Response("<html><body>Sorry</body></html>", media_type="text/html"), (TryLater,)),
    "half a body": (_half, (TryLater,)),
    "nothing": (lambda _: Response(b""), (TryLater,)),
    "500": (lambda _: Response("broken", 500), (TryLater,)),
    "429": (lambda _: Response("slow down", 429, {"Retry-After": "5"}), (TryLater,)),
    "a number": (lambda _: Response("7", media_type="application/json"), (SetAside, TryLater)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_is_none_proves_nothing_and_has_a_fate(stand: Stand, fault: str) -> None:
    stand.proxy.fault, expected = FAULTS[fault]
    for fate in _each_question(stand):
        assert isinstance(fate, expected), fate


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_mirrored_survives_export_and_rebuild(sqlite: Database, tmp_path: Path, system: str) -> None:
    with mirrored(sqlite, tmp_path, **{system: {"seed": 11}}) as mirror:
        mirror.work()
        desk = mirror.desk(system)
        for resource in desk.resources.values():
            target = desk.target(resource)
            records.rebuild(sqlite, target, progress=lambda _: None)
        assert {} == mirror.differences()
