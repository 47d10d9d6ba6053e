"""Every setting: its name, unit, default and range; read from environment variables."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from odin_ws.address import Address

__all__ = ["Setting", "Settings", "SettingsError", "declared_settings", "load_settings"]

T = TypeVar("T")


class SettingsError(ValueError):
    """Settings that cannot be used; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@attrs.frozen
class Setting:
    """One setting as `odin-ws config` and docs/settings.md show it. `allowed` says it in words."""

    name: str
    default: str
    unit: str
    help: str
    allowed: str
    parse: Callable[[str], Any]


def _setting(
    name: str, default: str, kind: tuple[Callable[[str], T], str], unit: str, help_: str
) -> T:
    parse, allowed = kind
    setting = Setting(name, default, unit, help_, allowed, parse)
    field: T = attrs.field(default=parse(default), kw_only=True, metadata={Setting: setting})
    return field


# ---- kinds of values: how a text is read, and what is allowed in words


def _integer(low: int, high: float = math.inf) -> tuple[Callable[[str], int], str]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse, f"an integer, {_range(low, high)}"


def _number(low: float, high: float = math.inf) -> tuple[Callable[[str], float], str]:
    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value <= high and math.isfinite(value)):
            raise ValueError
        return value

    return parse, f"a number, {_range(low, high)}"


def _range(low: float, high: float) -> str:
    # Ten digits: limits are never rounded, 16777216 stays 16777216.
    return f"{low:.10g} or more" if high == math.inf else f"{low:.10g} to {high:.10g}"


