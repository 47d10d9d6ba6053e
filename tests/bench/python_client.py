"""`python -m tests.bench.python_client`: the CPU time of an application in the Python client.

A server in this process publishes at a steady rate; an application in its own process receives each
message and drops it. The CPU time comes from the operating system's accounts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import attrs
import click
import trio

from odin_ws.kafka.source_status import SourceState
from odin_ws.settings import Settings
from odin_ws.testing.local_server import open_local_server
from odin_ws.testing.memory_log import MemoryLog
from tests import signals

SHELLS: Final = ("trio", "asyncio")

# Bytes of padding: a message with its envelope then has 430 bytes, as in the project's other
# measurements.
VALUE_BYTES: Final = 330

# Messages before the measurement, which excludes imports and the connect.
WARM_UP: Final = 1000

APPLICATION: Final = Path(__file__).with_name("python_client_application.py")


@attrs.frozen
class Figures:
    """The usage of one application."""

    messages: int
    cpu_seconds: float
    seconds: float
    """The length of the measurement."""

    @property
    def share(self) -> float:
        """CPU time as a share of a core."""
        return self.cpu_seconds / self.seconds


async def measure(shell: str, rate: int, seconds: float, broadcast_rate: int) -> Figures:
    """Return the usage of an application of a shell over `seconds`."""
    settings = Settings(ws_max_kafka_rate=0, ws_max_broadcast_rate=broadcast_rate)
    count = WARM_UP + int(rate * seconds)
    async with open_local_server(settings) as server, trio.open_nursery() as nursery:
        await server.source.status.state.wait_value(SourceState.LIVE)
        words = [shell, server.url, str(WARM_UP), str(count)]
        nursery.start_soon(_publish, server.log, rate)
        done = await trio.run_process(
            [sys.executable, str(APPLICATION), *words], capture_stdout=True, stderr=None
        )
        nursery.cancel_scope.cancel()
    return Figures(**json.loads(done.stdout))


async def _publish(log: MemoryLog, rate: int) -> None:
    """Publish forever at the rate; late records are published at once."""
    began = trio.current_time()
    value = json.dumps({"type": "TRADE_EXECUTED", "timestamp": 0, "data": {"x": ""}})
    value = value.replace('""', f'"{"x" * (VALUE_BYTES - len(value))}"')
    published = 0
    while True:
        due = int((trio.current_time() - began) * rate)
        for number in range(published, due):
            log.append("odin.trades", b"T%d" % (number % 100), value.encode())
        published = due
        await trio.sleep(1 / rate)


@click.command()
@click.option("--rate", default=1000, show_default=True, help="Messages per second.")
@click.option("--seconds", default=20.0, show_default=True, help="How long to count.")
def main(rate: int, seconds: float) -> None:
    """Print a line for each shell, with messages in batches and one by one."""
    for broadcast_rate in (20, 0):
        for shell in SHELLS:
            found = signals.run(measure, shell, rate, seconds, broadcast_rate)
            each = found.cpu_seconds / found.messages * 1e6
            written = f"WS_MAX_BROADCAST_RATE={broadcast_rate}"
            click.echo(
                f"{shell:8} {written:24} {found.messages / found.seconds:6.0f} messages/s "
                f"{found.share:6.1%} of a core {each:6.1f} us a message"
            )


if __name__ == "__main__":
    main()
