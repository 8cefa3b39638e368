"""Subscriptions from the command line: how each does, and a person's decisions."""

from __future__ import annotations

import base64
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import subscriptions
from models.bookkeeping.subscriptions import PausedBy, State
from models.db import outgoing_tables
from models.db.tables import wakeups
from models.values import ChangeKind
from tests.workers.cli.runner import GOODS, ended, ok, refused, run
from tests.workers.cli.subscribers import SECRET, URL, Mirror, installed
from workers import configuration
from workers.deliveries import standing

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


def shown(*words: str) -> Any:
    return json.loads(ok("subscriptions", *words, "--json").stdout)


def text(*words: str) -> str:
    return " ".join(ok("subscriptions", *words).stdout.split())


def process(*words: str) -> str:
    """What a process of its own prints: a verb leaves it to the process's end to close its links to PostgreSQL."""
    ran = ended("subscriptions", *words)
    assert 0 == ran.returncode, ran.stderr
    return ran.stdout if "--json" in words else " ".join(ran.stdout.split())


def woken(mirror: Mirror) -> list[tuple[str, str]]:
    with mirror.database.read() as tx:
        return [tuple(row) for row in tx.execute(sa.select(wakeups.c.connection, wakeups.c.queue))]


def pause(mirror: Mirror, by: PausedBy, reason: str = "because") -> None:
    with mirror.database.begin() as tx:
        assert subscriptions.pause(tx, "crm", by=by, reason=reason)


def test_without_subscriptions_the_list_says_how_to_add_one(mirror: Mirror) -> None:
    mirror.configure()
    assert "Add [subscriptions.NAME] with `url` and `secret`" in text()
    assert [] == shown("list")


def test_one_that_was_not_started_is_listed_with_what_starts_it(mirror: Mirror) -> None:
    mirror.change("1", "2")
    listed = text()
    assert "crm not started" in listed
    assert "it begins when `erpmirror up`" in listed
    assert [("not_started", None, 0)] == [
        (each["state"], each["position"], each["undelivered"]) for each in shown("list")
    ]


def test_no_key_and_no_secret_is_shown(mirror: Mirror) -> None:
    mirror.start("crm")
    for words in (["subscriptions"], ["subscriptions", "show", "crm"], ["subscriptions", "list", "--json"]):
        printed = ok(*words).output
        assert URL in printed
        assert "k3y" not in printed
        assert SECRET not in printed


def test_what_waits_is_counted_by_the_filter(anywhere: Mirror) -> None:
    anywhere.configure(crm='connections = ["shop"]\nkinds = ["created"]', all="")
    anywhere.start("crm", "all")
    anywhere.change("1", "2", ago=OLD)
    anywhere.change("1", kind=ChangeKind.DELETED, after=None)
    anywhere.change("3", connection="other")
    found = {each["name"]: each for each in json.loads(process("list", "--json"))}
    assert (2, 4) == (found["crm"]["undelivered"], found["all"]["undelivered"])
    assert ("behind", ["created"]) == (found["crm"]["verdict"], found["crm"]["kinds"])
    listed = process()
    assert "told of changes in shop: created 2 changes wait, the oldest for 2 d" in listed
    assert "told of all changes 4 changes wait, the oldest for 2 d; nothing was delivered yet" in listed


def test_many_are_counted_up_to_a_limit(mirror: Mirror) -> None:
    mirror.start("crm")
    mirror.change(*map(str, range(standing.COUNTED + 1)))
    assert "10000+ changes wait" in text()
    assert [10000] == [each["undelivered"] for each in shown("list")]


def test_one_that_fails_is_shown_with_its_reason_its_next_try_and_the_command_that_helps(anywhere: Mirror) -> None:
    anywhere.change("1", "2")
    anywhere.start("crm")
    anywhere.fails("crm", 1, "1")
    listed = process()
    for words in ("crm failing for", "503 Service Unavailable; tried again in", "`erpmirror subscriptions show crm`"):
        assert words in listed
    (found,) = json.loads(process("list", "--json"))
    assert ("active", "failing", 2, 2) == tuple(found[name] for name in ("state", "verdict", "undelivered", "failed"))


