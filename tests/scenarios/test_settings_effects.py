"""Failing 26: settings were documented, parsed and never applied. Here each has a test.

A new setting needs a test that sees its effect, and a line in EFFECTS that names the test.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from odin_ws import assembly
from odin_ws.catalogue import Catalogue, default_catalogue
from odin_ws.cli.environment import read_catalogue
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.settings import declared_settings, load_settings
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.scenarios.container import Container
from tests.scenarios.ops import ops_request
from tests.scenarios.wire import RawClient, request

_HERE: Final = "tests/scenarios/test_settings_effects.py"
_BROKERS: Final = "tests/integration/test_settings_effects.py"
_HISTORY: Final = "tests/scenarios/test_history_settings.py"
_CONNECTIONS: Final = "tests/scenarios/test_failing_connections.py"
_DELIVERY: Final = "tests/scenarios/test_failing_delivery.py"
_DRAIN: Final = "tests/scenarios/test_drain.py"
_FLOODS: Final = "tests/scenarios/test_floods.py"
_FORWARDED: Final = "tests/scenarios/test_forwarded.py"
_PENDING: Final = "tests/scenarios/test_pending_handshakes.py"
_AUTH: Final = "tests/scenarios/auth"
_JWT: Final = "tests/auth/test_jwt_verifier.py"
_SECURITY: Final = "tests/integration/test_kafka_security.py"
_LOGGING: Final = "tests/integration/test_logging.py"

# The test that fails when a setting has no effect.
EFFECTS: Final = {
    "KAFKA_BROKERS": f"{_BROKERS}::test_kafka_brokers",
    "KAFKA_ASSIGNMENT": f"{_BROKERS}::test_kafka_assignment_and_consumer_group",
    "KAFKA_CONSUMER_GROUP": f"{_BROKERS}::test_kafka_assignment_and_consumer_group",
    "KAFKA_FETCH_MAX_WAIT_SECONDS": f"{_BROKERS}::test_kafka_fetch_max_wait",
    "KAFKA_PROBE_SECONDS": f"{_BROKERS}::test_kafka_probe_seconds",
    "KAFKA_DEAD_LETTER_TOPIC": (
        "tests/integration/test_dead_letters.py::test_invalid_record_is_written_to_the_dead_letter_topic"
    ),
    "KAFKA_SECURITY_PROTOCOL": f"{_SECURITY}::test_source_and_log_reader_authenticate",
    "KAFKA_SASL_MECHANISM": f"{_SECURITY}::test_source_and_log_reader_authenticate",
    "KAFKA_SASL_USERNAME": f"{_SECURITY}::test_source_and_log_reader_authenticate",
    "KAFKA_SASL_PASSWORD": f"{_SECURITY}::test_source_and_log_reader_authenticate",
    "KAFKA_SASL_TOKEN_FILE": f"{_SECURITY}::test_source_and_log_reader_authenticate",
    "KAFKA_SASL_TOKEN_URL": f"{_SECURITY}::test_rejected_token_is_fetched_again",
    "KAFKA_SASL_CLIENT_ID": f"{_SECURITY}::test_rejected_token_is_fetched_again",
    "KAFKA_SASL_CLIENT_SECRET": f"{_SECURITY}::test_rejected_token_is_fetched_again",
    "KAFKA_SASL_SCOPE": f"{_SECURITY}::test_rejected_token_is_fetched_again",
    "KAFKA_SSL_CAFILE": f"{_SECURITY}::test_source_and_log_reader_authenticate",
    "KAFKA_SSL_CERTFILE": f"{_SECURITY}::test_source_and_log_reader_authenticate",
    "KAFKA_SSL_KEYFILE": f"{_SECURITY}::test_source_and_log_reader_authenticate",
    "WS_ADDR": f"{_BROKERS}::test_addresses_are_served_and_logged",
    "WS_OPS_ADDR": f"{_BROKERS}::test_addresses_are_served_and_logged",
    "WS_CANARY_SECONDS": (
        "tests/scenarios/test_canary.py::test_canary_checks_service_at_start_and_each_interval"
    ),
    "WS_CATALOGUE": f"{_HERE}::test_catalogue_file_replaces_default_catalogue",
    "WS_MAX_CONNECTIONS": (
        f"{_CONNECTIONS}::test_failing_22_full_server_answers_503_before_the_upgrade"
    ),
    "WS_MAX_KAFKA_RATE": f"{_DELIVERY}::test_failing_08_max_kafka_rate_delays_and_drops_nothing",
    "WS_MAX_BROADCAST_RATE": (
        f"{_DELIVERY}::test_failing_08_max_broadcast_rate_delays_and_drops_nothing"
    ),
    "WS_MAX_RECORD_BYTES": f"{_HERE}::test_record_larger_than_max_record_bytes_is_skipped",
    "WS_MAX_SUBSCRIPTIONS": (
        f"{_CONNECTIONS}::test_failing_20_names_over_max_subscriptions_are_rejected"
    ),
    "WS_MAX_SUBSCRIPTION_BYTES": (
        "tests/scenarios/test_memory.py::test_patterns_beyond_max_subscription_bytes_are_rejected"
    ),
    "WS_RECORD_HEADERS": f"{_BROKERS}::test_record_headers",
    "WS_MAX_FILTERS": "tests/scenarios/test_filters.py::test_filters_are_limited",
    "WS_MAX_FILTERS_PER_CONNECTION": "tests/scenarios/test_filters.py::test_filters_are_limited",
    "WS_MAX_MESSAGE_BYTES": (
        f"{_CONNECTIONS}::test_failing_20_message_larger_than_limit_closes_1009"
    ),
    "WS_COMMAND_RATE": f"{_HERE}::test_commands_are_limited_to_burst_and_rate",
    "WS_COMMAND_BURST": f"{_HERE}::test_commands_are_limited_to_burst_and_rate",
    "WS_MAX_HEADER_BYTES": f"{_HERE}::test_head_larger_than_max_header_bytes_is_rejected",
    "WS_HANDSHAKE_TIMEOUT_SECONDS": f"{_HERE}::test_head_later_than_handshake_timeout_is_rejected",
    "WS_SEND_QUEUE_BYTES": (
        "tests/scenarios/test_slow_clients.py::test_pending_bytes_over_send_queue_limit_close"
    ),
    "WS_WRITE_TIMEOUT_SECONDS": (
        "tests/scenarios/test_slow_clients.py::test_bytes_pending_longer_than_write_timeout_close"
    ),
    "WS_CONFLATION_THRESHOLD_BYTES": (
        f"{_HISTORY}::test_messages_over_conflation_threshold_are_conflated"
    ),
    "WS_COMPRESSION": (
        "tests/scenarios/test_compression.py::test_compression_off_declines_the_offer"
    ),
    "WS_TLS_CERT": "tests/integration/test_tls.py::test_client_is_served_over_tls",
    "WS_TLS_KEY": "tests/integration/test_tls.py::test_client_is_served_over_tls",
    "WS_TLS_EXPIRY_WARNING_DAYS": (
        "tests/listener/test_certificate.py::test_warning_time_is_a_setting"
    ),
    "WS_TRUSTED_PROXIES": f"{_FORWARDED}::test_client_address_of_trusted_proxy_is_used",
    "WS_FORWARDED_HEADER": f"{_FORWARDED}::test_forwarded_header_is_a_setting",
    "WS_PROXY_PROTOCOL": f"{_FORWARDED}::test_client_address_of_proxy_header_is_used",
    "WS_MAX_CONNECTIONS_PER_IP": (
        f"{_FORWARDED}::test_connections_over_max_connections_per_ip_are_rejected"
    ),
    "WS_CONNECT_RATE": f"{_FORWARDED}::test_connections_over_connect_rate_are_rejected",
    "WS_CONNECT_RATE_PER_IP": (
        f"{_FORWARDED}::test_connections_over_connect_rate_per_ip_are_rejected"
    ),
    "WS_MAX_LOOP_DELAY_SECONDS": (
        "tests/scenarios/test_overload.py::test_sustained_loop_delay_rejects_connections"
    ),
    "WS_MAX_FRAGMENTS": f"{_FLOODS}::test_command_of_more_than_max_fragments_closes_1009",
    "WS_MESSAGE_TIMEOUT_SECONDS": f"{_FLOODS}::test_command_that_does_not_end_closes_1008",
    "WS_MAX_PENDING_HANDSHAKES": (
        f"{_PENDING}::test_oldest_pending_handshake_makes_room_for_new_one"
    ),
    "WS_AUTH": f"{_AUTH}/test_handshake.py::test_missing_token_is_rejected_with_401",
    "WS_JWT_SECRET": f"{_AUTH}/test_handshake.py::test_valid_token_is_accepted",
    "WS_JWT_PUBLIC_KEY": f"{_JWT}::test_public_key_file_verifies_tokens",
    "WS_JWKS": (
        f"{_AUTH}/test_token_metrics.py::test_number_of_keys_and_reads_of_key_set_are_counted"
    ),
    "WS_JWKS_INTERVAL_SECONDS": (
        f"{_AUTH}/test_token_metrics.py::test_number_of_keys_and_reads_of_key_set_are_counted"
    ),
    "WS_JWT_AUDIENCE": (
        f"{_AUTH}/test_handshake.py::test_wrong_or_missing_audience_or_issuer_is_rejected"
    ),
    "WS_JWT_ISSUER": (
        f"{_AUTH}/test_handshake.py::test_wrong_or_missing_audience_or_issuer_is_rejected"
    ),
    "WS_JWT_LEEWAY_SECONDS": f"{_AUTH}/test_handshake.py::test_jwt_leeway_is_a_setting",
    "WS_TOKEN_IN_QUERY": (
        f"{_AUTH}/test_handshake.py::test_token_in_query_is_accepted_with_ws_token_in_query"
    ),
    "WS_TOKEN_EXPIRY_NOTICE_SECONDS": (
        f"{_AUTH}/test_expiry.py::test_expiry_notice_time_is_a_setting"
    ),
    "WS_PRIVATE_CATEGORIES": f"{_AUTH}/test_grants.py::test_private_categories_are_a_setting",
    "WS_POLICY": f"{_JWT}::test_policy_file_is_applied",
    "WS_ALLOWED_ORIGINS": (
        f"{_AUTH}/test_handshake.py::test_origin_outside_allowed_origins_is_rejected"
    ),
    "WS_MAX_CONNECTIONS_PER_USER": (
        f"{_AUTH}/test_handshake.py::test_connections_over_max_connections_per_user_are_rejected"
    ),
    "WS_OPS_HOSTS": "tests/ops/test_request_checks.py::test_hosts_of_the_setting_are_accepted",
    "WS_OPS_TOKEN": "tests/ops/test_request_checks.py::test_the_token_opens_every_page",
    "WS_HISTORY_BYTES": f"{_HISTORY}::test_messages_beyond_history_bytes_are_replayed_from_log",
    "WS_HISTORY_SECONDS": (
        f"{_HISTORY}::test_messages_older_than_history_seconds_are_replayed_from_log"
    ),
    "WS_SNAPSHOT_BYTES": f"{_HISTORY}::test_snapshot_has_channels_within_snapshot_bytes",
    "WS_REPLAY_CONSUMERS": f"{_HERE}::test_settings_reach_the_log_reader",
    "WS_MAX_REPLAY_RECORDS": f"{_HISTORY}::test_replay_reads_at_most_max_replay_records",
    "WS_POSITIONS_INTERVAL_SECONDS": f"{_HISTORY}::test_positions_notices_are_sent_at_interval",
    "WS_PING_INTERVAL_SECONDS": (
        "tests/scenarios/test_liveness.py::test_ping_interval_and_pong_timeout_are_settings"
    ),
    "WS_PONG_TIMEOUT_SECONDS": (
        "tests/scenarios/test_liveness.py::test_ping_interval_and_pong_timeout_are_settings"
    ),
    "WS_WORKERS": "tests/integration/test_workers.py::test_ops_pages_cover_all_workers",
    "WS_DRAIN_DELAY_SECONDS": f"{_DRAIN}::test_clients_are_accepted_during_drain_delay_only",
    "WS_DRAIN_TIMEOUT_SECONDS": f"{_DRAIN}::test_drain_ends_within_timeout_if_client_does_not_read",
    "WS_CPU_LIMIT": f"{_HERE}::test_cpu_usage_is_relative_to_cpu_limit",
    "WS_MEMORY_LIMIT": f"{_HERE}::test_memory_over_memory_limit_rejects_connections",
    "LOG_LEVEL": f"{_LOGGING}::test_log_level",
    "LOG_FORMAT": f"{_LOGGING}::test_log_format",
}


def test_failing_26_every_setting_has_a_test_that_sees_its_effect() -> None:
    """EFFECTS has an entry for each setting, and no other."""
    assert EFFECTS.keys() == {setting.name for _, setting in declared_settings()}


@pytest.mark.parametrize("node", sorted(set(EFFECTS.values())))
def test_failing_26_tests_in_effects_exist(node: str, pytestconfig: pytest.Config) -> None:
    """Each entry names a test function of that file."""
    path, _, name = node.partition("::")
    module = ast.parse((pytestconfig.rootpath / path).read_text("utf-8"))
    assert name in {getattr(statement, "name", None) for statement in module.body}


@pytest.mark.parametrize("name", EFFECTS)
def test_failing_26_setting_sets_field_of_its_name(name: str) -> None:
    """The tests of effects set fields; an environment variable sets the field of the same name."""
    fields = {setting.name: field for field, setting in declared_settings()}
    assert fields[name] == name.lower()


# ---- effects in a scenario


@pytest.mark.odin_settings(ws_max_record_bytes=1024)
async def test_record_larger_than_max_record_bytes_is_skipped(odin_scenario: Scenario) -> None:
    """1,024 bytes are delivered, one more is not."""
    client = await odin_scenario.connect()
    await client.subscribe(channels=["*.*"])
    for size in (1025, 1024):
        odin_scenario.log.append("odin.trades", b"BTC", b'{"x":"'.ljust(size - 2, b"x") + b'"}')
    assert len((await client.message())["data"]["x"]) == 1024 - len('{"x":""}')
    assert await client.silence(5)


@pytest.mark.odin_settings(ws_command_rate=2, ws_command_burst=3)
async def test_commands_are_limited_to_burst_and_rate(odin_scenario: Scenario) -> None:
    """Three at once, then two a second."""
    client = await odin_scenario.connect()

    async def send_five() -> list[str]:
        return [(await client.command("heartbeat"))["type"] for _ in range(5)]

    assert await send_five() == ["pong"] * 3 + ["error"] * 2
    await trio.sleep(1)
    assert await send_five() == ["pong"] * 2 + ["error"] * 3
    await trio.sleep(60)
    assert await send_five() == ["pong"] * 3 + ["error"] * 2


@pytest.mark.odin_settings(ws_max_header_bytes=600)
async def test_head_larger_than_max_header_bytes_is_rejected(odin_scenario: Scenario) -> None:
    """600 bytes are accepted; 601 are answered 431."""
    room = 600 - len(request(headers={"X": ""}))
    for size, status in ((room, b"101"), (room + 1, b"431")):
        client = await RawClient.dial(odin_scenario, request(headers={"X": "x" * size}))
        assert (await client.head()).split()[1] == status


@pytest.mark.odin_settings(ws_handshake_timeout_seconds=2)
async def test_head_later_than_handshake_timeout_is_rejected(odin_scenario: Scenario) -> None:
    """The server answers 408 after 2 s."""
    started_at = trio.current_time()
    client = await RawClient.dial(odin_scenario, b"GET ")
    assert (await client.head()).split()[1] == b"408"
    assert trio.current_time() - started_at == pytest.approx(2)


@pytest.mark.odin_settings(ws_cpu_limit=4)
async def test_cpu_usage_is_relative_to_cpu_limit(
    container: Container, odin_scenario: Scenario
) -> None:
    """0.5 s of CPU in 1 s is an eighth of 4 cores, also in a container of 2 cores."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.resources.run)
        await trio.sleep(0.5)
        container.use(memory=0, cpu_seconds=0.5)
        await trio.sleep(0.6)
        checks = (await ops_request(odin_scenario, "/health")).json()["checks"]
        nursery.cancel_scope.cancel()
    assert checks["cpu"]["percentage"] == 12.5
    assert checks["limits"]["cpu_cores"] == 4


