"""How a setting is declared, and the kinds of values there are: read from a text, told in words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from odin_ws.address import Address

__all__ = [
    "ADDRESS",
    "BROKERS",
    "FILE",
    "MIB",
    "NETWORKS",
    "TEXT",
    "Setting",
    "SettingsError",
    "choice",
    "integer",
    "number",
    "setting",
]

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


def setting(
    name: str, default: str, kind: tuple[Callable[[str], T], str], unit: str, help_: str
) -> T:
    """A field of an attrs class for one setting; `kind` is one of those below."""
    parse, allowed = kind
    declared = Setting(name, default, unit, help_, allowed, parse)
    field: T = attrs.field(default=parse(default), kw_only=True, metadata={Setting: declared})
    return field


# ---- kinds of values: how a text is read, and what is allowed in words


def integer(low: int, high: float = math.inf) -> tuple[Callable[[str], int], str]:
    """A whole number, `low` and `high` included."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse, f"an integer, {_range(low, high)}"


def number(low: float, high: float = math.inf) -> tuple[Callable[[str], float], str]:
    """A finite number, `low` and `high` included."""

    def parse(text: str) -> float:
        value = float(text)
        if not (low <= value <= high and math.isfinite(value)):
            raise ValueError
        return value

    return parse, f"a number, {_range(low, high)}"


def _range(low: float, high: float) -> str:
    # Ten digits: limits are never rounded, 16777216 stays 16777216.
    return f"{low:.10g} or more" if high == math.inf else f"{low:.10g} to {high:.10g}"


def choice(*words: str) -> tuple[Callable[[str], str], str]:
    """One of some words, in capitals or not."""

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


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(word.strip()) for word in text.split(",") if word.strip())


BROKERS: Final = (_words, "host:port, several separated by commas")
TEXT: Final = (_text, "a text that is not empty")
ADDRESS: Final = (_address, "host:port, or :port for every interface")
FILE: Final = (_optional_file, "the path of a file that exists, or nothing")
NETWORKS: Final = (
    _networks,
    "networks such as 10.0.0.0/8 or 2001:db8::/32, or addresses, separated by commas; or nothing",
)

MIB: Final = 1 << 20
