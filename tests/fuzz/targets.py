"""The fuzzing targets: each takes bytes, and fails if one of our promises is broken.

For readers of streams, the first byte selects the chunks of the others.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_network
from typing import Final

import attrs
import h11
import jwt
import orjson

from odin_ws.address import read_address
from odin_ws.auth.faults import InvalidJwt
from odin_ws.auth.jwt import JwtRules, verify_jwt
from odin_ws.auth.jwt_verifier import JwtVerifier
from odin_ws.auth.keys import shared_secret
from odin_ws.auth.policy import load_policy
from odin_ws.auth.revocations import Revocation
from odin_ws.catalogue import default_catalogue, has_control_characters
from odin_ws.handshake.forwarded import TrustedProxies
from odin_ws.handshake.proxy_protocol import read_proxy_header
from odin_ws.handshake.request import (
    HTTPRejection,
    check_upgrade,
    rejection_response,
    upgrade_response,
)
from odin_ws.handshake.request_parser import RequestParser, parse_plain, read_request
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.errors import CommandError
from odin_ws.protocol.message_reader import Fault, FrameReader, Incoming, PeerClose
from odin_ws.protocol.position_parser import read_last_offsets, read_last_positions, read_positions
from odin_ws.protocol.responses import error_response
from odin_ws.steps import finish
from tests.fuzz.chunked_input import chunks, source_status
from tests.fuzz.conversations import check_client, check_resume, check_session
from tests.fuzz.kafka_bytes import check_records, check_response
from tests.fuzz.queries import check_events, check_filter, check_query
from tests.fuzz.seeds import GOOD_TOKEN, SECRET
from tests.kafka.batch_decoders import check_decoding
from tests.kafka.batches import sealed

__all__ = ["TARGETS"]

_KEYS: Final = shared_secret(SECRET)
_RULES: Final = JwtRules(audience=None, issuer=None, leeway=0)
_CATALOGUE: Final = default_catalogue()
_POLICY: Final = load_policy(
    '[categories.balances]\nwho = "owner"\nclaim = "tokens"', _CATALOGUE, ["social"]
)
_JWS: Final = jwt.PyJWS()
_NETWORKS: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_ALL_TRUSTED: Final = [TrustedProxies(_NETWORKS, name) for name in ("X-Forwarded-For", "Forwarded")]
_HEAD_BYTES: Final = 1024
_MESSAGE_BYTES: Final = 200
_MESSAGE_FRAMES: Final = 10

# Longer than any response text of the server, and shorter than a response to a flood.
_MAX_REJECTION_BYTES: Final = 4096


def check_head(data: bytes) -> None:
    """A head gives a request, a valid rejection, or nothing because the client has left."""
    request = None
    proxies = _ALL_TRUSTED[data[0] >> 2 & 1 if data else 0]
    plain = parse_plain(data[1:], _HEAD_BYTES, proxies.header)
    if plain is not None:
        # The fast parser agrees with h11.
        assert plain == RequestParser(_HEAD_BYTES, proxies.header).receive(data[1:])
    try:
        request = source_status(
            data,
            lambda wire: read_request(wire, max_bytes=_HEAD_BYTES, forwarded=proxies.header),
        )
        if request is None:
            return
        check_upgrade(request)
    except HTTPRejection as rejection:
        _check_response(rejection_response(rejection))
    else:
        assert upgrade_response(request).startswith(b"HTTP/1.1 101 ")
        # The address of the client is one.
        source = proxies.client("10.0.0.1", request.headers)
        assert source.address == read_address(source.address)


def _check_response(data: bytes) -> None:
    """A client reads exactly one response of it."""
    assert len(data) < _MAX_REJECTION_BYTES
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "test")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    events: list[object] = []
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        events.append(event)
    assert client.trailing_data[0] == b""


def check_proxy(data: bytes) -> None:
    """A PROXY header gives an address, a rejection, or nothing because the client has left."""
    with suppress(HTTPRejection):
        found = source_status(data, lambda wire: read_proxy_header(wire, seconds=5))
        assert found is None or found == read_address(found)


def check_command(data: bytes) -> None:
    """A text gives a command, or a short rejection that says what is wrong."""
    rejected = None
    try:
        decode_command(data.decode(errors="replace"), _CATALOGUE)
    except CommandError as error:
        rejected = error_response(error)
    if rejected is not None:
        response = orjson.loads(rejected)
        assert response.get("data", response)["message"]
        assert len(rejected) < 6 * len(data) + _MAX_REJECTION_BYTES


def check_token(data: bytes) -> None:
    """A token gives claims or is invalid; only a signed one has claims."""
    claims = None
    with suppress(InvalidJwt):
        claims = verify_jwt(data.decode(errors="replace"), _KEYS, _RULES)
    assert claims in (None, verify_jwt(GOOD_TOKEN, _KEYS, _RULES))


def check_claims(data: bytes) -> None:
    """Signed claims of any contents give a grant or are rejected.

    A granted user can be listed, logged and revoked, and has a finite expiry.
    """
    token = _JWS.encode(data, SECRET, "HS256")
    jwt_verifier = JwtVerifier(_RULES, _POLICY, static_keys=_KEYS)
    try:
        grant = jwt_verifier.verify(token)
    except InvalidJwt:
        return
    assert grant.user
    assert grant.user.isprintable() or not has_control_characters(grant.user)
    shown = json.dumps(attrs.asdict(grant), ensure_ascii=False, default=sorted).encode()
    assert orjson.loads(shown)["user"] == grant.user
    left = jwt_verifier.seconds_until_expiry(grant)
    assert left is not None
    assert math.isfinite(left)
    for revocation in (Revocation(user=grant.user), Revocation(token_id=grant.token_id)):
        if revocation != Revocation():
            assert revocation.applies_to(grant)
    jwt_verifier.revoke(Revocation(user=grant.user), time.time() + 60)
    with suppress(InvalidJwt):
        jwt_verifier.verify(token)
        raise AssertionError("a revoked user was accepted")


def check_positions(data: bytes) -> None:
    """Positions are rejected, or are ones that Kafka could have."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    with suppress(CommandError):
        for key, offset in finish(read_positions(value, _CATALOGUE)).items():
            assert key.topic in _CATALOGUE.topics
            assert 0 <= key.partition < 1 << 31
            assert -1 <= offset < 1 << 63
    with suppress(CommandError):
        finish(read_last_positions(value, _CATALOGUE))
    with suppress(CommandError):
        assert read_last_offsets(value, _CATALOGUE).keys() <= _CATALOGUE.topics.keys()


