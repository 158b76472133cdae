"""No text makes a reader of the trainer raise, or take longer than its length is worth: one piece again and again.

Every reader runs in the trainer's own threads, where one that is slow holds all of them up.
"""

import time

import pytest

from azr_jax.tasks.leaks import leak
from azr_jax.tasks.novelty import complexity, grams, halstead
from azr_jax.tasks.parsing import parse_answer, parse_proposal, whole_answer, whole_proposal
from azr_jax.tasks.programs import calls_parts, without_comments, without_globals
from azr_jax.tasks.sameness import input_form, normal_form
from azr_jax.tasks.types import Kind

LENGTH, MOST_S = 6_000, 0.25
PIECES = (
    "`", "```python\n", "<think>", "</answer>", "'", "\\'", "(", "{", "]", "\r", "\x0c", "\u2028", "\0", "\ud800",
    "9", "0x", "-", "x+", "x.", "f(", "lambda:", "def f(", "if x:\n ", "#", "''' ", "f'{", "return x```\n", "[*",
)  # fmt: skip
WRAPS = (
    "{}", "def f(x):\n    return {}", "<think>{}</think><answer>```output\n1\n```</answer>",
    "```python\ndef f(x): return x\n{}\n```\n```input\n1\n```", "def  f(x): return x\nS = '''{}'''",
)  # fmt: skip
READERS = {
    "proposal": lambda text: [parse_proposal(kind, text, program="def f(x): return x") for kind in Kind],
    "answer": lambda text: [parse_answer(kind, text) for kind in Kind],
    "whole proposal": lambda text: whole_proposal(Kind.INDUCTION, text, style="think", ended=True),
    "whole answer": lambda text: whole_answer(Kind.ABDUCTION, text, style="chat", ended=True),
    "message": lambda text: leak("def f(x):\n    y = x + 1\n    return y * y", text),
    "leak of it": lambda text: leak(text, "return x + 1"),
    "form": lambda text: (normal_form(text), input_form(text)),
    "shape": lambda text: (halstead(text), complexity(text), grams(text)),
    "rewrites": lambda text: (without_comments(text), without_globals(text), calls_parts(text, 2)),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_text_stops_a_reader(reader):
    for piece in PIECES:
        for wrap in WRAPS:
            begun = time.thread_time()
            reader(wrap.replace("{}", piece * (LENGTH // len(piece))))
            assert time.thread_time() - begun < MOST_S, (piece, wrap)
