"""An installation by docker-compose.yml on a real engine, in a folder and a project of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import exact
from models.mirror import naming
from tests.documentation import OPERATING, ROOT, blocks
from tests.processes import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUILT_FROM = ("receiver", "workers", "models", "pyproject.toml", "README.md", "LICENSE", "requirements.lock")
_SITE = (".dockerignore", ".env.example", "docker-compose.yml")

SERVICES = ("receiver", "worker", "full-sync-worker", "deliver-worker", "beat", "flower", "postgres", "redis")
"""Those that run all the time."""

PASSWORD = """p@s/s#w?r%41:d;$x \\ "y" ü"""
"""What a password generator may make: each character that an address, a shell or a file could take for its own."""

PROBE = """
import sys, urllib.request, urllib.error
url, method, *pairs = sys.argv[1:]
headers = dict(pair.split('=', 1) for pair in pairs)
try:
    answer = urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=20)
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:
    print(0); print(error); sys.exit()
print(answer.status); print(answer.read().decode())
"""
"""One request from the host: its own network namespace may be another than the tests'."""


@dataclass
class Site:
    """The folder with docker-compose.yml, .env and erpmirror.toml; `compose` types `docker compose …` there.

    `port` and `second_port`: the receivers'. `subnet`: the first three numbers of the containers' network.
    """

    folder: Path
    project: str
    subnet: str
    port: int
    second_port: int
    flower_port: int
    vendor_port: int
    proxy_port: int
    log: Path | None
    before_init: str = ""
    started_at: float = field(default_factory=time.monotonic)

    # What a person types

    def run(self, line: str, *, check: bool = True, seconds: float = 900) -> str:
        """Run a command line in the folder; returns its output."""
        done = subprocess.run(  # noqa: S602 - the lines are the pages'
            line,
            shell=True,
            cwd=self.folder,
            env=self._environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=seconds,
        )
        assert not check or done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def compose(self, words: str, *, check: bool = True) -> str:
        return self.run(f"docker compose {words}", check=check)

    @property
    def _environment(self) -> dict[str, str]:
        ours = ("POSTGRES_", "REDIS_", "FLOWER_", "ERPMIRROR_", "RECEIVER_", "DILOVOD_", "COMPOSE_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        files = f"docker-compose.yml{os.pathsep}outside.yml"
        return inherited | {"COMPOSE_FILE": files, "COMPOSE_PROJECT_NAME": self.project}

    # What it shows

    def container(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        (name,) = self.compose(f"ps -aq {service}").split()
        (found,) = json.loads(self.run(f"docker inspect {name}"))
        assert isinstance(found, dict)
        return found

    def request(self, url: str, *, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Ask from the host. The status is 0 where nothing answers."""
        words = [url, method, *(f"{name.replace('_', '-')}={value}" for name, value in headers.items())]
        command = ["docker", "compose", "exec", "-T", "outside", "python", "-c", PROBE, *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, text=True, capture_output=True, check=True, timeout=60
        )
        status, _, text = done.stdout.partition("\n")
        return int(status), text.strip()

    def test(self, path: str) -> str:
        """Ask the vendor's sandbox for something that no vendor does."""
        status, text = self.request(f"http://127.0.0.1:{self.vendor_port}/test/{path}")
        assert status == 200, text
        return text

    def edit(self, times: int = 3) -> None:
        """Let users of the vendor edit this many objects; most edits send a webhook."""
        for _ in range(times):
            self.test("edit")

    @property
    def token(self) -> str:
        text = (self.folder / "erpmirror.toml").read_text(encoding="utf-8")
        (token,) = re.findall('^token = "(.*?)"', text, re.MULTILINE)
        return str(token)

    def changes(self, cause: str) -> int:
        """How many entries of the journal have this cause."""
        return int(self.sql(f"SELECT count(*) FROM erpmirror_changes WHERE cause = '{cause}'"))

    def sql(self, query: str) -> str:
        """What the database answers, a row a line."""
        return self.compose(f'exec -T postgres psql -U erpmirror -d erpmirror -Atc "{query}"')

    def differences(self, resource: str = "catalogs.goods") -> list[str]:
        """The keys of the vendor's objects that differ from their rows, and of rows that it has not."""
        vendor = {key: exact.canonical(raw) for key, raw in exact.loads(self.test(f"truth/{resource}")).items()}
        table = naming.table("dilovod", resource)
        rows = self.sql(f"SELECT _key || chr(9) || _raw FROM {table} WHERE _deleted_at IS NULL").splitlines()
        mirror = {key: exact.canonical(exact.loads(raw)) for key, raw in (row.split("\t", 1) for row in rows)}
        return sorted(key for key in vendor.keys() | mirror.keys() if vendor.get(key) != mirror.get(key))

    def equal(self) -> bool:
        return not any(self.differences(resource) for resource in ("catalogs.goods", "documents.saleOrder"))

    def catches_up(self, what: str) -> None:
        """Wait until the mirror equals the vendor again, and note how long that took."""
        began = time.monotonic()
        until(self._equal_if_it_answers, seconds=180, what=lambda: f"{what}: {self.compose('logs --tail 40')}", every=1)
        self.note(f"{what}: equal after {time.monotonic() - began:.1f} s")

    def _equal_if_it_answers(self) -> bool:
        try:
            return self.equal()
        except AssertionError:  # a service that an export needs is away
            return False

    def note(self, text: str) -> None:
        """Keep a line of what was seen, with the seconds since the installation began."""
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as opened:
                opened.write(f"{time.monotonic() - self.started_at:7.1f} s  {text}\n")

    # What a person writes

    def lay_out(self) -> None:
        """The checkout's files, .env, and what stands outside."""
        for name in (*_SITE, *_BUILT_FROM):
            source, target = ROOT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        here = Path(__file__).parent
        shutil.copy2(here / "outside.yml", self.folder)
        (self.folder / "outside").mkdir()
        shutil.copy2(here / "outside.py", self.folder / "outside")
        (self.folder / "outside" / "nginx.conf").write_text(self._nginx(), encoding="utf-8")
        example = (self.folder / ".env.example").read_text(encoding="utf-8")
        filled = re.sub(
            r"^(POSTGRES|REDIS)_PASSWORD=''$",
            lambda found: f"{found[1]}_PASSWORD='{PASSWORD}'",
            example,
            flags=re.MULTILINE,
        )
        filled = filled.replace("FLOWER_PASSWORD=''", "FLOWER_PASSWORD='f@s/s#w'").replace(
            "DILOVOD_KEY=''", "DILOVOD_KEY='sandbox-key'"
        )
        own = {
            "ERPMIRROR_IMAGE": f"{self.project}:latest",
            "ERPMIRROR_SUBNET": f"{self.subnet}.0/24",
            "RECEIVER_PORTS": self.port,
            "FLOWER_PORT": self.flower_port,
            "OUTSIDE_PORT": self.vendor_port,
            "PROXY_PORT": self.proxy_port,
        }
        lines = "".join(f"{name}={value}\n" for name, value in own.items())
        (self.folder / ".env").write_text(f"{filled}\n{lines}", encoding="utf-8")

    def _nginx(self) -> str:
        (block,) = blocks(OPERATING, "nginx")
        block = block.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        server = f"server {{ listen 127.0.0.1:{self.proxy_port};\n{block}}}"
        return f"error_log stderr;\npid /tmp/nginx.pid;\nevents {{}}\nhttp {{ access_log off;\n{server}\n}}\n"

    def connect(self) -> None:
        """Add the connections to what `init` wrote."""
        with (self.folder / "erpmirror.toml").open("a", encoding="utf-8") as opened:
            opened.write(
                '\n[connections.shop]\nsystem = "dilovod"\napi_key = "${DILOVOD_KEY}"\n'
                f'url = "http://{self.subnet}.1:{self.vendor_port}"\n'
                'resources = ["catalogs.goods", "documents.saleOrder"]\n'
                'webhook_sources = ["127.0.0.1"]\nreconcile_every = "20s"\nrequests_per_minute = 600\n'
                '\n[connections.goods_in]\nsystem = "interpreter"\nstore = "3546"\napi_key = "sandbox-key"\n'
                f'url = "http://{self.subnet}.1:{self.vendor_port}/lagerkoll"\ninbox = "incoming"\n'
            )


@contextmanager
def installed(folder: Path) -> Iterator[Site]:
    """Follow the steps at the head of docker-compose.yml; in the end nothing is left on the engine."""
    port, log = free_port(), os.environ.get("ERPMIRROR_COMPOSE_LOG")
    site = Site(
        folder,
        project=f"erpmirror-test-{secrets.token_hex(3)}",
        subnet=f"172.31.{secrets.choice(range(100, 200))}",
        port=port,
        second_port=port + 1,
        flower_port=free_port(),
        vendor_port=free_port(),
        proxy_port=free_port(),
        log=Path(log) if log else None,
    )
    site.lay_out()
    try:
        site.before_init = site.compose("-f docker-compose.yml up -d", check=False)
        site.note("`up` before `init`: " + site.before_init.strip().splitlines()[-1])
        began = time.monotonic()
        site.compose("run --rm init")
        site.note(f"`run --rm init`: {time.monotonic() - began:.1f} s")
        site.connect()
        site.compose("build outside")
        began = time.monotonic()
        site.compose("up -d")
        site.note(f"`up -d`: {time.monotonic() - began:.1f} s")
        site.catches_up("first load of two resources, from nothing")
        yield site
    finally:
        site.compose("down --volumes --remove-orphans --timeout 1", check=False)
        site.run(f"docker rmi {site.project}:latest {site.project}:latest-outside", check=False)
