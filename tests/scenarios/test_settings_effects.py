"""Failing 26: settings were documented, parsed and never applied. Here each has an effect.

A new setting needs a test, and a line in EFFECTS that says which.
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
from tests.scenarios.ops import ask
from tests.scenarios.wire import RawClient, request

_HERE: Final = "tests/scenarios/test_settings_effects.py"
_REAL: Final = "tests/integration/test_settings_effects.py"
_PAST: Final = "tests/scenarios/test_settings_of_the_past.py"
_FLOODS: Final = "tests/scenarios/test_floods.py"
_ADDRESSES: Final = "tests/scenarios/test_forwarded.py"
_WAITING: Final = "tests/scenarios/test_waiting.py"
_AUTH: Final = "tests/scenarios/auth"
_AUTHORITY: Final = "tests/auth/test_jwt_verifier.py"
_SECURITY: Final = "tests/integration/test_kafka_security.py"
_LOGGING: Final = "tests/integration/test_logging.py"

# The test that fails when a setting has no effect.
EFFECTS: Final = {
    "KAFKA_BROKERS": f"{_REAL}::test_kafka_brokers",
    "KAFKA_ASSIGNMENT": f"{_REAL}::test_kafka_assignment_and_consumer_group",
    "KAFKA_CONSUMER_GROUP": f"{_REAL}::test_kafka_assignment_and_consumer_group",
    "KAFKA_FETCH_MAX_WAIT_SECONDS": f"{_REAL}::test_kafka_fetch_max_wait",
    "KAFKA_PROBE_SECONDS": f"{_REAL}::test_kafka_probe_seconds",
    "KAFKA_DEAD_LETTER_TOPIC": (
        "tests/integration/test_dead_letters.py::test_kafka_dead_letter_topic"
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
    "WS_ADDR": f"{_REAL}::test_the_addresses",
    "WS_OPS_ADDR": f"{_REAL}::test_the_addresses",
    "WS_CANARY_SECONDS": (
        "tests/scenarios/test_canary.py::test_the_canary_tries_the_service_from_its_start_on"
    ),
    "WS_CATALOGUE": f"{_HERE}::test_another_catalogue_is_served",
    "WS_MAX_CONNECTIONS": (
        "tests/scenarios/test_failing_connections.py"
        "::test_failing_22_a_full_server_answers_503_before_the_upgrade"
    ),
    "WS_MAX_KAFKA_RATE": (
        "tests/scenarios/test_failing_delivery.py"
        "::test_failing_08_the_kafka_rate_delays_and_drops_nothing"
    ),
    "WS_MAX_BROADCAST_RATE": (
        "tests/scenarios/test_failing_delivery.py"
        "::test_failing_08_the_broadcast_rate_delays_and_drops_nothing"
    ),
    "WS_MAX_RECORD_BYTES": f"{_HERE}::test_a_larger_record_is_passed_by",
    "WS_MAX_SUBSCRIPTIONS": (
        "tests/scenarios/test_failing_connections.py::test_failing_20_subscriptions_have_a_limit"
    ),
    "WS_MAX_SUBSCRIPTION_BYTES": (
        "tests/scenarios/test_memory.py::test_patterns_have_a_limit_of_bytes"
    ),
    "WS_RECORD_HEADERS": f"{_REAL}::test_record_headers",
    "WS_MAX_FILTERS": "tests/scenarios/test_where.py::test_filters_are_limited",
    "WS_MAX_FILTERS_PER_CONNECTION": "tests/scenarios/test_where.py::test_filters_are_limited",
    "WS_MAX_MESSAGE_BYTES": (
        "tests/scenarios/test_failing_connections.py::test_failing_20_a_frame_has_a_limit"
    ),
    "WS_COMMAND_RATE": f"{_HERE}::test_commands_are_limited_to_burst_and_rate",
    "WS_COMMAND_BURST": f"{_HERE}::test_commands_are_limited_to_burst_and_rate",
    "WS_MAX_HEADER_BYTES": f"{_HERE}::test_a_larger_head_is_rejected",
    "WS_HANDSHAKE_TIMEOUT_SECONDS": f"{_HERE}::test_a_slower_head_is_rejected",
    "WS_SEND_QUEUE_BYTES": (
        "tests/scenarios/test_slow.py::test_more_waiting_bytes_than_the_limit_close"
    ),
    "WS_WRITE_TIMEOUT_SECONDS": (
        "tests/scenarios/test_slow.py::test_bytes_that_wait_longer_than_the_grace_close"
    ),
    "WS_CONFLATION_THRESHOLD_BYTES": f"{_PAST}::test_messages_over_the_threshold_are_conflated",
    "WS_COMPRESSION": (
        "tests/scenarios/test_compression.py::test_compression_off_declines_the_offer"
    ),
    "WS_TLS_CERT": "tests/integration/test_tls.py::test_a_client_is_served_over_tls",
    "WS_TLS_KEY": "tests/integration/test_tls.py::test_a_client_is_served_over_tls",
    "WS_TLS_EXPIRY_WARNING_DAYS": ("tests/listener/test_tls.py::test_warning_time_is_a_setting"),
    "WS_TRUSTED_PROXIES": f"{_ADDRESSES}::test_a_trusted_proxy_is_believed",
    "WS_FORWARDED_HEADER": f"{_ADDRESSES}::test_forwarded_header_is_a_setting",
    "WS_PROXY_PROTOCOL": f"{_ADDRESSES}::test_a_proxy_header_says_who_it_is",
    "WS_MAX_CONNECTIONS_PER_IP": f"{_ADDRESSES}::test_connections_of_an_address_are_limited",
    "WS_CONNECT_RATE": f"{_ADDRESSES}::test_connections_a_second_are_limited",
    "WS_CONNECT_RATE_PER_IP": f"{_ADDRESSES}::test_connections_a_second_of_an_address_are_limited",
    "WS_MAX_LOOP_DELAY_SECONDS": (
        "tests/scenarios/test_overload.py::test_a_loop_that_stays_behind_keeps_callers_out"
    ),
    "WS_MAX_FRAGMENTS": f"{_FLOODS}::test_a_command_has_a_limit_of_frames",
    "WS_MESSAGE_TIMEOUT_SECONDS": f"{_FLOODS}::test_a_command_that_does_not_end_closes",
    "WS_MAX_PENDING_HANDSHAKES": f"{_WAITING}::test_who_has_waited_longest_makes_room",
    "WS_AUTH": f"{_AUTH}/test_coming_in.py::test_without_a_token_nobody_gets_in",
    "WS_JWT_SECRET": f"{_AUTH}/test_coming_in.py::test_a_good_token_lets_in",
    "WS_JWT_PUBLIC_KEY": f"{_AUTHORITY}::test_public_key_file_verifies_tokens",
    "WS_JWKS": f"{_AUTH}/test_token_metrics.py::test_keys_are_counted_as_they_change",
    "WS_JWKS_INTERVAL_SECONDS": (
        f"{_AUTH}/test_token_metrics.py::test_keys_are_counted_as_they_change"
    ),
    "WS_JWT_AUDIENCE": f"{_AUTH}/test_coming_in.py::test_audience_and_issuer_have_to_be_right",
    "WS_JWT_ISSUER": f"{_AUTH}/test_coming_in.py::test_audience_and_issuer_have_to_be_right",
    "WS_JWT_LEEWAY_SECONDS": f"{_AUTH}/test_coming_in.py::test_leeway_is_a_setting",
    "WS_TOKEN_IN_QUERY": (
        f"{_AUTH}/test_coming_in.py::test_a_token_in_the_query_is_taken_where_that_is_set"
    ),
    "WS_TOKEN_EXPIRY_NOTICE_SECONDS": f"{_AUTH}/test_expiry.py::test_the_notice_is_a_setting",
    "WS_PRIVATE_CATEGORIES": f"{_AUTH}/test_grants.py::test_private_categories_are_a_setting",
    "WS_POLICY": f"{_AUTHORITY}::test_policy_file_is_applied",
    "WS_ALLOWED_ORIGINS": f"{_AUTH}/test_coming_in.py::test_only_listed_pages_may_connect",
    "WS_MAX_CONNECTIONS_PER_USER": (
        f"{_AUTH}/test_coming_in.py::test_a_user_has_so_many_connections"
    ),
    "WS_OPS_HOSTS": "tests/ops/test_request_checks.py::test_hosts_of_the_setting_are_answered",
    "WS_OPS_TOKEN": "tests/ops/test_request_checks.py::test_the_token_opens_every_page",
    "WS_HISTORY_BYTES": f"{_PAST}::test_what_does_not_fit_into_the_tail_comes_from_the_log",
    "WS_HISTORY_SECONDS": f"{_PAST}::test_what_is_too_old_for_the_tail_comes_from_the_log",
    "WS_SNAPSHOT_BYTES": f"{_PAST}::test_a_snapshot_holds_what_there_is_memory_for",
    "WS_REPLAY_CONSUMERS": f"{_HERE}::test_settings_reach_the_archive",
    "WS_MAX_REPLAY_RECORDS": f"{_PAST}::test_one_replay_reads_so_many_records_of_the_log",
    "WS_POSITIONS_INTERVAL_SECONDS": f"{_PAST}::test_positions_are_told_at_an_interval",
    "WS_PING_INTERVAL_SECONDS": (
        "tests/scenarios/test_liveness.py::test_the_interval_and_the_timeout_are_settings"
    ),
    "WS_PONG_TIMEOUT_SECONDS": (
        "tests/scenarios/test_liveness.py::test_the_interval_and_the_timeout_are_settings"
    ),
    "WS_WORKERS": "tests/integration/test_workers.py::test_the_pages_are_those_of_all_workers",
    "WS_DRAIN_DELAY_SECONDS": (
        "tests/scenarios/test_drain.py::test_for_the_delay_clients_are_let_in_and_then_nobody"
    ),
    "WS_DRAIN_TIMEOUT_SECONDS": (
        "tests/scenarios/test_drain.py::test_who_does_not_read_is_cut_off_in_time"
    ),
    "WS_CPU_LIMIT": f"{_HERE}::test_cpu_is_measured_by_the_limit",
    "WS_MEMORY_LIMIT": f"{_HERE}::test_memory_over_the_limit_keeps_callers_out",
    "LOG_LEVEL": f"{_LOGGING}::test_log_level",
    "LOG_FORMAT": f"{_LOGGING}::test_log_format",
}


def test_failing_26_every_setting_has_a_test_that_sees_its_effect() -> None:
    """No setting without an entry, and no entry without a setting."""
    assert EFFECTS.keys() == {setting.name for _, setting in declared_settings()}


@pytest.mark.parametrize("node", sorted(set(EFFECTS.values())))
def test_failing_26_the_tests_named_exist(node: str, pytestconfig: pytest.Config) -> None:
    """Each entry names a test function of that file."""
    path, _, name = node.partition("::")
    module = ast.parse((pytestconfig.rootpath / path).read_text("utf-8"))
    assert name in {getattr(statement, "name", None) for statement in module.body}


@pytest.mark.parametrize("name", EFFECTS)
def test_failing_26_a_setting_sets_the_field_of_its_name(name: str) -> None:
    """The tests of effects give fields; an environment variable sets the one named like it."""
    fields = {setting.name: field for field, setting in declared_settings()}
    assert fields[name] == name.lower()


# ---- what a scenario shows


@pytest.mark.odin_settings(ws_max_record_bytes=1024)
async def test_a_larger_record_is_passed_by(odin_scenario: Scenario) -> None:
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

    async def ask_five() -> list[str]:
        return [(await client.command("heartbeat"))["type"] for _ in range(5)]

    assert await ask_five() == ["pong"] * 3 + ["error"] * 2
    await trio.sleep(1)
    assert await ask_five() == ["pong"] * 2 + ["error"] * 3
    await trio.sleep(60)
    assert await ask_five() == ["pong"] * 3 + ["error"] * 2


@pytest.mark.odin_settings(ws_max_header_bytes=600)
async def test_a_larger_head_is_rejected(odin_scenario: Scenario) -> None:
    """600 bytes are accepted, one more is answered 431."""
    room = 600 - len(request(headers={"X": ""}))
    for size, status in ((room, b"101"), (room + 1, b"431")):
        client = await RawClient.dial(odin_scenario, request(headers={"X": "x" * size}))
        assert (await client.head()).split()[1] == status


@pytest.mark.odin_settings(ws_handshake_timeout_seconds=2)
async def test_a_slower_head_is_rejected(odin_scenario: Scenario) -> None:
    """The answer 408 comes after 2 seconds."""
    started_at = trio.current_time()
    client = await RawClient.dial(odin_scenario, b"GET ")
    assert (await client.head()).split()[1] == b"408"
    assert trio.current_time() - started_at == pytest.approx(2)


@pytest.mark.odin_settings(ws_cpu_limit=4)
async def test_cpu_is_measured_by_the_limit(container: Container, odin_scenario: Scenario) -> None:
    """Half a second of CPU in a second is an eighth of 4 cores, in a container of 2 as well."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odin_scenario.service.resources.run)
        await trio.sleep(0.5)
        container.use(memory=0, cpu_seconds=0.5)
        await trio.sleep(0.6)
        checks = (await ask(odin_scenario, "/health")).json()["checks"]
        nursery.cancel_scope.cancel()
    assert checks["cpu"]["percentage"] == 12.5
    assert checks["limits"]["cpu_cores"] == 4


