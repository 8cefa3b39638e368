"""Endpoints that misbehave, and addresses that must not be asked: each ends soon, with clear words."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from models.settings import addresses
from models.settings.subscriptions import Subscription
from tests import certificates
from tests.workers.deliveries.harness import SECRET
from workers.deliveries.endpoint import Endpoint
from workers.demo import listening

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workers.deliveries.endpoint import Answer

BODY = b'{"type": "x"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """A bare TCP server: `script` gets each connection after the request's head and body were read."""

    def __init__(self, script: Callable[[socket.socket], object], tls: ssl.SSLContext | None) -> None:
        self._script = script
        self._tls = tls
        self._listener = listening.bind("127.0.0.1", 0)
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.requests = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            wrapped = accepted if self._tls is None else self._tls.wrap_socket(accepted, server_side=True)
            with wrapped:
                while self._read_request(wrapped):
                    self.requests += 1
                    self._script(wrapped)

    def _read_request(self, connection: socket.socket) -> bool:
        received = b""
        while not received.endswith(BODY):
            chunk = connection.recv(65536)
            if not chunk:
                return False
            received += chunk
        return True

    def close(self) -> None:
        self._listener.close()


@contextmanager
def serving(script: Callable[[socket.socket], object], *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(script, tls)
    yield server
    server.close()


def options(url: str, **more: Any) -> Subscription:
    return Subscription.model_validate(
        {"name": "crm", "url": url, "secret": SECRET, "allow_private": True, "timeout": "1s"} | more
    )


def post(port: int, *, times: int = 1, **more: Any) -> list[Answer]:
    endpoint = Endpoint(options(f"http://127.0.0.1:{port}/hooks?key=k", **more))
    try:
        return [endpoint.post([], BODY) for _ in range(times)]
    finally:
        endpoint.close()


def test_a_connection_is_used_again() -> None:
    with serving(lambda connection: connection.sendall(OK)) as server:
        answers = post(server.port, times=5)
        assert [None] * 5 == [each.error for each in answers]
        assert (1, 5) == (server.connections, server.requests)


def test_a_kept_connection_that_the_endpoint_has_closed_is_replaced() -> None:
    def answer_and_close(connection: socket.socket) -> None:
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_RDWR)

    with serving(answer_and_close) as server:
        assert [None] * 5 == [each.error for each in post(server.port, times=5)]


def drip(connection: socket.socket) -> None:
    for byte in OK:
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def drip_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    for _ in range(100):
        connection.sendall(b".")
        time.sleep(0.2)


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    for _ in range(10_000):
        connection.sendall(b"x" * 1_000_000)


def flood_heads(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(1_000_000):
        connection.sendall(b"X-%d: x\r\n" % number)


def test_an_answer_whose_head_drips_is_no_answer() -> None:
    with serving(drip) as server:
        assert ["no answer within 1 s"] == [each.error for each in post(server.port)]


def test_a_dripping_body_is_left_and_its_status_counts() -> None:
    with serving(drip_body) as server:
        [answer] = post(server.port)
        assert (None, 200) == (answer.error, answer.status)


def test_of_ten_gigabytes_a_kilobyte_is_kept() -> None:
    with serving(flood) as server:
        [answer] = post(server.port)
        assert (None, 200, "x" * 1024) == (answer.error, answer.status, answer.text)


def test_a_head_without_end_is_no_answer() -> None:
    with serving(flood_heads) as server:
        [answer] = post(server.port, timeout="20s")
        assert answer.error is not None
        assert "does not answer in HTTP" in answer.error


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_an_endpoint_that_closes_at_once_gave_no_answer(sent: bytes) -> None:
    def close(connection: socket.socket) -> None:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_RDWR)

    with serving(close) as server:
        [answer] = post(server.port)
        assert "closed the connection without an answer" in str(answer.error)
        assert answer.status is None


