"""One command, under everything that could have it sent twice, lost, or sent out of its order."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models import redaction
from models.bookkeeping import clock_steps, commands, omitted
from models.bookkeeping.commands import State
from models.values import Lane
from tests.workers.ingest import command_harness
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.ingest.command_harness import CommandHarness

    Connect = Callable[..., AbstractContextManager[CommandHarness]]

GOOD = {"name": "Nail", "qty": 4}


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(command_harness.connected, sqlite, tmp_path)


@pytest.fixture
def six(database: Database, tmp_path: Path) -> Iterator[CommandHarness]:
    """A connection with one good, `1`, on every kind of database."""
    with command_harness.connected(database, tmp_path) as connected:
        _with_good(connected)
        yield connected


def _with_good(six: CommandHarness) -> None:
    six.vendor.objects["goods"]["1"] = dict(GOOD)
    six.enqueue("1")
    six.work()
    assert {"1": GOOD} == six.live()


# What is done.


def test_a_command_of_each_kind_is_done_and_what_it_wrote_is_mirrored_at_once(six: CommandHarness) -> None:
    created, updated = six.send("create", name="Screw", qty=1), six.send("update", id="1", name="Hook")
    six.work()
    assert {"1": GOOD | {"name": "Hook"}, "100": {"name": "Screw", "qty": 1}} == six.live()
    assert ("100", "1") == (six.command(created).result_key, six.command(updated).result_key)
    deleted = six.send("delete", id="1")
    six.work()
    assert ["100"] == list(six.live())
    assert [State.DONE] * 3 == [six.command_state(each) for each in (created, updated, deleted)]
    assert [("100", "created", "command"), ("1", "updated", "command"), ("1", "deleted", "command")] == six.journal()[
        1:
    ]
    assert 0 == six.leases()


def test_what_is_kept_of_a_command_that_is_done(six: CommandHarness) -> None:
    accepted_at = six.clock.now
    done = six.send("update", id="1", name="Hook")
    six.clock.advance(seconds=1)
    six.work()
    found = six.command(done)
    assert ({"id": 1}, None, None, None) == (found.answer, found.reason, found.payload, found.due_at)
    assert ({"id": "1", "name": "Hook"}, 1, "192.0.2.1") == (found.arguments, found.attempts, found.caller)
    assert accepted_at == found.accepted_at < (found.sent_at or accepted_at) <= (found.answered_at or accepted_at)


def test_other_objects_that_a_command_changes_are_fetched_too(six: CommandHarness) -> None:
    six.vendor.objects["goods"]["2"] = {"name": "part"}
    six.vendor.parts["1"] = ["2"]
    six.enqueue("2")
    six.work()
    six.send("delete", id="1")
    six.work()
    assert {} == six.live()
    assert {("1", "deleted", "command"), ("2", "deleted", "command")} <= set(six.journal())


def test_if_those_cannot_be_asked_for_nothing_is_sent(six: CommandHarness) -> None:
    six.vendor.instead["parts"] = [(500, {}, "out of order")]
    waiting = six.send("delete", id="1")
    six.work()
    assert ([], State.WAITING, 0) == (six.vendor.writes, six.command_state(waiting), six.command(waiting).attempts)
    six.settle(minutes=1)
    assert ([("DELETE", "goods/1")], State.DONE) == (six.vendor.writes, six.command_state(waiting))


# Their order.


def test_commands_of_an_object_are_sent_in_their_order(six: CommandHarness) -> None:
    for name in "abcde":
        six.send("update", id="1", name=name)
    six.work()
    assert "e" == six.vendor.objects["goods"]["1"]["name"]
    assert ["e"] == [raw["name"] for raw in six.live().values()]
    assert 5 == len(six.vendor.writes)


def test_one_that_is_uncertain_holds_up_the_later_ones_of_its_object_alone(six: CommandHarness) -> None:
    six.vendor.objects["goods"]["2"] = {"name": "other"}
    six.vendor.faults = [(500, "out of order")]
    six.vendor.meanwhile["write"] = lambda: six.vendor.objects["goods"]["1"].update(name="by a user")
    first, second, other = (six.send("update", id=key, name="Hook") for key in ("1", "1", "2"))
    six.settle()
    found = six.command(first)
    assert (State.UNCERTAIN, True) == (found.state, found.waits_for_person)
    assert "the object does not show what was sent, and was changed since: name" in (found.reason or "")
    assert (State.WAITING, State.DONE) == (six.command_state(second), six.command_state(other))
    assert [("PUT", "goods/1"), ("PUT", "goods/2")] == six.vendor.writes
    with six.database.begin() as tx:
        assert commands.finish(tx, found, answer=None, ref=None)
    six.work()
    assert (State.DONE, [("PUT", "goods/1")]) == (six.command_state(second), six.vendor.writes[2:])


def test_what_a_person_holds_up_wakes_nobody(six: CommandHarness) -> None:
    six.vendor.faults = [(500, "out of order")]
    six.vendor.meanwhile["write"] = lambda: six.vendor.objects["goods"]["1"].update(name="by a user")
    for _ in range(2):
        six.send("update", id="1", name="Hook")
    six.settle()
    six.work()  # raises if there is always something due


def test_a_command_goes_ahead_of_bulk_work_and_takes_turns_with_live_keys(six: CommandHarness) -> None:
    goods = six.vendor.objects["goods"]
    goods |= {str(number): {"v": number} for number in range(2, 6)}
    six.enqueue("2", "3", lane=Lane.BULK)
    six.clock.advance(seconds=1)
    six.enqueue("4")
    six.clock.advance(seconds=1)
    six.send("update", id="1", name="Hook")
    six.clock.advance(seconds=1)
    six.enqueue("5")
    six.vendor.asked.clear()
    six.vendor.meanwhile["write"] = lambda: six.vendor.asked.append("write")
    six.work()
    asked = [each for each in six.vendor.asked if each != "goods/1"]
    assert ["goods/4", "write", "goods/5"] == asked[:3]
    assert {"goods/2", "goods/3"} == set(asked[3:])


# What did not go well.


@pytest.mark.parametrize("fault", ["lost", "half"])
def test_an_update_whose_answer_is_lost_is_found_done(six: CommandHarness, fault: str) -> None:
    six.vendor.faults = [fault]
    done = six.send("update", id="1", name="Hook")
    six.settle(minutes=1)
    assert (State.DONE, [("PUT", "goods/1")]) == (six.command_state(done), six.vendor.writes)
    assert {"1": GOOD | {"name": "Hook"}} == six.live()


def test_an_update_that_did_not_arrive_is_sent_again(six: CommandHarness) -> None:
    six.vendor.faults = ["failed"]
    done = six.send("update", id="1", name="Hook")
    six.settle(minutes=4)
    assert (State.DONE, 2) == (six.command_state(done), six.command(done).attempts)
    assert [("PUT", "goods/1")] * 2 == six.vendor.writes


def test_an_update_that_the_vendor_does_late_is_not_sent_again(six: CommandHarness) -> None:
    six.vendor.faults = ["late"]
    done = six.send("update", id="1", name="Hook")
    six.settle(minutes=0)
    six.work()
    found = six.command(done)
    assert (State.UNCERTAIN, six.clock.now) == (found.state, found.unchanged_at)
    six.vendor.finish_late()
    six.settle(minutes=2)
    assert (State.DONE, [("PUT", "goods/1")]) == (six.command_state(done), six.vendor.writes)


def test_a_deletion_is_found_done_or_sent_again(six: CommandHarness) -> None:
    six.vendor.objects["goods"]["2"] = {"name": "other"}
    six.vendor.faults = ["lost", "failed"]
    lost, failed = six.send("delete", id="1"), six.send("delete", id="2")
    six.settle(minutes=5)
    assert [State.DONE] * 2 == [six.command_state(each) for each in (lost, failed)]
    assert [("DELETE", "goods/1"), ("DELETE", "goods/2"), ("DELETE", "goods/2")] == six.vendor.writes


def test_an_update_of_an_object_that_was_deleted_meanwhile_waits_for_a_person(six: CommandHarness) -> None:
    six.vendor.faults = ["failed"]
    six.vendor.meanwhile["write"] = six.vendor.objects["goods"].clear
    gone = six.send("update", id="1", name="Hook")
    six.settle(minutes=2)
    assert six.command(gone).waits_for_person
    assert "does not exist any more" in (six.command(gone).reason or "")


def test_an_update_of_an_object_that_could_not_be_read_before_waits_for_a_person(six: CommandHarness) -> None:
    six.vendor.objects["goods"]["2"] = {"name": "other"}
    six.vendor.instead["goods/2"] = [(400, {}, "not to be read")]
    six.vendor.faults = ["failed"]
    unknown = six.send("update", id="2", name="Hook")
    six.settle(minutes=2)
    assert six.command(unknown).waits_for_person, "nobody knows what it showed before"
    assert 1 == len(six.vendor.writes)
    assert {"name": "other"} == six.live()["2"], "it was fetched: the person sees what the vendor shows"


@pytest.mark.parametrize("fault", ["lost", "failed", "half"])
def test_a_creation_without_a_unique_field_waits_for_a_person(six: CommandHarness, fault: str) -> None:
    six.vendor.faults = [fault]
    created = six.send("create", name="Screw")
    six.settle(minutes=2)
    found = six.command(created)
    assert (State.UNCERTAIN, True, 1) == (found.state, found.waits_for_person, len(six.vendor.writes))
    assert "HTTP 500" in (found.reason or "") or "not JSON" in (found.reason or "")


@pytest.mark.parametrize("field", ["name", "code"])
@pytest.mark.parametrize(("fault", "sent"), [("lost", 1), ("half", 1), ("failed", 2), ("late", 1)])
def test_a_creation_with_a_unique_field_is_found_or_sent_again(
    connect: Connect, field: str, fault: str, sent: int
) -> None:
    with connect(unique={"goods": field}) as six:
        six.vendor.faults = [fault]
        created = six.send("create", name="Screw", **({"code": "S-1"} if field == "code" else {}))
        six.work()
        six.vendor.finish_late()
        six.settle(minutes=5)
        found = six.command(created)
        assert (State.DONE, "100" if sent == 1 else "101") == (found.state, found.result_key)
        assert sent == len(six.vendor.writes)
        assert 1 == len(six.vendor.objects["goods"]) == len(six.live())


def test_two_new_objects_with_the_unique_value_are_left_to_a_person(connect: Connect) -> None:
    with connect(unique={"goods": "code"}) as six:
        goods = six.vendor.objects["goods"]
        six.vendor.meanwhile["write"] = lambda: goods.update({"1": {"code": "S-1"}, "2": {"code": "S-1"}})
        six.vendor.faults = ["failed"]
        created = six.send("create", name="Screw", code="S-1")
        six.settle(minutes=4)
        assert six.command(created).waits_for_person
        assert "2 new objects have its code: 1, 2" in (six.command(created).reason or "")


@pytest.mark.parametrize(("fault", "sent"), [("failed", 2), ("lost", 1)])
def test_an_older_object_with_the_callers_own_value_is_not_taken_for_the_new_one(
    connect: Connect, fault: str, sent: int
) -> None:
    with connect(unique={"goods": "code"}) as six:
        six.vendor.objects["goods"]["1"] = {"code": "S-1"}  # the mirror does not have it
        six.vendor.faults = [fault]
        created = six.send("create", name="Screw", code="S-1")
        six.settle(minutes=4)
        found = six.command(created)
        assert (State.DONE, sent) == (found.state, len(six.vendor.writes))
        assert "1" != found.result_key


def test_a_unique_field_that_was_set_later_does_not_find_what_was_accepted_before(connect: Connect) -> None:
    with connect() as six:
        six.vendor.objects["goods"]["1"] = {"name": "Screw"}
        six.vendor.faults = ["failed"]
        created = six.send("create", name="Screw")
        file = six.settings.file
        file.write_text(file.read_text("utf-8") + 'goods = "name"\n', "utf-8")
        later = command_harness.CommandHarness(six.database, configuration.load(file), six.vendor, six.clock)
        later.settle(minutes=2)
        assert later.command(created).waits_for_person, "an older good has the same name"


def test_a_refusal_is_final_and_in_the_vendors_words(six: CommandHarness) -> None:
    six.vendor.faults = [(400, "the name is taken")]
    refused = six.send("update", id="1", name="Hook")
    six.settle(minutes=1)
    found = six.command(refused)
    assert (State.REFUSED, "the name is taken", None) == (found.state, found.reason, found.due_at)
    assert {"id": "1", "name": "Hook"} == found.payload, "a person may have it sent again"
    assert [("PUT", "goods/1")] == six.vendor.writes


def test_a_busy_vendor_is_waited_out_and_counts_as_no_attempt(six: CommandHarness) -> None:
    six.vendor.faults = [(409, "another request is in progress")] * 12
    done = six.send("update", id="1", name="Hook")
    six.settle(minutes=80)
    found = six.command(done)
    assert (State.DONE, 1, 13) == (found.state, found.attempts, len(six.vendor.writes))


def test_a_locked_object_is_tried_for_minutes_and_then_refused(six: CommandHarness) -> None:
    six.vendor.faults = [(425, "object locked by Olena")] * 100
    locked = six.send("update", id="1", name="Hook")
    started = six.clock.now
    six.run_until(lambda: six.command_state(locked) is State.REFUSED)
    found = six.command(locked)
    assert ("not taken in 8 attempts: object locked by Olena", 8) == (found.reason, len(six.vendor.writes))
    assert 2 * 60 < (six.clock.now - started).total_seconds() < 10 * 60
    assert GOOD == six.vendor.objects["goods"]["1"]


def test_a_missing_right_is_waited_for(six: CommandHarness) -> None:
    six.vendor.faults = [(403, "the role lacks it")] * 20
    waiting = six.send("update", id="1", name="Hook")
    six.settle(minutes=30)
    found = six.command(waiting)
    assert (State.WAITING, "the role lacks it") == (found.state, found.reason)
    six.vendor.faults = []
    six.settle(minutes=6)
    assert State.DONE == six.command_state(waiting)


def test_an_ok_that_proves_little_is_read_back(six: CommandHarness) -> None:
    six.vendor.faults = ["", "ignored"]
    done = six.send("update", id="1", code="a")
    six.work()
    assert State.DONE == six.command_state(done)
    ignored = six.send("update", id="1", code="b")
    six.settle(minutes=2)
    found = six.command(ignored)
    assert (State.REFUSED, {"id": 1}) == (found.state, found.answer)
    assert "the vendor answered ok, but did not do it" in (found.reason or "")
    assert 2 == len(six.vendor.writes)


def test_a_vendor_that_is_away_loses_nothing(connect: Connect) -> None:
    with connect() as six:
        _with_good(six)
        six.vendor.objects["goods"]["1"] = dict(GOOD)
        waiting = six.send("update", id="1", name="Hook")
        away = configuration_with(six, url="http://127.0.0.1:1")
        away.settle(minutes=3)
        found = six.command(waiting)
        assert (State.WAITING, 0) == (found.state, found.attempts)
        assert "connect" in (found.reason or "").lower()
        six.clock.advance(hours=1)
        six.work()
        assert State.DONE == six.command_state(waiting)


def configuration_with(six: CommandHarness, **values: Any) -> CommandHarness:
    """The same connection with other settings, as another worker may have them."""
    file = six.settings.file.with_name("other.toml")
    text = six.settings.file.read_text("utf-8")
    for name, value in values.items():
        text = re.sub(rf"(?m)^{name} = .*$", f"{name} = {json.dumps(value)}", text)
    file.write_text(text, "utf-8")
    return command_harness.CommandHarness(six.database, configuration.load(file), six.vendor, six.clock)


def test_an_accepted_command_is_sent_although_the_settings_do_not_allow_it_any_more(connect: Connect) -> None:
    with connect() as six:
        _with_good(six)
        accepted = six.send("update", id="1", name="Hook")
        configuration_with(six, commands=[]).work()
        assert State.DONE == six.command_state(accepted)


def test_a_mistake_of_ours_after_the_request_leaves_it_uncertain_and_never_sends_it_again(six: CommandHarness) -> None:
    six.vendor.faults = [(418, "")]
    created = six.send("create", name="Screw")
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        six.work()
    assert State.SENDING == six.command_state(created)
    six.settle(minutes=2)
    assert (True, 1) == (six.command(created).waits_for_person, len(six.vendor.writes))
    assert "ended before the answer was kept" in (six.command(created).reason or "")


def test_a_lost_answer_right_after_another_command_is_judged_by_what_that_one_left(six: CommandHarness) -> None:
    """The first one's object is still to be fetched, so the mirror does not know yet what it left."""
    _with_good(six)
    six.vendor.faults = ["", "failed"]
    first, second = six.send("update", id="1", name="Hook"), six.send("update", id="1", name="Screw")
    six.settle(minutes=4)
    assert (State.DONE, State.DONE) == (six.command_state(first), six.command_state(second))
    assert 3 == len(six.vendor.writes), "the second one certainly did not arrive, so it was sent again"
    assert "Screw" == six.vendor.objects["goods"]["1"]["name"]


