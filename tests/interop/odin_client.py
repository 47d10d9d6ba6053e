"""Our own client for Python; see serving.py. It asks for batches by itself."""

from __future__ import annotations

import json
import sys

import trio

from odin_ws_client import Message, Subscribed, Subscription
from odin_ws_client.trio import Client, open_client


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(url: str, connections: int, messages: int) -> None:
    """Connect, subscribe, and print the messages that came."""
    found: list[list[str]] = [[] for _ in range(connections)]
    subscribed = trio.Semaphore(0)

    async def follow(client: Client, texts: list[str]) -> None:
        async for item in client:
            match item:
                case Subscribed():
                    subscribed.release()
                case Message():
                    texts.append(item.text)
                    if len(texts) == messages:
                        return

    async def one(texts: list[str]) -> None:
        async with open_client(url, Subscription(channels=["*.trade"])) as client:
            await follow(client, texts)

    async with trio.open_nursery() as nursery:
        for texts in found:
            nursery.start_soon(one, texts)
        for _ in found:
            await subscribed.acquire()
        say("ready")
    say(json.dumps({"extensions": "", "texts": found}))


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[3]), int(sys.argv[5]))
