"""Finds misspelt settings among unknown variables, and names that belong to other programs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Final

from odin_ws.settings.former_names import FORMER_NAMES

__all__ = ["NEIGHBOURS", "is_ours", "problem_with"]

_PREFIXES: Final = ("WS_", "KAFKA_")

# Kubernetes sets these for each service that a pod could use: for a service called `ws-auth`,
# WS_AUTH_PORT is tcp://10.0.0.1:443. No setting has such a name.
_SERVICE_LINK: Final = re.compile(
    r".+_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

# The value of a `…_PORT` that a person has set; a service link has a URL.
_PORT_BY_HAND: Final = re.compile(r"\s*([^\s/]*:)?[0-9]+\s*")

# A misspelt name with one of these words would leave something unprotected without a warning.
_SECURITY: Final = re.compile(
    r"TLS|SSL|CERT|KEY|AUTH|TOKEN|JWT|JWKS|JWK|ORIGIN|CORS|SASL|PROXY|PROXIES|"
    r"SECRET|PASSWORD|CREDENTIAL"
)

# More such words. Under KAFKA_ they are names of the broker's own settings, such as
# KAFKA_LISTENER_SECURITY_PROTOCOL_MAP, which one file may set for both.
_SECURITY_OF_CLIENTS: Final = re.compile(
    r"HTTPS|WSS|SECUR|ENCRYPT|POLICY|POLICIES|(?<=_)ACL(?=S?(?:_|$))|ISSUER|AUDIENCE|BEARER|LOGIN|REVOCATION|REVOKE"
)

# Words in the names of settings that mean the same.
_SYNONYMS: Final = {
    "HTTPS": ("TLS",),
    "WSS": ("TLS",),
    "SECUR": ("TLS",),
    "ENCRYPT": ("TLS",),
    "POLICIES": ("POLICY",),
    "ACL": ("POLICY",),
    "BEARER": ("AUTH", "JWT"),
    "LOGIN": ("AUTH", "JWT"),
    "REVOCATION": ("OPS_TOKEN",),
    "REVOKE": ("OPS_TOKEN",),
    "TLS": ("SSL",),
    "SSL": ("TLS",),
    "AUTH": ("JWT", "JWKS", "SASL"),
    "CORS": ("ORIGIN",),
    "CREDENTIAL": ("SECRET", "PASSWORD", "TOKEN"),
    "JWK": ("JWKS",),
    "PROXY": ("PROXIES",),
    "PROXIES": ("PROXY",),
}

# Names of our settings in other programs. The original's deployment set KAFKA_GROUP_ID without
# effect: its code read KAFKA_CONSUMER_GROUP.
_NAMES: Final = {
    "KAFKA_BROKERS": (
        "KAFKA_BOOTSTRAP",
        "KAFKA_BOOTSTRAP_SERVER",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_BROKERS_URL",
        "KAFKA_BROKER_LIST",
        "KAFKA_BROKER_URL",
        "KAFKA_HOST",
        "KAFKA_HOSTS",
        "KAFKA_PORT",
        "KAFKA_SERVERS",
        "KAFKA_URL",
        "KAFKA_URLS",
        "WS_KAFKA_BOOTSTRAP_SERVERS",
        "WS_KAFKA_BROKERS",
    ),
    "KAFKA_CONSUMER_GROUP": (
        "KAFKA_CONSUMER_GROUP_ID",
        "KAFKA_GROUP",
        "KAFKA_GROUP_ID",
        "WS_KAFKA_GROUP_ID",
    ),
    "KAFKA_SASL_USERNAME": ("KAFKA_SASL_USER", "KAFKA_USER", "KAFKA_USERNAME"),
    "KAFKA_SASL_PASSWORD": ("KAFKA_PASSWORD", "KAFKA_SASL_PASS"),
    "KAFKA_SECURITY_PROTOCOL": (
        "KAFKA_PROTOCOL",
        "KAFKA_SECURITY",
        "KAFKA_SSL",
        "KAFKA_SSL_ENABLED",
        "KAFKA_TLS",
    ),
    "KAFKA_SSL_CAFILE": (
        "KAFKA_CA",
        "KAFKA_CAFILE",
        "KAFKA_CA_FILE",
        "KAFKA_CA_CERT",
        "KAFKA_SSL_CA",
        "KAFKA_SSL_CA_CERT",
        "KAFKA_SSL_CA_FILE",
        "KAFKA_SSL_CA_LOCATION",
        "KAFKA_SSL_TRUSTSTORE_LOCATION",
        "KAFKA_TLS_CA",
    ),
    "KAFKA_SSL_CERTFILE": (
        "KAFKA_CERT",
        "KAFKA_CLIENT_CERT",
        "KAFKA_SSL_CERT",
        "KAFKA_SSL_CERTIFICATE",
        "KAFKA_SSL_CERTIFICATE_LOCATION",
        "KAFKA_TLS_CERT",
    ),
    "KAFKA_SSL_KEYFILE": (
        "KAFKA_CLIENT_KEY",
        "KAFKA_KEY",
        "KAFKA_SSL_KEY",
        "KAFKA_SSL_KEYSTORE_LOCATION",
        "KAFKA_SSL_KEY_LOCATION",
        "KAFKA_TLS_KEY",
    ),
    "LOG_FORMAT": ("WS_LOG_FORMAT", "KAFKA_LOG_FORMAT"),
    "LOG_LEVEL": ("WS_LOG_LEVEL",),
    "WS_ADDR": (
        "WS_ADDRESS",
        "WS_BIND",
        "WS_BIND_ADDR",
        "WS_BIND_ADDRESS",
        "WS_HOST",
        "WS_LISTEN",
        "WS_LISTEN_ADDR",
        "WS_LISTEN_ADDRESS",
        "WS_PORT",
        "WS_SERVER_PORT",
    ),
    "WS_AUTH": (
        "WS_AUTHENTICATION",
        "WS_AUTH_ENABLED",
        "WS_AUTH_MODE",
        "WS_AUTH_REQUIRED",
        "WS_AUTH_TYPE",
        "WS_REQUIRE_AUTH",
    ),
    "WS_CATALOGUE": ("KAFKA_TOPIC", "KAFKA_TOPICS", "WS_TOPIC", "WS_TOPICS"),
    "WS_OPS_HOSTS": ("WS_ALLOWED_HOSTS", "WS_TRUSTED_HOSTS"),
    "WS_POLICY": ("WS_ACCESS", "WS_ACL", "WS_POLICIES"),
    "WS_JWKS": ("WS_AUTH_JWKS_URL", "WS_JWKS_URI", "WS_JWKS_URL", "WS_JWT_JWKS"),
    "WS_JWT_SECRET": ("WS_AUTH_SECRET", "WS_JWT_KEY", "WS_SECRET", "WS_SECRET_KEY"),
    "WS_MAX_CONNECTIONS": ("WS_CONNECTION_LIMIT", "WS_MAX_CLIENTS", "WS_MAX_CONNS"),
    "WS_OPS_ADDR": (
        "WS_ADMIN_PORT",
        "WS_HEALTH_PORT",
        "WS_METRICS_ADDR",
        "WS_METRICS_PORT",
        "WS_OPS_PORT",
        "WS_PROMETHEUS_PORT",
    ),
    "WS_OPS_TOKEN": ("WS_ADMIN_TOKEN", "WS_HEALTH_TOKEN", "WS_METRICS_TOKEN", "WS_TOKEN"),
    "WS_ALLOWED_ORIGINS": (
        "WS_ALLOWED_ORIGIN",
        "WS_ALLOW_ORIGIN",
        "WS_ALLOW_ORIGINS",
        "WS_CHECK_ORIGIN",
        "WS_CORS",
        "WS_CORS_ALLOWED_ORIGINS",
        "WS_CORS_ORIGIN",
        "WS_CORS_ORIGINS",
    ),
    "WS_PING_INTERVAL_SECONDS": ("WS_HEARTBEAT", "WS_HEARTBEAT_INTERVAL", "WS_KEEPALIVE"),
    "WS_PONG_TIMEOUT_SECONDS": ("WS_HEARTBEAT_TIMEOUT", "WS_PING_TIMEOUT"),
    "WS_TLS_CERT": (
        "WS_CERT",
        "WS_CERTFILE",
        "WS_CERTIFICATE",
        "WS_CERT_FILE",
        "WS_SSL_CERT",
        "WS_SSL_CERTFILE",
        "WS_SSL_CERTIFICATE",
        "WS_HTTPS",
        "WS_SECURE",
        "WS_TLS",
        "WS_TLS_CERTFILE",
        "WS_TLS_CERTIFICATE",
        "WS_TLS_ENABLED",
        "WS_TLS_PORT",
    ),
    "WS_TLS_KEY": ("WS_KEY", "WS_KEYFILE", "WS_KEY_FILE", "WS_SSL_KEY", "WS_SSL_KEYFILE"),
    "WS_TRUSTED_PROXIES": ("WS_BEHIND_PROXY", "WS_PROXIES", "WS_PROXY", "WS_TRUST_PROXY"),
}
NEIGHBOURS: Final = {name: meant for meant, names in _NAMES.items() for name in names}

# Names with an explanation of their own.
_EXPLAINED: Final = (
    dict.fromkeys(
        ("WS_PATH", "WS_ENDPOINT", "WS_ROUTE"),
        "subscribers connect at the path /ws, which cannot be set",
    )
    | dict.fromkeys(
        ("WS_CA", "WS_CAFILE", "WS_CA_FILE", "WS_CLIENT_CA", "WS_CLIENT_CA_FILE", "WS_MTLS"),
        "subscribers have no client certificates: WS_AUTH authenticates them",
    )
    | {former: f"its name is {now} now" for former, now in FORMER_NAMES.items()}
)

# Similarity of a longer name with more than one typo. Names that Kafka's images set are less
# similar: KAFKA_BROKER_ID is 0.86 KAFKA_BROKERS.
_NEAR: Final = 0.88

# Similarity above which a name with a word of _SECURITY is taken for its most similar setting.
_LIKE: Final = 0.75


def is_ours(name: str) -> bool:
    """Return whether a name has a prefix that only this program's settings should have."""
    return name.startswith(_PREFIXES)


