"""Real brokers for the tests."""

from __future__ import annotations

import uuid
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest
from anyio.from_thread import start_blocking_portal
from confluent_kafka.admin import AdminClient

from odin_ws.testing.brokers import (
    ApacheKafka,
    BrokerUnavailable,
    apache_kafka,
    embedded_broker,
)
from odin_ws.testing.cluster import ApacheCluster, apache_cluster
from tests.integration import kafka
from tests.integration.cluster import PASSWORD, USER, Cluster
from tests.integration.domain import Domain, write_domain
from tests.integration.kfake import KFake, run_kfake
from tests.integration.kfake_faults import PARTITIONS, spread
from tests.integration.secure_brokers import Secured, secured_kafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

B = TypeVar("B")


class ApacheFactory(Protocol):
    """The type of `own_apache`."""

    def __call__(
        self, config: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[ApacheKafka]:
        """Run an Apache Kafka with these broker settings."""


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of an Apache Kafka that all tests share; do not stop it."""
    directory = tmp_path_factory.mktemp("apache")
    with _in_background(apache_kafka(kafka.libs(), directory)) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def embedded() -> Iterator[str]:
    """The bootstrap address of an embedded broker that all tests share; do not stop it."""
    try:
        with _in_background(embedded_broker()) as broker:
            yield broker.bootstrap
    except BrokerUnavailable as error:
        kafka.missing(str(error))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """An Apache Kafka with authentication, which the tests of a file share; do not stop it."""
    kafka.libs()
    with _in_background(secured_kafka(tmp_path_factory.mktemp("secured"))) as broker:
        yield broker


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of the oldest supported Apache Kafka; do not stop it."""
    directory = tmp_path_factory.mktemp("oldest")
    with _in_background(apache_kafka(kafka.libs(kafka.OLDEST_LIBS), directory)) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheCluster]:
    """Three Apache Kafka brokers; use `cluster`, which repairs them between two tests.

    They end with the file: idle they take a tenth of a core, more than a start for each file.
    """
    directory = tmp_path_factory.mktemp("cluster")
    with _in_background(apache_cluster(kafka.libs(), directory, users={USER: PASSWORD})) as cluster:
        yield cluster


@pytest.fixture
async def cluster(three_nodes: ApacheCluster) -> AsyncIterator[Cluster]:
    """Three Apache Kafka brokers that a test may stop, kill or pause; the next has all three."""
    await three_nodes.start()
    yield Cluster(three_nodes)
    for node in three_nodes.nodes.values():
        node.unpause()


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    """Topics of one test, and the catalogue with them."""
    return write_domain(tmp_path)


@pytest.fixture
def own_apache(tmp_path_factory: pytest.TempPathFactory) -> ApacheFactory:
    """Runs Apache Kafkas of one test, which may stop, kill, pause and restart them."""
    libs = kafka.libs()

    def run(config: Mapping[str, str] | None = None) -> AbstractAsyncContextManager[ApacheKafka]:
        return apache_kafka(libs, tmp_path_factory.mktemp("apache"), config=config)

    return run


@pytest.fixture
async def topics(apache: str) -> str:
    """The address of a broker that has Odin's topics."""
    known = AdminClient({"bootstrap.servers": apache}).list_topics(timeout=30).topics
    missing = set(kafka.TOPICS) - known.keys()
    if missing:
        await kafka.create_topics(apache, missing)
    return apache


@pytest.fixture
def token() -> str:
    """A token that no other test uses."""
    return f"T{uuid.uuid4().hex[:8]}"


@contextmanager
def _in_background(running: AbstractAsyncContextManager[B]) -> Iterator[B]:
    """Run a broker for longer than one test, in a Trio loop of another thread."""
    with start_blocking_portal("trio") as portal, portal.wrap_async_context_manager(running) as it:
        yield it


@pytest.fixture
async def kfake(domain: Domain) -> AsyncIterator[KFake]:
    """Three nodes of kfake; node n leads partition n of each topic."""
    async with run_kfake(dict.fromkeys(domain.topics, PARTITIONS)) as cluster:
        await spread(cluster, domain)
        yield cluster
