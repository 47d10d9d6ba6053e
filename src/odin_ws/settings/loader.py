"""Loads all settings from environment variables, and checks those that depend on each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from odin_ws.settings.auth import AuthSettings
from odin_ws.settings.declaration import Setting, SettingsError
from odin_ws.settings.handshake import HandshakeSettings
from odin_ws.settings.history import HistorySettings
from odin_ws.settings.kafka import KafkaSettings
from odin_ws.settings.kafka_security import KafkaSecuritySettings
from odin_ws.settings.process import ProcessSettings
from odin_ws.settings.secrets import read_secret_file
from odin_ws.settings.subscribers import SubscriberSettings
from odin_ws.settings.unknown_names import is_ours, problem_with

__all__ = ["Settings", "declared_settings", "load_settings"]


@attrs.frozen
class Settings(
    KafkaSettings,
    KafkaSecuritySettings,
    SubscriberSettings,
    HandshakeSettings,
    AuthSettings,
    HistorySettings,
    ProcessSettings,
):
    """The server's settings. Every one can be given to the constructor too, by its field's name.

    They are shown in the order of the bases.
    """

    def __attrs_post_init__(self) -> None:
        """Check what takes several settings to judge."""
        problems = self.security_problems() + self.auth_problems()
        if self.ws_pong_timeout_seconds <= self.ws_ping_interval_seconds:
            problems.append(
                f"WS_PONG_TIMEOUT_SECONDS={self.ws_pong_timeout_seconds:g}: must be more than "
                f"WS_PING_INTERVAL_SECONDS={self.ws_ping_interval_seconds:g}, "
                "or no pong could be in time"
            )
        if self.ws_proxy_protocol == "required" and not self.ws_trusted_proxies:
            problems.append(
                "WS_PROXY_PROTOCOL=required: needs WS_TRUSTED_PROXIES, or nobody could connect"
            )
        if (self.ws_tls_cert is None) != (self.ws_tls_key is None):
            problems.append("WS_TLS_CERT and WS_TLS_KEY: one needs the other")
        if self.ws_workers > 1 and self.kafka_assignment == "group":
            problems.append(
                f"KAFKA_ASSIGNMENT=group: must be all with WS_WORKERS={self.ws_workers}, or each "
                "worker would have a share of the partitions, and nobody chooses a client's worker"
            )
        if problems:
            raise SettingsError(problems)


def declared_settings() -> Iterator[tuple[str, Setting]]:
    """Every setting with the name of its field."""
    for section in Settings.__bases__:
        for field in attrs.fields(section):
            yield field.name, field.metadata[Setting]


def load_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from environment variables, and the unknown names among those under our prefixes.

    A variable that is set but empty counts as not set. Raises SettingsError with every problem:
    values out of range, files of secrets that cannot be used, and names of settings that there are
    not (see odin_ws.settings.unknown_names).
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field, setting in declared_settings():
        try:
            if setting.origin(environ) != "default":
                values[field] = _read(setting, environ)
        except ValueError as error:
            problems.append(str(error))
    known = {setting.name for _, setting in declared_settings()}
    known |= {setting.file_name for _, setting in declared_settings() if setting.file_name}
    unknown = []
    for name in sorted(environ.keys() - known):
        if (problem := problem_with(name, environ[name], known)) is not None:
            problems.append(problem)
        elif is_ours(name):
            unknown.append(name)
    if problems:
        raise SettingsError(problems)
    return Settings(**values), unknown


def _read(setting: Setting, environ: Mapping[str, str]) -> Any:
    """The value of a setting that is set. Raises ValueError with the line to print."""
    if setting.file_name:
        return _read_secret(setting, setting.file_name, environ)
    text = environ[setting.name].strip()
    try:
        return setting.parse(text)
    except ValueError:
        unit = f" ({setting.unit})" if setting.unit else ""
        problem = f"{setting.name}={text}: allowed is {setting.allowed}{unit}"
        raise ValueError(problem) from None


def _read_secret(setting: Setting, file_name: str, environ: Mapping[str, str]) -> Any:
    text = environ.get(setting.name, "")
    file = environ.get(file_name, "").strip()
    if not file:
        # Not stripped: a secret may begin or end with a space.
        return setting.parse(text)
    if text.strip():
        raise ValueError(f"{setting.name} and {file_name} are both set: one of them is too many")
    try:
        return read_secret_file(Path(file))
    except ValueError as error:
        raise ValueError(f"{file_name}={file}: the file {error}") from None
