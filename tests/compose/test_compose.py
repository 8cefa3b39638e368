"""docker-compose.yml on a real engine, as its head and OPERATING say: it comes up, lasts, and is cared for."""

from __future__ import annotations

import json
import stat
import time
from typing import TYPE_CHECKING

import pytest

from tests.compose.site import PASSWORD, SERVICES
from tests.processes import until
from workers.connectors.interpreter.sandbox_data import SUPPLIERS, Paper, Row

if TYPE_CHECKING:
    from tests.compose.site import Site

pytestmark = [pytest.mark.compose, pytest.mark.xdist_group("compose"), pytest.mark.timeout(1800)]

# Coming up


def test_up_before_init_says_what_is_missing_and_makes_nothing(site: Site) -> None:
    assert "bind source path does not exist" in site.before_init
    assert "erpmirror.toml" in site.before_init
    assert (site.folder / "erpmirror.toml").is_file()


def test_one_image_is_built(site: Site) -> None:
    assert 1 == site.before_init.count(f"naming to docker.io/library/{site.project}:latest")


def test_the_settings_file_is_its_owners_and_the_containers(site: Site) -> None:
    status = (site.folder / "erpmirror.toml").stat()
    assert (site.folder.stat().st_uid, 10001) == (status.st_uid, status.st_gid)
    assert 0o640 == stat.S_IMODE(status.st_mode)


def test_a_settings_file_that_only_its_owner_may_read_is_read(site: Site) -> None:
    file = site.folder / "erpmirror.toml"
    content = file.read_text(encoding="utf-8")
    file.unlink()
    file.touch(mode=0o600)  # as `erpmirror init` on the host, and as many an editor
    file.write_text(content, encoding="utf-8")
    site.compose("restart receiver", check=False)
    site.compose("up -d")
    assert "shop" in site.compose("exec -T receiver erpmirror status")


def test_every_service_runs_without_root_and_with_a_bounded_log(site: Site) -> None:
    for service in SERVICES:
        found = site.container(service)
        users = [line.split()[1] for line in site.run(f"docker top {found['Id']} -eo pid,uid").splitlines()[1:]]
        assert users
        assert "0" not in users, service
        assert {"max-file": "5", "max-size": "10m"} == found["HostConfig"]["LogConfig"]["Config"]


def test_no_volume_is_without_a_name(site: Site) -> None:
    named = {f"{site.project}_{name}" for name in ("postgres", "spool", "tmp")}
    mounts = [mount for service in SERVICES for mount in site.container(service)["Mounts"]]
    assert named == {mount["Name"] for mount in mounts if mount["Type"] == "volume"}


def test_no_argument_of_a_process_and_no_log_shows_a_password(site: Site) -> None:
    for service in SERVICES:
        arguments = site.run(f"docker top {site.container(service)['Id']} -eo pid,args")
        assert PASSWORD not in arguments
        assert "f@s/s#w" not in arguments
    logs = site.compose("logs")
    assert PASSWORD not in logs
    assert "p@s/s" not in logs


# From the vendor to a row


def test_a_webhook_through_the_hosts_nginx_becomes_a_row(site: Site) -> None:
    before = site.changes("webhook")
    began = time.monotonic()
    site.edit(5)
    until(lambda: site.changes("webhook") > before, seconds=180, what=lambda: site.compose("logs --tail 30 receiver"))
    site.note(f"webhook through nginx to row: within {time.monotonic() - began:.1f} s (seen through `docker exec`)")
    site.catches_up("five edits")


def test_a_sender_that_is_refused_is_told_in_the_log(site: Site) -> None:
    status, _ = site.request(f"http://127.0.0.1:{site.port}/hooks/shop")
    assert 403 == status
    logged = [line for line in site.compose("logs receiver").splitlines() if "webhook refused" in line]
    assert any("no X-Forwarded-For" in line and f"{site.subnet}.1" in line for line in logged), logged


