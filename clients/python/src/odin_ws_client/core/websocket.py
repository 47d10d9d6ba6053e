"""One WebSocket connection without I/O: bytes come in, messages and bytes to send come out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus, PayloadTooBig, ProtocolError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
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

# The server's own limit on a record can be set to 16 MiB; an envelope comes on top.
_MAX_MESSAGE_BYTES: Final = 32 << 20

_REJECTION_BYTES: Final = 200

# RFC 6455, 5.5: a control frame has 125 bytes at the most, two of which are the close code.
_REASON_BYTES: Final = 123

_UNSUPPORTED_DATA: Final = 1003
_TOO_BIG: Final = 1009

# The library writes headers into its log at the level DEBUG, the token among them. A logger of
# the usual kind would be within reach of the application's configuration.
_SILENT: Final = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 -- for that


class WebSocket:
    """The client's side of one connection, from the handshake on.

    Args:
        address: what is asked for.
        token: sent as `Authorization: Bearer`, where there is one.
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
        # How the connection ended, or the attempt at one.
        self.end: Ended | Unacceptable | ConnectFailed | None = None

    @property
    def is_upgraded(self) -> bool:
        """Whether the server has accepted the handshake."""
        state = self._protocol.state
        return state is not State.CONNECTING and self._protocol.handshake_exc is None

    @property
    def awaits_close(self) -> bool:
        """Whether we have sent a close frame that the server has not answered."""
        return self._protocol.state is State.CLOSING and self._protocol.close_rcvd is None

    def receive(self, data: Text) -> list[Text]:
        """Read what came, b"" at the end of the stream; returns the messages that are complete."""
        if data:
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
        """The bytes to write next; none if there is nothing to say."""
        return b"".join(self._protocol.data_to_send())

    def send(self, text: str) -> None:
        """Have a message sent, unless one side has begun to close."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(text.encode())

    def close(self, code: int, reason: str) -> None:
        """Have a close frame sent, unless one side has begun to close."""
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
            self.end = _handshake_failure(self._protocol.handshake_exc)
        elif (fault := self._protocol.parser_exc) is not None:
            self.end = _connection_fault(fault)


def _handshake_failure(error: Exception) -> ConnectFailed:
    if isinstance(error, InvalidStatus):
        return _rejected(error.response)
    if isinstance(error.__cause__, EOFError):
        return ConnectFailed("the connection was closed during the handshake")
    reason = error.__cause__ if isinstance(error, InvalidMessage) else error
    return ConnectFailed(f"what answers is no WebSocket server: {reason}", permanent=True)


def _rejected(response: Response) -> HandshakeRejected:
    status = response.status_code
    text = bytes(response.body or b"")[:_REJECTION_BYTES].decode(errors="replace").strip()
    return HandshakeRejected(
        reason=f"rejected with {status}: {text}".rstrip(": "),
        permanent=is_permanent_rejection(status),
        retry_after=retry_after(response.headers.raw_items()),
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
    """Compresses nothing: commands are short, and the server has to inflate them."""

    def encode(self, frame: Frame) -> Frame:
        return frame


class _InflateFactory(ClientPerMessageDeflateFactory):
    """Offers that the server compresses each message by itself: nothing is kept between two."""

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
