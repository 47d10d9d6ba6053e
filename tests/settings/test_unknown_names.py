"""Names of settings: what is meant for us and misspelt stops the start, others' are left alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.settings import Settings, SettingsError, declared_settings, load_settings
from odin_ws.settings.former_names import FORMER_NAMES
from odin_ws.settings.unknown_names import NEIGHBOURS
from tests.settings.problems import problem_of, problems_of

SETTINGS = {setting.name: (field, setting) for field, setting in declared_settings()}


def near_misses(name: str) -> Iterator[str]:
    """A name with one letter left out, doubled or replaced, or two letters swapped."""
    # A short name with another prefix is anybody's; see the test of names that are not ours.
    short = name.startswith("LOG_") or name in {"WS_ADDR", "WS_AUTH", "WS_JWKS"}
    start = name.index("_") + 1 if short else 0
    for at in range(start, len(name)):
        yield name[:at] + name[at + 1 :]
        yield name[:at] + name[at] + name[at:]
        yield name[:at] + "Q" + name[at + 1 :]
        yield name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :]


FILE_NAMES = {setting.file_name for _, setting in SETTINGS.values() if setting.file_name}


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() | FILE_NAMES))
def test_failing_26_a_misspelt_name_stops_the_start(name: str) -> None:
    """Any slip in any name, also that of a secret's file, is told with the name that is meant."""
    missed = sorted(set(near_misses(name)) - SETTINGS.keys() - FILE_NAMES)
    problems = problems_of(**dict.fromkeys(missed, "1"))
    assert problems == [f"{miss}: no such setting; {name} is meant" for miss in missed]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KAFKA_GROUP_ID", "KAFKA_CONSUMER_GROUP"),
        ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BROKERS"),
        ("KAFKA_BROKER_LIST", "KAFKA_BROKERS"),
        ("KAFKA_BROKER", "KAFKA_BROKERS"),
        ("WS_KAFKA_BROKERS", "KAFKA_BROKERS"),
        ("WS_LOG_LEVEL", "LOG_LEVEL"),
        ("WS_LOG_FORMAT", "LOG_FORMAT"),
        ("WS_MAX_CONECTIONS", "WS_MAX_CONNECTIONS"),
        ("WS_ADR", "WS_ADDR"),
        ("KAKFA_BROKERS", "KAFKA_BROKERS"),
        ("ws_max_connections", "WS_MAX_CONNECTIONS"),
    ],
)
def test_failing_26_a_known_confusion_stops_the_start(name: str, meant: str) -> None:
    """What a deployment set in vain for the earlier server is told, whatever its value."""
    assert problem_of(**{name: "x"}) == f"{name}: no such setting; {meant} is meant"
    assert problem_of(**{name: ""}) == f"{name}: no such setting; {meant} is meant"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WS_TLS_CERTIFICATE_PATH", "WS_TLS_CERT"),
        ("WS_SSL_CERT", "WS_TLS_CERT"),
        ("WS_KEY", "WS_TLS_KEY"),
        ("WS_CORS_ALLOWED", "WS_ALLOWED_ORIGINS"),
        ("WS_AUTH_ENABLED", "WS_AUTH"),
        ("WS_AUHT", "WS_AUTH"),
        ("WS_AUTHORIZATION", "WS_AUTH"),
        ("WS_API_TOKEN", "WS_OPS_TOKEN"),
        ("WS_JWT_ISS", "WS_JWT_ISSUER"),
        ("WS_JWT_ALGORITHMS", "WS_JWT_SECRET"),
        ("WS_JWKS_URL", "WS_JWKS"),
        ("WS_REAL_IP_PROXY", "WS_TRUSTED_PROXIES"),
        ("WS_TRUSTED_PROXY_CIDRS", "WS_TRUSTED_PROXIES"),
        ("KAFKA_SASL_JAAS_CONFIG", "KAFKA_SASL_PASSWORD"),
        ("KAFKA_SASL_ENABLED_MECHANISMS", "KAFKA_SASL_MECHANISM"),
        ("KAFKA_SSL_CA_LOCATION", "KAFKA_SSL_CAFILE"),
        ("KAFKA_TLS_ENABLED", "KAFKA_SSL_CAFILE"),
        ("KAFKA_SSL_KEYSTORE_LOCATION", "KAFKA_SSL_KEYFILE"),
        ("KAFKA_PASSWORD", "KAFKA_SASL_PASSWORD"),
        ("ws_ssl_cert", "WS_TLS_CERT"),
    ],
)
def test_unknown_name_about_security_stops_the_start(name: str, meant: str) -> None:
    """The server would start open otherwise; the line names what is meant, or what there is."""
    assert re.match(rf"{name}: no such setting; .*\b{meant}\b", problem_of(**{name: "x"}))


