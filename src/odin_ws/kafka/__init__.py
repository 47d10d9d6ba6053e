"""Where records come from, and how well that goes: Kafka, or a log in memory."""
