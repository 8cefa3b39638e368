"""What the contract promises, proved for every system that is found and for each resource of its sandbox."""

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
from models.values import Kind, Snapshot, Tombstone, Withheld
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
_NOBODY = "http://127.0.0.1:9"
LISTED = by_resource(of=lambda resource: not resource.handed_in)
HANDED_IN = by_resource(of=lambda resource: resource.handed_in)


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[str], Stand]]:
    """Stands by system, for tests that only read."""
    with stands.stands() as of:
        yield of


@pytest.fixture(params=SYSTEMS)
def stand(request: pytest.FixtureRequest, served: Callable[[str], Stand]) -> Stand:
    return served(request.param)


def _given(stand: Stand) -> dict[str, Any]:
    return {"name": "it", "url": stand.options.url} | stand.sandbox.settings()


# Settings


def test_options_refuse_what_they_do_not_know(stand: Stand) -> None:
    with pytest.raises(ValidationError, match="no_such_key"):
        stand.system.options.model_validate(_given(stand) | {"no_such_key": 1})


def test_the_login_identifies_the_account_and_is_shown_nowhere(stand: Stand) -> None:
    login = stand.options.login()
    assert login
    assert all(isinstance(word, str) and word for word in login)
    secrets = stand.secrets()
    assert secrets, "what lets us in is a secret"
    with stand.client() as client:
        shown = [repr(stand.options), str(stand.options), repr(client), str(client), repr(stand.resources)]
    assert [] == [secret for secret in sorted(secrets) if any(secret in each for each in shown)]


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
        greeting = client.check()
    assert greeting.says
    assert greeting.clock is None or greeting.clock.utcoffset() is not None


# What is read


@pytest.mark.parametrize(("system", "name"), by_resource())
def test_a_probe_shows_something_to_a_person(served: Callable[[str], Stand], system: str, name: str) -> None:
    stand = served(system)
    with stand.client() as client:
        assert client.probe(stand.resource(name))


@pytest.mark.parametrize(("system", "name"), by_resource(of=lambda resource: resource.points))
def test_a_fetch_shows_what_is_true_and_a_tombstone_for_what_nobody_knows(
    served: Callable[[str], Stand], system: str, name: str
) -> None:
    stand = served(system)
    resource = stand.resource(name)
    truth = stand.sandbox.truth(name)
    assert truth, f"the sandbox has some {name}"
    unknown = _unlike(min(truth), truth)
    with stand.client() as client:
        for key in sorted(truth)[:3]:
            found = client.fetch(resource, key)
            assert isinstance(found, Snapshot)
            assert (key, exact.canonical(truth[key])) == (found.key, exact.canonical(found.raw))
        assert Tombstone(unknown) == client.fetch(resource, unknown)


def _unlike(key: str, known: dict[str, Any]) -> str:
    """A key of the same form that nobody has: its digits turned into nines, one by one, from the end."""
    letters = list(key)
    for place in [index for index, letter in enumerate(letters) if letter.isdigit()][::-1] or [len(letters) - 1]:
        letters[place] = "9"
        if "".join(letters) not in known:
            return "".join(letters)
    raise AssertionError(key)


