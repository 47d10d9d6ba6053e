"""What there is to subscribe to: topics, categories, event types, bundles, channels, patterns."""

from odin_ws.catalogue.channel_names import (
    ANY,
    MAX_TOKEN_BYTES,
    InvalidName,
    NameCode,
    channel_name,
    check_token,
    has_control_characters,
    is_token,
    matching_patterns,
    split_channel,
)
from odin_ws.catalogue.loader import CatalogueError, default_catalogue, load_catalogue
from odin_ws.catalogue.model import Catalogue, KeyFormat, Topic, ValueFormat

__all__ = [
    "ANY",
    "MAX_TOKEN_BYTES",
    "Catalogue",
    "CatalogueError",
    "InvalidName",
    "KeyFormat",
    "NameCode",
    "Topic",
    "ValueFormat",
    "channel_name",
    "check_token",
    "default_catalogue",
    "has_control_characters",
    "is_token",
    "load_catalogue",
    "matching_patterns",
    "split_channel",
]
