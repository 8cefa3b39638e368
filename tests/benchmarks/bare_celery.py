"""The reference for wake-ups: Celery alone, one task, whose first line reports when it began.

`python -m tests.benchmarks.bare_celery BROKER FOLDER PORT` works; FOLDER is the filesystem broker's, "-" for any other.
"""

from __future__ import annotations

import socket
import sys
import time

from celery import Celery

from workers.queue import broker

_QUEUE = "plain"


def app(address: str, folder: str, port: int) -> Celery:
    """One task, on a broker of any kind. Only the message folder and the polling interval are configured."""
    made = Celery("bare_celery", broker="filesystem://localhost//" if folder != "-" else address, set_as_current=False)
    made.conf.update(task_ignore_result=True, task_default_queue=_QUEUE)
    if folder != "-":
        places = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": f"{folder}-control"}
        made.conf.broker_transport_options = {**places, "polling_interval": broker.POLL}

    @made.task(name="bare_celery.first_line", shared=False)
    def first_line() -> None:
        began = time.time()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reporter:
            reporter.sendto(repr(began).encode(), ("127.0.0.1", port))

    return made


if __name__ == "__main__":
    app(sys.argv[1], sys.argv[2], int(sys.argv[3])).Worker(concurrency=2, loglevel="ERROR", quiet=True).start()