@pytest.mark.parametrize(("limit", "status"), [(1, b"503"), (1 << 50, b"101")])
async def test_memory_over_memory_limit_rejects_connections(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    limit: int,
    status: bytes,
) -> None:
    """Every process uses more than 1 byte, none a pebibyte."""
    settings, _ = load_settings({"WS_MEMORY_LIMIT": str(limit)})
    async with open_scenario(settings) as scenario:
        client = await RawClient.dial(scenario, request())
        assert (await client.head()).split()[1] == status


async def test_catalogue_file_replaces_default_catalogue(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    tmp_path: Path,
) -> None:
    """Other topics, categories and bundles replace Odin's."""
    path = tmp_path / "weather.toml"
    path.write_text(
        '[[topics]]\nname="weather.rain"\ncategory="rain"\nevents=["RAIN_BEGAN"]\n'
        '[bundles]\nWET=["rain"]\n'
    )
    settings, _ = load_settings({"WS_CATALOGUE": str(path)})
    async with open_scenario(settings, catalogue=read_catalogue(settings)) as scenario:
        client = await scenario.connect()
        ack = await client.subscribe(channels=["Bonn.WET", "BTC.trade"])
        assert ack["subscribed"] == ["Bonn.WET"]
        record = scenario.publish("Bonn", "rain")
        assert record.topic == "weather.rain"
        assert (await client.message())["channel"] == "Bonn.rain"


