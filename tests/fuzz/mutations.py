"""Nearly valid inputs for Hypothesis: seeds with mutations."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS

__all__ = ["inputs"]


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Any bytes, or a seed with some mutations."""
    return st.binary(max_size=300) | _mutated(target)


@st.composite
def _mutated(draw: st.DrawFn, target: str) -> bytes:
    parts = list(draw(st.sampled_from(SEEDS[target])))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(parts) - 1))
        match draw(st.sampled_from(["change", "cut", "repeat", "swap", "insert", "drop"])):
            case "change":
                parts[at] = draw(_changed(parts[at]))
            case "cut":
                parts[at] = parts[at][: draw(st.integers(0, len(parts[at])))]
            case "repeat":
                parts[at] *= draw(st.integers(2, 30))
            case "swap":
                other = draw(st.integers(0, len(parts) - 1))
                parts[at], parts[other] = parts[other], parts[at]
            case "insert":
                parts.insert(at, draw(st.binary(max_size=20)))
            case "drop":
                parts[at] = b""
    return b"".join(parts)


def _changed(part: bytes) -> st.SearchStrategy[bytes]:
    """A part with one byte replaced."""
    if not part:
        return st.just(part)
    return st.builds(
        lambda at, byte: part[:at] + bytes([byte]) + part[at + 1 :],
        st.integers(0, len(part) - 1),
        st.integers(0, 255),
    )
