"""README and the pages beside it are true: every command runs, every query has rows, every name and link exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.documentation import (
    ADD_A_SYSTEM,
    LINKED,
    OPERATING,
    PAGES,
    README,
    ROOT,
    blocks,
    cited,
    commands,
    files,
    headings,
    links,
)
from tests.documented_commands import BIN, CONNECTIONS, ELSEWHERE, SECONDS, CommandRunner, prepared, verb
from tests.mirroring import mirrored
from tests.processes import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.db.database import Database

NOTHING_PARKED = "no such object is parked or held"

THEIRS = {"consumer_timeout"}
"""Names in backticks that are other programs' (RabbitMQ's)."""

# Names, paths and links


def test_the_readme_has_at_most_350_lines() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 350


def test_the_readme_links_every_other_page() -> None:
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in links(README)}
    assert [] == [page.name for page in LINKED if page not in linked]


@pytest.mark.parametrize("page", [README, *LINKED], ids=lambda page: page.name)
def test_every_link_resolves(page: Path) -> None:
    for link in links(page):
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


PATH = re.compile(
    r"(?:receiver|workers|models|tests|\.github|\.ci)/[\w./<>-]*|[\w.-]+\.(?:md|yml|lock)|\.env\.example|pyproject\.toml"
)
"""What in backticks is a path of ours."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    named = {each for each in cited(page) if PATH.fullmatch(each)} - files(page).keys()
    assert named
    assert [] == [each for each in sorted(named) if not (ROOT / each.partition("<")[0]).exists()]


def test_extras_modules_and_services_in_commands_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    services = re.findall(r"^  ([\w-]+):$", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"), re.MULTILINE)
    for command in (command for page in PAGES for command in commands(page)):
        for wanted in re.findall(r"'\.\[([\w,]+)\]'", command):
            assert set(wanted.split(",")) <= extras.keys(), command
        for name in re.findall(r"python3? -m ([\w.]+)", command):
            assert find_spec(name) is not None, command
        if found := re.match(r"docker compose restart (.*)", command):
            assert set(found[1].split()) <= set(services), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_ours_or_tested_elsewhere(page: Path) -> None:
    ours = re.compile(r"(?:[A-Z_]+=\S+ )?erpmirror |curl |\$EDITOR ")
    unknown = [each for each in commands(page) if not ours.match(each) and not each.startswith(ELSEWHERE)]
    assert [] == unknown


# Queries


def test_every_query_has_rows_on_every_database(database: Database, tmp_path: Path) -> None:
    systems: dict[str, dict[str, Any]] = {"dilovod": {"seed": 2}, "interpreter": {"seed": 2}, "wisedat": {"seed": 2}}
    with mirrored(database, tmp_path, **systems) as mirror:
        for _ in mirror.sandboxes["interpreter"].scenario():
            pass
        mirror.work()
        for query in blocks(README, "sql"):
            with database.read() as tx:
                assert tx.exec_driver_sql(query).all(), query


# Commands


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandRunner]:
    """Runs all commands of README, then those of OPERATING.md."""
    with prepared(tmp_path_factory.mktemp("runner")) as runner:
        for command in commands(README):
            runner.type_command(command)
        runner.own_names = "\n".join(
            [
                (runner.folder / "erpmirror.toml").read_text(encoding="utf-8"),
                runner.run("erpmirror status --json")[1],
                *(runner.get(path) for path in ("/metrics", "/openapi.json", "/readyz", "/changes?after=0")),
            ]
        )
        runner.stop()
        for command in commands(OPERATING):
            runner.type_command(command)
        yield runner


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("readme")
def test_every_command_succeeds(runner: CommandRunner) -> None:
    failed = {
        command: printed
        for command, (status, printed) in runner.results.items()
        if status and NOTHING_PARKED not in printed
    }
    assert {} == failed
    assert {"check", "up", "hand-in", "poll", "ask", "worker", "parked"} <= {verb(each) for each in runner.results}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("readme")
