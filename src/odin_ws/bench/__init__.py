"""Load test: publishes records, subscribes thousands of clients, checks every message."""
