"""A listening socket for the stand-ins of vendors, whose answers leave at once."""

from __future__ import annotations

import socket


def on(host: str, port: int) -> socket.socket:
    """Listen there; port 0 takes a free one.

    The protocol is named, because asyncio switches off Nagle's algorithm only for sockets that say TCP: with it, an
    answer of two writes waits 40 ms for an acknowledgement.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
