"""The console of the ops port: a page, and the stream of events that feeds it (docs/console.md)."""
