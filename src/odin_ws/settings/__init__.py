"""Every setting: its name, unit, default and range; read from environment variables."""

from odin_ws.settings.declaration import Setting, SettingsError
from odin_ws.settings.loader import Settings, declared_settings, load_settings
from odin_ws.settings.secrets import Secret

__all__ = ["Secret", "Setting", "Settings", "SettingsError", "declared_settings", "load_settings"]
