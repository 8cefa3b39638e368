"""The standard tests of a connector: the contract's promises, for every system and each resource of its sandbox."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from models import exact
from models.values import Kind, Snapshot, Tombstone, UndecodedSnapshot
from tests.workers.connectors import sandbox_harness
from tests.workers.connectors.sandbox_harness import Question, SandboxHarness, by_resource
from workers.errors import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.values import JsonObject
    from tests.workers.connectors.sandbox_harness import Outcome
    from workers.connectors.contract import Resource

_MOST_IN_A_CHUNK = 1000
_QUICK = timedelta(milliseconds=150)
_RETRY_AFTER = timedelta(seconds=5)
_CLOSED_PORT = "http://127.0.0.1:9"
LISTED = by_resource(of=lambda resource: not resource.handed_in)
HANDED_IN = by_resource(of=lambda resource: resource.handed_in)


# Settings


def test_options_refuse_unknown_keys(harness: SandboxHarness) -> None:
    with pytest.raises(ValidationError, match="no_such_key"):
        harness.system.options.model_validate(harness.given() | {"no_such_key": 1})


def test_the_login_identifies_the_account_and_is_in_no_repr(harness: SandboxHarness) -> None:
    login = harness.options.login()
    assert login
    assert all(isinstance(word, str) and word for word in login)
    secrets = harness.secrets()
    assert secrets, "the login has a secret"
    with harness.client() as client:
        shown = [repr(harness.options), str(harness.options), repr(client), str(client), repr(harness.resources)]
    assert [] == [secret for secret in sorted(secrets) if any(secret in each for each in shown)]


def test_resources_have_unique_names_and_consistent_intervals(harness: SandboxHarness) -> None:
    names = [resource.name for resource in harness.resources]
    assert sorted(set(names)) == sorted(names)
    for resource in harness.resources:
        assert resource.bound >= resource.full_every or resource.every is not None
        assert resource.full_every.total_seconds() >= 1
        assert resource.every is None or resource.every <= resource.bound
        for kinds in (*resource.shape.values(), *resource.hints.values()):
            assert set(kinds.values()) <= set(Kind)


def test_the_check_returns_a_line_for_a_person(harness: SandboxHarness) -> None:
    with harness.client() as client:
        result = client.check()
    assert result.summary
    assert result.clock is None or result.clock.utcoffset() is not None


# Reads


@pytest.mark.parametrize(("system", "name"), by_resource())
def test_a_probe_returns_a_line_for_a_person(served: Callable[[str], SandboxHarness], system: str, name: str) -> None:
    harness = served(system)
    with harness.client() as client:
        assert client.probe(harness.resource(name))


@pytest.mark.parametrize(("system", "name"), by_resource(of=lambda resource: resource.fetchable))
def test_a_fetch_returns_the_object_or_a_tombstone(
    served: Callable[[str], SandboxHarness], system: str, name: str
) -> None:
    harness = served(system)
    resource = harness.resource(name)
    truth = harness.sandbox.truth(name)
    assert truth, f"the sandbox has some {name}"
    unknown = _unknown_key(min(truth), truth)
    with harness.client() as client:
        for key in sorted(truth)[:3]:
            found = client.fetch(resource, key)
            assert isinstance(found, Snapshot)
            assert (key, exact.canonical(truth[key])) == (found.key, exact.canonical(found.raw))
            assert _is_normal(found.raw)
        assert Tombstone(unknown) == client.fetch(resource, unknown)


def _unknown_key(key: str, known: dict[str, Any]) -> str:
    """An unknown key of the same form: replaces digits by 9 from the end until no object has it."""
    accepted = list(key)
    for place in [index for index, webhook in enumerate(accepted) if webhook.isdigit()][::-1] or [len(accepted) - 1]:
        accepted[place] = "9"
        if "".join(accepted) not in known:
            return "".join(accepted)
    raise AssertionError(key)


@pytest.mark.parametrize(("system", "name"), LISTED)
def test_a_full_sync_lists_every_object_once_in_bounded_chunks(
    served: Callable[[str], SandboxHarness], system: str, name: str
) -> None:
    harness = served(system)
    resource, run = _listed(harness, name)
    chunks = [chunk for page in run for chunk in page.chunks]
    keys = [row.key for chunk in chunks for row in chunk.snapshots]
    keys += [row.key for chunk in chunks for row in chunk.lines if not row.marked]
    truth = harness.sandbox.truth(name)
    assert sorted(truth) == sorted(keys)
    assert [] == [row for chunk in chunks for row in chunk.unreadable]
    assert all(len(chunk.snapshots) + len(chunk.lines) <= _MOST_IN_A_CHUNK for chunk in chunks)
    end = run[-1].end
    assert end is not None
    assert end.complete == (resource.fetchable or resource.unpaged)
    for snapshot in (row for chunk in chunks for row in chunk.snapshots):
        assert exact.canonical(truth[snapshot.key]) == exact.canonical(snapshot.raw)
        assert _is_normal(snapshot.raw)


def _is_normal(raw: JsonObject) -> bool:
    """Whether every number is in the form of `exact.loads`, so that equal objects are hashed alike."""
    return repr(exact.normalised(deepcopy(raw))) == repr(raw)


def _listed(harness: SandboxHarness, name: str) -> tuple[Resource, list[Outcome]]:
    resource = harness.resource(name)
    return resource, harness.run(resource)


@pytest.mark.parametrize(("system", "name"), LISTED)
def test_only_the_last_chunk_of_a_page_has_an_end(
    served: Callable[[str], SandboxHarness], system: str, name: str
) -> None:
    _, run = _listed(served(system), name)
    for page in run:
        *before, last = page.chunks
        assert [None] * len(before) == [chunk.end for chunk in before]
        assert last.end is not None
    assert [True] * (len(run) - 1) + [False] == [page.end.more for page in run if page.end is not None]
    assert [False] * (len(run) - 1) == [page.end.complete for page in run[:-1] if page.end is not None]


@pytest.mark.parametrize(("system", "name"), LISTED)
def test_the_same_cursor_returns_the_same_page_if_nothing_changed(
    served: Callable[[str], SandboxHarness], system: str, name: str
) -> None:
    harness = served(system)
    resource, _ = _listed(harness, name)
    for question in harness.listings(resource):
        first, second = harness.put(question), harness.put(question)
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
    served: Callable[[str], SandboxHarness], system: str, name: str
) -> None:
    harness = served(system)
    resource = harness.resource(name)
    found = _snapshots(harness, resource)
    keys = [snapshot.key for snapshot in found]
    assert bool(harness.sandbox.truth(name)) == bool(keys)
    assert sorted(set(keys)) == sorted(keys)
    assert [] == [key for key in keys if not key.strip()]
    for snapshot in found:
        shown = resource.project(snapshot.raw)
        fields = [_plain(shown.get(each)) for each in resource.key]
        if fields and None not in fields:
            assert ":".join(str(each) for each in fields) == snapshot.key


def _snapshots(harness: SandboxHarness, resource: Resource) -> list[Snapshot | UndecodedSnapshot]:
    """Each object once: interpreted, listed, or fetched if the listing has only its key."""
    if resource.handed_in:
        documents = [sandbox_harness.document(f"paper {number}") for number in range(3)]
        with harness.client() as client:
            return [client.interpret(resource, document) for document in documents]
    chunks = [chunk for page in harness.run(resource) for chunk in page.chunks]
    found = [row for chunk in chunks for row in chunk.snapshots]
    lines = [row for chunk in chunks for row in chunk.lines if not row.marked]
    fetched = [harness.put(Question("fetch", resource, line.key)).found for line in lines]
    return [*found, *(row for row in fetched if isinstance(row, Snapshot))]


def _plain(value: Any) -> Any:
    """A field's value in a key: of a link its id; None for anything but text and numbers."""
    value = value.get("id") if isinstance(value, dict) else value
    return None if isinstance(value, dict | list | bool) else value


