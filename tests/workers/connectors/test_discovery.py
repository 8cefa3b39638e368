"""Systems are discovered by their folders: adding a sixth edits nothing outside its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.workers import vendor_harness
from workers import configuration
from workers.connectors import discovery
from workers.connectors.contract import Malformed, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    "__init__": '"""The sixth system."""\n',
    "options": (
        "from workers.connectors.contract import Connection, Secret, Url\n"
        "class Options(Connection):\n"
        "    url: Url = 'https://sixth.example.com'\n"
        "    api_key: Secret\n"
    ),
    "resources": (
        "from datetime import timedelta\n"
        "from workers.connectors.contract import Resource\n"
        "def resources(options):\n"
        "    return (Resource('things', full_every=timedelta(days=1), bound=timedelta(days=1)),)\n"
    ),
    "client": "class Client:\n    def __init__(self, options, wire):\n        self.options = options\n",
    "webhooks": (
        "from workers.connectors.contract import Malformed\ndef read(packet, options):\n    raise Malformed('no')\n"
    ),
    "sandbox": "def create(**knobs):\n    return knobs\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A second folder that is searched for connectors."""
    with vendor_harness.connectors_in(tmp_path):
        yield tmp_path


def _write_connector(folder: Path, *, without: str = "") -> None:
    (folder / "sixth").mkdir()
    for name, text in FILES.items():
        if name != without:
            (folder / "sixth" / f"{name}.py").write_text(text, encoding="utf-8")


def test_our_systems_are_discovered() -> None:
    assert {"dilovod", "directo"} <= discovery.systems().keys()


@pytest.mark.parametrize("name", sorted(discovery.systems()))
def test_our_systems_have_every_required_file(name: str) -> None:
    system = discovery.systems()[name]
    system.require()
    assert system.has_sandbox
    assert callable(system.client)
    assert callable(system.resources)


def test_a_sixth_folder_is_a_sixth_system(folder: Path) -> None:
    _write_connector(folder)
    file = folder / "erpmirror.toml"
    file.write_text('[connections.six]\nsystem = "sixth"\napi_key = "k"\n', encoding="utf-8")
    options = configuration.load(file).connections["six"]
    system = discovery.systems()["sixth"]
    assert ["things"] == [resource.name for resource in system.resources(options)]
    assert isinstance(system.resources(options)[0], Resource)
    assert system.webhooks is not None
    with pytest.raises(Malformed):
        system.webhooks.read({}, options)


def test_a_sandbox_is_imported_on_first_use(folder: Path) -> None:
    _write_connector(folder)
    system = discovery.systems()["sixth"]
    assert system.has_sandbox
    assert "workers.connectors.sixth.sandbox" not in sys.modules
    made: object = system.sandbox(seed=1)
    assert {"seed": 1} == made
    assert "workers.connectors.sixth.sandbox" in sys.modules


def test_a_system_without_webhooks_has_no_notices(folder: Path) -> None:
    _write_connector(folder, without="webhooks")
    assert discovery.systems()["sixth"].webhooks is None


@pytest.mark.parametrize("missing", ["client", "resources"])
def test_loading_the_settings_names_a_missing_file(folder: Path, missing: str) -> None:
    _write_connector(folder, without=missing)
    file = folder / "erpmirror.toml"
    file.write_text('[connections.six]\nsystem = "sixth"\napi_key = "k"\n', encoding="utf-8")
    with pytest.raises(discovery.IncompleteError, match=rf"workers/connectors/sixth has no {missing}\.py"):
        configuration.load(file)


def test_loading_the_settings_names_missing_options_of_an_unused_system(folder: Path) -> None:
    _write_connector(folder, without="options")
    file = folder / "erpmirror.toml"
    file.write_text("", encoding="utf-8")
    with pytest.raises(discovery.IncompleteError, match=r"workers/connectors/sixth has no options\.py"):
        configuration.load(file)


def test_a_missing_name_in_a_file_is_reported(folder: Path) -> None:
    _write_connector(folder)
    (folder / "sixth" / "client.py").write_text("", encoding="utf-8")
    with pytest.raises(discovery.IncompleteError, match=r"workers/connectors/sixth/client\.py has no `Client`"):
        _ = discovery.systems()["sixth"].client


def test_loading_the_settings_imports_no_sandbox_and_no_http_client() -> None:
    script = (
        "import sys, pathlib\n"
        "from workers import configuration\n"
        "from workers.connectors import discovery\n"
        "[system.options for system in discovery.systems().values()]\n"
        "print([name for name in sys.modules if name == 'httpx' or name.endswith('.sandbox')])\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "[]" == finished.stdout.strip()
