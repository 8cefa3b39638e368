"""Flower shows our workers and our tasks to anyone with the password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from models.db.database import Database
from tests import processes
from tests.processes import until
from workers.queue import app, wakeup

if TYPE_CHECKING:
    from pathlib import Path

AUTH = ("watcher", "sunflower")


@pytest.mark.redis
def test_flower_shows_tasks_and_workers_with_the_password_and_nothing_without(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    with (
        processes.own_redis() as broker,
        processes.installed(database, tmp_path, broker=broker, systems={"directo": {"objects": 2}}) as (
            installation,
            mirror,
        ),
    ):
        port = processes.free_port()
        installation.start("flower", "--port", str(port), ERPMIRROR_FLOWER_AUTH=":".join(AUTH))
        for verb in (processes.SYNC, processes.FULL_SYNC):
            installation.start(*verb)
        waker = wakeup.Waker(app.create_app(mirror.settings, database), database)

        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=AUTH, trust_env=False, timeout=10) as client:

            def api(path: str) -> Any:
                try:
                    answer = client.get(path)
                except httpx.TransportError:
                    return {}
                return answer.json() if answer.is_success else {}

            until(lambda: len(api("/api/workers?refresh=1")) == 2, seconds=60, what=installation.logs)
            for which in (wakeup.SYNC, wakeup.FULL_SYNC):
                waker.wake("directo", which)
            until(
                lambda: ["SUCCESS", "SUCCESS"] == [task["state"] for task in api("/api/tasks").values()],
                seconds=60,
                what=lambda: f"{api('/api/tasks')} {installation.logs()}",
            )
            tasks = sorted((task["name"], task["args"]) for task in api("/api/tasks").values())
            assert [("erpmirror.full_sync", "['directo']"), ("erpmirror.sync", "['directo']")] == tasks
            assert 'data-column="args"' in client.get("/tasks").text
            names = sorted(name.partition("@")[0] for name in api("/api/workers"))
            assert ["full_sync", "sync"] == names
            for path in ("/", "/tasks", "/api/tasks", "/api/workers", "/metrics", "/healthcheck"):
                assert 200 == client.get(path).status_code
                assert 401 == httpx.get(client.base_url.join(path), trust_env=False).status_code
    database.close()