def check_frames(data: bytes) -> None:
    """Chunks do not change the messages, and nothing follows a fault or a close."""
    _check_frames(data, deflate=False)


def check_deflate(data: bytes) -> None:
    """The same on a connection with compression."""
    _check_frames(data, deflate=True)


def _check_frames(data: bytes, *, deflate: bool) -> None:
    cut = list(_read(chunks(data), deflate=deflate))
    whole = list(_read([data[1:]], deflate=deflate))
    # If a frame has two faults, the chunks decide which one is noticed first.
    for items in cut, whole:
        if items and isinstance(items[-1], Fault):
            items[-1] = Fault.BROKEN
    assert cut == whole
    assert not any(isinstance(item, Fault | PeerClose) for item in cut[:-1])
    for item in cut:
        if isinstance(item, str | bytes):
            size = len(item.encode() if isinstance(item, str) else item)
            assert size <= _MESSAGE_BYTES


def check_batches(data: bytes) -> None:
    """A batch gives records, skip reasons and an advancing position; half have valid checksums."""
    how, fetched = data[:1], data[1:]
    if how > b"\x7f":
        fetched = sealed(fetched)
    check_decoding(fetched, how[0] & 0x0F if how else 0, [(9, 0)])


def _read(parts: list[bytes], *, deflate: bool) -> Iterator[Incoming]:
    reader = FrameReader(_MESSAGE_BYTES, _MESSAGE_FRAMES, deflate=deflate)
    for part in parts:
        for item in reader.receive(part):
            yield item
            if isinstance(item, Fault | PeerClose):
                return


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "head": check_head,
    "proxy": check_proxy,
    "command": check_command,
    "token": check_token,
    "claims": check_claims,
    "positions": check_positions,
    "frames": check_frames,
    "deflate": check_deflate,
    "batches": check_batches,
    "records": check_records,
    "response": check_response,
    "resume": check_resume,
    "session": check_session,
    "caller": check_client,
    "filter": check_filter,
    "query": check_query,
    "events": check_events,
}
