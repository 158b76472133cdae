"""A process that compares two mathematical answers and nothing else; started and killed by mathematics.py.

Reads one JSON line [gold, answer] at a time and writes true or false. The library behind it (math-verify, which goes
by sympy) can run for ever or take all memory on odd text, and reads some of it with Python's evaluator: so it has a
process of its own, with the resource limits and the system call filter of the executor's children on top.
"""

from __future__ import annotations

import json
import logging
import os
import sys

from azr_jax.executor.jail import ChildJail

MEMORY_MB = 2_048
_LIFE_S = 100_000.0  # of processor time; the deadline of one comparison is the parent's


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the libraries print is not an answer
    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    def equal(gold: str, answer: str) -> bool:
        right, given = (parse(rf"\boxed{{{text}}}", parsing_timeout=0) for text in (gold, answer))
        return bool(right) and bool(verify(right, given, timeout_seconds=0, allow_set_relation_comp=True))

    for warm in (("\\frac{1}{2}", "0.5"), ("(1,2]", "(1,2]"), ("x^2+1", "1+x^2"), ("\\sqrt{2}", "2"), ("3 \\%", "3")):
        equal(*warm)  # so that no comparison pays for what is loaded at first use
    wall = ChildJail(MEMORY_MB)
    wall.wait(os.getppid())
    wall.enter(_LIFE_S, clocks=True)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        try:
            found = equal(*json.loads(line))
        except BaseException as error:  # sympy raises whatever there is; it is no answer then
            found = f"{type(error).__name__}: {error}"[:200]
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
