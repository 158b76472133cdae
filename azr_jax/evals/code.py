"""Programs judged by tests, in the executor. Expected values stay in this process, or in one without the program.

Three kinds of test. Calls: the outputs of the canonical solution on the same inputs (HumanEval+, MBPP+, functions of
LiveCodeBench). A test function: the calls it makes are recorded with the canonical solution, the program answers them
in one child, and another child, which never saw the program, runs the test on these answers. Scripts: standard input to
standard output. Time limits are per call, and longer where the canonical solution itself took long.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from azr_jax.evals import jail_runtime, plus_rules
from azr_jax.executor.jobs import Outcome, Run, Verify
from azr_jax.executor.pool import Executor
from azr_jax.executor.values import Refused, Value, decode, same, show
from azr_jax.selfplay.event_loop import EventLoop, Job, Start, Started
from azr_jax.tasks.types import Verdict

T = TypeVar("T")

_INSIDE = Path(jail_runtime.__file__).read_text()
_CORRECT = Verdict(1.0, "correct")
_BATCH_CHARS, _ANSWER_CHARS = 200_000, 1_000
_TYPES = {
    "Counter": "collections", "OrderedDict": "collections", "defaultdict": "collections", "deque": "collections",
    "Fraction": "fractions", "Decimal": "decimal", "inf": "math", "nan": "math",
}  # fmt: skip
_NAME = re.compile("|".join(rf"\b{name}\b" for name in _TYPES))
SAMPLE_FACTOR = 4.0  # a sample may take so much longer than the canonical solution did, where that is over the limit
REST_FACTOR = 2.0  # all calls of one child share its time: they may take so much longer together
CANONICAL_FACTOR = 6.0  # the canonical solution may take so much longer than a sample
CHECK = "_check_of_this_task"  # a name no solution has
PREAMBLE = (  # what answers to contest problems may take for granted; `pow` and the like stay the built-in ones
    "import bisect, collections, copy, datetime, functools, heapq, io, itertools, json, math, operator, random, re\n"
    "import statistics, string, sys\n"
    "from bisect import *\nfrom collections import *\nfrom copy import *\nfrom datetime import *\n"
    "from functools import *\nfrom heapq import *\nfrom itertools import *\nfrom math import *\n"
    "from operator import *\nfrom random import *\nfrom statistics import *\nfrom string import *\n"
    "from typing import *\nfrom builtins import *\nsys.setrecursionlimit(50_000)\n"
)


@dataclass(frozen=True, slots=True)
class Judged(Verdict):
    """A verdict on a program with base tests: whether they are passed is no text, which a program could write."""

    base: bool = False  # passes the base tests


class BrokenTest(RuntimeError):
    """The canonical solution does not get through its own tests here: the row cannot be judged."""


@dataclass(frozen=True)
class Timed:
    """Gives the outcomes, and the seconds from when it was asked to when the executor had them: not those in which the
    device was busy and nobody looked.
    """

    run: Run


@dataclass(frozen=True)
class Runner:
    executor: Executor
    timeout_s: float = 10.0  # of one call of a sample

    def submit(self, job: Run | Verify | Timed) -> Future[Any]:
        if not isinstance(job, Timed):
            return self.executor.submit(job)
        asked, began, timed = self.executor.submit(job.run), time.monotonic(), Future[Any]()
        asked.add_done_callback(lambda done: _pass_on(done, timed, time.monotonic() - began))
        return timed

    def result(self, job: Job[T]) -> T:
        """Of a job that samples nothing: done here and now."""
        return EventLoop(None, self).run(job)

    def call(self, program: str, f: str, inputs: Sequence[str], factor: float = 1.0) -> Job[tuple[Outcome, ...]]:
        """`f` is an expression over the names of jail_runtime.py and `names`, those of the program that has run."""
        found = yield [self._run(program, f, part, factor) for part in _batches(inputs)]
        return tuple(outcome for part in found for outcome in part)

    def _run(self, program: str, f: str, inputs: Sequence[str], factor: float) -> Run:
        whole = f"{_names_in(inputs)}{_INSIDE}\n\nnames = _program({program!r})\nf = {f}\n"
        return Run(whole, tuple(inputs), self.timeout_s * factor)

    def first_then_rest(
        self, program: str, f: str, inputs: Sequence[str], factor: float = 1.0
    ) -> Job[tuple[Outcome, ...]]:
        """As `call`, but a program that ends without a value or an exception is not asked again: it costs one time
        limit, not many.
        """
        found: tuple[Outcome, ...] = ()
        for part in [inputs[:1], *_batches(inputs[1:])]:
            if not part:
                break
            new = yield self._run(program, f, part, max(factor, REST_FACTOR) if found else factor)
            found += new
            ended = next((one for one in new if one.reason != "ok" and one.error is None), None)
            if ended is not None:
                return found + (ended,) * (len(inputs) - len(found))
        return found

    def canonical(self, program: str, f: str, inputs: Sequence[str]) -> Job[tuple[tuple[Outcome, ...], float]]:
        """As `call`, for the canonical solution; and how much longer than the limit a sample may then take. Where this
        one takes long, the task is long or the machine is busy.
        """
        found = yield [Timed(self._run(program, f, part, CANONICAL_FACTOR)) for part in _batches(inputs)]
        outcomes = tuple(outcome for part, _ in found for outcome in part)
        seconds = SAMPLE_FACTOR * max(seconds for _, seconds in found)
        return outcomes, min(max(1.0, seconds / self.timeout_s), CANONICAL_FACTOR)


def _pass_on(done: Future[Any], timed: Future[Any], seconds: float) -> None:
    if (error := done.exception()) is not None:
        timed.set_exception(error)
    else:
        timed.set_result((done.result(), seconds))


class Once(Generic[T]):
    """A job done when its result is first needed; who needs it meanwhile waits for the same one."""

    def __init__(self, make: Callable[[], Job[T]]):
        self._make = make
        self._begun: Started[T | Exception] | None = None

    def result(self) -> Job[T]:
        """Raises, each time, what the job raised."""
        if self._begun is None:
            self._begun = yield Start(self._done())
        found: T | Exception = yield self._begun
        if isinstance(found, Exception):
            raise found
        return found

    def _done(self) -> Job[T | Exception]:
        try:
            return (yield from self._make())
        except Exception as error:
            return error


def _batches(inputs: Sequence[str]) -> list[list[str]]:
    """So many inputs at a time that what comes back for them fits the pipe of one child, inputs included."""
    batches: list[list[str]] = [[]]
    room = _BATCH_CHARS
    for text in inputs:
        room -= 2 * len(text) + _ANSWER_CHARS
        if room < 0 and batches[-1]:
            batches.append([])
            room = _BATCH_CHARS - 2 * len(text) - _ANSWER_CHARS
        batches[-1].append(text)
    return batches


def _names_in(inputs: Sequence[str]) -> str:
    """Imports of the names that inputs are written with, where there are any beyond the built-in ones."""
    used = {name for text in inputs for name in _NAME.findall(text)}
    return "".join(f"from {module} import {name}\n" for name, module in _TYPES.items() if name in used)


def as_arguments(values: Sequence[Any]) -> str:
    return ", ".join(show(value) for value in values)


class Calls:
    """A function and inputs; expected are the canonical solution's outputs, found when first needed."""

    def __init__(
        self,
        runner: Runner,
        entry_point: str,
        inputs: Sequence[Sequence[Any]],
        canonical: str,
        *,
        base: int | None = None,
        atol: float = 0.0,
        known: Sequence[Any] | None = None,
    ):
        """Of the inputs, the first `base` are the base tests. `known` outputs need no canonical solution.

        The entry point may be a method of a class Solution, as contests have it.
        """
        self.runner, self.entry_point, self.inputs, self.canonical = runner, entry_point, inputs, canonical
        self.base, self.atol = len(inputs) if base is None else base, atol
        self.texts = [as_arguments(one) for one in inputs]
        self.known = known
        self.f = (
            f"_settle(names[{entry_point!r}], {entry_point in plus_rules.NOT_NONE})"
            if known is None
            else f"_method(names, {entry_point!r})"
        )
        self.expected = Once(self._expected)

    def _expected(self) -> Job[tuple[list[Any], float]]:
        """The outputs, and the factor of a sample's time limit."""
        if self.known is not None:
            return [_settled(value) for value in self.known], 1.0
        outcomes, factor = yield from self.runner.canonical(self.canonical, self.f, self.texts)
        for text, outcome in zip(self.texts, outcomes):
            if outcome.value is None:
                raise BrokenTest(f"the expected output for {text[:80]}: {outcome.reason} {outcome.detail}")
        return [decode(outcome.value or "") for outcome in outcomes], factor

    def judge(self, program: str) -> Job[Judged]:
        expected, factor = yield from self.expected.result()
        outcomes = yield from self.runner.first_then_rest(program, self.f, self.texts, factor)
        wrong = [number for number, outcome in enumerate(outcomes) if not self._right(number, outcome, expected)]
        if not wrong:
            return Judged(1.0, "correct", base=True)
        bad = outcomes[wrong[0]]
        reason = "wrong value" if bad.reason == "ok" else bad.reason
        return Judged(0.0, reason, bad.detail, base=wrong[0] >= self.base)

    def _right(self, number: int, outcome: Outcome, expected: Sequence[Any]) -> bool:
        output = _returned(outcome)
        if output is _NOTHING:
            return False
        right = expected[number]
        if _is_digest(right) and not _is_digest(output):  # equal values may differ in how long they are, as 2 and 2.0
            output = (right[0], jail_runtime._digest(output))
        elif _is_digest(output) and not _is_digest(right):
            right = (output[0], jail_runtime._digest(right))
        return plus_rules.accepts(self.entry_point, self.inputs[number], output, right, self.atol)


