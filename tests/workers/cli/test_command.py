"""Commands from the command line: one, many from a CSV file, and a person's decisions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import commands
from models.bookkeeping.commands import State
from models.db import migration, tables
from models.db.database import Database
from tests.workers.cli.runner import ok, refused, run
from tests.workers.ingest import command_harness
from workers.cli import settings_template
from workers.commands import acceptance
from workers.commands.acceptance import Request
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workers.ingest.command_harness import CommandHarness

NAIL = '{"id": "1", "name": "Nail"}'


@pytest.fixture
def six(tmp_path: Path) -> Iterator[CommandHarness]:
    """A connection `six` by the settings file of the working directory, with one good, `1`."""
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    migration.migrate(database)
    with command_harness.connected(database, tmp_path, timeout="1s") as connected:
        file = connected.settings.file
        url = database.url.render_as_string(hide_password=False)
        file.write_text(f'[database]\nurl = "{url}"\n{file.read_text("utf-8")}', "utf-8")
        connected.vendor.objects["goods"]["1"] = {"name": "Hook"}
        connected.enqueue("1")
        work(connected)
        yield connected
    database.close()


def work(six: CommandHarness) -> None:
    """Everything that is due; the command line goes by the machine's clock."""
    six.clock.now = max(six.clock.now, datetime.now(UTC)) + timedelta(seconds=1)
    six.work()


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def send(*words: str) -> Any:
    return json.loads(ok("command", "six", *words, "--json").stdout)


def test_without_an_action_it_shows_what_can_be_sent(six: CommandHarness) -> None:
    shown = ok("command", "six").stdout
    for words in ("create --resource goods", "Create a good.", "update", "Delete a good and what belongs to it."):
        assert words in shown
    described = json.loads(ok("command", "six", "--json").stdout)
    assert ["create", "update", "delete"] == [each["action"] for each in described]
    one = ok("command", "six", "update", "--resource", "goods").stdout
    for words in ("id*  string", "qty  number", '"name": "Nail"', "Source: the sixth vendor's document"):
        assert words in one
    assert [] == six.all()


def test_a_connection_that_allows_nothing_says_what_could_be_allowed(six: CommandHarness) -> None:
    file = six.settings.file
    file.write_text(file.read_text("utf-8").replace('commands = ["create", "update", "delete"]\n', ""), "utf-8")
    message = refused("command", "six")
    assert "six allows no commands: add those you want to its `commands`" in message
    assert 'of create, update, delete, or of one resource, as "create:goods"' in message
    assert "does not allow it" in refused(
        "command", "six", "update", "--resource", "goods", "--arguments", write("a.json", NAIL)
    )


def test_a_command_is_sent_and_waited_for(six: CommandHarness) -> None:
    result = ok("command", "six", "update", "--resource", "goods", "--arguments", write("a.json", NAIL), "--wait")
    assert "six update goods 1  done" in result.stdout
    assert {"name": "Nail"} == six.vendor.objects["goods"]["1"]
    assert ("command line", 1) == (six.all()[0].caller, len(six.vendor.writes))


