"""What a program writes, as its answer, its outcome or its messages, pays nobody, stops nobody and ends nothing."""

# ruff: noqa: E501 - tables of texts

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2] / "benchmarks")]

import messages
from costs import cpu_s, is_linear

from azr_jax.executor import judge, literals
from azr_jax.executor.cases import read_lines
from azr_jax.executor.jobs import Run, Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.values import MAX_CHARS, Refused, as_json, decode, encode, parse_json, same
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet

TASK = Triplet("def f(x):\n    return x + 1", "1", "2", encode(2))


def induction(*golds: object) -> InductionTask:
    """Two shown cases, and these golds for the hidden inputs 0, 1, 2, ..."""
    inputs = ("90", "91", *map(str, range(len(golds))))
    values = tuple(encode(v) for v in (golds[0], golds[0], *golds))
    return InductionTask("def f(x): return x", inputs, values, values, "", 2)


def score(executor: Executor, task: InductionTask, program: str, reward: str = "binary") -> float:
    answer = Answer(Kind.INDUCTION, program)
    return executor.submit(Verify(Kind.INDUCTION, task, answer, reward)).result().score  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def open_executor():
    """No list of banned modules, so that what is tested is the reading and not the list."""
    with Executor(ExecutorSettings(timeout_s=0.8, workers=1, banned_modules=())) as running:
        yield running


# ------------------------------------------------------------------------------ rewards
# Each answers False alone and True after another call, or the other way round: with the better of the two counted for
# every input by itself, both were always right.
REMEMBERING = {
    "a default that grows": "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen) > 1",
    "the other way round": "def f(x, seen=[]):\n    seen.append(x)\n    return len(seen) < 2",
    "a global": "n = 0\ndef f(x):\n    global n\n    n += 1\n    return n > 1",
    "an attribute of the function": "def f(x):\n    f.n = getattr(f, 'n', 0) + 1\n    return f.n > 1",
    "a closure": "def made():\n    n = 0\n    def g(x):\n        nonlocal n\n        n += 1\n        return n > 1\n    return g\nf = made()",
    "an iterator": "def f(x, values=iter([False, True, True, True])):\n    return next(values)",
    "an iterator of the module": "import itertools\nn = itertools.count()\ndef f(x):\n    return next(n) > 0",
    "a generator": "def g():\n    yield False\n    while True:\n        yield True\nvalues = g()\ndef f(x):\n    return next(values)",
    "a class's attribute": "class A:\n    n = 0\ndef f(x):\n    A.n += 1\n    return A.n > 1",
    "an object that is called": "class A:\n    n = 0\n    def __call__(self, x):\n        self.n += 1\n        return self.n > 1\nf = A()",
    "a cache's count": "from functools import lru_cache\n@lru_cache\ndef g(x):\n    return x\ndef f(x):\n    g(x)\n    return g.cache_info().misses > 1",
    "random, seeded": "import random\nr = random.Random(0)\nfirst = random.Random(0).random()\ndef f(x):\n    return r.random() != first",
    "a table it empties": "left = [True, True, True, False]\ndef f(x):\n    return left.pop()",
    "a default by name": "def f(x, *, seen=set()):\n    seen.add(x)\n    return len(seen) > 1",
    "a module of the library": "import math\ndef f(x):\n    math.n = getattr(math, 'n', 0) + 1\n    return math.n > 1",
}


@pytest.mark.parametrize("name", REMEMBERING)
@pytest.mark.parametrize(
    "golds", [(True, False, True, False), (False, False, True, True, False), (False, True, True, True)], ids=str
)
def test_a_program_that_remembers_has_one_guess(executor, name, golds):
    assert score(executor, induction(*golds), REMEMBERING[name]) == 0.0


def test_a_fraction_is_of_one_way_of_running(executor):
    """Alone it says False to each input, two of five times rightly; a mixture of both ways would have all five."""
    task = induction(False, True, False, True, True)
    assert score(executor, task, REMEMBERING["a default that grows"], "fraction") == pytest.approx(2 / 5)


def test_slow_and_honest_is_right(open_executor):
    """Three calls of more than half a limit each: together they are late, each alone is in time."""
    program = "import time\ndef f(x):\n    time.sleep(0.45)\n    return x % 2 == 0"
    assert score(open_executor, induction(True, False, True), program) == 1.0


def test_memory_of_the_sound_kind_is_right(executor):
    """A cache changes nothing but the time."""
    program = "def f(x, known={}):\n    if x not in known:\n        known[x] = x % 2 == 0\n    return known[x]"
    assert score(executor, induction(True, False, True), program) == 1.0