def test_only_the_hooks_and_only_with_their_passwords(site: Site) -> None:
    assert 404 == site.request(f"http://127.0.0.1:{site.proxy_port}/changes")[0]
    assert 401 == site.request(f"http://127.0.0.1:{site.port}/changes?after=0")[0]
    address = f"http://127.0.0.1:{site.port}/changes?after=0&limit=1"
    status, text = site.request(address, Authorization=f"Bearer {site.token}")
    assert (200, 1) == (status, len(json.loads(text)["changes"]))
    for path in ("/", "/metrics", "/healthcheck"):
        assert 401 == site.request(f"http://127.0.0.1:{site.flower_port}{path}")[0]


def test_a_pdf_in_the_folder_becomes_a_row_and_what_is_no_pdf_is_moved(site: Site) -> None:
    rows = (Row("A-1", "M6", 4, "12.5"),)
    paper = Paper("Delivery note", 1, SUPPLIERS[0], 1003, "2026-05-30", rows=rows)
    folder = site.folder / "incoming" / "deliverynote"
    for name, content in (("paper.pdf", paper.pdf()), ("text.pdf", b"no PDF")):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o664)

    def is_row() -> bool:
        table = "interpreter_deliverynote"
        there = site.sql(f"SELECT to_regclass('{table}') IS NOT NULL").strip() == "t"  # its first document makes it
        return there and site.sql(f"SELECT count(*) FROM {table} WHERE _deleted_at IS NULL").strip() == "1"

    until(is_row, seconds=180, what=lambda: site.compose("logs --tail 30 worker"))
    until(lambda: list(folder.glob("parked/text*")), seconds=180, what="the file that is no PDF")
    until((folder / "done" / "paper.pdf").exists, seconds=180, what="the file that was interpreted")


# Faults


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_and_nothing_is_lost(site: Site, service: str) -> None:
    site.edit()
    before = site.container(service)
    site.compose(f"exec -T outside python -c 'import os; os.kill({before['State']['Pid']}, 9)'")
    began = time.monotonic()
    site.edit()
    until(lambda: site.container(service)["RestartCount"] > before["RestartCount"], seconds=180, what=service)
    site.note(f"kill -9 {service}: restarted after {time.monotonic() - began:.1f} s")
    site.edit()
    site.catches_up(f"kill -9 {service}")
    if service in {"worker", "full-sync-worker", "beat"}:
        until(lambda: "Up" in site.compose(f"ps {service}"), seconds=180, what=service)


def test_while_the_database_is_away_webhooks_are_kept(site: Site) -> None:
    before = site.changes("webhook")
    site.compose("stop postgres")
    began = time.monotonic()
    site.edit(6)
    address = f"http://127.0.0.1:{site.port}"
    ready = f"{address}/readyz"

    def spooled() -> bool:
        text = site.request(ready, Authorization=f"Bearer {site.token}")[1]
        return "webhooks wait" in json.loads(text)["spool"]

    until(spooled, seconds=180, what=lambda: site.request(ready, Authorization=f"Bearer {site.token}")[1])
    assert 200 == site.request(f"{address}/livez")[0]
    site.note(f"database away for {time.monotonic() - began:.1f} s: webhooks in the spool, /livez answers")
    site.compose("start postgres")
    site.catches_up("database back")
    assert before < site.changes("webhook")


def test_workers_and_receivers_are_scaled(site: Site) -> None:
    file = site.folder / ".env"
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text.replace(f"RECEIVER_PORTS={site.port}", f"RECEIVER_PORTS={site.port}-{site.second_port}"), encoding="utf-8"
    )
    began = time.monotonic()
    site.compose("up -d --scale worker=3 --scale receiver=2")
    for port in (site.port, site.second_port):
        until(lambda port=port: 200 == site.request(f"http://127.0.0.1:{port}/livez")[0], seconds=180, what=str(port))  # type: ignore[misc]
    site.note(f"3 workers and 2 receivers: {time.monotonic() - began:.1f} s")
    assert 3 == len(site.compose("ps -q worker").split())
    site.edit()
    site.catches_up("3 workers and 2 receivers")
    file.write_text(text, encoding="utf-8")
    site.compose("up -d --scale worker=1 --scale receiver=1")
    until(lambda: 200 == site.request(f"http://127.0.0.1:{site.port}/livez")[0], seconds=180, what="one receiver")
    site.edit()
    site.catches_up("1 worker and 1 receiver again")
