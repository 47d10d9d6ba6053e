"""The parser reads a whole head or rejects it, for any bytes in any pieces."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import itertools
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.handshake.request import (
    HandshakeRequest,
    HTTPRejection,
    check_upgrade,
    rejection_response,
)
from odin_ws.handshake.request_parser import RequestParser, parse_plain, read_request
from tests.connection.fakes import FakeTransport
from tests.fuzz.corpus import kept, seeds
from tests.fuzz.mutations import inputs
from tests.handshake.requests import UPGRADE, max_header_bytes
from tests.hypothesis_examples import examples
from tests.virtual_time import in_virtual_time

MAX_BYTES = 2048


async def read(*pieces: bytes, forwarded: str | None = None) -> HandshakeRequest | None:
    """Read a head that comes in these pieces and no more."""
    return await read_request(FakeTransport(pieces), max_bytes=MAX_BYTES, forwarded=forwarded)


def read_now(*pieces: bytes) -> HandshakeRequest | None:
    """Read a head outside an async test."""

    async def main(_: MockClock) -> HandshakeRequest | None:
        return await read(*pieces)

    return in_virtual_time(main)


async def rejection_of(*pieces: bytes) -> HTTPRejection:
    """What a head is rejected with that comes in these pieces and no more."""
    with pytest.raises(HTTPRejection) as caught:
        await read(*pieces)
    return caught.value


# ---- reading


async def test_valid_head_is_parsed(autojump_clock: MockClock) -> None:
    """Method, path, query and headers; header names are lower case."""
    request = await read(max_header_bytes("/ws?v=0&empty=&name=a%20b", Origin="https://odin.test"))
    assert request is not None
    assert request.method == "GET"
    assert request.path == "/ws"
    assert request.query == {"v": "0", "empty": "", "name": "a b"}
    assert request.headers == {name.lower(): value for name, value in UPGRADE.items()} | {
        "origin": "https://odin.test"
    }


# What other applications, CDNs and proxies write: Latin-1, UTF-8, and bytes that are neither.
FOREIGN = {
    "cookie of another application": {"Cookie": "name=Ren\xe9; theme=dark"},
    "city of a CDN": {"CF-IPCity": "D\xc3\xbcsseldorf"},
    "user agent": {"User-Agent": "Browser/1.0 (\xd0\xaf)"},
    "bytes of no encoding": {"X-Any": "\x80\x9f\xc0\xff"},
    "language": {"Accept-Language": "fran\xe7ais"},
    "client address of an undeclared proxy": {"X-Forwarded-For": "\xff, 192.0.2.1"},
    "standard header of an undeclared proxy": {"Forwarded": 'for=192.0.2.1;host="z\xfcrich"'},
    "tab in a value": {"X-Any": "one\ttwo"},
}


@pytest.mark.parametrize("case", FOREIGN)
async def test_unused_header_may_have_bytes_over_0x7f(autojump_clock: MockClock, case: str) -> None:
    """The parsed head does not contain it."""
    fields = {name.replace("-", "_"): value for name, value in FOREIGN[case].items()}
    request = await read(max_header_bytes(**fields))
    assert request is not None
    check_upgrade(request)
    assert request.headers.keys() == {name.lower() for name in UPGRADE}


READ = [
    "Authorization",
    "Connection",
    "Host",
    "Origin",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Upgrade",
]


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("byte", ["\x80", "\xe9", "\xff"])
async def test_used_header_must_be_ascii(autojump_clock: MockClock, name: str, byte: str) -> None:
    """Else 400, with the header's name."""
    value = UPGRADE.get(name, "x") + byte
    rejection = await rejection_of(max_header_bytes(**{name.replace("-", "_"): value}))
    assert (rejection.status, rejection.label) == (HTTPStatus.BAD_REQUEST, "bad_request")
    assert name.lower() in rejection.text


