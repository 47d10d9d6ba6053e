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

# How a connection ended, or the attempt at one.
End = Ended | Unacceptable | ConnectFailed | SubscriptionRejected

# A server waits for its Kafka for half a minute; one that is dead falls silent sooner.
_ANSWER_SECONDS: Final = 60


class Conversation:
    """Takes bytes and the time, returns items and bytes to send, until there is an `end`.

    The owner of the socket sends `data_to_send` after each call, passes on the items, and reads
    until `deadline`; then it calls `receive`, or `tick` if it has read nothing.

    Args:
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
        # When the subscription took effect.
        self.accepted_at: float | None = None
        self._websocket = websocket
        self._timing = timing
        self._token_refresh = TokenRefresh(credentials, rng)
        self._silence = SilenceDetector(timing.silence)
        self._upgrade_by = began + timing.connect
        # When the answer to the command is due, or the command is to be sent again.
        self._answer_by = self._ask_at = math.inf
        self._backoff = timing.backoff(rng)
        # Whether the server takes what we send, as far as is known.
        self._writable = True

    # What comes in.

    def receive(self, data: Text, now: float) -> list[Item | Checkpoint]:
        """Read what came, b"" at the end of the stream; returns what the consumer has to know.

        Everything before a message that ends the connection counts as received.
        """
        was_upgraded = self._websocket.is_upgraded
        texts = self._websocket.receive(data)
        self._silence.heard()
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
        if self.session.has_news:
            self._follow_session(now)
        return items

    def tick(self, now: float) -> None:
        """Do what is due."""
        if not self._websocket.is_upgraded:
            if now >= self._upgrade_by:
                seconds = self._timing.connect
                self._end_with(ConnectFailed(f"no WebSocket there: no answer within {seconds:g} s"))
            return
        if now >= self._answer_by:
            self._end_with(Ended(ABNORMAL, f"no answer within {_ANSWER_SECONDS} s"))
        elif now >= self._ask_at:
            self._ask(self.session.command(), now)
        if self.end is None and now >= self._silence.deadline(now):
            self._break_silence(now)

    def break_off(self, why: str, *, permanent: bool) -> None:
        """The network has failed: `why` is said of a connection that did not come about."""
        self._writable = False
        if self._websocket.is_upgraded:
            self._end_with(Ended(ABNORMAL, "the connection was lost"))
        else:
            self._end_with(ConnectFailed(why, permanent))

    def stop_writing(self) -> None:
        """A write failed. Reading tells how it ended: a close frame may still be there."""
        self._writable = False

    def give_up_writing(self) -> None:
        """The server did not take what was written until `write_deadline`."""
        self._writable = False
        if self._websocket.is_upgraded:
            seconds = self._timing.silence
            self._end_with(Ended(ABNORMAL, f"the server has taken nothing for {seconds:g} s"))
        else:
            self.tick(self._upgrade_by)

    def offer_token(self, token: object) -> bool:
        """Whether the token that the function returned is another one; then it is sent."""
        another = self._token_refresh.offer(token)
        if another is not None:
            self._websocket.send(auth_command(another))
        return another is not None

    def close(self) -> None:
        """Say goodbye, if that is still possible."""
        self._websocket.close(NORMAL, "")

    # What comes out.

    @property
    def is_upgraded(self) -> bool:
        """Whether the server has accepted the handshake."""
        return self._websocket.is_upgraded

    @property
    def awaits_close(self) -> bool:
        """Whether the server is to answer our close."""
        return self._writable and self._websocket.awaits_close

    def data_to_send(self) -> bytes:
        """The bytes to write next."""
        data = self._websocket.data_to_send()
        return data if self._writable else b""

    def deadline(self, now: float) -> float:
        """Until when to read; then `tick` has to be called."""
        if not self._websocket.is_upgraded:
            return self._upgrade_by
        return min(self._silence.deadline(now), self._answer_by, self._ask_at)

    def write_deadline(self, now: float) -> float:
        """Until when the server has to take what is written."""
        return now + self._timing.silence if self._websocket.is_upgraded else self._upgrade_by

    def token_refresh_begins(self) -> bool:
        """Whether calls of the token function have to begin: `token_pause` says when."""
        return self.end is None and self._token_refresh.begins(self.session)

    def token_pause(self, now: float) -> float | None:
        """Seconds until the next call of the token function; None for no other call."""
        return self._token_refresh.pause(now)

    def send_requests(self, now: float) -> None:
        """Send the next command, if no answer is awaited."""
        if self._websocket.is_upgraded and (text := self.session.next_command()) is not None:
            self._ask(text, now)

    def _ask(self, text: str, now: float) -> None:
        self._websocket.send(text)
        self._ask_at, self._answer_by = math.inf, now + _ANSWER_SECONDS

    def _follow_session(self, now: float) -> None:
        self.session.has_news = False
        if self.session.accepted and self.accepted_at is None:
            self.accepted_at = now
        if self.session.put_off:
            if self._ask_at == math.inf:
                pause = self._backoff.next()
                self._answer_by, self._ask_at = math.inf, now + (self.session.retry_in or pause)
        elif not self.session.asked:
            self._answer_by = math.inf
            self.send_requests(now)

    def _break_silence(self, now: float) -> None:
        if not self._silence.is_over(now):
            self._websocket.send(HEARTBEAT)
            return
        self._writable = False  # no peer is left for a close frame
        seconds = 2 * self._timing.silence
        self._end_with(Ended(ABNORMAL, f"nothing came from the server for {seconds:g} s"))

    def _end_with(self, end: End) -> None:
        if self.end is not None:
            return
        self.end = end
        if isinstance(end, Unacceptable):
            self._websocket.close(end.code, end.reason)
        else:
            self._websocket.close(NORMAL, "")
