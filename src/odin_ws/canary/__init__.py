"""The canary: a client of another make that tries the service through its own port."""
