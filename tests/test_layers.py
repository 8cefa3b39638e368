"""Imports run receiver -> workers -> models without circles, and a connector folder knows only the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import layers
from tests.layers import Tree

ROOT = Path(__file__).parent.parent
OURS = Tree(ROOT)
TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "docker-compose.yml",
    "LICENSE",
    "requirements.lock",
    *layers.TOP_PACKAGES,
    "tests",
}

Rule = Callable[[Tree], list[str]]
RULES: tuple[Rule, ...] = (
    layers.relative_imports,
    layers.backward_imports,
    layers.unplaced_packages,
    layers.celery_outside_queue,
    layers.httpx_outside_connectors,
    layers.module_circles,
    layers.typing_circles,
    layers.package_circles,
    layers.crowded_packages,
    layers.long_files,
)


def kiosk_imports(tree: Tree) -> list[str]:
    return layers.connector_imports(tree, "kiosk")


CONNECTOR = "workers/connectors/kiosk/client.py"
SOUND = {
    "receiver/app.py": "from receiver.api import changes",
    "receiver/api/changes.py": "import sqlalchemy\nfrom models.bookkeeping import journal\nfrom workers import context",
    "workers/context.py": "from workers.connectors import http",
    "workers/queue/tasks.py": "import celery\nimport kombu.pools\nfrom workers import context",
    "workers/connectors/http.py": "import httpx\nfrom workers.errors import TryLater",
    "workers/connectors/kiosk/__init__.py": "",
    CONNECTOR: (
        "from models.values import Kind\nfrom workers.connectors.http import Client\n"
        "from workers.connectors.kiosk import options"
    ),
    "workers/connectors/kiosk/options.py": "from workers.connectors.contract import Options",
    "workers/connectors/kiosk/sandbox.py": "pass\n" * (layers.MOST_LINES + 1),
    "workers/connectors/contract.py": "from models.values import Kind",
    "workers/errors.py": "class TryLater(Exception): pass",
    "models/bookkeeping/journal.py": "from models.db import tables",
    "models/db/tables.py": "import sqlalchemy",
    "models/values.py": "Kind = str",
}
"""A small tree that keeps every rule."""

VIOLATIONS: dict[str, tuple[Rule, dict[str, str], str]] = {
    "a relative import": (
        layers.relative_imports,
        {"workers/context.py": "from .errors import TryLater"},
        "workers.context imports .errors",
    ),
    "models import workers": (
        layers.backward_imports,
        {"models/db/tables.py": "from workers import errors"},
        "models.db.tables imports workers.errors",
    ),
    "workers import the receiver, inside a function": (
        layers.backward_imports,
        {"workers/queue/tasks.py": "def run():\n    import receiver.app"},
        "workers.queue.tasks imports receiver.app",
    ),
    "models import the receiver, for types alone": (
        layers.backward_imports,
        {"models/values.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from receiver.app import App"},
        "models.values imports receiver.app",
    ),
    "the ground imports the edge inside a top package": (
        layers.backward_imports,
        {"models/db/tables.py": "from models.bookkeeping import journal"},
        "models.db.tables imports models.bookkeeping.journal",
    ),
    "a package without a place": (layers.unplaced_packages, {"workers/helpers.py": ""}, "workers.helpers"),
    "Celery in the ingest": (
        layers.celery_outside_queue,
        {"workers/ingest/loop.py": "from celery import Task"},
        "workers.ingest.loop imports celery",
    ),
    "kombu in the receiver": (
        layers.celery_outside_queue,
        {"receiver/app.py": "import kombu.pools"},
        "receiver.app imports kombu.pools",
    ),
    "httpx in the command line": (
        layers.httpx_outside_connectors,
        {"workers/cli/check.py": "import httpx"},
        "workers.cli.check imports httpx",
    ),
    "a connector knows the database": (
        kiosk_imports,
        {CONNECTOR: "from models.db import tables"},
        "workers.connectors.kiosk.client imports models.db.tables",
    ),
    "a connector knows another system": (
        kiosk_imports,
        {CONNECTOR: "from workers.connectors.kiosk_two import client"},
        "workers.connectors.kiosk.client imports workers.connectors.kiosk_two",
    ),
    "a connector uses SQLAlchemy": (
        kiosk_imports,
        {CONNECTOR: "import sqlalchemy as sa"},
        "workers.connectors.kiosk.client imports sqlalchemy",
    ),
    "a circle of three modules": (
        layers.module_circles,
        {
            "workers/queue/a.py": "import workers.queue.b",
            "workers/queue/b.py": "def run():\n    from workers.queue import c",
            "workers/queue/c.py": "from workers.queue.a import run",
        },
        "workers.queue.a <-> workers.queue.b <-> workers.queue.c",
    ),
    "a module imports itself": (
        layers.module_circles,
        {"workers/context.py": "from workers.context import x"},
        "workers.context",
    ),
    "a circle that a type alone closes": (
        layers.typing_circles,
        {
            "workers/queue/a.py": "import workers.queue.b",
            "workers/queue/b.py": "import typing\nif typing.TYPE_CHECKING:\n    from workers.queue import a",
        },
        "workers.queue.a <-> workers.queue.b",
    ),
    "a circle of packages without one of modules": (
        layers.package_circles,
        {
            "models/mirror/apply.py": "from models.bookkeeping import journal",
            "models/bookkeeping/parked.py": "from models.mirror import naming",
            "models/mirror/naming.py": "",
        },
        "models.bookkeeping <-> models.mirror",
    ),
    "ten flat files": (
        layers.crowded_packages,
        {f"receiver/file_{number}.py": "" for number in range(9)},
        "receiver has 10 flat files",
    ),
    "a long file": (
        layers.long_files,
        {"models/values.py": "pass\n" * (layers.MOST_LINES + 1)},
        "models/values.py has 401 lines",
    ),
}


def plant(root: Path, files: dict[str, str]) -> Tree:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return Tree(root)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_packages_keep_the_rule(rule: Rule) -> None:
    assert [] == rule(OURS)


@pytest.mark.parametrize("folder", OURS.connectors)
def test_a_connector_folder_imports_only_the_contract(folder: str) -> None:
    assert [] == layers.connector_imports(OURS, folder)


def test_the_real_tree_is_what_the_rules_read() -> None:
    assert {"dilovod", "directo", "easyflor", "interpreter", "wisedat"} <= set(OURS.connectors)
    assert set(layers.TOP_PACKAGES) == {layers.top_of(name) for name in OURS.modules}
    assert "models.db.tables" in OURS.imports["models.bookkeeping.inbox"].runtime
    assert "models.db.database" in OURS.imports["models.mirror.writer"].typing


@pytest.mark.parametrize("rule", [*RULES, kiosk_imports], ids=lambda rule: rule.__name__)
def test_a_sound_tree_keeps_every_rule(rule: Rule, tmp_path: Path) -> None:
    assert [] == rule(plant(tmp_path, SOUND))


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_planted_violation_breaks_its_rule(name: str, tmp_path: Path) -> None:
    rule, files, found = VIOLATIONS[name]
    assert [found] == rule(plant(tmp_path, SOUND | files))


def test_every_rule_has_a_planted_violation() -> None:
    assert {*RULES, kiosk_imports} == {rule for rule, _, _ in VIOLATIONS.values()}


def test_nothing_else_stands_at_the_top_level() -> None:
    tracked = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    leavings = {"erpmirror.egg-info", "build", "var", "erpmirror.toml"}  # what git ignores
    assert set() == tracked - TOP_LEVEL - leavings
