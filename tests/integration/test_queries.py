"""Alert rules, dashboard and documentation name series and labels of running servers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.queries import faults, queries
from tests.integration.domain import Domain
from tests.integration.kafka import create_topics
from tests.integration.running_source import Publisher
from tests.integration.servers import Server, connected, serving
from tests.listener.certificates import Authority

Series = dict[str, dict[str, set[str]]]


async def test_queries_name_existing_series_and_labels(
    embedded: str, domain: Domain, tmp_path: Path
) -> None:
    """No query names a series, a label or a label's value that servers do not have."""
    await create_topics(embedded, domain.topics, 1)
    series: Series = defaultdict(lambda: defaultdict(set))
    async with serving(embedded, domain.settings) as alone, connected(alone) as client:
        await client.subscribe(channels=["*.*"])
        await Publisher(embedded).publish([domain.record(domain.trade, 1)])
        await client.received(1)
        await collect(alone, series)
    # Series that only workers and TLS add.
    authority = Authority(tmp_path)
    tls = {"WS_TLS_CERT": str(authority.chain), "WS_TLS_KEY": str(authority.key)}
    async with serving(embedded, domain.settings | tls, words=["--workers", "2"]) as several:
        await collect(several, series)
    found = [fault for query in queries() for fault in faults(query, series)]
    assert not found, "\n".join(found)


async def collect(server: Server, series: Series) -> None:
    """Add the series of /metrics, with the values of their labels."""
    text = (await server.get("/metrics")).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = series[sample.name]
            for label, value in sample.labels.items():
                labels[label].add(value)
