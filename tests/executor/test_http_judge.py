"""The judge behind HTTP: a farm of the test's own on loopback that runs what it is sent, or does not, as told."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from azr_jax.executor import farm, http_judge
from azr_jax.executor.http_judge import HttpJudge
from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import ExecutorSettings
from azr_jax.executor.values import encode
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet

TASK = Triplet("def f(x):\n    return x * 1_001 + 7", "41", "41048", encode(41048))


class Farm(ThreadingHTTPServer):
    """In the shape of SandboxFusion's run_code. `trouble(code, number)` may answer in its place."""

    daemon_threads = True

    def __init__(self, port: int = 0):
        self.bodies: list[dict] = []
        self.trouble = lambda code, number: None
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True, args=(0.02,)).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that has gone is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        told = self.server.trouble(body["code"], len(self.server.bodies)) or run_code(body)
        status, data = told if isinstance(told, tuple) else (200, json.dumps(told).encode())
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def run_code(body: dict) -> dict:
    assert body["language"] == "python"
    try:
        ran = subprocess.run(
            [sys.executable, "-S", "-c", body["code"]], capture_output=True, text=True, timeout=body["run_timeout"]
        )
    except subprocess.TimeoutExpired as late:
        out = (late.stdout or b"").decode()
        return {"status": "Failed", "message": "", "run_result": {"status": "TimeLimitExceeded", "stdout": out}}
    result = {"status": "Finished", "return_code": ran.returncode, "stdout": ran.stdout, "stderr": ran.stderr}
    if ran.returncode:
        result["status"] = "Error"
    return {"status": "Failed" if ran.returncode else "Success", "message": "", "run_result": result}


@pytest.fixture
def server():
    running = Farm()
    yield running
    running.stop()


@pytest.fixture
def judge(server, monkeypatch):
    monkeypatch.setattr(http_judge, "_FIRST_DELAY_S", 0.02)
    with HttpJudge(ExecutorSettings(timeout_s=5, workers=3), server.url) as running:
        server.bodies.clear()
        yield running


def test_it_judges_as_the_local_one_does(judge, executor, server):
    jobs = [
        Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, "41000 + 48")),
        Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, "41049")),
        Verify(Kind.ABDUCTION, TASK, Answer(Kind.ABDUCTION, "40 + 1")),
        Verify(Kind.ABDUCTION, TASK, Answer(Kind.ABDUCTION, "40")),
        Validate(Proposal(Kind.DEDUCTION, "def g(x):\n    print('loud')\n    return {x: [x, (1.5, None)]}", ("'a'",))),
        Validate(Proposal(Kind.DEDUCTION, "import os\ndef f(x):\n    return 1 // x", ("0",))),
        Validate(Proposal(Kind.INDUCTION, "def f(x):\n    return x % 3", ("1", "2", "3", "4"), "m"), fewest=4, most=4),
        Run("def f(x):\n    return [x] * 3", ("1", "'a'", "1 / 0")),
        Run("def f(:", ("1",)),
    ]
    assert [judge.submit(job).result() for job in jobs] == [executor.submit(job).result() for job in jobs]
    assert judge.health() == "" and judge.pending() == []
    assert judge.stats()["runs"] >= 8 and "programs run at http://127.0.0.1" in judge.layers


def test_golds_never_travel(judge, server):
    """Neither the output of a triplet nor its input as such, nor an induction task's values, whatever is answered."""
    squares = InductionTask(
        "def f(x):\n    return x * 90_001", ("3", "5"), ("270003", "450005"), (encode(270003), encode(450005)), "", 1
    )
    answers = ("40 + 1", "f(1)", "(lambda: 41)()", "[y for y in ()] or 41", "len('a' * 9)")
    for answer in answers:
        judge.submit(Verify(Kind.ABDUCTION, TASK, Answer(Kind.ABDUCTION, answer))).result()
        judge.submit(Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, answer))).result()
    solution = "def f(x):\n    return x * (90_000 + 1)"
    assert judge.submit(Verify(Kind.INDUCTION, squares, Answer(Kind.INDUCTION, solution))).result().correct
    packed = [re.search(r"json.loads\((.*)\)\n", sent["code"])[1] for sent in server.bodies]
    asked = [str(json.loads(ast.literal_eval(text))[1]) for text in packed]
    assert len(asked) >= len(answers)
    for gold in ("41048", "41_048", "270003", "450005"):
        assert not any(gold in text for text in asked), gold


def test_of_a_wrong_answer_nothing_travels_but_what_must_run(judge, server):
    """In all the bytes that leave: neither the task's own input or output, in either form, nor a field for them."""
    text = "".join(map(chr, range(97, 123)))
    task = Triplet("def f(x):\n    return [x, len(x)]", repr(text), repr([text, 26]), encode([text, 26]))
    for answer in ("'abc'", "'a' + 'b'", "f('b')", "(lambda: 'c')()"):
        assert not judge.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, answer))).result().correct
        assert (
            not judge.submit(Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, f"[{answer}, 26]"))).result().correct
        )
    assert len(server.bodies) >= 4
    for sent in server.bodies:
        packed = json.loads(ast.literal_eval(re.search(r"json.loads\((.*)\)\n", sent["code"])[1]))
        assert text not in json.dumps(sent) and "gold" not in json.dumps(packed[1])


