"""The suites by name: which rows, how each is asked, how an answer is judged. One `Item` per row.

Groups: `paper` is the table of the Absolute Zero paper, `in_distribution` the two that look like training, `general`
the appendix. HumanEval and MBPP in their first form, GSM8K and CRUXEval are suites of their own beside these.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import pickle
import re
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

from azr_jax.evals import bbeh, code, evalplus, plus_rules, questions
from azr_jax.evals.datasets import DataProblem, Row, load
from azr_jax.evals.letters import letter_in
from azr_jax.evals.mathematics import Compare, MathJudge, final_answer, gold_of, hedged, only_number
from azr_jax.evals.sources import DATASETS
from azr_jax.executor import literals
from azr_jax.executor.jobs import Run, Verify
from azr_jax.executor.values import encode
from azr_jax.selfplay.event_loop import Job
from azr_jax.tasks.parsing import parse_answer
from azr_jax.tasks.prompts import Prompt
from azr_jax.tasks.types import FormatError, Kind, Triplet, Verdict

MBPP_TEST = range(11, 511)  # the task numbers of MBPP's test split


@dataclass(frozen=True)
class Graded:
    score: float
    reason: str
    detail: str = ""
    base: bool = False  # passes the base tests, where a suite has such
    answer: str | None = None  # what majority voting compares; None where there is nothing to vote on


@dataclass(frozen=True)
class Item:
    suite: str
    id: str
    prompt: Prompt
    grade: Callable[[str], Graded | Job[Graded]]  # prefix + completion -> how good it is
    category: str = ""  # MMLU-Pro's subject
    date: str = ""  # when a contest was, YYYY-MM-DD


@dataclass(frozen=True)
class Judges:
    """Whoever is asked what jobs that grade yield."""

    runner: code.Runner
    mathematics: MathJudge

    def submit(self, job: Run | Verify | code.Timed | Compare) -> Future[Any]:
        return self.mathematics.submit(job) if isinstance(job, Compare) else self.runner.submit(job)


@dataclass(frozen=True)
class Suite:
    name: str
    dataset: str
    area: str  # code | math | in_distribution | general
    make: Callable[[Suite, Row, str, Judges], Item | None] = field(repr=False)
    examples: str = "one"  # worked ones before a reasoning task, as in tasks/worked.py

    def items(self, data_dir: str | None, style: str, judges: Judges) -> tuple[list[Item], str]:
        """Its rows, and the digest of its files. Raises DataProblem."""
        loaded = load(self.dataset, data_dir)
        made = [self._item(row, style, judges) for row in loaded.rows]
        return [item for item in made if item is not None], loaded.digest

    def _item(self, row: Row, style: str, judges: Judges) -> Item | None:
        try:
            return self.make(self, row, style, judges)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            file = DATASETS[self.dataset].choices[0][0]
            raise DataProblem(
                f"{self.name}: row {row.id} is not what it should be ({type(error).__name__}: {error}); "
                f"{file.local} should be that of {file.url}"
            ) from error


# ---------------------------------------------------------------------------------------------- programs
def _program_item(
    suite: Suite, row: Row, style: str, prompt: Prompt, judge: code.Judge, before: str, name: str, head: str = ""
) -> Item:
    """`before` is what the prompt shows of the program; `head` goes before it unseen."""

    def grade(text: str) -> Job[Graded]:
        program = questions.program_in(text, style, before=before, name=name, stops=prompt.stop)
        if program is None:
            return _graded(FormatError("no program"))
        return _graded((yield from judge(head + program)))

    return Item(suite.name, row.id, prompt, grade)


def _graded(verdict: Verdict | FormatError, answer: str | None = None) -> Graded:
    if isinstance(verdict, FormatError):
        return Graded(0.0, verdict.reason)
    base = isinstance(verdict, code.Judged) and verdict.base
    return Graded(verdict.score, verdict.reason, verdict.detail, base, answer)


def _humaneval(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    f = row.fields
    test = code.CheckFunction(judges.runner, f["entry_point"], f["prompt"] + f["canonical_solution"], f["test"])
    return _program_item(suite, row, style, questions.humaneval(f, style), test.judge, f["prompt"], f["entry_point"])


def plus_calls(row: Row, runner: code.Runner) -> code.Calls:
    """The base tests of a row of HumanEval+ or MBPP+, then its further ones."""
    f = row.fields
    base, plus = (plus_rules.restored(row.id, f[name] or []) for name in ("base_input", "plus_input"))
    return code.Calls(
        runner,
        f["entry_point"],
        base + plus,
        f["prompt"] + f["canonical_solution"],
        base=len(base),
        atol=f["atol"],
    )


def _humaneval_plus(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    f, calls = row.fields, plus_calls(row, judges.runner)
    prompt = questions.humaneval(f, style)
    return _program_item(suite, row, style, prompt, calls.judge, f["prompt"], f["entry_point"])


def _mbpp_plus(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    f, calls = row.fields, plus_calls(row, judges.runner)
    *text, test = f["prompt"].strip().strip('"').strip().split("\n")
    prompt = questions.described("\n".join(text), f["entry_point"], [test], style)
    return _program_item(suite, row, style, prompt, calls.judge, "", f["entry_point"])


def mbpp_test(row: Row, runner: code.Runner) -> code.CheckFunction:
    f = row.fields
    name = code.name_of_tested(f["code"], f["test_list"])
    test = code.asserts_as_check(name, f["test_setup_code"], f["test_list"])
    return code.CheckFunction(runner, name, f["code"], test, code.CHECK)


def _mbpp(suite: Suite, row: Row, style: str, judges: Judges) -> Item | None:
    if int(row.id) not in MBPP_TEST:
        return None
    f, test = row.fields, mbpp_test(row, judges.runner)
    prompt = questions.described(f["text"], test.entry_point, f["test_list"], style)
    return _program_item(suite, row, style, prompt, test.judge, "", test.entry_point)


class _TextOnly(pickle.Unpickler):
    """LiveCodeBench packs its hidden tests as a pickled text; a text needs no class, so none is let in."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"hidden tests name {module_name}.{global_name}, but should be text alone")