def problem_with(name: str, value: str, known: Collection[str]) -> str | None:
    """Return why an unknown name stops the start; None if it may belong to another program.

    Args:
        name: of an environment variable, in any case.
        value: distinguishes a port that a person has set from a service link of Kubernetes.
        known: the names of all settings, including the `_FILE` names of secrets.
    """
    upper = name.upper()
    if _SERVICE_LINK.fullmatch(upper) and not (
        upper in NEIGHBOURS and _PORT_BY_HAND.fullmatch(value)
    ):
        return None
    if upper in _EXPLAINED:
        return f"{name}: unknown setting; {_EXPLAINED[upper]}"
    if (base := upper.removesuffix("_FILE")) != upper and base in known:
        return f"{name}: unknown setting; did you mean {base}? Only secrets have a _FILE name"
    if (meant := NEIGHBOURS.get(upper) or _near(upper, known)) is not None:
        return f"{name}: unknown setting; did you mean {meant}?"
    if is_ours(upper) and (words := _words_of_security(upper)):
        return f"{name}: unknown setting; {_about(upper, words, known)}"
    return None


def _words_of_security(name: str) -> set[str]:
    words = set(_SECURITY.findall(name))
    if name.startswith("WS_"):
        words.update(_SECURITY_OF_CLIENTS.findall(name))
    return words


