"""`python -m tests.bench.files_entered`: which of the server's files one event enters.

Runs `odin-ws serve` in this process against the embedded broker, with a real client in a thread
that is not traced. A file is entered if one of its functions is called. Files that an idle server
enters in the same time are listed separately: their tasks run with or without the event.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import attrs
import click
from aiokafka import AIOKafkaProducer
from websockets.sync.client import ClientConnection, connect

from odin_ws.__main__ import main as odin_ws
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.signals import exit_on_sigterm

__all__ = ["main"]

_SOURCE: Final = f"{Path(__file__).resolve().parents[2] / 'src' / 'odin_ws'}{os.sep}"
_TOPIC: Final = "odin.trades"
_VALUE: Final = json.dumps({"type": "TRADE_EXECUTED", "data": {}}).encode()

# Seconds of tracing after each event, and of an idle server: above the intervals of its tasks.
_QUIET_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 12.0
_READY_SECONDS: Final = 30.0


class Trace:
    """The files whose functions are called in this thread during a recording."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self.resumed: set[str] = set()
        self._code: dict[CodeType, bytes] = {}

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        """See sys.setprofile."""
        code = frame.f_code
        if event != "call" or code.co_name == "<module>":
            return
        if not code.co_filename.startswith(_SOURCE):
            return
        text = self._code.get(code)
        if text is None:
            text = self._code[code] = code.co_code
        # The argument of RESUME: 0 at the start of a function, else after a yield or an await.
        began = text[frame.f_lasti + 1] & 3 == 0
        (self.called if began else self.resumed).add(code.co_filename.removeprefix(_SOURCE))

    @contextmanager
    def recorded(self, found: Entered) -> Iterator[None]:
        """Record the files of a block into `found`."""
        self.called, self.resumed = found.called, found.resumed
        try:
            yield
        finally:
            self.called, self.resumed = set(), set()


@attrs.define
class Entered:
    """The files of one event."""

    called: set[str] = attrs.field(factory=set)
    """Files with a called function."""
    resumed: set[str] = attrs.field(factory=set)
    """Files with functions only resumed after a wait."""


class Driver:
    """A client and a publisher, which cause the events one after the other."""

    def __init__(self, trace: Trace, broker: str, port: int, ops_port: int) -> None:
        self.found: dict[str, Entered] = {}
        self.failure: BaseException | None = None
        self._trace = trace
        self._broker = broker
        self._url = f"ws://{LOOPBACK}:{port}/ws"
        self._ready = f"http://{LOOPBACK}:{ops_port}/health/ready"

    def run(self) -> None:
        """Cause all events, then stop the server."""
        try:
            self._run()
        except BaseException as failure:  # noqa: BLE001 -- reported by the main thread
            self.failure = failure
            os.kill(os.getpid(), signal.SIGTERM)

    def _run(self) -> None:
        self._wait_until_ready()
        # The first event of each kind imports modules and fills caches.
        with connect(self._url, ping_interval=None) as client:
            _send_command(client, "subscribe", channels=["*.trade"], positions=True)
            self._publish()
            client.recv(timeout=_READY_SECONDS)
        with connect(self._url, ping_interval=None) as client:
            _resume(client)
        with connect(self._url, ping_interval=None) as client:
            time.sleep(_QUIET_SECONDS)
            self._record("idle", lambda: time.sleep(_IDLE_SECONDS))
            self._record(
                "subscribe", lambda: _send_command(client, "subscribe", channels=["*.trade"])
            )
            self._record("record", lambda: self._deliver(client))
            with connect(self._url, ping_interval=None) as other:
                time.sleep(0.2)
                self._record("resume from Kafka", lambda: _resume(other))
            time.sleep(0.2)
            found = self.found["SIGTERM"] = Entered()
            # Runs until the process ends.
            self._trace.called, self._trace.resumed = found.called, found.resumed
            os.kill(os.getpid(), signal.SIGTERM)
            client.close()

    def _record(self, name: str, cause: Callable[[], object]) -> None:
        found = self.found[name] = Entered()
        with self._trace.recorded(found):
            cause()
            time.sleep(_QUIET_SECONDS)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(self._ready, timeout=_READY_SECONDS) as response:  # noqa: S310 -- our server
                    if response.status == 200:
                        return
            except urllib.error.URLError:
                time.sleep(0.1)
        raise TimeoutError(f"the server is not ready after {_READY_SECONDS:g} s")

    def _deliver(self, client: ClientConnection) -> None:
        self._publish()
        client.recv(_READY_SECONDS)

    def _publish(self) -> None:
        async def publish() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self._broker) as producer:
                await producer.send_and_wait(_TOPIC, _VALUE, b"BTC")

        asyncio.run(publish())


def _send_command(client: ClientConnection, kind: str, **data: Any) -> dict[str, Any]:
    client.send(json.dumps({"type": kind, "data": data}))
    response: dict[str, Any] = json.loads(client.recv(_READY_SECONDS))
    assert response["type"].endswith("_ack"), response
    return response


def _resume(client: ClientConnection) -> None:
    """Resume from before the first record, until one is replayed."""
    before = {str(partition): -1 for partition in range(12)}
    _send_command(client, "resume", channels=["*.trade"], positions={_TOPIC: before})
    client.recv(_READY_SECONDS)


@contextmanager
def _broker() -> Iterator[str]:
    command = [sys.executable, "-m", "odin_ws.testing.brokers", "embedded"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            create = [sys.executable, "-m", "odin_ws", "topics", "create"]
            subprocess.run(create, check=True, env=os.environ | {"KAFKA_BROKERS": address})
            yield address
        finally:
            process.send_signal(signal.SIGTERM)


@click.command()
@click.option("--files", is_flag=True, help="Name the files, too.")
def main(*, files: bool) -> None:
    """Count the files that one record, subscribe, resume and SIGTERM enter."""
    # `odin-ws serve` replaces this by its own handler.
    exit_on_sigterm()
    with _broker() as broker:
        port, ops_port = free_ports(2)
        os.environ |= {
            "KAFKA_BROKERS": broker,
            "WS_ADDR": f"{LOOPBACK}:{port}",
            "WS_OPS_ADDR": f"{LOOPBACK}:{ops_port}",
            # Makes a resume read Kafka's log.
            "WS_HISTORY_BYTES": "0",
            "WS_CANARY_SECONDS": "0",
            "WS_DRAIN_DELAY_SECONDS": "0",
            "LOG_LEVEL": "error",
        }
        trace = Trace()
        driver = Driver(trace, broker, port, ops_port)
        thread = threading.Thread(target=driver.run)
        sys.argv[1:] = ["serve"]
        thread.start()
        sys.setprofile(trace)
        try:
            odin_ws()
        except SystemExit:
            pass
        finally:
            sys.setprofile(None)
        thread.join()
    if driver.failure is not None:
        raise driver.failure
    _report(driver.found, files=files)


def _report(found: dict[str, Entered], *, files: bool) -> None:
    idle = found["idle"]
    for name, one in found.items():
        everything = one.called | one.resumed
        own = one.called - idle.called if one is not idle else one.called
        click.echo(
            f"{name}: {len(own)} files called (without those of an idle server), "
            f"{len(one.called)} called, {len(everything)} called or resumed"
        )
        if files:
            for path in sorted(own):
                click.echo(f"  {path}")


if __name__ == "__main__":
    main()
