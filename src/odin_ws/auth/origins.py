"""The Origin check: which web pages may connect (WS_ALLOWED_ORIGINS)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["Origins"]

# Browsers omit the scheme's default port.
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class Origins:
    """An allow-list: `https://example.com`, `https://*.example.com` (its subdomains), or `*`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        names = {_normal(name) for name in allowed}
        self._any = "*" in names
        self._exact = {name for name in names if "*" not in name}
        # `https://*.example.com` as ("https://", ".example.com").
        self._wild = [tuple(name.split("*", 1)) for name in names - self._exact - {"*"}]

    def allows(self, origin: str | None) -> bool:
        """Return whether a page of this origin may connect; None: the client is no browser."""
        if origin is None or self._any:
            return True
        name = _normal(origin)
        return name in self._exact or any(
            name.startswith(scheme) and name.endswith(domain) and _is_host(name, scheme, domain)
            for scheme, domain in self._wild
        )


def _is_host(name: str, scheme: str, domain: str) -> bool:
    """Return whether the part for `*` is the beginning of a host: not empty, only labels."""
    begin = name[len(scheme) : len(name) - len(domain)]
    return bool(begin) and all(label.replace("-", "").isalnum() for label in begin.split("."))


def _normal(origin: str) -> str:
    name = origin.lower()
    scheme, _, _ = name.partition("://")
    return name.removesuffix(_DEFAULT_PORTS.get(scheme, ""))
