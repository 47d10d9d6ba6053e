"""Certificates for tests, created on demand."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

import trustme

__all__ = ["HOST", "Authority"]

HOST = "odin.test"


class Authority:
    """Signs certificates for HOST; clients that trust it check names."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.chain = folder / "chain.pem"
        self.key = folder / "key.pem"
        self.issue()

    def issue(
        self, *names: str, begins: datetime | None = None, expires: datetime | None = None
    ) -> None:
        """Write a new certificate and its key, in the place of those before."""
        issued = self._ca.issue_cert(
            HOST, "127.0.0.1", *names, not_before=begins, not_after=expires
        )
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    def client_context(self) -> ssl.SSLContext:
        """What a client connects with."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        return context

    def write_ca(self, path: Path) -> None:
        """Write the authority's own certificate."""
        self._ca.cert_pem.write_to_path(path)
