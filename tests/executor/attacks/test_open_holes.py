"""Attacks that still succeed, each as the test that will show that it does not; docs/TRUST.md lists them.

Slow, and expected to fail: `pytest -m slow tests/executor/attacks/test_open_holes.py -rxX` says which have been closed.
"""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from azr_jax.executor.jobs import Validate, Verify
from azr_jax.executor.pool import Executor
from azr_jax.executor.values import encode
from azr_jax.tasks.types import Answer, Kind, Proposal, Triplet

pytestmark = [pytest.mark.slow, pytest.mark.xfail(reason="open, see docs/TRUST.md", strict=False)]
ROOT = Path(__file__).resolve().parents[3]


def accepted(executor: Executor, program: str, given: str = "1") -> Triplet | None:
    return executor.submit(Validate(Proposal(Kind.ABDUCTION, program, (given,)))).result(60).task


def own_input_is_right(executor: Executor, task: Triplet, number: int = 0) -> bool:
    again = Triplet(f"{task.program}\n# {number}", task.input, task.output, task.value)
    return executor.submit(Verify(Kind.ABDUCTION, again, Answer(Kind.ABDUCTION, task.input))).result(60).correct


# ------------------------------------------------------------------------------ validation is not like a later run
MODES = {
    "a string run": "def f(x):\n    try:\n        exec('import random')\n        return -x\n    except ImportError:\n        return x",
    "the import's name": "from builtins import __import__ as i\ndef f(x):\n    return i.__name__",
    "how often True is held": "import sys\ndef f(x):\n    return sys.getrefcount(True)",
    "a class that is asked its name": "seen = []\nclass M(type):\n    @property\n    def __name__(c):\n        seen.append(1)\n        return 'P'\nclass P(metaclass=M):\n    pass\ndef f(p):\n    return len(seen)",
}


@pytest.mark.parametrize("what", MODES)
def test_a_program_cannot_tell_that_it_is_validated(fresh, what):
    """Each of these was accepted every time, and its own input is wrong every time."""
    task = accepted(fresh, MODES[what], "P()" if "class" in what else "1")
    assert task is None or all(own_input_is_right(fresh, task, n) for n in range(2))


# ------------------------------------------------------------------------------ the real clock
CLOCKS = {
    "getattr by another name": "import email.utils\ndef f(x):\n    g = getattr\n    now = g(g(email.utils, 'ti' + 'me'), 'time')\n    real = [k for k in [g(c, 'cell_contents') for c in g(now, '__clo' + 'sure__')] if callable(k)]\n    return x + int(real[0]()) // 2",
    "inspect": "from sys import modules\nimport inspect\ndef f(x):\n    return x + int(inspect.getclosurevars(modules['time'].time).nonlocals['real']()) // 2",
    "an interpreter within": "import _xxsubinterpreters as s\ndef f(x):\n    c = s.channel_create()\n    s.run_string(s.create(), 'import time, _xxsubinterpreters as s\\ns.channel_send(c, int(time.time()) // 2 % 2)', {'c': c})\n    return x + s.channel_recv(c)",
}


@pytest.mark.parametrize("what", CLOCKS)
def test_a_real_clock_is_out_of_reach(fresh, what):
    """All twelve runs of a validation are within a second; whoever looks at minutes is accepted always."""
    for number in range(3):
        task = accepted(fresh, f"{CLOCKS[what]}\n# {number}")
        if task is not None:
            time.sleep(2.1)
            assert own_input_is_right(fresh, task)
            return


# ------------------------------------------------------------------------------ addresses that reach.py does not see
BIT = "    return x + (int(t.split('0x')[1].split('>')[0], 16) >> {}) % 2"
TEXTS = {
    "a class of a text": "def f(x):\n    t = ''.__class__(f)\n",
    "a type of a text": "def f(x):\n    t = type('')(f)\n",
    "percent from a table": "import string\ndef f(x):\n    t = (string.punctuation[4] + 's') % f\n",
    "another string class": "from collections import UserString\ndef f(x):\n    t = UserString(f).data\n",
    "a message": "def f(x):\n    try:\n        [].index(f)\n    except ValueError as e:\n        t = e.args[0]\n",
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_bit_of_an_address_by_unseen_text(executor, what):
    """Two zygotes are asked, not twelve: half of the bits are accepted, and half of those differ at the next zygote."""
    programs = [TEXTS[what] + BIT.format(bit) for bit in (15, 17, 18, 20, 24, 28)]
    waiting = [executor.submit(Validate(Proposal(Kind.ABDUCTION, p, ("1",)))) for p in programs]
    assert sum(future.result(60).task is not None for future in waiting) <= 1


# ------------------------------------------------------------------------------ pipes beyond a user's share
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


def test_many_zygotes_do_not_make_long_programs_crash():
    python = "/usr/bin/python3"  # one that nobody may read
    if os.getuid() != 0 or not Path(python).is_file():
        pytest.skip("needs root, to become another user")
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, text=True
    )
    if version.stdout.strip() != "True":
        pytest.skip("needs a Python that any user may run")
    done = subprocess.run([python, "-c", HOG, str(ROOT)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stdout + done.stderr


# ------------------------------------------------------------------------------ sums and products in what is written out
@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (50, "Fraction(5, Fraction(1, 10))"),
        (8, "complex(5, complex(0, -3))"),
        (6, "Fraction(Fraction(12), Fraction(2))"),
    ],
)
def test_constructors_within_constructors_compute(fresh, gold, text):
    task = Triplet("def f(x): return x", "1", repr(gold), encode(gold))
    job = Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, text), deduction_answer="literal")
    assert fresh.submit(job).result().reason == "not written out"


# ------------------------------------------------------------------------------ who waits for a moment waits for ever
def test_a_wait_with_a_limit_ends_though_clocks_stand_still(fresh):
    """An honest program: real time passes in the lock, the clock it is looked up on does not move."""
    program = "import queue\ndef f(x):\n    try:\n        queue.Queue().get(timeout=0.01)\n    except queue.Empty:\n        return x"
    task = Triplet(program, "1", "1", encode(1))
    assert own_input_is_right(fresh, task)


# ------------------------------------------------------------------------------ lines that are written ahead
AHEAD = """import os, json
def f(x):
    for n in range(10):
        given = json.dumps({"t": [{"d": [["x", n]]}, 1, {"t": []}]}, separators=(",", ":"))
        os.write(30, json.dumps(["value", n, str(n * n % 3), given], separators=(",", ":")).encode() + b"\\n")
    return 0
"""


def test_one_input_ten_times_is_no_task(fresh):
    """It says what every call was given and gave: ten times `5`, outputs 0, 1, 1, 0, ...: nobody can induce that."""
    proposal = Proposal(Kind.INDUCTION, AHEAD, ("5",) * 10, "m")
    assert fresh.submit(Validate(proposal)).result(60).task is None
