from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa

from models.bookkeeping import webhooks
from models.db import tables
from models.values import ObjectRef
from tests.processes import until
from tests.receiver import samples
from tests.receiver.wakers import FailingWaker, HangingWaker, RecordingWaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.db.database import Database
    from tests.receiver.conftest import Open


def test_the_vendors_own_get_is_answered_once_it_is_stored(database: Database, opened: Open) -> None:
    packet = samples.packet()
    with opened(database) as client:
        answer = client.get(f"/hooks/shop?{samples.query(packet)}")
        assert (200, {"ok": True}) == (answer.status_code, answer.json())
        assert [samples.new(packet)] == samples.rows(database)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (urlencode({"packet": samples.packet()}), "application/x-www-form-urlencoded"),
        (
            urlencode({"packet": samples.packet(), "other": "field"}),
            "application/x-www-form-urlencoded; charset=utf-8",
        ),
        (samples.packet(), "application/json"),
        (samples.packet(), "application/json; charset=utf-8"),
        (samples.packet(), "text/plain"),
        (samples.packet(), None),
        (
            samples.packet(),
            "application/x-www-form-urlencoded",
        ),  # PHP's curl sends this type with JSON unless another is set
        (
            f'--b\r\nContent-Disposition: form-data; name="packet"\r\n\r\n{samples.packet()}\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
    ],
)
def test_a_packet_may_be_posted(sqlite: Database, opened: Open, content: str, kind: str | None) -> None:
    with opened(sqlite) as client:
        answer = client.post("/hooks/shop", content=content, headers={"Content-Type": kind} if kind else {})
    assert 200 == answer.status_code
    assert [samples.new(samples.packet())] == samples.rows(sqlite)


