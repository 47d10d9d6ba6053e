"""The server's certificate: reloaded on SIGHUP, checked for expiry."""

from __future__ import annotations

import signal
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import structlog
import trio

__all__ = ["Certificate", "CertificateError", "Validity", "log_ignored_sighup"]

log = structlog.get_logger("odin_ws.tls")

_DAY: Final = 86_400.0


class CertificateError(Exception):
    """The certificate or key cannot be used; the message says why."""


@attrs.frozen
class Validity:
    """The validity of a whole certificate chain, in Unix time."""

    begins: float
    """The latest not-before of the chain."""
    ends: float
    """The earliest not-after."""

    def problem(self, now: float) -> str | None:
        """Return why the chain is not valid now; None if it is."""
        if now >= self.ends:
            return f"the certificate has expired on {_date(self.ends)}"
        if now < self.begins:
            return f"the certificate is not valid before {_date(self.begins)}"
        return None


class Certificate:
    """A certificate chain and its key, loaded from PEM files and reloadable.

    Raises CertificateError.
    """

    def __init__(self, chain: Path, key: Path, warning_seconds: float = 0.0) -> None:
        """Read both files.

        Args:
            chain: the server's own certificate first.
            key: its private key, without a password.
            warning_seconds: time before the chain's end from which `warning` returns a text.
        """
        self._chain = chain
        self._key = key
        self._warning_seconds = warning_seconds
        self.context = self._load()
        self.client_context = _client_context(self._text())
        """Accepts this chain and no other, under any name; another object after each reload."""
        self.validity = self._read_validity()
        self._log_warning()

    @property
    def expires(self) -> float | None:
        """The Unix time at which the first certificate of the chain expires; None if unknown."""
        return None if self.validity is None else self.validity.ends

    @property
    def problem(self) -> str | None:
        """Why clients reject the certificate now; None if they accept it or if that is unknown."""
        return None if self.validity is None else self.validity.problem(time.time())

    @property
    def warning(self) -> str | None:
        """`problem`, or that the certificate expires soon; None otherwise."""
        if self.validity is None or self.problem is not None:
            return self.problem
        left = self.validity.ends - time.time()
        if left >= self._warning_seconds:
            return None
        return f"the certificate expires in {left / _DAY:.1f} days, on {_date(self.validity.ends)}"

    def _text(self) -> str:
        """Return the text of the chain's file. Raises CertificateError."""
        try:
            return self._chain.read_text("latin-1")
        except OSError as error:
            raise CertificateError(f"WS_TLS_CERT={self._chain}: {error}") from error

    def _log_warning(self) -> None:
        if (warning := self.warning) is not None:
            log.warning("certificate expires soon", reason=warning, file=str(self._chain))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Renegotiation costs the server much and the client little.
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password OpenSSL would prompt on the terminal.
            context.load_cert_chain(self._chain, self._key, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(self._why_unusable(error)) from error
        return context

    def _why_unusable(self, error: OSError) -> str:
        """Return which file is wrong, and what is wrong with it: OpenSSL often says neither."""
        content = ""
        files = {
            "WS_TLS_CERT": (self._chain, "CERTIFICATE"),
            "WS_TLS_KEY": (self._key, "PRIVATE KEY"),
        }
        for name, (path, label) in files.items():
            try:
                content = path.read_text("latin-1")
            except OSError as unreadable:
                return f"{name}={path}: {unreadable.strerror}"
            if f"{label}-----" not in content:
                return f"{name}={path}: no {label.lower()} in PEM"
        if "ENCRYPTED" in content:
            return f"WS_TLS_KEY={self._key}: the key must not be encrypted"
        mismatch = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        why = "the key does not belong to the certificate" if mismatch else error
        return f"WS_TLS_CERT={self._chain}, WS_TLS_KEY={self._key}: {why}"

    def _read_validity(self) -> Validity | None:
        from cryptography import x509  # noqa: PLC0415 -- a server without TLS does not load it

        try:
            chain = x509.load_pem_x509_certificates(self._chain.read_bytes())
            return Validity(
                max(certificate.not_valid_before_utc.timestamp() for certificate in chain),
                min(certificate.not_valid_after_utc.timestamp() for certificate in chain),
            )
        except (OSError, ValueError) as error:
            # OpenSSL accepts forms of PEM that cryptography does not; the certificate is usable.
            log.warning("certificate expiry unknown", error=str(error))
            return None

    def reload(self) -> None:
        """Load the files again, for new connections; existing connections keep their keys.

        Logs files that cannot be used and keeps the old certificate. Also keeps the old one if it
        is valid and the new one is not: every client would reject the new one.
        """
        try:
            context, client_context = self._load(), _client_context(self._text())
        except CertificateError as error:
            log.error("certificate not reloaded: unusable, keeping the old one", error=str(error))  # noqa: TRY400
            return
        validity = self._read_validity()
        problem = None if validity is None else validity.problem(time.time())
        if problem is not None and self.problem is None:
            log.error(
                "certificate not reloaded: not valid now, keeping the old one",
                error=problem,
                file=str(self._chain),
            )
            return
        self.context, self.client_context, self.validity = context, client_context, validity
        log.info("certificate reloaded")
        self._log_warning()

    async def run(self) -> None:
        """Reload the files at every SIGHUP, until cancelled."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                self.reload()


def _date(timestamp: float) -> str:
    """Format a time for operators."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M UTC")


async def log_ignored_sighup() -> None:
    """Log at every SIGHUP that there is no certificate to reload, until cancelled.

    SIGHUP's default action would end the process.
    """
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            log.info("SIGHUP ignored: no TLS certificate configured")


def _client_context(chain: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate authority may be unknown on this machine.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=chain)
    except ssl.SSLError:
        # OpenSSL's servers accept forms of PEM that its clients reject.
        context.verify_mode = ssl.CERT_NONE
    return context