def test_an_object_that_is_not_mirrored_yet_is_read_before_it_is_changed(six: CommandHarness) -> None:
    six.vendor.objects["goods"]["8"] = {"name": "Nut"}
    six.vendor.faults = ["failed"]
    changed = six.send("update", id="8", name="Bolt")
    six.settle(minutes=4)
    assert (State.DONE, 2) == (six.command_state(changed), len(six.vendor.writes))


def test_an_object_that_cannot_be_read_is_changed_all_the_same(six: CommandHarness) -> None:
    six.vendor.objects["goods"]["8"] = {"name": "Nut"}
    six.vendor.instead["goods/8"] = [(400, {}, "not to be read")]
    changed = six.send("update", id="8", name="Bolt")
    six.settle(minutes=1)
    assert (State.DONE, 1) == (six.command_state(changed), len(six.vendor.writes))


def test_a_mistake_of_ours_before_the_request_is_told_and_tried_again(six: CommandHarness) -> None:
    _with_good(six)
    six.vendor.instead["parts"] = [(418, {}, "")]
    deleted = six.send("delete", id="1")
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        six.work()
    assert (State.WAITING, []) == (six.command_state(deleted), six.vendor.writes)
    assert "RuntimeError" in (six.command(deleted).reason or "")
    six.settle(minutes=2)
    assert State.DONE == six.command_state(deleted)


