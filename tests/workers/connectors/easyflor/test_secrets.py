"""Debtors contain password hashes of webshop users, which must not be stored or logged anywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models import redaction
from tests.mirroring import Mirror, mirrored
from tests.slow_params import slow_except
from tests.workers.connectors.easyflor.conftest import options
from workers.connectors.easyflor import answers, resources

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.connectors.easyflor.conftest import Account

RAW = {
    "Id": 1,
    "Contacts": [
        {
            "FirstName": "Marco",
            "DateOfBirth": "1970-12-10T00:00:00Z",
            "gender": "Man",
            "NATIONALITY": "Nederlandse",
            "Users": [{"Username": "Testje", "Password": "+TEk", "PasswordSalt": "hCJj", "CanOrder": True}],
        }
    ],
    "Config": {"deep": [[{"PASSWORD": "+TEk", "passwordSALT": "hCJj", "passwordHash": "+TEk", "Theme": "roos"}]]},
}
PUBLIC = {
    "Id": 1,
    "Contacts": [{"FirstName": "Marco", "Users": [{"Username": "Testje", "CanOrder": True}]}],
    "Config": {"deep": [[{"Theme": "roos"}]]},
}
STEPS = 21


def everything(database: Database) -> str:
    """Every value of every row of every table, as text."""
    found = []
    with database.read() as tx:
        for name in sa.inspect(tx).get_table_names():
            for row in tx.execute(sa.text(f'SELECT * FROM "{name}"')):
                found += [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in row]
    return "\n".join(found)


def entries(mirror: Mirror) -> int:
    """The number of journal entries."""
    with mirror.database.read() as tx:
        return int(tx.execute(sa.text("SELECT count(*) FROM erpmirror_changes")).scalar_one())


@pytest.mark.parametrize("auth", slow_except(["token", "cookie"], quick="token"))
def test_after_the_scenario_no_secret_is_in_any_table_file_or_log(
    sqlite: Database,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    auth: str,
) -> None:
    with mirrored(sqlite, tmp_path, easyflor={"auth": auth}) as mirror:
        sandbox = mirror.sandboxes["easyflor"]
        mirror.work()
        steps = []
        for step in sandbox.scenario():
            steps.append(step)
            mirror.catch_up()
        assert {} == mirror.differences()
        sandbox.password, old = "another password of the api user", sandbox.password
        sandbox.expire()
        sandbox.log_in_elsewhere()
        mirror.catch_up()  # refused, so that errors are stored and logged
        text = everything(sqlite)
    captured = capfd.readouterr()
    logged = captured.out + captured.err + caplog.text
    files = b"".join(path.read_bytes() for path in tmp_path.glob("mirror.db*"))
    assert STEPS == len(steps)
    assert "shop417" in text, "the names of webshop users are mirrored"
    assert b"shop417" in files
    assert "refuses the login" in text
    assert "refuses the login" in logged
    # Only the beginning of each secret, which would also be found in a message that was cut off.
    secrets = {secret[:10] for secret in sandbox.books.secrets | sandbox.issued | {old, sandbox.password}}
    personal = {"Nederlandse", "Duitse", "-12-10T00:00:00"}
    assert len(secrets) > 10
    assert [] == [secret for secret in secrets | personal if secret in text]
    assert [] == [secret for secret in secrets | personal if secret.encode() in files]
    assert [] == [secret for secret in secrets | personal if secret in logged]


def test_a_change_of_only_a_password_is_not_journaled(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, easyflor={}) as mirror:
        mirror.work()
        books, before = mirror.sandboxes["easyflor"].books, entries(mirror)
        debtor = books.tables["debtor"][0]
        for _ in range(3):
            debtor["Contacts"][0]["Users"][0].update(books.password())
            books.touch("debtor", debtor)
            mirror.catch_up()
        assert before == entries(mirror)
        mirror.sandboxes["easyflor"].day.edit_debtor(Random(1))
        mirror.catch_up()
        assert before + 1 == entries(mirror)


def test_secrets_are_removed_at_any_depth_and_in_any_case() -> None:
    assert PUBLIC == answers.remove_secrets(_copy(RAW), keep_personal=False)


def test_personal_data_can_be_kept_and_secrets_cannot() -> None:
    kept = answers.remove_secrets(_copy(RAW), keep_personal=True)
    contact = {"DateOfBirth": "1970-12-10T00:00:00Z", "gender": "Man", "NATIONALITY": "Nederlandse"}
    assert PUBLIC["Contacts"][0] | contact == kept["Contacts"][0]  # type: ignore[index]
    assert PUBLIC["Config"] == kept["Config"]


def test_secrets_are_removed_from_very_deep_nesting() -> None:
    deep: Any = {"Password": "+TEk"}
    for _ in range(100_000):
        deep = [deep]
    cleaned = answers.remove_secrets(deep, keep_personal=False)
    while isinstance(cleaned, list):
        (cleaned,) = cleaned
    assert {} == cleaned


def test_the_declared_secrets_are_redacted_too() -> None:
    redacted = redaction.redact(_copy(RAW), options().secrets)
    assert [{"Username": "Testje", "CanOrder": True}] == redacted["Contacts"][0]["Users"]
    assert {"deep": [[{"passwordHash": "+TEk", "Theme": "roos"}]]} == redacted["Config"]


@pytest.mark.parametrize("keep", [False, True])
def test_personal_fields_have_columns_only_if_they_are_kept(keep: bool) -> None:  # noqa: FBT001
    (debtor,) = resources.resources(options(keep_personal=keep))
    assert keep == ({"DateOfBirth", "Gender", "Nationality"} <= set(debtor.shape["Contacts"]))
    assert not [name for fields in debtor.shape.values() for name in fields if "assword" in name]


def test_the_answer_of_ask_contains_no_secret(account: Account) -> None:
    (result,) = account.client.ask(["debtor/417"])
    assert account.sandbox.truth("debtor")["417"] == result
    assert not [secret for secret in account.sandbox.books.secrets if secret in repr(result)]


def test_an_unreadable_record_has_no_secrets(account: Account) -> None:
    user = {"Username": "x", "Password": "+TEk", "PasswordSalt": "hCJj"}
    account.table.append({"Id": None, "Users": [user]})
    account.sandbox.books.changed["debtor", "None"] = datetime.now(UTC).date()
    (unreadable,) = account.list_all("debtor").unreadable
    assert {"Id": None, "Users": [{"Username": "x"}]} == unreadable.raw


def _copy(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {name: _copy(value) for name, value in raw.items()}
    return [_copy(value) for value in raw] if isinstance(raw, list) else raw