# ---- options of the source; tests/integration sees their effects


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"KAFKA_BROKERS": "a:1,b:2"}, {"security": KafkaSecurity(("a:1", "b:2"))}),
        ({"KAFKA_ASSIGNMENT": "all", "KAFKA_CONSUMER_GROUP": "mine"}, {"group": None}),
        ({"KAFKA_ASSIGNMENT": "group"}, {"group": "ws-server-group"}),
        ({"KAFKA_ASSIGNMENT": "group", "KAFKA_CONSUMER_GROUP": "mine"}, {"group": "mine"}),
        ({"KAFKA_FETCH_MAX_WAIT_SECONDS": "1.5"}, {"max_wait": 1.5}),
        ({"KAFKA_PROBE_SECONDS": "0.7"}, {"probe": 0.7}),
        ({"WS_MAX_KAFKA_RATE": "12"}, {"rate": 12}),
        ({"WS_MAX_BROADCAST_RATE": "4"}, {"slot": 0.25}),
        ({"WS_HISTORY_SECONDS": "30"}, {"history_seconds": 30}),
        ({"WS_HISTORY_BYTES": "2048000"}, {"history_records": 1000}),
        ({"WS_HISTORY_BYTES": "0"}, {"history_records": 0}),
    ],
    ids=str,
)
def test_kafka_settings_reach_the_source(
    environment: dict[str, str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each Kafka setting is among the options with which the source is created."""
    options, _ = options_of(environment, monkeypatch)
    assert {name: getattr(options, name) for name in expected} == expected


def test_settings_reach_the_log_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses the source's brokers, and WS_REPLAY_CONSUMERS consumers."""
    environment = {"KAFKA_BROKERS": "a:1", "WS_REPLAY_CONSUMERS": "7"}
    options, log_reader = options_of(environment, monkeypatch)
    assert log_reader == (options, 7)
    assert options.security.brokers == ("a:1",)


def options_of(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> tuple[KafkaOptions, tuple[KafkaOptions, int]]:
    """Return the options of the source, and the arguments of the log reader."""
    made: list[KafkaOptions] = []

    def source(_catalogue: Catalogue, options: KafkaOptions) -> None:
        made.append(options)

    monkeypatch.setattr(assembly, "KafkaSource", source)
    monkeypatch.setattr(assembly, "KafkaLogReader", lambda *given: given)
    settings, _ = load_settings(environment)
    upstream = assembly.kafka(settings, default_catalogue(), KafkaSecurity.from_settings(settings))
    (options,) = made
    log_reader: Any = upstream.log_reader
    return options, log_reader
