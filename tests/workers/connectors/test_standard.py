"""The standard tests of a connector: the contract's promises, for every system and each resource of its sandbox."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr, ValidationError
from starlette.responses import Response, StreamingResponse

from models import columns, exact, migration, records, tables
from models.database import Database
from models.flattening import flatten
from models.redaction import redact
from models.values import Kind, Received, Snapshot, Tombstone, Withheld
from tests.mirroring import Mirror, mirrored
from tests.workers.connectors import stands
from tests.workers.connectors.stands import SYSTEMS, Question, Stand, by_resource, by_resource_and
from workers.connectors.contract import Connection
from workers.errors import Closed, Fate, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from models.schemas import Table
    from tests.workers.connectors.stands import Outcome, Spoil
    from workers.connectors.contract import Resource

_MOST_IN_A_CHUNK = 1000
_QUICK = timedelta(milliseconds=150)
_RETRY_AFTER = timedelta(seconds=5)
_CLOSED_PORT = "http://127.0.0.1:9"
LISTED = by_resource(of=lambda resource: not resource.handed_in)
HANDED_IN = by_resource(of=lambda resource: resource.handed_in)


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[str], Stand]]:
    """Returns a system's stand, for tests that only read."""
    with stands.stands() as of:
        yield of


@pytest.fixture(params=SYSTEMS)
def stand(request: pytest.FixtureRequest, served: Callable[[str], Stand]) -> Stand:
    return served(request.param)


def _given(stand: Stand) -> dict[str, Any]:
    settings: dict[str, Any] = stand.sandbox.settings()
    return {"name": "it", "url": stand.options.url} | settings


# Settings


def test_options_refuse_unknown_keys(stand: Stand) -> None:
    with pytest.raises(ValidationError, match="no_such_key"):
        stand.system.options.model_validate(_given(stand) | {"no_such_key": 1})


def test_the_login_identifies_the_account_and_is_in_no_repr(stand: Stand) -> None:
    login = stand.options.login()
    assert login
    assert all(isinstance(word, str) and word for word in login)
    secrets = stand.secrets()
    assert secrets, "the login has a secret"
    with stand.client() as client:
        shown = [repr(stand.options), str(stand.options), repr(client), str(client), repr(stand.resources)]
    assert [] == [secret for secret in sorted(secrets) if any(secret in each for each in shown)]


def test_resources_have_unique_names_and_consistent_intervals(stand: Stand) -> None:
    names = [resource.name for resource in stand.resources]
    assert sorted(set(names)) == sorted(names)
    for resource in stand.resources:
        assert resource.bound >= resource.full_every or resource.every is not None
        assert resource.full_every.total_seconds() >= 1
        assert resource.every is None or resource.every <= resource.bound
        for kinds in (*resource.shape.values(), *resource.hints.values()):
            assert set(kinds.values()) <= set(Kind)


def test_the_check_returns_a_line_for_a_person(stand: Stand) -> None:
    with stand.client() as client:
        result = client.check()
    assert result.says
    assert result.clock is None or result.clock.utcoffset() is not None


# Reads


@pytest.mark.parametrize(("system", "name"), by_resource())
def test_a_probe_returns_a_line_for_a_person(served: Callable[[str], Stand], system: str, name: str) -> None:
    stand = served(system)
    with stand.client() as client:
        assert client.probe(stand.resource(name))


@pytest.mark.parametrize(("system", "name"), by_resource(of=lambda resource: resource.points))
def test_a_fetch_returns_the_object_or_a_tombstone(served: Callable[[str], Stand], system: str, name: str) -> None:
    stand = served(system)
    resource = stand.resource(name)
    truth = stand.sandbox.truth(name)
    assert truth, f"the sandbox has some {name}"
    unknown = _unknown_key(min(truth), truth)
    with stand.client() as client:
        for key in sorted(truth)[:3]:
            found = client.fetch(resource, key)
            assert isinstance(found, Snapshot)
            assert (key, exact.canonical(truth[key])) == (found.key, exact.canonical(found.raw))
        assert Tombstone(unknown) == client.fetch(resource, unknown)


def _unknown_key(key: str, known: dict[str, Any]) -> str:
    """An unknown key of the same form: replaces digits by 9 from the end until no object has it."""
    letters = list(key)
    for place in [index for index, letter in enumerate(letters) if letter.isdigit()][::-1] or [len(letters) - 1]:
        letters[place] = "9"
        if "".join(letters) not in known:
            return "".join(letters)
    raise AssertionError(key)


