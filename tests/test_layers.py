"""Who may import whom: receiver -> workers -> models, and a connector folder knows only the contract."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("receiver", "workers", "models")

CONNECTOR_MAY = {
    "models.exact",
    "models.values",
    "workers.connectors.contract",
    "workers.connectors.http",
    "workers.connectors.streaming",
    "workers.errors",
}
CELERY_MAY = {
    "workers.queue.app",
    "workers.queue.scheduler",
    "workers.queue.wakeup",
    "workers.queue.broker",
    "workers.queue.consumer",
    "workers.queue.filesystem",
    "workers.queue.tasks",
}
TOP_LEVEL = {"pyproject.toml", "README.md", "docker-compose.yml", "LICENSE", "requirements.lock", *PACKAGES, "tests"}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules that a module imports, anywhere in it: `from a import b` counts as a.b where that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            module = node.module or ""
            found |= {f"{module}.{a.name}" if f"{module}.{a.name}" in MODULES else module for a in node.names}
    return found


def top(module: str) -> str:
    return module.partition(".")[0]


def connector(name: str) -> str | None:
    """The connector folder that a module lies in."""
    parts = name.split(".")
    inside = parts[:2] == ["workers", "connectors"] and len(parts) > 2
    return parts[2] if inside and ROOT.joinpath(*parts[:3]).is_dir() else None


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_from_receiver_to_workers_to_models_and_never_back(name: str) -> None:
    forbidden = {"models": {"workers", "receiver"}, "workers": {"receiver"}, "receiver": set()}[top(name)]
    assert set() == {top(each) for each in imports(name)} & forbidden


@pytest.mark.parametrize("name", [name for name in MODULES if connector(name)])
def test_a_connector_folder_imports_only_the_contract(name: str) -> None:
    own = f"workers.connectors.{connector(name)}"
    ours = {each for each in imports(name) if top(each) in PACKAGES}
    assert set() == {
        each for each in ours if each not in CONNECTOR_MAY and each != own and not each.startswith(f"{own}.")
    }
    assert set() == {top(each) for each in imports(name)} & {"celery", "kombu", "sqlalchemy"}


@pytest.mark.parametrize("name", [name for name in MODULES if name not in CELERY_MAY])
def test_celery_and_kombu_stay_in_the_task_modules(name: str) -> None:
    assert set() == {top(each) for each in imports(name)} & {"celery", "kombu"}


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("workers.connectors")])
def test_httpx_stays_under_the_connectors(name: str) -> None:
    assert "httpx" not in {top(each) for each in imports(name)}


def test_nothing_else_stands_at_the_top_level() -> None:
    tracked = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    leavings = {"erpmirror.egg-info", "build", "var", "erpmirror.toml"}  # what git ignores
    assert set() == tracked - TOP_LEVEL - leavings
