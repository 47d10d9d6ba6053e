"""An application of the installed package: prints each item of a client as a JSON line.

usage: python application.py trio|asyncio URL SUBSCRIPTION
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from odin_ws_client import Message, Subscription


async def follow(open_client: Any, url: str, subscription: dict[str, Any]) -> None:
    """Print every item, and the client's positions behind it."""
    wanted = Subscription(**subscription)
    async with open_client(url, wanted, backoff_base=0.01, backoff_cap=0.2) as client:
        async for item in client:
            content: dict[str, Any] = {"type": type(item).__name__}
            if isinstance(item, Message):
                content = {"channel": item.channel, "data": item.data}
            line = {
                "kind": "message" if isinstance(item, Message) else "notice",
                "item": content,
                "positions": client.positions,
                "duplicates": client.duplicates,
                "at": time.monotonic(),
            }
            sys.stdout.write(f"{json.dumps(line)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    shell, url, subscription = sys.argv[1:]
    arguments = url, json.loads(subscription)
    if shell == "trio":
        import trio

        import odin_ws_client.trio

        trio.run(follow, odin_ws_client.trio.open_client, *arguments)
    else:
        import asyncio

        import odin_ws_client.asyncio

        asyncio.run(follow(odin_ws_client.asyncio.open_client, *arguments))
