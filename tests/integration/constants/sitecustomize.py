"""Sets constants of a server's modules at its start; `servers.with_constants` names them."""

from __future__ import annotations

import json
import os
from importlib import import_module

for name, value in json.loads(os.environ.get("ODIN_TEST_CONSTANTS", "{}")).items():
    module, _, constant = name.rpartition(".")
    setattr(import_module(module), constant, value)
