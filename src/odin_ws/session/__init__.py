"""One client's session: commands, subscriptions, limits, replays."""
