"""The console of the ops port: a page, and its stream of events (docs/console.md)."""
