"""The client for asyncio."""

from __future__ import annotations

from odin_ws_client.asyncio.client import Client, open_client

__all__ = ["Client", "open_client"]
