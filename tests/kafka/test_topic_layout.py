"""Topics appear, disappear and are recreated in successive metadata responses."""

from __future__ import annotations

import pytest

from odin_ws.kafka.protocol import NO_EPOCH, PartitionLayout, TopicLayout
from odin_ws.kafka.topic_layout import Layout, LayoutChange
from odin_ws.records import TopicPartition

TRADES, SOCIAL = "odin.trades", "odin.social"
MISSING = TopicLayout(3, None, {})
NOTHING = LayoutChange(frozenset(), frozenset())


def topic(*epochs: int, topic_id: str | None = None, error: int = 0) -> TopicLayout:
    """A topic of a partition for each leader epoch."""
    partitions = {number: PartitionLayout(0, epoch, 0) for number, epoch in enumerate(epochs)}
    return TopicLayout(error, topic_id, partitions)


def keys(*numbers: int, name: str = TRADES) -> frozenset[TopicPartition]:
    """Partitions of a topic."""
    return frozenset(TopicPartition(name, number) for number in numbers)


def test_first_response_adds_all_partitions() -> None:
    """Also those without a leader."""
    layout = Layout([TRADES, SOCIAL])
    change = layout.update({TRADES: topic(1, 1), SOCIAL: topic(NO_EPOCH)}, 0)
    assert change == LayoutChange(keys(0, 1) | keys(0, name=SOCIAL), frozenset())
    assert layout.update({TRADES: topic(1, 1), SOCIAL: topic(NO_EPOCH)}, 1) == NOTHING


def test_added_partitions_appear() -> None:
    """Nothing else changes."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(1)}, 0)
    assert layout.update({TRADES: topic(1, 0, 0)}, 1) == LayoutChange(keys(1, 2), frozenset())
    assert layout.partitions == keys(0, 1, 2)


def test_unknown_topic_is_missing_at_once() -> None:
    """There is no earlier state."""
    layout = Layout([TRADES])
    layout.update({TRADES: MISSING}, 0)
    assert layout.missing == {TRADES}
    layout.update({TRADES: topic(0)}, 1)
    assert layout.missing == frozenset()


@pytest.mark.parametrize("response", [{TRADES: MISSING}, {}])
def test_absence_counts_after_two_seconds(response: dict[str, TopicLayout]) -> None:
    """A broker that has just started may not know the topic."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(1)}, 0)
    assert layout.update(response, 1) == NOTHING
    assert (layout.missing, layout.partitions) == (frozenset(), keys(0))
    layout.update(response, 2.9)
    assert layout.missing == frozenset()
    layout.update(response, 3)
    assert layout.missing == {TRADES}
    assert layout.partitions == keys(0)


@pytest.mark.parametrize("topic_id", [None, "a" * 32])
def test_topic_absent_for_a_moment_is_unchanged(topic_id: str | None) -> None:
    """With ids and without."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(1, topic_id=topic_id)}, 0)
    layout.update({TRADES: MISSING}, 1)
    assert layout.update({TRADES: topic(1, topic_id=topic_id)}, 2) == NOTHING
    # A second absence begins anew.
    layout.update({TRADES: MISSING}, 9)
    assert layout.missing == frozenset()


def test_topic_with_another_id_is_recreated() -> None:
    """Also without a seen absence, and with higher leader epochs."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(1, 1, topic_id="a" * 32)}, 0)
    assert layout.topic_ids == {TRADES: "a" * 32}
    change = layout.update({TRADES: topic(7, 7, topic_id="b" * 32)}, 1)
    assert change == LayoutChange(frozenset(), keys(0, 1))
    assert layout.topic_ids == {TRADES: "b" * 32}


def test_topic_with_the_same_id_is_unchanged_after_any_absence() -> None:
    """All brokers may have been down."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(5, topic_id="a" * 32)}, 0)
    for now in (10, 20, 30):
        layout.update({TRADES: MISSING}, now)
    assert layout.update({TRADES: topic(1, topic_id="a" * 32)}, 40) == NOTHING


def test_response_without_an_id_does_not_hide_a_recreation() -> None:
    """During an upgrade of the cluster some brokers know no ids."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(1, topic_id="a")}, 0)
    assert layout.update({TRADES: topic(1)}, 1) == NOTHING
    assert layout.topic_ids == {TRADES: "a"}
    assert layout.update({TRADES: topic(1, topic_id="b")}, 2).recreated == keys(0)
    assert layout.topic_ids == {TRADES: "b"}


