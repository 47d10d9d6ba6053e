"""The ops port: health, metrics, client list, revocations."""
