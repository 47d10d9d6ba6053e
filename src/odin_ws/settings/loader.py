"""Loads all settings from environment variables and checks combinations."""

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
    """The server's settings. The constructor takes each by its field's name, too.

    `odin-ws config` lists them in the order of the base classes.
    """

    def __attrs_post_init__(self) -> None:
        """Check settings that depend on each other."""
        problems = self.security_problems() + self.auth_problems()
        if self.ws_pong_timeout_seconds <= self.ws_ping_interval_seconds:
            problems.append(
                f"WS_PONG_TIMEOUT_SECONDS={self.ws_pong_timeout_seconds:g}: must be more than "
                f"WS_PING_INTERVAL_SECONDS={self.ws_ping_interval_seconds:g}, "
                "so that a pong can arrive in time"
            )
        if self.ws_proxy_protocol == "required" and not self.ws_trusted_proxies:
            problems.append(
                "WS_PROXY_PROTOCOL=required: needs WS_TRUSTED_PROXIES, so that someone can connect"
            )
        if (self.ws_tls_cert is None) != (self.ws_tls_key is None):
            problems.append("WS_TLS_CERT and WS_TLS_KEY: set both or neither")
        if self.ws_workers > 1 and self.kafka_assignment == "group":
            problems.append(
                f"KAFKA_ASSIGNMENT=group: must be all with WS_WORKERS={self.ws_workers}: each "
                "worker would read a part of the partitions, and clients cannot choose a worker"
            )
        if problems:
            raise SettingsError(problems)


def declared_settings() -> Iterator[tuple[str, Setting]]:
    """Yield every setting with the name of its field."""
    for section in Settings.__bases__:
        for field in attrs.fields(section):
            yield field.name, field.metadata[Setting]


def load_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Read settings from environment variables; also returns unknown WS_ and KAFKA_ names.

    An empty variable counts as unset. Raises SettingsError with all problems: values out of
    range, unreadable files of secrets, and unknown names that look like a setting
    (odin_ws.settings.unknown_names).
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
    """Return the value of a setting that is set. Raises ValueError with the line to print."""
    if setting.file_name:
        return _read_secret(setting, setting.file_name, environ)
    text = environ[setting.name].strip()
    try:
        return setting.parse(text)
    except ValueError:
        unit = f" ({setting.unit})" if setting.unit else ""
        problem = f"{setting.name}={text}: must be {setting.allowed}{unit}"
        raise ValueError(problem) from None


def _read_secret(setting: Setting, file_name: str, environ: Mapping[str, str]) -> Any:
    text = environ.get(setting.name, "")
    file = environ.get(file_name, "").strip()
    if not file:
        # Not stripped: a secret may begin or end with a space.
        return setting.parse(text)
    if text.strip():
        raise ValueError(f"{setting.name} and {file_name} are both set: set only one")
    try:
        return read_secret_file(Path(file))
    except ValueError as error:
        raise ValueError(f"{file_name}={file}: the file {error}") from None
