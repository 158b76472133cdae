"""Runs code in an ordinary interpreter: the second opinion tests compare with, and the victim attacks are shown on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

_REEXECUTE = r"""
import contextlib, io, json, signal, sys
def ring(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, ring)
answers = []
for program, inputs in json.load(sys.stdin):
    row = []
    for text in inputs:
        signal.alarm(3)
        try:
            space = {"__name__": "program"}
            with contextlib.redirect_stdout(io.StringIO()):
                exec(program, space)
                row.append(repr(eval("f(\n" + text + "\n)", space)))
        except BaseException as error:
            row.append("!" + type(error).__name__)
        finally:
            signal.alarm(0)
    answers.append(row)
json.dump(answers, sys.stdout)
"""


def reexecute(rows: list[tuple[str, list[str]]], hash_seed: int) -> list[list[str]]:
    """The repr of every call, or an exclamation mark and the exception's name."""
    with tempfile.TemporaryDirectory() as folder:  # one of the published programs writes a file
        answered = subprocess.run(
            [sys.executable, "-s", "-S", "-P", "-c", _REEXECUTE],
            input=json.dumps(rows),
            env={"PYTHONHASHSEED": str(hash_seed)},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
            cwd=folder,
        )
    return json.loads(answered.stdout)


def run(script: str, *, timeout_s: float = 10.0, inherited: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A script in a fresh interpreter, as it comes."""
    return subprocess.run(
        [sys.executable, "-s", "-S", "-P", "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        pass_fds=inherited,
    )
