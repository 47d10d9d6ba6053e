"""The subscription index: from a message's channel to the subscribers of matching patterns.

A record costs four lookups and its subscribers, however many connections and patterns exist.
Subscriptions with options have separate tables, which cost nothing while there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from odin_ws.hub.subscriber import Due, Subscriber
from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions
from odin_ws.pattern import ANY, Pattern
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.filters import Fields, Filter

__all__ = ["PacedSets", "SubscriberSet", "SubscriptionIndex"]

# Most messages have no subscriber if clients subscribe to few of many tokens.
_NO_SUBSCRIBERS = None, None, None, None
_NO_SETS: Sequence[SubscriberSet] = ()


class SubscriberSet:
    """The subscribers of one pattern with the same options, and their pending messages.

    In the order of subscription.
    """

    __slots__ = ("members", "options", "pattern", "pending")

    def __init__(self, pattern: str, options: SubscriptionOptions = PLAIN) -> None:
        self.pattern = pattern
        self.options = options
        # A dict for its order: neighbours subscribed together, so their sequence numbers are close.
        self.members: dict[Subscriber, None] = {}
        self.pending = Due()


class PacedSets:
    """The subscriber sets of one pattern and one filter, each with its rate.

    They share their pending messages: a message costs them one step, however many rates exist.
    """

    __slots__ = ("members", "pending")

    def __init__(self) -> None:
        self.members: list[SubscriberSet] = []
        self.pending = Due()


class _SetsWithOptions:
    """The subscriber sets of one pattern whose subscriptions have options."""

    __slots__ = ("filtered", "paced", "sets", "terms")

    def __init__(self) -> None:
        self.terms = 0
        """The comparisons of the filters without a rate."""
        self.sets: dict[SubscriptionOptions, SubscriberSet] = {}
        # The same sets by filter: `filtered` without a rate, `paced` with one.
        self.filtered: dict[Filter, SubscriberSet] = {}
        self.paced: dict[Filter | None, PacedSets] = {}

    def add(self, subscriber_set: SubscriberSet) -> None:
        """Add a set whose options no present set has."""
        options = subscriber_set.options
        self.sets[options] = subscriber_set
        if options.max_rate is not None:
            self.paced.setdefault(options.where, PacedSets()).members.append(subscriber_set)
        else:
            assert options.where is not None, subscriber_set.pattern
            self.filtered[options.where] = subscriber_set
            self.terms += options.where.terms

    def remove(self, options: SubscriptionOptions) -> None:
        """Remove an empty set."""
        subscriber_set, where = self.sets.pop(options), options.where
        if options.max_rate is None:
            assert where is not None, subscriber_set.pattern
            del self.filtered[where]
            self.terms -= where.terms
            return
        members = self.paced[where].members
        members.remove(subscriber_set)
        if not members:
            del self.paced[where]


class _Evaluations:
    """The results of filters for one message; each filter is evaluated once."""

    __slots__ = ("_fields", "_results", "terms")

    def __init__(self, value: bytes) -> None:
        self.terms = 0
        """The number of comparisons made."""
        self._fields = Fields(value)
        # By the filter's object id: the registry has one object for each filter.
        self._results: dict[int, bool] = {}

    def matches(self, where: Filter | None) -> bool:
        """Return whether the message meets a filter; True without a filter."""
        if where is None:
            return True
        result = self._results.get(id(where))
        if result is None:
            result = self._results[id(where)] = where.matches(self._fields)
            self.terms += where.terms
        return result


class SubscriptionIndex:
    """Maps patterns (`BTC.trade`, `*.trade`, `BTC.*`, `*.*`) to subscriber sets; drops empty ones.

    One table per form of pattern, keyed by its names: a message is looked up by its own names, and
    no pattern text is built for it.
    """

    def __init__(self) -> None:
        self._channels: dict[str, SubscriberSet] = {}
        self._tokens: dict[str, SubscriberSet] = {}
        self._categories: dict[str, SubscriberSet] = {}
        self._everything: dict[str, SubscriberSet] = {}
        self._with_options: dict[str, _SetsWithOptions] = {}

    def __len__(self) -> int:
        """Return how many patterns have a subscriber."""
        tables = self._channels, self._tokens, self._categories, self._everything
        both = sum(1 for pattern in self._with_options if self._is_plain(pattern))
        return sum(map(len, tables)) + len(self._with_options) - both

    @property
    def has_options(self) -> bool:
        """True if any subscription has options."""
        return bool(self._with_options)

    def _is_plain(self, pattern: str) -> bool:
        table, key = self._place(Pattern.parse(pattern), pattern)
        return key in table

    def _place(self, pattern: Pattern, text: str) -> tuple[dict[str, SubscriberSet], str]:
        """Return the table of a pattern, and its key there."""
        token, category = pattern
        if token == ANY:
            return (self._everything, ANY) if category == ANY else (self._categories, category)
        return (self._tokens, token) if category == ANY else (self._channels, text)

    def __contains__(self, pattern: str) -> bool:
        """Return whether a pattern has a subscriber."""
        return self._is_plain(pattern) or pattern in self._with_options

    def add(
        self, subscriber: Subscriber, pattern: str, options: SubscriptionOptions = PLAIN
    ) -> str | None:
        """Subscribe to one pattern; returns the pattern's shared text.

        All subscribers of the pattern share this text, to save memory. Returns None if the same
        subscription with the same options exists.
        """
        if pattern in subscriber.patterns:
            if subscriber.options_of(pattern) == options:
                return None
            self.discard(subscriber, pattern)
        parsed = Pattern.parse(pattern)
        if options is PLAIN:
            table, key = self._place(parsed, pattern)
            subscriber_set = table.get(key)
            if subscriber_set is None:
                subscriber_set = table[key] = SubscriberSet(pattern)
        else:
            subscriber_set = self._set_with_options(subscriber, pattern, options)
        subscriber.patterns.add(subscriber_set.pattern)
        category = parsed.category
        subscriber.categories[category] = subscriber.categories.get(category, 0) + 1
        subscriber_set.members[subscriber] = None
        return subscriber_set.pattern

    def _set_with_options(
        self, subscriber: Subscriber, pattern: str, options: SubscriptionOptions
    ) -> SubscriberSet:
        table = self._with_options.get(pattern)
        if table is None:
            table = self._with_options[pattern] = _SetsWithOptions()
        subscriber_set = table.sets.get(options)
        if subscriber_set is None:
            subscriber_set = SubscriberSet(pattern, options)
            table.add(subscriber_set)
        if subscriber.options is None:
            subscriber.options = {}
        subscriber.options[subscriber_set.pattern] = subscriber_set.options
        return subscriber_set

    def discard(self, subscriber: Subscriber, pattern: str) -> bool:
        """Unsubscribe from one pattern; False if there was no such subscription."""
        if pattern not in subscriber.patterns:
            return False
        subscriber.patterns.remove(pattern)
        parsed = Pattern.parse(pattern)
        category = parsed.category
        if remaining := subscriber.categories[category] - 1:
            subscriber.categories[category] = remaining
        else:
            del subscriber.categories[category]
        options = subscriber.options_of(pattern)
        if options is not PLAIN:
            self._discard_with_options(subscriber, pattern, options)
            return True
        table, key = self._place(parsed, pattern)
        subscriber_set = table[key]
        del subscriber_set.members[subscriber]
        if not subscriber_set.members:
            del table[key]
        return True

    def _discard_with_options(
        self, subscriber: Subscriber, pattern: str, options: SubscriptionOptions
    ) -> None:
        table = self._with_options[pattern]
        members = table.sets[options].members
        del members[subscriber]
        if not members:
            table.remove(options)
            if not table.sets:
                del self._with_options[pattern]
        assert subscriber.options is not None, pattern
        del subscriber.options[pattern]
        if not subscriber.options:
            subscriber.options = None

    def matching_with_options(
        self, message: ChannelMessage
    ) -> tuple[Sequence[SubscriberSet], Sequence[PacedSets], int]:
        """Return the subscriber sets with options that get a message, and the comparisons made.

        The first list has the sets without a rate, the second those with one. Each filter is
        evaluated once, even if it is combined with several patterns and rates.
        """
        with_options = self._with_options
        tables = [with_options[pattern] for pattern in message.patterns if pattern in with_options]
        if not tables:
            return _NO_SETS, (), 0
        if len(tables) == 1 and not tables[0].paced:
            # Each filter occurs once, so no result is stored.
            fields, filtered = Fields(message.value), tables[0].filtered
            found = [members for where, members in filtered.items() if where.matches(fields)]
            return found, (), tables[0].terms
        evaluations = _Evaluations(message.value)
        matches = evaluations.matches
        found = [
            members
            for table in tables
            for where, members in table.filtered.items()
            if matches(where)
        ]
        paced = [sets for table in tables for where, sets in table.paced.items() if matches(where)]
        return found, paced, evaluations.terms

    def pattern_counts(self) -> Iterator[tuple[str, int]]:
        """Yield each pattern and its number of subscribers; may miss concurrent changes."""
        counts = {
            pattern: sum(len(subscriber_set.members) for subscriber_set in table.sets.values())
            for pattern, table in self._with_options.items()
        }
        for table in (self._channels, self._tokens, self._categories, self._everything):
            for members in list(table.values()):
                yield members.pattern, len(members.members) + counts.pop(members.pattern, 0)
        yield from counts.items()

    def subscriptions_to(self, message: ChannelMessage) -> int:
        """Return how many subscriptions match a message; two patterns of one client count twice."""
        found, paced, _ = self.matching_with_options(message)
        return sum(
            len(subscriber_set.members)
            for subscriber_set in (
                *self.matching(message),
                *found,
                *(members for sets in paced for members in sets.members),
            )
        )

    def matching(self, message: ChannelMessage) -> Sequence[SubscriberSet]:
        """Return the subscriber sets of a message's channel; at most four."""
        found = (
            self._channels.get(message.channel),
            self._categories.get(message.category),
            self._tokens.get(message.token),
            self._everything.get(ANY),
        )
        return (
            _NO_SETS
            if found == _NO_SUBSCRIBERS
            else [members for members in found if members is not None]
        )
