"""odin-ws: Kafka topics fanned out to WebSocket subscribers."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("odin-ws")
