"""Divides connection limits among workers."""

from __future__ import annotations

import attrs

from odin_ws.settings import Settings

__all__ = ["max_worker_connections", "worker_settings"]


def worker_settings(settings: Settings, number: int) -> Settings:
    """Return the settings of worker `number`, from 1 on, with its share of the connection limits.

    The settings also have the worker's share of the connect rate. CPU and memory limits are divided
    where they are measured.
    """
    each, more = divmod(settings.ws_max_connections, settings.ws_workers)
    return attrs.evolve(
        settings,
        ws_max_connections=each + (number <= more),
        ws_connect_rate=settings.ws_connect_rate / settings.ws_workers,
    )


def max_worker_connections(settings: Settings) -> int:
    """Return the maximum number of connections of a worker."""
    return worker_settings(settings, 1).ws_max_connections
