"""A throw-away certificate authority and one server certificate for the loopback interface."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.exceptions import InvalidSignature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Names the server certificate is good for.
NAMES = ("localhost", "127.0.0.1", "::1")

#: A certificate that ends sooner than this is made anew.
MARGIN = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of the PEM files: the authority clients trust, the server's chain and its private key."""

    ca_file: Path
    chain_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS server context that offers HTTP/2 first and HTTP/1.1 second by ALPN."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file, self.key_file)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


def ensure_certificates(directory: Path) -> Certificates:
    """Return the directory's certificates, made anew when they are missing, broken or about to end.

    The authority's private key is never written, so nobody can sign with it later; the server's key has mode 0600.
    """
    directory.mkdir(parents=True, exist_ok=True)
    certificates = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    with _exclusive(directory):
        if not _usable(certificates):
            _make(certificates)
    return certificates


@contextlib.contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: two processes starting at once must not mix their files."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _usable(certificates: Certificates) -> bool:
    try:
        authority = x509.load_pem_x509_certificate(certificates.ca_file.read_bytes())
        server = x509.load_pem_x509_certificate(certificates.chain_file.read_bytes())
        server.verify_directly_issued_by(authority)
        certificates.server_context()
    except (OSError, ValueError, TypeError, InvalidSignature):  # ssl.SSLError is an OSError
        return False
    soon = dt.datetime.now(dt.UTC) + MARGIN
    return min(authority.not_valid_after_utc, server.not_valid_after_utc) > soon


def _make(certificates: Certificates) -> None:
    authority = trustme.CA(organization_name="genqueue lab")
    server = authority.issue_cert(*NAMES)
    certificates.key_file.unlink(missing_ok=True)  # an old file would keep its old mode
    descriptor = os.open(certificates.key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as key:
        key.write(server.private_key_pem.bytes())
    certificates.chain_file.write_bytes(b"".join(pem.bytes() for pem in server.cert_chain_pems))
    certificates.ca_file.write_bytes(authority.cert_pem.bytes())
