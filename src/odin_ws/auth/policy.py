"""The policy: JWT claims to a grant, by the `channels` claim or by rules (WS_POLICY)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import attrs

from odin_ws.auth.claims import MAX_NAMES, Claims, InvalidClaims
from odin_ws.auth.grants import Grant
from odin_ws.catalogue import Catalogue, InvalidName, is_token
from odin_ws.pattern import ANY, Pattern

__all__ = ["Policy", "PolicyError", "Rule", "Subject", "load_policy"]


class PolicyError(ValueError):
    """The policy is invalid; the message names the location in it."""


class Subject(StrEnum):
    """The users that may read a category without a `channels` claim."""

    EVERYONE = "everyone"
    GRANTED = "granted"
    OWNER = "owner"


@attrs.frozen
class Rule:
    """A rule: everyone may read, nobody without `channels`, or owners by their `claim`."""

    who: Subject
    claim: str = "sub"


@attrs.frozen
class Policy:
    """The rules of categories; a category without a rule is open to everyone."""

    catalogue: Catalogue
    rules: Mapping[str, Rule]

    def grant(self, claims: Claims) -> Grant:
        """Return what a JWT with these claims may read.

        A `channels` claim is complete. Names in it that are not in the catalogue grant nothing:
        other services may share the issuer. Raises InvalidClaims.
        """
        if claims.channels is None:
            allowed = {
                category: self._by_rule(self.rules.get(category, Rule(Subject.EVERYONE)), claims)
                for category in self.catalogue.categories
            }
        else:
            allowed = self._by_names(claims.channels)
        return Grant(
            allowed, claims.user, claims.token_id, claims.expires_at, claims.max_subscriptions
        )

    def _by_rule(self, rule: Rule, claims: Claims) -> frozenset[str]:
        match rule.who:
            case Subject.EVERYONE:
                return frozenset({ANY})
            case Subject.GRANTED:
                return frozenset()
            case Subject.OWNER:
                value = claims.all.get(rule.claim)
                tokens = value if isinstance(value, list) else [value]
                if len(tokens) > MAX_NAMES:
                    raise InvalidClaims(
                        f"{rule.claim}: must be a list of up to {MAX_NAMES} strings"
                    )
                # Without `*`: a user who could choose that name would own everything.
                return frozenset(
                    token for token in tokens if isinstance(token, str) and is_token(token)
                )

    def _by_names(self, names: Iterable[str]) -> dict[str, frozenset[str]]:
        allowed: dict[str, set[str]] = {category: set() for category in self.catalogue.categories}
        for name in names:
            try:
                patterns = self.catalogue.expand_channel(name)
            except InvalidName:
                continue
            for pattern in map(Pattern.parse, patterns):
                for category in pattern.categories(allowed):
                    allowed[category].add(pattern.token)
        return {category: frozenset(tokens) for category, tokens in allowed.items()}


def load_policy(text: str, catalogue: Catalogue, private: Iterable[str]) -> Policy:
    """Read rules from TOML; a `private` category without a rule needs a `channels` claim.

        [categories.balances]
        who = "owner"       # or "everyone", "granted"
        claim = "tokens"    # of an owner; by default "sub"

    Raises PolicyError.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"not TOML: {error}") from error
    _only(document, {"categories"}, "the policy")
    table = document.get("categories", {})
    if not isinstance(table, dict):
        raise PolicyError("categories: must be a table")
    _only(table, set(catalogue.categories), "categories")
    rules = {category: Rule(Subject.GRANTED) for category in private}
    rules |= {category: _rule(row, f"categories.{category}") for category, row in table.items()}
    return Policy(catalogue, rules)


def _rule(row: Any, location: str) -> Rule:
    if not isinstance(row, dict):
        raise PolicyError(f"{location}: must be a table")
    _only(row, {"who", "claim"}, location)
    if row.get("who") not in tuple(Subject):
        raise PolicyError(
            f"{location}.who: must be one of {', '.join(Subject)}, not {row.get('who')!r}"
        )
    who, claim = Subject(row["who"]), row.get("claim", "sub")
    if "claim" in row and who is not Subject.OWNER:
        raise PolicyError(f"{location}.claim: only allowed with who = owner")
    if not isinstance(claim, str) or not claim:
        raise PolicyError(f"{location}.claim: must be a string, not {claim!r}")
    return Rule(who, claim)


def _only(table: dict[str, Any], allowed: set[str], location: str) -> None:
    if unknown := table.keys() - allowed:
        raise PolicyError(
            f"{location}: unknown key {', '.join(sorted(unknown))}; "
            f"allowed: {', '.join(sorted(allowed))}"
        )
