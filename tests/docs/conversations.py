"""Conversations in docs/protocol.md: a server must respond to the client's part as shown.

In a block, `→` is what the client sends, `←` what it receives, and `·` an event meanwhile; a
comment `<!-- before: … -->` above it names earlier events in the same words. In received text, `…`
matches anything; `← …` matches any number of frames; clocks match any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol

import attrs
import trio

from odin_ws.catalogue import default_catalogue
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.docs.pages import page
from tests.jwt_issuer import issuer, jwt_settings
from tests.scenarios.wire import Op, RawClient

__all__ = ["Conversation", "Observer", "conversations", "play"]

# The examples of the page have this few partitions, so that positions fit into a line.
PARTITIONS: Final = 3

# With this threshold, a `latest` client is behind as soon as any byte is pending.
SETTINGS: Final = Settings(ws_conflation_threshold_bytes=0)

# Settings of an instance that can only replay from Kafka.
FORGETFUL: Final = Settings(ws_history_bytes=0)

# Time of the page's first trade.
FIRST_TRADE_MS: Final = 1795476748106

# Enough virtual time for every message to arrive.
SETTLE_SECONDS: Final = 2

# Blocks with a language are matched too; otherwise their ends would match as beginnings.
_BLOCK: Final = re.compile(
    r"(?:^<!-- before: (?P<before>.*) -->\n)?^```(?P<language>\w*)\n(?P<text>[\s\S]*?)^```$",
    re.MULTILINE,
)
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CLOCK: Final = re.compile(r'("(?:ts|since|after_ms|exp|expires_in_ms)":)\d+')

# The page's placeholder for a new token of the client.
_TOKEN: Final = '"token":"…"'  # noqa: S105 -- none
_TIMES: Final = {"": 1, " twice": 2}


class Observer(Protocol):
    """Observes all messages of a conversation."""

    def sent(self, text: str) -> None:
        """Called with each text that the client has sent."""
        ...

    def received(self, text: str) -> None:
        """Called with each text that the client has received."""
        ...


@attrs.frozen
class Conversation:
    """A block of the page, with its heading, and the events before it."""

    heading: str
    before: tuple[str, ...]
    lines: tuple[str, ...]


def conversations(name: str) -> list[Conversation]:
    """Return every block of a page that shows messages."""
    text = page(name)
    found = []
    for block in _BLOCK.finditer(text):
        lines = tuple(line for line in block["text"].splitlines() if line)
        if not block["language"] and any(line.startswith(("→", "←")) for line in lines):
            heading = _HEADING.findall(text[: block.start()])[-1]
            before = tuple(_split(block["before"])) if block["before"] else ()
            found.append(Conversation(heading, before, lines))
    return found


async def play(conversation: Conversation, observer: Observer) -> None:
    """Send the client's part, and compare what it receives.

    Raises AssertionError at a difference.
    """
    async with _playback() as playback:
        for sentence in conversation.before:
            await playback.cause(sentence)
        if conversation.before:
            await playback.discard()
        for line in conversation.lines:
            mark, _, text = line.partition(" ")
            match mark:
                case "→":
                    command = text.replace(_TOKEN, f'"token":"{issuer("HS256").token()}"')
                    observer.sent(command)
                    await playback.send(command)
                case "←" if text == "…":
                    playback.skipping = True
                case "←":
                    observer.received(await playback.expect(text))
                case "·":
                    for sentence in _split(text):
                        await playback.cause(sentence)
                case _:
                    raise AssertionError(f"what is this? {line}")
        if not playback.skipping:
            rest = await playback.discard()
            assert not rest, f"and there is more: {rest[0]}"


class _Playback:
    """A log, the instances that read it, and one client."""

    def __init__(self, instances: AsyncExitStack, log: MemoryLog, first: Scenario) -> None:
        self.skipping = False
        self._instances = instances
        self._log = log
        self._scenario = first
        self._trades = 0
        self._client: RawClient | None = None

    async def send(self, text: str) -> None:
        """Send a text, on a new connection if there is none."""
        await (await self._connected()).send(Op.TEXT, text.encode())

    async def expect(self, shown: str) -> str:
        """Return the next frame that matches `shown`; only while skipping may others precede it."""
        pattern = re.compile(_pattern(shown))
        while True:
            with trio.move_on_after(SETTLE_SECONDS):
                found = await self._next()
                if pattern.fullmatch(found):
                    self.skipping = False
                    return found
                assert self.skipping, f"shown: {shown}\nfound: {found}"
                continue
            raise AssertionError(f"nothing came where the page shows {shown}")

    async def discard(self) -> list[str]:
        """Drop and return everything received so far."""
        found: list[str] = []
        with trio.move_on_after(SETTLE_SECONDS):
            while self._client is not None:
                found.append(await self._next())
        return found

    async def cause(self, sentence: str) -> None:
        """Cause the event that a sentence names, and wait for its effects."""
        for pattern, act in _EVENTS.items():
            if (found := re.fullmatch(pattern, sentence)) is not None:
                await act(self, found)
                await trio.sleep(SETTLE_SECONDS)
                return
        raise AssertionError(f"no such event: {sentence}")

    async def _connected(self) -> RawClient:
        if self._client is None:
            self._client = await RawClient.open(self._scenario)
        return self._client

    async def _next(self) -> str:
        frame = await (await self._connected()).next_but_pings()
        if frame.op is not Op.CLOSE:
            return frame.payload.decode()
        self._client = None
        return "close {} {}".format(*frame.close)

    # ---- events

    async def trade(self, found: re.Match[str]) -> None:
        """Publish trades, each at another price; large ones have a note of 200 KiB."""
        count = found["count"] or ""
        for _ in range(_TIMES.get(count) or int(count.split()[0])):
            self._trades += 1
            data: dict[str, Any] = {"price": f"0.{self._trades}"}
            if found["large"]:
                data["note"] = "x" * (200 << 10)
            event = {"type": "TRADE_EXECUTED", "timestamp": 1795476600000, "data": data}
            value = json.dumps(event, separators=(",", ":")).encode()
            at = FIRST_TRADE_MS + 300 * self._trades
            self._log.append("odin.trades", found["token"].encode(), value, timestamp=at)

    async def connect(self, found: re.Match[str]) -> None:
        """Connect to the named path; a slow line holds 100 bytes."""
        capacity = 100 if found["slow"] else 1 << 24
        target = found["path"] or "/ws"
        self._client = await RawClient.open(self._scenario, target, capacity=capacity)

    async def connect_with_token(self, found: re.Match[str]) -> None:
        """Connect with a token that grants the named channel, or has no claim of channels."""
        asking = open_scenario(jwt_settings(), log=self._log)
        self._scenario = await self._instances.enter_async_context(asking)
        channels = None if found["channel"] is None else [found["channel"]]
        seconds = 60 if found["short"] else 3600
        token = issuer("HS256").token(seconds, channels=channels)
        headers = {"Authorization": f"Bearer {token}"}
        self._client = await RawClient.open(self._scenario, headers=headers)

    async def subscribe(self, found: re.Match[str]) -> None:
        """Subscribe to the named channels."""
        data = {"channels": found["channels"].split(" and ")}
        await self.send(json.dumps({"type": "subscribe", "data": data}))

    async def send_command(self, found: re.Match[str]) -> None:
        """Send a command."""
        await self.send(found["command"])

    async def read(self, _found: re.Match[str]) -> None:
        """Read everything received so far."""
        await self.discard()

    async def lose_connection(self, _found: re.Match[str]) -> None:
        """Break the connection without a close frame."""
        (await self._connected()).stream.break_off()
        self._client = None

    async def change_instance(self, _found: re.Match[str]) -> None:
        """Move to another instance of the same log, without history in memory."""
        other = open_scenario(FORGETFUL, log=self._log)
        self._scenario = await self._instances.enter_async_context(other)
        self._client = None

    async def lose_kafka(self, _found: re.Match[str]) -> None:
        """Let the broker no longer respond."""
        self._scenario.source.lose_broker()
        self._scenario.log_reader.fail()

    async def find_kafka(self, _found: re.Match[str]) -> None:
        """Let the broker respond again."""
        self._scenario.log_reader.recover()
        self._scenario.source.find_broker()

    async def delete(self, found: re.Match[str]) -> None:
        """Delete records, as retention does."""
        partition, offset = map(int, found["pos"].split("-"))
        self._log.delete_before("odin.trades", partition, offset)

    async def wait(self, found: re.Match[str]) -> None:
        """Let virtual time pass."""
        await trio.sleep({"ten": 10, "forty": 40}[found["seconds"]])

    async def stop(self, _found: re.Match[str]) -> None:
        """Stop the instance, as SIGTERM does."""
        self._scenario.stop()


_Act = Callable[[_Playback, re.Match[str]], Awaitable[None]]

_CONNECTS: Final = r"the client connects(?: to (?P<path>/\S+))?(?P<slow> over a slow line)?"

_EVENTS: Final[dict[str, _Act]] = {
    r"(?P<token>[A-Z]+) is traded(?P<count> twice| \d+ times|)(?P<large>, 200 KiB each|)": (
        _Playback.trade
    ),
    _CONNECTS: _Playback.connect,
    r"the client connects with a token(?: for (?P<channel>\S+))?(?P<short> of a minute)?": (
        _Playback.connect_with_token
    ),
    r"the client subscribes to (?P<channels>.+)": _Playback.subscribe,
    r"the client sends (?P<command>\{.+\})": _Playback.send_command,
    r"the client reads": _Playback.read,
    r"the connection is lost": _Playback.lose_connection,
    r"the client connects to another instance": _Playback.change_instance,
    r"Kafka does not respond": _Playback.lose_kafka,
    r"Kafka is back": _Playback.find_kafka,
    r"Kafka deletes what is before (?P<pos>\d+-\d+)": _Playback.delete,
    r"(?P<seconds>ten|forty) seconds pass": _Playback.wait,
    r"the instance is asked to stop": _Playback.stop,
}


@asynccontextmanager
async def _playback() -> AsyncIterator[_Playback]:
    log = MemoryLog(default_catalogue().topics, PARTITIONS)
    async with AsyncExitStack() as instances:
        first = await instances.enter_async_context(open_scenario(SETTINGS, log=log))
        yield _Playback(instances, log, first)


def _split(sentences: str) -> list[str]:
    return [word.strip() for word in sentences.split(";")]


def _pattern(shown: str) -> str:
    """Return a regular expression for `shown`: `…` matches anything, and clocks match any time."""
    literal = (re.escape(part) for part in _CLOCK.sub(r"\1…", shown).split("…"))
    return ".*".join(literal)