def test_a_packet_may_be_posted_in_the_query(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        assert 200 == client.post(f"/hooks/shop?{samples.query(samples.packet())}").status_code
    assert [samples.new(samples.packet())] == samples.rows(sqlite)


def test_a_posted_body_may_come_in_chunks(sqlite: Database, opened: Open) -> None:
    def chunks() -> Iterator[bytes]:
        for character in samples.packet():
            yield character.encode()

    with opened(sqlite) as client:
        assert 200 == client.post("/hooks/shop", content=chunks()).status_code
    assert [samples.new(samples.packet())] == samples.rows(sqlite)


def test_an_id_may_be_a_number(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        assert 200 == client.get(f"/hooks/shop?{samples.query(samples.packet(key=int(samples.GOODS)))}").status_code
    assert [samples.new(samples.packet(key=int(samples.GOODS)))] == samples.rows(sqlite)


@pytest.mark.parametrize(
    "packet", [samples.packet(action="objectPraised"), samples.packet("catalogs.persons", "1100100000000001")]
)
def test_a_webhook_about_nothing_that_is_mirrored_is_stored_as_ignored(
    sqlite: Database, opened: Open, packet: str
) -> None:
    waker = RecordingWaker()
    with opened(sqlite, waker=waker) as client:
        assert 200 == client.get(f"/hooks/shop?{samples.query(packet)}").status_code
    assert [("shop", "ignored", None, None, packet)] == samples.rows(sqlite)
    assert [] == waker.woken


def test_a_worker_is_woken_for_the_connection_after_its_webhook_is_stored(sqlite: Database, opened: Open) -> None:
    waker = RecordingWaker()
    with opened(sqlite, waker=waker) as client:
        client.get(f"/hooks/shop?{samples.query(samples.packet())}")
    assert ["shop"] == waker.woken


def test_a_broker_that_hangs_or_fails_neither_delays_nor_fails_the_response(sqlite: Database, opened: Open) -> None:
    hanging = HangingWaker()
    for waker in (hanging, FailingWaker()):
        with opened(sqlite, waker=waker) as client:
            assert [200] * 3 == [
                client.get(f"/hooks/shop?{samples.query(samples.packet())}").status_code for _ in range(3)
            ]
    hanging.released.set()
    assert 6 == len(samples.rows(sqlite))


def test_requests_that_arrive_together_are_all_stored_once(database: Database, opened: Open) -> None:
    packets = [samples.packet(key=f"11003{number:011}") for number in range(60)]
    with opened(database) as client, ThreadPoolExecutor(20) as senders:
        answers = list(
            senders.map(lambda packet: client.get(f"/hooks/shop?{samples.query(packet)}").status_code, packets)
        )
    assert [200] * 60 == answers
    assert sorted(packets) == sorted(row[4] for row in samples.rows(database))
    with database.begin() as tx:
        assert 60 == webhooks.fold(tx, connection="shop", limit=1000)
        rows = tx.execute(sa.select(tables.inbox.c.resource, tables.inbox.c.key))
        assert 60 == len({ObjectRef(*row) for row in rows})


def test_requests_that_arrive_during_a_commit_share_the_next_one(sqlite: Database, opened: Open) -> None:
    address = f"/hooks/shop?{samples.query(samples.packet())}"
    request = f"GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with opened(sqlite) as client, ExitStack() as stack:
        with sqlite.begin():  # SQLite allows one writer, so the first commit has to wait
            waiting = [stack.enter_context(samples.connect(client)) for _ in range(20)]
            for sock in waiting:
                sock.sendall(request)
                # When this is answered, the receiver has read what was sent before it.
                assert 200 == client.get("/livez").status_code
        answers = [sock.recv(65536) for sock in waiting]
        page = client.get("/metrics").text
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert 20 == len(samples.rows(sqlite))
    assert "erpmirror_webhook_batch_size_count 2.0" in page
    assert "erpmirror_webhook_batch_size_sum 20.0" in page


def test_a_webhook_that_cannot_be_stored_waits_in_the_spool_and_wakes_a_worker_once_it_is_stored(
    database: Database, opened: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    waker = RecordingWaker()
    with opened(database, waker=waker) as client:
        with database.begin() as tx:
            tx.execute(sa.text("ALTER TABLE erpmirror_webhooks RENAME TO elsewhere"))
        assert 200 == client.get(f"/hooks/shop?{samples.query(samples.packet())}").status_code
        assert [] == waker.woken
        with database.begin() as tx:
            tx.execute(sa.text("ALTER TABLE elsewhere RENAME TO erpmirror_webhooks"))
        until(lambda: waker.woken, seconds=60, what=lambda: client.get("/readyz").text)
    assert [samples.new(samples.packet())] == samples.rows(database)
    assert ["shop"] == waker.woken
    output = capfd.readouterr()
    assert samples.GOODS not in output.out + output.err


def test_a_proxy_may_strip_the_prefix_or_leave_it(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, receiver='root_path = "/erp/mirror"') as client:
        for prefix in ("", "/erp/mirror"):
            assert 200 == client.get(f"{prefix}/hooks/shop?{samples.query(samples.packet())}").status_code
            assert 200 == client.get(f"{prefix}/livez").status_code
    assert 2 == len(samples.rows(sqlite))


@pytest.mark.parametrize(
    "note",
    ['"x\\ud83c"', '"x\\udf39y"', '"x"}, "\\udf39": {"a": "\\ud83c"', '"a\tb\r\nc"', "NaN", "-Infinity"],
    ids=["high half", "low half", "half in a name", "controls", "NaN", "infinite"],
)
def test_a_packet_that_is_not_quite_json_is_accepted_because_it_says_what_changed(
    sqlite: Database, opened: Open, note: str
) -> None:
    packet = samples.packet()[:-1] + f', "note": {{"text": {note}}}}}'
    with opened(sqlite) as client:
        for answer in (
            client.get(f"/hooks/shop?{samples.query(packet)}"),
            client.post("/hooks/shop", content=packet.encode(), headers={"Content-Type": "application/json"}),
        ):
            assert 200 == answer.status_code, answer.text
    assert [samples.new(packet)] * 2 == samples.rows(sqlite)


def test_a_compressed_body_is_never_inflated(sqlite: Database, opened: Open) -> None:
    bomb = gzip.compress(gzip.compress(b" " * 2**20))
    with opened(sqlite) as client:
        for content in (bomb, gzip.compress(samples.packet().encode())):
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip, gzip"}
            assert 400 == client.post("/hooks/shop", content=content, headers=headers).status_code
    assert [] == samples.rows(sqlite)