def _near(name: str, known: Collection[str]) -> str | None:
    """Return the setting that `name` is a near miss of, or None."""
    # A misspelt prefix is a near miss too, except for names such as LOGLEVEL that other programs
    # use as well.
    ours = [setting for setting in sorted(known) if name.startswith("LOG_") or is_ours(setting)]
    if slipped := [setting for setting in ours if is_ours(name) and _is_one_slip(name, setting)]:
        return slipped[0]
    near = difflib.get_close_matches(name, ours, n=1, cutoff=_NEAR)
    return near[0] if near else None


def _is_one_slip(name: str, meant: str) -> bool:
    """Return whether one letter is extra, missing or wrong, or two neighbours are swapped."""
    same = next(
        (
            at
            for at, (letter, other) in enumerate(zip(name, meant, strict=False))
            if letter != other
        ),
        min(len(name), len(meant)),
    )
    left, right = name[same:], meant[same:]
    return (
        left[1:] == right
        or left == right[1:]
        or left[1:] == right[1:]
        or (left[:2] == right[1::-1] and left[2:] == right[2:])
    )


def _about(name: str, words: set[str], known: Collection[str]) -> str:
    """Return which setting `name` is likely to mean, or the settings to choose from."""
    words |= {other for word in words for other in _SYNONYMS.get(word, ())}
    prefix = next(prefix for prefix in _PREFIXES if name.startswith(prefix))
    secure = [
        setting
        for setting in sorted(known)
        if setting.startswith(prefix) and _words_of_security(setting)
    ]
    related = [setting for setting in secure if any(word in setting for word in words)] or secure
    # `_FILE` names would only double the choice.
    related = [
        setting
        for setting in related
        if setting.partition("_FILE")[0] not in {*related} - {setting}
    ]
    choice = difflib.get_close_matches(name, related, n=1, cutoff=_LIKE) or related
    return f"did you mean {choice[0]}?" if len(choice) == 1 else f"one of {', '.join(choice)}?"
