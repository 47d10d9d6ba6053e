"""The fixed limits that docs/security.md lists are those of the code."""

from __future__ import annotations

import re

from odin_ws.auth.claims import MAX_NAMES
from odin_ws.ops.page_cache import PAGE_SECONDS
from odin_ws.ops.server import OpsLimits
from odin_ws.session import deferred_commands
from odin_ws.time_slice import SLICE_SECONDS, SLICE_STEPS
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text("utf-8").partition("### Fixed limits")[2]


def numbers(pattern: str) -> list[float]:
    """The numbers at the groups of a pattern in the section."""
    found = re.search(pattern, TEXT)
    assert found is not None, pattern
    return [float(number.replace(",", "")) for number in found.groups()]


def test_limits_of_the_ops_port_are_as_documented() -> None:
    """A default that grows by mistake fails here; the other tests of them set their own."""
    limits = OpsLimits()
    assert numbers(
        r"(\d+) connections \((\d+) of them streams\), (\d+) new ones a second \((\d+) from one "
        r"address\) and (\d+) s for each"
    ) == [
        limits.connections,
        limits.streams,
        limits.rate,
        limits.rate_per_address,
        limits.seconds,
    ]
    assert PAGE_SECONDS == 1


def test_limits_of_commands_are_as_documented() -> None:
    """Waiting commands, names in a claim, and time slices."""
    assert numbers(r"(\d+) commands and (\d+) KiB of patterns") == [
        deferred_commands.MAX_WAITING,
        deferred_commands.MAX_WAITING_BYTES / 1024,
    ]
    assert numbers(r"([\d,]+) names of 256 characters in a claim") == [MAX_NAMES]
    assert numbers(r"(\d+) ms or four steps") == [SLICE_SECONDS * 1000]
    assert SLICE_STEPS == 4
