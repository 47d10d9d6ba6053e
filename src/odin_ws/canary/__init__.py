"""The canary: a client of another WebSocket library that tries the service through its own port."""
