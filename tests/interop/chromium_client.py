"""A page in Chromium without a window; see serving.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Final

# What client.mjs does, and what it prints is posted.
PAGE: Final = """<!doctype html>
<script type="module">
const [url, command, connections, texts] = %s;
const post = (body) => fetch("/said", { method: "POST", body });
const subscribed = [];
const ended = [];
const sockets = Array.from({ length: connections }, () => {
  const socket = new WebSocket(url);
  const found = [];
  let answered;
  subscribed.push(new Promise((resolve) => (answered = resolve)));
  ended.push(new Promise((resolve) => {
    socket.onopen = () => socket.send(command);
    socket.onmessage = ({ data }) => {
      if (JSON.parse(data).type === "subscription_ack") return answered();
      found.push(data);
      if (found.length === texts) resolve(found);
    };
  }));
  return socket;
});
await Promise.all(subscribed);
await post("ready");
const all = await Promise.all(ended);
await post(JSON.stringify({ extensions: sockets[0].extensions, texts: all }));
</script>
"""


class Handler(BaseHTTPRequestHandler):
    """Serves the page, and prints what it posts."""

    page = b""
    reports = 0

    def do_GET(self) -> None:
        """The page; a browser also asks for an icon."""
        self._answer(self.page)

    def do_POST(self) -> None:
        """Print a line at once."""
        length = int(self.headers["Content-Length"])
        sys.stdout.write(self.rfile.read(length).decode() + "\n")
        sys.stdout.flush()
        type(self).reports += 1
        self._answer(b"")

    def log_message(self, *_arguments: object) -> None:
        """Print nothing else."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(browser: str, url: str, command: str, connections: int, texts: int) -> None:
    """Serve the page until it has said everything."""
    Handler.page = (PAGE % json.dumps([url, command, connections, texts])).encode()
    with (
        HTTPServer(("127.0.0.1", 0), Handler) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        options = ["--headless", "--disable-gpu", "--no-first-run", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        address = f"http://127.0.0.1:{server.server_port}/"
        process = subprocess.Popen(
            [browser, *options, f"--user-data-dir={profile}", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while Handler.reports < 2:
                server.handle_request()
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