WORDS = ["TLS", "SSL", "CERT", "KEY", "AUTH", "TOKEN", "JWT", "JWKS", "ORIGIN", "SASL", "PROXY"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("prefix", ["WS", "KAFKA"])
def test_every_word_of_security_stops_the_start(prefix: str, word: str) -> None:
    """Wherever the word stands in a name under our prefixes."""
    for name in (f"{prefix}_{word}_QUUX", f"{prefix}_QUUX_{word}", f"{prefix}_MY{word}S_QUUX"):
        problem = problem_of(**{name: "x"})
        assert problem.startswith(f"{name}: no such setting; ")
        assert any(known in problem for known in SETTINGS)


@pytest.mark.parametrize(
    "name", sorted(SETTINGS.keys() - {n.removesuffix("_FILE") for n in FILE_NAMES})
)
def test_file_of_a_setting_that_is_no_secret_stops_the_start(name: str) -> None:
    """WS_TLS_CERT_FILE is WS_TLS_CERT, and would be ignored."""
    assert problem_of(**{f"{name}_FILE": "/etc/x"}) == (
        f"{name}_FILE: no such setting; {name} is meant: only secrets have a name with _FILE"
    )


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("WS_PORT", "8080", "WS_ADDR is meant"),
        ("WS_PORT", ":8080", "WS_ADDR is meant"),
        ("WS_HOST", "0.0.0.0", "WS_ADDR is meant"),  # noqa: S104 -- a value
        ("WS_PATH", "/socket", "subscribers connect at the path /ws, which cannot be set"),
        ("WS_METRICS_PORT", "9090", "WS_OPS_ADDR is meant"),
        ("WS_MAX_CLIENTS", "5", "WS_MAX_CONNECTIONS is meant"),
        ("WS_HEARTBEAT_INTERVAL", "5", "WS_PING_INTERVAL_SECONDS is meant"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092", "KAFKA_BROKERS is meant"),
        ("KAFKA_HOST", "kafka", "KAFKA_BROKERS is meant"),
        ("KAFKA_PORT", "9092", "KAFKA_BROKERS is meant"),
        ("KAFKA_TOPICS", "a,b", "WS_CATALOGUE is meant"),
        ("KAFKA_USERNAME", "odin", "KAFKA_SASL_USERNAME is meant"),
    ],
)
def test_neighbours_name_for_a_setting_is_told(name: str, value: str, told: str) -> None:
    """What other servers call it stops the start with what it is called here."""
    assert problem_of(**{name: value}) == f"{name}: no such setting; {told}"


def test_neighbours_names_lead_to_settings_and_are_none() -> None:
    """The table follows the settings."""
    assert set(NEIGHBOURS.values()) <= SETTINGS.keys()
    assert not NEIGHBOURS.keys() & (SETTINGS.keys() | FILE_NAMES)


SERVICES = (
    "ws",
    "kafka",
    "ws-auth",
    "ws-tls",
    "ws-jwt-secret",
    "ws-auht",
    "kafka-ssl",
    "kafka-key",
)


@pytest.mark.parametrize(
    "service", [*SERVICES, "ws-origins-proxy", "kafka-rest-proxy", "kafka-broker"]
)
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_kubernetes_service_link_never_stops_the_start(service: str, protocol: str) -> None:
    """Whatever words its service has in its name: a cluster sets it for every pod beside it."""
    name = service.replace("-", "_").upper()
    url = f"{protocol}://10.0.0.1:443"
    port = f"{name}_PORT_443_{protocol.upper()}"
    links = {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": "443",
        f"{name}_SERVICE_PORT_HTTPS_AUTH": "443",
        f"{name}_PORT": url,
        port: url,
        f"{port}_PROTO": protocol,
        f"{port}_PORT": "443",
        f"{port}_ADDR": "10.0.0.1",
    }
    assert load_settings(links) == (Settings(), sorted(links))


