"""What a program may do with its descriptors: nothing that reaches another process or another program's files.

`fcntl` names owners and signals: F_SETOWN with the trainer's number, F_SETSIG with 9, F_NOTIFY on a library folder, one
read, and without a pid namespace the trainer was killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from azr_jax.executor import seccomp
from azr_jax.executor.jobs import Run
from azr_jax.executor.pool import MINIMUM, Executor, ExecutorSettings
from azr_jax.executor.values import decode

ROOT = str(Path(__file__).resolve().parents[2])
_CALLS = """
import fcntl, os
def f():
    folder, file = os.open(os.path.dirname(os.__file__), 0), os.open(os.__file__, 0)
    found = {}
    for name, descriptor, command, argument in (
        ("owner", folder, fcntl.F_SETOWN, os.getppid()), ("signal", folder, fcntl.F_SETSIG, 9),
        ("owner of a group", folder, 15, bytes(8)), ("notice", folder, fcntl.F_NOTIFY, 1),
        ("lease", file, fcntl.F_SETLEASE, fcntl.F_RDLCK), ("lock", file, fcntl.F_SETLK, bytes(32)),
        ("lock of the open file", file, 37, bytes(32)), ("pipe size", 1, fcntl.F_SETPIPE_SZ, 1 << 16),
        ("async", folder, fcntl.F_SETFL, 0o20000), ("hint", file, 1036, bytes(8)),
        ("flags", folder, fcntl.F_GETFD, 0), ("set flags", folder, fcntl.F_SETFD, 1),
        ("mode", folder, fcntl.F_GETFL, 0), ("set mode", folder, fcntl.F_SETFL, os.O_NONBLOCK),
        ("copy", folder, fcntl.F_DUPFD, 10), ("closed copy", folder, fcntl.F_DUPFD_CLOEXEC, 10),
    ):
        try:
            fcntl.fcntl(descriptor, command, argument)
        except OSError:
            continue
        found[name] = True
    return list(found)
"""


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_program_asks_only_about_its_own_descriptors(namespaces):
    with Executor(ExecutorSettings(workers=1, namespaces=namespaces)) as one:
        (outcome,) = one.submit(Run(_CALLS, ("",))).result()
    assert decode(outcome.value or "") == ["flags", "set flags", "mode", "set mode", "copy", "closed copy"]


_CLOSED = """
import ctypes, os
def f():
    call, found = ctypes.CDLL(None).syscall, []
    for flags in (0, 2, 4, 1 << 31):  # to share no table any more, to close at an exec, what no kernel knows
        file = os.open(os.__file__, 0)
        found.append(call(436, file, file, flags))
    os.closerange(3, 20)
    return found
"""


def test_a_program_closes_many_at_once_and_no_more(executor: Executor):
    """Where all of that call was refused, `os.closerange` of Python 3.13 aborted."""
    (outcome,) = executor.submit(Run(_CLOSED, ("",))).result()
    assert decode(outcome.value or "") == [0, -1, -1, -1]


def test_the_probe_tries_it(monkeypatch):
    """A filter that lets all of fcntl through is noticed at the start, and the executor does not run with it."""
    assert "notice" in MINIMUM
    monkeypatch.setattr(seccomp, "_own_descriptors", lambda: [(0x06, 0, 0, 0x7FFF0000)])
    code = seccomp.program(clocks=False)
    held = _probe_with(code)
    assert held == ["notice"]


def test_the_probe_reads_a_clock():
    """The kernel maps one into each process, and no filter sees who looks: it is taken away before (vdso.py)."""
    code = seccomp.program(clocks=False)
    assert (_probe_with(code), _probe_with(code, "pass")) == ([], ["clock"])


def _probe_with(code: bytes, before: str = "vdso.ask_the_kernel()") -> list[str]:
    """What the probe of a process with this filter finds, in a process of its own."""
    script = (
        f"import sys\nfrom azr_jax.executor import jail, seccomp, vdso\n{before}\n"
        f"seccomp.program = lambda **_: bytes.fromhex({code.hex()!r})\n"
        "paths = jail.readable_paths()\nwall = jail.ChildJail(512)\n"
        "jail.enter_zygote(paths, [], [])\nwall.limit_zygote()\n"
        "print(*jail.probe(wall, '/etc/passwd'))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ROOT}
    )
    return found.stdout.split() if not found.returncode else [found.stderr]