class CheckFunction:
    """A test `check(candidate)`, run on the answers of the program and never beside it."""

    def __init__(self, runner: Runner, entry_point: str, canonical: str, test: str, check: str = "check"):
        self.runner, self.entry_point, self.canonical = runner, entry_point, canonical
        self.test, self.check = test, check
        self.calls = Once(self._calls)

    def _calls(self) -> Job[tuple[list[tuple[tuple[Any, ...], dict[str, Any]]], float]]:
        """What the test asks, in order, and the factor of a sample's time limit."""
        program, f = f"{self.canonical}\n\n{self.test}", f"_record(names[{self.check!r}], names[{self.entry_point!r}])"
        (count,) = yield from self.runner.call(program, f, ["-1"], CANONICAL_FACTOR)
        if count.value is None:
            raise BrokenTest(f"the canonical solution fails its test: {count.reason} {count.detail}")
        outcomes, factor = yield from self.runner.canonical(program, f, [str(n) for n in range(decode(count.value))])
        bad = next((outcome for outcome in outcomes if outcome.value is None), None)
        if bad is not None:
            raise BrokenTest(f"the test calls the program with what is not plain data: {bad.reason} {bad.detail}")
        return [decode(outcome.value or "") for outcome in outcomes], factor

    def judge(self, program: str) -> Job[Verdict]:
        calls, factor = yield from self.calls.result()
        texts = [
            ", ".join([show(value) for value in given] + [f"{name}={show(value)}" for name, value in named.items()])
            for given, named in calls
        ]
        f = f"_settle(names[{self.entry_point!r}], whole=True)"
        outcomes = yield from self.runner.first_then_rest(program, f, texts, factor)
        values = [_returned(outcome) for outcome in outcomes]
        answered = [
            (call, value is not _NOTHING, None if value is _NOTHING else value) for call, value in zip(calls, values)
        ]
        replay = f"_replay(names[{self.check!r}])"
        (said,) = yield from self.runner.call(f"{self.canonical}\n\n{self.test}", replay, [show(answered)])
        passed = _returned(said)
        if passed is True:
            return _CORRECT
        bad = next((outcome for outcome in outcomes if outcome.value is None), None)
        if bad:
            return Verdict(0.0, bad.reason, bad.detail)
        return Verdict(0.0, "wrong value", said.detail or ("" if passed is _NOTHING else str(passed)))