def test_one_whose_other_deliveries_succeed_still_fails_while_one_change_does(mirror: Mirror) -> None:
    mirror.change("1", "2")
    mirror.start("crm")
    mirror.fails("crm", 1, "1", reason="422 no such customer")
    with mirror.database.begin() as tx:
        tx.execute(sa.update(outgoing_tables.subscriptions).values(due_at=tx.now))
    mirror.told("crm", 2, failures=0, failing_since=None, reason=None)
    listed = text()
    assert "crm failing" in listed
    assert "422 no such customer; tried again in" in listed


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (PausedBy.PERSON, "by a person"),
        (PausedBy.GONE, "because its endpoint answered 410"),
        (PausedBy.GAVE_UP, "because a delivery had failed for `give_up_after`"),
        (PausedBy.TRIMMED, "because `keep_changes` deleted changes"),
    ],
)
def test_one_that_is_paused_is_shown_with_who_paused_it_and_how_to_go_on(
    mirror: Mirror, by: PausedBy, words: str
) -> None:
    mirror.start("crm")
    pause(mirror, by)
    listed = text()
    assert words in listed
    assert "`erpmirror subscriptions resume crm` goes on" in listed


def test_one_that_left_the_settings_is_listed_and_cannot_be_changed(mirror: Mirror) -> None:
    mirror.change("1")
    mirror.start("crm")
    mirror.told("crm", 1)
    mirror.start()
    mirror.configure()
    assert "its place, after change 1, is kept" in text()
    assert "left the settings" in text("show", "crm")
    for words in (["pause", "crm"], ["resume", "crm"], ["redeliver", "crm", "--all", "--yes"]):
        assert "is not in" in refused("subscriptions", *words)
    mirror.configure(crm="")
    assert "was not started yet" in refused("subscriptions", "resume", "crm")


def test_an_unknown_name_is_compared_with_the_known_ones(mirror: Mirror) -> None:
    mirror.start("crm")
    for words in (["show"], ["pause"], ["resume"], ["redeliver", "--all"]):
        assert 'did you mean "crm"?' in refused("subscriptions", *words, "crn")


def test_one_is_shown_with_what_waits_and_the_attempts(anywhere: Mirror) -> None:
    anywhere.change("1", "2")
    anywhere.start("crm")
    anywhere.fails("crm", 1, "1")
    printed = process("show", "crm")
    assert f"1 shop {GOODS} 1 2 attempts, next in" in printed
    assert "change 1, attempt 2: failed 503, 0.50 s 503 Service Unavailable" in printed
    found = json.loads(process("show", "crm", "--limit", "1", "--json"))
    assert [(1, "1", 2)] == [(each["change"], each["key"], each["attempts"]) for each in found["waiting"]]
    assert [(2, 503)] == [(each["attempt"], each["status"]) for each in found["attempts"]]


def test_an_endpoint_cannot_command_the_terminal(mirror: Mirror) -> None:
    mirror.change("1\x1b[31m")
    mirror.start("crm")
    mirror.fails("crm", 1, "1\x1b[31m", reason="503 \x9b2J\u202e\r\n")
    for words in (["subscriptions"], ["subscriptions", "show", "crm"], ["status"], ["changes"]):
        printed = ok(*words).output
        assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(printed), words
    assert r"answer: <h1>busy\x1b[2J</h1>" in text("show", "crm")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (2, "change 2 was delivered, skipped, or written before crm began; `erpmirror subscriptions redeliver crm"),
        (3, "change 3 (other catalogs.goods 3, created) is none of those that crm is told of: changes in shop"),
        (4, "change 4 has not been sent yet; crm was told up to 3"),
        (9, "there is no change 9; the journal ends at 4"),
    ],
)
def test_of_a_change_that_does_not_wait_it_is_said_why(mirror: Mirror, change: int, words: str) -> None:
    mirror.configure(crm='connections = ["shop"]')
    mirror.start("crm")
    mirror.change("1", "2")
    mirror.change("3", connection="other")
    mirror.change("4")
    mirror.told("crm", 3)
    assert words in " ".join(ok("subscriptions", "show", "crm", "--change", str(change)).stderr.split())


