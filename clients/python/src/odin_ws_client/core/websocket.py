"""One WebSocket connection without I/O: bytes come in, messages and bytes to send come out."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus, PayloadTooBig, ProtocolError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import ExtensionParameter
from websockets.uri import WebSocketURI

from odin_ws_client.core.close_codes import (
    ABNORMAL,
    Ended,
    Unacceptable,
    is_permanent_rejection,
    retry_after,
)
from odin_ws_client.core.errors import ConnectFailed, HandshakeRejected
from odin_ws_client.core.session import Text
from odin_ws_client.core.url import ServerAddress

__all__ = ["WebSocket"]

# Twice the largest record limit of the server (16 MiB), with room for the fields around a value.
_MAX_MESSAGE_BYTES: Final = 32 << 20

_REJECTION_BYTES: Final = 200

# Bytes of a response that are kept until the handshake ends: the head of a proxy's error page.
_HEAD_BYTES: Final = 4096

# The library rejects HTTP/1.0, which the error pages of some proxies have, and lines without a
# reason.
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?=[ \r\n])")

# RFC 6455, 5.5: a control frame has at most 125 bytes; the close code takes 2 of them.
_REASON_BYTES: Final = 123

_SWITCHING_PROTOCOLS: Final = 101

_UNSUPPORTED_DATA: Final = 1003
_TOO_BIG: Final = 1009

# The library logs headers, and so the token, at the level DEBUG. The application's logging
# configuration does not apply to a logger that is not from getLogger.
_SILENT: Final = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 -- for that


class WebSocket:
    """The client's side of one WebSocket connection, from the handshake on.

    Args:
        address: the parts of the server's URL.
        token: the JWT for `Authorization: Bearer`; None for no such header.
    """

    def __init__(self, address: ServerAddress, token: str | None) -> None:
        path, _, query = address.target.partition("?")
        uri = WebSocketURI(address.secure, address.host, address.port, path, query, None, None)
        self._protocol = ClientProtocol(
            uri, extensions=[_InflateFactory()], max_size=_MAX_MESSAGE_BYTES, logger=_SILENT
        )
        request = self._protocol.connect()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        self._protocol.send_request(request)
        self._parts: list[Text] = []
        self._head = b""
        self.end: Ended | Unacceptable | ConnectFailed | None = None
        """The reason for the end of the connection or handshake; None while it is open."""

    @property
    def is_upgraded(self) -> bool:
        """True if the server has accepted the handshake."""
        state = self._protocol.state
        return state is not State.CONNECTING and self._protocol.handshake_exc is None

    @property
    def awaits_close(self) -> bool:
        """True if the client has sent a close frame that the server has not answered."""
        return self._protocol.state is State.CLOSING and self._protocol.close_rcvd is None

    def receive(self, data: Text) -> list[Text]:
        """Read received bytes, b"" at the end of the stream; return the completed messages."""
        if data:
            if self._protocol.state is State.CONNECTING:
                self._head += bytes(data[: _HEAD_BYTES - len(self._head)])
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        messages: list[Text] = []
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and self.end is None:
                self._take(event, messages)
        if self.end is None:
            self._find_fault()
        return messages

    def data_to_send(self) -> bytes:
        """Return the bytes to write next; empty without output."""
        return b"".join(self._protocol.data_to_send())

    def send(self, text: str) -> None:
        """Queue a text message, unless one side has begun to close."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(text.encode())

    def close(self, code: int, reason: str) -> None:
        """Queue a close frame, unless one side has begun to close."""
        if self._protocol.state is State.OPEN:
            fitting = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
            self._protocol.send_close(code, fitting)

    def _take(self, frame: Frame, messages: list[Text]) -> None:
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
            data = frame.data if isinstance(frame.data, Text) else bytes(frame.data)
            if frame.fin and not self._parts:
                messages.append(data)
                return
            self._parts.append(data)
            if frame.fin:
                messages.append(b"".join(self._parts))
                self._parts.clear()
        elif frame.opcode is Opcode.BINARY:
            self.end = Unacceptable(_UNSUPPORTED_DATA, "a binary frame", permanent=True)
        elif frame.opcode is Opcode.CLOSE and (close := self._protocol.close_rcvd) is not None:
            self.end = Ended(int(close.code), close.reason)

    def _find_fault(self) -> None:
        if self._protocol.handshake_exc is not None:
            self.end = _handshake_failure(self._protocol.handshake_exc, self._head)
        elif (fault := self._protocol.parser_exc) is not None:
            self.end = _connection_fault(fault)


def _handshake_failure(error: Exception, head: bytes) -> ConnectFailed:
    if isinstance(error, InvalidStatus):
        response = error.response
        headers = response.headers.raw_items()
        return _rejected(response.status_code, headers, bytes(response.body or b""))
    if isinstance(error.__cause__, EOFError):
        return ConnectFailed("the connection was closed during the handshake")
    status_line = _STATUS_LINE.match(head)
    if status_line is not None and (status := int(status_line[1])) != _SWITCHING_PROTOCOLS:
        lines, _, body = head.partition(b"\r\n\r\n")
        fields = (line.partition(":") for line in lines.decode("latin-1").split("\r\n")[1:])
        return _rejected(status, [(name, value.strip()) for name, _, value in fields], body)
    reason = error.__cause__ if isinstance(error, InvalidMessage) else error
    return ConnectFailed(f"the server does not speak WebSocket: {reason}", permanent=True)


def _rejected(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> HandshakeRejected:
    text = body[:_REJECTION_BYTES].decode(errors="replace").strip()
    return HandshakeRejected(
        reason=f"rejected with {status}: {text}".rstrip(": "),
        permanent=is_permanent_rejection(status),
        retry_after=retry_after(headers),
        status=status,
        text=text,
    )


def _connection_fault(error: Exception) -> Ended | Unacceptable:
    match error:
        case EOFError():
            return Ended(ABNORMAL, "the connection was lost")
        case ProtocolError():
            return Unacceptable(1002, str(error), permanent=False)
        case UnicodeDecodeError():
            return Unacceptable(1007, str(error), permanent=False)
        case PayloadTooBig():
            why = f"a message has more than {_MAX_MESSAGE_BYTES} bytes"
            return Unacceptable(_TOO_BIG, why, permanent=True)
        case _:
            raise error


class _Inflate(PerMessageDeflate):
    """permessage-deflate for received messages only: sent commands are too short to compress."""

    def encode(self, frame: Frame) -> Frame:
        return frame


class _InflateFactory(ClientPerMessageDeflateFactory):
    """Offers permessage-deflate without context takeover: no window memory between messages."""

    def __init__(self) -> None:
        super().__init__(
            server_no_context_takeover=True,
            client_no_context_takeover=True,
            client_max_window_bits=None,
        )

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> PerMessageDeflate:
        agreed = super().process_response_params(params, accepted_extensions)
        return _Inflate(
            agreed.remote_no_context_takeover,
            agreed.local_no_context_takeover,
            agreed.remote_max_window_bits,
            agreed.local_max_window_bits,
        )
