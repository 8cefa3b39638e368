"""The settings of CAs, client certificates and proxies, and what the environment says where they are not set."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from models.settings import load, network
from models.settings.connections import Connection
from tests.certificates import CompanyCa
from tests.models.settings.test_load import OPTIONS, refused
from workers.gate import gate

SECRET = "hunter2-never-show"
BOOKS = '[connections.books]\nsystem = "bookkeeper"\n'
VARIABLES = [*network._CA_VARIABLES, "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def ca(tmp_path: Path) -> CompanyCa:
    return CompanyCa(tmp_path)


def books(folder: Path, text: str) -> Connection:
    file = folder / "erpmirror.toml"
    file.write_text(BOOKS + text, encoding="utf-8")
    return load.load(file, OPTIONS).connections["books"]


def test_files_are_relative_to_the_settings_file(ca: CompanyCa, tmp_path: Path) -> None:
    client = ca.sign("client")
    text = 'ca_file = "Company-CA/ca.pem"\nclient_certificate = "Company-CA/client.pem"\n'
    assert network.Route(ca_file=ca.file, client_certificate=(client,)) == books(tmp_path, text).route


def test_a_certificate_and_its_key_may_be_two_files(ca: CompanyCa, tmp_path: Path) -> None:
    client = ca.sign("client")
    text = client.read_text(encoding="utf-8")
    certificate, _, key = text.partition("-----BEGIN PRIVATE KEY")
    (tmp_path / "client.crt").write_text(certificate, encoding="utf-8")
    (tmp_path / "client.key").write_text(f"-----BEGIN PRIVATE KEY{key}", encoding="utf-8")
    loaded = books(tmp_path, 'client_certificate = ["client.crt", "client.key"]\n')
    assert (tmp_path / "client.crt", tmp_path / "client.key") == loaded.route.client_certificate
    assert isinstance(loaded.route.tls_context(), ssl.SSLContext)


@pytest.fixture
def files(ca: CompanyCa, tmp_path: Path) -> Path:
    """A folder with every file that people try."""
    (tmp_path / "ca.pem").write_bytes(ca.file.read_bytes())
    (tmp_path / "text.pem").write_text("no certificate", encoding="utf-8")
    (tmp_path / "empty.pem").touch()
    (tmp_path / "ca.cer").write_bytes(ssl.PEM_cert_to_DER_cert(ca.file.read_text(encoding="ascii")))
    (tmp_path / "locked.pem").write_bytes(ca.sign("locked", passphrase=SECRET).read_bytes())
    (tmp_path / "one.pem").write_bytes(ca.sign("one").read_bytes())
    (tmp_path / "two.pem").write_bytes(ca.sign("two").read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('ca_file = "nowhere.pem"', "ca_file: {folder}/nowhere.pem cannot be read: No such file or directory"),
        ('ca_file = "text.pem"', "ca_file: {folder}/text.pem holds no certificate in PEM"),
        ('ca_file = "empty.pem"', "ca_file: {folder}/empty.pem holds no certificate in PEM"),
        ('ca_file = "ca.cer"', "for one in DER: `openssl x509 -inform der -in ca.cer -out ca.pem`"),
        ('client_certificate = "nowhere.pem"', "client_certificate: {folder}/nowhere.pem cannot be read"),
        ('client_certificate = "ca.pem"', "client_certificate: {folder}/ca.pem holds no key in PEM"),
        ('client_certificate = "text.pem"', "holds no certificate in PEM: write one file with both"),
        ('client_certificate = ["one.pem", "text.pem"]', "{folder}/text.pem holds no key in PEM"),
        ('client_certificate = ["one.pem", "two.pem"]', "does not belong to the certificate in {folder}/one.pem"),
        ('client_certificate = "locked.pem"', "has a passphrase; take it off: `openssl pkey -in locked.pem"),
    ],
)
def test_a_file_that_cannot_be_used_refuses_to_start(files: Path, line: str, expected: str) -> None:
    message = refused(files, f"{BOOKS}{line}\n")
    assert "connections.books." in message
    assert expected.format(folder=files) in message


@pytest.mark.parametrize(
    ("written", "route"),
    [
        ("http://proxy.local:3128", "http://proxy.local:3128"),
        ("http://proxy.local:3128/", "http://proxy.local:3128"),
        ("proxy.local:3128", "http://proxy.local:3128"),
        ("https://me:a%40b@proxy.local", "https://me:a%40b@proxy.local"),
        ("", None),
    ],
)
def test_a_proxy_is_an_address_or_none(tmp_path: Path, written: str, route: str | None) -> None:
    assert route == books(tmp_path, f'proxy = "{written}"\n').route.proxy


@pytest.mark.parametrize(
    "written",
    [
        f"http://me:{SECRET}#1@proxy:3128",
        f"http://me:{SECRET}/1@proxy:3128",
        f"http://me:{SECRET}@proxy:port",
        f"http://me:{SECRET} @proxy:3128",
        f"ftp://me:{SECRET}@proxy",
        f"socks5://me:{SECRET}@proxy:1080",
        "http://",
    ],
)
def test_a_malformed_proxy_is_refused_without_its_password(tmp_path: Path, written: str) -> None:
    message = refused(tmp_path, f'{BOOKS}proxy = "{written}"\n')
    assert "connections.books.proxy: " in message
    assert "http://proxy.example.com:3128" in message


def test_a_proxys_password_is_in_no_repr_and_among_the_secrets(tmp_path: Path) -> None:
    loaded = books(tmp_path, 'proxy = "http://me:hunter%402@proxy.local:3128"\n')
    assert not [shown for shown in (repr(loaded), str(loaded), repr(loaded.route)) if "hunter" in shown]
    assert ["hunter@2"] == loaded.secret_values
    assert "proxy.local:3128" == loaded.route.proxy_name


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("https://erp.test", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://erp.test", {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "http://p:1"),
        ("https://erp.test", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://erp.test", {"HTTP_PROXY": "p:1"}, "http://p:1"),
        ("http://erp.test", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("http://erp.test", {"http_proxy": "", "HTTP_PROXY": "http://p:1"}, None),
        ("http://127.0.0.1:8080", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://localhost:8080", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://[::1]:8080", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://erp.test", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://erp.test", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "other.test, erp.test"}, None),
        ("http://erp.test", {"HTTP_PROXY": "http://p:1", "no_proxy": ".test"}, None),
        ("http://erp.test", {"HTTP_PROXY": "http://p:1", "no_proxy": "*.test"}, None),
        ("http://erp.test", {"HTTP_PROXY": "http://p:1", "no_proxy": "rp.test"}, "http://p:1"),
        ("http://erp.test", {"HTTP_PROXY": "http://p:1", "no_proxy": "erp.test:80"}, None),
        ("http://erp.test", {"HTTP_PROXY": "http://p:1", "no_proxy": "erp.test:8080"}, "http://p:1"),
        ("http://10.1.2.3", {"HTTP_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("http://11.1.2.3", {"HTTP_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8"}, "http://p:1"),
        ("http://[fd00::1]", {"HTTP_PROXY": "http://p:1", "no_proxy": "[fd00::1]"}, None),
        ("http://erp.test", {"HTTP_PROXY": "http://p:1", "no_proxy": "[::1, :"}, "http://p:1"),
    ],
)
def test_the_environments_proxy_is_used_as_curl_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy == books(tmp_path, f'url = "{url}"\n').route.proxy


def test_a_setting_wins_over_the_environment(ca: CompanyCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    text = 'ca_file = "Company-CA/ca.pem"\nurl = "https://127.0.0.1"\n'
    assert network.Route(ca_file=ca.file) == books(tmp_path, text).route
    assert "http://q:2" == books(tmp_path, f'{text}proxy = "http://q:2"\n').route.proxy, "loopback, if asked to"


@pytest.mark.parametrize("variable", network._CA_VARIABLES)
def test_the_environments_cas_are_trusted_besides_the_public_ones(
    ca: CompanyCa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(ca.file))
    route = books(tmp_path, 'url = "https://erp.test"\n').route
    assert (ca.file,) == route.extra_cas
    trusted = route.tls_context().get_ca_certs()
    assert (("commonName", "Company CA"),) in [name for each in trusted for name in each["subject"]]
    assert len(trusted) > 100


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "SSL_CERT_FILE: /nowhere/ca.pem cannot be read: No such file"),
        ("REQUESTS_CA_BUNDLE", "{folder}/erpmirror.toml", "holds no certificate in PEM"),
        ("HTTPS_PROXY", f"http://me:{SECRET}/@p", "the environment variable HTTPS_PROXY: write"),
        ("https_proxy", "socks5://p", "the environment variable https_proxy: SOCKS proxies are not supported"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value.format(folder=tmp_path))
    message = refused(tmp_path, f'{BOOKS}url = "https://erp.test"\n')
    assert "connections.books: the environment variable" in message
    assert expected in message


def test_a_way_to_the_vendor_does_not_change_the_account(ca: CompanyCa) -> None:
    class Options(Connection):
        def login(self) -> tuple[str, ...]:
            return ("key",)

    given: dict[str, Any] = {"name": "it", "system": "bookkeeper", "url": "https://erp.test"}
    plain = Options.model_validate(given)
    routed = Options.model_validate(given | {"proxy": "http://p:1", "ca_file": ca.file})
    assert gate.account_of(plain) == gate.account_of(routed)