def test_without_waiting_it_is_left_to_the_workers(six: CommandHarness) -> None:
    found = send("update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    assert ["waiting"] == [each["state"] for each in found]
    assert [] == six.vendor.writes
    work(six)
    assert [("PUT", "goods/1")] == six.vendor.writes


def test_the_same_key_is_sent_once(six: CommandHarness) -> None:
    words = ("command", "six", "update", "--resource", "goods", "--arguments", write("a.json", NAIL), "--key", "k")
    ok(*words, "--wait")
    again = ok(*words, "--wait")
    assert "command 1 was accepted before" in again.stderr
    assert [("PUT", "goods/1")] == six.vendor.writes


def test_a_dry_run_checks_and_prints_and_sends_nothing(six: CommandHarness) -> None:
    result = ok("command", "six", "update", "--resource", "goods", "--arguments", write("a.json", NAIL), "--dry-run")
    shown = json.loads(result.stdout)
    assert {"method": "PUT", "url": f"{six.context.options.url}/goods/1", "body": {"name": "Nail"}} == shown
    assert "nothing was sent" in result.stderr
    assert "id: " in refused(
        "command", "six", "update", "--resource", "goods", "--arguments", write("b.json", '{"id": "x"}'), "--dry-run"
    )
    assert [] == six.all()


def test_arguments_from_standard_input(six: CommandHarness) -> None:
    result = run("command", "six", "update", "--resource", "goods", "--arguments", "-", "--wait", answer=NAIL)
    assert 0 == result.exit_code
    assert {"name": "Nail"} == six.vendor.objects["goods"]["1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), ("[]", "holds no JSON object"), ("", "is not JSON"), (None, "cannot be read")],
)
def test_a_file_that_holds_no_arguments_says_so(six: CommandHarness, text: str | None, words: str) -> None:
    name = "missing.json" if text is None else write("a.json", text)
    assert words in refused("command", "six", "update", "--resource", "goods", "--arguments", name)
    assert [] == six.all()


def test_what_the_vendor_refuses_is_told_and_the_status_is_1(six: CommandHarness) -> None:
    six.vendor.faults = [(400, "the name is taken")]
    result = run("command", "six", "update", "--resource", "goods", "--arguments", write("a.json", NAIL), "--wait")
    assert 1 == result.exit_code
    assert "refused" in result.stdout
    assert "the name is taken" in result.stdout
    assert "the name is taken" in ok("commands", "show", "1").stdout
    assert "due now" in ok("commands", "retry", "1").stdout
    work(six)
    assert State.DONE is six.command_state(1)


# Many.

CSV = "id,name,qty\n1,Nail,4\n2,Screw,\n"
TEMPLATE = '{"id": "${id}", "name": "${name}", "qty": "${qty:number}"}'


def each(csv: str = CSV, *more: str, template: str = TEMPLATE) -> tuple[str, ...]:
    files = ("--arguments", write("t.json", template), "--each", write("rows.csv", csv))
    return ("command", "six", "update", "--resource", "goods", *files, *more)


def test_each_row_is_a_command_and_the_same_file_again_sends_nothing(six: CommandHarness) -> None:
    six.vendor.objects["goods"]["2"] = {"name": "Bolt"}
    result = ok(*each(CSV, "--wait"))
    assert 2 == result.stdout.count("done")
    assert {"1": {"name": "Nail", "qty": 4}, "2": {"name": "Screw"}} == six.vendor.objects["goods"]
    again = ok(*each(CSV, "--wait"))
    assert 2 == again.stderr.count("was accepted before")
    assert 2 == len(six.vendor.writes)
    ok(*each(CSV + "1,Rivet,\n", "--wait"))
    assert 3 == len(six.vendor.writes)
    ok(*each(CSV, "--wait", "--key", "another run"))
    assert 5 == len(six.vendor.writes)


def test_if_one_row_is_wrong_nothing_is_accepted_and_every_mistake_is_told(six: CommandHarness) -> None:
    message = refused(*each("id,name,qty\n1,Nail,4\nx,Screw,-1\ny,Screw,\n"))
    assert "nothing was sent" in message
    assert "row 3: id" in message
    assert "row 4: id" in message
    assert [] == six.all()
    assert "has no column qty" in refused(*each("id,name\n1,a\n"))
    assert "has no rows" in refused(*each("id,name,qty\n"))


def test_without_arguments_nothing_is_sent_and_it_says_so(six: CommandHarness) -> None:
    for option in (("--each", write("rows.csv", CSV)), ("--wait",), ("--dry-run",), ("--key", "k")):
        assert "--arguments" in refused("command", "six", "update", "--resource", "goods", *option)
    assert [] == six.all()


# Decisions.


def uncertain(six: CommandHarness) -> int:
    six.vendor.faults = [(500, "out of order")]
    result = run("command", "six", "create", "--resource", "goods", "--arguments", write("c.json", '{"name": "Screw"}'))
    assert 0 == result.exit_code
    work(six)
    six.settle(minutes=2)
    number = six.all()[0].id
    assert six.command(number).waits_for_person
    return number


def test_an_uncertain_command_says_what_to_do(six: CommandHarness) -> None:
    number = uncertain(six)
    shown = " ".join(ok("commands", "list", "--state", "uncertain").stdout.split())
    assert "HTTP 500 out of order" in shown
    assert f"`erpmirror commands resolve {number} --arrived KEY`" in shown
    listed = json.loads(ok("commands", "list", "--json").stdout)
    assert [("uncertain", True)] == [(each["state"], each["needs_person"]) for each in listed]


def test_status_names_what_waits_for_a_person(six: CommandHarness) -> None:
    assert "commands" not in ok("status").stdout
    uncertain(six)
    shown = " ".join(ok("status").stdout.split())
    assert "six: commands: 1 uncertain (1 for you); see `erpmirror commands list six --open`" in shown
    assert "commands" not in ok("status", "--json").stdout


def test_what_the_vendor_did_not_take_is_told_apart_from_what_was_not_tried(six: CommandHarness) -> None:
    six.vendor.faults = [(425, "locked by Maria")]
    for _ in range(2):
        send("update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    work(six)
    shown = " ".join(ok("status").stdout.split())
    assert "six: commands: 2 waiting (1 not taken so far); see `erpmirror commands list six --open`" in shown
    assert "locked by Maria" in ok("commands", "list", "--open").stdout
    assert "say either --state or --open" in refused("commands", "list", "--open", "--state", "done")
    ok("commands", "cancel", "1")
    ok("commands", "cancel", "2")
    assert "There are no such commands." in ok("commands", "list", "--open").stdout


def test_a_person_says_that_it_arrived(six: CommandHarness) -> None:
    number = uncertain(six)
    six.vendor.objects["goods"]["7"] = {"name": "Screw"}
    ok("commands", "resolve", str(number), "--arrived", "7")
    work(six)
    assert (State.DONE, "7") == (six.command_state(number), six.command(number).result_key)
    assert {"name": "Screw"} == six.live()["7"]
    assert 1 == len(six.vendor.writes)


def test_a_person_says_that_it_did_not(six: CommandHarness) -> None:
    number = uncertain(six)
    ok("commands", "resolve", str(number), "--not-arrived")
    work(six)
    assert (State.DONE, 2) == (six.command_state(number), len(six.vendor.writes))


def test_a_person_leaves_what_did_not_arrive(six: CommandHarness) -> None:
    number = uncertain(six)
    ok("commands", "resolve", str(number), "--not-arrived", "--drop")
    work(six)
    assert (State.CANCELED, 1) == (six.command_state(number), len(six.vendor.writes))
    assert "only an uncertain one" in refused("commands", "resolve", str(number), "--not-arrived")


def test_commands_of_a_connection_that_left_the_settings_are_still_decided(six: CommandHarness) -> None:
    numbers = [uncertain(six), uncertain(six)]
    file = six.settings.file
    file.write_text(file.read_text("utf-8").split("[connections.six]")[0], "utf-8")
    first, second = map(str, numbers)
    assert "say --drop, too" in refused("commands", "resolve", first, "--not-arrived")
    ok("commands", "resolve", first, "--not-arrived", "--drop")
    ok("commands", "resolve", second, "--arrived", "7")
    assert [State.CANCELED, State.DONE] == [six.command_state(each) for each in numbers]


def test_a_refused_command_is_not_sent_over_a_later_one_unless_a_person_says_so(six: CommandHarness) -> None:
    six.vendor.faults = [(400, "no")]
    for _ in range(2):
        send("update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    work(six)
    assert (State.REFUSED, State.DONE) == (six.command_state(1), six.command_state(2))
    assert "command 2 has changed the same object since" in refused("commands", "retry", "1")
    assert 2 == len(six.vendor.writes)
    ok("commands", "retry", "1", "--anyway")
    work(six)
    assert (State.DONE, 3) == (six.command_state(1), len(six.vendor.writes))


def test_a_later_command_that_may_have_arrived_counts_as_well(six: CommandHarness) -> None:
    six.vendor.faults = [(400, "no"), "lost"]
    for _ in range(2):
        send("update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    six.vendor.meanwhile["write"] = lambda: six.vendor.instead.update({"goods/1": [(500, {}, "not now")] * 9})
    work(six)
    assert [State.REFUSED, State.UNCERTAIN] == [six.command_state(each) for each in (1, 2)]
    assert "command 2 has changed the same object since, or may have" in refused("commands", "retry", "1")


def test_on_a_new_installation_one_command_after_another_is_sent(six: CommandHarness) -> None:
    with six.database.begin() as tx:
        tx.execute(sa.delete(tables.streams))
    for name in ("Hook", "Nail"):
        arguments = write("a.json", json.dumps({"id": "1", "name": name}))
        ok("command", "six", "update", "--resource", "goods", "--arguments", arguments, "--wait")
    assert "Nail" == six.vendor.objects["goods"]["1"]["name"]


def test_a_command_that_was_being_sent_by_a_connection_that_is_gone_can_be_decided(six: CommandHarness) -> None:
    number = send("create", "--resource", "goods", "--arguments", write("c.json", '{"name": "Screw"}'))[0]["command"]
    with six.database.begin() as tx:
        assert commands.begin_sending(tx, six.command(number), until=tx.now, before=None, also_changes=[])
    assert "only an uncertain one" in refused("commands", "resolve", str(number), "--not-arrived", "--drop")
    file = six.settings.file
    file.write_text(file.read_text("utf-8").split("[connections.six]")[0], "utf-8")
    assert "six is not configured any more" in " ".join(ok("commands").stdout.split())
    ok("commands", "resolve", str(number), "--not-arrived", "--drop")
    assert State.CANCELED is six.command_state(number)


def test_an_update_that_arrived_has_its_own_key(six: CommandHarness) -> None:
    six.vendor.meanwhile["write"] = lambda: six.vendor.objects["goods"]["1"].update(name="by a user")
    six.vendor.faults = ["failed"]
    ok("command", "six", "update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    work(six)
    six.settle(minutes=3)
    assert "writes goods 1, so that is the KEY" in refused("commands", "resolve", "1", "--arrived", "7")
    ok("commands", "resolve", "1", "--arrived", "1")
    assert State.DONE is six.command_state(1)


def test_a_list_says_which_command_one_waits_for(six: CommandHarness) -> None:
    six.vendor.faults = [(425, "locked by Maria")]
    for _ in range(2):
        send("update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    work(six)
    assert "waits for command 1 of the same object" in ok("commands", "list", "--open").stdout
    assert "waits for command 1 of the same object" in ok("commands", "show", "2").stderr
    assert "due once command 1 of the same object is settled" in ok("commands", "retry", "2").stdout
    assert 'did you mean "six"' in refused("commands", "list", "sex")


def test_the_command_line_uses_up_no_programs_share(six: CommandHarness) -> None:
    for _ in range(3):
        send("update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    with six.database.begin() as tx:
        request = Request("update", "goods", {"id": "1", "name": "Nail"})
        new = acceptance.prepare(six.context, request, key="k", caller="192.0.2.1")
        assert commands.accept(tx, new, per_minute=1)[1]


def test_a_text_that_looks_like_a_column_is_not_sent_as_it_stands(six: CommandHarness) -> None:
    assert "no column" in refused(*each(template='{"id": "${id}", "name": "${name:text}"}'))
    assert "no column" in refused(*each(template='{"id": "${id}", "name": "x ${ name"}'))
    arguments = write("t.json", '{"id": "1", "name": "${name}"}')
    assert "name their file with --each" in refused(
        "command", "six", "update", "--resource", "goods", "--arguments", arguments
    )
    assert [] == six.all()


@pytest.mark.usefixtures("six")
def test_a_row_that_was_sent_before_a_later_change_says_so() -> None:
    for csv in ("id,name,qty\n1,Nail,1\n", "id,name,qty\n1,Nail,2\n"):
        ok(*each(csv, "--wait"))
    again = ok(*each("id,name,qty\n1,Nail,1\n", "--wait"))
    assert "command 2 has changed that object since" in " ".join(again.stderr.split())


def test_waiting_ends_where_an_earlier_command_needs_a_person(six: CommandHarness) -> None:
    six.vendor.meanwhile["write"] = lambda: six.vendor.objects["goods"]["1"].update(name="by a user")
    six.vendor.faults = ["failed"]
    words = ("command", "six", "update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    ok(*words)
    work(six)
    six.settle(minutes=3)
    assert six.command(1).waits_for_person
    result = run(*words, "--wait")
    assert 1 == result.exit_code
    assert "command 2 waits for command 1 of the same object, which needs you" in " ".join(result.stderr.split())
    assert 1 == len(six.vendor.writes)


def test_waiting_tells_why_a_command_is_not_taken(six: CommandHarness) -> None:
    six.vendor.faults = [(425, "locked by Maria"), (425, "locked by Maria")]
    words = ("command", "six", "update", "--resource", "goods", "--arguments", write("a.json", NAIL))
    result = ok(*words, "--wait")
    assert 1 == result.stderr.count("command 1 waiting: locked by Maria")


def test_only_one_of_both_and_only_of_an_uncertain_one(six: CommandHarness) -> None:
    number = str(uncertain(six))
    assert "say either" in refused("commands", "resolve", number)
    assert "say either" in refused("commands", "resolve", number, "--arrived", "7", "--not-arrived")
    ok("commands", "resolve", number, "--arrived", "7")
    assert "only an uncertain one" in refused("commands", "resolve", number, "--not-arrived")
    assert "nothing to retry" in refused("commands", "retry", number)
    assert "there is no command 99" in refused("commands", "show", "99")


def test_a_waiting_command_is_canceled_and_lets_the_next_one_go(six: CommandHarness) -> None:
    first, second = (send("update", "--resource", "goods", "--arguments", write("a.json", NAIL))[0] for _ in range(2))
    ok("commands", "cancel", str(first["command"]))
    work(six)
    assert (State.CANCELED, State.DONE) == tuple(six.command_state(each["command"]) for each in (first, second))
    assert "only one that waits" in refused("commands", "cancel", str(second["command"]))


def test_the_list_of_nothing_and_an_unknown_state(six: CommandHarness) -> None:
    assert "No command was accepted yet." in ok("commands").stdout
    assert 'did you mean "done"' in refused("commands", "list", "--state", "doen")
    assert [] == six.all()


@pytest.mark.parametrize("name", discovery.systems())
def test_the_settings_that_a_sandbox_prints_allow_each_of_its_commands(name: str) -> None:
    system = discovery.systems()[name]
    values = settings_template.commands(system)
    assert bool(values) == (system.actions is not None)
    if system.actions is not None:
        given = {"name": name, "url": "http://localhost"} | system.sandbox().state.sandbox.settings() | values
        options: Any = system.options.model_validate(given)
        assert {each.name for each in system.actions(options)} == set(options.commands)
        assert f"{name}-sandbox-commands" == options.commands_token.get_secret_value()