def _choice(*words: str) -> tuple[Callable[[str], str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError
        return text.lower()

    return parse, "one of " + ", ".join(words)


# A name, an IPv4 address, or an IPv6 address in brackets: no list, and no URL.
_HOST: Final = re.compile(r"\[[^\s\[\]]+\]|[^\s:;/\[\]]+")


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    for word in words:
        host, _, port = word.rpartition(":")
        if not _HOST.fullmatch(host) or not 0 < int(port) < 1 << 16:
            raise ValueError
    if not words:
        raise ValueError
    return words


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or (host and not _HOST.fullmatch(host)) or not 0 <= int(port) < 1 << 16:
        raise ValueError
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _optional_file(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise ValueError
    return path


_BROKERS: Final = (_words, "host:port, several separated by commas")
_TEXT: Final = (_text, "a text that is not empty")
_ADDRESS: Final = (_address, "host:port, or :port for every interface")
_FILE: Final = (_optional_file, "the path of a file that exists, or nothing")

_MIB: Final = 1 << 20


@attrs.frozen
class Settings:
    """The server's settings. Every one can be given to the constructor too, by its field's name."""

    kafka_brokers: tuple[str, ...] = _setting(
        "KAFKA_BROKERS", "localhost:9092", _BROKERS, "", "brokers to begin with"
    )
    kafka_assignment: str = _setting(
        "KAFKA_ASSIGNMENT",
        "all",
        _choice("all", "group"),
        "",
        "all: every instance reads every partition; group: the consumer group shares them out",
    )
    kafka_consumer_group: str = _setting(
        "KAFKA_CONSUMER_GROUP",
        "ws-server-group",
        _TEXT,
        "",
        "the consumer group to join with KAFKA_ASSIGNMENT=group",
    )
    kafka_fetch_max_wait_ms: int = _setting(
        "KAFKA_FETCH_MAX_WAIT_MS",
        "500",
        _integer(1, 30_000),
        "ms",
        "how long the broker may hold a fetch while no record comes",
    )
    kafka_probe_seconds: float = _setting(
        "KAFKA_PROBE_SECONDS",
        "5",
        _number(0.1, 60),
        "s",
        "how often the broker is probed, and how long it may take to answer",
    )
    ws_addr: Address = _setting("WS_ADDR", ":3002", _ADDRESS, "", "where subscribers connect")
    ws_ops_addr: Address = _setting(
        "WS_OPS_ADDR", ":3003", _ADDRESS, "", "where health and metrics are"
    )
    ws_catalogue: Path | None = _setting(
        "WS_CATALOGUE", "", _FILE, "", "topics, categories and bundles (TOML); Odin's by default"
    )
    ws_max_connections: int = _setting(
        "WS_MAX_CONNECTIONS", "12000", _integer(1), "connections", "more are answered 503"
    )
    ws_max_kafka_rate: float = _setting(
        "WS_MAX_KAFKA_RATE",
        "1000",
        _number(0),
        "records/s",
        "reading is slowed down to this; 0 for no limit",
    )
    ws_max_broadcast_rate: float = _setting(
        "WS_MAX_BROADCAST_RATE",
        "20",
        _number(0, 1000),
        "cycles/s",
        "the most often one subscriber is written to; 0 for no limit",
    )
    ws_max_record_bytes: int = _setting(
        "WS_MAX_RECORD_BYTES",
        str(256 << 10),
        _integer(1024, 16 * _MIB),
        "bytes",
        "a record with a larger value is passed by and counted",
    )
    ws_max_subscriptions: int = _setting(
        "WS_MAX_SUBSCRIPTIONS",
        "1024",
        _integer(1, 1_000_000),
        "patterns",
        "what one connection may subscribe to",
    )
    ws_max_frame_bytes: int = _setting(
        "WS_MAX_FRAME_BYTES",
        str(64 << 10),
        _integer(128, 16 * _MIB),
        "bytes",
        "a larger command closes with 1009",
    )
    ws_command_rate: float = _setting(
        "WS_COMMAND_RATE", "10", _number(0.1, 1e6), "commands/s", "what one client may send"
    )
    ws_command_burst: int = _setting(
        "WS_COMMAND_BURST", "100", _integer(1, 1_000_000), "commands", "and at once"
    )
    ws_head_max_bytes: int = _setting(
        "WS_HEAD_MAX_BYTES",
        str(16 << 10),
        _integer(512, _MIB),
        "bytes",
        "a larger request head is answered 431",
    )
    ws_head_timeout: float = _setting(
        "WS_HEAD_TIMEOUT", "5", _number(0.1, 60), "s", "a slower request head is answered 408"
    )
    ws_outbox_bytes: int = _setting(
        "WS_OUTBOX_BYTES",
        str(_MIB),
        _integer(1024, 1024 * _MIB),
        "bytes",
        "a subscriber with more waiting than this is closed as slow",
    )
    ws_outbox_seconds: float = _setting(
        "WS_OUTBOX_SECONDS",
        "10",
        _number(0.1, 3600),
        "s",
        "a subscriber whose oldest waiting byte is older than this is closed as slow",
    )
    ws_outbox_mark_bytes: int = _setting(
        "WS_OUTBOX_MARK_BYTES",
        str(64 << 10),
        _integer(0, 1024 * _MIB),
        "bytes",
        "with more waiting, a subscriber that asked for the latest only is sent only that",
    )
    ws_retention_bytes: int = _setting(
        "WS_RETENTION_BYTES",
        str(64 * _MIB),
        _integer(0),
        "bytes",
        "memory for the recent past that returning clients are served from; 0 for none",
    )
    ws_retention_seconds: float = _setting(
        "WS_RETENTION_SECONDS", "300", _number(0), "s", "how far back that may reach"
    )
    ws_snapshot_bytes: int = _setting(
        "WS_SNAPSHOT_BYTES",
        str(32 * _MIB),
        _integer(0),
        "bytes",
        "memory for the last message of each channel, which snapshots are made of; 0 for none",
    )
    ws_replay_readers: int = _setting(
        "WS_REPLAY_READERS",
        "4",
        _integer(1, 64),
        "readers",
        "how many clients are replayed from Kafka at once; others wait for their turn",
    )
    ws_replay_max_records: int = _setting(
        "WS_REPLAY_MAX_RECORDS",
        "1000000",
        _integer(0),
        "records",
        "what one replay may read from Kafka, of all tokens; older ones are reported as lost",
    )
    ws_positions_interval: float = _setting(
        "WS_POSITIONS_INTERVAL",
        "10",
        _number(0.1, 3600),
        "s",
        "how often a client that asked for positions is told how far it is",
    )
    ws_ping_interval: float = _setting(
        "WS_PING_INTERVAL", "30", _number(0.1, 3600), "s", "how often each client is pinged"
    )
    ws_pong_timeout: float = _setting(
        "WS_PONG_TIMEOUT",
        "75",
        _number(0.1, 7200),
        "s",
        "a client not heard of for so long is closed; more than WS_PING_INTERVAL",
    )
    ws_drain_delay: float = _setting(
        "WS_DRAIN_DELAY",
        "1",
        _number(0, 600),
        "s",
        "from SIGTERM until no more are accepted: for load balancers to notice",
    )
    ws_drain_seconds: float = _setting(
        "WS_DRAIN_SECONDS",
        "8",
        _number(0.1, 3600),
        "s",
        "how long sending clients away may take after that; then the rest is cut off",
    )
    ws_cpu_limit: float = _setting(
        "WS_CPU_LIMIT",
        "0",
        _number(0, 4096),
        "cores",
        "what 100% CPU means in health and metrics; 0: the container's limit, else the machine's",
    )
    ws_memory_limit: int = _setting(
        "WS_MEMORY_LIMIT",
        "0",
        _integer(0),
        "bytes",
        "above this new connections get 503; 0: the container's limit, else the machine's",
    )
    log_level: str = _setting(
        "LOG_LEVEL", "info", _choice("debug", "info", "warning", "error"), "", "what is logged"
    )
    log_format: str = _setting("LOG_FORMAT", "json", _choice("json", "text"), "", "how")

    def __attrs_post_init__(self) -> None:
        """Check what takes two settings to judge."""
        if self.ws_pong_timeout <= self.ws_ping_interval:
            problem = (
                f"WS_PONG_TIMEOUT={self.ws_pong_timeout:g}: must be more than "
                f"WS_PING_INTERVAL={self.ws_ping_interval:g}, or no pong could be in time"
            )
            raise SettingsError([problem])


def declared_settings() -> Iterator[tuple[str, Setting]]:
    """Every setting with the name of its field."""
    for field in attrs.fields(Settings):
        yield field.name, field.metadata[Setting]


def load_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from environment variables, and the unknown names among those under our prefixes.

    A variable that is set but empty counts as not set. Raises SettingsError with every problem:
    values out of range, and names that are a near miss of a known one.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field, setting in declared_settings():
        text = environ.get(setting.name, "").strip()
        if not text:
            continue
        try:
            values[field] = setting.parse(text)
        except ValueError:
            unit = f" ({setting.unit})" if setting.unit else ""
            problems.append(f"{setting.name}={text}: allowed is {setting.allowed}{unit}")
    known = {setting.name for _, setting in declared_settings()}
    unknown = []
    for name in sorted(environ.keys() - known):
        if (meant := _meant(name, known)) is not None:
            problems.append(f"{name}: no such setting; {meant} is meant")
        elif name.startswith(_PREFIXES):
            unknown.append(name)
    if problems:
        raise SettingsError(problems)
    return Settings(**values), unknown


_PREFIXES: Final = ("WS_", "KAFKA_")

# What other programs call our settings; KAFKA_GROUP_ID is what the original's deployment set in
# vain while its code read KAFKA_CONSUMER_GROUP.
_CONFUSIONS: Final = {
    "KAFKA_GROUP_ID": "KAFKA_CONSUMER_GROUP",
    "KAFKA_BOOTSTRAP_SERVERS": "KAFKA_BROKERS",
    "KAFKA_BROKER_LIST": "KAFKA_BROKERS",
    "WS_KAFKA_BROKERS": "KAFKA_BROKERS",
    "WS_LOG_LEVEL": "LOG_LEVEL",
    "WS_LOG_FORMAT": "LOG_FORMAT",
}

# One wrong letter or two that are swapped, in LOG_LEVEL too; more in longer names. What Kubernetes
# sets for services, and Kafka's images set, is further off: KAFKA_BROKER_ID is 0.86 KAFKA_BROKERS.
_NEAR: Final = 0.88


def _meant(name: str, known: set[str]) -> str | None:
    """The setting that a name is a near miss of."""
    if name in _CONFUSIONS:
        return _CONFUSIONS[name]
    # A misspelt prefix is one too; but LOGLEVEL and the like are other programs' as often as ours.
    ours = known if name.startswith("LOG_") else {one for one in known if one.startswith(_PREFIXES)}
    near = difflib.get_close_matches(name.upper(), ours, n=1, cutoff=_NEAR)
    return near[0] if near else None
