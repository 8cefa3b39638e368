"""Opens the listening socket of a sandbox's server."""

from __future__ import annotations

import socket


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen; port 0 takes a free one. Raises OSError if the port is in use.

    The socket names TCP as its protocol, because asyncio sets TCP_NODELAY only on such sockets. Without it a response
    of two writes waits 40 ms for the client's delayed acknowledgement.
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
