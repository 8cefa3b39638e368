"""What holds customers' data belongs to its owner alone, whatever umask the processes are given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models import private
from models.db import migration
from models.db.database import Database
from models.settings import own_files
from tests.processes import free_port
from workers import configuration

UP = """
import os, signal, subprocess, sys, time, urllib.request
os.umask(0)
up = subprocess.Popen([sys.executable, "-m", "workers.cli", "up", "--concurrency", "1"])
try:
    for _ in range(600):
        try:
            urllib.request.urlopen("http://127.0.0.1:{port}/changes", timeout=5).close()
            break
        except OSError:
            time.sleep(0.2)
    time.sleep(3)
finally:
    up.send_signal(signal.SIGINT)
    up.wait(60)
"""


def _open_to_others(folder: Path) -> dict[str, str]:
    found = {path.relative_to(folder): path.lstat().st_mode for path in folder.rglob("*")}
    return {str(path): oct(mode & 0o777) for path, mode in found.items() if mode & 0o077}


def test_everything_that_up_makes_is_its_owners(tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / configuration.FILE
    file.write_text(f"[receiver]\nport = {port}\n")
    file.chmod(0o600)
    subprocess.run([sys.executable, "-c", UP.replace("{port}", str(port))], check=True, cwd=tmp_path, timeout=300)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {"var/erpmirror.db", "var/erpmirror.db.feed", "var/broker/messages"} <= made
    assert {} == _open_to_others(tmp_path)


@pytest.mark.parametrize("verb", ["migrate", "receiver"])
def test_what_an_earlier_version_left_open_is_tightened(tmp_path: Path, verb: str) -> None:
    file = tmp_path / configuration.FILE
    file.write_text(f"[receiver]\nport = {free_port()}\n")
    settings = configuration.load(file)
    migration.migrate(Database(settings.database.url))
    for name in ("var/spool", "var/broker/messages"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("var/spool/1.spool", "var/broker/messages/1.msg", "var/erpmirror.db.feed", "var/erpmirror.db-wal"):
        (tmp_path / name).touch()
    (tmp_path / "var/erpmirror.db-wal").touch()
    for path in (tmp_path / "var").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "var").chmod(0o755)
    if verb == "migrate":
        subprocess.run([sys.executable, "-m", "workers.cli", "migrate"], check=True, cwd=tmp_path, capture_output=True)
    else:
        own_files.tighten(settings)  # as each long-running process does first
    assert {configuration.FILE: "0o644"} == _open_to_others(tmp_path)  # the settings are a person's own file


def test_a_folder_that_a_person_chose_elsewhere_keeps_its_mode(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "data"
    home.mkdir()
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    file = home / configuration.FILE
    file.write_text(f'[database]\nurl = "sqlite:///{elsewhere / "mirror.db"}"\n')
    settings = configuration.load(file)
    database = Database(settings.database.url)
    migration.migrate(database)
    own_files.tighten(settings)
    assert 0o755 == elsewhere.stat().st_mode & 0o777
    assert 0o600 == (elsewhere / "mirror.db").stat().st_mode & 0o777


def test_a_folder_is_made_with_all_above_it(tmp_path: Path) -> None:
    private.make_folder(tmp_path / "a" / "b" / "c")
    assert {0o700} == {path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*")}
    assert 0o700 == (tmp_path / "a").stat().st_mode & 0o777
