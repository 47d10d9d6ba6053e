"""The WebSocket handshake: request, forwarded address, rate limits, admission, authentication."""