@pytest.mark.parametrize("name", ["Cookie", "X_Any", "Origin", "Authorization"])
@pytest.mark.parametrize("byte", [*"\x01\x02\x08\x0b\x0c\x0e\x1b\x1f\x7f"])
async def test_control_character_in_a_header_is_rejected(
    autojump_clock: MockClock, name: str, byte: str
) -> None:
    """In used and unused headers (RFC 9110, 5.5)."""
    assert (
        await rejection_of(max_header_bytes(**{name: f"a{byte}b"}))
    ).status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded"])
async def test_only_the_configured_forwarded_header_is_read(
    autojump_clock: MockClock, name: str
) -> None:
    """It must be ASCII; the other one is ignored."""
    data = max_header_bytes(X_Forwarded_For="192.0.2.1", Forwarded="for=192.0.2.1")
    request = await read(data, forwarded=name)
    assert request is not None
    assert request.headers.keys() - {one.lower() for one in UPGRADE} == {name}
    bad = max_header_bytes(**{name.replace("-", "_"): "192.0.2.1, \xff"})
    with pytest.raises(HTTPRejection):
        await read(bad, forwarded=name)


async def test_values_of_a_repeated_header_are_joined(autojump_clock: MockClock) -> None:
    """A proxy may add its own line: no value hides another."""
    data = max_header_bytes(Connection="keep-alive").replace(
        b"\r\n\r\n", b"\r\nConnection: Upgrade\r\n\r\n"
    )
    request = await read(data)
    assert request is not None
    assert request.headers["connection"] == "keep-alive, Upgrade"
    check_upgrade(request)


async def test_upgrade_on_two_lines_is_one_list(autojump_clock: MockClock) -> None:
    """RFC 9110, 5.3 and 7.8."""
    request = await read(
        max_header_bytes(Upgrade="h2c").replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\n\r\n")
    )
    assert request is not None
    assert request.headers["upgrade"] == "h2c, websocket"
    check_upgrade(request)


@settings(max_examples=examples(100))
@given(
    st.lists(st.integers(0, len(max_header_bytes()) + 3), max_size=10),
    st.sampled_from([b"", b"\x81\x80", b"abc"]),
)
def test_failing_21_a_head_may_be_cut_anywhere_and_nothing_behind_it_is_lost(
    cuts: list[int], behind: bytes
) -> None:
    """Bytes received together with the end of the head are passed on; later ones are not read."""
    data = max_header_bytes() + behind
    edges = sorted({0, *cuts, len(data)})
    pieces = [data[low:high] for low, high in itertools.pairwise(edges)]
    request = read_now(*pieces)
    assert request is not None
    assert request.path == "/ws"
    read_up_to = min(edge for edge in edges if edge >= len(max_header_bytes()))
    assert request.rest == data[len(max_header_bytes()) : read_up_to]


@pytest.mark.parametrize("pieces", [[], [b"GET /ws HT"], [max_header_bytes()[:-1]]])
async def test_end_within_the_head_is_no_rejection(
    autojump_clock: MockClock, pieces: list[bytes]
) -> None:
    """No peer is left to read an answer."""
    assert await read(*pieces, b"") is None


@pytest.mark.parametrize("size", [MAX_BYTES - 1, MAX_BYTES])
@pytest.mark.parametrize("piece", [1, 100, MAX_BYTES])
async def test_head_of_exactly_the_limit_is_parsed(
    autojump_clock: MockClock, size: int, piece: int
) -> None:
    """The limit is inclusive."""
    data = max_header_bytes(X="y" * (size - len(max_header_bytes(X=""))))
    assert len(data) == size
    assert await read(*(data[at : at + piece] for at in range(0, size, piece))) is not None


@pytest.mark.parametrize("size", [MAX_BYTES + 1, MAX_BYTES + 100, 2 * MAX_BYTES, 10 * MAX_BYTES])
@pytest.mark.parametrize("piece", [100, MAX_BYTES, 1 << 20])
async def test_failing_20_a_head_over_the_limit_is_answered_431(
    autojump_clock: MockClock, size: int, piece: int
) -> None:
    """In any pieces, with or without an end."""
    data = max_header_bytes(X="y" * (size - len(max_header_bytes(X=""))))
    rejection = await rejection_of(*(data[at : at + piece] for at in range(0, size, piece)))
    assert (rejection.status, rejection.label) == (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "header_too_large",
    )