def test_shapes_consist_of_kinds(harness: SandboxHarness) -> None:
    with harness.client() as client:
        for resource in harness.readable:
            shape = client.shape(resource) if resource.has_metadata else None
            assert resource.has_metadata == (shape is not None)
            for kinds in (shape or {}).values():
                assert set(kinds.values()) <= set(Kind)


def test_project_does_not_modify_its_argument(harness: SandboxHarness) -> None:
    for resource in harness.resources:
        for raw in harness.sandbox.truth(resource.name).values():
            before = deepcopy(raw)
            assert resource.project(raw) == resource.project(raw)
            assert before == raw


# Documents that are handed in


@pytest.mark.parametrize(("system", "name"), HANDED_IN)
def test_a_document_becomes_the_vendors_answer_under_the_documents_key(
    served: Callable[[str], SandboxHarness], system: str, name: str
) -> None:
    harness = served(system)
    document = sandbox_harness.document("a paper of its own")
    with harness.client() as client:
        found = client.interpret(harness.resource(name), document)
    assert document.sha256 == found.key
    assert exact.canonical(harness.sandbox.truth(name)[document.sha256]) == exact.canonical(found.raw)
    assert _is_normal(found.raw)


@pytest.mark.parametrize(("system", "name"), HANDED_IN)
def test_a_document_that_was_not_sent_may_be_sent_again(
    served: Callable[[str], SandboxHarness], system: str, name: str
) -> None:
    harness = served(system)
    away = harness.options.model_copy(update={"url": _CLOSED_PORT})
    (question,) = harness.questions(harness.resource(name))
    error = harness.put(question, options=away).error
    assert isinstance(error, TryLater)
    assert error.refused
