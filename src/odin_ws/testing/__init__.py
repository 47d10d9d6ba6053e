"""Test tools: memory log, scenario, brokers, pytest plugin; used by tests, demo and benchmarks."""
