"""One document, under everything that could have it sent twice or lose its answer in silence."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import documents, due, inbox, streams
from models.mirror import mending
from tests import services
from tests.processes import TcpProxy
from tests.serving import served
from tests.workers.ingest import document_harness
from tests.workers.ingest.document_harness import KIND, pdf, sha256
from workers.context import ConnectionContext
from workers.ingest import fetch, loop
from workers.queue import due_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.ingest.document_harness import DocumentHarness

    Connect = Callable[..., AbstractContextManager[DocumentHarness]]

ONE = pdf("one")
KEY = sha256(ONE)


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(document_harness.connected, sqlite, tmp_path)


@pytest.fixture
def six(connect: Connect) -> Iterator[DocumentHarness]:
    with connect() as connected:
        yield connected


@pytest.fixture
def everywhere(database: Database, tmp_path: Path) -> Iterator[DocumentHarness]:
    """The same on every kind of database."""
    with document_harness.connected(database, tmp_path) as connected:
        yield connected


def test_a_document_becomes_a_row_its_parts_and_one_journal_entry(everywhere: DocumentHarness) -> None:
    everywhere.hand_in(ONE, order="17")
    everywhere.work()
    assert [(KIND, KEY, "17")] == everywhere.vendor.received
    assert {KEY: document_harness.interpretation(ONE)} == everywhere.live(KIND)
    assert "one" == everywhere.row(KEY, KIND)["supplier_name"]
    assert [(KEY, "created", "document")] == everywhere.journal(KIND)
    assert ("interpreted", {}) == (everywhere.state(ONE), everywhere.inbox(KIND))
    standing = everywhere.document_row(ONE)
    assert standing is not None
    assert None not in {standing.sent_at, standing.answered_at}


def test_an_interpreted_document_is_not_sent_again_however_often_it_is_handed_in(everywhere: DocumentHarness) -> None:
    assert everywhere.hand_in(ONE).new
    everywhere.work()
    assert not everywhere.hand_in(ONE).new
    everywhere.settle()
    assert [KEY] == everywhere.vendor.keys
    assert 1 == len(everywhere.journal(KIND))


def test_the_same_file_is_another_document_as_another_kind(six: DocumentHarness) -> None:
    six.hand_in(ONE)
    six.hand_in(ONE, kind="invoice")
    six.work()
    assert {(KIND, KEY, None), ("invoice", KEY, None)} == set(six.vendor.received)


def test_what_the_vendor_did_not_take_is_tried_later_and_sent_once(six: DocumentHarness) -> None:
    six.vendor.instead.append((429, {"Retry-After": "30"}, "slowly"))
    six.hand_in(ONE)
    six.work()
    standing = six.document_row(ONE)
    assert standing is not None
    assert ("waiting", None) == (standing.state, standing.sent_at)
    assert "HTTP 429 slowly" == six.reason(ONE)
    six.clock.advance(seconds=31)
    six.work()
    assert "interpreted" == six.state(ONE)
    six.settle()
    assert 2 == len(six.vendor.received)


def test_a_vendor_that_was_unreachable_gets_the_document_once(connect: Connect) -> None:
    vendor = document_harness.Vendor()
    with served(vendor.app) as address, TcpProxy(address) as line, connect(url=line.address) as six:
        line.cut()
        six.hand_in(ONE)
        six.work()
        assert ("waiting", []) == (six.state(ONE), vendor.received)
        line.mend()
        six.settle()
        assert ("interpreted", [KEY]) == (six.state(ONE), vendor.keys)


def test_a_document_without_an_answer_is_parked_and_not_sent_again_before_a_person_says_so(connect: Connect) -> None:
    with connect(timeout="1s") as six:
        six.vendor.may_answer.clear()
        six.hand_in(ONE)
        six.work()
        six.vendor.may_answer.set()
        assert ("parked", {KEY: "parked"}) == (six.state(ONE), six.states(KIND))
        assert "it may have arrived" in six.reason(ONE)
        assert f"erpmirror parked retry six {KIND} {KEY}" in six.reason(ONE)
        six.hand_in(ONE)
        six.settle()
        assert [KEY] == six.vendor.keys
        six.retry(KEY, resource=KIND)
        six.work()
        assert ("interpreted", [KEY, KEY]) == (six.state(ONE), six.vendor.keys)
        assert {} == six.inbox(KIND)


def test_an_uncertain_answer_parks_the_document_and_closes_the_gate(
    six: DocumentHarness,
) -> None:
    two = pdf("two")
    six.vendor.instead.append((502, {}, "bad gateway"))
    six.hand_in(ONE)
    six.hand_in(two)
    six.sync()
    assert (six.state(ONE), six.state(two)) in {("parked", "waiting"), ("waiting", "parked")}
    assert 1 == len(six.vendor.received)
    six.clock.advance(minutes=10)
    six.settle()
    assert {"parked", "interpreted"} == {six.state(ONE), six.state(two)}
    assert {KEY, sha256(two)} == set(six.vendor.keys)
    assert 2 == len(six.vendor.received)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, {}, "no order 17"), "no order 17"),
        ((410, {}, "whose is it"), "whose is it"),
        ((200, {}, "<html>"), "it may have arrived"),
        ((200, {}, '{"misread": 1}'), "not understood: TypeError in "),
    ],
)
def test_what_the_vendor_refuses_or_cannot_be_decoded_is_parked_with_the_reason(
    six: DocumentHarness, answer: tuple[int, dict[str, str], str], words: str
) -> None:
    six.vendor.instead.append(answer)
    six.hand_in(ONE)
    six.settle()
    assert ("parked", {KEY: "parked"}, [KEY]) == (six.state(ONE), six.states(KIND), six.vendor.keys)
    assert words in six.reason(ONE)


def test_a_resource_that_is_refused_is_parked_and_its_documents_wait_unsent(six: DocumentHarness) -> None:
    six.vendor.instead.append((401, {}, "credentials do not match"))
    six.hand_in(ONE)
    six.hand_in(pdf("two"))
    six.work()
    assert ("parked", 1) == (six.stream(KIND).state, len(six.vendor.received))
    assert {"waiting"} == {six.state(ONE), six.state(pdf("two"))}
    with six.database.begin() as tx:
        streams.reopen(tx, connection="six", resource=KIND)
    six.work()
    assert {"interpreted"} == {six.state(ONE), six.state(pdf("two"))}


def test_documents_of_a_refused_resource_are_tried_again_after_an_hour_by_themselves(six: DocumentHarness) -> None:
    six.vendor.instead.append((401, {}, "the feature is missing"))
    six.hand_in(ONE)
    six.hand_in(pdf("two"))
    six.work()
    assert ("parked", 1) == (six.stream(KIND).state, len(six.vendor.received))
    six.clock.advance(minutes=59)
    six.work()
    assert 1 == len(six.vendor.received)
    six.clock.advance(minutes=1)
    six.work()
    assert ("open", {"interpreted"}) == (six.stream(KIND).state, {six.state(ONE), six.state(pdf("two"))})
    assert 3 == len(six.vendor.received)


def test_a_crash_of_ours_after_the_answer_parks_the_document(six: DocumentHarness) -> None:
    six.vendor.instead.append((200, {}, '{"crash": 1}'))
    six.hand_in(ONE)
    with pytest.raises(RuntimeError):
        six.sync()
    assert "sending" == six.state(ONE)
    six.settle()
    assert ("parked", [KEY], 0) == (six.state(ONE), six.vendor.keys, six.leases())
    assert "it may have arrived" in six.reason(ONE)


def test_a_document_whose_sender_died_waits_for_the_lease_to_end_and_is_parked(everywhere: DocumentHarness) -> None:
    six = everywhere
    six.vendor.instead.append((200, {}, '{"kill": 1}'))
    six.hand_in(ONE)
    with pytest.raises(BaseException, match=r"^$"):
        six.sync()
    six.work()
    assert ("sending", {KEY: "due"}) == (six.state(ONE), six.states(KIND))
    six.settle()
    assert ("parked", [KEY]) == (six.state(ONE), six.vendor.keys)
    assert "it may have arrived" in six.reason(ONE)


def test_an_answer_that_came_after_the_lease_is_discarded_and_the_document_parked(everywhere: DocumentHarness) -> None:
    six = everywhere
    six.vendor.meanwhile = lambda: six.clock.advance(minutes=5)
    six.hand_in(ONE)
    six.work()
    assert ("parked", [KEY]) == (six.state(ONE), six.vendor.keys)
    assert {} == six.live(KIND)
    assert [] == six.journal(KIND)


@pytest.mark.parametrize("answer", [(429, {}, "slowly"), (401, {}, "not you"), (400, {}, "no"), (500, {}, "oh")])
def test_a_late_worker_moves_nothing_that_another_has_begun(
    six: DocumentHarness, answer: tuple[int, dict[str, str], str]
) -> None:
    """A person had it sent again, and that sender died: who believes the first's refusal sends a third time."""

    def parked_retried_and_sent_again() -> None:
        six.clock.advance(minutes=5)
        six.work()
        assert "parked" == six.state(ONE)
        six.retry(KEY, resource=KIND)
        six.vendor.instead.append((200, {}, '{"kill": 1}'))
        with pytest.raises(BaseException, match=r"^$"):
            six.sync()

    six.vendor.instead.append(answer)
    six.vendor.meanwhile = parked_retried_and_sent_again
    six.hand_in(ONE)
    six.sync()
    assert "sending" == six.state(ONE)
    six.settle()
    assert ("parked", "open", [KEY, KEY]) == (six.state(ONE), six.stream(KIND).state, six.vendor.keys)


