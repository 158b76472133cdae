"""As much of the Hugging Face hub as one download asks for, over a folder; counts what it gives.

with Hub(folder) as hub:
    ... a process with HF_ENDPOINT=hub.url that wants `someone/model` ...
    assert hub.given["model.safetensors"] == 1000
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" * 6 + "c0ff"


class Hub:
    def __init__(self, folder: Path):
        self.given: Counter[str] = Counter()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = self.path.partition("?")[0]
                file = folder / path.rpartition("/")[2]
                if path.startswith("/api/models/"):
                    files = sorted(folder.iterdir())
                    siblings = [{"rfilename": each.name} for each in files]
                    tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in files]
                    info = {"id": "someone/model", "sha": COMMIT, "siblings": siblings}
                    data = json.dumps(tree if "/tree/" in path else info).encode()
                    self.give(200, data, {"Content-Type": "application/json"}, body)
                elif "/resolve/" in path and file.is_file():
                    data = file.read_bytes()
                    hub.given[file.name] += len(data) if body else 0
                    self.give(200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}, body)
                else:
                    self.give(404, b"", {"X-Error-Code": "EntryNotFound"}, body)

            def give(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
                self.send_response(status)
                for name, value in (headers | {"X-Repo-Commit": COMMIT, "Content-Length": str(len(data))}).items():
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
