"""An application that receives messages, and prints the CPU time that this took.

usage: python python_client_application.py trio|asyncio URL WARM_UP COUNT
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from odin_ws_client import Subscription


async def follow(open_client: Any, url: str, warm_up: int, count: int) -> None:
    """Measure from the message `warm_up` to the message `count`."""
    received = 0
    began = cpu_began = 0.0
    async with open_client(url, Subscription(channels=["*.trade"])) as client:
        async for _message in client.messages():
            received += 1
            if received == warm_up:
                began, cpu_began = time.monotonic(), time.process_time()
            if received == count:
                break
        figures = {
            "messages": count - warm_up,
            "cpu_seconds": time.process_time() - cpu_began,
            "seconds": time.monotonic() - began,
        }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    shell, url, *numbers = sys.argv[1:]
    warm_up, count = map(int, numbers)
    if shell == "trio":
        import trio

        import odin_ws_client.trio

        trio.run(follow, odin_ws_client.trio.open_client, url, warm_up, count)
    else:
        import asyncio

        import odin_ws_client.asyncio

        asyncio.run(follow(odin_ws_client.asyncio.open_client, url, warm_up, count))
