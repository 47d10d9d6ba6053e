"""Authenticates a handshake by JWT and origin; renews the grant for the `auth` command."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import attrs
import trio

from odin_ws.auth.faults import InvalidJwt, JwtFault, KeysUnavailable
from odin_ws.auth.grants import Grant
from odin_ws.auth.origins import Origins
from odin_ws.connection.connection import Connection
from odin_ws.connection.token_expiry import Expiry
from odin_ws.handshake.credentials import bearer_token, select_subprotocol
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection
from odin_ws.handshake.retry_after import retry_after, retry_ms
from odin_ws.lease import Lease
from odin_ws.protocol.commands import Auth
from odin_ws.protocol.errors import CommandError, ErrorCode

if TYPE_CHECKING:
    from odin_ws.auth.jwt_verifier import JwtVerifier

__all__ = ["AUTH_REJECTIONS", "AuthPolicy", "Authenticator"]

# The labels of rejections here; the metrics show each from the start.
AUTH_REJECTIONS: Final = (
    "bad_origin",
    "bad_token",
    "max_connections_per_user",
    "no_keys",
    "no_token",
    "revoked",
)

# Faults that a client can act on; for all others the JWT is just not valid.
_CODES: Final = {
    JwtFault.EXPIRED: ErrorCode.TOKEN_EXPIRED,
    JwtFault.REVOKED: ErrorCode.FORBIDDEN,
    JwtFault.OTHER_USER: ErrorCode.FORBIDDEN,
}


_UNCOUNTED: Final = nullcontext()


@attrs.frozen
class AuthPolicy:
    """The rules of authentication, from the settings."""

    anonymous_grant: Grant
    """The grant of every client with WS_AUTH=none."""
    origins: Origins
    max_per_user: int
    """Limit of one user's connections; 0 for none."""
    token_in_query: bool
    """True if a JWT in the URL is accepted."""


class Authenticator:
    """Authenticates handshakes, each with its grant, and renews grants for new JWTs.

    `jwt_verifier` is None with WS_AUTH=none: every client gets the anonymous grant.
    """

    def __init__(self, jwt_verifier: JwtVerifier | None, rules: AuthPolicy, expiry: Expiry) -> None:
        self.jwt_verifier = jwt_verifier
        self.expiry = expiry
        self._rules = rules
        self._users: Counter[str] = Counter()

    @property
    def ready(self) -> bool:
        """True if JWTs can be verified: the keys are loaded."""
        return self.jwt_verifier is None or self.jwt_verifier.keys is not None

    @property
    def origins(self) -> Origins:
        """The web pages that may connect."""
        return self._rules.origins

    async def run(self) -> None:
        """Keep keys up to date and watch expiry until cancelled."""
        if self.jwt_verifier is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.jwt_verifier.run)
                nursery.start_soon(self.expiry.run)

    async def authenticate(self, request: HandshakeRequest) -> Grant:
        """Return the grant of a request. Raises HTTPRejection."""
        select_subprotocol(request)
        if not self._rules.origins.allows(request.headers.get("origin")):
            text = "web pages of this origin may not connect"
            raise HTTPRejection(HTTPStatus.FORBIDDEN, "bad_origin", text)
        jwt_verifier = self.jwt_verifier
        return (
            self._rules.anonymous_grant
            if jwt_verifier is None
            else await self._verify(jwt_verifier, request)
        )

    def count_connection(self, grant: Grant) -> AbstractContextManager[None]:
        """Count a connection of the user during the block. Raises HTTPRejection."""
        user, maximum = grant.user, self._rules.max_per_user
        if user is None:
            return _UNCOUNTED
        if maximum and self._users[user] >= maximum:
            text = f"all {maximum} connections of this user are in use"
            raise HTTPRejection(
                HTTPStatus.TOO_MANY_REQUESTS, "max_connections_per_user", text, [retry_after()]
            )
        self._users[user] += 1
        return Lease(None, partial(self._release, user))

    def _release(self, user: str) -> None:
        self._users[user] -= 1
        if not self._users[user]:
            del self._users[user]

    async def _verify(self, jwt_verifier: JwtVerifier, request: HandshakeRequest) -> Grant:
        token = bearer_token(request, in_query=self._rules.token_in_query)
        if token is None:
            # RFC 6750, 3.1: no error code for a client that sent no token.
            text = "a token is required: Authorization: Bearer, or a subprotocol bearer.{token}"
            raise HTTPRejection(
                HTTPStatus.UNAUTHORIZED, "no_token", text, [("WWW-Authenticate", "Bearer")]
            )
        try:
            return await jwt_verifier.verify_or_refresh(token)
        except KeysUnavailable:
            text = "the server has no keys to verify tokens yet; retry"
            raise HTTPRejection(
                HTTPStatus.SERVICE_UNAVAILABLE, "no_keys", text, [retry_after()]
            ) from None
        except InvalidJwt as error:
            if error.fault is JwtFault.REVOKED:
                raise HTTPRejection(HTTPStatus.FORBIDDEN, "revoked", str(error)) from None
            challenge = f'Bearer error="invalid_token", error_description="{error}"'
            raise HTTPRejection(
                HTTPStatus.UNAUTHORIZED, "bad_token", str(error), [("WWW-Authenticate", challenge)]
            ) from None

    def watch_expiry(self, connection: Connection) -> AbstractContextManager[None]:
        """Watch the expiry of a connection's JWT during the block, if it has one."""
        if self.jwt_verifier is None:
            return _UNCOUNTED
        return self.expiry.watch(connection, self.expires_at(connection.grant))

    def expires_at(self, grant: Grant) -> float | None:
        """Return when a grant expires, by the wall clock of `expiry`; None: never."""
        left = None if self.jwt_verifier is None else self.jwt_verifier.seconds_until_expiry(grant)
        return None if left is None else self.expiry.now() + left

    def reauthenticate(self, command: Auth, holder: Connection) -> None:
        """Replace a connection's grant by that of a new JWT of the same user.

        Raises CommandError.
        """
        jwt_verifier = self.jwt_verifier
        if jwt_verifier is None:
            raise _rejected(
                command, ErrorCode.NOT_AVAILABLE, "authentication is disabled on this server"
            )
        try:
            grant = jwt_verifier.reverify(command.token, holder.grant)
        except KeysUnavailable:
            raise _not_yet(command, "the server has no keys to verify tokens yet; retry") from None
        except InvalidJwt as error:
            if error.fault is JwtFault.UNKNOWN_KEY:
                # The keys are being fetched meanwhile.
                raise _not_yet(command, str(error)) from None
            code = _CODES.get(error.fault, ErrorCode.INVALID_TOKEN)
            raise _rejected(command, code, str(error)) from None
        holder.grant = grant
        self.expiry.renew(holder, self.expires_at(grant))


def _rejected(command: Auth, code: ErrorCode, message: str) -> CommandError:
    return CommandError(code, message, command.id, command="auth")


def _not_yet(command: Auth, message: str) -> CommandError:
    """Return the error for a JWT that may be accepted if the client sends it again."""
    code = ErrorCode.NOT_AVAILABLE
    return CommandError(code, message, command.id, "auth", retry=True, retry_ms=retry_ms())
