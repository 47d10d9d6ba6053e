"""What the client decides, without I/O: positions, resume, back-off, tokens, messages."""
