"""Load from outside: publishes, subscribes by the thousand, checks every message, and measures."""
