"""A simple model of the compiled reader, in plain Python."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import attrs

from odin_ws.bench.tables import LONGEST_FRAME, Problem

__all__ = ["Reference"]


@attrs.define
class Reference:
    """The model of one connection that follows `channels`."""

    channels: list[int]
    topics: int
    partitions: int
    seq: int = 0
    received: int = 0
    rest: bytes = b""
    numbers: dict[int, int] = attrs.field(factory=dict)
    offsets: dict[tuple[int, int], int] = attrs.field(factory=dict)
    problems: Counter[Problem] = attrs.field(factory=Counter)
    other_frames: list[tuple[int, bytes]] = attrs.field(factory=list)

    def read(self, data: bytes) -> None:
        """Process the bytes of one read."""
        data = self.rest + data
        while (found := _first_frame(data)) is not None:
            opcode, payload, data = found
            if opcode == 1 and payload.startswith(b'{"seq":'):
                self._check(json.loads(payload))
            else:
                self.other_frames.append((opcode, payload))
        self.rest = data

    def _check(self, text: dict[str, Any]) -> None:
        partition, offset = map(int, text["pos"].split("-"))
        record = text["data"]["data"]
        channel, number = record["k"], record["n"]
        if partition >= self.partitions:
            self.problems[Problem.STRANGE] += 1
            return
        self.received += 1
        if text["seq"] <= self.seq:
            self.problems[Problem.SEQ_AGAIN] += 1
        else:
            self.problems[Problem.SEQ_GAP] += text["seq"] - self.seq - 1
            self.seq = text["seq"]
        place = channel % self.topics, partition
        if offset <= self.offsets.get(place, -1):
            self.problems[Problem.DISORDER] += 1
        else:
            self.offsets[place] = offset
        last = self.numbers.get(channel)
        if channel not in self.channels:
            self.problems[Problem.UNWANTED] += 1
        elif last is not None and number <= last:
            self.problems[Problem.DOUBLED] += 1
        else:
            self.problems[Problem.LOST] += 0 if last is None else number - last - 1
            self.numbers[channel] = number


def _first_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return opcode, payload and the rest; None if the frame is incomplete."""
    if len(data) < 2:
        return None
    length, begin = data[1], 2
    if length >= 126:
        begin = 4 if length == 126 else 10
        if len(data) < begin:
            return None
        length = int.from_bytes(data[2:begin])
    assert begin + length <= LONGEST_FRAME
    if len(data) < begin + length:
        return None
    return data[0] & 15, data[begin : begin + length], data[begin + length :]
