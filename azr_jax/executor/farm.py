"""A farm of sandboxes in the shape of SandboxFusion's `run_code`: one request out, one Result back, or Unanswered.

    POST /run_code {"code", "language": "python", "run_timeout", "compile_timeout", "memory_limit_MB"}
    -> {"status": "Success" | "Failed" | "SandboxError", "run_result": {"status": "Finished" | "Error" |
        "TimeLimitExceeded", "return_code", "stdout", "stderr"}}

The code that travels is a script: the sources of what a child of ours runs, and the request. It prints the lines that
a child would write, which are read here as if a child had written them. The farm needs Python 3.10 or newer.
"""

from __future__ import annotations

import functools
import http.client
import json
import re
import ssl
import threading
import time
import urllib.parse
from pathlib import Path

from azr_jax.executor.cases import ChildRequest, Result, read_lines
from azr_jax.executor.equality import Json

_FOLDER = Path(__file__).parent
_IMPORT = re.compile(r"^from azr_jax\.executor(?:\.(\w+))? import (.+)$", re.MULTILINE)
_GRACE_S = 30.0  # beyond the time limit, for a farm with a queue of its own
_MOST_BYTES = 4 * 2**20  # of an answer
_SCRIPT = """
import json, os, sys, types
if sys.version_info < (3, 10):
    sys.exit("Python %d.%d, should be 3.10 or newer" % sys.version_info[:2])
modules, request = json.loads({packed!r})
for name, source in modules:
    module = types.ModuleType(name)
    module.__path__ = []
    sys.modules[name] = module
    exec(compile(source, name, "exec"), vars(module))
from azr_jax.executor import child, names
known, out, nowhere = names.preload(), os.dup(1), os.open(os.devnull, os.O_WRONLY)
for stream in (1, 2):
    os.dup2(nowhere, stream)
child.answer(child.Pipe(out, child.PIPE_BYTES), request, known)
os.write(out, child.END + b"\\n")
os._exit(0)
"""


class Unanswered(Exception):
    """The farm did not do its part; nothing is known of the program."""


@functools.cache
def _modules() -> list[tuple[str, str]]:
    """Names and sources of what a child needs, each after those that it imports."""
    found: dict[str, str] = {}

    def add(name: str) -> None:
        source = (_FOLDER / f"{name}.py").read_text()
        for module, names in _IMPORT.findall(source):
            for needed in [module] if module else [part.strip() for part in names.split(",")]:
                if needed not in found:
                    add(needed)
        found[name] = source

    for name in ("child", "names"):
        add(name)
    rooms = [("azr_jax", ""), ("azr_jax.executor", "")]
    return rooms + [(f"azr_jax.executor.{name}", source) for name, source in found.items()]


def script(request: ChildRequest) -> str:
    """A program for the farm that does what a child does with this request."""
    return _SCRIPT.format(packed=json.dumps([_modules(), json.loads(request.body)]))


class Farm:
    """May be used from several threads; each keeps a connection of its own."""

    def __init__(self, url: str, memory_mb: int) -> None:
        self.url, self._memory_mb = url, memory_mb
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"executor.url: {url!r}, http://<host>:<port> of a sandbox server would be right")
        self._parts, self._local = parts, threading.local()

    def run(self, request: ChildRequest) -> Result:
        """Raises Unanswered."""
        began = time.monotonic()
        body = {
            "code": script(request),
            "language": "python",
            "run_timeout": request.timeout_s,
            "compile_timeout": request.timeout_s,
            "memory_limit_MB": self._memory_mb,
        }
        told = self._post(json.dumps(body).encode(), request.timeout_s + _GRACE_S)
        return _result(told, request, time.monotonic() - began)

    def _post(self, body: bytes, seconds: float) -> dict[str, Json]:
        connection = self._connection(seconds)
        try:
            path = self._parts.path.rstrip("/") + "/run_code"
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read(_MOST_BYTES + 1)
            if answer.status != 200:
                raise Unanswered(f"HTTP {answer.status} {answer.reason}: {data[:100].decode(errors='replace')}")
            if len(data) > _MOST_BYTES:
                raise Unanswered("an answer of more than 4 MiB")
            told: Json = json.loads(data)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            self._drop()
            raise Unanswered(f"{type(error).__name__}: {error}".strip(": ")) from None
        except Unanswered:
            self._drop()  # what is left of the answer would be read as the next one
            raise
        if not isinstance(told, dict):
            raise Unanswered("an answer that is no JSON object")
        return told

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            host, port = self._parts.hostname or "", self._parts.port
            if self._parts.scheme == "https":
                connection = http.client.HTTPSConnection(host, port, context=ssl.create_default_context())
            else:
                connection = http.client.HTTPConnection(host, port)
            self._local.connection = connection
        connection.timeout = seconds
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        return connection

    def _drop(self) -> None:
        connection, self._local.connection = self._local.connection, None
        connection.close()


def _result(told: dict[str, Json], request: ChildRequest, run_s: float) -> Result:
    ran = told.get("run_result")
    if told.get("status") not in ("Success", "Failed") or not isinstance(ran, dict):
        raise Unanswered(f"status {told.get('status')!r}: {str(told.get('message'))[:200]}")
    text = ran.get("stdout") or ""
    data = text.encode(errors="replace") if isinstance(text, str) else b""
    lines, closed = read_lines(data, request.lines)
    if ran.get("status") == "TimeLimitExceeded":
        return Result("timeout", lines, "", request.timeout_s, size=len(data))
    if closed and told["status"] == "Success":
        return Result("done", lines, "", run_s, size=len(data))
    last = str(ran.get("stderr") or "").strip().rpartition("\n")[2]
    detail = f"exit status {ran.get('return_code')} {last[:200]}".strip()
    return Result("crashed", lines, detail, run_s, size=len(data))