# ------------------------------------------------------------------------------ what ends a run
def writes(*lines: str) -> str:
    """A program that puts these lines into its pipe, whichever descriptor that is, and is gone."""
    data = "".join(line + "\n" for line in lines).encode()
    return (
        f"import os\nDATA = {data!r}\nfor d in range(3, 32):\n    try:\n        os.write(d, DATA)\n"
        "    except OSError:\n        pass\nos._exit(0)\ndef f(x):\n    return x"
    )


END = '["end"]'
FORGED = {
    "a complex number of no parts": ('["loaded",-1]', as_json(["value", 0, '{"c":[]}', None]), END),
    "a time of three parts": ('["loaded",-1]', as_json(["value", 0, '{"time":[1,2,3]}', None]), END),
    "a moment of no parts": ('["loaded",-1]', as_json(["value", 0, '{"datetime":[]}', None]), END),
    "arguments that are none": ('["loaded",-1]', as_json(["value", 0, "1", '{"c":[]}']), END),
    "a reason of its own": (as_json(["unfit", -1, "x" * 99, ""]), END),
    "a reason that is none": (as_json(["unfit", -1, None, ""]), END),
    "half a character": ('["loaded",-1]', '["raised",0,"E","\\ud800",true,null]', END),
    "half a character as a name": ('["loaded",-1]', '["raised",0,"\\ud800","",true,null]', END),
    "a terminal's commands": ('["loaded",-1]', '["raised",0,"E","\\u001b[2J",true,null]', END),
    "no end": ('["loaded",-1]', '["value",0,"1",null]'),
    "another call's number": ('["loaded",-1]', '["value",7,"1",null]', '["value",-1,"1",null]', END),
    "a truth value for a number": ('["loaded",-1]', '["value",true,"1",null]', END),
    "a line in a line": ('["loaded",-1]', '["value",0,["value",0,"1"],null]', END),
    "a program of its own": (as_json(["program", -1, "x" * 99, False]), '["loaded",-1]', '["value",0,"5",null]', END),
    "nothing but brackets": ("[" * 100_000,),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_message_is_a_verdict(open_executor, name):
    program = writes(*FORGED[name])
    waiting = [
        open_executor.submit(
            Verify(Kind.ABDUCTION, Triplet(program, "1", "2", encode(2)), Answer(Kind.ABDUCTION, "1"))
        ),
        open_executor.submit(Verify(Kind.INDUCTION, induction(3, 4), Answer(Kind.INDUCTION, program))),
        open_executor.submit(Validate(Proposal(Kind.DEDUCTION, program, ("1",)))),
        open_executor.submit(Validate(Proposal(Kind.INDUCTION, program, ("1", "2", "3"), "m"))),
        open_executor.submit(Validate(Proposal(Kind.ERROR, program, ("1",)))),
        open_executor.submit(Run(program, ("1",))),
    ]
    results = [future.result() for future in waiting]
    assert [r.score for r in results[:2]] == [0.0, 0.0]
    for detail in (results[0].detail, results[1].detail, results[2].detail, results[5][0].detail):
        detail.encode()
        assert "\x1b" not in detail and len(detail) < 2_000
    reasons = {results[0].reason, results[1].reason, results[2].reason, results[5][0].reason}
    assert max(map(len, reasons)) < 40 and "judging failed" not in reasons


@pytest.mark.parametrize(
    "text",
    [
        '{"c":[]}', '{"c":["1"]}', '{"c":"12"}', '{"time":[1,2,3]}', '{"time":[]}', '{"time":["12345\\u0000"]}',
        '{"datetime":[]}', '{"datetime":[1]}', '{"datetime":["0123456789",null]}', '{"date":["\\u0007\\u00e4\\u0002\\u00ff"]}',
        '{"date":[true,true,true]}', '{"delta":[]}', '{"delta":["1","2","3"]}', '{"D":[]}', '{"D":[["a"],[]]}', '{"q":[]}',
        '{"q":[true,[]]}', '{"d":[[1,2,3]]}', '{"d":["ab"]}', '{"d":{"i":"1"}}', '{"O":["ab"]}', '{"C":["ab"]}', '{"F":[1]}',
        '{"r":[1]}', '{"r":"123"}', '{"i":"0x_"}', '{"f":"' + "1" * 5000 + '"}', '{"m":["0",[1],0]}', '{"b":[1]}',
        '{"datetime":[2020,1,1,0,0,0,0,0,[99999999999,0,0]]}',
    ],
    ids=lambda t: t[:30],
)  # fmt: skip
def test_the_codec_lets_out_its_own_refusal_alone(text):
    with pytest.raises(Refused):
        decode(text)


def test_a_mistake_in_judging_is_a_verdict_and_is_seen(monkeypatch, caplog):
    """Nobody is paid, whoever waits for others goes on, the log has the traceback and the statistics the number."""

    def broken(*_):
        yield from ()
        raise IndexError("a mistake of ours")

    for name in ("_asked_of_the_kind", "run"):
        monkeypatch.setattr(judge, name, broken)
    with Executor(ExecutorSettings(workers=1)) as one:
        verdict = one.submit(Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, "2"))).result()
        validation = one.submit(Validate(Proposal(Kind.DEDUCTION, TASK.program, ("1",)))).result()
        outcomes = one.submit(Run(TASK.program, ("1", "2"))).result()
        assert (verdict.score, verdict.reason, validation.task) == (0.0, "judging failed", None)
        assert [outcome.reason for outcome in outcomes] == ["judging failed"] * 2
        assert one.stats()["own_errors"] == 3
        assert "a mistake of ours" in caplog.text and "Traceback" in caplog.text
        monkeypatch.undo()
        assert one.submit(Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, "2"))).result().correct


