"""One connection with the server, without I/O: handshake, subscription, keep-alive, tokens."""

from __future__ import annotations

import math
import random
from typing import Final

from odin_ws_client.core.close_codes import ABNORMAL, NORMAL, Ended, Unacceptable
from odin_ws_client.core.credentials import Credentials
from odin_ws_client.core.errors import ConnectFailed, SubscriptionRejected
from odin_ws_client.core.items import Checkpoint, Item
from odin_ws_client.core.session import HEARTBEAT, ProtocolSession, Text, auth_command
from odin_ws_client.core.silence import SilenceDetector
from odin_ws_client.core.timing import Timing
from odin_ws_client.core.token_refresh import TokenRefresh
from odin_ws_client.core.websocket import WebSocket

__all__ = ["Conversation", "End"]

# The reasons for the end of a connection or of an attempt to connect.
End = Ended | Unacceptable | ConnectFailed | SubscriptionRejected

# Time limit for the answer to a command. The server waits up to 30 s for Kafka; a dead server is
# detected by its silence before that.
_RESPONSE_SECONDS: Final = 60


class Conversation:
    """The state of one connection: received bytes go in, items and bytes to send come out.

    The owner of the socket writes `data_to_send` after each call, delivers the items, and reads
    until `deadline`; then the owner calls `receive`, or `tick` if no bytes came. The conversation
    is over when `end` is set.

    Args:
        websocket: the WebSocket state of the connection.
        session: the protocol state of the connection.
        credentials: the source of tokens.
        timing: the client's time limits.
        rng: the random numbers of the jitter.
        began: the time when dialling began.
    """

    def __init__(  # noqa: PLR0913 -- by name
        self,
        websocket: WebSocket,
        session: ProtocolSession,
        *,
        credentials: Credentials,
        timing: Timing,
        rng: random.Random,
        began: float,
    ) -> None:
        self.session = session
        self.end: End | None = None
        """The reason for the end of the connection; None while it is open."""
        self.accepted_at: float | None = None
        """The time when the subscription took effect."""
        self._websocket = websocket
        self._timing = timing
        self._token_refresh = TokenRefresh(credentials, rng)
        self._silence = SilenceDetector(timing.silence)
        self._upgrade_by = began + timing.connect
        # The deadline of the answer to a command, and the time to send a deferred command again.
        self._response_deadline = self._retry_at = math.inf
        self._backoff = timing.backoff(rng)
        # False after a failed write or a network error; then nothing more is written.
        self._writable = True

    # Input.

    def receive(self, data: Text, now: float) -> list[Item | Checkpoint]:
        """Read received bytes, b"" at the end of the stream; return the items for the consumer.

        All messages before a message that ends the connection count as received.
        """
        was_upgraded = self._websocket.is_upgraded
        texts = self._websocket.receive(data)
        self._silence.received()
        items: list[Item | Checkpoint] = []
        if not was_upgraded and self._websocket.is_upgraded:
            items += self.session.begin()
            self.send_requests(now)
        try:
            for text in texts:
                items.extend(self.session.take(text, now))
        except (Unacceptable, SubscriptionRejected) as end:
            self._end_with(end)
        else:
            if self._websocket.end is not None:
                self._end_with(self._websocket.end)
        if self.session.has_new_state:
            self._follow_session(now)
        return items

    def tick(self, now: float) -> None:
        """Act on the deadlines that are reached: handshake, answer, repeated command, silence."""
        if not self._websocket.is_upgraded:
            if now >= self._upgrade_by:
                seconds = self._timing.connect
                self._end_with(ConnectFailed(f"no answer to the handshake within {seconds:g} s"))
            return
        if now >= self._response_deadline:
            self._end_with(Ended(ABNORMAL, f"no answer within {_RESPONSE_SECONDS} s"))
        elif now >= self._retry_at:
            self._send_command(self.session.command(), now)
        if self.end is None and now >= self._silence.deadline(now):
            self._send_heartbeat(now)

    def break_off(self, why: str, *, permanent: bool) -> None:
        """End the conversation after a network error.

        Args:
            why: the error of a connection whose handshake is not finished.
            permanent: whether another attempt would fail too.
        """
        self._writable = False
        if self._websocket.is_upgraded:
            self._end_with(Ended(ABNORMAL, "the connection was lost"))
        else:
            self._end_with(ConnectFailed(why, permanent))

    def stop_writing(self) -> None:
        """Write no more after a failed write; a close frame of the server may still be read."""
        self._writable = False

    def give_up_writing(self) -> None:
        """End the conversation, because a write was not complete by `write_deadline`."""
        self._writable = False
        if self._websocket.is_upgraded:
            seconds = self._timing.silence
            self._end_with(Ended(ABNORMAL, f"the server has read nothing for {seconds:g} s"))
        else:
            self.tick(self._upgrade_by)

    def offer_token(self, token: object) -> bool:
        """Send the token function's `token` unless it is the current one; return whether sent."""
        another = self._token_refresh.offer(token)
        if another is not None:
            self._websocket.send(auth_command(another))
        return another is not None

    def close(self) -> None:
        """Send a close frame with 1000, if the WebSocket is open."""
        self._websocket.close(NORMAL, "")

    # Output.

    @property
    def is_upgraded(self) -> bool:
        """True if the server has accepted the handshake."""
        return self._websocket.is_upgraded

    @property
    def awaits_close(self) -> bool:
        """True if the server's answer to the client's close frame is awaited."""
        return self._writable and self._websocket.awaits_close

    def data_to_send(self) -> bytes:
        """Return the bytes to write next."""
        data = self._websocket.data_to_send()
        return data if self._writable else b""

    def deadline(self, now: float) -> float:
        """Return the time until which to read before a call of `tick`."""
        if not self._websocket.is_upgraded:
            return self._upgrade_by
        return min(self._silence.deadline(now), self._response_deadline, self._retry_at)

    def write_deadline(self, now: float) -> float:
        """Return the time by which bytes written now have to reach the kernel."""
        return now + self._timing.silence if self._websocket.is_upgraded else self._upgrade_by

    def token_refresh_begins(self) -> bool:
        """Return whether to begin calls of the token function, each after `token_pause`."""
        return self.end is None and self._token_refresh.begins(self.session)

    def token_pause(self, now: float) -> float | None:
        """Return the seconds until the next call of the token function; None for no more calls."""
        return self._token_refresh.pause(now)

    def send_requests(self, now: float) -> None:
        """Send the next command, unless the answer to a command is awaited."""
        if self._websocket.is_upgraded and (text := self.session.next_command()) is not None:
            self._send_command(text, now)

    def _send_command(self, text: str, now: float) -> None:
        self._websocket.send(text)
        self._retry_at, self._response_deadline = math.inf, now + _RESPONSE_SECONDS

    def _follow_session(self, now: float) -> None:
        self.session.has_new_state = False
        if self.session.accepted and self.accepted_at is None:
            self.accepted_at = now
        if self.session.is_deferred:
            if self._retry_at == math.inf:
                pause = self._backoff.next()
                self._response_deadline, self._retry_at = (
                    math.inf,
                    now + (self.session.retry_in or pause),
                )
        elif not self.session.awaits_response:
            self._response_deadline = math.inf
            self.send_requests(now)

    def _send_heartbeat(self, now: float) -> None:
        if not self._silence.is_over(now):
            self._websocket.send(HEARTBEAT)
            return
        self._writable = False  # no peer is there to read a close frame
        seconds = 2 * self._timing.silence
        self._end_with(Ended(ABNORMAL, f"the server has sent nothing for {seconds:g} s"))

    def _end_with(self, end: End) -> None:
        if self.end is not None:
            return
        self.end = end
        if isinstance(end, Unacceptable):
            self._websocket.close(end.code, end.reason)
        else:
            self._websocket.close(NORMAL, "")
