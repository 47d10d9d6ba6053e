"""Sources of records and their health: Kafka, or a log in memory."""
