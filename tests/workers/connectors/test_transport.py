"""The way to a vendor through a company's CA, client certificates and proxies: real TLS servers, a real proxy."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from models.settings.network import DIRECT, Route
from tests.certificates import CompanyCa
from tests.http_proxy import http_proxy
from tests.processes import free_port
from tests.workers.connectors import sandbox_harness
from tests.workers.connectors.test_http import http_client, scripted_server
from workers.connectors import transport
from workers.errors import InsecureError, TimedOutError, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.workers.connectors.sandbox_harness import SandboxHarness

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
PASSWORD = "pa@ss/w:rd"
QUOTED = "pa%40ss%2Fw%3Ard"


@contextmanager
def tls_server(context: ssl.SSLContext, *, endless: bool = False) -> Iterator[str]:
    """Answers each request with `[]` over TLS; `endless`: begins an answer and sends a byte of it now and then."""
    stopped = threading.Event()

    def answer(plain: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if endless else OK)
            while endless and not stopped.wait(0.05):
                client.sendall(b" ")

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                threading.Thread(target=answer, args=(plain,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stopped.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@contextmanager
def counting_server() -> Iterator[tuple[str, list[Any]]]:
    """Answers with `[]` on connections that it keeps; (address, the connections that it accepted)."""
    accepted: list[Any] = []

    class Kept(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            accepted.append(self.client_address)
            super().setup()

        def do_GET(self) -> None:
            self.wfile.write(OK)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Kept) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", accepted
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_connection_that_the_server_may_be_about_to_close_is_not_used() -> None:
    with counting_server() as (url, accepted), http_client(url, route=Route()) as http:
        for pause in (0, 0.1, 3.5):
            time.sleep(pause)
            assert b"[]" == http.read("GET", "/things").body
    assert 2 == len(accepted)


@pytest.fixture
def ca(tmp_path: Path) -> CompanyCa:
    return CompanyCa(tmp_path)


def asked(url: str, route: Route, **options: Any) -> bytes:
    with http_client(url, route=route, **options) as http:
        return http.read("GET", "/things").body


def failure(url: str, route: Route, **options: Any) -> TryLater:
    with pytest.raises(TryLater) as raised:
        asked(url, route, **options)
    assert raised.value.refused or isinstance(raised.value, TimedOutError)
    return raised.value


# Certificates


def test_a_companys_ca_is_trusted_where_it_is_named(ca: CompanyCa) -> None:
    with tls_server(ca.server(ca.sign("erp"))) as url:
        assert b"[]" == asked(url, Route(ca_file=ca.file))
        assert b"[]" == asked(url, Route(extra_cas=(ca.file,)))


def test_the_servers_own_certificate_may_be_named_alone(ca: CompanyCa) -> None:
    certificate = ca.sign("erp")
    with tls_server(ca.server(certificate)) as url:
        assert b"[]" == asked(url, Route(ca_file=certificate))


@pytest.mark.parametrize(
    ("certificate", "trusted", "expected"),
    [
        ({}, None, "signed by a CA that this machine does not trust: set `ca_file`"),
        ({}, "other", "not signed by a CA in `ca_file`"),
        ({"address": "erp.example.com"}, "ca", "for another name: write `url` with a name"),
        ({"address": "10.1.2.3"}, "ca", "for another name"),
        ({"days": -1}, "ca", "has expired"),
        ({"days": 11}, "ca", "is not valid yet: correct this machine's clock"),
    ],
    ids=["unknown CA", "another CA", "another name", "another address", "expired", "of tomorrow"],
)
def test_a_certificate_that_is_not_trusted_names_the_remedy(
    ca: CompanyCa, tmp_path: Path, certificate: dict[str, Any], trusted: str | None, expected: str
) -> None:
    files = {"ca": ca.file, "other": CompanyCa(tmp_path, "Other CA").file}
    with tls_server(ca.server(ca.sign("erp", **certificate))) as url:
        error = failure(url, Route(ca_file=files[trusted] if trusted else None))
    assert isinstance(error, InsecureError)
    assert str(error).startswith("127.0.0.1: its certificate ")
    assert expected in str(error)


def test_a_client_certificate_is_shown_where_it_is_set(ca: CompanyCa) -> None:
    certificate = ca.sign("client")
    with tls_server(ca.server(ca.sign("erp"), wants_client=True)) as url:
        assert b"[]" == asked(url, Route(ca_file=ca.file, client_certificate=(certificate,)))


def test_a_server_that_wants_a_client_certificate_names_the_setting(ca: CompanyCa, tmp_path: Path) -> None:
    stranger = CompanyCa(tmp_path, "Other CA").sign("stranger")
    with tls_server(ca.server(ca.sign("erp"), wants_client=True)) as url:
        assert "set `client_certificate`" in str(failure(url, Route(ca_file=ca.file)))
        refused = failure(url, Route(ca_file=ca.file, client_certificate=(stranger,)))
    assert "does not accept the certificate in `client_certificate`" in str(refused)


def test_a_server_without_tls_names_the_remedy() -> None:
    with scripted_server([b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"]) as url:
        assert "answers without TLS: write http://" in str(failure(url.replace("http:", "https:"), Route()))


def test_a_certificate_that_became_unusable_is_the_requests_error(ca: CompanyCa) -> None:
    ca.file.unlink()
    error = failure("https://127.0.0.1:9", Route(ca_file=ca.file))
    assert str(error).startswith(f"{ca.file} cannot be read: No such file or directory; correct the path")


def test_a_renewed_file_needs_no_restart(ca: CompanyCa, tmp_path: Path) -> None:
    right = ca.file.read_bytes()
    ca.file.write_bytes(CompanyCa(tmp_path, "Other CA").file.read_bytes())
    with tls_server(ca.server(ca.sign("erp"))) as url, http_client(url, route=Route(ca_file=ca.file)) as http:
        with pytest.raises(InsecureError):
            http.read("GET", "/things")
        ca.file.write_bytes(right)
        assert b"[]" == http.read("GET", "/things").body


# Proxies


def test_a_tunnel_through_a_proxy_with_a_login(ca: CompanyCa) -> None:
    with (
        tls_server(ca.server(ca.sign("erp", address="erp.test"))) as url,
        http_proxy(url, login=f"me:{PASSWORD}") as proxy,
    ):
        route = Route(ca_file=ca.file, proxy=f"http://me:{QUOTED}@127.0.0.1:{proxy.port}")
        assert b"[]" == asked("https://erp.test", route)
    assert ["CONNECT erp.test:443 HTTP/1.1"] == proxy.requests


def test_a_request_without_tls_is_forwarded() -> None:
    with scripted_server([OK]) as url, http_proxy(url) as proxy:
        assert b"[]" == asked("http://erp.test", Route(proxy=f"http://127.0.0.1:{proxy.port}"))
    assert ["GET http://erp.test/things HTTP/1.1"] == proxy.requests


@pytest.mark.parametrize("url", ["http://erp.test", "https://erp.test"])
def test_a_proxy_that_refuses_the_login_is_no_refusal_of_the_vendor(url: str) -> None:
    with http_proxy("http://127.0.0.1:9", login="me:other") as proxy:
        error = failure(url, Route(proxy=f"http://me:{QUOTED}@127.0.0.1:{proxy.port}"))
    assert f"the proxy 127.0.0.1:{proxy.port} refused the connection: 407" in str(error)
    assert "correct user and password in `proxy`" in str(error)
    assert PASSWORD not in str(error)


@pytest.mark.parametrize("url", ["http://erp.test", "https://erp.test"])
def test_a_proxy_that_is_away_is_named_without_its_login(url: str) -> None:
    port = free_port()
    error = failure(url, Route(proxy=f"http://me:{QUOTED}@127.0.0.1:{port}"))
    assert str(error).startswith(f"the proxy 127.0.0.1:{port}: ")
    assert "me:" not in str(error)


def test_an_answer_that_repeats_the_proxys_password_does_not_show_it() -> None:
    echo = f"HTTP/1.1 500 Oops\r\nContent-Length: {len(PASSWORD)}\r\n\r\n{PASSWORD}".encode()
    with (
        scripted_server([echo]) as url,
        http_proxy(url, login=f"me:{PASSWORD}") as proxy,
        http_client("http://erp.test", route=Route(proxy=f"http://me:{QUOTED}@127.0.0.1:{proxy.port}")) as http,
        pytest.raises(TryLater, match=r"^HTTP 500 \*\*\*$"),
    ):
        http.read("GET", "/things")


def test_the_deadline_holds_inside_a_tunnel(ca: CompanyCa) -> None:
    with tls_server(ca.server(ca.sign("erp")), endless=True) as url, http_proxy(url) as proxy:
        route = Route(ca_file=ca.file, proxy=f"http://127.0.0.1:{proxy.port}")
        error = failure(url, route, timeout=timedelta(seconds=1))
    assert isinstance(error, TimedOutError)


def test_every_system_goes_through_the_proxy(harness: SandboxHarness) -> None:
    resource = harness.resources[0]
    question = harness.questions(resource)[0]
    with http_proxy(harness.options.url, login=f"me:{PASSWORD}") as proxy:
        given = harness.given() | {
            "system": harness.options.system,
            "proxy": f"http://me:{QUOTED}@127.0.0.1:{proxy.port}",
        }
        options = harness.system.options.model_validate(given | {"url": given["url"].replace("127.0.0.1", "erp.test")})
        with harness.client(options) as client:
            assert sandbox_harness.ask(client, question).error is None
        assert all(" http://erp.test:" in request for request in proxy.requests)
        assert proxy.requests


def test_every_system_trusts_the_ca_that_is_named(harness: SandboxHarness, ca: CompanyCa) -> None:
    question = harness.questions(harness.resources[0])[0]
    with tls_server(ca.server(ca.sign("erp"))) as url:
        given = harness.given() | {"system": harness.options.system, "url": url}
        for named, trusted in (({"ca_file": ca.file}, True), ({}, False)):
            with harness.client(harness.system.options.model_validate(given | named)) as client:
                error = sandbox_harness.ask(client, question).error
            assert (not trusted) == isinstance(error, InsecureError), error


@pytest.mark.parametrize(
    ("error", "reason", "refused"),
    [
        (httpx.ConnectError, "WRONG_VERSION_NUMBER", True),
        (httpx.ReadError, "WRONG_VERSION_NUMBER", False),
        (httpx.ReadError, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC", False),
        (httpx.ReadError, "TLSV13_ALERT_CERTIFICATE_REQUIRED", True),
    ],
)
def test_only_a_tls_error_before_the_request_proves_that_it_was_not_sent(
    error: type[httpx.TransportError],
    reason: str,
    refused: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    failure = ssl.SSLError(1, reason)
    failure.reason = reason
    raised = error("broken")
    raised.__cause__ = failure
    found = transport.unreached(raised, host="erp.example", route=DIRECT, timeout=1)
    assert found is not None
    assert refused is found.refused
