"""A client with `websockets`; see serving.py."""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.client import connect


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(url: str, command: str, connections: int, texts: int) -> None:
    """Connect, subscribe, and print what came."""
    clients = [await connect(url) for _ in range(connections)]
    for client in clients:
        await client.send(command)
        await client.recv()
    say("ready")
    found = [[await client.recv() for _ in range(texts)] for client in clients]
    response = clients[0].response
    extensions = "" if response is None else response.headers.get("Sec-WebSocket-Extensions", "")
    say(json.dumps({"extensions": extensions, "texts": found}))
    for client in clients:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
