"""The wire protocol as pure functions: commands, messages, responses, frames, compression."""
