"""The CPU of a start, and the libraries that it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.integration.starting import PATIENCE, SERVE, SERVE_SILENTLY, SERVING, starting
from tests.jwt_issuer import SECRET
from tests.listener.certificates import Authority

# CPU limits in seconds; other processes of the machine do not count in CPU time.
TO_THE_HANDLER: Final = 0.3
TO_SERVING: Final = 1.0

TRIES: Final = 3

# Libraries that only some settings need: 45 ms for httpx, 80 ms for PyJWT with cryptography. rich
# is for commands that draw on a terminal; structlog would load it, which takes 55 ms.
OPTIONAL: Final = {"cryptography", "httpx", "jwt", "rich"}


@pytest.fixture(autouse=True)
def _bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep compiled modules, as in an installed package, so that only the first start compiles."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


def cpu_to_serving() -> float:
    """Start a server; return its CPU time when it serves."""
    with starting(command=SERVE_SILENTLY) as server:
        server.reaches(SERVING)
        times = psutil.Process(server.process.pid).cpu_times()
        return times.user + times.system


def test_server_serves_after_less_than_one_second_of_cpu() -> None:
    """On an idle core that is also the time that it takes."""
    cpu_to_serving()  # compiles what is not compiled yet
    assert min(cpu_to_serving() for _ in range(TRIES)) < TO_SERVING


def test_signal_handler_is_installed_within_300_ms_of_cpu() -> None:
    """Counted from the start of the interpreter."""
    program = (
        "import time; from odin_ws.__main__ import main; from odin_ws.early_exit import "
        "early_exit; early_exit.install(0); print(time.process_time())"
    )
    taken = [
        float(subprocess.check_output([sys.executable, "-c", program], timeout=PATIENCE))
        for _ in range(TRIES)
    ]
    assert min(taken) < TO_THE_HANDLER


def loaded(**settings: str) -> set[str]:
    """Start a server with these settings; return the packages loaded when it serves.

    A package without any loaded module was only looked for.
    """
    with starting(command=SERVE, **settings) as server:
        server.reaches(SERVING)
    lines = (line for line in server.lines if line.startswith("import time:"))
    names = (line.rpartition("|")[2].strip() for line in lines)
    return {name.partition(".")[0] for name in names if "." in name}


def test_plain_server_loads_no_library_that_only_other_settings_need() -> None:
    """Neither for tokens, nor for TLS, nor for key sets behind a URL, nor for terminals."""
    assert not loaded() & OPTIONAL


def test_libraries_are_loaded_where_settings_need_them(tmp_path: Path) -> None:
    """Before it serves, so that no client waits for them."""
    assert {"jwt", "cryptography"} <= loaded(WS_AUTH="jwt", WS_JWT_SECRET=SECRET)
    certificate = Authority(tmp_path)
    files = {"WS_TLS_CERT": str(certificate.chain), "WS_TLS_KEY": str(certificate.key)}
    assert "cryptography" in loaded(**files)
    assert "httpx" in loaded(WS_AUTH="jwt", WS_JWKS="https://localhost:1/keys")
