"""A kind of a user's own is one class: it is found by its place, played like any other, and its mistakes stay small."""

import math
import sys
from pathlib import Path

import pytest

from azr_jax.config import flags
from azr_jax.executor.cases import ChildRequest
from azr_jax.executor.jobs import Validate, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.tasks import buffers, history
from azr_jax.tasks.buffers import Buffers, BufferSettings, Entry
from azr_jax.tasks.kind import KindFailed, find, named
from azr_jax.tasks.parsing import whole_answer, whole_proposal
from azr_jax.tasks.prompts import STYLES, propose, solve
from azr_jax.tasks.types import Answer, FormatError, Kind, Proposal, Triplet, Validation, Verdict
from tests.kinds.own import Rubbish
from tests.selfplay.scripted import Cast, Stage

ROOT = Path(__file__).parents[2]
BASE = str(ROOT / "configs" / "base.py")
OWN = "tests.kinds.own"
PROGRAM = "def f(x):\n    return x"


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (
            "deducton",
            "should be at least one of deduction, abduction, induction, error, or your own",
        ),
        ("nowhere:Kind", "nowhere:Kind: there is no module nowhere in the working directory or on PYTHONPATH"),
        (f"{OWN}:Nothing", f"{OWN}:Nothing: {OWN} has no Nothing"),
        (f"{OWN}:ready", "ready is no kind; should be a class derived from azr_jax.kinds.base.BaseKind"),
        (f"{OWN}:Verdict", "Verdict is no kind"),
        (f"{OWN}:Unfinished", f"{OWN}:Unfinished: Unfinished lacks shown, verify"),
        (f"{OWN}:Impostor", "Impostor.name='deduction': is that of one of azr_jax; should be a name of its own"),
        (f"{OWN}:Nameless", "Nameless.name='de/duction': should be one word in small letters, for metrics and files"),
        (f"{OWN}:Fails", "Fails() failed: RuntimeError: no file of mine"),
        (f"{OWN}:Length,{OWN}:Again", f"{OWN}:Again: is called length like another one of them"),
        (f"{OWN}:Silent", "tasks.kinds=silent: propose_prompt failed: IndexError: tuple index out of range"),
        (f"{OWN}:Hesitant", "tasks.kinds=hesitant: first failed: KeyError: 'mine'"),
        ("a b:Kind", "should be deduction, abduction, induction, error, or one of your own as module:Class"),
        ("broken_kind:Kind", "importing broken_kind failed: ZeroDivisionError: division by zero"),
        ("leaning_kind:Kind", "importing leaning_kind failed: No module named 'not_there'"),
    ],
)
def test_a_kind_that_cannot_be_had_is_one_line(kinds, said, tmp_path, monkeypatch):
    (tmp_path / "broken_kind.py").write_text("1 / 0\n")
    (tmp_path / "leaning_kind.py").write_text("import not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _, problems = flags.load(BASE, {"tasks.kinds": kinds})
    assert len(problems) == 1 and "\n" not in problems[0]
    assert problems[0].startswith(("tasks.kinds=", "--config.tasks.kinds=")) and said in problems[0]


def test_kinds_are_numbered_in_the_order_in_which_they_are_played():
    kinds = named(["induction", f"{OWN}:Length", "deduction", "examples.repair:Repair"])
    assert kinds == ("induction", "length", "deduction", "repair")
    assert [kind.number for kind in kinds] == [2, 4, 0, 5]
    assert [kind.number for kind in Kind] == [0, 1, 2, 3] and list(Kind)[3] == "error"


def test_the_working_directory_is_looked_at(tmp_path, monkeypatch):
    (tmp_path / "mine_here.py").write_text(f"from {OWN} import Length as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *(one for one in sys.path if one)])
    assert find("mine_here:Mine") == "length"


@pytest.mark.parametrize("style", STYLES)
def test_what_it_does_not_say_of_a_style_has_a_default_that_reads_back(style):
    kind, task = find(f"{OWN}:Length"), Triplet(PROGRAM, "1", "23", "")
    asked = propose(kind, [task], style=style)
    text = asked.text or "".join(message["content"] for message in asked.messages)
    assert PROGRAM in text and asked.references == 1
    if style != "completion":
        assert "Write a function f, {any} one, and an input." in text
    blocks = "```python\ndef f(x):\n    return -x\n```\n```input\n7\n```"
    written = f"<think>hm</think><answer>{blocks}</answer>" if style.startswith("think") else blocks
    found = whole_proposal(kind, written, style=style, ended=True)
    assert found == Proposal(kind, "def f(x):\n    return -x", ("7",))
    question = solve(kind, task, style=style)
    text = question.text or question.messages[-1]["content"]
    assert PROGRAM in text and "23" not in text
    answer = "<think>hm</think><answer>23</answer>" if style.startswith("think") else f"{question.prefix}23\n```"
    assert whole_answer(kind, answer, style=style, ended=True) == Answer(kind, "23")


def test_it_is_played_like_any_other(executor, tmp_path):
    """Seeded, estimated, solved, measured; its buffer comes back from disk with the same ids."""
    proposals = [f"x):\n    return x + {n}\n```\n```input\n1\n```" for n in (1, 22)] + ["x):\n    return x\n```"]
    answers = {"x + 1": ["26\n```", "1\n```"], "x + 22": ["27\n```"]}
    flags = {"tasks__kinds": f"deduction,{OWN}:Length", "batch_size": "3", "seeding__factor": "1"}
    length = find(f"{OWN}:Length")
    made = Stage(executor, Cast({length: proposals, Kind.DEDUCTION: proposals}, answers), tmp_path / "b", **flags)
    kept = made.put(length, PROGRAM, "1")
    assert kept.id == 4 and kept.task.output == "22"
    played = made.play()
    assert [p.refusal for p in played.proposed[length]] == ["", "", "no input block"]
    assert [p.solve_rate for p in played.proposed[length]] == [0.25, 1.0, None]
    assert [p.reward for p in played.proposed[length]] == [0.75, 0.0, -1.0]
    assert [p.entry_id for p in played.proposed[length]][:2] == [9, 14], "five kinds take turns"
    assert made.numbers["propose/length/valid_rate"] == pytest.approx(2 / 3)
    assert {"estimate/length/solve_rate/mean", "solve/length/accuracy", "buffer/length/size"} <= made.numbers.keys()
    cursor = made.buffers.cursor()
    again = type(made.buffers)(list(made.buffers), folder=tmp_path / "b")
    again.load(cursor)
    assert [(e.id, e.task) for e in again[length]] == [(e.id, e.task) for e in made.buffers[length]]


def raises():
    raise KeyError("mine")


def yields_rubbish():
    yield "run this"


def yields_a_request_of_its_own():
    yield ChildRequest(b"{}", 77, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        raises, yields_rubbish, yields_a_request_of_its_own, lambda: None, lambda: 1.0, lambda: Verdict(2.0, "x"),
        lambda: Verdict(math.nan, "x"), lambda: Verdict(1.0, ""), lambda: Verdict(0.0, "x" * 61),
        lambda: Verdict(0.0, "two\nlines"), lambda: Validation(None, "x"), lambda: Verdict("1", "x"),
    ],
)  # fmt: skip
def test_a_judge_that_fails_costs_the_one_verdict(executor, wrong, monkeypatch):
    kind = find(f"{OWN}:Rubbish")
    monkeypatch.setattr(Rubbish, "wrong", staticmethod(wrong))
    verdict = executor.submit(Verify(kind, Triplet(PROGRAM, "1", "23", ""), Answer(kind, "23"))).result(timeout=20)
    assert (verdict.score, verdict.reason) == (0.0, "judging failed")
    good = executor.submit(Validate(Proposal(Kind.DEDUCTION, PROGRAM, ("1",)))).result(timeout=20)
    assert good.task is not None, "the executor goes on"


def test_a_reader_that_fails_costs_the_one_text(monkeypatch):
    kind = find(f"{OWN}:Length")
    for answer in (raises, lambda: None):
        monkeypatch.setattr(type(kind), "read_proposal", lambda *_, answer=answer: answer())
        assert whole_proposal(kind, "```input\n1\n```", style="chat", ended=True) == FormatError("reading failed")


def fails_at(broken: str):
    """Of a kind's method: it raises where the task holds this text."""
    right = getattr(Rubbish, broken)

    def method(self, *given):
        if "x + 22" in repr(given):
            raise KeyError("mine")
        return right(self, *given)

    return method


@pytest.mark.parametrize(
    ("method", "refusal"),
    [
        ("mark", "judging failed"), ("written", "judging failed"), ("answers", "judging failed"),
        ("solve_prompt", "asking failed"), ("too_many", "reading failed"), ("read_proposal", "reading failed"),
    ],
)  # fmt: skip
def test_a_method_that_fails_costs_the_one_proposal(executor, method, refusal, monkeypatch):
    """`mark`, `solve_prompt` and `too_many` ended the run."""
    kind = find(f"{OWN}:Rubbish")
    monkeypatch.setattr(Rubbish, method, fails_at(method))
    monkeypatch.setattr(Rubbish, "wrong", staticmethod(lambda: Verdict(0.0, "wrong value")))
    proposals = [f"x):\n    return x + {n}  # {method}\n```\n```input\n1\n```" for n in (1, 22, 3)]
    flags = {"tasks__kinds": f"{OWN}:Rubbish", "batch_size": "3"}
    made = Stage(executor, Cast({kind: proposals}, {"x +": ["1\n```"]}), **flags)
    made.put(kind, PROGRAM, "1")
    played = made.play()
    assert [p.refusal for p in played.proposed[kind]] == ["", refusal, ""]
    assert [p.entry_id is not None for p in played.proposed[kind]] == [True, False, True]


@pytest.mark.parametrize("good", [1, 2, 3])
@pytest.mark.parametrize("method", ["mark", "written", "answers", "solve_prompt"])
def test_a_method_that_fails_later_costs_the_one_task_too(executor, method, good, monkeypatch):
    """It answers so often when the task is admitted, and fails from then on: where it was kept, or solved, that ended
    the run.
    """
    right, calls = getattr(Rubbish, method), []
    monkeypatch.setattr(buffers, "_marked", buffers._marked.__wrapped__)  # what is remembered is not asked again
    monkeypatch.setattr(history, "_bins", history._bins.__wrapped__)

    def fails_by_and_by(self, *given):
        if "x + 22" in repr(given):
            calls.append(given)
            if len(calls) > good:
                raise KeyError("mine")
        return right(self, *given)

    kind = find(f"{OWN}:Rubbish")
    monkeypatch.setattr(Rubbish, method, fails_by_and_by)
    monkeypatch.setattr(Rubbish, "wrong", staticmethod(lambda: Verdict(0.0, "wrong value")))
    proposals = [f"x):\n    return x + {n}  # {method} {good}\n```\n```input\n1\n```" for n in (1, 22, 3)]
    flags = {"tasks__kinds": f"{OWN}:Rubbish", "batch_size": "3", "tasks__estimate_attempts": "2"}
    made = Stage(executor, Cast({kind: proposals}, {"x +": ["1\n```"]}), **flags)
    made.put(kind, PROGRAM, "1")
    for _ in range(2):
        proposed = made.play().proposed[kind]
        assert [p.entry_id is not None or p.refusal == "" for p in (proposed[0], proposed[2])] == [True, True]
    assert calls


def test_a_reference_that_cannot_be_shown_is_left_out(executor, monkeypatch):
    kind = find(f"{OWN}:Rubbish")
    monkeypatch.setattr(Rubbish, "render_proposal", fails_at("render_proposal"))
    prompt = propose(kind, [Triplet("def f(x):\n    return x + 22", "1", "23", "")], style="completion")
    assert (prompt.references, prompt.dropped) == (0, 1)


def test_a_buffer_is_as_it_was_where_its_kind_fails(monkeypatch):
    kind = named([f"{OWN}:Rubbish"])[0]
    buffer = Buffers([kind], BufferSettings())[kind]
    monkeypatch.setattr(Rubbish, "answers", fails_at("answers"))
    with pytest.raises(KindFailed, match="rubbish: answers failed: KeyError: 'mine'"):
        buffer.append(Triplet("def f(x):\n    return x + 22", "1", "23", ""), iteration=1)
    assert len(buffer) == len(buffer.history) == 0
    assert isinstance(buffer.append(Triplet(PROGRAM, "1", "23", ""), iteration=1), Entry)
