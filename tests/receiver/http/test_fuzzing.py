"""Every route under requests generated from its description, and under bytes that no description allows."""

from __future__ import annotations

import copy
import hashlib
import http.client
import json
import re
import socket
from collections import Counter
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from models.bookkeeping import journal
from models.db import migration, outgoing_tables, tables
from models.db.database import Database
from models.values import Cause, Change, ChangeKind
from receiver import app
from receiver.api.openapi import DESCRIPTION
from receiver.http import server
from tests.mirroring import table
from tests.receiver.wakers import RecordingWaker
from tests.serving import served
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "t0ken-of-the-mirror"
COMMANDS_TOKEN = "t0ken-of-the-writer"
PDF = "%PDF-1.7 one page"
KEY = hashlib.sha256(PDF.encode()).hexdigest()

DILOVOD = {"system": "dilovod", "resources": ["catalogs.goods"], "webhook_sources": ["127.0.0.1"]}
CONNECTIONS: dict[str, dict[str, Any]] = {
    "guarded": DILOVOD | {"api_key": "k2", "webhook_secret": "s3cret"},
    "writes": DILOVOD | {"api_key": "k3", "commands": ["setDelMark"], "commands_token": COMMANDS_TOKEN},
    "shop": DILOVOD | {"api_key": "k"},
    "books": {"system": "directo", "api_key": "k", "resources": ["items"]},
    "goods_in": {"system": "interpreter", "store": "1", "api_key": "k", "largest": 5_000},
}
MARK = {"action": "setDelMark", "arguments": {"id": "1100300000001001"}}
PATH_NAMES = {
    "connection": ["guarded", "shop", "goods_in", "writes", "unknown"],
    "secret": ["s3cret", "s3cre"],
    "resource": ["catalogs.goods", "nothing"],
    "kind": ["deliverynote", "nothing"],
    "sha256": [KEY, "0" * 64],
    "command": [1, 99],
}
"""Names in paths, existing and not: with generated names every answer would be 404."""

ON_BOTH = pytest.mark.parametrize(
    "empty_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)
MANY_EXAMPLES = settings(
    max_examples=600, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@contextmanager
def receiving(database: Database, folder: Path) -> Iterator[httpx.Client]:
    """A receiver with a token, and a client that sends it, and the writer's own for commands."""
    file = folder / "erpmirror.toml"
    url = database.url.render_as_string(hide_password=False)
    head = f'[database]\nurl = "{url}"\n[receiver]\ntoken = "{TOKEN}"\n'
    file.write_text(head + "".join(table(name, options) for name, options in CONNECTIONS.items()), encoding="utf-8")
    made = app.create_app(configuration.load(file), waker=RecordingWaker())
    with (
        served(made, **server.OPTIONS, log_level="info") as address,
        httpx.Client(base_url=address, auth=_authorize, timeout=30, trust_env=False) as client,
    ):
        yield client


def _authorization(path: str) -> str:
    return f"Bearer {COMMANDS_TOKEN if path.startswith('/commands') else TOKEN}"


def _authorize(request: httpx.Request) -> httpx.Request:
    request.headers["Authorization"] = _authorization(request.url.path)
    return request


@pytest.fixture
def migrated(empty_url: sa.URL) -> Iterator[Database]:
    database = Database(empty_url)
    migration.migrate(database)
    yield database
    database.close()


@pytest.fixture
def sqlite_only(tmp_path: Path) -> Iterator[Database]:
    """SQLite is enough for requests that never reach the database."""
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    migration.migrate(database)
    yield database
    database.close()


def rows(database: Database) -> dict[str, int]:
    """Rows that requests left, by table."""
    counted = (tables.webhooks, tables.documents, outgoing_tables.commands)
    with database.read() as tx:
        return {each.name: tx.execute(sa.select(sa.func.count()).select_from(each)).scalar_one() for each in counted}


# Requests that the description allows


def _journal(database: Database) -> None:
    """Entries for `/changes`."""
    changes = [
        Change("1", ChangeKind.UPDATED, {"price": Decimal("1.50")}, {"price": Decimal("1.234567890123456789")}),
        Change("2", ChangeKind.DELETED, None, None),
    ]
    with database.begin() as tx:
        now = database.now(tx)
        journal.append(tx, "books", "items", changes, revision=1, cause=Cause.POLL, now=now)


def _description() -> dict[str, Any]:
    """The served description, with names that exist."""
    found = copy.deepcopy(DESCRIPTION)
    for name, values in PATH_NAMES.items():
        found["components"]["parameters"][name]["schema"] = {"enum": values}
    # A connection and its secret would match too rarely if both were generated.
    guarded = copy.deepcopy(found["components"]["parameters"]["connection"]) | {"schema": {"enum": ["guarded"]}}
    found["paths"]["/hooks/{connection}/{secret}"]["parameters"][0] = guarded
    sending = found["paths"]["/commands/{connection}"]["post"]
    bad = {"action": "setDelMark", "arguments": {"id": "1"}}
    sending["requestBody"]["content"]["application/json"]["schema"] = {"enum": [MARK, bad]}
    sending["parameters"][0]["schema"] = {"enum": ["first", "second"]}
    form = found["paths"]["/documents/{connection}/{kind}"]["post"]["requestBody"]["content"]["multipart/form-data"]
    form["schema"]["properties"]["file"]["enum"] = [PDF, "%PDF-1.7 two pages", "<html>"]
    return found


def _config(address: str) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "base-url": address,
            "seed": 1,
            "headers": {"Authorization": _authorization("/")},
            "generation": {"max-examples": 40, "deterministic": True, "database": "none"},
            "phases": {"stateful": {"enabled": False}},
            # A packet that fits the schema may contradict itself: its id's first digits must fit its kind.
            "checks": {"positive_data_acceptance": {"enabled": False}},
            # The token is checked first: with other methods /livez is answered like an unknown page.
            "operations": [
                {"include-path": "/livez", "checks": {"unsupported_method": {"enabled": False}}},
                {"include-path-regex": "^/commands", "headers": {"Authorization": _authorization("/commands")}},
            ],
        }
    )


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _options: dict[str, Any]) -> None:
    """Wait a second at most where the receiver would wait for a minute. schemathesis knows the hook by its name."""
    if re.fullmatch("[1-9]|[1-5][0-9]|60", str(case.query.get("wait"))):
        case.query["wait"] = 1