@pytest.mark.parametrize(("limit", "status"), [(1, b"503"), (1 << 50, b"101")])
async def test_memory_over_the_limit_keeps_callers_out(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    limit: int,
    status: bytes,
) -> None:
    """Any process has more than one byte, none has a pebibyte."""
    settings, _ = load_settings({"WS_MEMORY_LIMIT": str(limit)})
    async with open_scenario(settings) as scenario:
        client = await RawClient.dial(scenario, request())
        assert (await client.head()).split()[1] == status


async def test_another_catalogue_is_served(
    autojump_clock: MockClock,  # noqa: ARG001 -- virtual time
    tmp_path: Path,
) -> None:
    """Other topics, categories and bundles take the place of Odin's."""
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


# ---- what the source gets; what it makes of that is seen in tests/integration


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
    """Each setting that is for Kafka is among the options of the source that is made."""
    options, _ = made_of(environment, monkeypatch)
    assert {name: getattr(options, name) for name in expected} == expected


def test_settings_reach_the_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks the same Kafka as the source reads, with as many readers as there may be."""
    environment = {"KAFKA_BROKERS": "a:1", "WS_REPLAY_CONSUMERS": "7"}
    options, log_reader = made_of(environment, monkeypatch)
    assert log_reader == (options, 7)
    assert options.security.brokers == ("a:1",)


def made_of(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> tuple[KafkaOptions, tuple[KafkaOptions, int]]:
    """What the source, and what the archive is made of."""
    made: list[KafkaOptions] = []

    def source(_catalogue: Catalogue, options: KafkaOptions) -> None:
        made.append(options)

    monkeypatch.setattr(assembly, "KafkaSource", source)
    monkeypatch.setattr(assembly, "KafkaLogReader", lambda *given: given)
    settings, _ = load_settings(environment)
    upstream = assembly.kafka(settings, default_catalogue(), KafkaSecurity.of(settings))
    (options,) = made
    log_reader: Any = upstream.log_reader
    return options, log_reader
