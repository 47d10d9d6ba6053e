"""Generates events like the Odin platform's, or by a catalogue's rules; same seed, same events.

The module reads no clock and no other source of randomness: the caller passes the time and the
seed.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, islice
from random import Random
from typing import Any, Final, NamedTuple

from odin_ws.catalogue import Catalogue, default_catalogue
from odin_ws.catalogue.demo_events import Scalar
from odin_ws.testing.record_formats import encode_key, encode_value

__all__ = ["Event", "EventGenerator", "token_names"]

Data = dict[str, Any]

_NAMES: Final = (
    *("BTC", "ODIN", "FREYA", "LOKI", "THOR", "HUGIN", "MUNIN", "FENRIR"),
    *("BALDR", "NJORD", "SKADI", "YMIR"),
)

# Occurrences of an event type in one round of the deck; 1 by default. Trades and their consequences
# are most of the platform's traffic.
_SHARES: Final[Mapping[str, int]] = {
    "TRADE_EXECUTED": 8,
    "BUY_COMPLETED": 5,
    "SELL_COMPLETED": 4,
    "LIQUIDITY_ADDED": 2,
    "COMMENT_POSTED": 3,
    "COMMENT_UPVOTED": 3,
    "FAVORITE_TOGGLED": 2,
    "PRICE_DELTA_UPDATED": 4,
    "HOLDER_COUNT_UPDATED": 2,
    "BALANCE_UPDATED": 4,
    "TRANSFER_COMPLETED": 2,
}

# Enough that wallets meet again, and few enough to be remembered.
_WALLETS: Final = 60

# Standard deviation of the logarithm of one price step: some 4% over 100 trades.
_VOLATILITY: Final = 0.004

_SUPPLY: Final = 21_000_000

_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

_COMMENTS: Final = (
    *("to the moon 🚀", "who sold?", "gm", "holding since day one", "chart looks tired"),
    *("the team delivered again", "is this the bottom?", "Grüße aus Köln", "买买买", "not selling"),
)


class Event(NamedTuple):
    """One Kafka record: the token as its key and the event, in the formats of its topic."""

    topic: str
    key: bytes
    value: bytes


def token_names(count: int, names: Sequence[str] = _NAMES) -> tuple[str, ...]:
    """Return `count` different tokens, equal in each call: `names`, then `TOKEN7` and so on."""
    given = dict.fromkeys(names[:count])
    numbered = (f"TOKEN{number}" for number in range(len(names) + 1, 2 * count + 1))
    return (*given, *islice((name for name in numbered if name not in given), count - len(given)))


class EventGenerator:
    """Generates events for `tokens`, of the event types of `catalogue`, in its topics' formats.

    The section `[demo]` of the catalogue lists the fields of event types; Odin's own types need no
    rule, and other types without one have a random number.
    Event types are drawn from a shuffled deck: all of them occur in every round of it, 52 events
    with Odin's catalogue. The first tokens are traded most.
    """

    def __init__(
        self, tokens: Sequence[str], seed: int, catalogue: Catalogue | None = None
    ) -> None:
        self._random = Random(seed)  # noqa: S311 -- test data, no secrets
        self._catalogue = catalogue or default_catalogue()
        wallets = [_wallet(self._random) for _ in range(_WALLETS)]
        self._tokens = {name: _Token(name, self._random, wallets) for name in tokens}
        self._names = tuple(self._tokens)
        self._weights = tuple(accumulate(1 / rank for rank in range(1, len(self._names) + 1)))
        self._deck: list[str] = []

    def event(self, token: str, event_type: str, now_us: int) -> Event:
        """Return an event of this type; `now_us`: epoch microseconds, the event's `data.pub_us`.

        Raises:
            KeyError: the token or the event type is unknown to the generator.
        """
        topic = self._catalogue.event_types[event_type]
        data = self._data(self._tokens[token], event_type)
        data["pub_us"] = now_us
        value = {"type": event_type, "timestamp": now_us // 1000, "data": data}
        return Event(topic.name, encode_key(token, topic.key), encode_value(value, topic.value))

    def next(self, now_us: int) -> Event:
        """Return an event of the next type for a token; `now_us` as in `event`."""
        if not self._deck:
            weights = {**_SHARES, **self._catalogue.demo.weights}
            types = self._catalogue.event_types
            self._deck = [name for name in types for _ in range(weights.get(name, 1))]
            self._random.shuffle(self._deck)
        place = bisect(self._weights, self._random.random() * self._weights[-1])
        # The product may be rounded up to the last weight.
        token = self._names[min(place, len(self._names) - 1)]
        return self.event(token, self._deck.pop(), now_us)

    def _data(self, token: _Token, event_type: str) -> Data:
        rules = self._catalogue.demo.data.get(event_type)
        if rules is None:
            return _MAKERS.get(event_type, _unknown)(token)
        for name, rule in rules.items():
            token.fields[name] = rule.next(token.fields.get(name), self._random)
        return {name: token.fields[name] for name in rules}


class _Token:
    """The state of one token, from which its next events continue."""

    def __init__(self, name: str, random: Random, wallets: Sequence[str]) -> None:
        self.name = name
        self.random = random
        self.wallets = wallets
        self.price = random.lognormvariate(-3, 1.5)
        self.price_before = self.price
        self.pool = self.price * _SUPPLY / 10
        self.holders = random.randint(50, 5000)
        self.trades = 0
        self.volume = 0.0
        self.comments = 0
        self.favorites = random.randint(0, 500)
        self.renamed = 0
        self.balances: dict[str, float] = {}
        # The last values by a catalogue's rules; event types share fields of the same name.
        self.fields: dict[str, Scalar] = {}

    def wallet(self) -> str:
        return self.random.choice(self.wallets)

    def transaction(self) -> str:
        return f"{self.random.getrandbits(256):064x}"

    def amount(self) -> float:
        """Return an amount of tokens; most amounts are small and a few are very large."""
        return round(self.random.lognormvariate(5, 1.5), 2)

    def trade(self) -> Data:
        """Move the price, and return the data of a trade at the new price."""
        self.price *= self.random.lognormvariate(0, _VOLATILITY)
        amount = self.amount()
        self.trades += 1
        self.volume += amount * self.price
        return {
            "price": _digits(self.price),
            "amount": amount,
            "total": _digits(amount * self.price),
        }


# ---- one function an event type


def _trade_executed(token: _Token) -> Data:
    side = token.random.choice(("buy", "sell"))
    people = {"buyer": token.wallet(), "seller": token.wallet(), "tx": token.transaction()}
    return {"side": side} | token.trade() | {"trade": token.trades} | people


def _completed(token: _Token) -> Data:
    trade = token.trade()
    fee = _digits(trade["total"] * 0.003)
    return trade | {"fee": fee, "wallet": token.wallet(), "tx": token.transaction()}


def _liquidity(direction: int) -> Callable[[_Token], Data]:
    def make(token: _Token) -> Data:
        value = token.pool * token.random.uniform(0.001, 0.05)
        token.pool += direction * value
        return {
            "value": _digits(value),
            "pool": _digits(token.pool),
            "amount": round(value / token.price, 2),
            "provider": token.wallet(),
            "tx": token.transaction(),
        }

    return make


def _liquidity_rebalanced(token: _Token) -> Data:
    share = round(token.random.uniform(0.4, 0.6), 4)
    return {"pool": _digits(token.pool), "token_share": share, "fee_tier": 0.003}


def _metadata_updated(token: _Token) -> Data:
    return {
        "description": f"{token.name}: {token.random.choice(_COMMENTS)}",
        "image": f"https://images.invalid/{token.random.getrandbits(64):016x}.webp",
        "updated_by": token.wallet(),
    }


def _name_changed(token: _Token) -> Data:
    old = f"{token.name} v{token.renamed}" if token.renamed else token.name
    token.renamed += 1
    return {"old_name": old, "new_name": f"{token.name} v{token.renamed}"}


def _flags_changed(token: _Token) -> Data:
    flags = ("verified", "nsfw", "trading_paused")
    return {"flag": token.random.choice(flags), "value": token.random.choice((True, False))}


def _twitter_verified(token: _Token) -> Data:
    return {"handle": f"@{token.name.lower()}", "followers": token.random.randint(100, 500_000)}


def _social_links(token: _Token) -> Data:
    name = token.name.lower()
    links = {"twitter": f"https://x.invalid/{name}", "telegram": f"https://t.invalid/{name}"}
    return {"website": f"https://{name}.invalid", "links": links}


def _comment_posted(token: _Token) -> Data:
    token.comments += 1
    text = token.random.choice(_COMMENTS)
    return {"comment": token.comments, "text": text, "author": token.wallet()}


def _comment_pinned(token: _Token) -> Data:
    return {"comment": _some_comment(token), "pinned_by": token.wallet()}


def _comment_upvoted(token: _Token) -> Data:
    upvotes = token.random.randint(1, 200)
    return {"comment": _some_comment(token), "upvotes": upvotes, "voter": token.wallet()}


def _favorite_toggled(token: _Token) -> Data:
    favorite = not token.favorites or token.random.choice((True, True, False))
    token.favorites += 1 if favorite else -1
    return {"favorite": favorite, "favorites": token.favorites, "wallet": token.wallet()}


def _created(token: _Token) -> Data:
    return {"symbol": token.name, "supply": _SUPPLY, "creator": token.wallet()}


def _listed(token: _Token) -> Data:
    return {"pair": f"{token.name}/USD", "price": _digits(token.price)}


def _bonded(token: _Token) -> Data:
    return {"raised": _digits(token.pool), "market_cap": _digits(token.price * _SUPPLY)}


def _price_delta(token: _Token) -> Data:
    before, token.price_before = token.price_before, token.price
    percent = round(100 * (token.price / before - 1), 3)
    return {"price": _digits(token.price), "before": _digits(before), "percent": percent}


def _holder_count(token: _Token) -> Data:
    change = token.random.randint(-3, 6)
    token.holders = max(1, token.holders + change)
    return {"holders": token.holders, "change": change}


def _analytics(token: _Token) -> Data:
    return {
        "volume": _digits(token.volume),
        "trades": token.trades,
        "market_cap": _digits(token.price * _SUPPLY),
        "holders": token.holders,
    }


def _trending(token: _Token) -> Data:
    rank = token.random.randint(1, 50)
    return {"rank": rank, "score": round(100 / rank + token.random.random(), 2)}


def _balance_updated(token: _Token) -> Data:
    wallet = token.wallet()
    before = token.balances.get(wallet, 0.0)
    # A wallet spends no more than its balance.
    change = max(token.random.choice((1, -1)) * token.amount(), -before) or token.amount()
    token.balances[wallet] = balance = round(before + change, 2)
    return {"balance": balance, "change": round(change, 2), "wallet": wallet}


def _transfer(token: _Token) -> Data:
    sender, receiver = token.random.sample(token.wallets, 2)
    return {"amount": token.amount(), "from": sender, "to": receiver, "tx": token.transaction()}


def _unknown(token: _Token) -> Data:
    """Return the data of an event type of another domain without a rule: a random number."""
    return {"value": round(token.random.random(), 6)}


_MAKERS: Final[Mapping[str, Callable[[_Token], Data]]] = {
    "TRADE_EXECUTED": _trade_executed,
    "BUY_COMPLETED": _completed,
    "SELL_COMPLETED": _completed,
    "LIQUIDITY_ADDED": _liquidity(1),
    "LIQUIDITY_REMOVED": _liquidity(-1),
    "LIQUIDITY_REBALANCED": _liquidity_rebalanced,
    "METADATA_UPDATED": _metadata_updated,
    "TOKEN_NAME_CHANGED": _name_changed,
    "TOKEN_FLAGS_CHANGED": _flags_changed,
    "TWITTER_VERIFIED": _twitter_verified,
    "SOCIAL_LINKS_UPDATED": _social_links,
    "COMMENT_POSTED": _comment_posted,
    "COMMENT_PINNED": _comment_pinned,
    "COMMENT_UPVOTED": _comment_upvoted,
    "FAVORITE_TOGGLED": _favorite_toggled,
    "TOKEN_CREATED": _created,
    "TOKEN_LISTED": _listed,
    "TOKEN_BONDED": _bonded,
    "PRICE_DELTA_UPDATED": _price_delta,
    "HOLDER_COUNT_UPDATED": _holder_count,
    "ANALYTICS_RECALCULATED": _analytics,
    "TRENDING_UPDATED": _trending,
    "BALANCE_UPDATED": _balance_updated,
    "TRANSFER_COMPLETED": _transfer,
}


def _some_comment(token: _Token) -> int:
    return token.random.randint(1, max(1, token.comments))


def _wallet(random: Random) -> str:
    return "bc1q" + "".join(random.choices(_BECH32, k=38))


def _digits(value: float) -> float:
    """Return a value with six significant digits: prices span many magnitudes."""
    return float(f"{value:.6g}")