def test_a_job_made_wrongly_is_its_callers_mistake(executor):
    with pytest.raises(TypeError, match="InductionTask would be right"):
        executor.submit(Verify(Kind.INDUCTION, TASK, Answer(Kind.INDUCTION, "")))
    with pytest.raises(ValueError, match="binary or fraction"):
        executor.submit(Verify(Kind.DEDUCTION, TASK, Answer(Kind.DEDUCTION, ""), "half"))  # type: ignore[arg-type]


HUGE = "0x" + "f" * 3_600  # 4,335 decimal digits: Python reads it, and refuses to write it


@pytest.mark.parametrize(
    "proposal",
    [
        Proposal(Kind.DEDUCTION, f"def f(x):\n    return x % {HUGE} % 7", ("1",)),
        Proposal(Kind.DEDUCTION, "def f(x):\n    return x % 7", (HUGE,)),
        Proposal(Kind.INDUCTION, "def f(x):\n    return x % 7", ("1", HUGE, "2"), "m"),
        Proposal(Kind.DEDUCTION, "def f(x):\n    return 0o" + "7" * 5_000 + " > x", ("1",)),
    ],
    ids=["program", "input", "one of the inputs", "octal"],
)
def test_a_number_that_cannot_be_written_is_refused(executor, proposal):
    assert executor.submit(Validate(proposal)).result().reason == "number too large"


# ------------------------------------------------------------------------------ what freezes it
def _line(body: str) -> bytes:
    return b'["loaded",-1]\n' + body.encode() + b"\n" + END.encode()


