"""What one program leaves behind for the next: marks on descriptors, and how deep the next child stands."""

# ruff: noqa: E501 - an attack is one line of text, whatever its length

from __future__ import annotations

from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.values import decode
from azr_jax.tasks.types import Answer, Kind, Proposal

# ------------------------------------------------------------------------------ a mark on /dev/null outlives a child
MARK = "(__import__('fcntl').fcntl(0, 4, __import__('fcntl').fcntl(0, 3) | 0o4000), 5)[1]"


def test_no_reward_by_a_mark_on_a_shared_descriptor(fresh):
    """stdin, stdout and stderr are one open file of all children of a zygote; F_SETFL changes it for all of them."""
    program = "import fcntl\ndef f(x):\n    return 7 if fcntl.fcntl(0, 3) & 0o4000 else x"
    task = fresh.submit(Validate(Proposal(Kind.ABDUCTION, program, ("7",)))).result().task
    if task is None:
        return
    scores = [
        fresh.submit(Verify(Kind.ABDUCTION, task, Answer(Kind.ABDUCTION, text))).result().score
        for text in ("5", MARK, "6")
    ]
    assert scores == [0.0, 0.0, 0.0]


def test_no_program_reads_what_another_has_left(fresh):
    look = "import fcntl\ndef f(x):\n    try:\n        b = fcntl.fcntl(0, 3)\n        fcntl.fcntl(0, 4, b ^ 0o4000)\n    except OSError: b = 0\n    return b & 0o4000\n# {}"
    seen = [decode(fresh.submit(Run(look.format(n), ("1",))).result()[0].value or "0") for n in range(6)]
    assert len(set(seen)) == 1, seen


# ------------------------------------------------------------------------------ one frame more for a child forked ahead
def test_a_child_forked_ahead_is_as_deep_as_another(fresh):
    """After any run that did not end well (every timeout, every slice) the next child is forked from another depth."""
    program = "def g(n):\n    try:\n        return g(n + 1)\n    except RecursionError:\n        return n\ndef f(x):\n    return g(0)\n# {}"
    fresh.submit(Run("def f(x):\n    return x", ("1",))).result()
    depths = []
    for number in range(6):
        if number % 2:
            fresh.submit(Run(f"import os\ndef f(x):\n    os._exit(3)\n# {number}", ("1",))).result()
        depths.append(decode(fresh.submit(Run(program.format(number), ("1",))).result()[0].value or "0"))
    assert len(set(depths)) == 1, depths
