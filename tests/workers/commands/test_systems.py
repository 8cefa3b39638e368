"""Every command of every system, from its example to the mirrored row, against the system's sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import commands
from models.bookkeeping.commands import State
from tests.mirroring import mirrored
from workers.commands import acceptance
from workers.commands.acceptance import Request
from workers.connectors import discovery

if TYPE_CHECKING:
    from pathlib import Path

    from models.bookkeeping.commands import Command
    from models.db.database import Database
    from tests.mirroring import Mirror

SYSTEMS = [name for name, system in discovery.systems().items() if system.actions is not None]


def _send(mirror: Mirror, name: str, request: Request) -> Command:
    """Accept a command, and do what is due until its fate is known."""
    context = mirror.context(name)
    new = acceptance.prepare(context, request, key=f"{request.action}:{request.resource}", caller="test")
    number = acceptance.store(context, new)[0].id
    mirror.work()
    with mirror.database.read() as tx:
        found = commands.get(tx, number)
    assert found is not None
    return found


def _arguments(sandbox: Any, action: Any, created: dict[str, str]) -> dict[str, Any]:
    """The action's example, about objects that the sandbox has: what was created is deleted, nothing else uses it."""
    arguments = dict(action.example)
    if action.name == "saleOrderCreate":
        good = min(sandbox.truth("catalogs.goods"))
        arguments["goods"] = [row | {"good": good} if "good" in row else row for row in arguments["goods"]]
    ref = action.subject(arguments)
    if ref is None or not ref.key or "id" not in arguments:
        return arguments
    key = created.get(ref.resource, ref.key) if action.name == "delete" else ref.key
    if key not in sandbox.truth(ref.resource):
        key = min(sandbox.truth(ref.resource))
    return arguments | {"id": int(key) if isinstance(arguments["id"], int) else key}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_example_is_done_and_mirrored(name: str, sqlite: Database, tmp_path: Path) -> None:
    system = discovery.systems()[name]
    with mirrored(sqlite, tmp_path, **{name: {"options": {"commands": _all_names(name)}}}) as mirror:
        mirror.catch_up()
        sandbox = mirror.sandboxes[name]
        assert system.actions is not None
        told: dict[str, tuple[State, str | None]] = {}
        created: dict[str, str] = {}
        for action in system.actions(mirror.context(name).options):
            found = _send(mirror, name, Request(action.name, action.resource, _arguments(sandbox, action, created)))
            if found.result_key is not None and action.creates(action.example) is not None:
                created[str(found.resource)] = found.result_key
            told[action.full_name] = (found.state, found.reason)
        assert {} == {each: fate for each, fate in told.items() if fate[0] is not State.DONE}
        fetched = {each for each, found in mirror.context(name).resources.items() if found.fetchable}
        assert set() == mirror.differences().keys() & fetched
        mirror.confirm()  # a resource without point reads is deleted by two listings
        assert {} == mirror.differences()


def _all_names(name: str) -> list[str]:
    with_sandbox = discovery.systems()[name].sandbox().state.sandbox.settings()
    options = discovery.systems()[name].options.model_validate(
        {"name": name, "url": "http://localhost", **with_sandbox}
    )
    declared = discovery.systems()[name].actions
    assert declared is not None
    return sorted({action.name for action in declared(options)})