@ON_BOTH
def test_every_answer_is_one_that_the_description_names_and_a_refused_request_leaves_no_row(
    migrated: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses: dict[str, Counter[int]] = {}
    failures, new, new_commands = [], 1, 1
    with receiving(migrated, tmp_path) as client:
        kept = client.post("/documents/goods_in/deliverynote", files={"file": ("a.pdf", PDF.encode())})
        assert {"document": KEY, "new": True} == kept.json()
        assert 202 == client.post("/commands/writes", json=MARK, headers={"Idempotency-Key": "k"}).status_code
        _journal(migrated)
        schema = schemathesis.openapi.from_dict(_description(), config=_config(str(client.base_url)))
        for event in engine.from_schema(schema).execute():
            assert not isinstance(event, FatalError | NonFatalError), event
            if isinstance(event, ScenarioFinished):
                answers = [each.response for each in event.recorder.interactions.values() if each.response is not None]
                statuses.setdefault(event.recorder.label, Counter()).update(each.status_code for each in answers)
                stored = sum(b'"new":true' in each.content for each in answers)
                if "/commands/" in event.recorder.label:
                    new_commands += stored
                else:
                    new += stored
                failures += [
                    (
                        event.recorder.label,
                        check.name,
                        check.failure_info.failure.message,
                        check.failure_info.code_sample,
                    )
                    for checks in event.recorder.checks.values()
                    for check in checks
                    if check.failure_info is not None
                ]
    assert [] == failures
    accepted = sum(found[200] for label, found in statuses.items() if "/hooks/" in label)
    left = {tables.webhooks.name: accepted, tables.documents.name: new, outgoing_tables.commands.name: new_commands}
    assert left == rows(migrated)
    # Each operation succeeded at least once.
    assert [] == [label for label, found in statuses.items() if not any(200 <= status < 300 for status in found)]
    assert len([method for path in DESCRIPTION["paths"].values() for method in path if method != "parameters"]) == len(
        statuses
    )
    _require_no_errors_logged(capfd)


# Requests that no description allows

PATHS = [
    "/hooks/shop",
    "/hooks/guarded/s3cret",
    "/polls/books",
    "/documents/goods_in/deliverynote",
    "/changes",
    "/",
    "/commands/writes",
]
WORDS = [
    b"packet=",
    b"after=",
    b"limit=",
    b"wait=0",
    b"kind=",
    b"key=",
    b"&",
    b"%00",
    b"%FF",
    b"%",
    b"[",
    b"{",
    b'"',
    b"..",
    b"//",
    b"\\",
    b";",
    b"+",
]
TYPES = [b"application/json", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b", b"text/plain"]
PIECES = [b"--b\r\n", b"--b--\r\n", b'Content-Disposition: form-data; name="file"; filename="a"\r\n', b"\r\n", b"%PDF-"]

visible = st.binary(max_size=40).map(lambda raw: bytes(33 + byte % 94 for byte in raw))
addresses = st.tuples(
    st.sampled_from(PATHS), st.lists(st.one_of(visible, st.sampled_from(WORDS)), max_size=6), st.booleans()
).map(lambda found: found[0].encode() + (b"?" if found[2] else b"") + b"".join(found[1]))
names = st.sampled_from(
    [b"Content-Type", b"X-Forwarded-For", b"Host", b"Accept", b"Cookie", b"Expect", b"Upgrade", b"Forwarded", b"TE"]
)
values = st.one_of(
    visible,
    st.sampled_from([*TYPES, b"100-continue", b"websocket", b"h2c", b""]),
    st.binary(max_size=30).map(lambda raw: bytes(byte for byte in raw if byte >= 0x80)),
)
bodies = st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(PIECES + WORDS)), max_size=8).map(b"".join)