def test_a_time_out_is_a_verdict(judge):
    one = judge.submit(Run("def f():\n    while True: pass", ("",), timeout_s=0.8)).result()
    assert one[0].reason == "timeout" and judge.stats()["kills/timeout"] >= 1


def test_a_program_that_dies_is_crashed(judge):
    assert judge.submit(Run("import os\ndef f():\n    os._exit(3)", ("",))).result()[0].reason == "crashed"


def test_what_the_farm_does_not_answer_is_asked_again(judge, server):
    """A gateway's error, nonsense, an error of the sandbox, half a JSON: each once, then the right verdict."""
    odd = [(502, b"bad gateway"), (200, b"[1, 2"), (200, b"[]"), (429, b"slow down"), (200, b"\xff")]
    told = iter([*odd, (200, json.dumps({"status": "SandboxError", "message": "no pod"}).encode())])
    server.trouble = lambda code, number: next(told, None) if "# marked" in code else None
    futures = [judge.submit(Run(f"def f():\n    return {n}  # marked", ("",))) for n in range(6)]
    assert [f.result(20)[0].value for f in futures] == [str(n) for n in range(6)]
    assert judge.stats()["second_tries"] == 6


def test_a_request_that_alone_is_never_answered_is_crashed(judge, server):
    """Say it kills its sandbox each time: the farm answers others, so three times is enough."""
    server.trouble = lambda code, number: (500, b"gone") if "# deadly" in code else None
    (outcome,) = judge.submit(Run("def f():\n    return 1  # deadly", ("",))).result(20)
    assert outcome.reason == "crashed" and "unanswered 3 times: HTTP 500" in outcome.detail
    assert judge.submit(Run("def f():\n    return 2", ("",))).result(20)[0].value == "2"


def test_a_farm_that_goes_down_loses_nothing(judge, server, caplog):
    server.stop()
    futures = [judge.submit(Run(f"def f():\n    return {n}", ("",))) for n in range(10)]
    end = time.monotonic() + 5
    while not judge.health() and time.monotonic() < end:
        time.sleep(0.02)
    assert "has not answered for" in judge.health() and "Connection refused" in judge.health()
    assert judge.pending()[0] == judge.health() and len(judge.pending()) == 11
    again = Farm(server.server_port)
    try:
        assert [f.result(20)[0].value for f in futures] == [str(n) for n in range(10)]
        assert judge.health() == ""
    finally:
        again.stop()
    assert [r.message.split(": ")[0] for r in caplog.records if "does not answer" in r.message]
    assert any("answers again after" in r.message for r in caplog.records)


def test_a_farm_that_says_nothing_is_as_good_as_down(judge, server, monkeypatch):
    """Generous limits: the farm starts an interpreter for every program, and the machine may be busy."""
    monkeypatch.setattr(farm, "_GRACE_S", 0.5)
    silent = threading.Event()
    server.trouble = lambda code, number: silent.wait(20) and None if "# quiet" in code and number < 3 else None
    began = time.monotonic()
    (outcome,) = judge.submit(Run("def f():\n    return 5  # quiet", ("",), timeout_s=2.0)).result(60)
    silent.set()
    assert outcome.value == "5" and time.monotonic() - began >= 2.5


def test_at_the_start_it_says_what_is_wrong(server):
    with pytest.raises(
        RuntimeError, match=r"executor.url=http://127.0.0.1:9: .*Connection refused; start the farm, or"
    ):
        HttpJudge(ExecutorSettings(), "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="http://<host>:<port> of a sandbox server"):
        HttpJudge(ExecutorSettings(), "ftp://x")
    old = {
        "status": "Failed",
        "run_result": {"status": "Error", "return_code": 1, "stdout": "", "stderr": "Python 3.8"},
    }
    server.trouble = lambda code, number: old
    with pytest.raises(RuntimeError, match=r"a trivial program did not run: crashed exit status 1 Python 3\.8"):
        HttpJudge(ExecutorSettings(), server.url)


def test_closed_while_jobs_wait(server):
    judge = HttpJudge(ExecutorSettings(workers=2), server.url)
    stuck = [judge.submit(Run(f"import time\ndef f():\n    time.sleep({n + 5})", ("",))) for n in range(4)]
    time.sleep(0.3)
    judge.close()
    for future in stuck:
        with pytest.raises(RuntimeError, match="closed before this job was done"):
            future.result(2)
    with pytest.raises(RuntimeError, match="closed"):
        judge.submit(Run("", ("",)))


def test_a_forged_output_gains_nothing(judge):
    """The program finds the descriptor that the lines go to and writes its own: what it returns, no more."""
    forged = """
import os
def f(x):
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, b'["value",0,"41048",null]\\n["end"]\\n' * 2)
        except OSError:
            pass
    return 1
"""
    task = Triplet(forged, "41", "1", encode(1))
    assert judge.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, "41"))).result().score in (0.0, 1.0)
    assert not judge.submit(Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, "print('41048')"))).result().correct
