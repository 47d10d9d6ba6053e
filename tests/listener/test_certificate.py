"""The certificate of the port: what is loaded, reloaded and warned of."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from odin_ws.assembly import read_certificate
from odin_ws.listener.certificate import Certificate, CertificateError
from odin_ws.settings import Settings
from tests.listener.certificates import Authority


def test_unusable_certificate_is_reported(tmp_path: Path) -> None:
    """A missing file, another key, no PEM, a password: the file, and what is wrong with it."""
    folder = tmp_path / "other"
    folder.mkdir()
    authority, other = Authority(tmp_path), Authority(folder)
    empty = tmp_path / "empty.pem"
    empty.touch()
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "utf-8")
    missing = tmp_path / "none.pem"
    for chain, key, text in [
        (
            authority.chain,
            other.key,
            f"WS_TLS_CERT={authority.chain}, WS_TLS_KEY={other.key}: the key does not belong to "
            "the certificate",
        ),
        (empty, authority.key, f"WS_TLS_CERT={empty}: no certificate in PEM"),
        (authority.chain, empty, f"WS_TLS_KEY={empty}: no private key in PEM"),
        (authority.chain, authority.chain, f"WS_TLS_KEY={authority.chain}: no private key in PEM"),
        (authority.chain, encrypted, f"WS_TLS_KEY={encrypted}: the key must not be encrypted"),
        (missing, authority.key, f"WS_TLS_CERT={missing}: No such file or directory"),
    ]:
        with pytest.raises(CertificateError) as caught:
            Certificate(chain, key)
        assert str(caught.value) == text


def test_certificate_is_reloaded(tmp_path: Path) -> None:
    """For new connections; unusable files only log a line."""
    authority = Authority(tmp_path)
    certificate = Certificate(authority.chain, authority.key)
    first = certificate.context
    authority.key.write_text("no key")
    with structlog.testing.capture_logs() as lines:
        certificate.reload()
    assert certificate.context is first
    assert [line["log_level"] for line in lines] == ["error"]
    authority.issue("renewed.test")
    certificate.reload()
    assert certificate.context is not first


def test_expiry_is_that_of_the_first_certificate_to_expire(tmp_path: Path) -> None:
    """A failed reload does not change it."""
    authority = Authority(tmp_path)
    soon, later = (datetime(2099, month, 1, tzinfo=UTC) for month in (1, 6))
    authority.issue(expires=soon)
    one = authority.chain.read_bytes()
    certificate = Certificate(authority.chain, authority.key)
    assert certificate.expires == soon.timestamp()
    authority.issue(expires=later)
    certificate.reload()
    assert certificate.expires == later.timestamp()
    # As openssl writes it: the key and some words beside the chain.
    authority.chain.write_bytes(
        authority.key.read_bytes() + b"subject=odin\n" + authority.chain.read_bytes() + one
    )
    certificate.reload()
    assert certificate.expires == soon.timestamp()
    authority.issue(expires=later)
    authority.key.write_text("no key")
    certificate.reload()
    assert certificate.expires == soon.timestamp()


def test_certificate_readable_only_by_openssl_is_served(tmp_path: Path) -> None:
    """Its expiry is unknown, and the log says so."""
    authority = Authority(tmp_path)
    pem = authority.chain.read_bytes().replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE")
    authority.chain.write_bytes(pem)
    with structlog.testing.capture_logs() as lines:
        certificate = Certificate(authority.chain, authority.key)
    assert certificate.expires is None
    (line,) = lines
    assert line["event"] == "certificate expiry unknown"
    assert line["error"]


NOW = datetime.now(UTC)


EXPIRED = {"begins": NOW - timedelta(days=9), "expires": NOW - timedelta(days=1)}


NOT_YET = {"begins": NOW + timedelta(days=1), "expires": NOW + timedelta(days=9)}


@pytest.mark.parametrize("times", [EXPIRED, NOT_YET])
def test_reload_keeps_a_valid_certificate_over_an_invalid_one(
    tmp_path: Path, times: dict[str, datetime]
) -> None:
    """Every client would reject the new one; the log has the reason."""
    authority = Authority(tmp_path)
    certificate = Certificate(authority.chain, authority.key)
    good, expires = certificate.context, certificate.expires
    authority.issue(**times)
    with structlog.testing.capture_logs() as lines:
        certificate.reload()
    assert certificate.context is good
    assert certificate.expires == expires
    assert certificate.warning is None
    (line,) = lines
    assert line["log_level"] == "error"
    assert line["event"] == "certificate not reloaded: not valid now, keeping the old one"
    assert line["error"]
    authority.issue()
    certificate.reload()
    assert certificate.context is not good


@pytest.mark.parametrize(
    ("times", "text"), [(EXPIRED, "has expired on"), (NOT_YET, "is not valid before")]
)
def test_invalid_certificate_at_the_start_is_served_with_a_warning(
    tmp_path: Path, times: dict[str, datetime], text: str
) -> None:
    """There is no better one; a reload replaces it."""
    authority = Authority(tmp_path)
    authority.issue(**times)
    with structlog.testing.capture_logs() as lines:
        certificate = Certificate(authority.chain, authority.key)
    (line,) = lines
    assert line["log_level"] == "warning"
    assert line["event"] == "certificate expires soon"
    assert text in line["reason"]
    assert certificate.warning == line["reason"]
    first = certificate.context
    authority.issue(**EXPIRED)
    certificate.reload()
    assert certificate.context is not first
    authority.issue()
    certificate.reload()
    assert certificate.warning is None


def test_certificate_near_expiry_is_a_warning(tmp_path: Path) -> None:
    """From the set time before its expiry on."""
    authority = Authority(tmp_path)
    authority.issue(expires=NOW + timedelta(days=5))
    for days, expected in [(4, None), (6, "the certificate expires in 5.0 days")]:
        certificate = Certificate(authority.chain, authority.key, 86_400 * days)
        assert (certificate.warning or "").startswith(expected or "")
        assert (certificate.warning is None) == (expected is None)


def test_warning_time_is_a_setting(tmp_path: Path) -> None:
    """Of a server that is started with it."""
    authority = Authority(tmp_path)
    authority.issue(expires=NOW + timedelta(days=5))
    for days, warned in [(4, False), (6, True)]:
        certificate = read_certificate(
            Settings(
                ws_tls_cert=authority.chain,
                ws_tls_key=authority.key,
                ws_tls_expiry_warning_days=days,
            )
        )
        assert certificate is not None
        assert (certificate.warning is not None) is warned


def test_certificate_that_expires_while_served_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a reload: health compares the time."""
    authority = Authority(tmp_path)
    authority.issue(expires=NOW + timedelta(days=5))
    certificate = Certificate(authority.chain, authority.key)
    assert certificate.warning is None
    later = time.time() + 6 * 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert "has expired on" in str(certificate.warning)