def test_an_answer_that_comes_after_the_lease_was_lost_is_kept(six: CommandHarness) -> None:
    def pass_the_lease() -> None:
        six.clock.advance(minutes=10)
        six.enqueue("1")
        six.work()  # another worker takes the account over

    six.vendor.meanwhile["write"] = pass_the_lease
    done = six.send("update", id="1", name="Hook")
    six.work()
    assert (State.DONE, {"id": 1}) == (six.command_state(done), six.command(done).answer)
    assert [("PUT", "goods/1")] == six.vendor.writes


def test_a_slow_sender_that_others_gave_up_is_believed_in_the_end(six: CommandHarness) -> None:
    """Its command was read back as not arrived and left to a person; then its answer comes."""

    def doubt() -> None:
        six.clock.advance(minutes=1)
        six.work()

    six.vendor.meanwhile["write"] = doubt
    created = six.send("create", name="Screw")
    six.work()
    assert (State.DONE, "100") == (six.command_state(created), six.command(created).result_key)
    assert [("POST", "goods")] == six.vendor.writes


# What cannot be found out.


def test_what_cannot_be_read_back_is_left_to_a_person(six: CommandHarness) -> None:
    six.vendor.faults = [(500, "out of order")]
    six.vendor.instead["goods/1"] = [(200, {}, "[]")] * 50  # our code does not understand it
    number = six.send("update", id="1", name="Hook")
    six.settle(minutes=4)
    assert six.command(number).waits_for_person
    assert "reading it back failed: the answer was not understood" in (six.command(number).reason or "")


