"""From an accepted socket to a WebSocket: request, admission, limits, authentication."""
