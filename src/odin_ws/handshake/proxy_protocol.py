"""The PROXY protocol, version 2: the client address that a load balancer sends first.

https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt, section 2.2. Version 1 is a line of
text of unknown length; every proxy that has it can send version 2 instead.
"""

from __future__ import annotations

from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

import trio

from odin_ws.address import read_address
from odin_ws.handshake.request import HTTPRejection
from odin_ws.listener.transport import Transport

__all__ = ["read_proxy_header"]

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED_BYTES: Final = 16

# Commands: the proxy itself connects (a health check), or for a client.
_LOCAL: Final = 0x20
_PROXY: Final = 0x21

# Family and transport with the length of an address; others have no usable address.
_ADDRESS_BYTES: Final = {0x11: 4, 0x21: 16}

# Two addresses, two ports, and extensions: about 100 bytes of AWS, some hundreds of TLS details.
_MAX_BYTES: Final = 4096


async def read_proxy_header(transport: Transport, *, seconds: float) -> str | None:
    """Read the client's address; None if the proxy connects itself or names no client.

    Reads nothing after the header. Raises HTTPRejection if the header is missing or malformed.
    """
    with trio.move_on_after(seconds):
        fixed = await _read(transport, _FIXED_BYTES)
        command, family = fixed[12], fixed[13]
        size = int.from_bytes(fixed[14:16], "big")
        if not fixed.startswith(_SIGNATURE) or command not in {_LOCAL, _PROXY}:
            raise _rejection("a PROXY header, version 2, must come first")
        if size > _MAX_BYTES:
            raise _rejection(f"a PROXY header has at most {_MAX_BYTES} bytes")
        rest = await _read(transport, size)
        length = _ADDRESS_BYTES.get(family)
        if command == _LOCAL or length is None:
            return None
        if size < 2 * length + 4:
            raise _rejection("a PROXY header ends within its addresses")
        return read_address(str(ip_address(rest[:length])))
    raise _rejection(f"the PROXY header did not arrive within {seconds:g} s")


async def _read(transport: Transport, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await transport.receive_some(size - len(data))
        if not more:
            raise trio.BrokenResourceError
        data += more
    return data


def _rejection(text: str) -> HTTPRejection:
    return HTTPRejection(HTTPStatus.BAD_REQUEST, "bad_proxy_header", text)
