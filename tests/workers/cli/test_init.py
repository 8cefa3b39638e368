"""`init` explains every setting, its file is valid and leads to sandboxes; `settings-schema` knows the same."""

from __future__ import annotations

import json
import re
import socket
import time
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from models.settings import descriptions, load
from tests.documentation import README, ROOT, blocks
from tests.workers.cli.runner import ok, process, refused, until, write_settings
from workers import configuration
from workers.cli import init
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMS = sorted(discovery.systems())


def written(*words: str) -> str:
    ok("init", *words)
    return Path("erpmirror.toml").read_text(encoding="utf-8")


def tables() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every table of the file, and those inside them, with its settings."""
    yield from load.SECTIONS.items()
    for name, system in discovery.systems().items():
        yield name, system.options
        yield from ((f"{name}.{inner.__name__}", inner) for inner in _inside(system.options))


def _inside(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {arg for field in model.model_fields.values() for arg in getattr(field.annotation, "__args__", ())}
    return {each for each in found if isinstance(each, type) and issubclass(each, BaseModel)}


SETTINGS = [pytest.param(model, name, id=f"{table}.{name}") for table, model in tables() for name in model.model_fields]


def test_tables_inside_tables_are_found() -> None:
    assert "easyflor.OwnResource" in dict(tables())


@pytest.mark.parametrize(("model", "name"), SETTINGS)
def test_every_setting_has_a_sentence(model: type[BaseModel], name: str) -> None:
    assert re.fullmatch(r"[A-Z].{10,}\.", descriptions.of(model, name))


def test_the_file_names_and_explains_every_setting() -> None:
    lines = [*written().splitlines(), ""]
    settings = [(table, model, name) for table, model in tables() for name in model.model_fields]
    for table, model, name in settings:
        if name in {"name", "system"}:
            continue
        if "." in table:
            assert any(re.search(rf"\b{name} = ", line) for line in lines), name
            continue
        head = f"[{table}]" if table in load.SECTIONS else f"# [connections.my_{table}]"
        start = lines.index(head)
        part = lines[start : lines.index("", start)]
        (found,) = [number for number, line in enumerate(part) if re.match(rf"(# )*{name} = ", line)]
        above = " ".join(line.lstrip("# ") for line in part[:found])
        assert above.endswith(descriptions.of(model, name)), f"{table}.{name}"


def test_the_file_is_valid() -> None:
    written()
    loaded = configuration.load()
    assert loaded.receiver.token is not None
    assert {} == loaded.connections
    ok("migrate")
    ok("check")


def test_the_file_has_a_new_token_and_only_its_owner_reads_it() -> None:
    names = ("one.toml", "two.toml")
    for name in names:
        ok("init", "--config", name)
    tokens = {tomllib.loads(Path(name).read_text(encoding="utf-8"))["receiver"]["token"] for name in names}
    assert 2 == len(tokens)
    assert 0o600 == Path("one.toml").stat().st_mode & 0o777


def test_an_existing_file_is_kept() -> None:
    file = write_settings("[receiver]\nport = 1\n")
    assert "exists already" in refused("init")
    assert "exists already and has no connection to a sandbox" in refused("init", "--sandbox")
    assert "[receiver]\nport = 1\n" == file.read_text(encoding="utf-8")


def uncommented(text: str, system: str, *, levels: int) -> str:
    head, table = re.split(rf"(?=^# \[connections\.my_{system}\]$)", text, flags=re.MULTILINE)
    return head + re.sub(rf"^(# ){{1,{levels}}}(?=\w+ = |\[)", "", table.partition("\n\n")[0], flags=re.MULTILINE)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_table_of_each_system_is_valid_when_uncommented(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = uncommented(written(), system, levels=1)
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, "key")
    write_settings(text)
    assert system == configuration.load().connections[f"my_{system}"].system


# One name for each variable


def test_readme_init_and_the_compose_example_name_the_variables_alike() -> None:
    (shown,) = [block for block in blocks(README, "toml") if "[connections.shop]" in block]
    in_readme = dict(re.findall(r'^(\w+) = "\$\{(\w+)\}"', shown, re.MULTILINE))
    named = set(re.findall(r"\$\{(\w+)\}", shown))
    for system, model in ((name, system.options) for name, system in discovery.systems().items()):
        for name in model.model_fields:
            example = str(descriptions.example(model, name))
            if example.startswith("${") and name != "user_token":
                assert example[2:-1] in named, f"{system}.{name}"
    of_vendors = re.findall(r"^((?:DILOVOD|DIRECTO|WISEDAT|EASYFLOR|LAGERKOLL)\w*)=", _env_example(), re.MULTILINE)
    assert in_readme
    assert of_vendors
    assert set(of_vendors) <= named


def _env_example() -> str:
    return (ROOT / ".env.example").read_text(encoding="utf-8")


# The schema


@pytest.fixture
def schema() -> Any:
    return json.loads(ok("settings-schema").stdout)


def valid(schema: Any, text: str) -> bool:
    content = json.loads(json.dumps(tomllib.loads(text), default=str))
    return bool(jsonschema_rs.Draft202012Validator(schema).is_valid(content))


def test_the_schema_is_one_of_2020_12(schema: Any) -> None:
    assert "https://json-schema.org/draft/2020-12/schema" == schema["$schema"]
    jsonschema_rs.meta.validate(schema)


def test_the_schema_accepts_what_init_and_readme_write(schema: Any) -> None:
    text = written()
    assert valid(schema, text)
    for system in SYSTEMS:
        assert valid(schema, uncommented(text, system, levels=1))
        assert valid(schema, uncommented(text, system, levels=2)), system
    (shown,) = [block for block in blocks(README, "toml") if "[connections.shop]" in block]
    assert valid(schema, shown)
    assert text.startswith("#:schema erpmirror.schema.json\n")


SHOP = '[connections.shop]\nsystem = "dilovod"\napi_key = "k"\n'


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        (SHOP, True),
        (SHOP + 'every = "5m"\n', True),
        (SHOP + 'concurrency = "${N}"\n', True),
        (SHOP + 'client_certificate = ["a", "b"]\n', True),
        (SHOP + 'client_certificate = "a"\n', True),
        (SHOP + 'evry = "5m"\n', False),
        (SHOP + 'every = "soon"\n', False),
        (SHOP + "every = 5\n", False),
        (SHOP + 'packet = "xml"\n', False),
        (SHOP.replace("dilovod", "dilovot"), False),
        (SHOP.replace("shop", "Shop"), False),
        ('[connections.shop]\nsystem = "dilovod"\n', False),
        ('[connections.books]\nsystem = "directo"\napi_key = "k"\nresources = ["items"]\n', True),
        ('[connections.books]\nsystem = "directo"\napi_key = "k"\nresources = ["itmes"]\n', False),
        ("[receiver]\nport = 70000\n", False),
        ("[databse]\n", False),
    ],
)
def test_the_schema_tells_right_from_wrong(schema: Any, text: str, accepted: bool) -> None:  # noqa: FBT001 - a table
    assert accepted == valid(schema, text)


# Sandboxes


def test_a_system_without_sandbox_is_refused_with_the_nearest() -> None:
    assert 'no sandbox of "dilovot"; did you mean "dilovod"?' in refused("init", "--sandbox", "dilovot")
    assert "--sandbox only" in refused("init", "dilovod")
    assert not Path("erpmirror.toml").exists()


@pytest.mark.xdist_group("sandbox ports")
def test_a_taken_port_is_refused_before_anything_is_written() -> None:
    port = init._ports()["directo"]
    with socket.create_server(("127.0.0.1", port)):
        assert f"directo cannot answer on port {port}: Address already in use; end" in refused("init", "--sandbox")
    assert not Path("erpmirror.toml").exists()


@pytest.mark.xdist_group("sandbox ports")
def test_two_commands_lead_to_rows() -> None:
    def items() -> int:
        time.sleep(1)  # a command takes as long, and the processes need the machine
        return next((row["rows"] for row in json.loads(ok("status", "--json").stdout) if row["resource"] == "items"), 0)

    with process("init", "--sandbox", "directo") as (_, log):
        until(lambda: "erpmirror up" in log.read_text(encoding="utf-8"), log)
        assert ["directo_sandbox"] == list(configuration.load().connections)
        write_settings(Path("erpmirror.toml").read_text(encoding="utf-8").replace("port = 8000", "port = 0"))
        with process("up") as (_, up):
            until(items, up)
    with process("init", "--sandbox") as (_, log):  # it finds the file, and starts what is in it
        until(lambda: "erpmirror up" in log.read_text(encoding="utf-8"), log)
        ok("check")


def test_the_file_for_compose_names_its_services_and_takes_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "p@ss/word")
    monkeypatch.setenv("REDIS_PASSWORD", "r@d/is")
    monkeypatch.setenv("ERPMIRROR_SUBNET", "10.9.8.0/24")
    assert "docker compose up -d" in ok("init", "--compose").output
    loaded = configuration.load()
    database = sa.make_url(loaded.database.url)
    assert ("erpmirror", "p@ss/word", "postgres") == (database.username, database.password, database.host)
    assert "redis://:r%40d%2Fis@redis:6379/0" == loaded.broker.url
    assert (ip_network("10.9.8.0/24"),) == loaded.receiver.trusted_proxies
    assert loaded.receiver.token is not None
    assert "choose one" in refused("init", "--compose", "--sandbox")