@pytest.mark.parametrize(("system", "name"), LISTED)
def test_a_full_sync_lists_every_object_once_in_bounded_chunks(
    served: Callable[[str], Stand], system: str, name: str
) -> None:
    stand = served(system)
    resource, run = _listed(stand, name)
    chunks = [chunk for page in run for chunk in page.chunks]
    keys = [row.key for chunk in chunks for row in chunk.snapshots]
    keys += [row.key for chunk in chunks for row in chunk.lines if not row.marked]
    truth = stand.sandbox.truth(name)
    assert sorted(truth) == sorted(keys)
    assert [] == [row for chunk in chunks for row in chunk.unreadable]
    assert all(len(chunk.snapshots) + len(chunk.lines) <= _MOST_IN_A_CHUNK for chunk in chunks)
    end = run[-1].end
    assert end is not None
    assert end.complete == (resource.points or resource.unpaged)
    for snapshot in (row for chunk in chunks for row in chunk.snapshots):
        assert exact.canonical(truth[snapshot.key]) == exact.canonical(snapshot.raw)


def _listed(stand: Stand, name: str) -> tuple[Resource, list[Outcome]]:
    resource = stand.resource(name)
    return resource, stand.run(resource)


@pytest.mark.parametrize(("system", "name"), LISTED)
def test_only_the_last_chunk_of_a_page_has_an_end(served: Callable[[str], Stand], system: str, name: str) -> None:
    _, run = _listed(served(system), name)
    for page in run:
        *before, last = page.chunks
        assert [None] * len(before) == [chunk.end for chunk in before]
        assert last.end is not None
    assert [True] * (len(run) - 1) + [False] == [page.end.more for page in run if page.end is not None]
    assert [False] * (len(run) - 1) == [page.end.complete for page in run[:-1] if page.end is not None]


@pytest.mark.parametrize(("system", "name"), LISTED)
def test_the_same_cursor_returns_the_same_page_if_nothing_changed(
    served: Callable[[str], Stand], system: str, name: str
) -> None:
    stand = served(system)
    resource, _ = _listed(stand, name)
    for question in stand.listings(resource):
        first, second = stand.put(question), stand.put(question)
        assert (None, None) == (first.error, second.error)
        assert first.end is not None
        assert second.end is not None
        assert first.keys == second.keys
        assert (first.end.more, first.end.complete, first.end.warning) == (
            second.end.more,
            second.end.complete,
            second.end.warning,
        )


@pytest.mark.parametrize(("system", "name"), by_resource())
def test_keys_are_present_unique_and_made_of_their_fields(
    served: Callable[[str], Stand], system: str, name: str
) -> None:
    stand = served(system)
    resource = stand.resource(name)
    found = _snapshots(stand, resource)
    keys = [snapshot.key for snapshot in found]
    assert bool(stand.sandbox.truth(name)) == bool(keys)
    assert sorted(set(keys)) == sorted(keys)
    assert [] == [key for key in keys if not key.strip()]
    for snapshot in found:
        shown = resource.project(snapshot.raw)
        fields = [_plain(shown.get(each)) for each in resource.key]
        if fields and None not in fields:
            assert ":".join(str(each) for each in fields) == snapshot.key


def _snapshots(stand: Stand, resource: Resource) -> list[Snapshot | Received]:
    """Each object once: interpreted, listed, or fetched if the listing has only its key."""
    if resource.handed_in:
        documents = [stands.document(f"paper {number}") for number in range(3)]
        with stand.client() as client:
            return [client.interpret(resource, document) for document in documents]
    chunks = [chunk for page in stand.run(resource) for chunk in page.chunks]
    found = [row for chunk in chunks for row in chunk.snapshots]
    lines = [row for chunk in chunks for row in chunk.lines if not row.marked]
    fetched = [stand.put(Question("fetch", resource, line.key)).found for line in lines]
    return [*found, *(row for row in fetched if isinstance(row, Snapshot))]


def _plain(value: Any) -> Any:
    """A field's value in a key: of a link its id; None for anything but text and numbers."""
    value = value.get("id") if isinstance(value, dict) else value
    return None if isinstance(value, dict | list | bool) else value


def test_shapes_consist_of_kinds(stand: Stand) -> None:
    with stand.client() as client:
        for resource in stand.readable:
            shape = client.shape(resource) if resource.described else None
            assert resource.described == (shape is not None)
            for kinds in (shape or {}).values():
                assert set(kinds.values()) <= set(Kind)


def test_project_does_not_modify_its_argument(stand: Stand) -> None:
    for resource in stand.resources:
        for raw in stand.sandbox.truth(resource.name).values():
            before = deepcopy(raw)
            assert resource.project(raw) == resource.project(raw)
            assert before == raw


# Documents that are handed in


