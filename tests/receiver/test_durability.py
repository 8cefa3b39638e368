from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import sqlalchemy as sa

from models import tables
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.database import Database
    from models.settings import Settings

RUN = (
    "import sys, uvicorn; from receiver import server; "
    "uvicorn.run('receiver.app:create', factory=True, fd=int(sys.argv[1]), log_level='error', **server.OPTIONS)"
)
ENOUGH = 60


def test_every_notice_that_was_answered_200_survives_the_receivers_death(
    database: Database, configure: Callable[..., Settings]
) -> None:
    settings = configure(database.url)
    answered: list[str] = []
    enough = threading.Event()

    def send(sender: int) -> None:
        """Send webhooks one after the other until the receiver is gone."""
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            for number in range(100_000):
                key = f"11003{sender:03}{number:08}"
                packet = f'{{"action":"objectChanged","params":{{"objectName":"catalogs.goods","id":"{key}"}}}}'
                try:
                    answer = client.get("/hooks/shop", params={"packet": packet})
                except httpx.TransportError:
                    return
                assert 200 == answer.status_code
                answered.append(key)
                if len(answered) >= ENOUGH:
                    enough.set()

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env={**os.environ, configuration.VARIABLE: str(settings.file)},
        )
        listener.close()  # so that connecting fails once the receiver is gone
        with ThreadPoolExecutor(8) as senders:
            sending = [senders.submit(send, sender) for sender in range(8)]
            try:
                assert enough.wait(60)
            finally:
                process.kill()
                process.wait()
            for each in sending:
                each.result()
    with database.read() as connection:
        stored = list(connection.execute(sa.select(tables.notices.c.key)).scalars())
    assert set(answered) <= set(stored)
    assert len(set(stored)) == len(stored)
    assert len(stored) - len(answered) <= 8  # one for each sender that was cut off
