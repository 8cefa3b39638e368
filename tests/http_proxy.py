"""A company's HTTP proxy on loopback: tunnels (CONNECT), forwarded requests and a login, over real sockets."""

from __future__ import annotations

import base64
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"


@dataclass
class HttpProxy:
    """`upstream`: where every request goes, whatever host it names, as the proxy alone resolves names here.

    `login`: the `user:password` that it wants. `requests`: the first line of each request that it let pass.
    """

    upstream: tuple[str, int]
    login: str | None = None
    requests: list[str] = field(default_factory=list)
    port: int = 0

    def handle(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                received = client.recv(65536)
                if not received:
                    return
                head += received
            if not self._admits(head):
                client.sendall(_REFUSED)
                return
            line, _, rest = head.partition(b"\r\n")
            self.requests.append(line.decode())
            with socket.create_connection(self.upstream) as server:
                method, target, version = line.split()
                if method == b"CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    parts = urlsplit(target.decode())
                    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}".encode()
                    server.sendall(b" ".join([method, path, version]) + b"\r\nConnection: close\r\n" + _once(rest))
                _join(client, server)

    def _admits(self, head: bytes) -> bool:
        if self.login is None:
            return True
        wanted = b"proxy-authorization: basic " + base64.b64encode(self.login.encode()).lower()
        return wanted in head.lower()


def _once(rest: bytes) -> bytes:
    """The rest of a request without its own `Connection` header."""
    head, _, body = rest.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _join(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_pump, args=(one, other), daemon=True)
    back.start()
    _pump(other, one)
    back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while received := source.recv(65536):
            sink.sendall(received)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def http_proxy(upstream: str, *, login: str | None = None) -> Iterator[HttpProxy]:
    """The proxy while the block runs. `upstream`: a URL."""
    parts = urlsplit(upstream)
    assert parts.hostname is not None
    assert parts.port is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = HttpProxy((parts.hostname, parts.port), login, port=listener.getsockname()[1])

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=proxy.handle, args=(client,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(5)
