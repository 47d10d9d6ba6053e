"""Claims of a JWT."""

from __future__ import annotations

from typing import Any

from odin_ws.auth.claims import Claims, read_claims
from odin_ws.auth.grants import Grant
from odin_ws.auth.policy import load_policy
from odin_ws.catalogue import default_catalogue

__all__ = ["claims", "grant"]


def claims(**more: Any) -> Claims:
    """Ann's, with these besides."""
    return read_claims({"sub": "ann", "exp": 2_000_000_000, **more})


def grant(policy: str = "", private: tuple[str, ...] = ("balances",), **more: Any) -> Grant:
    """What she may read under a policy."""
    return load_policy(policy, default_catalogue(), private).grant(claims(**more))
