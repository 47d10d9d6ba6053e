"""How a setting is declared: name, default, unit, type, range, help."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs

from odin_ws.address import Address, is_loopback
from odin_ws.settings.secrets import Secret

__all__ = [
    "ADDRESS",
    "BROKERS",
    "CATEGORIES",
    "FILE",
    "FILE_OR_URL",
    "FLAG",
    "HEADER_NAMES",
    "HOSTS",
    "MIB",
    "NETWORKS",
    "OPTIONAL_TEXT",
    "ORIGINS",
    "PATH",
    "TEXT",
    "TOPIC",
    "URL",
    "Setting",
    "SettingsError",
    "choice",
    "integer",
    "number",
    "optional",
    "secret",
    "setting",
]

T = TypeVar("T")

# Each is looked up in every record, and sent with every message that has it.
_MAX_HEADER_NAMES: Final = 16


class SettingsError(ValueError):
    """Invalid settings; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@attrs.frozen
class Setting:
    """One setting."""

    name: str
    default: str
    unit: str
    help: str
    allowed: str
    """The allowed values in words, for errors and docs/settings.md."""
    parse: Callable[[str], Any]
    file_name: str | None = None
    """The variable that names a file with the value; only secrets have one."""

    def origin(self, environ: Mapping[str, str]) -> str:
        """Return the source of the value: environment, file, or default."""
        if environ.get(self.name, "").strip():
            return "environment"
        if self.file_name and environ.get(self.file_name, "").strip():
            return "file"
        return "default"


def setting(
    name: str, default: str, kind: tuple[Callable[[str], T], str], unit: str, help_: str
) -> T:
    """Declare a setting as a field of an attrs class; `kind` is one of the kinds below."""
    parse, allowed = kind
    field: T = _field(Setting(name, default, unit, help_, allowed, parse))
    return field


def secret(name: str, help_: str) -> Secret | None:
    """Declare a secret, unset by default; its value may come from the file in `name`_FILE."""
    file_name = f"{name}_FILE"
    allowed = f"a secret, also in a file: {file_name}"
    field: Secret | None = _field(Setting(name, "", "", help_, allowed, _secret, file_name))
    return field


def _field(declared: Setting) -> Any:
    default = declared.parse(declared.default)
    return attrs.field(default=default, kw_only=True, metadata={Setting: declared})


# ---- kinds of values: each is a parser, and the allowed values in words


def integer(low: int, high: float = math.inf) -> tuple[Callable[[str], int], str]:
    """Return the kind of integers from `low` to `high`, inclusive."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse, f"an integer, {_range(low, high)}"


def number(low: float, high: float = math.inf) -> tuple[Callable[[str], float], str]:
    """Return the kind of finite numbers from `low` to `high`, inclusive."""

    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value <= high and math.isfinite(value)):
            raise ValueError
        return value

    return parse, f"a number, {_range(low, high)}"


def optional(kind: tuple[Callable[[str], T], str]) -> tuple[Callable[[str], T | None], str]:
    """Return `kind` with None for an empty text."""
    parse, allowed = kind
    return lambda text: parse(text) if text else None, f"{allowed}; or nothing"


def _range(low: float, high: float) -> str:
    # Ten digits, so that no limit of a setting is rounded (16777216).
    return f"{low:.10g} or more" if high == math.inf else f"{low:.10g} to {high:.10g}"


def choice(*words: str) -> tuple[Callable[[str], str], str]:
    """Return the kind of `words`, in upper or lower case."""
    known = {word.lower(): word for word in words}

    def parse(text: str) -> str:
        if text.lower() not in known:
            raise ValueError
        return known[text.lower()]

    return parse, "one of " + ", ".join(words)


# A name, an IPv4 address, or an IPv6 address in brackets; neither a list nor a URL.
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


def _secret(text: str) -> Secret | None:
    # Shells and editors append line ends, which are not part of the secret.
    return Secret(text.rstrip("\r\n")) if text.strip() else None


def _optional_file(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise ValueError
    return path


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(word.strip()) for word in text.split(",") if word.strip())


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError
    return text.lower() == "true"


def _file_or_url(text: str) -> Path | str | None:
    return _optional_url(text) if "://" in text else _optional_file(text)


def _optional_url(text: str) -> str | None:
    if not text:
        return None
    url = urlsplit(text)
    # Without TLS anyone on the network could change the keys; passwords in URLs would be logged.
    safe = url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or ""))
    if not (safe and url.hostname) or "@" in url.netloc or url.port == 0:
        raise ValueError
    return text


# Kafka's rule for topic names.
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{0,249}")


def _optional_topic(text: str) -> str:
    if not _TOPIC.fullmatch(text) or text in {".", ".."}:
        raise ValueError
    return text


def _categories(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise ValueError
    return () if words == ("none",) else words


_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(\*\.)?(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?")


def _header_names(text: str) -> tuple[str, ...]:
    """Parse names of record headers, which are case-sensitive. Raises ValueError."""
    names = tuple(dict.fromkeys(name for item in text.split(",") if (name := item.strip())))
    if len(names) > _MAX_HEADER_NAMES:
        raise ValueError
    return names


def _origins(text: str) -> tuple[str, ...]:
    words = tuple(word.strip().lower() for word in text.split(",") if word.strip())
    if not words or not all(word == "*" or _ORIGIN.fullmatch(word) for word in words):
        raise ValueError
    return words


# A name, or an address with or without brackets, without a port.
_NAME: Final = re.compile(r"\*|[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?")


def _hosts(text: str) -> tuple[str, ...]:
    words = tuple(word.strip().lower() for word in text.split(",") if word.strip())
    for word in words:
        if not _NAME.fullmatch(word):
            ip_address(word.removeprefix("[").removesuffix("]"))
    return words


def _optional_path(text: str) -> Path | None:
    return Path(text) if text else None


BROKERS: Final = (_words, "host:port, separated by commas")
TEXT: Final = (_text, "a non-empty text")
OPTIONAL_TEXT: Final = (str, "any text, or nothing")
ADDRESS: Final = (_address, "host:port, or :port for every interface")
FILE: Final = (_optional_file, "the path of an existing file, or nothing")
NETWORKS: Final = (
    _networks,
    "networks such as 10.0.0.0/8 or 2001:db8::/32, or addresses, separated by commas; or nothing",
)
FILE_OR_URL: Final = (
    _file_or_url,
    "the path of an existing file, an https URL (http only to this machine), or nothing",
)
URL: Final = (_optional_url, "an https URL (http only to this machine), or nothing")
FLAG: Final = (_flag, "true or false")
CATEGORIES: Final = (_categories, "categories, separated by commas, or the word none")
ORIGINS: Final = (
    _origins,
    "https://example.com or https://*.example.com, separated by commas; or * for all",
)
HOSTS: Final = (
    _hosts,
    "names or addresses without a port, separated by commas; * for all; or nothing",
)
TOPIC: Final = (_optional_topic, "the name of a topic, or nothing")
HEADER_NAMES: Final = (
    _header_names,
    f"at most {_MAX_HEADER_NAMES} names of record headers, separated by commas, or nothing",
)
PATH: Final = (_optional_path, "the path of a file, or nothing")

MIB: Final = 1 << 20