def test_a_database_that_breaks_between_answer_and_commit_parks_the_document(six: DocumentHarness) -> None:
    def rename(old: str, new: str) -> None:
        with six.database.begin() as tx:
            tx.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))

    six.vendor.meanwhile = partial(rename, "erpmirror_changes", "elsewhere")
    six.hand_in(ONE)
    six.sync()
    rename("elsewhere", "erpmirror_changes")
    assert {} == six.live(KIND)
    six.settle()
    assert ("parked", [KEY]) == (six.state(ONE), six.vendor.keys)


def test_an_answer_that_the_database_refuses_is_parked_with_the_reason(six: DocumentHarness) -> None:
    six.hand_in(pdf("first"))
    six.work()
    with six.database.begin() as tx:
        tx.execute(sa.text(f"CREATE TRIGGER no BEFORE INSERT ON sixth_{KIND} BEGIN SELECT RAISE(ABORT, 'never'); END"))
    six.hand_in(ONE)
    six.settle()
    assert ("parked", 2) == (six.state(ONE), len(six.vendor.received))
    assert f'the database refused a value: the trigger "no" on sixth_{KIND} refuses it: never' == six.reason(ONE)


def test_a_document_whose_table_was_dropped_waits_for_it(everywhere: DocumentHarness) -> None:
    six = everywhere
    six.hand_in(pdf("first"))
    six.work()
    with six.database.begin() as tx:
        tx.execute(sa.text(f"DROP TABLE sixth_{KIND}"))
    six.hand_in(ONE)
    six.work()
    assert ("waiting", 1) == (six.state(ONE), len(six.vendor.received))
    assert f"the table sixth_{KIND} is missing; run `erpmirror migrate`" in six.reason(ONE)
    mending.mend(six.database)
    six.settle()
    assert ("interpreted", 2) == (six.state(ONE), len(six.vendor.received))


