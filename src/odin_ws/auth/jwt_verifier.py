"""Verifies JWTs: keys, rules, policy and revocations turn a JWT into a grant."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path

import attrs

from odin_ws.auth.claims import InvalidClaims
from odin_ws.auth.faults import InvalidJwt, JwtFault, KeysUnavailable
from odin_ws.auth.grants import Grant
from odin_ws.auth.jwks import JwksCache, fetch_keys, read_keys
from odin_ws.auth.jwt import JwtRules, read_key_name, verify_jwt
from odin_ws.auth.keys import InvalidKey, KeyName, KeySet, key_set, public_key, shared_secret
from odin_ws.auth.policy import Policy, PolicyError, load_policy
from odin_ws.auth.revocations import Revocation, Revocations
from odin_ws.catalogue import Catalogue
from odin_ws.http_client import Unreachable
from odin_ws.settings import Settings, SettingsError
from odin_ws.settings.text_file import UnreadableFile, read_text_file

__all__ = ["JwtVerifier", "open_jwt_verifier"]


@attrs.define(eq=False)
class JwtVerifier:
    """Verifies JWTs. `jwks`: refreshed keys; None with only `static_keys`.

    `rejections` counts rejected JWTs by fault.
    """

    rules: JwtRules
    policy: Policy
    static_keys: KeySet | None = None
    jwks: JwksCache | None = None
    revocations: Revocations = attrs.field(factory=Revocations)
    rejections: Counter[JwtFault] = attrs.field(factory=Counter)

    @property
    def keys(self) -> KeySet | None:
        """The current keys."""
        return self.static_keys if self.jwks is None else self.jwks.current

    @property
    def key_count(self) -> int:
        """The number of current keys."""
        return 0 if self.keys is None else len(self.keys.keys)

    async def run(self) -> None:
        """Keep the keys up to date if they come from a JWKS."""
        if self.jwks is not None:
            await self.jwks.run()

    async def verify_or_refresh(self, token: str) -> Grant:
        """As `verify`, but waits some seconds for a fetch of the keys if the key id is unknown."""
        if self.jwks is not None and (missing := self._missing_key(token)) is not None:
            await self.jwks.refresh(missing.id)
        return self.verify(token)

    def verify(self, token: str) -> Grant:
        """Return what a JWT grants. Raises InvalidJwt and KeysUnavailable.

        An unknown key id requests a fetch of the keys, for later attempts.
        """
        if self.keys is None:
            raise KeysUnavailable
        try:
            grant = self.policy.grant(verify_jwt(token, self.keys, self.rules))
        except InvalidClaims:
            raise self._count(InvalidJwt(JwtFault.CLAIMS)) from None
        except InvalidJwt as error:
            if self.jwks is not None and (missing := self._missing_key(token)) is not None:
                self.jwks.request_refresh(missing.id)
            raise self._count(error) from None
        if self.revocations.is_revoked(grant, time.time()):
            raise self._count(InvalidJwt(JwtFault.REVOKED))
        return grant

    def reverify(self, token: str, before: Grant) -> Grant:
        """As `verify`, for a JWT that replaces another JWT; raises InvalidJwt for another user."""
        grant = self.verify(token)
        if grant.user != before.user:
            raise self._count(InvalidJwt(JwtFault.OTHER_USER))
        return grant

    def _count(self, error: InvalidJwt) -> InvalidJwt:
        """Count a rejected JWT; returns the error."""
        self.rejections[error.fault] += 1
        return error

    def seconds_until_expiry(self, grant: Grant) -> float | None:
        """Return how long a grant is valid, including the leeway; None without expiry."""
        if grant.expires_at is None:
            return None
        return grant.expires_at + self.rules.leeway - time.time()

    def revoke(self, revocation: Revocation, until: float) -> None:
        """Revoke a user or JWT until then. Raises TooManyRevocations."""
        self.revocations.add(revocation, until, time.time())

    def _missing_key(self, token: str) -> KeyName | None:
        """Return the key of a JWT if it is missing; None also for a malformed JWT."""
        try:
            name = read_key_name(token)
        except InvalidJwt:
            return None
        return name if self.keys is None or self.keys.find(name) is None else None


def open_jwt_verifier(settings: Settings, catalogue: Catalogue) -> JwtVerifier:
    """Build the verifier of the settings, with the files they name.

    Raises SettingsError. Does not fetch keys from a URL yet.
    """
    rules = JwtRules(
        settings.ws_jwt_audience or None,
        settings.ws_jwt_issuer or None,
        settings.ws_jwt_leeway_seconds,
    )
    static_keys, jwks = _keys(settings)
    return JwtVerifier(rules, _policy(settings, catalogue), static_keys, jwks)


def _keys(settings: Settings) -> tuple[KeySet | None, JwksCache | None]:
    secret, pem, jwks = settings.ws_jwt_secret, settings.ws_jwt_public_key, settings.ws_jwks
    name = "WS_JWT_SECRET" if secret else f"WS_JWT_PUBLIC_KEY={pem}" if pem else f"WS_JWKS={jwks}"
    try:
        if secret is not None:
            return shared_secret(secret.reveal()), None
        if pem is not None:
            return public_key(pem.read_bytes()), None
        if isinstance(jwks, str):
            return None, JwksCache(fetch_keys(jwks), settings.ws_jwks_interval_seconds)
        # The settings guarantee one of the three.
        return None, _keys_in_file(jwks or Path(), settings.ws_jwks_interval_seconds)
    except (InvalidKey, OSError, Unreachable) as error:
        raise SettingsError([f"{name}: {error}"]) from error


def _keys_in_file(path: Path, interval: float) -> JwksCache:
    read = partial(read_keys, path)

    async def read_file() -> bytes:
        return read()

    # An unusable file stops the start.
    return JwksCache(read_file, interval, key_set(read()))


def _policy(settings: Settings, catalogue: Catalogue) -> Policy:
    private = settings.ws_private_categories
    if unknown := set(private) - catalogue.categories.keys():
        known = ", ".join(catalogue.categories)
        raise SettingsError(
            [
                f"WS_PRIVATE_CATEGORIES={','.join(private)}: the catalogue has no "
                f"{', '.join(sorted(unknown))}; allowed: {known}, or none"
            ]
        )
    path = settings.ws_policy
    try:
        text = "" if path is None else read_text_file(path)
        return load_policy(text, catalogue, private)
    except (PolicyError, UnreadableFile) as error:
        raise SettingsError([f"WS_POLICY={path}: {error}"]) from error
