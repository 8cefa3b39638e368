"""Where the settings file is found, and that it knows the installed systems."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.settings.load import SettingsError
from workers import configuration

DILOVOD = '[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nresources = ["catalogs.goods"]\n'


def test_the_connections_that_the_readme_shows_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (shown,) = [block for block in re.findall(r"```toml\n(.*?)```", readme, re.DOTALL) if "[connections.shop]" in block]
    for name in re.findall(r"\$\{(\w+)\}", shown):
        monkeypatch.setenv(name, "1234")
    file = tmp_path / "erpmirror.toml"
    file.write_text(shown, encoding="utf-8")
    systems = {"dilovod", "directo", "wisedat", "easyflor", "interpreter"}
    assert systems == {each.system for each in configuration.load(file).connections.values()}


def _written(file: Path, port: int) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"[receiver]\nport = {port}\n", encoding="utf-8")
    return file


def test_the_file_asked_for_wins_then_the_variable_then_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, named, asked = (_written(tmp_path / name / "erpmirror.toml", port) for name, port in _PORTS.items())
    monkeypatch.chdir(here.parent)
    monkeypatch.delenv(configuration.VARIABLE, raising=False)
    assert _PORTS["here"] == configuration.load().receiver.port
    monkeypatch.setenv(configuration.VARIABLE, str(named))
    assert _PORTS["named"] == configuration.load().receiver.port
    assert _PORTS["asked"] == configuration.load(asked).receiver.port


_PORTS = {"here": 1, "named": 2, "asked": 3}


def test_an_empty_variable_is_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(configuration.VARIABLE, "")
    assert tmp_path / "erpmirror.toml" == configuration.find()


def test_paths_are_relative_to_the_file_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _written(tmp_path / "etc" / "erpmirror.toml", 1)
    monkeypatch.chdir(tmp_path)
    loaded = configuration.load(Path("etc/erpmirror.toml"))
    assert f"sqlite:///{tmp_path}/etc/var/erpmirror.db" == loaded.database.url
    assert tmp_path / "etc" / "erpmirror.toml" == loaded.file


def test_the_installed_systems_are_known(tmp_path: Path) -> None:
    file = tmp_path / "erpmirror.toml"
    file.write_text(DILOVOD, encoding="utf-8")
    assert "dilovod" == configuration.load(file).connections["shop"].system


def test_an_unknown_system_names_the_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "erpmirror.toml"
    file.write_text('[connections.shop]\nsystem = "dilovot"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match='did you mean "dilovod"'):
        configuration.load(file)


def test_two_resources_that_would_share_a_table_refuse_to_start(tmp_path: Path) -> None:
    file = tmp_path / "erpmirror.toml"
    other = DILOVOD.replace("[connections.shop]", "[connections.other]").replace("catalogs.goods", "catalogs.Goods")
    file.write_text(DILOVOD + other, encoding="utf-8")
    with pytest.raises(SettingsError, match=r'other.resources: "catalogs.Goods" and "catalogs.goods" have one table'):
        configuration.load(file)
