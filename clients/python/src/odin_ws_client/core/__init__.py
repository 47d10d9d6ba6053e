"""The client's logic without I/O: positions, resume, back-off, tokens, messages."""
