"""Serve an ASGI app over real HTTP on a free loopback port, from a thread."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from workers.demo import listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def served(app: Callable[..., Any], *, on: socket.socket | None = None, **options: Any) -> Iterator[str]:
    """The app's base address while the block runs. `options` go to `uvicorn.Config`."""
    with on or listening.bind("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            app, **{"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": 1, **options}
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the app did not start"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
