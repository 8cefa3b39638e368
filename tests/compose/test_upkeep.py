"""docker-compose.yml on a real engine: stopping, an upgrade, a backup and its restore, as OPERATING has them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.compose.site import SERVICES
from tests.documentation import OPERATING
from tests.processes import until

if TYPE_CHECKING:
    from tests.compose.site import Site

pytestmark = [pytest.mark.compose, pytest.mark.xdist_group("compose"), pytest.mark.timeout(1800)]


OURS = " ".join(SERVICES)
"""Without the vendor: its sandbox would begin again with other objects."""


def test_a_worker_at_a_hung_vendor_may_finish_when_it_is_stopped(site: Site) -> None:
    site.test("hang/60")
    site.test("edit")
    until(lambda: site.test("asked") != "0", seconds=180, what="a request at the hung vendor")
    began = time.monotonic()
    site.compose("stop worker full-sync-worker")
    site.note(f"workers stopped while their vendor hangs: {time.monotonic() - began:.1f} s")
    assert [0, 0] == [site.container(each)["State"]["ExitCode"] for each in ("worker", "full-sync-worker")]
    site.test("hang/0")
    site.compose("start worker full-sync-worker")
    site.catches_up("workers stopped at a hung vendor")


def test_every_service_stops_when_it_is_told_to(site: Site) -> None:
    began = time.monotonic()
    site.compose(f"stop {OURS}")
    site.note(f"`stop` of all services: {time.monotonic() - began:.1f} s")
    killed = [service for service in SERVICES if site.container(service)["State"]["ExitCode"] == 137]
    assert [] == killed
    site.compose("up -d")
    site.catches_up("stopped and started")


def care(heading: str) -> list[str]:
    """The commands below a heading of OPERATING."""
    page = OPERATING.read_text(encoding="utf-8").partition(heading)[2]
    return [line for line in page.partition("```sh\n")[2].partition("```")[0].splitlines() if line]


def test_an_upgrade_keeps_the_mirror(site: Site) -> None:
    project = site.folder / "pyproject.toml"
    project.write_text(project.read_text(encoding="utf-8").replace('version = "0', 'version = "9'), encoding="utf-8")
    site.edit()
    began = time.monotonic()
    steps = [line for line in care("**Upgrades** with compose") if not line.startswith("git ")]
    assert 3 == len(steps)
    for line in steps:
        site.run(line)
    site.note(f"upgrade by rebuilding the image: {time.monotonic() - began:.1f} s")
    assert "9." in site.compose("exec -T receiver erpmirror --version")
    site.edit()
    site.catches_up("upgrade")


def test_a_backup_is_restored(site: Site) -> None:
    steps = care("**Backups** with compose")
    backup, restore = [line for line in steps if "pg_dump" in line], [line for line in steps if "pg_dump" not in line]
    assert (1, 4) == (len(backup), len(restore))
    began = time.monotonic()
    site.run(backup[0])
    site.note(f"backup: {time.monotonic() - began:.1f} s, {(site.folder / 'mirror.dump').stat().st_size} bytes")
    rows = site.compose("exec -T receiver erpmirror export shop catalogs.goods")
    site.compose(f"rm --stop --force {OURS} migrate init")
    site.run(f"docker volume rm {site.project}_postgres")
    site.compose("up -d postgres")
    began = time.monotonic()
    for line in restore:
        site.run(line)
    site.note(f"restore into an empty database: {time.monotonic() - began:.1f} s")
    assert {line["key"] for line in _lines(rows)} <= {
        line["key"] for line in _lines(site.compose("exec -T receiver erpmirror export shop catalogs.goods"))
    }
    site.edit()
    site.catches_up("restored backup")


def _lines(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
