"""Settings of authentication: JWT, JWKS, policy, origins, ops token."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from odin_ws.settings.declaration import (
    CATEGORIES,
    FILE,
    FILE_OR_URL,
    FLAG,
    HOSTS,
    OPTIONAL_TEXT,
    ORIGINS,
    choice,
    integer,
    number,
    secret,
    setting,
)
from odin_ws.settings.secrets import Secret

__all__ = ["AuthSettings"]

# Sources of JWT keys; WS_AUTH=jwt needs exactly one.
_KEYS: Final = ("ws_jwt_secret", "ws_jwt_public_key", "ws_jwks")


@attrs.frozen(slots=False)  # several are bases of one class
class AuthSettings:
    """See odin_ws.settings.Settings."""

    ws_auth: str = setting(
        "WS_AUTH",
        "none",
        choice("none", "jwt"),
        "",
        "none: all clients may read everything; jwt: clients authenticate with a JWT",
    )
    ws_jwt_secret: Secret | None = secret(
        "WS_JWT_SECRET", "shared secret that verifies JWTs (HS256); 32 bytes or more"
    )
    ws_jwt_public_key: Path | None = setting(
        "WS_JWT_PUBLIC_KEY",
        "",
        FILE,
        "",
        "the issuer's public key (PEM): RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)",
    )
    ws_jwks: Path | str | None = setting(
        "WS_JWKS",
        "",
        FILE_OR_URL,
        "",
        "the issuer's keys as a JSON Web Key Set; refreshed every WS_JWKS_INTERVAL_SECONDS",
    )
    ws_jwks_interval_seconds: float = setting(
        "WS_JWKS_INTERVAL_SECONDS",
        "300",
        number(10, 86_400),
        "s",
        "time between refreshes of WS_JWKS",
    )
    ws_jwt_audience: str = setting(
        "WS_JWT_AUDIENCE",
        "",
        OPTIONAL_TEXT,
        "",
        "audience that JWTs must have in aud; if unset, JWTs with aud are rejected",
    )
    ws_jwt_issuer: str = setting(
        "WS_JWT_ISSUER",
        "",
        OPTIONAL_TEXT,
        "",
        "issuer that JWTs must have in iss; if unset, iss is not checked",
    )
    ws_jwt_leeway_seconds: float = setting(
        "WS_JWT_LEEWAY_SECONDS",
        "10",
        number(0, 300),
        "s",
        "tolerated difference between the clocks of issuer and server",
    )
    ws_token_in_query: bool = setting(
        "WS_TOKEN_IN_QUERY", "false", FLAG, "", "accept JWTs in ?token= too; proxies log URLs"
    )
    ws_token_expiry_notice_seconds: float = setting(
        "WS_TOKEN_EXPIRY_NOTICE_SECONDS",
        "30",
        number(0, 3600),
        "s",
        "time before the expiry of a JWT at which its client gets a notice",
    )
    ws_private_categories: tuple[str, ...] = setting(
        "WS_PRIVATE_CATEGORIES",
        "balances",
        CATEGORIES,
        "",
        "categories that, with WS_AUTH=jwt, only JWTs that name them may read",
    )
    ws_policy: Path | None = setting(
        "WS_POLICY", "", FILE, "", "rules for JWTs without a channels claim (TOML)"
    )
    ws_allowed_origins: tuple[str, ...] = setting(
        "WS_ALLOWED_ORIGINS",
        "*",
        ORIGINS,
        "",
        "origins of web pages that may connect; others get 403",
    )
    ws_max_connections_per_user: int = setting(
        "WS_MAX_CONNECTIONS_PER_USER",
        "100",
        integer(0),
        "connections",
        "connections per user, above it 429; 0 for no limit",
    )
    ws_ops_token: Secret | None = secret(
        "WS_OPS_TOKEN", "bearer token that the ops port requires; 16 characters or more"
    )
    ws_ops_hosts: tuple[str, ...] = setting(
        "WS_OPS_HOSTS",
        "",
        HOSTS,
        "",
        "Host headers that the ops port accepts without WS_OPS_TOKEN, beside those of this machine",
    )

    def auth_problems(self) -> list[str]:
        """Return problems of settings that depend on each other."""
        given = [field.upper() for field in _KEYS if getattr(self, field) is not None]
        if self.ws_auth == "jwt":
            names = ", ".join(field.upper() for field in _KEYS)
            found = " and ".join(given) or "none"
            problem = f"WS_AUTH=jwt: exactly one of {names} must be set; set: {found}"
            return [] if len(given) == 1 else [problem]
        # An operator who set a key but forgot or misspelt WS_AUTH would serve everybody.
        given += ["WS_POLICY"] if self.ws_policy is not None else []
        return [
            f"{name} is set, but WS_AUTH=none: clients would not be authenticated" for name in given
        ]
