"""What stands between a client and a storage server: counts what passes, and spoils what a test asks it to.

with Proxy(server_url) as proxy:
    proxy.spoil(Fault("status", 503), times=2, path="metrics")
    ... a client of proxy.url ...
    assert proxy.seen[0].method == "POST"
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Fault:
    """status: this answer instead of the server's. slow: the answer comes `value` seconds late. cut: half of it comes.
    lost: the server does what was asked, and no answer comes. hidden: listings lack the objects named like `says`.
    """

    kind: str
    value: float = 0
    says: str = "spoiled by the test"


@dataclass
class Seen:
    method: str
    path: str
    sent: int
    received: int
    status: int


@dataclass
class Rule:
    fault: Fault
    times: int
    method: str
    path: str

    def takes(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in ("", method) and self.path in path


@dataclass
class Proxy:
    upstream: str
    token: str = ""  # where set, requests need `Authorization: Bearer <token>`
    seen: list[Seen] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    look: Callable[[str, str], None] = lambda method, path: None  # called with each request before it is passed on
    url: str = ""

    def __enter__(self) -> Proxy:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # an answer is written in two parts, of which the second waited 40 ms

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                return  # a client that went away

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=lambda: self.server.serve_forever(poll_interval=0.02), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def spoil(self, fault: Fault, *, times: int = 1, method: str = "", path: str = "") -> Rule:
        """The next `times` requests of this method whose path (with its query) has `path` in it."""
        rule = Rule(fault, times, method, path)
        self.rules.append(rule)
        return rule

    def handle(self, asked: BaseHTTPRequestHandler) -> None:
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        path = unquote(asked.path)
        self.look(asked.command, path)
        rule = next((rule for rule in self.rules if rule.takes(asked.command, path)), None)
        fault = rule.fault if rule else None
        if rule:
            rule.times -= 1
        if self.token and asked.headers.get("Authorization") != f"Bearer {self.token}":
            fault = Fault("status", 401, "Invalid Credentials")
        if fault and fault.kind == "slow":
            time.sleep(fault.value)
        if fault and fault.kind == "status":
            error = {"error": {"code": int(fault.value), "message": fault.says}}
            answer: Answer = int(fault.value), {"Content-Type": "application/json"}, json.dumps(error).encode()
        else:
            answer = self._passed_on(asked, body)
        if fault and fault.kind == "hidden":
            answer = _without(answer, fault.says)
        self.seen.append(Seen(asked.command, path, len(body), len(answer[2]), answer[0]))
        if fault and fault.kind == "lost":
            asked.close_connection = True
            return
        _send(asked, answer, cut=bool(fault and fault.kind == "cut"))

    def _passed_on(self, asked: BaseHTTPRequestHandler, body: bytes) -> Answer:
        to = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=60)
        skip = {"host", "content-length", "connection", "transfer-encoding", "expect", "authorization"}
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in skip}
        try:
            connection.request(asked.command, asked.path, body, headers)
            got = connection.getresponse()
            data = got.read()
        finally:
            connection.close()
        kept = {name: value for name, value in got.headers.items() if name.lower() not in skip}
        if "Location" in kept:  # where the rest of a large upload goes
            kept["Location"] = kept["Location"].replace(self.upstream, self.url)
        return got.status, kept, data


def _without(answer: Answer, name: str) -> Answer:
    status, headers, data = answer
    listed = json.loads(data)
    listed["items"] = [each for each in listed.get("items") or [] if name not in each["name"]]
    return status, headers, json.dumps(listed).encode()


def _send(asked: BaseHTTPRequestHandler, answer: Answer, *, cut: bool) -> None:
    status, headers, data = answer
    asked.send_response_only(status)
    for name, value in headers.items():
        asked.send_header(name, value)
    asked.send_header("Content-Length", str(len(data)))
    asked.end_headers()
    if asked.command != "HEAD":
        asked.wfile.write(data[: len(data) // 2] if cut else data)
    if cut:
        asked.close_connection = True
