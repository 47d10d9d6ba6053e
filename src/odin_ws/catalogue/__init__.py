"""The catalogue of subscriptions: topics, categories, event types, bundles."""

from odin_ws.catalogue.channel_names import (
    MAX_TOKEN_BYTES,
    InvalidName,
    NameCode,
    check_token,
    has_control_characters,
    is_token,
)
from odin_ws.catalogue.demo_events import DemoEvents
from odin_ws.catalogue.errors import CatalogueError
from odin_ws.catalogue.loader import default_catalogue, load_catalogue
from odin_ws.catalogue.model import Catalogue, KeyFormat, Topic, ValueFormat

__all__ = [
    "MAX_TOKEN_BYTES",
    "Catalogue",
    "CatalogueError",
    "DemoEvents",
    "InvalidName",
    "KeyFormat",
    "NameCode",
    "Topic",
    "ValueFormat",
    "check_token",
    "default_catalogue",
    "has_control_characters",
    "is_token",
    "load_catalogue",
]