NESTED = "[" * 61 + "]" * 61  # enough brackets to be looked at closely
WRITTEN = {
    "quotes, none of them closed": lambda n: '["value",0,"' + NESTED + '\\"' * n,
    "one long text": lambda n: as_json(["value", 0, "x" * n, None]),
    "a text of escapes": lambda n: as_json(["value", 0, "\\" * n, None]),
    "brackets": lambda n: "[" * n,
    "lists": lambda n: '["value",0,' + "[]," * n + "null]",
    "empty texts": lambda n: '["value",0' + ',""' * n + "]",
    "unclosed at last": lambda n: '["value",0' + ',"a"' * n + ',"',
    "digits": lambda n: '["value",' + "1" * n + "]",
    "minus signs": lambda n: '["value",' + "-" * n + "]",
    "not even JSON": lambda n: "\x00\xff" * n,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_messages_are_read_in_linear_time(name):
    assert is_linear(lambda data: read_lines(data, 99), lambda n: _line(WRITTEN[name](n)), 8_000)


@pytest.mark.parametrize("line", [b'["value",0,"1",null]\n', b"\n", b'["loaded",-1]\n'])
def test_many_lines_are_read_in_linear_time(line):
    assert is_linear(lambda data: read_lines(data, 10**9), lambda n: line * n, 500)


def test_a_full_pipe_of_quotes_costs_next_to_nothing():
    """48,000 of them took 11 seconds, with every thread of the trainer waiting."""
    data = _line(WRITTEN["quotes, none of them closed"](250_000))
    assert cpu_s(lambda: read_lines(data, 99), 3) < 0.1


ENCODED = {
    "quotes, none of them closed": lambda n: NESTED + '"' + '\\"' * n,
    "brackets in a text": lambda n: '{"t":[' + "[]," * 61 + '"' + "[" * n + '"]}',
    "lists": lambda n: "[" + "[]," * n + "1]",
    "tags": lambda n: "[" + '{"t":[]},' * n + "1]",
    "backslashes": lambda n: NESTED + '"' + "\\" * n,
}


@pytest.mark.parametrize("name", ENCODED)
def test_values_are_read_in_linear_time(name):
    """The reader itself, beyond the 16,384 characters that `decode` hands to it."""
    assert is_linear(parse_json, ENCODED[name], 2_000)


# Every NaN is an object of its own, as a decoded one is: Python finds the very same object equal to itself.
COMPARED = {
    "sets of pairs with NaN": lambda n: {(float("nan"), i) for i in range(n)},
    "a dict of pairs with NaN": lambda n: {(float("nan"), i): i for i in range(n)},
    "NaN alone": lambda n: {float("nan") for _ in range(n)},
    "lists": lambda n: [[float("nan"), i] for i in range(n)],
    "nested": lambda n: [[[[[[float("nan") for _ in range(n)]]]]]],
    "frozensets": lambda n: frozenset(frozenset({float("nan"), i}) for i in range(n)),
}


@pytest.mark.parametrize("name", COMPARED)
def test_values_are_compared_in_linear_time(name):
    def pair(n: int) -> tuple[object, object]:
        return COMPARED[name](n), COMPARED[name](n)

    assert same(*pair(5)) and not same(COMPARED[name](5), COMPARED[name](6))
    assert is_linear(lambda two: same(*two), pair, 250)


def test_inputs_full_of_nan_are_told_apart_quickly():
    """64 inputs of 500 pairs each took ten minutes of the executor's thread; measured is this process alone.

    The programs' own limit is far away: on a busy machine they took the two seconds that others have.
    """
    inputs = tuple(f"{{(float('nan'), i) for i in range({250 + n % 60})}}" for n in range(64))
    proposal = Proposal(Kind.INDUCTION, "def f(s):\n    return len(s)", inputs, "m")
    with Executor(ExecutorSettings(timeout_s=60.0, workers=2)) as patient:
        began = time.process_time()
        found = patient.submit(Validate(proposal)).result()
    assert isinstance(found.task, InductionTask) and len(found.task.inputs) == 60, (found.reason, found.detail)
    assert time.process_time() - began < 3.0


LITERALS = {
    "digits": lambda n: "1" * n + "x",
    "a fraction": lambda n: "1." + "1" * n + "x",
    "an exponent": lambda n: "1e" + "1" * n + "x",
    "blanks": lambda n: "1" + " " * n + "x",
    "an open quote": lambda n: "'" + "a" * n,
    "backslashes": lambda n: "'" + "\\'" * n,
    "a text": lambda n: "'" + "\\x41" * n + "'",
    "signs": lambda n: "-" * n + "1",
    "commas": lambda n: "[" + "1," * n + "]",
    "nested": lambda n: "[" * n,
    "line breaks": lambda n: "[" + "\n" * n + "]",
}


@pytest.mark.parametrize("name", LITERALS)
def test_answers_are_read_in_linear_time(name, monkeypatch):
    monkeypatch.setattr(literals, "MAX_CHARS", 10**9)
    assert is_linear(literals.read, LITERALS[name], 2_000)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read(data):
    lines, closed = read_lines(data, 20)
    assert len(lines) <= 20 and not (closed and END.encode() not in data)


def test_what_encode_writes_is_short_enough_to_be_read():
    """The longest value there is, full of what JSON doubles, comes through as a line."""
    text = encode("\\" * ((MAX_CHARS - 2) // 2))
    lines, closed = read_lines(_line(as_json(["value", 0, text, text])), 9)
    assert closed and decode(lines[1][2]) == "\\" * ((MAX_CHARS - 2) // 2)


def test_a_few_thousand_random_messages_upset_nobody():
    """`python benchmarks/messages.py` reads a million; AZR_MESSAGES=1000000 makes this test do so."""
    report = messages.run(int(os.environ.get("AZR_MESSAGES", "2000")), seed=1)
    assert report["exceptions"] == {} and report["slower_than_50_ms"] == 0, report
    assert report["pipes_with_an_end"] > 100
