"""What a child's lines go through: a pipe, and a pair of sockets where a user has used up his share of pipes."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from azr_jax.executor import child
from azr_jax.executor import link as link_module
from azr_jax.executor.jobs import Run, Validate
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import decode
from azr_jax.tasks.types import Kind, Proposal

NO_PIPES = "from azr_jax.executor import zygote; zygote._SET_PIPE_SIZE = 9_999"


@pytest.mark.parametrize("sizes", [[1], [60, 3_000], [5_000], [33_000, 5], [150_000]])
def test_a_stream_never_has_to_wait(sizes):
    """Nobody reads before the child has ended: what is over its room is not written, and the end line has a place."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, child.PIPE_BYTES // 2)
        writer.setblocking(False)
        stream = child.Sockets(writer.fileno(), writer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
        stream.begin()
        with pytest.raises(child.Full):
            for number in range(10_000):
                stream.send("x" * sizes[number % len(sizes)])
        assert number >= 1
        assert os.write(writer.fileno(), child.END) == len(child.END)


@pytest.mark.parametrize("pidfd", ["", "; import os; del os.pidfd_open; os.pidfd_open = lambda pid: open('/none')"])
def test_without_pipes_all_goes_on(monkeypatch, pidfd):
    """A pipe that cannot be made large once made programs of more than 4,000 characters `crash`."""
    boot = link_module._BOOT.replace("main()", f"exec({NO_PIPES + pidfd!r}); main()")
    monkeypatch.setattr(link_module, "_BOOT", boot)
    program = "def g(x):\n    return 'a' * x\n" + "# a line of text\n" * 1_500
    with Executor(ExecutorSettings(timeout_s=5.0, workers=1)) as one:
        proposal = Proposal(Kind.DEDUCTION, program, ("3",))
        assert one.submit(Validate(proposal)).result(30).task.output == "'aaa'"
        outcomes = one.submit(Run("def f(x):\n    return 'a' * x", ("16000",) * 20)).result(30)
        assert [len(decode(outcome.value)) for outcome in outcomes] == [16_000] * 20
        assert one.submit(Run("import os\ndef f(x):\n    os._exit(3)", ("1",))).result(30)[0].reason == "crashed"


HOG = """
import fcntl, os, sys
os.setgid(65534); os.setuid(65534)
pipes = []
while True:  # what 64 idle zygotes hold, each with a child ahead and a program running
    pipes.append(os.pipe())
    try: fcntl.fcntl(pipes[-1][1], 1031, 1 << 19)
    except OSError: break
sys.path.insert(0, sys.argv[1])
from azr_jax.executor.jobs import Validate
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.tasks.types import Kind, Proposal
with Executor(ExecutorSettings(timeout_s=2.0, workers=1)) as executor:
    program = "def f(x):\\n    return x\\n" + "# a line of text\\n" * 400
    print(executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("1",)))).result(30).reason)
"""


@pytest.mark.slow
def test_many_zygotes_do_not_make_long_programs_crash():
    python = "/usr/bin/python3"  # one that nobody may read
    if os.getuid() != 0 or not Path(python).is_file():
        pytest.skip("needs root, to become another user")
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, text=True
    )
    if version.stdout.strip() != "True":
        pytest.skip("needs a Python that any user may run")
    done = subprocess.run(
        [python, "-c", HOG, str(Path(__file__).resolve().parents[2])], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.strip() == "", done.stdout + done.stderr