def test_the_readmes_connections_are_mirrored(runner: CommandRunner) -> None:
    rows = json.loads(runner.run("erpmirror status --json")[1])
    assert CONNECTIONS.keys() <= {row["connection"] for row in rows}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("readme")
def test_every_name_in_backticks_is_the_products_own(runner: CommandRunner) -> None:
    with closing_engine(runner.folder / "var" / "erpmirror.db") as engine:
        inspector = sa.inspect(engine)
        tables = inspector.get_table_names()
        known = {*tables, *(column["name"] for table in tables for column in inspector.get_columns(table))}
    known |= set(re.findall(r"\w+", runner.own_names))
    named = {
        each
        for page in (README, OPERATING)
        for each in cited(page)
        if re.fullmatch(r"_?[a-z]+(_[a-z]+)+|_[a-z]+", each)
    }
    assert {"_raw", "_deleted_at", "erpmirror_changes", "max_deletions"} <= named
    assert [] == sorted(named - known - THEIRS)


@contextmanager
def closing_engine(file: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{file}")
    yield engine
    engine.dispose()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("readme")
def test_a_client_works_without_a_mirror(runner: CommandRunner) -> None:
    (example,) = [block for block in blocks(OPERATING, "python") if "standalone" in block]
    settings = tomllib.loads((runner.folder / "erpmirror.toml").read_text(encoding="utf-8"))["connections"]["loja"]
    example = example.replace("http://wisedat.local:8080", settings["url"])
    for key in ("api_key", "user", "password"):
        value = runner.environment[settings[key].strip("${}")]
        example = example.replace(f'"{key}": "…"', f'"{key}": {value!r}')
    (runner.folder / "example.py").write_text(example, encoding="utf-8")
    status, printed = runner.run(f"{sys.executable} example.py")
    assert (0, True) == (status, "[" in printed), printed


# A sixth system


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_system_is_added_by_following_the_page_word_for_word(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "var", "*.egg-info"))
    for path, content in files(ADD_A_SYSTEM).items():
        (clone / path).parent.mkdir(exist_ok=True)
        (clone / path).write_text(content, encoding="utf-8")
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(clone),
        "PYTEST_ADDOPTS": "-n 0 -p no:cacheprovider",
        "NO_COLOR": "1",
    }
    runner = CommandRunner(clone, {name: value for name, value in environment.items() if "PYTEST_XDIST" not in name}, 0)
    prove = [command for command in commands(ADD_A_SYSTEM) if not command.startswith("erpmirror")]
    assert 2 == len(prove)
    for command in prove:
        status, printed = runner.run(command)
        assert 0 == status, printed
    passed = re.search(r"(\d+) passed", printed)
    assert passed is not None
    assert 50 < int(passed[1])
    _watch(runner)


def _causes(runner: CommandRunner) -> set[str]:
    """The causes in the journal."""
    return {change["cause"] for change in json.loads(runner.get("/changes?after=0"))["changes"]}


def _watch(runner: CommandRunner) -> None:
    """The page's last step: the sandbox and `erpmirror up`, until a webhook and another cause are in the journal."""
    sandbox, up = [command for command in commands(ADD_A_SYSTEM) if command.startswith("erpmirror")]
    runner.port = free_port()
    hook = sandbox.replace("127.0.0.1:8000", f"127.0.0.1:{runner.port}")
    try:
        runner.type_command(hook)
        log = runner.folder / "0.log"
        until(lambda: "\n\n" in log.read_text(encoding="utf-8"), seconds=SECONDS, what=log.read_text)
        table = log.read_text(encoding="utf-8").partition("\n\n")[0]
        hurried = f'{table}\nevery = "2s"\n[receiver]\nport = {runner.port}\ntoken = "t"\n'
        (runner.folder / "erpmirror.toml").write_text(hurried, encoding="utf-8")
        runner.type_command(up)
        until(lambda: {"webhook"} < _causes(runner), seconds=SECONDS, what=up)
        assert '"rows"' in runner.run("erpmirror status --json")[1]
    finally:
        runner.stop()
