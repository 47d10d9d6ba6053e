"""What clients and server say to each other; pure functions of bytes (docs/protocol.md)."""
