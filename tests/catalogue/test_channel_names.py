"""Tokens are judged as the protocol says."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import (
    MAX_TOKEN_BYTES,
    InvalidName,
    NameCode,
    check_token,
    has_control_characters,
    is_token,
)

texts = st.text(st.characters(codec="utf-8"), max_size=150)
half_pairs = st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3)


@given(texts | st.text("aé😀*.", max_size=140))
def test_a_token_is_1_to_128_bytes_without_a_star_or_controls(text: str) -> None:
    """Bytes count, not characters; everything but a star and control characters may be in it."""
    controls = any(unicodedata.category(one) == "Cc" for one in text)
    assert has_control_characters(text) is controls
    assert is_token(text) is (1 <= len(text.encode()) <= 128 and "*" not in text and not controls)


@given(texts, half_pairs, texts)
def test_half_a_surrogate_pair_is_no_token(before: str, half: str, after: str) -> None:
    """A client can write one as an escape; no UTF-8 can be made of it, and nothing is raised."""
    assert not is_token(before + half + after)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("x" * 128, True),
        ("x" * 129, False),
        ("é" * 64, True),
        ("x" + "é" * 64, False),
        ("xx" + "é" * 63, True),
        ("€" * 42 + "xx", True),
        ("€" * 43, False),
        ("😀" * 32, True),
        ("😀" * 32 + "x", False),
    ],
)
def test_the_limit_is_in_bytes_of_utf_8(text: str, *, good: bool) -> None:
    """Two, three and four bytes a character, at the edge."""
    assert MAX_TOKEN_BYTES == 128
    assert is_token(text) is good


@given(texts)
def test_check_token_returns_the_token_or_raises_invalid_name(text: str) -> None:
    """The error names the whole name that the token stands in."""
    if is_token(text):
        assert check_token(text, "unused") == text
    else:
        with pytest.raises(InvalidName) as caught:
            check_token(text, f"{text}.trade")
        assert caught.value.name == f"{text}.trade"
        assert caught.value.code is NameCode.INVALID_CHANNEL
        assert caught.value.message == str(caught.value) != ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "empty"),
        ("a*", "*"),
        ("x" * 129, "128 bytes"),
        ("*" * 129, "*"),
        ("a\n", "control characters"),
        ("\x00" * 200, "control characters"),
        ("\x9f", "control characters"),
        ("a\ud83d", "surrogate"),
        ("é" * 65, "128 bytes"),
    ],
)
def test_invalid_token_is_reported_with_the_rule(text: str, wrong: str) -> None:
    """Empty, with a star or another character that cannot be in one, or too long."""
    with pytest.raises(InvalidName) as caught:
        check_token(text, text)
    assert wrong in caught.value.message
