"""What `omit` names is in no table, no log and no output, whatever is wrong with the answer that holds it."""

from __future__ import annotations

import json
import logging
import re
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import structlog
from starlette.responses import Response

from models.db import migration
from models.db.database import Database
from tests.mirroring import mirrored, sync_once
from tests.workers.cli.runner import ok
from tests.workers.connectors.sandbox_harness import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


PRIVATE = "what-no-one-may-read"
FIELD = "privatenote"
OMIT = {"omit": [f"**.{FIELD}"]}
CONNECTORS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, OMIT) for name in SYSTEMS} | {
    "directo-xml": ("directo", OMIT | {"format": "xml"})
}

_IN_JSON = f'"{FIELD}":"{PRIVATE}"'.encode()
_QUOTED = f'"{PRIVATE}"'.encode()
_KEYS = re.compile(rb'\b(id|code|number|item_code|good|type)(?="?[:=>])', re.IGNORECASE)


def _with_private(body: bytes) -> bytes:
    """The answer, in which every object or element has the field."""
    if body.lstrip().startswith(b"<"):
        return re.sub(rb"<(\w+)(?=[\s/>])", rb"<\1 " + f'{FIELD}="{PRIVATE}"'.encode(), body)
    return body.replace(b"{", b"{" + _IN_JSON + b",").replace(b",}", b"}")


FAULTS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "as it should be": (200, bytes),
    "cut": (
        200,
        lambda body: body[: body.rindex(PRIVATE.encode()) + len(PRIVATE)] if PRIVATE.encode() in body else body,
    ),
    "within an object": (200, lambda body: b'{"record":' + body + b"}"),
    "one record instead of the list": (200, lambda _: b"{" + _IN_JSON + b"}"),
    "without keys": (200, lambda body: _KEYS.sub(b"gone", body)),
    "malformed": (200, lambda body: body.replace(_QUOTED, _QUOTED + b" x " + _QUOTED)),
    "behind words": (200, lambda body: b"Warning: x in y " + body),
    "as a text": (200, lambda body: json.dumps(body.decode()).encode()),
    "in a page": (200, lambda body: b"<html><body>" + body + b"</body></html>"),
    "400": (400, bytes),
    "401": (401, bytes),
    "403": (403, bytes),
    "404": (404, bytes),
    "409": (409, bytes),
    "500": (500, bytes),
}


class Faulty:
    """A proxy before a sandbox that spoils answers if `fault` is set. `spoiled`: how many it has."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.spoiled = 0

    def before(self, app: ASGIApp) -> ASGIApp:
        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            if self.fault is None or scope["type"] != "http":
                await app(scope, receive, send)
                return
            answer = bytearray()

            async def record(message: Message) -> None:
                answer.extend(message.get("body", b""))

            await app(scope, receive, record)
            status, spoil = FAULTS[self.fault]
            body = _with_private(bytes(answer))
            self.spoiled += PRIVATE.encode() in body
            await Response(spoil(body), status, media_type="application/json")(scope, receive, send)

        return faulty


def _tables_with_it(database: Database) -> Iterator[str]:
    with database.read() as tx:
        for name in sa.inspect(tx).get_table_names():
            for row in tx.execute(sa.text(f'SELECT * FROM "{name}"')).mappings():
                for column, value in row.items():
                    if PRIVATE in (value.decode("latin-1") if isinstance(value, bytes) else str(value)):
                        yield f"{name}.{column}: {value!r}"[:300]


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    migration.migrate(made)
    yield made
    made.close()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """Every log line so far, ours and the libraries'."""
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as ours:
        yield lambda: "\n".join([*map(str, ours), caplog.text])


_QUICK = "malformed"
_NAMES = list(CONNECTORS)
_ROTATED = [
    pytest.param(_NAMES[number % len(_NAMES)], fault, marks=pytest.mark.slow)
    for fault_number, fault in enumerate(each for each in FAULTS if each != _QUICK)
    for number in (fault_number, fault_number + 3)
]
"""Each other fault with two connectors in turn: all with all would take minutes more."""


@pytest.mark.parametrize(("connector", "fault"), [*((each, _QUICK) for each in CONNECTORS), *_ROTATED])
def test_what_omit_names_is_nowhere(
    migrated: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], str],
    connector: str,
    fault: str,
) -> None:
    system, options = CONNECTORS[connector]
    faulty = Faulty()
    with mirrored(migrated, tmp_path, **{system: {"seed": 3, "wrapper": faulty.before, "options": options}}) as mirror:
        mirror.work()
        for _ in range(5):
            mirror.sandboxes[system].edit(Random(5))
        faulty.fault = fault
        sync_once(mirror, system)
        assert faulty.spoiled, "an answer held it"
        assert [] == list(_tables_with_it(migrated))
        assert PRIVATE not in logged()
        monkeypatch.chdir(tmp_path)
        with (tmp_path / "erpmirror.toml").open("a", encoding="utf-8") as file:
            file.write(f'[database]\nurl = "{migrated.url}"\n')
        for words in (["status"], ["status", "--json"], ["parked"], ["parked", "list", "--json"]):
            assert PRIVATE not in ok(*words).output
