"""A database that cannot be used is named with what helps, never with `migrate`: real servers, real files."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.processes import free_port
from tests.workers.cli.runner import ok, refused, run, write_settings
from workers.cli import database_errors


def outcome(url: str) -> dict[str, str]:
    write_settings(f'[database]\nurl = "{url}"\n')
    result = run("check", "--json")
    assert 1 == result.exit_code
    (found,) = [each for each in json.loads(result.stdout) if each["what"] == "database"]
    return dict(found)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("postgres@127.0.0.1:5432/settings_nowhere", "create it (`createdb settings_nowhere`), or correct the name"),
        ("settings_nobody@127.0.0.1:5432/test", "correct the user in `url` of [database], or create it (`createuser"),
        ("postgres@nowhere.invalid/test", "correct the host in `url` of [database]"),
        ("postgres@127.0.0.1:{closed}/test", "start the server, or correct host and port in `url` of [database]"),
    ],
)
def test_a_refused_database_says_what_helps(address: str, remedy: str) -> None:
    url = f"postgresql://{address.format(closed=free_port())}"
    found = outcome(url)
    assert found["says"].startswith("the database cannot be used: ")
    assert found["remedy"].startswith(remedy)
    for verb in (["status"], ["migrate"]):
        assert remedy in refused(*verb)


def test_a_file_that_is_no_database_says_what_helps() -> None:
    Path("text.db").write_text("no database" * 100, encoding="utf-8")
    found = outcome("sqlite:///text.db")
    assert "file is not a database" in found["says"]
    assert "name another file in `url`" in found["remedy"]


def test_missing_tables_advise_to_migrate() -> None:
    assert "run `erpmirror migrate`" == outcome("sqlite:///fresh.db")["remedy"]
    ok("migrate")
    ok("check")


def test_a_folder_that_cannot_be_made_says_what_helps() -> None:
    write_settings('[database]\nurl = "sqlite:////proc/nowhere/mirror.db"\n')
    assert (
        "/proc/nowhere: No such file or directory; make the folder that it is to be in, or correct `url` of [database]"
        in refused("migrate")
    )


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('FATAL:  password authentication failed for user "me"', "correct the user in `url` of [database], and"),
        ("fe_sendauth: no password supplied", "and `password` beside it"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "let the server's pg_hba.conf admit"),
        ("FATAL:  sorry, too many clients already", "raise max_connections"),
        ("something unheard of", "correct `url` of [database], or repair the server"),
    ],
)
def test_words_that_no_server_here_says(said: str, remedy: str) -> None:
    error = sa.exc.OperationalError("SELECT secret", {"key": "secret"}, psycopg.OperationalError(said))
    explanation = database_errors.explained(error)
    assert explanation is not None
    assert remedy in str(explanation)
    assert "secret" not in str(explanation)
