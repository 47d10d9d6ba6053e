"""Validates tokens and channel names."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import attrs

from odin_ws.pattern import ANY

__all__ = [
    "MAX_TOKEN_BYTES",
    "InvalidName",
    "NameCode",
    "check_token",
    "has_control_characters",
    "is_token",
]

# The protocol's limit (docs/protocol.md, "Names"); an address or a ticker is far shorter.
MAX_TOKEN_BYTES = 128

# Control characters (C0, DEL and C1), which are invisible, and lone surrogates, which cannot be
# encoded in UTF-8.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_IN_TOKENS: Final = re.compile(r"[*\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class NameCode(StrEnum):
    """Why a name was rejected, as in the protocol."""

    INVALID_CHANNEL = "INVALID_CHANNEL"
    UNKNOWN_TOPIC = "UNKNOWN_TOPIC"
    UNKNOWN_BUNDLE = "UNKNOWN_BUNDLE"


@attrs.define
class InvalidName(ValueError):
    """An invalid name; `message` says what is allowed."""

    name: str
    code: NameCode
    message: str

    def __str__(self) -> str:
        return self.message


def has_control_characters(text: str) -> bool:
    """Return whether `text` has a control character."""
    return _CONTROL.search(text) is not None


def is_token(text: str) -> bool:
    """Return whether `text` is a valid token.

    That is 1 to 128 bytes of UTF-8 without a `*` or a control character.
    """
    # A character has at least one byte: most names are decided without encoding them.
    if not text or len(text) > MAX_TOKEN_BYTES or _NOT_IN_TOKENS.search(text):
        return False
    return text.isascii() or len(text.encode()) <= MAX_TOKEN_BYTES


def check_token(text: str, name: str) -> str:
    """Return `text` if it is a valid token. Raises InvalidName, which names the field `name`."""
    if is_token(text):
        return text
    if not text:
        wrong = "the token is empty"
    elif ANY in text:
        wrong = "a * stands for all tokens and cannot be part of one"
    elif has_control_characters(text):
        wrong = "a token must not have control characters"
    elif _NOT_IN_TOKENS.search(text):
        wrong = "a token must not have a lone surrogate"
    else:
        wrong = f"a token must have at most {MAX_TOKEN_BYTES} bytes"
    raise InvalidName(name, NameCode.INVALID_CHANNEL, wrong)
