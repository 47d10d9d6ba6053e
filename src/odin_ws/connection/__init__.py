"""One WebSocket connection after the upgrade: reading, send queue, keepalive, closing."""