def test_a_paused_one_is_told_of_nothing_until_it_is_resumed(mirror: Mirror) -> None:
    mirror.change("1")
    mirror.start("crm")
    assert "crm is paused" in text("pause", "crm")
    assert (State.PAUSED, PausedBy.PERSON) == (mirror.row().state, mirror.row().paused_by)
    assert "paused already" in text("pause", "crm")
    assert "crm goes on." in text("resume", "crm")
    assert (State.ACTIVE, 0) == (mirror.row().state, mirror.row().position)
    assert [("crm", "deliver")] == woken(mirror)


def test_resume_tries_one_that_fails_at_once(mirror: Mirror) -> None:
    mirror.change("1")
    mirror.start("crm")
    mirror.fails("crm", 1, "1")
    assert "crm is tried now." in text("resume", "crm")
    with mirror.database.read() as tx:
        assert mirror.row().due_at <= tx.now
        assert {1: True} == {change: due_at <= tx.now for change, due_at in mirror.waiting().items()}


def test_resume_skips_what_is_named_and_says_so(mirror: Mirror) -> None:
    mirror.change("1")
    mirror.start("crm")
    mirror.fails("crm", 1, "1")
    assert "change 7 does not wait for crm, so nothing was done" in refused(
        "subscriptions", "resume", "crm", "--skip", "1", "--skip", "7"
    )
    assert [1] == list(mirror.waiting())
    assert f"Skipped: change 1, shop {GOODS} 1" in text("resume", "crm", "--skip", "1")
    assert {} == mirror.waiting()


def test_what_may_be_sent_all_the_same_is_not_skipped(mirror: Mirror) -> None:
    mirror.change("1", "2")
    mirror.start("crm")
    mirror.fails("crm", 2, "2")
    table = outgoing_tables.subscriptions
    with mirror.database.begin() as tx:
        tx.execute(sa.update(table).values(lease=7, leased_until=tx.now + timedelta(minutes=1)))
    assert "`erpmirror subscriptions pause crm`" in refused("subscriptions", "resume", "crm", "--skip", "2")
    with mirror.database.begin() as tx:
        tx.execute(sa.update(table).values(leased_until=tx.now, position=1))
    assert "earlier changes than 2 were not sent" in refused("subscriptions", "resume", "crm", "--skip", "2")
    assert [2] == list(mirror.waiting())


def test_a_paused_one_has_no_next_try(mirror: Mirror) -> None:
    mirror.change("1")
    mirror.start("crm")
    mirror.fails("crm", 1, "1")
    pause(mirror, PausedBy.PERSON)
    assert "2 attempts, paused" in text("show", "crm")


def test_a_misspelt_object_is_named(mirror: Mirror) -> None:
    mirror.change("1")
    mirror.start("crm")
    said = refused("subscriptions", "redeliver", "crm", "--object", "shopp", GOODS, "1")
    assert 'there is no connection "shopp"; did you mean "shop"?' in said


@pytest.mark.usefixtures("mirror")
def test_words_of_a_stranger_do_not_command_the_terminal() -> None:
    assert "a\\x1b[31mb" in refused("subscriptions", "show", "a\x1b[31mb")
    assert "is not in UTF-8" in refused("subscriptions", "show", "a\udcffb")
    assert "is not in UTF-8" in refused("changes", "--key", "a\udcffb")


@pytest.mark.parametrize("number", ["0", "-1", str(2**63), "1" * 5000, "x", "1.5"])
@pytest.mark.parametrize(
    "words",
    [
        ("subscriptions", "show", "crm", "--limit"),
        ("subscriptions", "show", "crm", "--change"),
        ("subscriptions", "resume", "crm", "--skip"),
        ("subscriptions", "redeliver", "crm", "--change"),
        ("changes", "--limit"),
        ("commands", "list", "--limit"),
        ("commands", "show", "--"),
    ],
)
def test_a_number_that_no_column_holds_is_refused(words: tuple[str, ...], number: str) -> None:
    result = run(*words, number)
    assert (2, True) == (result.exit_code, "Invalid value for" in result.stderr), result.output


def test_the_largest_number_is_a_number(mirror: Mirror) -> None:
    mirror.change("1")
    mirror.start("crm")
    largest = str(2**63 - 1)
    ok("subscriptions", "show", "crm", "--limit", largest, "--change", largest)
    assert f"change {largest} does not wait" in refused("subscriptions", "resume", "crm", "--skip", largest)
    ok("changes", "--limit", largest)
    ok("commands", "list", "--limit", largest)


