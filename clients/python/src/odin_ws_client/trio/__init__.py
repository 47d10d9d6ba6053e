"""The client for Trio."""

from __future__ import annotations

from odin_ws_client.trio.client import Client, open_client

__all__ = ["Client", "open_client"]
