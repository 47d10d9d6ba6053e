"""The JWT verifier: keys, rules, policy and revocations together turn a JWT into a grant."""

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

__all__ = ["JwtVerifier", "open_jwt_verifier"]


@attrs.define(eq=False)
class JwtVerifier:
    """Judges tokens. `jwks`: keys that are read again; None where there is only `static_keys`.

    `rejections` counts the tokens that were not good.
    """

    rules: JwtRules
    policy: Policy
    static_keys: KeySet | None = None
    jwks: JwksCache | None = None
    revocations: Revocations = attrs.field(factory=Revocations)
    rejections: Counter[JwtFault] = attrs.field(factory=Counter)

    @property
    def keys(self) -> KeySet | None:
        """Those there are now."""
        return self.static_keys if self.jwks is None else self.jwks.current

    @property
    def key_count(self) -> int:
        """How many those are."""
        return 0 if self.keys is None else len(self.keys.keys)

    async def run(self) -> None:
        """Keep the keys up to date, where they change."""
        if self.jwks is not None:
            await self.jwks.run()

    async def verify_or_refresh(self, token: str) -> Grant:
        """As `verify`, but for a key nobody knows the keys are read anew first; for seconds."""
        if self.jwks is not None and (missing := self._missing_key(token)) is not None:
            await self.jwks.refresh(missing.id)
        return self.verify(token)

    def verify(self, token: str) -> Grant:
        """What a token grants. Raises InvalidJwt, and KeysUnavailable.

        Its key may be newer than ours: then they are read anew, for those who ask again.
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
        if self.revocations.cover(grant, time.time()):
            raise self._count(InvalidJwt(JwtFault.REVOKED))
        return grant

    def reverify(self, token: str, before: Grant) -> Grant:
        """As `verify`, for a token in place of another; it has to be the same user's."""
        grant = self.verify(token)
        if grant.user != before.user:
            raise self._count(InvalidJwt(JwtFault.OTHER_USER))
        return grant

    def _count(self, error: InvalidJwt) -> InvalidJwt:
        """Count a token that was not good; returns the same."""
        self.rejections[error.fault] += 1
        return error

    def seconds_until_expiry(self, grant: Grant) -> float | None:
        """How long a grant still lasts, with the leeway that it was accepted with; None: ever."""
        if grant.expires_at is None:
            return None
        return grant.expires_at + self.rules.leeway - time.time()

    def revoke(self, revocation: Revocation, until: float) -> None:
        """Let a user or a token in no more, until then. Raises TooManyRevocations."""
        self.revocations.add(revocation, until, time.time())

    def _missing_key(self, token: str) -> KeyName | None:
        """The key that a token asks for and that is not there; None also for a broken token."""
        try:
            name = read_key_name(token)
        except InvalidJwt:
            return None
        return name if self.keys is None or self.keys.find(name) is None else None


def open_jwt_verifier(settings: Settings, catalogue: Catalogue) -> JwtVerifier:
    """The authority that the settings describe, with the files they name.

    Raises SettingsError. Keys behind a URL are not read yet.
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
        # Settings see to it that there is one of the three.
        return None, _keys_in_file(jwks or Path(), settings.ws_jwks_interval_seconds)
    except (InvalidKey, OSError, Unreachable) as error:
        raise SettingsError([f"{name}: {error}"]) from error


def _keys_in_file(path: Path, interval: float) -> JwksCache:
    read = partial(read_keys, path)

    async def read_again() -> bytes:
        return read()

    # A file that cannot be used is noticed at the start.
    return JwksCache(read_again, interval, key_set(read()))


def _policy(settings: Settings, catalogue: Catalogue) -> Policy:
    private = settings.ws_private_categories
    if unknown := set(private) - catalogue.categories.keys():
        known = ", ".join(catalogue.categories)
        raise SettingsError(
            [
                f"WS_PRIVATE_CATEGORIES={','.join(private)}: the catalogue has no "
                f"{', '.join(sorted(unknown))}; allowed are {known}, or none"
            ]
        )
    path = settings.ws_policy
    try:
        text = "" if path is None else path.read_text("utf-8")
        return load_policy(text, catalogue, private)
    except (PolicyError, OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"WS_POLICY={path}: {error}"]) from error
