"""A broker that cannot be used is named with what helps, in `url` of [broker]: real servers, real folders."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.processes import free_port
from tests.services import RABBITMQ, REDIS
from tests.workers.cli.runner import ok, process, refused, run, until, write_settings

_REFUSED = "start the broker, or correct host and port in `url` of [broker]"
_RESTARTS_OF_CELERY = 3.0
"""Seconds in which Celery's consumer starts again more often than its own limit allows."""

_LOGIN = "correct the user in `url` of [broker], and `password` beside it"


def outcome(url: str) -> dict[str, str]:
    write_settings(f'[broker]\nurl = "{url}"\n')
    ok("migrate")
    result = run("check", "--json")
    assert 1 == result.exit_code
    (found,) = [each for each in json.loads(result.stdout) if each["what"] == "broker"]
    assert f"{found['says']}; {found['remedy']}. Work waits in the tables" in ok("status").stdout
    return dict(found)


def at(server: str, login: str, path: str) -> str:
    """The address of another user, or another path, at a test server."""
    parts = urlsplit(server)
    return f"{parts.scheme}://{login}{parts.hostname}:{parts.port}{path}"


@pytest.mark.parametrize("address", ["redis://127.0.0.1:{port}/0", "amqp://me@127.0.0.1:{port}//"])
def test_a_broker_that_is_not_there(address: str) -> None:
    found = outcome(address.format(port=free_port()))
    assert ("Connection refused" in found["says"], "Errno" in found["says"]) == (True, False)
    assert _REFUSED == found["remedy"]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_host_that_is_unknown(scheme: str) -> None:
    assert "correct the host in `url` of [broker]" == outcome(f"{scheme}://nowhere.invalid//".rstrip("/"))["remedy"]


@pytest.mark.redis
def test_redis_refuses_a_login_and_a_database() -> None:
    assert _LOGIN == outcome(at(REDIS, "me:hunter2@", "/0"))["remedy"]
    assert "hunter2" not in ok("status").output
    found = outcome(at(REDIS, "", "/99999"))
    assert "correct the number of the database at the end of `url` of [broker]" == found["remedy"]


@pytest.mark.rabbitmq
def test_rabbitmq_refuses_a_login_and_a_virtual_host() -> None:
    found = outcome(at(RABBITMQ, "guest:hunter2@", "//"))
    assert (_LOGIN, False, False) == (found["remedy"], "hunter2" in str(found), "(0, 0)" in str(found))
    assert outcome(at(RABBITMQ, "", "/nowhere"))["remedy"].startswith("create the virtual host")


def test_a_folder_that_cannot_be_made_names_its_setting() -> None:
    found = outcome("filesystem:////proc/nowhere")
    assert "/proc/nowhere: No such file or directory" == found["says"]
    assert "make the folder that it is to be in, or correct `url` of [broker]" == found["remedy"]
    Path("taken").touch()
    assert outcome("filesystem:///taken")["remedy"].endswith("correct `url` of [broker]")


@pytest.mark.rabbitmq
def test_a_worker_whose_login_is_refused_says_what_helps_in_one_line() -> None:
    write_settings(f'[broker]\nurl = "{at(RABBITMQ, "guest:hunter2@", "//")}"\n')
    ok("migrate")
    with process("worker", "--queues", "sync", "--concurrency", "1") as (_, log):
        until(lambda: "ACCESS_REFUSED" in log.read_text(encoding="utf-8"), log)
        time.sleep(_RESTARTS_OF_CELERY)
    lines = log.read_text(encoding="utf-8").splitlines()
    assert ([], True) == ([line for line in lines if "Traceback" in line or "restarts" in line], _LOGIN in lines[0])


def test_up_with_a_broker_that_cannot_be_used_does_not_say_that_it_answers() -> None:
    write_settings(f'[broker]\nurl = "filesystem:////proc/nowhere"\n[receiver]\nport = {free_port()}\n')
    said = refused("up")
    assert "correct `url` of [broker]" in said
    assert "answers at" not in said


@pytest.mark.usefixtures("shop")
def test_work_stays_due_where_the_brokers_folder_cannot_be_made() -> None:
    settings = Path("erpmirror.toml").read_text(encoding="utf-8")
    write_settings('[broker]\nurl = "filesystem:////proc/nowhere"\n' + settings)
    printed = ok("poll", "shop", "--no-wait").stderr
    assert "correct `url` of [broker]. The work stays due" in " ".join(printed.split())