def contest_tests(fields: dict[str, Any]) -> list[dict[str, str]]:
    """Public and hidden tests of a LiveCodeBench row: input, output, testtype."""
    hidden = fields["private_test_cases"]
    try:
        hidden = json.loads(hidden)
    except ValueError:
        packed = zlib.decompress(base64.b64decode(hidden))
        hidden = json.loads(_TextOnly(io.BytesIO(packed)).load())
    return json.loads(fields["public_test_cases"]) + hidden


def _contest(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    f = row.fields
    script = json.loads(f["public_test_cases"])[0]["testtype"] == "stdin"
    name = "" if script else json.loads(f["metadata"])["func_name"]

    def judge(program: str) -> Job[Verdict]:
        tests = contest_tests(f)  # unpacked only now: those of a whole suite would not fit the memory
        if script:
            return code.Scripts(judges.runner, [t["input"] for t in tests], [t["output"] for t in tests]).judge(program)
        inputs = [_arguments(test["input"]) for test in tests]
        known = [json.loads(test["output"]) for test in tests]
        return code.Calls(judges.runner, name, inputs, "", known=known).judge(program)

    item = _program_item(suite, row, style, questions.contest(f, style), judge, "", name, head=code.PREAMBLE)
    return replace(item, date=str(f.get("contest_date", ""))[:10])


# ---------------------------------------------------------------------------------------------- reasoning
def value_of(text: str, judges: Judges | None) -> str | None:
    """A stored output in the executor's codec; what is no plain literal is read in the jail, or not at all."""
    try:
        return encode(literals.read(text))
    except literals.NotLiteral:
        if judges is None:
            return None
        (outcome,) = judges.runner.result(judges.runner.call("", "lambda value: value", [text]))
        if outcome.value is None:
            raise code.BrokenTest(f"the stored output {text[:60]} is not plain data: {outcome.reason}") from None
        return outcome.value


def _traced(kind: Kind) -> Callable[[Suite, Row, str, Judges], Item]:
    """The program given, the output or an input asked for."""

    def make(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
        f = row.fields
        program, given = f["code"], f["input"]
        if f.get("function_name"):
            program, given = f"{code.PREAMBLE}{program}\n\nf = {f['function_name']}", inside_call(given)
        try:
            value, broken = value_of(f["output"], judges), None
        except code.BrokenTest as error:
            value, broken = None, error
        task = Triplet(program, given, f["output"], value or "")
        if f.get("function_name"):  # shown without what we put around it, its function called f
            shown = Triplet(re.sub(rf"\b{re.escape(f['function_name'])}\b", "f", f["code"]), given, f["output"], "")
        else:
            shown = task

        def grade(text: str) -> Job[Graded]:
            if broken is not None:
                raise broken
            return (yield from _answered(kind, task, text))

        return Item(suite.name, row.id, questions.reasoning(kind, shown, style, suite.examples), grade)

    return make


def _answered(kind: Kind, task: Triplet, text: str) -> Job[Graded]:
    answer = parse_answer(kind, text)
    if isinstance(answer, FormatError):
        return _graded(answer)
    return _graded((yield Verify(kind, task, answer)), answer.text.strip())


def _foretold(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    """LiveCodeBench's test output prediction: what a call returns, told by the problem alone."""
    f = row.fields
    (test,) = json.loads(f["test"])
    call = f"{f['function_name']}({code.as_arguments(_arguments(test['input']))})"
    task = Triplet("", call, test["output"], encode(json.loads(test["output"])))

    item = Item(suite.name, row.id, questions.foretold(f, call, style), partial(_answered, Kind.DEDUCTION, task))
    return replace(item, date=str(f.get("contest_date", ""))[:10])


def _arguments(text: str) -> list[Any]:
    """A line of JSON each."""
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def inside_call(text: str) -> str:
    """`name(a, b)` -> `a, b`."""
    call = ast.parse(text.strip(), mode="eval").body
    if not isinstance(call, ast.Call):
        raise code.BrokenTest(f"input {text[:60]}: should be a call")
    return ", ".join([*map(ast.unparse, call.args), *(f"{k.arg}={ast.unparse(k.value)}" for k in call.keywords)])


def _mathematics(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    f = row.fields
    gold = gold_of(suite.name, f)
    whole = suite.name == "gsm8k"  # its answers are whole numbers, whatever words stand around them
    problem = f["problem"] if "problem" in f else f["question"]

    def grade(text: str) -> Job[Graded]:
        answer = final_answer(text, numbers=whole)
        if answer is None:
            return Graded(0.0, "no answer")
        if hedged(gold, answer):
            return Graded(0.0, "wrong value", "more than one answer", answer="".join(answer.split()))
        verdict: Verdict = yield Compare(gold, answer)
        if whole and not verdict.correct and (number := only_number(answer)) is not None:
            verdict = yield Compare(gold, number)
        return _graded(verdict, "".join(answer.split()))

    return Item(suite.name, row.id, questions.mathematics(problem, style), grade)


def _choice(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    gold = row.fields["answer"]

    def grade(text: str) -> Graded:
        letter = letter_in(text, style)
        if letter is None:
            return Graded(0.0, "no answer")
        return Graded(float(letter == gold), "correct" if letter == gold else "wrong value", answer=letter)

    return Item(suite.name, row.id, questions.choice(row.fields, style), grade, row.fields["category"])


def _supergpqa(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    f = row.fields
    return _choice(suite, Row(row.id, f | {"answer": f["answer_letter"], "category": f["discipline"]}), style, judges)


def _bbeh(suite: Suite, row: Row, style: str, judges: Judges) -> Item:
    f = row.fields
    gold = str(f["target"])

    def grade(text: str) -> Graded:
        answer = bbeh.answer_in(text)
        if answer is None:
            return Graded(0.0, "no answer")
        correct = bbeh.right(gold, answer)
        return Graded(float(correct), "correct" if correct else "wrong value", answer=answer)

    return Item(suite.name, row.id, questions.any_question(f["input"], style), grade, f["task"])


_CODE = (("humaneval", _humaneval), ("humaneval_plus", _humaneval_plus), ("mbpp", _mbpp), ("mbpp_plus", _mbpp_plus))
_MATH = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench", "gsm8k")
SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        *(Suite(name, name, "code", make) for name, make in _CODE),
        *(Suite(f"livecodebench_v{n}", f"livecodebench_v{n}", "code", _contest) for n in range(1, 6)),
        *(Suite(name, name, "math", _mathematics) for name in _MATH),
        Suite("cruxeval_i", "cruxeval", "in_distribution", _traced(Kind.ABDUCTION)),
        Suite("cruxeval_o", "cruxeval", "in_distribution", _traced(Kind.DEDUCTION)),
        Suite("livecodebench_execution", "livecodebench_execution", "in_distribution", _traced(Kind.DEDUCTION)),
        Suite("mmlu_pro", "mmlu_pro", "general", _choice),
        # New ones stand at the end: a suite's place is part of the numbers that its samples are drawn by.
        Suite("livecodebench_v6", "livecodebench_v6", "code", _contest),
        Suite("supergpqa", "supergpqa", "general", _supergpqa),
        Suite("aime26", "aime26", "math", _mathematics),
        Suite("bbeh", "bbeh", "general", _bbeh),
        Suite("livecodebench_output", "livecodebench_output", "in_distribution", _foretold),
    )
}
GROUPS: dict[str, tuple[str, ...]] = {
    "paper": ("humaneval_plus", "mbpp_plus", "livecodebench_v5", *_MATH[:6]),
    "in_distribution": ("cruxeval_i", "cruxeval_o", "livecodebench_execution"),
    "general": ("mmlu_pro",),
}


class UnknownSuite(ValueError):
    """Lists all there are."""


def named(names: Sequence[str], style: str = "think", examples: str = "one") -> list[Suite]:
    """The suites of a list of names and groups, each once."""
    unknown = [name for name in names if name not in SUITES and name not in GROUPS]
    if unknown or not names:
        raise UnknownSuite(
            f"--suite={','.join(unknown)}: should be of {', '.join(GROUPS)} (groups), {', '.join(SUITES)}; "
            "several are joined by commas"
        )
    wanted = [each for name in names for each in GROUPS.get(name, (name,))]
    others = [name for name in wanted if name not in evalplus.SUITES]
    if style == "evalplus" and others:
        raise UnknownSuite(f"--style=evalplus: is for {', '.join(evalplus.SUITES)}; {others[0]} needs another style")
    return [replace(SUITES[name], examples=examples) for name in dict.fromkeys(wanted)]
