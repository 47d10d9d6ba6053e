"""A client with aiohttp; see serving.py."""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(url: str, command: str, connections: int, texts: int) -> None:
    """Connect, subscribe, and print what came."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        clients = [await session.ws_connect(url, compress=15) for _ in range(connections)]
        for client in clients:
            await client.send_str(command)
            await client.receive_str()
        say("ready")
        found = [[await client.receive_str() for _ in range(texts)] for client in clients]
        # It does not show the answer's header; 0 is no compression.
        extensions = f"permessage-deflate: {clients[0].compress}" if clients[0].compress else ""
        say(json.dumps({"extensions": extensions, "texts": found}))
        for client in clients:
            await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
