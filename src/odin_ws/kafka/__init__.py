"""Reads Kafka: client, fetch protocol, source, consumer group, log reader, dead letter queue."""
