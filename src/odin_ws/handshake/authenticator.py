"""Who comes, and who still may stay: judged by token and origin, before the upgrade and after."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from odin_ws.auth.faults import InvalidToken, NoKeys, TokenFault
from odin_ws.auth.grants import Grant
from odin_ws.auth.origins import Origins
from odin_ws.connection.token_expiry import Expiring, Expiry
from odin_ws.handshake.credentials import bearer_token, select_subprotocol
from odin_ws.handshake.request import Head, Refusal
from odin_ws.handshake.retry_after import retry_after, retry_ms
from odin_ws.held import Held
from odin_ws.protocol.commands import Auth
from odin_ws.protocol.errors import CommandError, ErrorCode

if TYPE_CHECKING:
    from odin_ws.auth.authority import Authority

__all__ = ["NOT_LET_IN", "DoorRules", "Doorkeeper"]

# The labels of what is refused here; the metrics show each from the start.
NOT_LET_IN: Final = (
    "bad_origin",
    "bad_token",
    "max_connections_per_user",
    "no_keys",
    "no_token",
    "revoked",
)

# Faults that the bearer of a token can do something about; to all others it is just not valid.
_CODES: Final = {
    TokenFault.EXPIRED: ErrorCode.TOKEN_EXPIRED,
    TokenFault.REVOKED: ErrorCode.FORBIDDEN,
    TokenFault.OTHER_USER: ErrorCode.FORBIDDEN,
}


_UNCOUNTED: Final = nullcontext()


@attrs.frozen
class DoorRules:
    """`everyone`: what is granted where nobody is asked. `per_user`: connections, 0: any number.

    `in_query`: a token may stand in the URL.
    """

    everyone: Grant
    origins: Origins
    per_user: int
    in_query: bool


class Holder(Expiring, Protocol):
    """A connection, as the doorkeeper sees it."""

    grant: Grant


class Doorkeeper:
    """Lets connections in, each with its grant, and gives them another for a new token.

    `authority` is None with WS_AUTH=none: then nobody is asked.
    """

    def __init__(self, authority: Authority | None, rules: DoorRules, expiry: Expiry) -> None:
        self.authority = authority
        self.expiry = expiry
        self._rules = rules
        self._users: Counter[str] = Counter()

    @property
    def ready(self) -> bool:
        """Whether anybody could be let in: the keys are there."""
        return self.authority is None or self.authority.keys is not None

    async def run(self) -> None:
        """Mind keys and ends of tokens until cancelled."""
        if self.authority is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.authority.run)
                nursery.start_soon(self.expiry.run)

    async def judge(self, head: Head) -> Grant:
        """The grant of who asks. Raises Refusal."""
        select_subprotocol(head)
        if not self._rules.origins.allows(head.headers.get("origin")):
            text = "web pages of this origin may not connect"
            raise Refusal(HTTPStatus.FORBIDDEN, "bad_origin", text)
        authority = self.authority
        return self._rules.everyone if authority is None else await self._ask(authority, head)

    def hold(self, grant: Grant) -> AbstractContextManager[None]:
        """Count a user's connection for the length of the block. Raises Refusal."""
        user, most = grant.user, self._rules.per_user
        if user is None:
            return _UNCOUNTED
        if most and self._users[user] >= most:
            text = f"all {most} connections of this user are taken"
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS, "max_connections_per_user", text, [retry_after()]
            )
        self._users[user] += 1
        return Held(None, partial(self._give_back, user))

    def _give_back(self, user: str) -> None:
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]

    async def _ask(self, authority: Authority, head: Head) -> Grant:
        token = bearer_token(head, in_query=self._rules.in_query)
        if token is None:
            # RFC 6750, 3.1: no error code for who did not know that a token is needed.
            text = "a token is needed: Authorization: Bearer, or a subprotocol bearer.{token}"
            raise Refusal(
                HTTPStatus.UNAUTHORIZED, "no_token", text, [("WWW-Authenticate", "Bearer")]
            )
        try:
            return await authority.judge_patiently(token)
        except NoKeys:
            text = "tokens cannot be checked yet"
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "no_keys", text, [retry_after()]
            ) from None
        except InvalidToken as error:
            if error.fault is TokenFault.REVOKED:
                raise Refusal(HTTPStatus.FORBIDDEN, "revoked", str(error)) from None
            challenge = f'Bearer error="invalid_token", error_description="{error}"'
            raise Refusal(
                HTTPStatus.UNAUTHORIZED, "bad_token", str(error), [("WWW-Authenticate", challenge)]
            ) from None

    def watch(self, connection: Holder) -> AbstractContextManager[None]:
        """Mind the end of a connection's token, if it has one, for the length of the block."""
        if self.authority is None:
            return _UNCOUNTED
        return self.expiry.watch(connection, self.end_of(connection.grant))

    def end_of(self, grant: Grant) -> float | None:
        """When a grant ends, by the wall clock of `expiry`; None: never."""
        left = None if self.authority is None else self.authority.seconds_left(grant)
        return None if left is None else self.expiry.now() + left

    def renew(self, command: Auth, holder: Holder) -> None:
        """Give a connection the grant of a new token of the same user. Raises CommandError."""
        authority = self.authority
        if authority is None:
            raise _refused(command, ErrorCode.NOT_AVAILABLE, "this server asks nobody for a token")
        try:
            grant = authority.judge_again(command.token, holder.grant)
        except NoKeys:
            raise _not_yet(command, "tokens cannot be checked yet") from None
        except InvalidToken as error:
            if error.fault is TokenFault.UNKNOWN_KEY:
                # The keys are being read anew meanwhile.
                raise _not_yet(command, str(error)) from None
            code = _CODES.get(error.fault, ErrorCode.INVALID_TOKEN)
            raise _refused(command, code, str(error)) from None
        holder.grant = grant
        self.expiry.renew(holder, self.end_of(grant))


def _refused(command: Auth, code: ErrorCode, message: str) -> CommandError:
    return CommandError(code, message, command.id, command="auth")


def _not_yet(command: Auth, message: str) -> CommandError:
    """Return the error of a token that may be accepted when the client sends it again."""
    code = ErrorCode.NOT_AVAILABLE
    return CommandError(code, message, command.id, "auth", retry=True, retry_ms=retry_ms())
