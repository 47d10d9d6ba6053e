"""A secret comes from its variable or from a file, and is never printed."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from odin_ws.settings import Secret, Settings, declared_settings, load_settings
from odin_ws.settings.secrets import MAX_SECRET_BYTES
from tests.settings.problems import problem_of

SECRETS = {setting.name: field for field, setting in declared_settings() if setting.file_name}

# What makes sense beside a secret.
BESIDE = {
    "KAFKA_SASL_PASSWORD": {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "odin"},
    "KAFKA_SASL_CLIENT_SECRET": {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "KAFKA_SASL_TOKEN_URL": "https://id.example.com/token",
        "KAFKA_SASL_CLIENT_ID": "odin",
    },
    "WS_JWT_SECRET": {"WS_AUTH": "jwt"},
}

# What must never be seen anywhere.
VALUE = "correct horse"


@pytest.fixture(params=SECRETS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each secret."""
    return str(request.param)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A path for a secret's file."""
    return tmp_path / "secret"


def secret_of(name: str, environ: dict[str, str]) -> Secret:
    """Return a secret's value in this environment."""
    settings, unknown = load_settings(BESIDE.get(name, {}) | environ)
    assert unknown == []
    value = getattr(settings, SECRETS[name])
    assert isinstance(value, Secret)
    return value


def test_secret_prints_as_stars() -> None:
    """Text, representation and formats do not contain the value."""
    secret = Secret(VALUE)
    assert {str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{[secret]}"} == {
        "***",
        "[***]",
    }
    assert secret.reveal() == VALUE


def test_secrets_compare_by_value() -> None:
    """Two settings of one environment are equal."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_settings_print_no_secret(name: str) -> None:
    """Logging all settings, also as a dict, prints no secret."""
    settings, _ = load_settings(BESIDE.get(name, {}) | {name: VALUE})
    assert VALUE not in repr(settings)
    assert VALUE not in repr(attrs.asdict(settings))


@pytest.mark.parametrize("text", [VALUE, f"{VALUE}\n", f"{VALUE}\r\n"])
def test_secret_is_read_from_variable_or_file(name: str, text: str, file: Path) -> None:
    """Both are read without the line end that an editor appends."""
    file.write_text(text, encoding="utf-8", newline="")
    assert secret_of(name, {name: text}).reveal() == VALUE
    assert secret_of(name, {f"{name}_FILE": f" {file} "}).reveal() == VALUE


def test_spaces_of_a_secret_are_kept(name: str, file: Path) -> None:
    """Only the secret's author knows whether they are intended."""
    file.write_text(f" {VALUE}\t\n\n", encoding="utf-8")
    assert secret_of(name, {name: f" {VALUE}\t\n"}).reveal() == f" {VALUE}\t"
    assert secret_of(name, {f"{name}_FILE": str(file)}).reveal() == f" {VALUE}\t"


def test_empty_file_variable_counts_as_unset(name: str) -> None:
    """Compose files and charts set variables without a value."""
    assert load_settings({f"{name}_FILE": " "}) == (Settings(), [])
    assert secret_of(name, {name: VALUE, f"{name}_FILE": ""}).reveal() == VALUE
    assert getattr(Settings(), SECRETS[name]) is None


def test_secret_in_variable_and_file_stops_the_start(name: str, file: Path) -> None:
    """The line has both names and not the value."""
    problem = problem_of(**{name: VALUE, f"{name}_FILE": str(file)})
    assert problem == f"{name} and {name}_FILE are both set: set only one"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \t\r\n", "is empty"),
        (b"\xff" + VALUE.encode(), "is not UTF-8"),
        (
            b"x" * (MAX_SECRET_BYTES + 1),
            f"is larger than a secret may be ({MAX_SECRET_BYTES} bytes)",
        ),
    ],
    ids=["empty", "blank", "latin", "large"],
)
def test_invalid_secret_file_stops_the_start(
    name: str, content: bytes, problem: str, file: Path
) -> None:
    """The line names the variable and the file and has nothing of its content."""
    file.write_bytes(content)
    assert problem_of(**{f"{name}_FILE": str(file)}) == f"{name}_FILE={file}: the file {problem}"


def test_unreadable_secret_file_stops_the_start(name: str, tmp_path: Path) -> None:
    """A missing file or a directory is reported with the system's reason."""
    missing = tmp_path / "missing"
    assert problem_of(**{f"{name}_FILE": str(missing)}) == (
        f"{name}_FILE={missing}: the file cannot be read: No such file or directory"
    )
    assert problem_of(**{f"{name}_FILE": str(tmp_path)}) == (
        f"{name}_FILE={tmp_path}: the file cannot be read: Is a directory"
    )


def test_secret_of_maximum_size_is_accepted(name: str, file: Path) -> None:
    """The limit is inclusive."""
    file.write_bytes(b"x" * MAX_SECRET_BYTES)
    assert len(secret_of(name, {f"{name}_FILE": str(file)}).reveal()) == MAX_SECRET_BYTES