def test_what_is_asked_before_and_refused_ends_the_command(six: CommandHarness) -> None:
    six.vendor.instead["parts"] = [(400, {}, "out of order")] * 50
    number = six.send("delete", id="1")
    six.settle(minutes=12)
    found = six.command(number)
    assert (State.REFUSED, []) == (found.state, six.vendor.writes)
    assert "not taken in 8 attempts" in (found.reason or "")


def test_the_vendors_words_hold_neither_secrets_nor_what_is_omitted(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(omit=["name"]) as six:
        six.vendor.faults = [(400, "the name Olena Hook is taken, key very-secret")]
        refused, done = (six.send("update", id="1", name=name) for name in ("Olena Hook", "Olena Nail"))
        six.work()
        six.vendor.objects["goods"]["1"] = {}
        reason = six.command(refused).reason
        assert "the name *** is taken" in (reason or "")
        assert "very-secret" not in (reason or "")
        assert State.DONE is six.command_state(done)
        assert "Olena" not in capsys.readouterr().out


# Retention.


def test_final_commands_are_trimmed_and_open_ones_are_not(six: CommandHarness) -> None:
    done = six.send("update", id="1", name="Hook")
    six.work()
    six.vendor.faults = [(500, "")]
    uncertain = six.send("create", name="Screw")
    six.settle(minutes=1)
    with six.database.begin() as tx:
        assert 0 == commands.trim(tx, before=six.command(done).accepted_at, limit=10)
        assert 1 == commands.trim(tx, before=six.clock.now, limit=10)
    assert [uncertain] == [each.id for each in six.all()]


def test_forgetting_a_resource_empties_its_final_commands_and_keeps_their_keys(six: CommandHarness) -> None:
    done = six.send("update", "k", id="1", name="Hook")
    six.work()
    waiting = six.send("update", id="1", name="Nail")
    with six.database.begin() as tx:
        commands.forget(tx, connection="six", resource="goods")
    assert [{"id": "1", "name": "Nail"}, {}] == [each.arguments for each in six.all()]
    assert (done, 1) == (six.send("update", "k", id="1", name="Hook"), len(six.vendor.writes))
    assert State.WAITING == six.command_state(waiting)


def test_a_backlog_of_commands_stops_neither_webhooks_nor_full_syncs(six: CommandHarness) -> None:
    for number in range(40):
        six.vendor.objects["goods"][str(number)] = {"name": "old"}
        six.send("update", id=str(number), name="new")
    six.vendor.objects["goods"]["77"] = {"name": "of a webhook"}
    six.enqueue("77")
    six.change(full_due_at=six.clock.now)
    done: list[int] = []
    six.vendor.meanwhile["goods/77"] = lambda: done.append(len(six.vendor.writes))
    six.vendor.meanwhile["goods"] = lambda: done.append(len(six.vendor.writes))
    six.full_sync()
    fetched, listed = done
    assert fetched <= 2, "each command is followed by a key"
    assert listed <= 6, "some commands are followed by a page"


def test_a_rule_of_omit_that_comes_later_clears_commands_too(six: CommandHarness) -> None:
    _with_good(six)
    done = six.send("update", id="1", name="Hook", code="S-77")
    six.work()
    assert "S-77" in str(six.command(done).arguments)
    with six.database.begin() as tx:
        omitted.redact_commands(
            tx, connection="six", resource="goods", redact=lambda raw: redaction.redact(raw, ["code"])
        )
    assert {"id": "1", "name": "Hook"} == six.command(done).arguments


def test_what_may_have_arrived_is_judged_before_more_is_sent(six: CommandHarness) -> None:
    _with_good(six)
    six.vendor.faults = ["lost", *[(409, "busy")] * 3]
    lost = six.send("update", id="1", name="Hook")
    for number in range(3):
        six.send("create", name=f"Nail {number}")
    six.sync()
    six.clock.advance(seconds=2)
    six.sync()
    assert State.DONE == six.command_state(lost)
    assert 2 >= len(six.vendor.writes)


def test_an_update_that_a_user_has_undone_is_not_sent_over_it(six: CommandHarness) -> None:
    """The object shows what it had before, but its version tells that it was changed since."""
    six.vendor.objects["goods"]["1"] = {"name": "Nail", "version": 1}
    six.enqueue("1")
    six.work()
    six.vendor.faults = ["lost"]
    undone = six.send("update", id="1", name="Hook")
    six.sync()
    six.vendor.objects["goods"]["1"] |= {"name": "Nail", "version": 3}
    six.settle(minutes=4)
    assert six.command(undone).waits_for_person
    assert 1 == len(six.vendor.writes)


def test_a_new_object_of_another_command_is_not_taken_for_this_ones(connect: Connect) -> None:
    with connect(unique={"goods": "code"}) as six:
        six.vendor.faults = ["failed"]
        lost, other = six.send("create", name="Anna", code="C77"), six.send("create", name="Borys", code="C77")
        six.settle(minutes=4)
        assert (State.DONE, State.DONE) == (six.command_state(lost), six.command_state(other))
        assert six.command(lost).result_key != six.command(other).result_key
        assert {"Anna", "Borys"} == {each["name"] for each in six.vendor.objects["goods"].values()}


def test_a_field_that_was_not_looked_up_before_finds_nothing_afterwards(connect: Connect) -> None:
    with connect() as six:
        six.vendor.objects["goods"]["5"] = {"name": "of old", "code": "OLD1"}
        six.vendor.faults = ["failed"]
        lost = six.send("create", name="Anna", code="OLD1")
        six.settle(minutes=1)
        assert six.command(lost).waits_for_person
        file = six.settings.file
        file.write_text(file.read_text("utf-8") + 'goods = "code"\n', "utf-8")
        finding = configuration_with(six)
        with six.database.begin() as tx:
            assert commands.read_back_now(tx, six.command(lost))
        finding.work()
        assert six.command(lost).waits_for_person
        assert "nobody has looked" in (six.command(lost).reason or "")


def test_what_is_omitted_is_in_no_reason_not_even_of_a_look_up_before_it_is_sent(connect: Connect) -> None:
    with connect(unique={"goods": "code"}, omit=["code"]) as six:
        six.vendor.instead["find"] = [(200, {}, "<p>bad filter value SECRETCODE99</p>")]
        looked_up = six.send("create", name="Anna", code="SECRETCODE99")
        six.sync()
        found = six.command(looked_up)
        assert (State.WAITING, []) == (found.state, six.vendor.writes)
        assert "SECRETCODE99" not in str((found.reason, found.arguments, found.answer))
        assert found.reason


@pytest.mark.parametrize(("changed", "state"), [({}, State.REFUSED), ({"name": "Hook"}, State.UNCERTAIN)])
def test_an_ok_for_an_object_that_is_gone_is_refused_only_if_nothing_else_was_to_be_saved(
    six: CommandHarness, changed: dict[str, str], state: State
) -> None:
    _with_good(six)
    six.vendor.faults = ["ignored"]
    six.vendor.meanwhile["write"] = six.vendor.objects["goods"].clear
    sent = six.send("update", id="1", code="S-1", **changed)
    six.work()
    assert state == six.command_state(sent)


def test_a_token_in_another_field_does_not_vouch_for_the_one_that_is_named_now(connect: Connect) -> None:
    with connect(unique={"goods": "name"}) as six:
        six.vendor.objects["goods"]["5"] = {"name": "of old", "code": "OLD1"}
        six.vendor.faults = ["failed"]
        lost = six.send("create", name="Anna", code="OLD1")
        six.sync()
        file = six.settings.file
        file.write_text(file.read_text("utf-8").replace('goods = "name"', 'goods = "code"'), "utf-8")
        configuration_with(six).settle(minutes=3)
        assert six.command(lost).waits_for_person
        assert "nobody has looked" in (six.command(lost).reason or "")


def test_the_answer_is_kept_although_the_database_was_away_for_a_moment(six: CommandHarness) -> None:
    _with_good(six)
    raised: list[bool] = []

    def away(*_: Any) -> None:
        if len(raised) < 2:
            raised.append(True)
            raise sa.exc.OperationalError("COMMIT", {}, Exception("server closed the connection"))

    def begin_to_fail() -> None:
        sa.event.listen(six.database.engine, "commit", away)

    six.vendor.meanwhile["write"] = begin_to_fail
    kept = six.send("update", id="1", name="Hook")
    six.work()
    sa.event.remove(six.database.engine, "commit", away)
    assert (State.DONE, 1) == (six.command_state(kept), len(six.vendor.writes))
    assert raised


def test_a_clock_that_was_ahead_does_not_hold_commands_up(six: CommandHarness) -> None:
    _with_good(six)
    six.clock.advance(hours=24)
    six.enqueue("1")
    six.work()
    six.vendor.faults = [(425, "locked")]
    early = six.send("update", id="1", name="Hook")
    six.sync()
    six.clock.advance(hours=-24)
    with six.database.begin() as tx:
        assert clock_steps.mend(tx, longest_lease=timedelta(seconds=45)) is not None
    six.settle(minutes=2)
    assert State.DONE == six.command_state(early)
    assert six.command(early).accepted_at <= six.clock.now
