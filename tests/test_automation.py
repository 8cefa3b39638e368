"""Hooks, workflow, forms and compose file parse; the workflow runs `.ci/run`, the compose file commands that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workers.cli import runner
from workers.queue import wakeup

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
YAML = [*ROOT.glob("*.y*ml"), *ROOT.glob(".*.y*ml"), *GITHUB.rglob("*.y*ml")]


class StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, of which YAML's own loader silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the loader's own
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"named twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def parsed(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), StrictLoader)  # noqa: S506 - it builds on the safe one


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    loaded = parsed(GITHUB / "workflows" / "ci.yml")
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="module")
def job(workflow: dict[Any, Any]) -> Any:
    (only,) = workflow["jobs"].values()
    return only


def commands(job: Any) -> list[str]:
    return [line.strip() for step in job["steps"] for line in step.get("run", "").splitlines()]


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_yaml_file_parses_and_names_no_key_twice(path: Path) -> None:
    assert isinstance(parsed(path), dict)


def test_the_files_are_where_github_and_the_hooks_expect_them() -> None:
    expected = {"docker-compose.yml", ".pre-commit-config.yaml", "ci.yml", "dependabot.yml", "config.yml"}
    assert set() == expected - {path.name for path in YAML}
    documents = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "PULL_REQUEST_TEMPLATE.md")
    assert [] == [name for name in documents if not (GITHUB / name).is_file()]
    assert {"bug", "feature", "system"} == {path.stem for path in FORMS}


def test_a_key_that_is_named_twice_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="named twice"):
        yaml.load("a: 1\nb: 2\na: 3\n", StrictLoader)  # noqa: S506 - likewise


# The workflow


def test_the_workflow_runs_the_script_that_developers_run(job: Any) -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert 1 == len([line for line in commands(job) if line.split()[-1] == ".ci/run"])
    others = [line for line in commands(job) if re.search(r"\b(pytest|ruff|mypy|coverage|pip)\b", line)]
    assert [] == others, "checks belong into .ci/run alone"


def test_the_script_requires_the_services_and_runs_the_long_tests_too() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "export ERPMIRROR_TEST_SERVICES=required" in script
    assert "python -m pip install -e '.[test]' && python -m pytest\n" in script, "as in README"
    assert '-m "chaos or slow"' in script
    for tool in ("ruff check .", "ruff format --check .", "mypy", ".ci/audit"):
        assert f"\n{tool}\n" in script


def test_the_script_measures_the_plain_run_against_a_floor() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    started, reported = script.index("COVERAGE_PROCESS_START="), script.index("&& coverage report")
    assert started < script.index("python -m pytest\n") < reported
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert 90 < tools["coverage"]["report"]["fail_under"]


def test_the_workflow_has_every_service_that_tests_talk_to(job: Any) -> None:
    read = set(re.findall(r"ERPMIRROR_TEST_[A-Z]+", (ROOT / "tests" / "services.py").read_text(encoding="utf-8")))
    addresses = read - {"ERPMIRROR_TEST_SERVICES"}  # .ci/run sets that one
    assert addresses == {name for name in job["env"] if name.startswith("ERPMIRROR_")}
    published = {port for service in job["services"].values() for port in service["ports"]}
    asked = {match for name in addresses for match in re.findall(r"127\.0\.0\.1:\d+", job["env"][name])}
    assert asked == {port.rpartition(":")[0] for port in published}
    assert all("--health-cmd" in service["options"] for service in job["services"].values())


def test_services_and_actions_are_pinned(job: Any) -> None:
    images = [service["image"] for service in job["services"].values()]
    assert [] == [image for image in images if not re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?", image)]
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [] == [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)]


def test_the_workflow_checks_the_oldest_python_that_is_allowed_and_the_newest(job: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [project["requires-python"].removeprefix(">="), "3.x"] == job["strategy"]["matrix"]["python"]


def test_the_workflow_may_only_read_and_ends(workflow: dict[Any, Any], job: Any) -> None:
    assert {"contents": "read"} == workflow["permissions"]
    assert "permissions" not in job
    assert job["timeout-minutes"] <= 60
    assert workflow["concurrency"]["group"]
    assert {"persist-credentials": False} == job["steps"][0]["with"]


# The hooks


def test_the_hooks_use_this_environment_and_check_what_ci_checks_quickly() -> None:
    (repository,) = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert "local" == repository["repo"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}
    assert {"system"} == {hook["language"] for hook in hooks.values()}
    assert {"ruff", "ruff-format", "mypy", "layers"} == hooks.keys()
    assert all(hook["entry"].startswith("python -m ") for hook in hooks.values())
    layers = hooks["layers"]["entry"].split()[-1]
    assert (ROOT / layers).is_file()


# The compose file


@pytest.fixture(scope="module")
def compose() -> Any:
    return parsed(ROOT / "docker-compose.yml")


def _commands(compose: Any) -> list[list[str]]:
    """The command lines of the services that run our image."""
    image = compose["x-erpmirror"]["image"]
    services = [service for service in compose["services"].values() if service["image"] == image]
    return [service["command"] for service in services if "entrypoint" not in service]


def test_each_service_runs_a_command_that_exists(compose: Any) -> None:
    for words in _commands(compose):
        runner.parse(words)


def test_each_queue_has_a_service_of_its_own(compose: Any) -> None:
    workers = [command for command in _commands(compose) if command[0] == "worker"]
    assert sorted(wakeup.ALL_QUEUES) == sorted(command[command.index("--queues") + 1] for command in workers)


def test_each_variable_stands_in_the_example_or_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    required = set(re.findall(r"(?<!\$)\$\{(\w+)(?!\w|:-)", text))
    assert {"POSTGRES_PASSWORD", "REDIS_PASSWORD"} <= required
    assert set() == required - set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_each_service_waits_for_services_that_exist(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service.get("depends_on", {}).keys() <= compose["services"].keys() - {name}
    assert set(compose["services"]) - {"postgres", "redis", "init"} == {
        name for name, service in compose["services"].items() if "depends_on" in service
    }


def test_the_image_has_every_package_and_file_that_the_build_copies(compose: Any) -> None:
    copied = re.findall(r"^COPY (.+) \S+$", compose["services"]["init"]["build"]["dockerfile_inline"], re.MULTILINE)
    names = {name for each in copied for name in each.split()}
    assert {"receiver", "workers", "models", "requirements.lock", "pyproject.toml"} <= names
    assert [] == sorted(name for name in names if not (ROOT / name).exists())


def test_the_settings_file_is_given_to_the_group_of_the_image(compose: Any) -> None:
    init = compose["services"]["init"]
    (group,) = re.findall(r"groupadd --gid \d+ (\w+)", init["build"]["dockerfile_inline"])
    assert f"chgrp {group} erpmirror.toml" in init["command"][0]


def test_one_service_builds_the_image_and_the_others_never_pull_it(compose: Any) -> None:
    ours = {name: each for name, each in compose["services"].items() if "ERPMIRROR_IMAGE" in each["image"]}
    assert ["init"] == [name for name, service in ours.items() if "build" in service]
    assert {"never"} == {service["pull_policy"] for service in ours.values()}


def test_every_log_is_bounded_and_every_port_is_the_hosts_own(compose: Any) -> None:
    assert all(service["logging"]["options"]["max-size"] for service in compose["services"].values())
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert 2 == len([port for port in ports if port.startswith("127.0.0.1:")]) == len(ports)


def test_no_password_is_part_of_an_address_in_the_compose_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert [] == re.findall(r"://\S*PASSWORD", text)


def test_git_and_the_image_know_nothing_of_what_is_secret(tmp_path: Path) -> None:
    secret = [".env", ".env.local", "erpmirror.toml", "incoming/invoice/1.pdf", "mirror.dump", "var/erpmirror.db"]
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)  # noqa: S607 - wherever it lies
    found = subprocess.run(
        ["git", "check-ignore", *secret, ".env.example"],  # noqa: S607
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert secret == found.stdout.split()
    assert "*" == next(line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#"))


# The forms


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_each_form_asks_for_something(path: Path) -> None:
    form = parsed(path)
    assert form["name"]
    assert form["description"]
    fields = [element for element in form["body"] if element["type"] != "markdown"]
    assert {element["type"] for element in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    names = [element["id"] for element in fields]
    assert sorted(set(names)) == sorted(names)
    assert all(element["attributes"]["label"] for element in fields)
    assert any(element.get("validations", {}).get("required") for element in fields)


def test_the_database_is_healthy_only_once_it_answers_over_tcp() -> None:
    """On its first start the image runs a server for the socket alone, which ends again."""
    words = parsed(ROOT / "docker-compose.yml")["services"]["postgres"]["healthcheck"]["test"]
    assert ["127.0.0.1"] == [words[at + 1] for at, word in enumerate(words) if word in {"-h", "-qh", "--host"}]
