"""Documents over HTTP: an accepted one is stored, a refused one leaves nothing behind."""

from __future__ import annotations

import hashlib
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from models.db import tables
from receiver import app
from receiver.http import server
from tests.mirroring import Mirror, mirrored, table
from tests.receiver.wakers import FailingWaker, RecordingWaker
from tests.serving import served
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.db.database import Database

    Open = Callable[..., AbstractContextManager[httpx.Client]]

PDF = b"%PDF-1.7\none\n%%EOF\n"
KEY = hashlib.sha256(PDF).hexdigest()
NOTES = "/documents/goods_in/deliverynote"
LARGEST = 5_000
TOKEN = 'token = "t0ken-of-the-mirror"'


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Serve a receiver: `with opened(database) as client`."""

    @contextmanager
    def serve(database: Database, *, receiver: str = "", waker: Any = None, **options: Any) -> Iterator[httpx.Client]:
        file = tmp_path / "erpmirror.toml"
        head = f'[database]\nurl = "{database.url.render_as_string(hide_password=False)}"\n[receiver]\n{receiver}\n'
        goods_in = {"system": "interpreter", "store": "1", "api_key": "k", "largest": LARGEST, **options}
        books = {"system": "directo", "api_key": "k", "resources": ["items"]}
        file.write_text(head + table("goods_in", goods_in) + table("books", books), encoding="utf-8")
        made = app.create_app(configuration.load(file), waker=waker or RecordingWaker())
        with served(made, **server.OPTIONS) as url, httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield client

    return serve


def form(content: bytes = PDF, name: str = "a.pdf", **fields: str) -> dict[str, Any]:
    return {"files": {"file": (name, content, "application/pdf")}, "data": fields}


def stored(database: Database) -> list[Any]:
    with database.read() as tx:
        return list(tx.execute(sa.select(tables.documents).order_by(tables.documents.c.received_at)))


def test_a_document_is_stored_once_and_enqueued_and_a_worker_is_woken(database: Database, opened: Open) -> None:
    waker = RecordingWaker()
    with opened(database, waker=waker) as client:
        answers = [client.post(NOTES, **form(order_id=" 17 ")) for _ in range(2)]
    assert [202, 202] == [answer.status_code for answer in answers]
    assert [{"document": KEY, "new": True}, {"document": KEY, "new": False}] == [answer.json() for answer in answers]
    [row] = stored(database)
    assert ("goods_in", "deliverynote", KEY, "a.pdf", "17", PDF) == (
        row.connection,
        row.kind,
        row.sha256,
        row.name,
        row.order_id,
        bytes(row.content),
    )
    with database.read() as tx:
        [item] = tx.execute(sa.select(tables.inbox)).all()
    assert ("deliverynote", KEY, "document") == (item.resource, item.key, item.cause)
    assert "goods_in" in waker.woken


def test_of_equal_documents_sent_at_once_exactly_one_is_new(database: Database, opened: Open) -> None:
    new: list[bool] = []
    with opened(database) as client:
        threads = [
            threading.Thread(target=lambda: new.append(client.post(NOTES, **form()).json()["new"])) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [False] * 9 + [True] == sorted(new)
    assert 1 == len(stored(database))


def test_a_document_is_accepted_while_the_broker_is_away(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, waker=FailingWaker()) as client:
        assert 202 == client.post(NOTES, **form()).status_code
    assert 1 == len(stored(sqlite))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("Följesedel 7.pdf", "Följesedel 7.pdf"),
        ("/home/me/a.pdf", "a.pdf"),
        (r"C:\scans\a.pdf", "a.pdf"),
        ("C:\\", "document.pdf"),
    ],
)
def test_a_documents_name_is_its_files_name_without_folders(
    sqlite: Database, opened: Open, sent: str, expected: str
) -> None:
    with opened(sqlite) as client:
        assert 202 == client.post(NOTES, **form(name=sent)).status_code
    assert [expected] == [row.name for row in stored(sqlite)]


@pytest.mark.parametrize(
    "parameters",
    [
        "filename=\"=?utf-8?B?ZsO2bGplc2VkZWwucGRm?=\"; filename*=utf-8''f%C3%B6ljesedel.pdf",
        "filename*=utf-8''f%C3%B6ljesedel.pdf",
    ],
)
def test_a_documents_name_may_be_encoded(sqlite: Database, opened: Open, parameters: str) -> None:
    part = f"--b\r\ncontent-disposition: form-data; name=file; {parameters}\r\n\r\n".encode() + PDF + b"\r\n--b--\r\n"
    with opened(sqlite) as client:
        answer = client.post(NOTES, headers={"Content-Type": "multipart/form-data; boundary=b"}, content=part)
    assert (202, ["följesedel.pdf"]) == (answer.status_code, [row.name for row in stored(sqlite)])


def test_a_pdf_with_junk_before_and_nulls_after_is_stored_as_it_is(sqlite: Database, opened: Open) -> None:
    content = b"From: scanner\r\n\r\n" + PDF + b"\0" * 2000
    with opened(sqlite) as client:
        answer = client.post(NOTES, **form(content))
    assert (202, hashlib.sha256(content).hexdigest()) == (answer.status_code, answer.json()["document"])
    assert [content] == [bytes(row.content) for row in stored(sqlite)]


@pytest.mark.parametrize("order", ["", "  "])
def test_an_empty_order_is_none(sqlite: Database, opened: Open, order: str) -> None:
    with opened(sqlite) as client:
        assert 202 == client.post(NOTES, **form(order_id=order)).status_code
    assert [None] == [row.order_id for row in stored(sqlite)]


@pytest.mark.parametrize(
    ("status", "code", "path"),
    [
        (404, "unknown_connection", "/documents/unknown/deliverynote"),
        (404, "unknown_connection", "/documents/books/items"),
        (404, "unknown_kind", "/documents/goods_in/order"),
        (404, "unknown_kind", "/documents/goods_in/a%00b"),
        (404, "not_found", "/documents/goods_in"),
        (405, "method_not_allowed", f"{NOTES}/{KEY}"),
    ],
)
def test_a_document_sent_to_a_wrong_path_is_not_stored(
    sqlite: Database, opened: Open, status: int, code: str, path: str
) -> None:
    with opened(sqlite) as client:
        answer = client.post(path, **form())
    assert (status, code, []) == (answer.status_code, answer.json()["error"], stored(sqlite))


def _part(name: str, content: bytes, *, filename: bool = True) -> bytes:
    disposition = f'content-disposition: form-data; name="{name}"' + ('; filename="a.pdf"' if filename else "")
    return b"--b\r\n" + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
END = b"--b--\r\n"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (MULTIPART, END),
        (MULTIPART, _part("document", PDF) + END),
        (MULTIPART, _part("file", PDF) * 2 + END),
        (MULTIPART, _part("file", PDF) * 3 + END),
        (MULTIPART, _part("file", PDF, filename=False) + END),
        (MULTIPART, _part("file", PDF) + _part("file", b"x", filename=False) + END),
        (MULTIPART, _part("file", PDF)),
        (MULTIPART, _part("file", PDF)[:-20]),
        (MULTIPART, b"--c\r\n\r\n--c--\r\n"),
        (MULTIPART, PDF),
        (MULTIPART, b""),
        (MULTIPART, b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END),
        (MULTIPART, _part("file", b"") + END),
        (MULTIPART, _part("file", b"<html>") + END),
        (MULTIPART, _part("file", PDF) + _part("order_id", b"1", filename=False) * 2 + END),
        (MULTIPART, _part("file", PDF) + _part("order_id", b"1") + END),
        (MULTIPART, _part("file", PDF) + _part("order_id", b"1\x00", filename=False) + END),
        (MULTIPART, _part("file", PDF) + _part("order_id", b"1\n2", filename=False) + END),
        (MULTIPART, _part("file", PDF) + _part("order_id", b"1" * 201, filename=False) + END),
        (MULTIPART, _part("file", PDF) + _part("order_id", b"\xff", filename=False) + END),
        (MULTIPART, _part("file", PDF) + _part("x", b"1", filename=False) * 30 + END),
        (MULTIPART, _part("x" * 10_000, b"") + _part("file", PDF) + END),
        (MULTIPART, b"--b\r\nno header\r\n\r\n" + END),
        ({"Content-Type": "multipart/form-data"}, _part("file", PDF) + END),
        ({"Content-Type": "application/pdf"}, PDF),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"file=%25PDF-"),
        ({}, b""),
    ],
)
def test_a_form_without_exactly_one_pdf_is_400_and_leaves_nothing(
    sqlite: Database, opened: Open, headers: dict[str, str], body: bytes
) -> None:
    waker = RecordingWaker()
    with opened(sqlite, waker=waker) as client:
        answer = client.post(NOTES, headers=headers, content=body)
    assert (400, "malformed", [], []) == (answer.status_code, answer.json()["error"], stored(sqlite), waker.woken)


@pytest.mark.parametrize(("status", "size"), [(202, LARGEST), (413, LARGEST + 1)])
def test_a_document_may_be_as_large_as_its_connection_says(
    sqlite: Database, opened: Open, status: int, size: int
) -> None:
    with opened(sqlite) as client:
        assert status == client.post(NOTES, **form(PDF + b" " * (size - len(PDF)))).status_code
    assert (1 if status == 202 else 0) == len(stored(sqlite))


def test_a_body_without_an_end_is_refused(sqlite: Database, opened: Open) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield _part("file", PDF)[:-2]
        while True:
            sent += 1000
            yield b" " * 1000

    with opened(sqlite) as client:
        answer = client.post(NOTES, headers=MULTIPART, content=endless())
    assert (413, "too_large", []) == (answer.status_code, answer.json()["error"], stored(sqlite))
    assert sent < 100_000_000


def test_a_body_that_is_declared_too_large_is_refused_before_it_arrives(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        host, port = client.base_url.host, client.base_url.port
        head = f"POST {NOTES} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10000000\r\n"
        with socket.create_connection((host, port), timeout=20) as sock:
            sock.sendall(f"{head}Content-Type: {MULTIPART['Content-Type']}\r\n\r\n".encode())
            assert b"HTTP/1.1 413 " == sock.recv(13)


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "t0ken-of-the-mirror"])
def test_nothing_is_stored_or_returned_without_the_token(
    sqlite: Database, opened: Open, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with opened(sqlite, receiver=TOKEN) as client:
        assert 401 == client.post(NOTES, headers=headers, **form()).status_code
        assert 401 == client.get(f"{NOTES}/{KEY}", headers=headers).status_code
        assert [] == stored(sqlite)
        assert 202 == client.post(NOTES, headers={"Authorization": "Bearer t0ken-of-the-mirror"}, **form()).status_code


@pytest.mark.parametrize("broken", ["erpmirror_documents", "erpmirror_inbox"])
def test_a_document_that_cannot_be_made_durable_is_503_and_may_be_sent_again(
    database: Database, opened: Open, broken: str
) -> None:
    def rename(old: str, new: str) -> None:
        with database.begin() as tx:
            tx.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))

    waker = RecordingWaker()
    with opened(database, waker=waker) as client:
        rename(broken, "elsewhere")
        answer = client.post(NOTES, **form())
        assert (503, "not_durable", "5") == (
            answer.status_code,
            answer.json()["error"],
            answer.headers["Retry-After"],
        )
        rename("elsewhere", broken)
        assert ([], []) == (stored(database), waker.woken)
        assert {"document": KEY, "new": True} == client.post(NOTES, **form()).json()


# Reading


@pytest.mark.parametrize(
    "path",
    [
        f"{NOTES}/{'0' * 64}",
        f"{NOTES}/{KEY.upper()}",
        f"{NOTES}/{KEY[:-1]}",
        f"{NOTES}/x",
        f"{NOTES}/%00",
        f"/documents/goods_in/invoice/{KEY}",
        f"/documents/goods_in/order/{KEY}",
        f"/documents/books/deliverynote/{KEY}",
        f"/documents/unknown/deliverynote/{KEY}",
    ],
)
def test_an_unknown_document_is_404(sqlite: Database, opened: Open, path: str) -> None:
    with opened(sqlite) as client:
        assert 202 == client.post(NOTES, **form()).status_code
        assert 404 == client.get(path).status_code


def test_a_document_that_waits_has_the_state_waiting(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        client.post(NOTES, **form(order_id="17"))
        found = client.get(f"{NOTES}/{KEY}").json()
    assert found.pop("received_at").startswith("20")
    assert {
        "document": KEY,
        "connection": "goods_in",
        "kind": "deliverynote",
        "name": "a.pdf",
        "order_id": "17",
        "size": len(PDF),
        "state": "waiting",
        "reason": None,
        "sent_at": None,
        "answered_at": None,
        "result": None,
    } == found


@contextmanager
def mirror_and_receiver(database: Database, folder: Path) -> Iterator[tuple[Mirror, httpx.Client]]:
    """A sandbox, a mirror that the test drives, and a receiver with the same settings."""
    with mirrored(database, folder, interpreter={}) as mirror:
        text = mirror.settings.file.read_text()
        url = database.url.render_as_string(hide_password=False)
        mirror.settings.file.write_text(f'[database]\nurl = "{url}"\n{text}', encoding="utf-8")
        made = app.create_app(configuration.load(mirror.settings.file), waker=RecordingWaker())
        with served(made, **server.OPTIONS) as address, httpx.Client(base_url=address, trust_env=False) as client:
            yield mirror, client


def test_a_document_that_was_interpreted_is_returned_with_its_result(database: Database, tmp_path: Path) -> None:
    with mirror_and_receiver(database, tmp_path) as (mirror, client):
        assert 202 == client.post("/documents/interpreter/deliverynote", **form()).status_code
        mirror.work()
        found = client.get(f"/documents/interpreter/deliverynote/{KEY}").json()
        truth = mirror.sandboxes["interpreter"].truth("deliverynote")
        assert ("interpreted", None) == (found["state"], found["reason"])
        assert truth[KEY]["poReference"] == found["result"]["poReference"]
        assert None not in {found["sent_at"], found["answered_at"]}


def test_a_document_that_is_parked_is_returned_with_the_reason(sqlite: Database, tmp_path: Path) -> None:
    with mirror_and_receiver(sqlite, tmp_path) as (mirror, client):
        client.post("/documents/interpreter/deliverynote", **form(order_id="999999"))
        mirror.work()
        found = client.get(f"/documents/interpreter/deliverynote/{KEY}").json()
    assert ("parked", None) == (found["state"], found["result"])
    assert "Purchase order not found" in found["reason"]
