"""Finds out before a server starts whether it can listen."""

from __future__ import annotations

import errno
import socket

from workers.cli import errors


def require_free(host: str, port: int, *, setting: str, host_setting: str) -> None:
    """Raise `CannotStartError` unless a server can listen there.

    `setting`: what names the port, such as `--port`. `host_setting`: what names the host.
    """
    if port == 0:  # the system chooses a free one
        return
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        reason = f"{host} is no address of this machine ({error.strerror})"
        raise errors.CannotStartError(f"{reason}; correct {host_setting}") from None
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind(address)
                listener.listen()
            except OSError as error:
                raise errors.CannotStartError(_explained(error, host, port, setting, host_setting)) from None


def _explained(error: OSError, host: str, port: int, setting: str, host_setting: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} of {host} is taken by another program: name another port with {setting}, "
                f"or end that program (`lsof -i :{port}` shows it)"
            )
        case errno.EACCES:
            return f"only root may listen on port {port}: name a port above 1023 with {setting}"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; correct {host_setting}: 127.0.0.1 and 0.0.0.0 always are one"
        case _:
            return f"nothing can listen on port {port} of {host}: {error.strerror}; name another port with {setting}"
