"""The journal on the command line: for people, for pipes, and followed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from rich.text import Text

from models.bookkeeping.subscriptions import Filter
from models.db import tables
from models.db.database import Database
from models.values import ChangeKind
from tests.processes import TcpProxy
from tests.workers.cli.runner import GOODS, TIMEOUT, ended, ok, refused
from tests.workers.cli.subscribers import Mirror, installed
from workers.cli.journal_reader import JournalReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = timedelta(days=2)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with installed(sa.make_url(f"sqlite:///{tmp_path / 'mirror.db'}")) as made:
        yield made


@pytest.fixture
def anywhere(empty_url: sa.URL) -> Iterator[Mirror]:
    """Where the SQL differs: once for each kind of database."""
    with installed(empty_url) as made:
        yield made


def lines(*words: str) -> list[str]:
    return ok("changes", *words).stdout.splitlines()


def ids(*words: str) -> list[int]:
    return [json.loads(line)["id"] for line in lines(*words, "--json")]


def reader(mirror: Mirror, wanted: Filter | None = None) -> tuple[JournalReader, list[str]]:
    """A reader, and what it says beside the changes."""
    notes: list[str] = []
    return JournalReader(mirror.database, wanted or Filter(), key=None, note=notes.append), notes


@contextmanager
def following(*words: str) -> Iterator[subprocess.Popen[str]]:
    """`erpmirror changes --follow` as a process of its own."""
    command = [sys.executable, "-m", "workers.cli", "changes", "--follow", *words]
    started = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell has its background jobs ignore Ctrl-C, and this run may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=TIMEOUT)


def test_the_latest_changes_come_last(mirror: Mirror) -> None:
    mirror.change(*map(str, range(1, 31)))
    assert list(range(11, 31)) == ids()
    assert [29, 30] == ids("--limit", "2")


def test_without_changes_it_says_so(mirror: Mirror) -> None:
    assert ["Nothing has changed yet."] == lines()
    mirror.change("1")
    assert ["No change matches."] == lines("--key", "2")
    assert [] == lines("--key", "2", "--json")


def test_several_values_of_a_filter_are_alternatives(anywhere: Mirror) -> None:
    anywhere.change("1", "2")
    anywhere.change("1", connection="other")
    anywhere.change("1", kind=ChangeKind.DELETED, after=None)
    for wanted, expected in (
        (Filter(connections=("shop",)), [1, 2, 4]),
        (Filter(connections=("shop", "other"), kinds=("created",)), [1, 2, 3]),
        (Filter(resources=(GOODS,), kinds=("deleted", "updated")), [4]),
    ):
        made, _ = reader(anywhere, wanted)
        assert expected == [row.id for row in made.latest(20)]
        assert [expected] == [[row.id for row in page] for page in made.since(0, limit=None)]


def test_filters_of_the_command_line(mirror: Mirror) -> None:
    mirror.change("1", "2")
    mirror.change("1", connection="other")
    mirror.change("1", kind=ChangeKind.DELETED, after=None)
    assert [3] == ids("--connection", "other")
    assert [1, 3, 4] == ids("--key", "1")
    assert [1, 4] == ids("--key", "1", "--connection", "shop", "--resource", GOODS)
    assert [4] == ids("--kind", "deleted", "--kind", "restored")


def test_a_misspelt_filter_is_compared_with_what_there_is(mirror: Mirror) -> None:
    mirror.change("1", connection="forgotten")
    assert 'did you mean "shop"?' in refused("changes", "--connection", "shpo")
    assert 'did you mean "catalogs.goods"?' in refused("changes", "--resource", "catalogs.good", "--follow")
    assert 'did you mean "updated"?' in refused("changes", "--kind", "update")
    assert [1] == ids("--connection", "forgotten")


def test_since_a_change_or_a_time(mirror: Mirror) -> None:
    mirror.change("1", "2", ago=OLD)
    mirror.change("3", "4")
    assert [3, 4] == ids("--since", "2")
    assert [1, 2, 3, 4] == ids("--since", "0")
    assert [1, 2] == ids("--since", "0", "--limit", "2")
    assert [1, 2, 3, 4] == ids("--since", "2020-01-01")
    with mirror.database.read() as tx:
        noon, tomorrow = tx.now - timedelta(days=1), tx.now + timedelta(days=1)
    assert [3, 4] == ids("--since", noon.isoformat())
    assert [] == ids("--since", f"{tomorrow:%Y-%m-%dT%H:%M}")
    assert '"soon" is no time' in refused("changes", "--since", "soon")


def test_json_has_the_fields_of_the_route(mirror: Mirror) -> None:
    price = {"price": Decimal("1.234567890123456789")}
    mirror.change("1", kind=ChangeKind.UPDATED, before={"price": 1}, after=price)
    (line,) = lines("--json")
    found = json.loads(line, parse_float=Decimal)
    assert ["id", "at", "connection", "resource", "key", "kind", "revision", "cause", "before", "after"] == list(found)
    assert ("updated", "poll", {"price": 1}, price) == (found["kind"], found["cause"], found["before"], found["after"])
    assert found["at"].endswith("+00:00")


def test_an_update_is_shown_by_its_differences(mirror: Mirror) -> None:
    before = {"price": Decimal("1.5"), "name": "Nail", "note": None, "rows.1": None, "tags": ["a"], "header.old": 1}
    after = {
        "price": Decimal("1.234"),
        "name": "Nägel",
        "note": "neu",
        "rows": [{}, {"good": "Nail", "qty": 2, "parts": [1, 2]}],
        "tags": None,
        "header": {},
    }
    mirror.change("17", kind=ChangeKind.UPDATED, before=before, after=after)
    first, *below = lines()
    assert first.endswith(f" 1 updated  shop {GOODS} 17 poll")
    assert [
        "    price: 1.5 → 1.234",
        '    name: "Nail" → "Nägel"',
        '    note: (none) → "neu"',
        '    rows.1: (none) → {good: "Nail", qty: 2, parts: [2 items]}',
        "    tags: [1 item] → (none)",
        "    header.old: 1 → (none)",
    ] == below


def test_a_creation_is_shown_by_the_fields_that_tell_what_it_is(mirror: Mirror) -> None:
    order = {
        "header": {
            "id": "1109100000000001",
            "checked": True,
            "sum": 0,
            "rate": 17,
            "person": {"id": "11", "pr": "Ann"},
            "number": "S-1",
        },
        "goods": [{"name": "Nail"}],
    }
    mirror.change("1109100000000001", after=order)
    mirror.change("2", kind=ChangeKind.RESTORED, after={"name": "x" * 200, "code": "A"})
    mirror.change("2", kind=ChangeKind.DELETED, after=None)
    created, telling, restored, code, deleted = lines()
    assert '    header.number: "S-1", header.person.pr: "Ann", header.rate: 17, header.sum: 0' == telling
    assert '    code: "A"' == code
    assert ["created", "restored", "deleted"] == [line.split()[3] for line in (created, restored, deleted)]


@pytest.mark.usefixtures("terminal")
def test_values_that_differ_far_from_their_beginning_are_cut_around_the_difference(mirror: Mirror) -> None:
    long = "the same beginning of a long remark " * 4
    before = {"remark": f"{long}old{long}", "other": "y" * 200, **{f"f{number}": 1 for number in range(20)}}
    mirror.change(
        "1", kind=ChangeKind.UPDATED, before=before, after={"remark": f"{long}new{long}", "other": "z", "f0": 2}
    )
    printed = lines()
    assert "old" in printed[2]
    assert "new" in printed[2]
    assert printed[3].endswith('… → "z"')
    assert "    … and 10 more fields" == printed[-1]
    assert [] == [line for line in printed if len(line) > 80]


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_the_date_stands_once(mirror: Mirror) -> None:
    mirror.change("1", "2", ago=OLD)
    mirror.change("3")
    dates = [line for line in lines() if line.endswith(", UTC")]
    assert 2 == len(dates)


def test_kinds_have_colours(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    mirror.change("1")
    (line,) = [line for line in lines() if "created" in line]
    assert "\x1b[32mcreated" in line
    assert f"created  shop {GOODS} 1 poll" in Text.from_ansi(line).plain


def test_what_a_vendor_sends_cannot_command_the_terminal(mirror: Mirror) -> None:
    bad = "\x1b[2J\x9b\u202e\r\n"
    mirror.change(bad, after={"name": bad, bad: bad})
    mirror.change(bad, kind=ChangeKind.UPDATED, before={"name": None, "x": bad}, after={"name": {bad: bad}})
    printed = ok("changes").stdout
    assert not set(bad.replace("[2J", "").replace("\n", "")) & set(printed)
    assert 4 == len(printed.splitlines())


def test_a_terminal_that_cannot_say_a_character_gets_its_escape(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.change("1", kind=ChangeKind.UPDATED, before={"name": "Nail"}, after={"name": "Nägel"})
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    ran = ended("changes")
    assert (0, r'    name: "Nail" \u2192 "N\xe4gel"') == (ran.returncode, ran.stdout.splitlines()[-1])
    assert "Nägel" in ended("changes", "--json").stdout


def test_follow_goes_on_until_ctrl_c(anywhere: Mirror) -> None:
    anywhere.change("1")
    with following("--json") as process:
        assert process.stdout is not None
        assert "1" == json.loads(process.stdout.readline())["key"]
        for key in ("2", "3"):
            anywhere.change(key)
            assert key == json.loads(process.stdout.readline())["key"]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT)
        assert (130, "", "") == (process.returncode, rest, errors)


def test_follow_ends_quietly_when_nothing_reads_it_any_more(mirror: Mirror) -> None:
    mirror.change("1")
    with following() as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=TIMEOUT)
        assert (141, "") == (process.returncode, errors)


def test_follow_survives_that_the_database_goes_away_and_says_so_once(anywhere: Mirror) -> None:
    url = anywhere.database.url
    if anywhere.database.is_sqlite:
        pytest.skip("a file does not go away")
    with TcpProxy(url.render_as_string(hide_password=False)) as proxy:
        behind = Mirror(Database(proxy.address))
        made, notes = reader(behind)
        anywhere.change("1")
        with closing(made.follow()) as pages:
            assert ["1"] == [row.key for row in next(pages)]
            proxy.cut()
            assert [[], [], []] == [next(pages) for _ in range(3)]
            assert 1 == len(notes)
            assert "the database cannot be used" in notes[0]
            anywhere.change("2")
            proxy.mend()
            found = next(page for page in pages if page)
            assert ["2"] == [row.key for row in found]
            assert "the database answers again" == notes[-1]
        behind.database.close()


def test_a_trimmed_journal_is_said_and_passed_over(anywhere: Mirror) -> None:
    anywhere.change("1", "2", "3", ago=OLD)
    made, notes = reader(anywhere)
    assert [3] == [row.id for row in made.latest(1)]
    anywhere.change("4", "5", ago=OLD)
    anywhere.change("6")
    anywhere.trim()
    assert [6] == [row.id for row in made.page()]
    assert ["changes 4 to 5 were deleted (`keep_changes`) before they were shown"] == notes
    assert [] == made.page()
    again, notes = reader(anywhere)
    assert [[6]] == [[row.id for row in page] for page in again.since(2, limit=None)]
    assert ["changes 3 to 5 were deleted (`keep_changes`) before they were shown"] == notes


def test_a_journal_that_was_set_back_is_followed_in_its_new_history(anywhere: Mirror) -> None:
    anywhere.change("1", "2")
    made, notes = reader(anywhere)
    made.latest(20)
    anywhere.change("lost", "lost")
    assert [3, 4] == [row.id for row in made.page()]
    with anywhere.database.begin() as tx:
        tx.execute(sa.delete(tables.changes).where(tables.changes.c.id > 2))
        tx.execute(sa.update(tables.feed).values(last=2))
    anywhere.change("3", "4", "5")
    assert ["3", "4", "5"] == [row.key for row in made.page()]
    assert ["the journal was set back to 2 (a backup was restored); what follows comes after that"] == notes
    assert [] == made.page()


def test_a_follower_gets_every_change_once_and_in_order_while_many_write(anywhere: Mirror) -> None:
    made, notes = reader(anywhere)
    made.latest(20)

    def write() -> None:
        for _ in range(10):
            anywhere.change("a", "b")

    writers = [threading.Thread(target=write) for _ in range(4)]
    for each in writers:
        each.start()
    found: list[int] = []
    with closing(made.follow()) as pages:
        while len(found) < 80:
            found += [row.id for row in next(pages)]
    for each in writers:
        each.join()
    assert list(range(1, 81)) == found
    assert [] == notes


def test_pages_neither_miss_nor_repeat_a_change_that_matches(mirror: Mirror) -> None:
    for number in range(40):
        mirror.change(*(f"{number}-{each}" for each in range(50)), connection="shop" if number % 2 else "other")
    made, notes = reader(mirror, Filter(connections=("shop",)))
    found = [row.id for page in made.since(0, limit=None) for row in page]
    assert (1000, found) == (len(set(found)), sorted(found))
    assert [] == notes
    assert 1000 == len(ids("--since", "0", "--connection", "shop"))
