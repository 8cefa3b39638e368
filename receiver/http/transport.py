"""What lies between uvicorn's HTTP protocol and the socket."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

_JOINED = 64 * 2**10
"""Bytes that are joined at most."""


class CoalescingTransport(asyncio.Transport):
    """A transport that joins what is written within one iteration of the loop.

    uvicorn writes the head and the body of a response separately: one more system call and one more packet.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._written: list[bytes] = []
        self._size = 0
        self.written = 0
        self._transport = transport
        self.abort = transport.abort  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]

    def write(self, data: Any) -> None:
        """Send it at the end of this iteration, or at once if much was written."""
        if not self._written:
            self._loop.call_soon(self._send)
        self._written.append(data)
        self._size += len(data)
        self.written += len(data)
        if self._size > _JOINED:
            self._send()

    def close(self) -> None:
        """Send what was written and close."""
        self._send()
        self._transport.close()

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and not sent."""
        return self._size + self._transport.get_write_buffer_size()

    def _send(self) -> None:
        if self._written:
            data, self._written, self._size = b"".join(self._written), [], 0
            if not self._transport.is_closing():
                self._transport.write(data)


class ParserFlowControl(FlowControl):
    """uvicorn's flow control resumes reading after each response, however much is not parsed yet; this one does not."""

    _has_backlog = False

    def pause_for_backlog(self, *, backlog: bool) -> None:
        """Stop reading while received bytes are not parsed."""
        if backlog != self._has_backlog:
            self._has_backlog = backlog
            (self.pause_reading if backlog else self.resume_reading)()

    def resume_reading(self) -> None:
        """Read on, unless there is a backlog."""
        if not self._has_backlog:
            super().resume_reading()
