"""What tests, the demo and the benchmarks share: real brokers on this machine."""