@services.ON_POSTGRESQL
@pytest.mark.parametrize(("mode", "seconds"), [("ACCESS SHARE", 3), ("ACCESS EXCLUSIVE", 7)])
def test_an_answer_waits_while_a_transaction_locks_the_table(
    everywhere: DocumentHarness, mode: str, seconds: int
) -> None:
    six = everywhere
    six.hand_in(pdf("first"))
    six.work()
    with ExitStack() as query:

        def somebody_reads() -> None:
            held = query.enter_context(six.database.begin())
            held.execute(sa.text(f"LOCK TABLE sixth_{KIND} IN {mode} MODE"))
            threading.Timer(seconds, query.close).start()  # longer than one try

        six.vendor.instead.append((200, {}, '{"a_new_field": 1}'))
        six.vendor.meanwhile = somebody_reads
        six.hand_in(ONE)
        six.work()
    assert ("interpreted", 2) == (six.state(ONE), len(six.vendor.received))
    assert 1 == six.row(KEY, KIND)["a_new_field"]


def test_a_worker_that_read_the_key_before_the_document_was_parked_does_not_send_it(six: DocumentHarness) -> None:
    six.vendor.instead.append((400, {}, "no"))
    six.hand_in(ONE)
    with six.database.read() as tx:
        [stale] = inbox.due(tx, connection="six", now=six.clock.now)
    six.sync()
    with six.context.work_session() as session:
        fetch.fetch(session, stale)
    assert ("parked", [KEY]) == (six.state(ONE), six.vendor.keys)


