"""Texts of Kafka's error codes for operators."""

from __future__ import annotations

import pytest

from odin_ws.kafka.errors import error_text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-1, "UNKNOWN_SERVER_ERROR (-1)"),
        (1, "OFFSET_OUT_OF_RANGE (1)"),
        (3, "the topic or partition does not exist"),
        (5, "no leader"),
        (6, "NOT_LEADER_FOR_PARTITION (6)"),
        (29, "not authorized to read the topic (READ)"),
        (30, "not authorized to join the consumer group (READ on the group)"),
        (74, "FENCED_LEADER_EPOCH (74)"),
        (78, "OFFSET_NOT_AVAILABLE (78)"),
        (106, "FETCH_SESSION_TOPIC_ID_ERROR (106)"),
    ],
)
def test_error_text(code: int, text: str) -> None:
    """The name in Kafka's documentation, or its meaning here."""
    assert error_text(code) == text


@pytest.mark.parametrize("code", [*range(-2, 130), 30_000, -32_768])
def test_every_code_has_a_text_with_its_number_or_meaning(code: int) -> None:
    """Also a code that is newer than this version."""
    text = error_text(code)
    assert text
    assert "None" not in text
    assert str(code) in text or " " in text


def test_authorization_text_depends_on_the_request() -> None:
    """Other texts do not."""
    assert error_text(29, denied="may not see") == "may not see"
    assert error_text(6, denied="may not see") == "NOT_LEADER_FOR_PARTITION (6)"
