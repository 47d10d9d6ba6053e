"""One client's commands and subscriptions."""