def _request(method: bytes, address: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    fixed = [
        (b"Host", b"localhost"),
        (b"Authorization", _authorization(address.decode()).encode()),
        (b"Content-Length", str(len(body)).encode()),
        (b"Connection", b"close"),
    ]
    lines = [b"%s: %s" % header for header in fixed + [each for each in headers if each[0] != b"Host"]]
    return b"\r\n".join([method + b" " + address + b" HTTP/1.1", *lines, b"", body])


def _connect(client: httpx.Client) -> socket.socket:
    parts = urlsplit(str(client.base_url))
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=30)


def _answered(client: httpx.Client, raw: bytes, method: bytes) -> tuple[int, bytes]:
    with _connect(client) as sock:
        sock.sendall(raw)
        with closing(http.client.HTTPResponse(sock, method=method.decode())) as answer:
            answer.begin()
            return answer.status, answer.read()


def test_every_well_framed_request_is_answered_in_json(
    sqlite_only: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    methods = st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"BREW"])

    with receiving(sqlite_only, tmp_path) as client:

        @MANY_EXAMPLES
        @given(methods, addresses, st.lists(st.tuples(names, values), max_size=4), bodies)
        def ask(method: bytes, address: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
            status, content = _answered(client, _request(method, address, headers, body), method)
            assert status < 500
            if status >= 400 and method != b"HEAD":
                assert {"error", "message"} == set(json.loads(content)) - {"errors"}

        ask()
    assert 0 == rows(sqlite_only)[tables.webhooks.name]
    _require_no_errors_logged(capfd)


LINES = [b"GET /livez HTTP/1.1\r\n", b"POST /hooks/shop HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"PRI * HTTP/2.0\r\n\r\n"]
FRAMES = [
    b"Host: l\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: upgrade\r\n",
    b"Expect: 100-continue\r\n",
    b" folded\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n",
    b"zz\r\n",
]
rubbish = st.lists(
    st.one_of(st.binary(max_size=30), st.sampled_from(LINES), st.sampled_from(FRAMES)), min_size=1, max_size=12
)


def test_any_bytes_are_answered_or_end_the_connection_and_the_next_request_is_served(
    sqlite_only: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with receiving(sqlite_only, tmp_path) as client:

        @MANY_EXAMPLES
        @given(rubbish, st.booleans())
        def send(pieces: list[bytes], at_once: bool) -> None:  # noqa: FBT001 - drawn
            with _connect(client) as sock:
                answer = _sent(sock, [b"".join(pieces)] if at_once else pieces)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            assert b"HTTP/1.1 5" not in answer
            assert 200 == client.get("/livez").status_code

        send()
    assert {0} == set(rows(sqlite_only).values())
    _require_no_errors_logged(capfd)


def _sent(sock: socket.socket, pieces: list[bytes]) -> bytes:
    """The response until the server closed, which it may do while the test still sends."""
    answer = b""
    try:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        while chunk := sock.recv(65536):
            answer += chunk
    except TimeoutError:
        raise
    except OSError:  # reset or broken pipe: the server has closed
        pass
    return answer


def _require_no_errors_logged(capfd: pytest.CaptureFixture[str]) -> None:
    output = capfd.readouterr()
    for unwanted in ("Traceback", "ERROR", "Exception"):
        assert unwanted not in output.out + output.err
