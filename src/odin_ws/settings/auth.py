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

# Where keys come from; with WS_AUTH=jwt it is one of them.
_KEYS: Final = ("ws_jwt_secret", "ws_jwt_public_key", "ws_jwks")


@attrs.frozen(slots=False)  # several are bases of one class
class AuthSettings:
    """See odin_ws.settings.Settings."""

    ws_auth: str = setting(
        "WS_AUTH",
        "none",
        choice("none", "jwt"),
        "",
        "none: whoever reaches the port may read everything; jwt: a token says who it is",
    )
    ws_jwt_secret: Secret | None = secret(
        "WS_JWT_SECRET", "tokens are signed with it (HS256); 32 bytes or more"
    )
    ws_jwt_public_key: Path | None = setting(
        "WS_JWT_PUBLIC_KEY",
        "",
        FILE,
        "",
        "a PEM file with the issuer's key: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)",
    )
    ws_jwks: Path | str | None = setting(
        "WS_JWKS",
        "",
        FILE_OR_URL,
        "",
        "the issuer's keys as a JSON Web Key Set; read again from time to time",
    )
    ws_jwks_interval_seconds: float = setting(
        "WS_JWKS_INTERVAL_SECONDS",
        "300",
        number(10, 86_400),
        "s",
        "how often WS_JWKS is read again",
    )
    ws_jwt_audience: str = setting(
        "WS_JWT_AUDIENCE",
        "",
        OPTIONAL_TEXT,
        "",
        "tokens must have it in aud; without it, those that have an aud are rejected",
    )
    ws_jwt_issuer: str = setting(
        "WS_JWT_ISSUER",
        "",
        OPTIONAL_TEXT,
        "",
        "tokens must have it as iss; without it, iss is not looked at",
    )
    ws_jwt_leeway_seconds: float = setting(
        "WS_JWT_LEEWAY_SECONDS", "10", number(0, 300), "s", "how far the issuer's clock may be off"
    )
    ws_token_in_query: bool = setting(
        "WS_TOKEN_IN_QUERY", "false", FLAG, "", "whether ?token= is taken too; URLs end up in logs"
    )
    ws_token_expiry_notice_seconds: float = setting(
        "WS_TOKEN_EXPIRY_NOTICE_SECONDS",
        "30",
        number(0, 3600),
        "s",
        "how long before its token ends a client is told",
    )
    ws_private_categories: tuple[str, ...] = setting(
        "WS_PRIVATE_CATEGORIES",
        "balances",
        CATEGORIES,
        "",
        "with WS_AUTH=jwt only tokens that name them may read these",
    )
    ws_policy: Path | None = setting(
        "WS_POLICY", "", FILE, "", "what tokens without channels may read (TOML)"
    )
    ws_allowed_origins: tuple[str, ...] = setting(
        "WS_ALLOWED_ORIGINS",
        "*",
        ORIGINS,
        "",
        "web pages of which origins may connect; others get 403",
    )
    ws_max_connections_per_user: int = setting(
        "WS_MAX_CONNECTIONS_PER_USER",
        "100",
        integer(0),
        "connections",
        "one user's more are answered 429; 0 for no limit",
    )
    ws_ops_token: Secret | None = secret(
        "WS_OPS_TOKEN", "the ops port then wants it as a bearer token; 16 characters or more"
    )
    ws_ops_hosts: tuple[str, ...] = setting(
        "WS_OPS_HOSTS",
        "",
        HOSTS,
        "",
        "names in a Host header that the ops port answers without a token, beside this machine's",
    )

    def auth_problems(self) -> list[str]:
        """What takes several settings to judge."""
        given = [field.upper() for field in _KEYS if getattr(self, field) is not None]
        if self.ws_auth == "jwt":
            names = ", ".join(field.upper() for field in _KEYS)
            found = " and ".join(given) or "none"
            problem = f"WS_AUTH=jwt: exactly one of {names} is needed; there is {found}"
            return [] if len(given) == 1 else [problem]
        # Who gave a key, and misspelt or forgot WS_AUTH, would serve everybody.
        given += ["WS_POLICY"] if self.ws_policy is not None else []
        return [
            f"{name} is set, but WS_AUTH=none: nobody would be asked for a token" for name in given
        ]
