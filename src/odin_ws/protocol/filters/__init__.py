"""Filters (`where`): conditions on the JSON fields of a record's value."""

from odin_ws.protocol.filters.cache import FilterCache
from odin_ws.protocol.filters.fields import Fields
from odin_ws.protocol.filters.filter import Filter
from odin_ws.protocol.filters.parser import InvalidFilter, read_filter
from odin_ws.protocol.filters.registry import FilterRegistry

__all__ = [
    "Fields",
    "Filter",
    "FilterCache",
    "FilterRegistry",
    "InvalidFilter",
    "read_filter",
]
