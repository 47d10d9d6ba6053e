"""Accepting connections, TLS, and the bytes of one connection."""
