"""The canary: a client of another WebSocket library that tests the service through its own port."""
