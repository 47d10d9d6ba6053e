"""Our lines are all printed, repeated lines of libraries now and then; lines are JSON."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from odin_ws.logs import configure_logging

LIBRARIES = (
    "httpcore",
    "httpx",
    "asyncio",
    "trio_asyncio",
    "aiokafka",
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Restore the logging configuration after the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in LIBRARIES}
    config = structlog.get_config()
    yield
    structlog.configure(**config)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, own in levels.items():
        logging.getLogger(name).setLevel(own)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock for repeated lines: a list with one number."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now
    monkeypatch.undo()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The printed lines as objects; standard output must be empty, because it is for results."""
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_our_lines_are_json_with_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """One object per line: event, level, logger, time, and the event's fields."""
    configure_logging("info", "json")
    log = structlog.get_logger("odin_ws.test")
    log.info("feed is live", topics=["odin.trades"], text='a "quote"\nand é')
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "feed is live",
        "level": "info",
        "logger": "odin_ws.test",
        "topics": ["odin.trades"],
        "text": 'a "quote"\nand é',
    }


def test_lines_of_libraries_have_the_same_format(capsys: pytest.CaptureFixture[str]) -> None:
    """A log collector sees one format for all lines."""
    configure_logging("info", "json")
    logging.getLogger("library").warning("lost %s after %d s", "kafka:9092", 5)
    (line,) = lines(capsys)
    assert line["event"] == "lost kafka:9092 after 5 s"
    assert (line["level"], line["logger"]) == ("warning", "library")


def test_traceback_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is part of the object, with its place."""
    configure_logging("info", "json")
    try:
        1 / 0  # noqa: B018 -- for its exception
    except ZeroDivisionError:
        structlog.get_logger("odin_ws.test").exception("connection failed", peer="192.0.2.1")
    (line,) = lines(capsys)
    assert line["level"] == "error"
    assert "ZeroDivisionError" in json.dumps(line["exception"])
    assert __file__ in json.dumps(line["exception"])


def test_text_format_is_readable_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    """The same line is readable, without colours unless stderr is a terminal."""
    configure_logging("info", "text")
    structlog.get_logger("odin_ws.test").info("feed is live", partitions=96)
    out, err = capsys.readouterr()
    assert out == ""
    assert "feed is live" in err
    assert "partitions=96" in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("level", "printed"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_level_filters_lines(
    capsys: pytest.CaptureFixture[str], level: str, printed: list[str]
) -> None:
    """LOG_LEVEL applies to our lines and to those of libraries."""
    configure_logging(level, "json")
    ours, theirs = structlog.get_logger("odin_ws.test"), logging.getLogger("library")
    for name in ("debug", "info", "warning", "error"):
        getattr(ours, name)("ours")
        getattr(theirs, name)(f"theirs {name}")
    seen = lines(capsys)
    assert [line["level"] for line in seen if line["event"] == "ours"] == printed
    assert [line["level"] for line in seen if line["event"] != "ours"] == printed


def test_repeated_line_of_a_library_is_printed_once_in_30_s(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    """A lasting cause does not fill the disk, and is not forgotten either."""
    configure_logging("info", "json")
    library = logging.getLogger("library")
    for second in range(61):
        clock[0] = 1000.0 + second
        for _ in range(40):
            library.error("Unable to connect to %s", f"kafka-{second}")
    assert [line["event"] for line in lines(capsys)] == [
        "Unable to connect to kafka-0",
        "Unable to connect to kafka-30",
        "Unable to connect to kafka-60",
    ]


def test_different_lines_of_libraries_are_all_printed(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    """Another text or another logger is another line."""
    configure_logging("info", "json")
    for name, text in [("one", "a"), ("one", "b"), ("two", "a"), ("one", "a")]:
        logging.getLogger(name).error(text)
    assert len(lines(capsys)) == 3
    clock[0] += 29.9
    logging.getLogger("one").error("a")
    assert lines(capsys) == []


def test_repeated_lines_of_ours_are_all_printed(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    """Each of our lines is a change of state, which counts."""
    configure_logging("info", "json")
    for second in range(5):
        clock[0] = 1000.0 + second
        structlog.get_logger("odin_ws.test").info("draining")
    assert len(lines(capsys)) == 5


@pytest.mark.parametrize("name", LIBRARIES)
def test_chatty_libraries_are_quiet_at_info(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """They log every connection and request; their errors are printed."""
    configure_logging("debug", "json")
    logging.getLogger(name).info("once more")
    assert lines(capsys) == []
    logging.getLogger(name).error("out of order")
    assert len(lines(capsys)) == 1


def test_configuring_again_replaces_the_handlers(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is printed twice."""
    configure_logging("info", "text")
    configure_logging("info", "json")
    logging.getLogger("library").warning("once")
    assert len(lines(capsys)) == 1


@pytest.mark.parametrize("style", ["json", "text"])
def test_traceback_has_no_values_of_variables(
    capsys: pytest.CaptureFixture[str], style: str
) -> None:
    """A traceback shows the place, and neither secrets nor data of subscribers."""
    configure_logging("info", style)

    def fail(value: str) -> None:
        raise RuntimeError(len(value))

    value = "correct horse".replace(" ", "-")
    try:
        fail(value)
    except RuntimeError:
        structlog.get_logger("odin_ws.test").exception("broken")
    _, printed = capsys.readouterr()
    assert "RuntimeError" in printed
    assert "test_traceback_has_no_values_of_variables" in printed
    assert value not in printed