@pytest.mark.parametrize("by", [PausedBy.TRIMMED, PausedBy.PERSON])
def test_resume_goes_on_with_the_oldest_change_that_is_kept(mirror: Mirror, by: PausedBy) -> None:
    mirror.start("crm")
    mirror.change("1", "2", ago=OLD)
    mirror.change("3")
    pause(mirror, by)
    mirror.trim()
    result = ok("subscriptions", "resume", "crm")
    assert "changes 1 to 2 were deleted" in result.stderr
    assert "it goes on with the oldest, 3" in result.stderr
    assert 2 == mirror.row().position


def test_redeliver_wants_one_choice(mirror: Mirror) -> None:
    mirror.start("crm")
    for words in ([], ["--all", "--change", "1"], ["--since", "2026-12-24", "--object", "shop", GOODS, "1"]):
        assert "say one of --since TIME, --change ID, --object" in refused("subscriptions", "redeliver", "crm", *words)
    assert '"soon" is no time' in refused("subscriptions", "redeliver", "crm", "--since", "soon")


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["--all"], [1, 2, 4]),
        (["--object", "shop", GOODS, "1"], [1, 4]),
        (["--change", "2"], [2]),
        (["--since", "NOON"], [4]),
    ],
    ids=lambda words: str(words[0]),
)
def test_what_is_chosen_and_matches_is_sent_again(anywhere: Mirror, words: list[str], sent: list[int]) -> None:
    anywhere.configure(crm='connections = ["shop"]')
    anywhere.start("crm")
    anywhere.change("1", "2", ago=OLD)
    anywhere.change("1", connection="other")
    anywhere.change("1")
    anywhere.told("crm", 4)
    with anywhere.database.read() as tx:
        noon = (tx.now - timedelta(days=1)).isoformat()
    words = [noon if word == "NOON" else word for word in words]
    printed = process("redeliver", "crm", *words, "--yes")
    assert f"{len(sent)} change" in printed
    assert sent == list(anywhere.waiting())
    assert [("crm", "deliver")] == woken(anywhere)


def test_many_are_sent_again_batch_by_batch(mirror: Mirror) -> None:
    mirror.start("crm")
    mirror.change(*map(str, range(2500)))
    mirror.told("crm", 2500)
    assert "2500 changes will be sent to crm again." in text("redeliver", "crm", "--all", "--yes")
    assert list(range(1, 2501)) == list(mirror.waiting())


def test_redeliver_asks_first(mirror: Mirror) -> None:
    mirror.start("crm")
    mirror.change("1", "2")
    mirror.told("crm", 2)
    asked = run("subscriptions", "redeliver", "crm", "--all", answer="n\n")
    assert 1 == asked.exit_code
    assert "Send 2 changes to crm again?" in asked.output
    assert {} == mirror.waiting()
    assert 0 == run("subscriptions", "redeliver", "crm", "--all", answer="y\n").exit_code
    assert [1, 2] == list(mirror.waiting())


def test_what_comes_anyway_is_not_sent_twice(mirror: Mirror) -> None:
    mirror.start("crm")
    mirror.change("1", "2", "3")
    mirror.told("crm", 1)
    result = ok("subscriptions", "redeliver", "crm", "--all", "--yes")
    assert "2 changes have not been sent yet and come anyway" in result.stderr
    assert [1] == list(mirror.waiting())
    one = ok("subscriptions", "redeliver", "crm", "--change", "3")
    assert "change 3 has not been sent yet and comes anyway" in one.stderr
    assert [1] == list(mirror.waiting())


def test_what_was_deleted_cannot_be_sent_again_and_it_is_said(mirror: Mirror) -> None:
    mirror.start("crm")
    mirror.change("1", "2", ago=OLD)
    mirror.change("3")
    mirror.told("crm", 3)
    mirror.trim()
    assert "change 2 was deleted (`keep_changes`); the oldest that is kept is 3" in refused(
        "subscriptions", "redeliver", "crm", "--change", "2", "--yes"
    )
    for words in (["--all"], ["--since", "2020-01-01"], ["--object", "shop", GOODS, "1"]):
        result = ok("subscriptions", "redeliver", "crm", *words, "--yes")
        assert "changes before 3 were deleted" in " ".join(result.stderr.split())
    assert [3] == list(mirror.waiting())


