"""The settings and their files are checked as `serve` reads them, all mistakes in one run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from odin_ws.cli.checks.configuration import Configuration, check_configuration
from odin_ws.cli.checks.findings import Finding, Findings, Outcome
from tests.cli.checks.found import found, only
from tests.jwt_issuer import SECRET
from tests.listener.certificates import Authority


def checked(**environ: str) -> list[Finding]:
    """The findings about an environment."""
    return found(partial(check_configuration, environ=environ))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs certificates."""
    return Authority(tmp_path)


def tls(authority: Authority) -> dict[str, str]:
    """Settings with its certificate."""
    return {"WS_TLS_CERT": str(authority.chain), "WS_TLS_KEY": str(authority.key)}


def test_the_defaults_are_usable() -> None:
    """But everybody may read everything, which an operator has to know."""
    findings = checked()
    assert only(findings, "settings", Outcome.OK).text == "all defaults"
    assert "8 topics" in only(findings, "catalogue", Outcome.OK).text
    assert "WS_AUTH=none" in only(findings, "authentication", Outcome.WARNING).text
    only(findings, "certificate", Outcome.OK)


def test_settings_that_are_set_are_named() -> None:
    """Names only: values may be secrets."""
    findings = checked(WS_MAX_CONNECTIONS="100", WS_OPS_TOKEN="x" * 20)
    text = only(findings, "settings", Outcome.OK).text
    assert text == "2 set: WS_MAX_CONNECTIONS, WS_OPS_TOKEN"


def test_every_invalid_setting_is_a_finding_and_nothing_else_is_checked() -> None:
    """Each line names the setting and what it must be."""
    findings = checked(WS_WORKERS="0", WS_PORT="1")
    assert {finding.outcome for finding in findings} == {Outcome.FAILED}
    assert len(findings) == 2
    assert check_configuration(Findings(lambda _: None), {"WS_WORKERS": "0"}) is None


def test_unknown_names_are_a_warning() -> None:
    """They may be meant for somebody else."""
    findings = checked(WS_FOO_BAR_BAZ="1")
    warnings = [finding for finding in findings if finding.outcome is Outcome.WARNING]
    assert any("WS_FOO_BAR_BAZ" in warning.text for warning in warnings)


def test_more_workers_than_connections_fail() -> None:
    """`serve` would not start."""
    findings = checked(WS_WORKERS="3", WS_MAX_CONNECTIONS="2")
    assert any(
        finding.outcome is Outcome.FAILED and "WS_WORKERS=3" in finding.text for finding in findings
    )


def test_an_unusable_catalogue_is_named(tmp_path: Path) -> None:
    """Kafka is not checked then: its topics are not known."""
    path = tmp_path / "catalogue.toml"
    path.write_text("topics = 3")
    only(checked(WS_CATALOGUE=str(path)), "catalogue", Outcome.FAILED)
    configuration = check_configuration(Findings(lambda _: None), {"WS_CATALOGUE": str(path)})
    assert isinstance(configuration, Configuration)
    assert configuration.catalogue is None


def test_dead_letters_must_not_be_read_as_records() -> None:
    """`serve` would not start."""
    findings = checked(KAFKA_DEAD_LETTER_TOPIC="odin.trades")
    assert any(
        finding.check == "catalogue" and finding.outcome is Outcome.FAILED for finding in findings
    )


def test_tokens_are_checked_with_their_keys(tmp_path: Path) -> None:
    """A key that cannot be used stops the start."""
    good = checked(WS_AUTH="jwt", WS_JWT_SECRET=SECRET)
    assert "1 keys" in only(good, "authentication", Outcome.OK).text
    bad = tmp_path / "key.pem"
    bad.write_text("no key")
    only(checked(WS_AUTH="jwt", WS_JWT_PUBLIC_KEY=str(bad)), "authentication", Outcome.FAILED)


def test_a_short_ops_token_fails() -> None:
    """`serve` would not start."""
    only(checked(WS_OPS_TOKEN="x" * 15), "ops port", Outcome.FAILED)


def test_unusable_files_for_kafka_are_named(tmp_path: Path) -> None:
    """An authority without a certificate."""
    empty = tmp_path / "ca.pem"
    empty.write_text("")
    findings = checked(KAFKA_SECURITY_PROTOCOL="SSL", KAFKA_SSL_CAFILE=str(empty))
    only(findings, "Kafka security", Outcome.FAILED)


def test_a_valid_certificate_tells_its_days(authority: Authority) -> None:
    """With its key."""
    ends = datetime.now(UTC) + timedelta(days=90, hours=1)
    authority.issue(expires=ends)
    assert "valid for 90 days" in only(checked(**tls(authority)), "certificate", Outcome.OK).text


@pytest.mark.parametrize(
    ("begins", "expires", "outcome"),
    [(-30, 5, Outcome.WARNING), (-30, -1, Outcome.FAILED), (1, 90, Outcome.FAILED)],
)
def test_a_certificate_that_clients_reject_or_soon_will(
    authority: Authority, begins: int, expires: int, outcome: Outcome
) -> None:
    """It expires soon, has expired, or is not valid yet."""
    now = datetime.now(UTC)
    authority.issue(begins=now + timedelta(days=begins), expires=now + timedelta(days=expires))
    only(checked(**tls(authority)), "certificate", outcome)


def test_the_key_of_another_certificate_fails(authority: Authority, tmp_path: Path) -> None:
    """Nobody could connect."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    settings = {"WS_TLS_CERT": str(authority.chain), "WS_TLS_KEY": str(other.key)}
    only(checked(**settings), "certificate", Outcome.FAILED)
