"""Kafka's requests and responses as far as odin-ws uses them. No I/O.

A request is an object with its content. `encode` picks the highest version that both the broker and
this module support, and `decode` reads the response of that version. Fields that the version lacks
are left out.

| request | versions | features by version |
|---|---|---|
| Metadata | 4 to 12 | 9: reliable leader epochs (KAFKA-9212); 10: topic ids (KIP-516) |
| Fetch | 4 to 13 | 7: sessions (KIP-227); 9: the leader epoch (KIP-320); 13: topic ids |
| ListOffsets | 1 to 8 | 2: isolation; 4: the leader epoch; 8: records on local disks |
| OffsetForLeaderEpoch | 2 to 4 | 3: the replica id |
| FindCoordinator | 0 to 2 | |
| OffsetFetch | 1 to 5 | 2: an error for the whole group |
| DescribeGroups | 3 to 5 | 3: what we may do with the group (KIP-430) |
| DescribeConfigs | 1 to 4 | |

The layouts are those of https://kafka.apache.org/protocol.
"""

from odin_ws.kafka.protocol.base import (
    NO_EPOCH,
    EncodedRequest,
    KafkaRequest,
    UnsupportedVersion,
    Versions,
)
from odin_ws.kafka.protocol.fetch import FetchedPartition, FetchFrom, FetchRequest, FetchResponse
from odin_ws.kafka.protocol.groups import (
    CommittedOffset,
    CommittedOffsets,
    Coordinator,
    FindCoordinatorRequest,
    OffsetFetchRequest,
)
from odin_ws.kafka.protocol.metadata import (
    BrokerAddress,
    Metadata,
    MetadataRequest,
    PartitionLayout,
    TopicLayout,
)
from odin_ws.kafka.protocol.offsets import (
    EARLIEST,
    EARLIEST_LOCAL,
    LATEST,
    MAX_TIMESTAMP,
    EpochEndOffset,
    ListOffsetsRequest,
    OffsetForLeaderEpochRequest,
    OffsetFound,
)
from odin_ws.kafka.protocol.permissions import (
    DescribeConfigsRequest,
    DescribeGroupRequest,
    GroupPermissions,
    Operation,
    TopicConfig,
)
from odin_ws.kafka.protocol.wire import MalformedResponse

__all__ = [
    "EARLIEST",
    "EARLIEST_LOCAL",
    "LATEST",
    "MAX_TIMESTAMP",
    "NO_EPOCH",
    "BrokerAddress",
    "CommittedOffset",
    "CommittedOffsets",
    "Coordinator",
    "DescribeConfigsRequest",
    "DescribeGroupRequest",
    "EncodedRequest",
    "EpochEndOffset",
    "FetchFrom",
    "FetchRequest",
    "FetchResponse",
    "FetchedPartition",
    "FindCoordinatorRequest",
    "GroupPermissions",
    "KafkaRequest",
    "ListOffsetsRequest",
    "MalformedResponse",
    "Metadata",
    "MetadataRequest",
    "OffsetFetchRequest",
    "OffsetForLeaderEpochRequest",
    "OffsetFound",
    "Operation",
    "PartitionLayout",
    "TopicConfig",
    "TopicLayout",
    "UnsupportedVersion",
    "Versions",
]
