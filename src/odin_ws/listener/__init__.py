"""Accepts connections: accept loop, TLS, transport, fair read scheduler."""