@pytest.mark.parametrize(
    "name",
    [
        # Kubernetes' links to services called `ws` and `kafka`
        "WS_SERVICE_HOST",
        "WS_SERVICE_PORT",
        "WS_SERVICE_PORT_HTTP",
        "WS_PORT",
        "WS_PORT_3002_TCP_ADDR",
        "KAFKA_SERVICE_HOST",
        "KAFKA_BROKERS_SERVICE_HOST",
        "KAFKA_PORT",
        "KAFKA_PORT_9092_TCP_PROTO",
        # Kafka's images
        "KAFKA_BROKER_ID",
        "KAFKA_LISTENERS",
        "KAFKA_ADVERTISED_LISTENERS",
        "KAFKA_HEAP_OPTS",
        "KAFKA_VERSION",
        # settings of the earlier server that there is nothing to do for
        "WS_MAX_GOROUTINES",
        "WS_ADDRESS_OF_NOBODY",
    ],
)
def test_other_names_under_our_prefixes_are_only_reported(name: str) -> None:
    """Others set them, so they do not stop the start; but an operator sees them."""
    assert load_settings({name: "x"}) == (Settings(), [name])


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "LOGLEVEL", "LOG_DIR", "LOG_LEVELS_OF_OTHERS", "LOGNAME", "PORT", "ADDR", ""],
)
def test_names_that_are_not_ours_are_nothing_to_us(name: str) -> None:
    """Other programs' variables are neither reported nor taken for ours."""
    assert load_settings({name: "x"}) == (Settings(), [])


@given(st.dictionaries(st.text(st.characters(min_codepoint=65, max_codepoint=95)), st.text()))
def test_any_environment_is_read_or_told_what_is_wrong(environ: dict[str, str]) -> None:
    """No variable brings anything but settings or a SettingsError."""
    problems = [""]
    try:
        settings, _ = load_settings(environ)
    except SettingsError as error:
        problems = error.problems
    else:
        assert isinstance(settings, Settings)
    assert problems


def test_all_problems_are_told_at_once() -> None:
    """One start is enough to see every mistake: bad values in order, then bad names."""
    problems = problems_of(
        WS_MAX_CONNECTIONS="0",
        KAFKA_BROKERS="kafka",
        KAFKA_GROUP_ID="x",
        WS_MAX_CONECTIONS="5",
        WS_SOMETHING_ELSE="1",
        WS_COMMAND_BURST="10",
    )
    assert [re.split(r"[:=]", problem)[0] for problem in problems] == [
        "KAFKA_BROKERS",
        "WS_MAX_CONNECTIONS",
        "KAFKA_GROUP_ID",
        "WS_MAX_CONECTIONS",
    ]


def test_several_unknown_names_are_reported_in_order() -> None:
    """One warning can list them."""
    environ = {"WS_ZEBRA": "", "KAFKA_ZEBRA": "1", "WS_ANT": "2"}
    _, unknown = load_settings(environ)
    assert unknown == ["KAFKA_ZEBRA", "WS_ANT", "WS_ZEBRA"]


def test_no_setting_is_a_near_miss_of_another() -> None:
    """All of them can be set at once, as an example of each setting does."""
    environ = {name: setting.default for name, (_, setting) in SETTINGS.items()}
    assert load_settings(environ) == (Settings(), [])


@pytest.mark.parametrize(("former", "now"), FORMER_NAMES.items())
def test_a_former_name_stops_the_start_with_the_present_one(former: str, now: str) -> None:
    """Nothing reads the former name, so who still sets it must hear of it."""
    assert now in SETTINGS
    assert former not in SETTINGS
    assert problem_of(**{former: "1"}) == f"{former}: no such setting; it is called {now} now"
