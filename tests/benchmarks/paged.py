"""The source of a first load: whole objects in pages, made once and served from memory by a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 1000

_WORDS = [
    "delivery",
    "pallet",
    "garden",
    "invoice",
    "winter",
    "copper",
    "sample",
    "quarter",
    "window",
    "reserve",
    "küüslauk",
    "õmblus",
]


def order(number: int, random: Random) -> dict[str, Any]:
    """An object of 20 scalar fields, nested objects and two lists, some 1.3 KB."""
    day = f"2026-{random.randrange(1, 13):02}-{random.randrange(1, 29):02}"
    moment = f"{day}T{random.randrange(24):02}:{random.randrange(60):02}:{random.randrange(60):02}"
    return {
        "id": f"{number:08}",
        "number": f"SO-{number:07}",
        "reference": f"{random.randrange(10**6):06}",
        "status": random.choice(["open", "closed", "sent"]),
        "currency": random.choice(["EUR", "SEK"]),
        "comment": _text(random, 8),
        "total": _money(random, 10**6),
        "vat": _money(random, 10**5),
        "discount": _money(random, 10**3),
        "weight": round(random.random() * 100, 3),
        "lines": 3,
        "priority": random.randrange(5),
        "paid": random.random() < 0.5,
        "exported": random.random() < 0.5,
        "date": day,
        "due": f"2027-{random.randrange(1, 13):02}-01",
        "created_at": moment,
        "changed_at": f"{moment}+02:00",
        "seller": f"{random.randrange(100):03}",
        "warehouse": f"W{random.randrange(20):02}",
        "customer": {
            "id": f"{random.randrange(10**4):05}",
            "name": _text(random, 2),
            "address": {"street": _text(random, 2), "city": "Tartu", "zip": f"{random.randrange(10**5):05}"},
        },
        "payment": {"method": "invoice", "days": random.choice([7, 14, 30])},
        "rows": [
            {
                "line": line,
                "item": f"{random.randrange(10**5):06}",
                "name": _text(random, 3),
                "quantity": round(random.random() * 50, 2),
                "price": _money(random, 10**4),
                "amount": _money(random, 10**5),
            }
            for line in range(1, 4)
        ],
        "deliveries": [
            {"code": f"{random.randrange(10**6):07}", "on": day, "packages": random.randrange(9), "done": True}
            for _ in range(2)
        ],
    }


def _money(random: Random, most: int) -> float:
    return random.randrange(most) / 100


def _text(random: Random, words: int) -> str:
    return " ".join(random.choices(_WORDS, k=words))


def pages(count: int) -> list[bytes]:
    """The replies for so many objects."""
    random = Random(5)  # the same on each run
    objects = [order(number, random) for number in range(count)]
    chunks = [objects[start : start + PAGE] for start in range(0, count, PAGE)]
    following = [f"/orders/{number}" for number in range(1, len(chunks))] + [None]
    return [
        json.dumps({"items": items, "next": path}, ensure_ascii=False, separators=(",", ":")).encode()
        for items, path in zip(chunks, following, strict=True)
    ]


@contextmanager
def serving(count: int) -> Iterator[str]:
    """The source's address while the block runs."""
    command = [sys.executable, "-m", "tests.benchmarks.paged", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    replies: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        body = self.replies[int(self.path.rpartition("/")[2].partition("?")[0])]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Suppress the log."""


def _serve(count: int) -> None:
    _Handler.replies = pages(count)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
