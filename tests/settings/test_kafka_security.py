"""What makes no sense about Kafka's security stops the start, with a line for each setting."""

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
def test_what_makes_sense_is_taken_without_a_warning(settings: dict[str, str]) -> None:
    """Certificates and users in any combination, where nothing is sent in the clear."""
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
                "KAFKA_SASL_USERNAME: is of no use",
            ],
        ),
        (
            BOTH | OAUTH | URL | SCOPE,
            ["KAFKA_SASL_CLIENT_ID: has to", "KAFKA_SASL_CLIENT_SECRET: has to"],
        ),
        (
            BOTH | OAUTH | TOKEN | CLIENT | SCOPE,
            [
                "KAFKA_SASL_CLIENT_ID: is of no use",
                "KAFKA_SASL_CLIENT_SECRET: is of no use",
                "KAFKA_SASL_SCOPE: is of no use",
            ],
        ),
        (
            BOTH | LOGIN | URL | CLIENT,
            [
                "KAFKA_SASL_TOKEN_URL: is of no use",
                "KAFKA_SASL_CLIENT_ID: is of no use",
                "KAFKA_SASL_CLIENT_SECRET: is of no use",
            ],
        ),
        (SSL | SCOPE, ["KAFKA_SASL_SCOPE: is of no use"]),
        (BOTH | LOGIN | TOKEN, ["KAFKA_SASL_TOKEN_FILE: is of no use"]),
        (
            BOTH | OAUTH | TOKEN | LOGIN,
            ["KAFKA_SASL_USERNAME: is of no use", "KAFKA_SASL_PASSWORD: is of no use"],
        ),
        (LOGIN, ["KAFKA_SASL_USERNAME: is of no use", "KAFKA_SASL_PASSWORD: is of no use"]),
        (SSL | TOKEN, ["KAFKA_SASL_TOKEN_FILE: is of no use"]),
        (PLAINTEXT | CA, ["KAFKA_SSL_CAFILE: is of no use"]),
        (
            SASL | LOGIN | IDENTITY,
            ["KAFKA_SSL_CERTFILE: is of no use", "KAFKA_SSL_KEYFILE: is of no use"],
        ),
        (SSL | {"KAFKA_SSL_CERTFILE": HERE}, ["KAFKA_SSL_KEYFILE: has to"]),
        (SSL | {"KAFKA_SSL_KEYFILE": HERE}, ["KAFKA_SSL_CERTFILE: has to"]),
        (
            BOTH | {"KAFKA_SSL_KEYFILE": HERE} | {"KAFKA_SASL_USERNAME": "odin"},
            ["KAFKA_SASL_PASSWORD: has to", "KAFKA_SSL_CERTFILE: has to"],
        ),
    ],
)
def test_what_makes_no_sense_is_told(settings: dict[str, str], problems: list[str]) -> None:
    """Each setting that is missing or has no effect, with the one that makes it so."""
    with pytest.raises(SettingsError) as caught:
        load_settings(settings)
    assert [one.partition(" with ")[0] for one in caught.value.problems] == [
        {"has to": f"{name}: has to be set", "is of no use": f"{name}: is of no use"}[what]
        for name, _, what in (problem.partition(": ") for problem in problems)
    ]
    assert "horse" not in str(caught.value)


def test_a_token_comes_from_one_place() -> None:
    """Of a file and a URL nobody knows which is meant."""
    both = BOTH | OAUTH | TOKEN | URL | CLIENT
    assert problems_of(**both) == [
        "KAFKA_SASL_TOKEN_FILE and KAFKA_SASL_TOKEN_URL are both set: one of them is too many"
    ]


def test_a_token_may_be_fetched_from_this_machine_without_tls() -> None:
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
def test_a_token_is_fetched_over_tls(url: str) -> None:
    """The secret would be anybody's; and a URL with a password in it would be shown."""
    problem = problem_of(**(BOTH | OAUTH | CLIENT | {"KAFKA_SASL_TOKEN_URL": url}))
    allowed = "a https URL (http only to this machine), or nothing"
    assert problem == f"KAFKA_SASL_TOKEN_URL={url}: allowed is {allowed}"


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        (SASL | LOGIN, "KAFKA_SASL_MECHANISM=PLAIN: the password is sent in the clear"),
        (
            SASL | OAUTH | TOKEN,
            "KAFKA_SASL_MECHANISM=OAUTHBEARER: the token is sent in the clear",
        ),
    ],
)
def test_what_others_can_read_is_warned_of(settings: dict[str, str], warning: str) -> None:
    """A password or a token without TLS is allowed, with one warning."""
    (told,) = load_settings(settings)[0].security_warnings
    assert told.endswith(warning)
