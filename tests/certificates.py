"""Certificates as a company makes them: a CA of its own, servers that it signs, clients' certificates."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_PEM, _PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
_PLAIN = serialization.NoEncryption()
_DAY = timedelta(days=1)


@cache
def _key(_name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class CompanyCa:
    """A CA and what it signs, as PEM files in a folder. Like many made by hand it has no key identifiers."""

    def __init__(self, folder: Path, name: str = "Company CA") -> None:
        self.folder = folder / name.replace(" ", "-")
        self.folder.mkdir()
        self._name = _named(name)
        self._key = _key(name)
        builder = _builder(self._name, self._name, self._key, days=2)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.file = self.folder / "ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(_PEM))

    def sign(self, name: str, *, address: str = "127.0.0.1", days: int = 2, passphrase: str | None = None) -> Path:
        """A file with a certificate for this address and its key; with negative `days` it has expired."""
        key = _key(name)
        builder = _builder(_named(name), self._name, key, days=days)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(address)]), critical=False)
        encryption = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else _PLAIN
        file = self.folder / f"{name}.pem"
        file.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM) + key.private_bytes(_PEM, _PKCS8, encryption)
        )
        return file

    def server(self, certificate: Path, *, wants_client: bool = False) -> ssl.SSLContext:
        """The TLS side of a server with this certificate. `wants_client`: only clients whose certificate it signed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file)
        return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + days * _DAY
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=end - 9 * _DAY,
        not_valid_after=end,
    )


def _general(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)
