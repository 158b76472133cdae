"""The report of a run that goes on: served to browsers on this machine, made anew when the run has written.

The page is made in memory when it is asked for; nothing is written into the workdir. Only 127.0.0.1 is listened on:
from elsewhere, `ssh -L`. Left out: pushing (the page asks every few seconds).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from azr_jax.monitor import report

HOST = "127.0.0.1"
PORT = 6007
NAMES = (HOST, "localhost")  # what a browser may call us: a page elsewhere must not read this one under its own name
FILES = ("metrics.jsonl", "timings.jsonl", "config.json")


class CannotServe(ValueError):
    """The port is taken."""


class LiveReport:
    """Answers with the report of a workdir. `url` is where; `serve` returns after `stop`, or raises what stops it."""

    def __init__(self, workdir: Path, port: int = PORT, refresh: Callable[[], None] = lambda: None):
        """`refresh` brings the folder up to date, where the run writes elsewhere."""
        self.workdir, self._refresh = workdir, refresh
        report.check([workdir], "--live")
        self._lock = threading.Lock()
        self._made = ("", "")  # the version that a page was made of, and the page
        live = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                live.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                return  # a line for each question would bury everything else

        try:
            self._server = ThreadingHTTPServer((HOST, port), Handler)
        except OSError as error:
            raise CannotServe(f"--port={port}: {error.strerror}; give another, or 0 for any that is free") from error
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}/"

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        self._server.shutdown()

    def close(self) -> None:
        self._server.server_close()

    def version(self) -> str:
        """Changes when the run has written an iteration."""
        with self._lock:
            self._refresh()
            return self._version()

    def _version(self) -> str:
        found = []
        for name in FILES:
            path = self.workdir / name
            found.append(f"{path.stat().st_size}.{path.stat().st_mtime_ns}" if path.exists() else "none")
        return "-".join(found)

    def page(self) -> str:
        with self._lock:  # one page is made at a time; who waited gets the same one
            version = self._version()
            if version != self._made[0]:
                report.check([self.workdir], "--live")
                self._made = version, report.page([self.workdir], live=True)
            return self._made[1]

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        name = (asked.headers.get("Host") or "").rsplit(":", 1)[0]
        if name not in NAMES:
            _say(asked, 403, "text/plain", f"ask for {self.url}")
            return
        try:
            if asked.path == "/version":
                _say(asked, 200, "text/plain", self.version())
            elif asked.path == "/":
                _say(asked, 200, "text/html", self.page())
            else:
                _say(asked, 404, "text/plain", f"only {self.url} is here")
        except (report.NothingToReport, OSError, ValueError) as error:  # taken away, or not readable just now
            _say(asked, 503, "text/plain", str(error))


def _say(asked: BaseHTTPRequestHandler, status: int, kind: str, text: str) -> None:
    body = text.encode("utf-8", errors="replace")
    asked.send_response(status)
    asked.send_header("Content-Type", f"{kind}; charset=utf-8")
    asked.send_header("Content-Length", str(len(body)))
    asked.send_header("Cache-Control", "no-store")
    asked.end_headers()
    asked.wfile.write(body)