def test_topic_recreated_while_brokers_know_no_ids_is_recreated_once() -> None:
    """The id that the brokers report later is the new topic's."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(5, topic_id="a")}, 0)
    layout.update({TRADES: topic(0)}, 1)
    assert layout.update({TRADES: topic(0)}, 3).recreated == keys(0)
    assert layout.topic_ids == {}
    assert layout.update({TRADES: topic(0, topic_id="b")}, 4) == NOTHING
    assert layout.topic_ids == {TRADES: "b"}


def test_recreated_topic_may_have_other_partitions() -> None:
    """Fewer: the others are removed. More: they appear."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(1, 1, 1, topic_id="a" * 32)}, 0)
    change = layout.update({TRADES: topic(0, topic_id="b" * 32)}, 1)
    assert change == LayoutChange(frozenset(), keys(0))
    assert layout.partitions == keys(0)
    change = layout.update({TRADES: topic(0, 0, topic_id="c" * 32)}, 2)
    assert change == LayoutChange(keys(1), keys(0))


def test_without_ids_a_lasting_absence_means_recreated() -> None:
    """The topic was deleted."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(NO_EPOCH)}, 0)
    layout.update({TRADES: MISSING}, 1)
    layout.update({TRADES: MISSING}, 4)
    assert layout.update({TRADES: topic(NO_EPOCH)}, 5) == LayoutChange(frozenset(), keys(0))
    assert layout.update({TRADES: topic(NO_EPOCH)}, 6) == NOTHING


def test_without_ids_an_error_does_not_undo_a_lasting_absence() -> None:
    """The topic after the error is another one."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(NO_EPOCH)}, 0)
    layout.update({TRADES: MISSING}, 1)
    layout.update({TRADES: MISSING}, 4)
    layout.update({TRADES: topic(error=29)}, 5)
    assert layout.update({TRADES: topic(NO_EPOCH)}, 6) == LayoutChange(frozenset(), keys(0))


def test_without_ids_an_unknown_epoch_is_not_lower() -> None:
    """It says nothing about the topic."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(5)}, 0)
    for now in (1, 4, 9):
        assert layout.update({TRADES: topic(NO_EPOCH)}, now) == NOTHING


def test_without_ids_restarted_epochs_mean_recreated() -> None:
    """Unknown epochs say nothing, higher ones are new leaders."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(5, 5)}, 0)
    assert layout.update({TRADES: topic(6, NO_EPOCH)}, 1) == NOTHING
    assert layout.update({TRADES: topic(0, 0)}, 2) == NOTHING
    assert layout.update({TRADES: topic(0, 0)}, 5) == LayoutChange(frozenset(), keys(0, 1))
    assert layout.update({TRADES: topic(1, 0)}, 6) == NOTHING


def test_response_of_a_lagging_broker_is_ignored() -> None:
    """Lower epochs once, or the id of a deleted topic, are old."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(5)}, 0)
    assert layout.update({TRADES: topic(4)}, 1) == NOTHING
    assert layout.update({TRADES: topic(5)}, 2) == NOTHING
    assert layout.update({TRADES: topic(4)}, 9) == NOTHING

    layout = Layout([TRADES])
    layout.update({TRADES: topic(0, topic_id="a" * 32)}, 0)
    assert layout.update({TRADES: topic(0, topic_id="b" * 32)}, 1).recreated == keys(0)
    assert layout.update({TRADES: topic(0, topic_id="a" * 32)}, 2) == NOTHING
    assert layout.topic_ids == {TRADES: "b" * 32}


def test_with_ids_epochs_are_ignored() -> None:
    """A response may be older than the previous one."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(5, topic_id="a" * 32)}, 0)
    assert layout.update({TRADES: topic(4, topic_id="a" * 32)}, 1) == NOTHING


def test_unauthorized_topic_is_a_separate_problem() -> None:
    """It is not missing, and its known state stays."""
    layout = Layout([TRADES, SOCIAL])
    layout.update({TRADES: topic(1), SOCIAL: topic(error=29)}, 0)
    assert layout.problems == {SOCIAL: "not authorized to see the topic (DESCRIBE)"}
    assert layout.missing == frozenset()
    layout.update({TRADES: topic(error=29), SOCIAL: topic(1)}, 9)
    assert set(layout.problems) == {TRADES}
    assert layout.partitions == keys(0) | keys(0, name=SOCIAL)
    layout.update({TRADES: topic(1), SOCIAL: topic(1)}, 10)
    assert layout.problems == {}


def test_error_response_ends_an_absence() -> None:
    """The time of an absence does not continue through an error."""
    layout = Layout([TRADES])
    layout.update({TRADES: topic(1)}, 0)
    layout.update({TRADES: MISSING}, 1)
    layout.update({TRADES: topic(error=29)}, 2)
    layout.update({TRADES: MISSING}, 9)
    assert layout.missing == frozenset()
