"""`export`, `rebuild` and `forget`."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workers.cli.runner import GOODS, ok, rows_of, run, write_settings


def test_export_prints_one_object_per_line(shop: Any) -> None:
    ok("poll", "shop", GOODS)
    lines = [json.loads(line) for line in ok("export", "shop", GOODS).output.splitlines()]
    assert [["key", "deleted_at", "raw"]] * len(lines) == [list(line) for line in lines]
    assert shop.truth(GOODS).keys() == {line["key"] for line in lines}


@pytest.mark.parametrize("form", ["json", "csv"])
def test_export_is_utf_8_whatever_the_terminal_speaks(shop: Any, form: str) -> None:  # noqa: ARG001 - its settings are used
    ok("poll", "shop", GOODS)
    printed = []
    for encoding in ("ascii", "utf-8"):
        command = [sys.executable, "-m", "workers.cli", "export", "shop", GOODS, "--format", form]
        env = os.environ | {"PYTHONIOENCODING": encoding}
        printed.append(subprocess.run(command, capture_output=True, env=env, check=True).stdout)
    assert not printed[0].isascii()
    assert printed[0] == printed[1]


def test_export_to_a_file_is_whole_though_a_bar_is_on_the_terminal(shop: Any, tmp_path: Path) -> None:
    ok("poll", "shop", GOODS)
    master, terminal = pty.openpty()
    with (tmp_path / "goods.jsonl").open("wb") as file:
        command = [sys.executable, "-m", "workers.cli", "export", "shop", GOODS]
        exported = subprocess.run(command, stdout=file, stderr=terminal, env=os.environ | {"TERM": "xterm"}, check=True)
    os.close(terminal)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert (0, True) == (exported.returncode, "objects" in shown)
    lines = (tmp_path / "goods.jsonl").read_text(encoding="utf-8").splitlines()
    assert shop.truth(GOODS).keys() == {json.loads(line)["key"] for line in lines}


def test_export_as_csv_has_the_columns_of_the_table(shop: Any) -> None:
    ok("poll", "shop", GOODS)
    rows = list(csv.DictReader(io.StringIO(ok("export", "shop", GOODS, "--format", "csv").output)))
    assert shop.truth(GOODS).keys() == {row["_key"] for row in rows}
    assert {"id__id", "code", "del_mark"} <= rows[0].keys()
    assert not {name for name in rows[0] if name.startswith("_")} - {"_key", "_deleted_at"}


def test_rebuild_applies_new_settings_and_prints_the_number_of_objects(shop: Any) -> None:
    ok("poll", "shop", GOODS)
    write_settings(Path("erpmirror.toml").read_text(encoding="utf-8") + 'omit = ["header.code"]\n')
    assert f"{GOODS}: {len(shop.truth(GOODS))} objects rebuilt" in ok("rebuild", "shop", GOODS).output
    assert "code" not in json.loads(ok("export", "shop", GOODS).output.splitlines()[0])["raw"]["header"]


@pytest.mark.usefixtures("shop")
def test_an_unconfigured_resource_is_noted_until_it_is_forgotten() -> None:
    ok("poll", "shop", "catalogs.units")
    text = Path("erpmirror.toml").read_text(encoding="utf-8")
    write_settings(text.replace(', "catalogs.units"', ""))
    for verb in ("status", "check"):
        assert "shop catalogs.units is no longer configured: its 3 rows" in " ".join(ok(verb).stderr.split())
    rows = [row for row in json.loads(ok("status", "--json").stdout) if row["resource"] == "catalogs.units"]
    assert [(3, None)] == [(row["rows"], row["bound"]) for row in rows]
    ok("forget", "shop", "catalogs.units", "--yes")
    assert "no longer configured" not in ok("status").stderr


@pytest.mark.usefixtures("shop")
def test_an_unconfigured_connection_can_be_forgotten() -> None:
    ok("poll", "shop", "catalogs.units")
    write_settings("")
    assert "shop catalogs.units is no longer configured" in ok("status").stderr
    ok("forget", "shop", "--yes")
    assert [] == json.loads(ok("status", "--json").stdout)


@pytest.mark.usefixtures("shop")
def test_forget_asks_for_confirmation() -> None:
    ok("poll", "shop", "catalogs.units")
    assert 0 != run("forget", "shop", answer="n\n").exit_code
    assert 3 == rows_of("catalogs.units")


@pytest.mark.usefixtures("shop")
def test_a_forgotten_resource_that_is_configured_begins_with_a_full_sync() -> None:
    ok("poll", "shop", "catalogs.units")
    assert "begins with a full sync" in ok("forget", "shop", "catalogs.units", "--yes").stderr
    assert 0 == rows_of("catalogs.units")
    ok("poll", "shop", "catalogs.units")
    assert 3 == rows_of("catalogs.units")


@pytest.mark.usefixtures("shop")
def test_a_closed_output_pipe_is_no_error() -> None:
    ok("poll", "shop", GOODS)
    command = [sys.executable, "-m", "workers.cli", "export", "shop", GOODS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert b"" == started.stderr.read()
