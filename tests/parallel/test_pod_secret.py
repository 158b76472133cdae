"""What a pod is told in confidence, by a server that stands in for the cluster's."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from azr_jax.parallel.pod_secret import NotTold, asked

VALUES = {"HF_TOKEN": "hf_of a 'person'", "HF_HOME": "/mnt/ä"}


class Cluster(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/api/v1/namespaces/mine/secrets/azr-env"
        allowed = self.headers["Authorization"] == "Bearer let me in"
        data = {name: base64.b64encode(value.encode()).decode() for name, value in VALUES.items()}
        self.send_response(200 if known and allowed else 403 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"kind": "Secret", "data": data} if known and allowed else {}).encode())

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Cluster) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def account(folder: Path, token: str) -> Path:
    (folder / "namespace").write_text("mine")
    (folder / "token").write_text(f"{token}\n")
    return folder


def test_the_values_come_to_the_account_of_the_pod(server: str, tmp_path: Path):
    assert asked("azr-env", server, account(tmp_path, "let me in")) == VALUES


@pytest.mark.parametrize(
    ("name", "token", "why"), [("azr-env", "who?", "403 Forbidden"), ("other", "let me in", "404 Not Found")]
)
def test_who_may_not_read_it_is_told_so_in_one_line(server: str, tmp_path: Path, name: str, token: str, why: str):
    with pytest.raises(NotTold, match=f"the Secret {name} of mine cannot be read: {why}; tpu/gke makes it") as told:
        asked(name, server, account(tmp_path, token))
    assert "\n" not in str(told.value)
