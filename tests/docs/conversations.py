"""Conversations in docs/protocol.md: what is shown is said to a server, and it answers as shown.

A block shows `→` what a client sends, `←` what it gets, and `·` what happens meanwhile; a comment
`<!-- before: … -->` above it says in the same words what happened before. In what a client gets,
`…` stands for anything, and `← …` for any number of frames; clocks show any time.
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

__all__ = ["Conversation", "Watcher", "conversations", "hold"]

# The topics of the page's examples have so few, so that positions fit into a line.
PARTITIONS: Final = 3

# A subscriber to the latest is behind as soon as anything waits.
SETTINGS: Final = Settings(ws_conflation_threshold_bytes=0)

# An instance that has only Kafka to replay from.
FORGETFUL: Final = Settings(ws_history_bytes=0)

# When the first trade of the page was made.
FIRST_TRADE_MS: Final = 1795476748106

# Long enough for all that is on its way, in virtual time.
SETTLE_SECONDS: Final = 2

# Blocks in a language too, so that where they end is not taken for a beginning.
_BLOCK: Final = re.compile(
    r"(?:^<!-- before: (?P<before>.*) -->\n)?^```(?P<language>\w*)\n(?P<text>[\s\S]*?)^```$",
    re.MULTILINE,
)
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CLOCK: Final = re.compile(r'("(?:ts|since|after_ms|exp|expires_in_ms)":)\d+')

# What stands for a new token of the client's.
_TOKEN: Final = '"token":"…"'  # noqa: S105 -- none
_TIMES: Final = {"": 1, " twice": 2}


class Watcher(Protocol):
    """Who wants to see all that is said."""

    def sent(self, text: str) -> None:
        """See what the client has sent."""
        ...

    def received(self, text: str) -> None:
        """See what the client was sent."""
        ...


@attrs.frozen
class Conversation:
    """A block of the page, under which heading it is, and what happened before."""

    heading: str
    before: tuple[str, ...]
    lines: tuple[str, ...]


def conversations(name: str) -> list[Conversation]:
    """Every block of a page that shows what is sent or received."""
    text = page(name)
    found = []
    for block in _BLOCK.finditer(text):
        lines = tuple(line for line in block["text"].splitlines() if line)
        if not block["language"] and any(line.startswith(("→", "←")) for line in lines):
            heading = _HEADING.findall(text[: block.start()])[-1]
            before = tuple(_split(block["before"])) if block["before"] else ()
            found.append(Conversation(heading, before, lines))
    return found


async def hold(conversation: Conversation, watcher: Watcher) -> None:
    """Say what the client says and compare what it gets; AssertionError where that is different."""
    async with _stage() as stage:
        for sentence in conversation.before:
            await stage.happen(sentence)
        if conversation.before:
            await stage.discard()
        for line in conversation.lines:
            mark, _, text = line.partition(" ")
            match mark:
                case "→":
                    said = text.replace(_TOKEN, f'"token":"{issuer("HS256").token()}"')
                    watcher.sent(said)
                    await stage.send(said)
                case "←" if text == "…":
                    stage.skipping = True
                case "←":
                    watcher.received(await stage.expect(text))
                case "·":
                    for sentence in _split(text):
                        await stage.happen(sentence)
                case _:
                    raise AssertionError(f"what is this? {line}")
        if not stage.skipping:
            rest = await stage.discard()
            assert not rest, f"and there is more: {rest[0]}"


class _Stage:
    """A log, the instances that read it, and the one client that talks."""

    def __init__(self, instances: AsyncExitStack, log: MemoryLog, first: Scenario) -> None:
        self.skipping = False
        self._instances = instances
        self._log = log
        self._scenario = first
        self._trades = 0
        self._client: RawClient | None = None

    async def send(self, text: str) -> None:
        """Say something, on a connection that is made for it if need be."""
        await (await self._connected()).send(Op.TEXT, text.encode())

    async def expect(self, shown: str) -> str:
        """The next frame, or the next that is as shown; returns what it really is."""
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
        """Pass over what has come; returns it."""
        found: list[str] = []
        with trio.move_on_after(SETTLE_SECONDS):
            while self._client is not None:
                found.append(await self._next())
        return found

    async def happen(self, sentence: str) -> None:
        """Let happen what a sentence says, and all that comes of it."""
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

    # ---- what can happen

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
        """Connect, to the path that is named; a slow line holds a hundred bytes."""
        capacity = 100 if found["slow"] else 1 << 24
        target = found["path"] or "/ws"
        self._client = await RawClient.open(self._scenario, target, capacity=capacity)

    async def connect_with_token(self, found: re.Match[str]) -> None:
        """To an instance that asks for one; it grants what is named, or has no such claim."""
        asking = open_scenario(jwt_settings(), log=self._log)
        self._scenario = await self._instances.enter_async_context(asking)
        channels = None if found["channel"] is None else [found["channel"]]
        seconds = 60 if found["short"] else 3600
        token = issuer("HS256").token(seconds, channels=channels)
        headers = {"Authorization": f"Bearer {token}"}
        self._client = await RawClient.open(self._scenario, headers=headers)

    async def subscribe(self, found: re.Match[str]) -> None:
        """Subscribe to the channels that are named."""
        data = {"channels": found["channels"].split(" and ")}
        await self.send(json.dumps({"type": "subscribe", "data": data}))

    async def say(self, found: re.Match[str]) -> None:
        """Send a command."""
        await self.send(found["command"])

    async def read(self, _found: re.Match[str]) -> None:
        """Read all that has come."""
        await self.discard()

    async def lose_connection(self, _found: re.Match[str]) -> None:
        """Without a close."""
        (await self._connected()).stream.break_off()
        self._client = None

    async def change_instance(self, _found: re.Match[str]) -> None:
        """One that keeps nothing, on the same log."""
        other = open_scenario(FORGETFUL, log=self._log)
        self._scenario = await self._instances.enter_async_context(other)
        self._client = None

    async def lose_kafka(self, _found: re.Match[str]) -> None:
        """The broker does not respond."""
        self._scenario.source.lose_broker()
        self._scenario.log_reader.fail()

    async def find_kafka(self, _found: re.Match[str]) -> None:
        """The broker is back."""
        self._scenario.log_reader.recover()
        self._scenario.source.find_broker()

    async def delete(self, found: re.Match[str]) -> None:
        """What retention does."""
        partition, offset = map(int, found["pos"].split("-"))
        self._log.delete_before("odin.trades", partition, offset)

    async def wait(self, found: re.Match[str]) -> None:
        """Time passes, virtually."""
        await trio.sleep({"ten": 10, "forty": 40}[found["seconds"]])

    async def stop(self, _found: re.Match[str]) -> None:
        """SIGTERM."""
        self._scenario.stop()


_Act = Callable[[_Stage, re.Match[str]], Awaitable[None]]

_CONNECTS: Final = r"the client connects(?: to (?P<path>/\S+))?(?P<slow> over a slow line)?"

_EVENTS: Final[dict[str, _Act]] = {
    r"(?P<token>[A-Z]+) is traded(?P<count> twice| \d+ times|)(?P<large>, 200 KiB each|)": (
        _Stage.trade
    ),
    _CONNECTS: _Stage.connect,
    r"the client connects with a token(?: for (?P<channel>\S+))?(?P<short> of a minute)?": (
        _Stage.connect_with_token
    ),
    r"the client subscribes to (?P<channels>.+)": _Stage.subscribe,
    r"the client sends (?P<command>\{.+\})": _Stage.say,
    r"the client reads": _Stage.read,
    r"the connection is lost": _Stage.lose_connection,
    r"the client connects to another instance": _Stage.change_instance,
    r"Kafka does not respond": _Stage.lose_kafka,
    r"Kafka is back": _Stage.find_kafka,
    r"Kafka deletes what is before (?P<pos>\d+-\d+)": _Stage.delete,
    r"(?P<seconds>ten|forty) seconds pass": _Stage.wait,
    r"the instance is asked to stop": _Stage.stop,
}


@asynccontextmanager
async def _stage() -> AsyncIterator[_Stage]:
    log = MemoryLog(default_catalogue().topics, PARTITIONS)
    async with AsyncExitStack() as instances:
        first = await instances.enter_async_context(open_scenario(SETTINGS, log=log))
        yield _Stage(instances, log, first)


def _split(sentences: str) -> list[str]:
    return [one.strip() for one in sentences.split(";")]


def _pattern(shown: str) -> str:
    """What is shown as a pattern: `…` for anything, and any time of a clock."""
    literal = (re.escape(part) for part in _CLOCK.sub(r"\1…", shown).split("…"))
    return ".*".join(literal)
