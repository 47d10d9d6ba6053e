"""Contradicting Kafka security settings stop the start, with a line for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from odin_ws.settings import SettingsError, load_settings
from tests.settings.problems import problem_of, problems_of

LOGIN = {"KAFKA_SASL_USERNAME": "odin", "KAFKA_SASL_PASSWORD": "horse"}
TOKEN = {"KAFKA_SASL_TOKEN_FILE": "token"}
CLIENT = {"KAFKA_SASL_CLIENT_ID": "odin", "KAFKA_SASL_CLIENT_SECRET": "horse"}
SCOPE = {"KAFKA_SASL_SCOPE": "kafka"}
URL = {"KAFKA_SASL_TOKEN_URL": "https://id.example.com/token"}
HERE = str(Path(__file__))
CA = {"KAFKA_SSL_CAFILE": HERE}
IDENTITY = {"KAFKA_SSL_CERTFILE": HERE, "KAFKA_SSL_KEYFILE": HERE}

PLAINTEXT = {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}
SSL = {"KAFKA_SECURITY_PROTOCOL": "SSL"}
SASL = {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
BOTH = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
SCRAM = {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"}
OAUTH = {"KAFKA_SASL_MECHANISM": "OAUTHBEARER"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        SSL,
        SSL | CA | IDENTITY,
        SASL | LOGIN | SCRAM,
        BOTH | LOGIN,
        BOTH | LOGIN | SCRAM | CA | IDENTITY,
        BOTH | OAUTH | TOKEN | CA,
        BOTH | OAUTH | URL | CLIENT,
        BOTH | OAUTH | URL | CLIENT | SCOPE | CA,
    ],
)
def test_valid_combinations_have_no_warning(settings: dict[str, str]) -> None:
    """Certificates and users in any combination, as long as nothing secret is unencrypted."""
    read, unknown = load_settings(settings)
    assert read.security_warnings == unknown == []


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        (BOTH, ["KAFKA_SASL_USERNAME: has to", "KAFKA_SASL_PASSWORD: has to"]),
        (BOTH | SCRAM, ["KAFKA_SASL_USERNAME: has to", "KAFKA_SASL_PASSWORD: has to"]),
        (SASL | {"KAFKA_SASL_USERNAME": "odin"}, ["KAFKA_SASL_PASSWORD: has to"]),
        (BOTH | OAUTH, ["KAFKA_SASL_TOKEN_FILE or KAFKA_SASL_TOKEN_URL: has to"]),
        (
            BOTH | OAUTH | CLIENT | {"KAFKA_SASL_USERNAME": "odin"},
            [
                "KAFKA_SASL_TOKEN_FILE or KAFKA_SASL_TOKEN_URL: has to",
                "KAFKA_SASL_USERNAME: must not be set",
            ],
        ),
        (
            BOTH | OAUTH | URL | SCOPE,
            ["KAFKA_SASL_CLIENT_ID: has to", "KAFKA_SASL_CLIENT_SECRET: has to"],
        ),
        (
            BOTH | OAUTH | TOKEN | CLIENT | SCOPE,
            [
                "KAFKA_SASL_CLIENT_ID: must not be set",
                "KAFKA_SASL_CLIENT_SECRET: must not be set",
                "KAFKA_SASL_SCOPE: must not be set",
            ],
        ),
        (
            BOTH | LOGIN | URL | CLIENT,
            [
                "KAFKA_SASL_TOKEN_URL: must not be set",
                "KAFKA_SASL_CLIENT_ID: must not be set",
                "KAFKA_SASL_CLIENT_SECRET: must not be set",
            ],
        ),
        (SSL | SCOPE, ["KAFKA_SASL_SCOPE: must not be set"]),
        (BOTH | LOGIN | TOKEN, ["KAFKA_SASL_TOKEN_FILE: must not be set"]),
        (
            BOTH | OAUTH | TOKEN | LOGIN,
            ["KAFKA_SASL_USERNAME: must not be set", "KAFKA_SASL_PASSWORD: must not be set"],
        ),
        (LOGIN, ["KAFKA_SASL_USERNAME: must not be set", "KAFKA_SASL_PASSWORD: must not be set"]),
        (SSL | TOKEN, ["KAFKA_SASL_TOKEN_FILE: must not be set"]),
        (PLAINTEXT | CA, ["KAFKA_SSL_CAFILE: must not be set"]),
        (
            SASL | LOGIN | IDENTITY,
            ["KAFKA_SSL_CERTFILE: must not be set", "KAFKA_SSL_KEYFILE: must not be set"],
        ),
        (SSL | {"KAFKA_SSL_CERTFILE": HERE}, ["KAFKA_SSL_KEYFILE: has to"]),
        (SSL | {"KAFKA_SSL_KEYFILE": HERE}, ["KAFKA_SSL_CERTFILE: has to"]),
        (
            BOTH | {"KAFKA_SSL_KEYFILE": HERE} | {"KAFKA_SASL_USERNAME": "odin"},
            ["KAFKA_SASL_PASSWORD: has to", "KAFKA_SSL_CERTFILE: has to"],
        ),
    ],
)
def test_contradicting_settings_stop_the_start(
    settings: dict[str, str], problems: list[str]
) -> None:
    """Each missing or useless setting is named with the setting that it contradicts."""
    with pytest.raises(SettingsError) as caught:
        load_settings(settings)
    assert [problem.partition(" with ")[0] for problem in caught.value.problems] == [
        {"has to": f"{name}: must be set", "must not be set": f"{name}: must not be set"}[what]
        for name, _, what in (problem.partition(": ") for problem in problems)
    ]
    assert "horse" not in str(caught.value)


def test_token_file_and_url_stop_the_start() -> None:
    """Both at once would be ambiguous."""
    both = BOTH | OAUTH | TOKEN | URL | CLIENT
    assert problems_of(**both) == [
        "KAFKA_SASL_TOKEN_FILE and KAFKA_SASL_TOKEN_URL are both set: set only one"
    ]


def test_token_url_on_loopback_needs_no_tls() -> None:
    """Nobody is between."""
    url = "http://localhost:8080/token"
    settings, _ = load_settings(BOTH | OAUTH | CLIENT | {"KAFKA_SASL_TOKEN_URL": url})
    assert settings.kafka_sasl_token_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com/token",
        "https://odin:horse@id.example.com/token",
        "https://",
        "https://id.example.com:99999/",
        "id.example.com/token",
        HERE,
    ],
)
def test_token_url_must_be_https_without_password(url: str) -> None:
    """The client secret would be sent unencrypted, or a password logged."""
    problem = problem_of(**(BOTH | OAUTH | CLIENT | {"KAFKA_SASL_TOKEN_URL": url}))
    allowed = "an https URL (http only to this machine), or nothing"
    assert problem == f"KAFKA_SASL_TOKEN_URL={url}: must be {allowed}"


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        (SASL | LOGIN, "KAFKA_SASL_MECHANISM=PLAIN: the password is sent unencrypted"),
        (
            SASL | OAUTH | TOKEN,
            "KAFKA_SASL_MECHANISM=OAUTHBEARER: the token is sent unencrypted",
        ),
    ],
)
def test_credentials_without_tls_are_one_warning(settings: dict[str, str], warning: str) -> None:
    """A password or token without TLS is accepted with one warning."""
    (reported,) = load_settings(settings)[0].security_warnings
    assert reported.endswith(warning)