def test_a_change_that_the_filter_leaves_out_is_refused(mirror: Mirror) -> None:
    mirror.configure(crm='connections = ["shop"]')
    mirror.start("crm")
    mirror.change("1", connection="other")
    mirror.told("crm", 1)
    assert "is none of those that crm is told of" in refused("subscriptions", "redeliver", "crm", "--change", "1")
    assert "No change matches" in text("redeliver", "crm", "--all")


def test_what_is_sent_again_to_a_paused_one_waits_for_its_resumption(mirror: Mirror) -> None:
    mirror.start("crm")
    mirror.change("1")
    mirror.told("crm", 1)
    pause(mirror, PausedBy.PERSON)
    result = ok("subscriptions", "redeliver", "crm", "--all", "--yes")
    assert "it is paused: `erpmirror subscriptions resume crm` sends now" in result.stderr


@pytest.mark.usefixtures("mirror")
def test_a_secret_is_fresh_and_what_the_settings_take() -> None:
    made = [ok("subscriptions", "secret") for _ in range(2)]
    assert made[0].stdout != made[1].stdout
    assert 32 == len(base64.b64decode(made[0].stdout.strip().removeprefix("whsec_"), validate=True))
    assert "To rotate" in made[0].stderr
    file = configuration.find(None)
    file.write_text(file.read_text("utf-8").replace(SECRET, made[0].stdout.strip()), "utf-8")
    assert [made[0].stdout.strip()] == configuration.load(file).subscriptions["crm"].secrets


def status_lines() -> list[str]:
    return [line for line in ok("status").stdout.splitlines() if "subscription" in line]


def test_status_has_a_line_for_each_subscription_that_needs_a_look(mirror: Mirror) -> None:
    mirror.configure(crm="", failing="", behind="", new="", fine='connections = ["other"]')
    mirror.start("crm", "failing", "behind", "fine")
    mirror.change("1", "2", ago=OLD)
    pause(mirror, PausedBy.GAVE_UP, "503 Service Unavailable")
    mirror.fails("failing", 1, "1")
    starts = "it begins when `erpmirror up`, or a worker and the scheduler, start with these settings"
    lines = [re.sub(r"\d+ (s|min)\b", "N", line) for line in status_lines()]
    wait = "2 changes wait, the oldest for 2 d"
    paused = "because a delivery had failed for `give_up_after`"
    said = "503 Service Unavailable"
    verb = "erpmirror subscriptions"
    assert [
        f"subscription behind: behind; {wait}; `{verb} show behind` lists what waits",
        f"subscription crm: paused N ago {paused}; {said}; {wait}; `{verb} resume crm` goes on",
        f"subscription failing: failing for N; {said}; {wait}; `{verb} show failing` has the answers",
        f"subscription new: not started; {starts}",
    ] == lines


def test_status_has_one_line_when_all_are_up_to_date_and_none_without_subscriptions(mirror: Mirror) -> None:
    mirror.configure(crm="", other="")
    mirror.start("crm", "other", "left")
    mirror.start("crm", "other")
    mirror.change("1")
    assert ["2 subscriptions are up to date"] == status_lines()
    mirror.configure()
    assert [] == status_lines()


def test_status_of_one_connection_shows_no_subscriptions(mirror: Mirror) -> None:
    mirror.start("crm")
    assert "subscription" not in ok("status", "shop").stdout


@pytest.mark.usefixtures("terminal")
def test_nothing_is_wider_than_the_terminal(mirror: Mirror) -> None:
    mirror.configure(crm=f'connections = ["shop"]\nresources = ["{GOODS}"]\nkinds = ["created", "updated"]', new="")
    mirror.start("crm")
    mirror.change("1109100000000001", "2", ago=OLD)
    mirror.fails("crm", 1, "1109100000000001", reason="the endpoint did not answer " * 20)
    for words in ([], ["show", "crm"], ["resume", "crm"], ["pause", "crm"]):
        printed = ok("subscriptions", *words).output
        assert [] == [line for line in printed.splitlines() if len(line) > 80]