@pytest.mark.parametrize(("system", "name"), LISTED)
def test_a_full_listing_names_everything_exactly_once_in_bounded_chunks(
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
def test_pages_end_and_only_the_last_chunk_of_a_page_says_so(
    served: Callable[[str], Stand], system: str, name: str
) -> None:
    _, run = _listed(served(system), name)
    for page in run:
        *before, last = page.chunks
        assert [None] * len(before) == [chunk.end for chunk in before]
        assert last.end is not None
    assert [True] * (len(run) - 1) + [False] == [page.end.more for page in run if page.end is not None]
    assert [False] * (len(run) - 1) == [page.end.complete for page in run[:-1] if page.end is not None]


@pytest.mark.parametrize(("system", "name"), LISTED)
def test_the_same_cursor_gives_the_same_page_of_a_quiet_vendor(
    served: Callable[[str], Stand], system: str, name: str
) -> None:
    stand = served(system)
    resource, _ = _listed(stand, name)
    for question in stand.listings(resource):
        once, again = stand.put(question), stand.put(question)
        assert (None, None) == (once.fate, again.fate)
        assert once.end is not None
        assert again.end is not None
        assert once.keys == again.keys
        assert (once.end.more, once.end.complete, once.end.warning) == (
            again.end.more,
            again.end.complete,
            again.end.warning,
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


def _snapshots(stand: Stand, resource: Resource) -> list[Snapshot]:
    """Each object once, by whichever door it comes; what a listing only names is fetched."""
    if resource.handed_in:
        texts = [stands.document(f"paper {number}") for number in range(3)]
        with stand.client() as client:
            return [client.interpret(resource, text) for text in texts]
    chunks = [chunk for page in stand.run(resource) for chunk in page.chunks]
    found = [row for chunk in chunks for row in chunk.snapshots]
    lines = [row for chunk in chunks for row in chunk.lines if not row.marked]
    fetched = [stand.put(Question("fetch", resource, line.key)).found for line in lines]
    return [*found, *(row for row in fetched if isinstance(row, Snapshot))]


def _plain(value: Any) -> Any:
    """A field as a key has it: of a link its id; nothing for what is no text and no number."""
    value = value.get("id") if isinstance(value, dict) else value
    return None if isinstance(value, dict | list | bool) else value


def test_shapes_are_kinds(stand: Stand) -> None:
    with stand.client() as client:
        for resource in stand.readable:
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


# Documents that are handed in


@pytest.mark.parametrize(("system", "name"), HANDED_IN)
def test_a_document_becomes_what_the_vendor_read_in_it_under_its_own_key(
    served: Callable[[str], Stand], system: str, name: str
) -> None:
    stand = served(system)
    document = stands.document("a paper of its own")
    with stand.client() as client:
        found = client.interpret(stand.resource(name), document)
    assert document.sha256 == found.key
    assert exact.canonical(stand.sandbox.truth(name)[document.sha256]) == exact.canonical(found.raw)


@pytest.mark.parametrize(("system", "name"), HANDED_IN)
def test_a_document_that_nobody_took_may_be_sent_again(served: Callable[[str], Stand], system: str, name: str) -> None:
    stand = served(system)
    away = stand.options.model_copy(update={"url": _NOBODY})
    (question,) = stand.questions(stand.resource(name))
    fate = stand.put(question, options=away).fate
    assert isinstance(fate, TryLater)
    assert fate.refused


# Logins and vendors who fail


def _strangers(stand: Stand, options: Connection) -> Iterator[Fate]:
    """How the check and every question ends for a client who was never let in."""
    for resource in stand.resources:
        for question in stand.questions(resource):
            with stand.client(options) as client:
                outcome = stands.asked(client, question)
            assert outcome.fate is not None, question
            yield outcome.fate
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
    for fate in _strangers(stand, options):
        assert isinstance(fate, SetAside), fate
        assert "wrong-0-login" not in str(fate) + repr(fate)


def test_a_vendor_who_is_away_is_tried_later(stand: Stand) -> None:
    away = stand.options.model_copy(update={"url": _NOBODY})
    for fate in _strangers(stand, away):
        assert isinstance(fate, TryLater), fate


# Answers that are none


@dataclass(frozen=True)
class Fault:
    """What becomes of an answer, and the fates that it may have.

    `found`: what a fetch may find instead, because this status says so; `of_a_piece`: likewise in answer to a later
    request of the fetch, for a piece of the object. `refused`: the vendor certainly did not take the request.
    `timeout`: of a client who meets it.
    """

    spoil: Spoil
    fates: tuple[type[Fate], ...] = (TryLater,)
    found: tuple[type, ...] = ()
    of_a_piece: tuple[type, ...] = ()
    refused: bool = False
    after: timedelta | None = None
    timeout: timedelta | None = None


def _status(status: int, **headers: str) -> Spoil:
    """A refusal in a form that no vendor's document knows."""
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
    "404": Fault(_status(404), (SetAside, TryLater), found=(Tombstone,), of_a_piece=(Snapshot,)),
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
def test_an_answer_that_is_none_at_the_door_has_a_fate(stand: Stand, fault: str) -> None:
    expected = FAULTS[fault]
    options = stand.options.model_copy(update={"timeout": expected.timeout or stand.options.timeout})
    with stand.client(options) as client, stand.proxy.spoiling(expected.spoil), pytest.raises(Fate) as checked:
        client.check()
    assert isinstance(checked.value, expected.fates), checked.value


@pytest.mark.parametrize(("system", "name", "fault"), by_resource_and(FAULTS))
def test_an_answer_that_is_none_proves_nothing_and_has_a_fate(
    served: Callable[[str], Stand], system: str, name: str, fault: str
) -> None:
    stand, expected = served(system), FAULTS[fault]
    options = stand.options.model_copy(update={"timeout": expected.timeout or stand.options.timeout})
    for question in stand.questions(stand.resource(name)):
        for spared in range(stand.requests(question)):
            outcome = stand.put(question, spoil=expected.spoil, spared=spared, options=options)
            if question.way == "interpret":
                _judge_document(outcome, expected)
            else:
                _judge(question, outcome, expected, found=expected.of_a_piece if spared else expected.found)


def _judge(question: Question, outcome: Outcome, expected: Fault, *, found: tuple[type, ...]) -> None:
    if isinstance(outcome.found, found):
        assert question.of == outcome.found.key
        return
    if expected.timeout is not None and outcome.end is not None:
        # A listing that takes too long may go on with a smaller question, but proves nothing.
        assert (True, False) == (outcome.end.more, outcome.end.complete)
        return
    assert outcome.found is None
    assert outcome.end is None, "a listing that fails has no end"
    assert isinstance(outcome.fate, expected.fates), repr(outcome.fate)
    if isinstance(outcome.fate, TryLater) and expected.refused:
        assert (True, expected.after) == (outcome.fate.refused, outcome.fate.after)


def _judge_document(outcome: Outcome, expected: Fault) -> None:
    """Only what certainly was not taken is called refused; all else parks, because it may have arrived."""
    assert outcome.found is None
    assert isinstance(outcome.fate, TryLater if expected.refused else (SetAside, TryLater)), repr(outcome.fate)
    if isinstance(outcome.fate, TryLater):
        assert expected.refused == outcome.fate.refused
        assert expected.after == outcome.fate.after


# Opening hours


def _closed_at(options: Connection) -> datetime | None:
    """A moment of the day, now or later, at which nothing is read in full; None for a vendor who is always open."""
    hours = (datetime.now(UTC).replace(minute=30) + timedelta(hours=hour) for hour in range(24))
    return next((moment for moment in hours if options.closed_until(moment) is not None), None)


@pytest.fixture(scope="module")
def closed() -> Iterator[Callable[[str], tuple[Stand, datetime]]]:
    """Stands of vendors who are closed, and their clock."""
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
def test_closed_hours_stop_full_readings_alone_and_say_until_when(
    served: Callable[[str], Stand], closed: Callable[[str], tuple[Stand, datetime]], system: str, name: str
) -> None:
    stand, moment = closed(system)
    for question in served(system).questions(served(system).resource(name)):
        outcome = stand.put(question)
        if outcome.fate is None:
            continue
        assert ("list", None) == (question.way, question.of), "what changed and single objects are shown all day"
        assert isinstance(outcome.fate, Closed)
        assert stand.options.closed_until(moment) == outcome.fate.until
        assert outcome.end is None


@pytest.mark.parametrize("system", CLOSING)
def test_a_vendor_with_opening_hours_closes_something(
    closed: Callable[[str], tuple[Stand, datetime]], system: str
) -> None:
    stand, _ = closed(system)
    fates = [stand.put(Question("list", resource)).fate for resource in stand.readable]
    assert Closed in {type(fate) for fate in fates}


# The mirror


@contextmanager
def _mirror(folder: Path, system: str, omit: Sequence[str] = ()) -> Iterator[Mirror]:
    """A company on the evening of a day with a few edits, mirrored."""
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
    """The same company mirrored whole, and without one path of each resource."""

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
def test_what_is_mirrored_survives_export_and_rebuild(mirrors: Callable[[str], Mirrors], system: str) -> None:
    mirror = mirrors(system).whole
    desk = mirror.desk(system)
    for resource in desk.resources.values():
        records.rebuild(mirror.database, desk.target(resource), progress=lambda _: None)
    assert {} == mirror.differences()


def _path(resource: Resource, truth: dict[str, Any]) -> str:
    """The path of a field that objects have and that makes no key."""
    found = (path for raw in truth.values() for path in _filled(raw) if path.split(".")[-1] not in resource.key)
    path = next(found, None)
    assert path is not None, f"{resource.name} has a field beside its key"
    return path


def _filled(raw: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of fields that hold something, outside of lists."""
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
        return [raw for _, _, raw in records.export(connection, target)]


def _journaled(mirror: Mirror, name: str) -> list[Any]:
    with mirror.database.read() as connection:
        chosen = sa.select(tables.changes.c.after).where(tables.changes.c.resource == name)
        return list(connection.execute(chosen).scalars())


def _columns_of(found: Mirrors, system: str, name: str) -> set[tuple[str, str]]:
    """Part and field of each column that the omitted path would fill."""
    resource = found.whole.desk(system).resources[name]
    raws = _raws(found.whole, system, name)
    omit = [found.paths[name]]
    return {each for raw in raws for each in _laid_out(resource, raw) - _laid_out(resource, redact(raw, omit))}


def _laid_out(resource: Resource, raw: dict[str, Any]) -> set[tuple[str, str]]:
    flat = flatten(resource.project(raw), resource.shape)
    filled = {("", path) for path, value in flat.fields.items() if value is not None}
    return filled | {(row.part, path) for row in flat.rows for path, value in row.fields.items() if value is not None}


def _column_holds(mirror: Mirror, system: str, name: str, part: str, path: str) -> bool:
    """Whether some row has a value in that column, or in the one beside it for what does not fit."""
    target = mirror.desk(system).target(mirror.desk(system).resources[name])
    with mirror.database.read() as connection:
        schema = columns.current(connection, target.table)
        table: Table | None = schema.tables.get(part) if schema is not None else None
        if table is None:
            return False
        held = [each[path].name for each in (table.columns, table.overflows) if path in each]
        filled = [table.sql.c[column].is_not(None) for column in held]
        return bool(filled) and bool(
            connection.execute(sa.select(sa.func.count()).select_from(table.sql).where(sa.or_(*filled))).scalar_one()
        )