def test_a_document_that_was_forgotten_is_not_sent(six: DocumentHarness) -> None:
    six.hand_in(ONE)
    with six.database.begin() as tx:
        documents.forget(tx, connection="six", kind=KIND)
    six.work()
    assert ([], {}) == (six.vendor.received, six.inbox(KIND))


def test_a_document_that_is_erased_while_it_is_interpreted_leaves_no_row(everywhere: DocumentHarness) -> None:
    six = everywhere

    def forget() -> None:
        with six.database.begin() as tx:
            documents.forget(tx, connection="six", kind=KIND)

    six.vendor.meanwhile = forget
    six.hand_in(ONE)
    six.work()
    assert (None, {}, {}) == (six.state(ONE), six.live(KIND), six.inbox(KIND))


@services.ON_POSTGRESQL
def test_a_document_that_is_handed_in_while_its_kind_is_erased_is_interpreted(everywhere: DocumentHarness) -> None:
    """Without its inbox row it would wait for ever."""
    six = everywhere
    with six.database.begin() as tx:
        documents.forget(tx, connection="six", kind=KIND)
        person = six.in_thread(lambda: six.hand_in(ONE))
        person.join(1)
        inbox.forget(tx, connection="six", resource=KIND)
    person.join(30)
    six.work()
    assert ("interpreted", [KEY]) == (six.state(ONE), six.vendor.keys)


def test_several_documents_are_interpreted_at_once_up_to_the_concurrency(database: Database, tmp_path: Path) -> None:
    with document_harness.connected(database, tmp_path, concurrency=2) as six:
        six.vendor.may_answer.clear()
        workers = []
        for text in ("one", "two", "three"):
            six.hand_in(pdf(text))
        for _ in range(2):
            workers.append(six.in_thread(six.sync))
            assert six.vendor.busy.wait(20)
            six.vendor.busy.clear()
        six.sync()
        assert 2 == len(six.vendor.received)
        six.vendor.may_answer.set()
        for worker in workers:
            worker.join(30)
        six.work()
        assert {"interpreted"} == {six.state(pdf(text)) for text in ("one", "two", "three")}


def test_one_document_is_never_sent_twice_at_once(everywhere: DocumentHarness) -> None:
    six = everywhere
    six.hand_in(ONE)
    workers = [six.in_thread(six.sync) for _ in range(6)]
    for worker in workers:
        worker.join(60)
    six.work()
    assert ("interpreted", [KEY]) == (six.state(ONE), six.vendor.keys)


def test_while_another_worker_sends_the_document_nothing_is_due(connect: Connect) -> None:
    with connect() as six:
        six.work()
        six.vendor.may_answer.clear()
        six.hand_in(ONE)
        worker = six.in_thread(six.sync)
        assert six.vendor.busy.wait(20)
        assert (False, False) == due_work.has_work(six.context, due.load(six.database))
        six.vendor.may_answer.set()
        worker.join(30)
        assert "interpreted" == six.state(ONE)


def test_a_document_of_a_resource_that_only_newer_settings_have_waits_for_a_worker_with_them(
    connect: Connect,
) -> None:
    with connect() as six:
        older = six.settings.connections["six"].model_copy(update={"resources": ("invoice",)})
        with six.database.begin() as tx:
            streams.forget(tx, connection="six", resource=KIND)
        six.hand_in(ONE)
        loop.sync(ConnectionContext(six.database, six.settings, older))
        assert ([], {KEY: "due"}) == (six.vendor.received, six.states(KIND))
        six.context.sync_streams()
        six.clock.advance(minutes=2)
        six.work()
        assert [KEY] == six.vendor.keys


def test_documents_of_another_kind_do_not_wait_for_a_retired_resource(six: DocumentHarness) -> None:
    six.change(KIND, state="retired")
    six.hand_in(ONE)
    six.hand_in(ONE, kind="invoice")
    six.work()
    assert [("invoice", KEY, None)] == six.vendor.received