@pytest.mark.parametrize(("system", "name"), HANDED_IN)
def test_a_document_becomes_the_vendors_answer_under_the_documents_key(
    served: Callable[[str], Stand], system: str, name: str
) -> None:
    stand = served(system)
    document = stands.document("a paper of its own")
    with stand.client() as client:
        found = client.interpret(stand.resource(name), document)
    assert document.sha256 == found.key
    assert exact.canonical(stand.sandbox.truth(name)[document.sha256]) == exact.canonical(found.raw)


@pytest.mark.parametrize(("system", "name"), HANDED_IN)
def test_a_document_that_was_not_sent_may_be_sent_again(served: Callable[[str], Stand], system: str, name: str) -> None:
    stand = served(system)
    away = stand.options.model_copy(update={"url": _CLOSED_PORT})
    (question,) = stand.questions(stand.resource(name))
    error = stand.put(question, options=away).error
    assert isinstance(error, TryLater)
    assert error.refused


# Failing logins and vendors


def _errors_without_login(stand: Stand, options: Connection) -> Iterator[Fate]:
    """The error of the check and of every question, each with a client that is not logged in."""
    for resource in stand.resources:
        for question in stand.questions(resource):
            with stand.client(options) as client:
                outcome = stands.ask(client, question)
            assert outcome.error is not None, question
            yield outcome.error
    with stand.client(options) as client, pytest.raises(Fate) as checked:
        client.check()
    yield checked.value


def test_a_wrong_login_is_set_aside_and_not_quoted(stand: Stand) -> None:
    wrong = {
        name: "wrong-0-login"
        for name in type(stand.options).model_fields
        if isinstance(getattr(stand.options, name), SecretStr) and name in _given(stand)
    }
    options = stand.system.options.model_validate(_given(stand) | wrong)
    for error in _errors_without_login(stand, options):
        assert isinstance(error, SetAside), error
        assert "wrong-0-login" not in str(error) + repr(error)


def test_an_unreachable_vendor_is_tried_later(stand: Stand) -> None:
    away = stand.options.model_copy(update={"url": _CLOSED_PORT})
    for error in _errors_without_login(stand, away):
        assert isinstance(error, TryLater), error


# Faulty answers


@dataclass(frozen=True)
class Fault:
    """A spoiled answer, and the vendor errors that it may raise.

    - `found`: types that a fetch may return instead, because the status says so
    - `found_later`: the same for later requests of a fetch, which read parts of the object
    - `refused`: the vendor certainly did not process the request; `after`: the wait that it asks for
    - `timeout`: of the client in this case
    """

    spoil: Spoil
    errors: tuple[type[Fate], ...] = (TryLater,)
    found: tuple[type, ...] = ()
    found_later: tuple[type, ...] = ()
    refused: bool = False
    after: timedelta | None = None
    timeout: timedelta | None = None


def _status(status: int, **headers: str) -> Spoil:
    """A refusal in a form that no vendor documents."""
    return lambda _: Response('{"message": "injected"}', status, headers, "application/json")


def _page(status: int) -> Spoil:
    return lambda _: Response("<html><body>Sorry</body></html>", status, media_type="text/html")