async def test_head_without_an_end_is_rejected_at_the_limit(
    autojump_clock: MockClock,
) -> None:
    """The buffered bytes are bounded while they arrive."""
    rejection = await rejection_of(b"GET /ws HTTP/1.1\r\nX: ", b"y" * (MAX_BYTES + 1))
    assert rejection.status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


async def test_bytes_after_the_head_do_not_count_for_its_limit(
    autojump_clock: MockClock,
) -> None:
    """A client may send commands together with its handshake."""
    request = await read(max_header_bytes() + b"x" * (MAX_BYTES - len(max_header_bytes())))
    assert request is not None
    request = await read(max_header_bytes()[:-1], b"\n" + b"x" * (MAX_BYTES - 1))
    assert request is not None
    assert len(request.rest) == MAX_BYTES - 1


@pytest.mark.parametrize("count", [100, 101])
async def test_head_with_over_a_hundred_headers_is_rejected(
    autojump_clock: MockClock, count: int
) -> None:
    """Many small headers are rejected like one large one."""
    extra = b"".join(b"A%d: b\r\n" % number for number in range(count - len(UPGRADE)))
    data = max_header_bytes()[:-2] + extra + b"\r\n"
    if count == 100:
        assert await read(data) is not None
    else:
        assert (await rejection_of(data)).status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET /ws\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS, to a plain port
        b"GET /ws HTTP/1.1\r\n\r\n",  # no Host
        b"GET /ws HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: a\r\n bad: fold\r\n: x\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /w\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        max_header_bytes(Sec_WebSocket_Key="\xff" * 24),
        max_header_bytes(Content_Length="one"),
        max_header_bytes(Content_Length="0, 0"),
        max_header_bytes(content_length="0,0"),
        max_header_bytes(Host="odin.test, elsewhere.test"),
        max_header_bytes(Host="odin.test elsewhere.test"),
        max_header_bytes(Host="ann@odin.test"),
        max_header_bytes(Host="odin.test/ws"),
        max_header_bytes(Host="odin.test\\elsewhere.test"),
        max_header_bytes(Host="["),
        max_header_bytes(Host="a:b:c"),
        max_header_bytes(Host="a:123456"),
        max_header_bytes("ws:/ws", Host=""),
        max_header_bytes("http:/ws", Host=""),
        max_header_bytes("/ws?v=0&v=1"),
        max_header_bytes("/ws?token=a&v=1&token=b"),
        max_header_bytes(X_Name="a\x7fb"),
        max_header_bytes("/ws#"),
        max_header_bytes("/ws?v=0#end"),
        max_header_bytes("http://[::1/ws"),
        max_header_bytes("/ws?v=%ff"),
        max_header_bytes(version="HTTP/2.0"),
        max_header_bytes(version="HTTP/0.9"),
        max_header_bytes(Host=None),
        max_header_bytes(version="HTTP/1.0", Host="a b"),
    ],
)
async def test_invalid_request_is_answered_400(autojump_clock: MockClock, data: bytes) -> None:
    """Random bytes, other encodings and other versions get an answer, not an exception."""
    rejection = await rejection_of(data)
    assert (rejection.status, rejection.label) == (HTTPStatus.BAD_REQUEST, "bad_request")


@settings(max_examples=examples(150))
@given(
    st.binary(max_size=200)
    | st.binary(max_size=20).map(lambda noise: max_header_bytes()[:-2] + noise + b"\r\n\r\n")
    | st.tuples(st.integers(0, 150), st.binary(max_size=3)).map(
        lambda it: max_header_bytes()[: it[0]] + it[1] + max_header_bytes()[it[0] :]
    )
)
def test_any_bytes_result_in_a_head_an_end_or_a_rejection(data: bytes) -> None:
    """Each rejection is valid HTTP."""
    response = b"HTTP/1.1 4"
    try:
        request = read_now(data, b"")
        if request is not None:
            check_upgrade(request)
    except HTTPRejection as rejection:
        response = rejection_response(rejection)
    assert response.startswith(b"HTTP/1.1 4")


