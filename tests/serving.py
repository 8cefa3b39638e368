"""Serve an ASGI app over real HTTP on a free loopback port, from a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from workers.demo import listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Server(uvicorn.Server):
    """Stops at once. uvicorn's own needs 0.2 s: it looks for its end every 0.1 s, then waits as long for connections.

    Thousands of tests start a server.
    """

    def stop(self) -> None:
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):  # each tenth tick renews the Date header
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        deadline = time.monotonic() + (self.config.timeout_graceful_shutdown or 0)
        while (state.connections or state.tasks) and time.monotonic() < deadline:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        for task in state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


@contextmanager
def served(app: Callable[..., Any], *, on: socket.socket | None = None, **options: Any) -> Iterator[str]:
    """The app's base address while the block runs. `options` go to `uvicorn.Config`."""
    with on or listening.bind("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            app, **{"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": 1, **options}
        )
        server = _Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the app did not start"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop()
            thread.join(10)