def asserts_as_check(entry_point: str, setup: str, asserts: Sequence[str]) -> str:
    """The asserts of MBPP, which name the function, as a function of the candidate called CHECK."""
    tree = ast.parse(f"def {CHECK}(candidate):\n    pass")
    body = ast.parse("\n".join([f"global {entry_point}", f"{entry_point} = candidate", *asserts])).body
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = body
    return f"{setup}\n\n{ast.unparse(tree)}\n"


def name_of_tested(code: str, asserts: Sequence[str]) -> str:
    """Which function of the program the asserts are about: the one called first."""
    defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(ast.parse("\n".join(asserts))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in defined:
            return node.func.id
    raise BrokenTest("the tests call no function of the canonical solution")


class Scripts:
    """A script that reads standard input; lines are compared without the blanks around them, numbers as numbers."""

    def __init__(self, runner: Runner, inputs: Sequence[str], outputs: Sequence[str]):
        self.runner, self.texts = runner, [show(text) for text in inputs]
        self.outputs = outputs

    @cached_property
    def _expected(self) -> list[Any]:
        return [_settled(jail_runtime._words(text)) for text in self.outputs]

    def judge(self, program: str) -> Job[Verdict]:
        outcomes = yield from self.runner.first_then_rest("", f"_run_script({program!r})", self.texts)
        for outcome, expected in zip(outcomes, self._expected, strict=True):
            if outcome.value is None:
                return Verdict(0.0, outcome.reason, outcome.detail)
            output = _returned(outcome)
            if output is _NOTHING or not same(output, expected):
                return Verdict(0.0, "wrong value")
        return _CORRECT


def _settled(value: object) -> Value:
    """A value that the benchmark states, in the form in which programs' values come back: a long one as its digest."""
    return jail_runtime._settle(lambda: value)()


def _is_digest(value: object) -> bool:
    return type(value) is tuple and len(value) == 2 and value[0] == jail_runtime.DIGEST and type(value[1]) is str


_NOTHING = object()


def _returned(outcome: Outcome) -> Value:
    """The value that the program returned, or _NOTHING: also where it wrote what is no value at all, which is wrong."""
    try:
        return _NOTHING if outcome.value is None else decode(outcome.value)
    except Refused:
        return _NOTHING


Judge = Callable[[str], Job[Verdict]]