# ---- in one pass, and with h11


BROWSER = max_header_bytes(
    "/ws?v=1&token=a%2Eb",
    Origin="https://odin.test",
    User_Agent="Browser/1.0 (X11; Linux x86_64)",
    Accept_Language="en, de;q=0.8",
    Cookie="a=1; b=\xfc",
    Sec_WebSocket_Protocol="odin.v1,\todin.v0",
    Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits",
    X_Forwarded_For="192.0.2.1 , 192.0.2.2",
)


def with_h11(data: bytes, forwarded: str | None) -> HandshakeRequest | HTTPRejection | None:
    """What comes of a head where nothing is parsed in one pass."""
    try:
        return RequestParser(MAX_BYTES, forwarded).receive(data)
    except HTTPRejection as rejection:
        return rejection


def check_both(data: bytes) -> bool:
    """Check that what is parsed in one pass is what h11 makes of it; returns whether it is."""
    taken = 0
    for forwarded in None, "x-forwarded-for", "forwarded":
        request = parse_plain(data, MAX_BYTES, forwarded)
        if request is not None:
            taken += 1
            assert request == with_h11(data, forwarded)
    return bool(taken)


@pytest.mark.parametrize(
    "data", [max_header_bytes(), BROWSER, BROWSER + b"\x81\x80", BROWSER.lower()]
)
def test_head_of_a_usual_client_is_parsed_in_one_pass(data: bytes) -> None:
    """H11 would return the same, more slowly."""
    assert check_both(data) == (b"HTTP/1.1" in data)


@pytest.mark.parametrize(
    "data",
    [
        max_header_bytes()[:-1],
        max_header_bytes(X="y" * MAX_BYTES),
        max_header_bytes(Content_Length="0"),
        max_header_bytes(Transfer_Encoding="chunked"),
        max_header_bytes()[:-2] + b"Host: odin.test\r\n\r\n",
        max_header_bytes()[:-2] + b"Connection: close\r\n\r\n",
        max_header_bytes()[:-2] + b"X: 1\r\n folded: 2\r\n\r\n",
        max_header_bytes()[:-2] + b"X: 1\nY: 2\r\n\r\n",
        max_header_bytes()[:-2] + b"X: 1\r\n" * 100 + b"\r\n",
        max_header_bytes()[:-2] + b"X : 1\r\n\r\n",
        max_header_bytes(X_Any="a\x00b"),
        max_header_bytes(Origin="\xfc"),
        max_header_bytes(Host=None),
        max_header_bytes(Host="a b"),
        max_header_bytes("http://odin.test/ws"),
        max_header_bytes("/ws#end"),
        max_header_bytes("/ws?v=0&v=1"),
        max_header_bytes("/ws?v=%ff"),
        max_header_bytes(version="HTTP/1.0"),
        b"\r\n" + max_header_bytes(),
        b" " + max_header_bytes(),
    ],
)
def test_unusual_head_is_parsed_by_h11(data: bytes) -> None:
    """A repeated header, a body, an invalid or incomplete head."""
    for forwarded in None, "x-forwarded-for":
        assert parse_plain(data, MAX_BYTES, forwarded) is None


def test_one_pass_parser_equals_h11_over_the_fuzzing_corpus() -> None:
    """Each entry without the byte that selects its cut."""
    found = [path.read_bytes() for path in kept("head")]
    assert {check_both(data[1:]) for data in (*seeds("head"), *found)} == {False, True}


@settings(max_examples=examples(500))
@given(
    inputs("head").map(lambda data: data[1:])
    | st.tuples(st.integers(0, len(BROWSER)), st.integers(0, 3), st.binary(max_size=3)).map(
        lambda it: BROWSER[: it[0]] + it[2] + BROWSER[it[0] + it[1] :]
    )
)
def test_one_pass_parser_equals_h11(data: bytes) -> None:
    """For heads with a few mistakes, and for any bytes."""
    check_both(data)
