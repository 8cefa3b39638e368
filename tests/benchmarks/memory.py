"""How much memory a worker needs while it reads a very long reply."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from models.bookkeeping import streams
from models.db import migration
from models.db.database import Database
from tests.benchmarks.measure import Answer, quotients, say
from tests.mirroring import table
from tests.processes import own_postgresql
from workers import configuration, context
from workers.ingest import loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUESTION = "How much memory does a worker need for a long reply?"

FEW = 10_000
MANY = 100_000
MOST = 1_000_000
_NAME = "books"
_PIECE = 500


def answers(rounds: int) -> list[Answer]:
    """Peak resident memory of the worker, against its peak for `FEW` rows."""
    return [_measured(MANY, rounds), _measured(MOST, 1)]


def _measured(rows: int, rounds: int) -> Answer:
    mine: list[float] = []
    few: list[float] = []
    seconds = 0.0
    for number in range(rounds):
        sides = [(rows, mine), (FEW, few)]
        for count, peaks in sides if number % 2 == 0 else reversed(sides):
            began = time.monotonic()
            peaks.append(_peak(count))
            seconds = max(seconds, time.monotonic() - began)
        say(
            f"  memory: round {number + 1} of {rounds}, {mine[-1]:.1f} MiB for {rows:,} rows, {few[-1]:.1f} for {FEW:,}"
        )
    size = rows * len(_row(rows)) / 1e6
    return Answer(
        f"peak memory of a worker that reads {rows:,} rows ({size:.0f} MB)",
        f"its peak for {FEW:,} rows",
        "lower",
        must=1.5,
        aim=1.2,
        unit="MiB",
        ours=mine,
        reference=few,
        ratios=quotients(mine, few),
        note=f"a first load of Directo's items in JSON, PostgreSQL, VmHWM of the process; up to {seconds:.0f} s",
        versions={"msgspec": version("msgspec"), "httpx": version("httpx")},
    )


def _peak(rows: int) -> float:
    """MiB, once everything has been read and written."""
    with tempfile.TemporaryDirectory() as folder, own_postgresql() as database, _vendor(rows) as address:
        migration.migrate(database)
        url = database.url.render_as_string(hide_password=False)
        values: dict[str, Any] = {"system": "directo", "url": address, "api_key": "k", "resources": ["items"]}
        values |= {"requests_per_minute": 600_000}
        file = Path(folder) / configuration.FILE
        file.write_text(f'[database]\nurl = "{url}"\n{table(_NAME, values)}', encoding="utf-8")
        reader = subprocess.run(
            [sys.executable, "-m", __name__, "read", str(file), str(rows)], check=True, capture_output=True, text=True
        )
        return float(reader.stdout.splitlines()[-1])


@contextmanager
def _vendor(rows: int) -> Iterator[str]:
    """A vendor in a process of its own, which generates its reply while sending it."""
    command = [sys.executable, "-m", __name__, "serve", str(rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


# The processes.


def read(file: str, rows: str) -> None:
    """Run full syncs as a worker does until the cursor is set, then print the peak memory of this process."""
    settings = configuration.load(Path(file))
    database = Database(settings.database.url)
    context.sync_streams(database, settings)
    while True:
        changes = loop.full_sync(context.connection_context(database, settings, _NAME)).changes
        with database.read() as tx:
            stream = streams.get(tx, _NAME, "items")
        if stream is not None and stream.cursor is not None:
            break
    if changes < int(rows):
        raise SystemExit(f"only {changes} of {rows} objects came")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    sys.stdout.write(f"{int(peak[1]) / 1024 if peak else 0}\n")


def serve(rows: str) -> None:
    """Print the address, then answer every request."""

    class Vendor(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in _answer(int(rows) if urlsplit(self.path).path.endswith("/items") else 0):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            """Suppress the log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def _answer(rows: int) -> Iterator[bytes]:
    yield b"["
    for start in range(0, rows, _PIECE):
        some = b",".join(_row(number) for number in range(start, min(start + _PIECE, rows)))
        yield (b"," if start else b"") + some
    yield b"]"


def _row(number: int) -> bytes:
    """An item as Directo sends it, some 600 bytes."""
    item = {
        "code": f"ITEM{number:08}",
        "name": f"Rosa 'Explorer' {number % 90 + 10} cm, pakis {number % 7 + 1}",
        "class": number % 40,
        "class_name": "Lõikelilled",
        "description": "Punane roos, pikk vars, 20 tk pakis; hoida jahedas ja vees, müüa kolme päeva jooksul",
        "unit": "tk",
        "barcode": f"474{number:010}",
        "supplier": f"T{number % 300}",
        "salesprice": number % 1000 / 100,
        "vatprice": number % 1000 * 1.22 / 100,
        "cost": number % 700 / 100,
        "vatcode": "22",
        "weight": 0.05,
        "volume": 0.001,
        "country": "EE",
        "closed": 0,
        "url": f"https://example.com/items/{number}",
        "ts": f"2026-02-{number % 27 + 1:02} 10:{number % 60:02}:00",
        "tscreated": "2025-11-03 08:00:00",
        "datafields": [{"code": "PAKEND", "param": "EST", "content": f"karp {number % 12}"}],
    }
    return json.dumps(item, ensure_ascii=False).encode()


if __name__ == "__main__":
    verbs: dict[str, Callable[..., None]] = {"read": read, "serve": serve}
    verbs[sys.argv[1]](*sys.argv[2:])