def _half(body: bytes) -> Response:
    return Response(body[: len(body) // 2], media_type="application/json")


def _dripping(body: bytes) -> Response:
    async def drops() -> AsyncIterator[bytes]:
        yield body[: len(body) // 2]
        while True:
            await asyncio.sleep(0.02)
            yield b" "

    return StreamingResponse(drops(), media_type="application/json")


FAULTS = {
    "401": Fault(_status(401), (SetAside, TryLater)),
    "403": Fault(_status(403), (SetAside, TryLater)),
    "404": Fault(_status(404), (SetAside, TryLater), found=(Tombstone,), found_later=(Snapshot,)),
    "404-html": Fault(_page(404), (SetAside, TryLater)),
    "409": Fault(_status(409), (SetAside, TryLater), found=(Withheld,)),
    "429": Fault(_status(429), refused=True),
    "429-retry-after": Fault(_status(429, **{"Retry-After": "5"}), refused=True, after=_RETRY_AFTER),
    "500": Fault(_status(500)),
    "502-html": Fault(_page(502)),
    "html": Fault(_page(200)),
    "half": Fault(_half),
    "empty": Fault(lambda _: Response(b"")),
    "number": Fault(lambda _: Response("7", media_type="application/json"), (SetAside, TryLater)),
    "drip": Fault(_dripping, timeout=_QUICK),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_answer_to_the_check_raises_a_vendor_error(stand: Stand, fault: str) -> None:
    expected = FAULTS[fault]
    options = stand.options.model_copy(update={"timeout": expected.timeout or stand.options.timeout})
    with stand.client(options) as client, stand.proxy.spoiling(expected.spoil), pytest.raises(Fate) as checked:
        client.check()
    assert isinstance(checked.value, expected.errors), checked.value


@pytest.mark.parametrize(("system", "name", "fault"), by_resource_and(FAULTS))
def test_a_faulty_answer_proves_nothing_and_raises_a_vendor_error(
    served: Callable[[str], Stand], system: str, name: str, fault: str
) -> None:
    stand, expected = served(system), FAULTS[fault]
    options = stand.options.model_copy(update={"timeout": expected.timeout or stand.options.timeout})
    for question in stand.questions(stand.resource(name)):
        for skipped in range(stand.requests(question)):
            outcome = stand.put(question, spoil=expected.spoil, skipped=skipped, options=options)
            if question.method == "interpret":
                _judge_document(outcome, expected)
            else:
                _judge(question, outcome, expected, found=expected.found_later if skipped else expected.found)


def _judge(question: Question, outcome: Outcome, expected: Fault, *, found: tuple[type[Any], ...]) -> None:
    if isinstance(outcome.found, found):
        assert question.argument == outcome.found.key
        return
    if expected.timeout is not None and outcome.end is not None:
        # A listing that takes too long may continue with a smaller page, but proves nothing.
        assert (True, False) == (outcome.end.more, outcome.end.complete)
        return
    assert outcome.found is None
    assert outcome.end is None, "a listing that fails has no end"
    assert isinstance(outcome.error, expected.errors), repr(outcome.error)
    if isinstance(outcome.error, TryLater) and expected.refused:
        assert (True, expected.after) == (outcome.error.refused, outcome.error.after)


def _judge_document(outcome: Outcome, expected: Fault) -> None:
    """`refused` only if it was certainly not processed; anything else parks the document, as it may have been."""
    assert outcome.found is None
    assert isinstance(outcome.error, TryLater if expected.refused else (SetAside, TryLater)), repr(outcome.error)
    if isinstance(outcome.error, TryLater):
        assert expected.refused == outcome.error.refused
        assert expected.after == outcome.error.after


# Opening hours


def _closed_at(options: Connection) -> datetime | None:
    """A time within the next day at which full syncs are closed; None for a vendor that is always open."""
    hours = (datetime.now(UTC).replace(minute=30) + timedelta(hours=hour) for hour in range(24))
    return next((moment for moment in hours if options.closed_until(moment) is not None), None)


@pytest.fixture(scope="module")
def closed() -> Iterator[Callable[[str], tuple[Stand, datetime]]]:
    """Stands of closed vendors, and the time at their clock."""
    with ExitStack() as stack:

        @cache
        def of(system: str) -> tuple[Stand, datetime]:
            opens = stack.enter_context(stands.stand(system, closed=True))
            moment = _closed_at(opens.options)
            assert moment is not None
            opens.sandbox.now = lambda: moment
            return opens, moment

        yield of


CLOSING = [name for name in SYSTEMS if type(stands.options_of(name)).closed_until is not Connection.closed_until]


@pytest.mark.parametrize(
    ("system", "name"),
    [pytest.param(name, each.name, id=f"{name}-{each.name}-closed") for name, each in stands.CASES if name in CLOSING],
)
def test_closed_hours_stop_only_full_syncs_and_report_the_next_opening(
    served: Callable[[str], Stand], closed: Callable[[str], tuple[Stand, datetime]], system: str, name: str
) -> None:
    stand, moment = closed(system)
    for question in served(system).questions(served(system).resource(name)):
        outcome = stand.put(question)
        if outcome.error is None:
            continue
        assert ("list", None) == (question.method, question.argument), "polls and fetches are allowed all day"
        assert isinstance(outcome.error, Closed)
        assert stand.options.closed_until(moment) == outcome.error.until
        assert outcome.end is None


@pytest.mark.parametrize("system", CLOSING)
def test_a_vendor_with_opening_hours_closes_some_listing(
    closed: Callable[[str], tuple[Stand, datetime]], system: str
) -> None:
    stand, _ = closed(system)
    errors = [stand.put(Question("list", resource)).error for resource in stand.readable]
    assert Closed in {type(error) for error in errors}


# The mirror


@contextmanager
def _mirror(folder: Path, system: str, omit: Sequence[str] = ()) -> Iterator[Mirror]:
    """Mirror a sandbox after a few edits."""
    database = Database(f"sqlite:///{folder / 'mirror.db'}")
    migration.migrate(database)
    with mirrored(database, folder, **{system: {"seed": 11, "options": {"omit": list(omit)}}}) as mirror:
        random = Random(3)
        for _ in range(10):
            mirror.sandboxes[system].edit(random)
        mirror.work()
        yield mirror
    database.close()


@dataclass(frozen=True)
class Mirrors:
    """The same company mirrored completely, and with one path of each resource omitted."""

    whole: Mirror
    without: Mirror
    paths: dict[str, str]


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Mirrors]]:
    with ExitStack() as stack:

        @cache
        def of(system: str) -> Mirrors:
            whole = stack.enter_context(_mirror(tmp_path_factory.mktemp(system), system))
            resources = whole.desk(system).resources.values()
            paths = {each.name: _path(each, whole.sandboxes[system].truth(each.name)) for each in resources}
            folder = tmp_path_factory.mktemp(f"{system}-without")
            return Mirrors(whole, stack.enter_context(_mirror(folder, system, sorted(set(paths.values())))), paths)

        yield of


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_rebuild_keeps_the_mirror_equal(mirrors: Callable[[str], Mirrors], system: str) -> None:
    mirror = mirrors(system).whole
    desk = mirror.desk(system)
    for resource in desk.resources.values():
        records.rebuild(mirror.database, desk.target(resource), progress=lambda _: None)
    assert {} == mirror.differences()


def _path(resource: Resource, truth: dict[str, Any]) -> str:
    """The path of a filled field that is not part of the key."""
    found = (path for raw in truth.values() for path in _filled(raw) if path.split(".")[-1] not in resource.key)
    path = next(found, None)
    assert path is not None, f"{resource.name} has a field beside its key"
    return path


def _filled(raw: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of filled fields outside of lists."""
    for name, value in raw.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and not any(key.isdigit() for key in value):
            yield from _filled(value, f"{path}.")
        elif value not in (None, "") and not isinstance(value, dict | list):
            yield path


def _has(raw: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(raw, dict) or name not in raw:
            return False
        raw = raw[name]
    return True


@pytest.mark.parametrize(("system", "name"), by_resource())
def test_an_omitted_path_is_in_no_raw_no_column_and_no_journal(
    mirrors: Callable[[str], Mirrors], system: str, name: str
) -> None:
    found = mirrors(system)
    path = found.paths[name]
    for mirror, expected in ((found.whole, True), (found.without, False)):
        assert expected == any(_has(raw, path) for raw in _raws(mirror, system, name))
        assert expected == any(_has(raw, path) for raw in _journaled(mirror, name))
        assert expected == any(_column_holds(mirror, system, name, *each) for each in _columns_of(found, system, name))
    assert len(_raws(found.whole, system, name)) == len(_raws(found.without, system, name))


def _raws(mirror: Mirror, system: str, name: str) -> list[Any]:
    target = mirror.desk(system).target(mirror.desk(system).resources[name])
    with mirror.database.read() as connection:
        return [raw for _, _, raw in records.export(connection, mirror.database, target)]


def _journaled(mirror: Mirror, name: str) -> list[Any]:
    with mirror.database.read() as connection:
        chosen = sa.select(tables.changes.c.after).where(tables.changes.c.resource == name)
        return list(connection.execute(chosen).scalars())


def _columns_of(found: Mirrors, system: str, name: str) -> set[tuple[str, str]]:
    """Part and field of each column that the omitted path fills."""
    resource = found.whole.desk(system).resources[name]
    raws = _raws(found.whole, system, name)
    omit = [found.paths[name]]
    return {each for raw in raws for each in _laid_out(resource, raw) - _laid_out(resource, redact(raw, omit))}


def _laid_out(resource: Resource, raw: dict[str, Any]) -> set[tuple[str, str]]:
    flat = flatten(resource.project(raw), resource.shape)
    filled = {("", path) for path, value in flat.fields.items() if value is not None}
    return filled | {(row.part, path) for row in flat.rows for path, value in row.fields.items() if value is not None}


def _column_holds(mirror: Mirror, system: str, name: str, part: str, path: str) -> bool:
    """Whether any row has a value in the field's column or in its `__text` sibling."""
    target = mirror.desk(system).target(mirror.desk(system).resources[name])
    with mirror.database.read() as connection:
        schema = columns.current(connection, mirror.database, target.table)
        table: Table | None = schema.tables.get(part) if schema is not None else None
        if table is None:
            return False
        held = [each[path].name for each in (table.columns, table.overflows) if path in each]
        filled = [table.sql.c[column].is_not(None) for column in held]
        return bool(filled) and bool(
            connection.execute(sa.select(sa.func.count()).select_from(table.sql).where(sa.or_(*filled))).scalar_one()
        )
