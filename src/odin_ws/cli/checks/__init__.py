"""The checks of `odin-ws check`: settings, machine, Kafka, and the service from outside."""