def test_an_upgrade_that_nobody_asked_for_is_no_answer() -> None:
    with serving(lambda connection: connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")) as server:
        [answer] = post(server.port)
        assert "answers 101, which nobody has asked for" in str(answer.error)


@pytest.mark.timeout(60)  # to be read it would take two minutes
def test_a_large_body_that_is_read_slowly_ends_at_the_deadline() -> None:
    def read_slowly() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            while connection.recv(4096):
                time.sleep(0.01)

    with listening.bind("127.0.0.1", 0) as listener:
        listener.listen()
        threading.Thread(target=read_slowly, daemon=True).start()
        endpoint = Endpoint(options(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        answer = endpoint.post([], b"x" * 50_000_000)
        endpoint.close()
    assert "no answer within 1 s" == answer.error


def test_a_large_body_arrives_whole() -> None:
    large = b"x" * 3_000_000 + BODY
    with serving(lambda connection: connection.sendall(OK)) as server:
        endpoint = Endpoint(options(f"http://127.0.0.1:{server.port}/", timeout="20s"))
        assert [None, None] == [endpoint.post([], large).error for _ in range(2)]
        endpoint.close()


def test_rubbish_is_no_answer() -> None:
    with serving(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")) as server:
        [answer] = post(server.port)
        assert answer.error is not None
        assert "does not answer in HTTP" in answer.error


def test_an_answer_after_the_timeout_does_not_count() -> None:
    def late(connection: socket.socket) -> None:
        time.sleep(1.5)
        connection.sendall(OK)

    with serving(late) as server:
        [answer] = post(server.port)
        assert ("no answer within 1 s", None) == (answer.error, answer.status)


def test_a_redirect_is_not_followed() -> None:
    with serving(lambda connection: connection.sendall(OK)) as target:
        head = (
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
            % target.port
        )
        with serving(lambda connection: connection.sendall(head)) as server:
            [answer] = post(server.port)
        assert answer.error == "status 307: redirects are not followed; write the new address in url"
        assert 0 == target.connections


def test_nobody_listens() -> None:
    with listening.bind("127.0.0.1", 0) as unused:
        port = unused.getsockname()[1]
    [answer] = post(port)
    assert answer.error is not None
    assert answer.error.startswith("no connection to 127.0.0.1")
    assert "key" not in answer.error  # the address's query may hold one


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with serving(lambda connection: connection.sendall(OK)) as server:
        assert [None] == [each.error for each in post(server.port)]


# TLS


def post_tls(port: int, host: str = "127.0.0.1", **more: Any) -> Answer:
    endpoint = Endpoint(options(f"https://{host}:{port}/", **more), resolver=Resolver(["127.0.0.1"]))
    answer = endpoint.post([], BODY)
    endpoint.close()
    return answer


def test_a_certificate_of_a_companys_ca_is_accepted_where_the_settings_name_it(tmp_path: Path) -> None:
    ca = certificates.CompanyCa(tmp_path)
    tls = ca.server(ca.sign("server"))
    with serving(lambda connection: connection.sendall(OK), tls=tls) as server:
        assert post_tls(server.port, ca_file=str(ca.file)).error is None
        unknown = post_tls(server.port).error
        other_name = post_tls(server.port, host="crm.example", ca_file=str(ca.file)).error
    assert unknown is not None
    assert "is not accepted" in unknown
    assert "ca_file" in unknown
    assert other_name is not None
    assert "certificate of crm.example is not accepted" in other_name


def test_an_endpoint_without_tls_is_a_failure_of_tls() -> None:
    with serving(lambda connection: connection.sendall(OK)) as server:
        error = post_tls(server.port).error
    assert error is not None


# Addresses


class Resolver:
    """Says what a test wants, a different thing at each look-up."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:  # noqa: ARG002 - the signature of resolvers
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def refused(resolver: Resolver, url: str = "https://crm.example/hooks") -> str:
    endpoint = Endpoint(options(url, allow_private=False, timeout="20s"), resolver=resolver)
    answer = endpoint.post([], BODY)
    endpoint.close()
    assert answer.error is not None
    return answer.error


PRIVATE = {
    "127.0.0.1": "it is this machine",
    "127.8.8.8": "it is this machine",
    "::1": "it is this machine",
    "10.1.2.3": "it is private or reserved",
    "172.16.0.1": "it is private or reserved",
    "192.168.1.1": "it is private or reserved",
    "100.64.0.1": "it is private or reserved",
    "169.254.169.254": "it is link-local, as clouds' metadata services are",
    "fe80::1": "it is link-local, as clouds' metadata services are",
    "fe80::1%eth0": "it is link-local, as clouds' metadata services are",
    "fd00:ec2::254": "it is private or reserved",
    "fec0::1": "it is private or reserved",
    "0.0.0.0": "it is no address of a host",  # noqa: S104 - nothing is bound
    "::": "it is no address of a host",
    "224.0.0.1": "it is a multicast address",
    "ff02::1": "it is a multicast address",
    "255.255.255.255": "it is private or reserved",
    "240.0.0.1": "it is private or reserved",
    "192.0.2.1": "it is private or reserved",
    "198.18.0.1": "it is private or reserved",
    "::ffff:127.0.0.1": "it is this machine",
    "::ffff:10.0.0.1": "it is private or reserved",
    "::ffff:169.254.169.254": "it is link-local, as clouds' metadata services are",
    "::127.0.0.1": None,
    "::ffff:0:127.0.0.1": "it is this machine",
    "64:ff9b::a9fe:a9fe": "it is link-local, as clouds' metadata services are",
    "64:ff9b:1::1": "it is private or reserved",
    "2002:7f00:1::": "it is this machine",
    "2002:a00:1::": "it is private or reserved",
    "2001:0:4136:e378:8000:63bf:80ff:fffe": None,
    "2001:db8::1": "it is private or reserved",
    "3fff::1": "it is private or reserved",
    "192.0.0.8": "it is private or reserved",
    "192.88.99.1": "it is private or reserved",
}
"""Address -> why; None: for whichever reason."""


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_leads_inside_is_refused_with_its_address_and_the_reason(address: str) -> None:
    error = refused(Resolver([address]))
    assert error.startswith(f"crm.example leads to {address}, and it is")
    assert error.endswith("; set allow_private = true if you mean it")
    assert PRIVATE[address] is None or str(PRIVATE[address]) in error


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "88.198.50.253", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert addresses.why_not_public(address) is None


def test_a_name_that_leads_to_both_kinds_is_refused() -> None:
    for both in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::1"]):
        assert "leads to" in refused(Resolver(both))


def test_a_name_that_changes_between_two_look_ups_is_looked_up_once_for_a_connection() -> None:
    resolver = Resolver(["10.0.0.1"], ["8.8.8.8"])
    assert "leads to 10.0.0.1" in refused(resolver)
    assert ["crm.example"] == resolver.asked


def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    with serving(lambda connection: connection.sendall(OK)) as server:
        resolver = Resolver(["127.0.0.1"], ["10.255.255.1"])
        endpoint = Endpoint(options(f"http://crm.example:{server.port}/"), resolver=resolver)
        assert endpoint.post([], BODY).error is None
        endpoint.close()
        assert (["crm.example"], 1) == (resolver.asked, server.connections)


def test_of_several_addresses_the_next_is_tried_where_nobody_listens() -> None:
    with serving(lambda connection: connection.sendall(OK)) as server:
        resolver = Resolver(["127.0.0.2", "127.0.0.1"])
        endpoint = Endpoint(options(f"http://crm.example:{server.port}/"), resolver=resolver)
        assert endpoint.post([], BODY).error is None
        endpoint.close()


def test_a_name_without_an_address_and_a_resolver_that_hangs_are_failures() -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    def hanging(_host: str, _port: int) -> list[str]:
        time.sleep(3)
        return ["127.0.0.1"]

    for resolver, words in ((unknown, "crm.example has no address"), (hanging, "no answer within 1 s")):
        endpoint = Endpoint(options("http://crm.example/"), resolver=resolver)
        answer = endpoint.post([], BODY)
        endpoint.close()
        assert answer.error is not None
        assert words in answer.error
