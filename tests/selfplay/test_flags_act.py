"""Every field of tasks, seeding, buffer and rewards does what config/schema.py says of it: played with and without.

A field without a test here is found by the last one.
"""

import itertools
import json
from pathlib import Path

import pytest

from azr_jax.config.schema import PRESETS, RULES
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.selfplay.seeding import SeedingFailed
from azr_jax.tasks.buffers import Entry, Unkept
from azr_jax.tasks.programs import rename_part
from azr_jax.tasks.types import FormatError, Kind, Role, Triplet
from tests.selfplay.scripted import CUT, Cast, Stage

D, A, I = Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION  # noqa: E741
END = "\n```"
SEED = "def f(x):\n    return [x]"
ADD = "a, b):\n    return a + b\n```\n```input\n1, 2\n```"
ANSWERS = {"a + b": ["3" + END, "4" + END], "[x]": ["['one']" + END]}
SEEDS = str(Path(__file__).parents[1] / "fixtures/seeds.jsonl")
TESTED: set[str] = set()


def acts(*fields: str):
    """Marks a test as the one of these fields."""

    def register(test):
        TESTED.update(fields)
        return test

    return register


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


def deduction(executor, proposals=(ADD,), answers=ANSWERS, folder=None, **flags) -> Stage:
    """One proposal, two attempts, one seed, unless flags say otherwise."""
    few = {"tasks__kinds": D, "batch_size": "1", "tasks__estimate_attempts": "2", "seeding__factor": "1"}
    made = Stage(executor, Cast({D: proposals}, answers), folder, **(few | flags))
    made.put(D, SEED, "'one'")
    return made


def programs(*bodies: str) -> list[str]:
    return [f"x):\n    return {body}\n```\n```input\n2\n```" for body in bodies]


# --- tasks


@acts("tasks.kinds", "batch_size")
def test_only_the_kinds_asked_for_are_played(executor):
    for kinds in ((D,), (D, A)):
        made = Stage(executor, Cast({D: [ADD], A: [ADD]}, ANSWERS), tasks__kinds=",".join(kinds), batch_size="2")
        for kind in kinds:
            made.put(kind, SEED, "'one'")
        played = made.play()
        assert set(played.proposed) == set(played.solved) == set(made.buffers) == set(kinds)
        assert [len(played.proposed[kind]) for kind in kinds] == [len(played.solved[kind]) for kind in kinds]
        assert len(played.proposed[D]) == 2


@acts("tasks.references")
@pytest.mark.parametrize("k", [0, 1, 2])
def test_the_proposer_is_shown_k_references(executor, k):
    made = deduction(executor, tasks__references=str(k))
    seeds = {SEED, "def f(x):\n    return (x, x)", "def f(x):\n    return {x: x}"}
    for program in sorted(seeds - {SEED}):
        made.put(D, program, "'one'")
    (proposed,) = made.play().proposed[D]
    prompt = made.engine.seen[0]
    assert sum(program in prompt for program in seeds) == k == len(proposed.references)
    assert (proposed.traits.ast_distance == 1.0) == (k == 0), "without references there is nothing to be near to"


@acts("tasks.estimate_attempts")
@pytest.mark.parametrize("n", [2, 5])
def test_n_attempts_measure_how_hard_a_task_is(executor, n):
    (proposed,) = deduction(executor, tasks__estimate_attempts=str(n)).play().proposed[D]
    assert len(proposed.attempts) == n and proposed.solve_rate == 1 / n


@acts("tasks.train_proposer", "tasks.train_on_estimates")
@pytest.mark.parametrize(
    ("proposer", "estimates", "trained", "attempts"),
    [
        ("true", "false", [1, 1], 2),
        ("false", "false", [0, 1], 0),
        ("true", "true", [1, 3], 2),
        ("false", "true", [0, 3], 2),
    ],
)
def test_who_is_trained_on_what(executor, proposer, estimates, trained, attempts):
    made = deduction(executor, tasks__train_proposer=proposer, tasks__train_on_estimates=estimates)
    (proposed,) = made.play().proposed[D]
    assert [sum(role == one for role, _ in made.chosen) for one in (Role.PROPOSE, Role.SOLVE)] == trained
    assert len(proposed.attempts) == attempts, "nobody is asked how hard a task is where nobody learns from it"
    assert ("propose/deduction/advantage/zero" in made.numbers) == (proposer == "true")


def test_the_solver_learns_from_estimates_beside_the_solve_batch(executor):
    # Attempts at ADD are right and wrong (1, -1/2), the solve batch is ADD once more, right: mean 1/2, variance 1/2.
    made = deduction(executor, tasks__train_on_estimates="true")
    made.play()
    advantages = [item.advantage for role, item in made.chosen if role == Role.SOLVE]
    assert advantages == pytest.approx([0.5 / 0.5**0.5, -1.0 / 0.5**0.5, 0.5 / 0.5**0.5])


def test_grpo_compares_attempts_at_the_same_task_where_there_are_several(executor):
    # Two attempts at ADD (1, -1/2) and its solution (1) are one task: the same numbers as above. The seed, solved once,
    # has nobody to be compared with at its task, and alone in its group it teaches nothing.
    made = deduction(executor, tasks__train_on_estimates="true", batch_size="2", learner__advantage="grpo")
    made.play()
    by_task: dict[int, list[float]] = {}
    for role, item in made.chosen:
        if role == Role.SOLVE:
            by_task.setdefault(item.task_id, []).append(round(item.advantage, 4))
    seed, add = (entry.id for entry in made.buffers[D])
    assert by_task[seed] == [0.0] and sorted(by_task[add]) == [-1.4142, 0.7071, 0.7071]


@acts("tasks.prompt_style")
def test_the_style_of_prompts(executor):
    ends = {}
    for style in ("completion", "think"):
        made = deduction(executor, tasks__prompt_style=style)
        made.play()
        ends[style] = made.engine.seen[0][-20:]
    assert ends["think"].endswith("<think>") and ends["completion"].endswith("```python\ndef f(")


@acts("tasks.format")
@pytest.mark.parametrize(
    ("written", "strictly"),
    [
        (ADD + CUT, "cut off"),
        (ADD + "\n" + "```python\ndef f(" + ADD, "more than was asked for"),
        (ADD[:-4], "block not closed"),
    ],
)
def test_what_was_cut_repeated_or_left_open_is_paid_only_in_the_lenient_format(executor, written, strictly):
    """One puzzle repeated 200 times and cut at the limit was a valid proposal."""
    for how, reason, reward in (("strict", strictly, -1.0), ("lenient", "", 0.5)):
        (proposed,) = deduction(executor, [written], tasks__format=how).play().proposed[D]
        assert (proposed.refusal, proposed.reward) == (reason, reward)


def test_a_right_answer_that_was_cut_is_paid_only_in_the_lenient_format(executor):
    for how, rewards in (("strict", [-1.0, 1.0]), ("lenient", [1.0, 1.0])):
        made = deduction(executor, answers={"a + b": ["3" + END + CUT, "3" + END]}, tasks__format=how)
        (proposed,) = made.play().proposed[D]
        assert [attempt.reward for attempt in proposed.attempts] == rewards


def test_what_was_cut_can_be_left_out_of_loss_and_baseline(executor):
    # Rewards 1/2, -1 and (cut) -1: with it the baseline is -1/2, without it -1/4.
    proposals = [ADD, "no", "x):\n" + "    x\n" * 9 + CUT]
    for how, told in (("error", [1.414214, -0.707107, -0.707107]), ("mask", [1.0, -1.0])):
        made = deduction(executor, proposals, batch_size="3", learner__overlong=how)
        played = made.play()
        assert [p.reward for p in played.proposed[D]] == [0.5, -1.0, -1.0]
        assert [item.advantage for role, item in made.chosen if role == Role.PROPOSE] == pytest.approx(told, abs=1e-5)
        assert made.numbers["propose/deduction/length/clipped"] == pytest.approx(1 / 3)
    everything = deduction(executor, [proposals[-1]], {"": ["4" + CUT]}, learner__overlong="mask")
    everything.play()
    assert len(everything.chosen) == 2, "an update needs something"


def test_a_proposer_reads_what_the_executor_refuses_and_what_seeding_takes_away(executor, tmp_path):
    refused = executor.settings.banned_modules
    made = deduction(executor, programs("x"), folder=tmp_path, tasks__prompt_style="think", seeding__max_rounds="1")
    made.play()
    assert ", ".join(refused) in made.engine.seen[0] and "at the top level" not in made.engine.seen[0]
    made = Stage(executor, Cast({D: ["no"]}, {}), tmp_path / "seeding", tasks__kinds=D, tasks__prompt_style="think",
                 seeding__max_rounds="1")  # fmt: skip
    (tmp_path / "seeding").mkdir()
    with pytest.raises(SeedingFailed):
        made.seeding().fill()
    assert "statements at the top level" in made.engine.seen[0]


@acts("tasks.induction_message")
def test_what_an_induction_message_is(executor):
    for how, words in (("question", "a coding question or an instruction"), ("hint", "gives a hint")):
        flags = {"tasks__kinds": I, "seeding__import_from": SEEDS, "tasks__induction_message": how}
        asked_by = Stage(executor, Cast({}, {}), tasks__prompt_style="think", **flags).self_play.proposer.prompter
        assert words in asked_by.propose(I, [Triplet(SEED, "1", "[1]", "int:1")]).prompt.text


@acts("rollout.stop_at_answer", "rollout.repetition_stop")
def test_where_sampling_stops_is_asked_of_the_engine(executor):
    for style, stop, after in (("think", "</answer>", "</think>"), ("completion", "\n```", "")):
        asked = []
        for flags in ({}, {"rollout__stop_at_answer": "true", "rollout__repetition_stop": "20"}):
            asked_by = deduction(executor, tasks__prompt_style=style, **flags).self_play.proposer.prompter
            question = asked_by.solve(D, Triplet(SEED, "1", "[1]", "int:1"))
            asked.append(asked_by.request(0, question, 1))
        assert [r.stop_strings for r in asked] == [(), (stop,)] and [r.repetition_stop for r in asked] == [0, 20]
        assert asked[1].stop_after == after


@acts("rollout.propose_vocab_dropout")
@pytest.mark.parametrize(("share", "proposer"), [("0", False), ("0.1", True)])
def test_who_does_without_the_dropped_words(executor, tmp_path, share, proposer):
    """The proposer, in what it learns from: not the solver, nor seeding, where every round would lack the same ones."""
    flags = {"tasks__kinds": D, "batch_size": "1", "seeding__factor": "2", "rollout__propose_vocab_dropout": share}
    made = Stage(executor, Cast({D: [*seeds(), ADD]}, ANSWERS), tmp_path, **flags)
    asked, submit = [], made.engine.submit
    made.engine.submit = lambda request: (asked.append(request.limited), submit(request))
    assert made.seeding().fill() and asked and not any(asked)
    made.play()
    learned = [(role, sample.limited) for (role, _), sample in zip(made.chosen, made.learned)]
    assert set(learned) == {(Role.PROPOSE, proposer), (Role.SOLVE, False)} and sum(asked) == proposer


@acts("tasks.induction_inputs", "tasks.induction_shown")
def test_induction_asks_for_inputs_and_shows_some(executor):
    written = "m\n```" + "".join(f"\n```input\n{given}\n```" for given in range(9))
    made = Stage(
        executor, Cast({D: [ADD], I: [written]}, ANSWERS), tasks__kinds=f"{D},{I}", batch_size="1",
        tasks__induction_inputs="9", tasks__induction_shown="3",
    )  # fmt: skip
    made.put(D, SEED, "'one'")
    (proposed,) = made.play().proposed[I]
    assert any("Function, message and 9 inputs" in prompt for prompt in made.engine.seen)
    assert len(proposed.task.inputs) == 9 and proposed.task.shown == 3
    asked = next(prompt for prompt in made.engine.seen if "message\nm\n" in prompt)
    assert "[2]" in asked and "[3]" not in asked, "the fourth pair judges"


@acts("tasks.induction_fewest")
@pytest.mark.parametrize(
    ("fewest", "given", "kept", "refusal"),
    [
        ("0", "1 2 3 4", 4, ""),
        ("0", "1 2 3", 0, "wrong number of inputs"),
        ("0", "1 2 3 4 5", 0, "wrong number of inputs"),
        ("0", "1 2 3 3", 0, "too few inputs"),
        ("0", "1 2 3 z", 0, "bad input"),
        ("3", "1 2 3 z", 3, ""),
        ("3", "1 2 z y", 0, "too few inputs"),
    ],
)
def test_how_many_good_inputs_make_an_induction_task(executor, fewest, given, kept, refusal):
    """With two of ten, one shown and one hidden, a program that answers 0 to everything was judged right."""
    written = "m\n```" + "".join(f"\n```input\n{one}\n```" for one in given.split())
    made = Stage(
        executor, Cast({D: [ADD], I: [written]}, ANSWERS), tasks__kinds=f"{D},{I}", batch_size="1",
        tasks__induction_fewest=fewest,
    )  # fmt: skip
    made.put(D, SEED, "'one'")
    (proposed,) = made.play().proposed[I]
    assert (len(proposed.task.inputs) if proposed.task else 0, proposed.refusal) == (kept, refusal)
    assert made.numbers["propose/induction/inputs/given"] == len(given.split())
    assert made.numbers.get("propose/induction/inputs/kept", 0) == kept


@acts("tasks.message_leak")
@pytest.mark.parametrize(
    ("flags", "refusals"),
    [
        ({}, ["the message holds the program", ""]),
        ({"preset": "reference"}, ["", ""]),
        ({"tasks__message_leak": "0.05"}, ["the message holds the program"] * 2),
    ],
)
def test_a_message_that_holds_the_program_is_refused(executor, flags, refusals):
    loop = "def f(x):\n    for n in range(3):\n        x = x * 2 + n\n    return x"
    words = "Doubles x and adds n, for n in range(3): three times, that is."
    inputs = "\n```" + "".join(f"\n```input\n{given}\n```" for given in range(4))
    proposals = [f"Write this: {loop.replace('x', 'value')}{inputs}", words + inputs]
    made = Stage(executor, Cast({D: [ADD], I: proposals}, ANSWERS), tasks__kinds=f"{D},{I}", batch_size="2", **flags)
    made.put(D, loop, "1")
    assert [p.refusal for p in made.play().proposed[I]] == refusals


@acts("tasks.copies")
@pytest.mark.parametrize(
    ("copies", "new"),
    [
        ("exact", [True] * 4),
        ("constants", [True, False, True, True]),
        ("skeletons", [True, False, False, True]),
    ],
)
def test_what_a_copy_may_differ_in(executor, copies, new):
    """Another constant made a task of known difficulty new for ever."""
    assert (PRESETS["paper"]["tasks.copies"], PRESETS["reference"]["tasks.copies"]) == ("skeletons", "exact")
    written = [*programs("x * 3 + 1", "x * -40 + 1.5", "x * 4 + 1", "x + 3 * 1")]
    written[2] = written[2].replace("```input\n2", "```input\n7")
    made = deduction(executor, written, {}, batch_size="4", tasks__copies=copies)
    assert [isinstance(p.kept, Entry) for p in made.play().proposed[D]] == new


@acts("tasks.induction_pairs")
@pytest.mark.parametrize(
    ("flags", "shown"),
    [({}, ("0", "3")), ({"preset": "reference"}, ("0", "1")), ({"tasks__induction_pairs": "as_given"}, ("0", "1"))],
)
def test_which_pairs_are_shown(executor, flags, shown):
    """The outputs 0, 0, 1 and 2: by the first two of them nobody learns what the others are."""
    written = "m\n```" + "".join(f"\n```input\n{one}\n```" for one in "0134")
    made = Stage(executor, Cast({D: [ADD], I: [written]}, ANSWERS), tasks__kinds=f"{D},{I}", batch_size="1", **flags)
    made.put(D, "def f(x):\n    return max(x - 2, 0)", "1")
    (proposed,) = made.play().proposed[I]
    assert proposed.task.inputs[: proposed.task.shown] == shown


@acts("tasks.deduction_answer")
@pytest.mark.parametrize(
    ("flags", "rewards"),
    [
        ({}, [1.0, -0.5, -0.5]),
        ({"tasks__deduction_answer": "operators"}, [1.0, 1.0, -0.5]),
        ({"preset": "reference"}, [1.0, 1.0, 1.0]),
    ],
)
def test_a_deduction_answer_is_written_out(executor, flags, rewards):
    """A solver that copies the program into an expression works out nothing, and was always right."""
    answers = {
        "a + b": [f"{text}{END}" for text in ("3", "1 + 2", "(lambda a, b: a + b)(1, 2)")],
        "[x]": ["['one']" + END],
    }
    made = deduction(executor, answers=answers, tasks__estimate_attempts="3", **flags)
    (proposed,) = made.play().proposed[D]
    assert [attempt.reward for attempt in proposed.attempts] == rewards


@acts("tasks.abduction_answer")
@pytest.mark.parametrize(
    ("flags", "rewards"),
    [
        ({}, [1.0, -0.5, -0.5]),
        ({"tasks__abduction_answer": "operators"}, [1.0, 1.0, -0.5]),
        ({"preset": "reference"}, [1.0, 1.0, 1.0]),
    ],
)
def test_an_abduction_answer_is_written_out(executor, flags, rewards):
    """A solver that has Python look for the input finds nothing itself, and was always right."""
    answers = {"a + b": [f"{text}{END}" for text in ("1, 2", "1, 3 - 1", "*next((a, 3 - a) for a in range(9))")]}
    flags = {"batch_size": "1", "tasks__estimate_attempts": "3", **flags}
    made = Stage(executor, Cast({A: [ADD]}, answers), tasks__kinds=str(A), **flags)
    made.put(A, "def f(x):\n    return x", "'one'")
    (proposed,) = made.play().proposed[A]
    assert [attempt.reward for attempt in proposed.attempts] == rewards


@acts("tasks.induction_reward")
@pytest.mark.parametrize(("how", "worth"), [("binary", -0.5), ("fraction", 0.5)])
def test_a_program_that_is_right_on_half_of_what_is_hidden(executor, how, worth):
    answers = {"seed": ["x):\n    return abs(x)" + END]}
    made = Stage(
        executor,
        Cast({D: [ADD], I: [""]}, answers),
        tasks__kinds=f"{D},{I}",
        batch_size="1",
        tasks__induction_reward=how,
    )
    made.put(D, SEED, "'one'")
    made.put(I, "def f(x):\n    return x", "1", "2", "3", "-4", message="seed")
    (solved,) = made.play().solved[I]
    assert solved.reward == worth


COMMENTED = 'x):\n    """Adds."""\n    return x + N  # to N\nN = 3\n```\n```input\n1\n```'


@acts("tasks.strip_comments", "tasks.strip_globals")
@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ({}, 'def f(x):\n    """Adds."""\n    return x + N  # to N\nN = 3'),
        ({"tasks__strip_comments": "true"}, "def f(x):\n    return x + N\nN = 3"),
        ({"tasks__strip_globals": "true"}, "raised"),  # N is gone
    ],
)
def test_what_a_new_task_loses(executor, flags, kept):
    (proposed,) = deduction(executor, [COMMENTED], **flags).play().proposed[D]
    assert kept == (proposed.task.program if proposed.task else proposed.refusal)


@acts("tasks.composite_probability", "tasks.composite_most")
def test_a_composite_calls_functions_of_the_buffer_and_is_judged_with_them(executor):
    calls = programs("g1(x)[0] * 2")
    made = deduction(executor, calls, tasks__composite_probability="1", tasks__composite_most="1")
    (proposed,) = made.play().proposed[D]
    given = rename_part(SEED, 1)
    assert given in made.engine.seen[0] and proposed.functions == (given,)
    assert proposed.task.program == f"{given}\n\ndef f(x):\n    return g1(x)[0] * 2" and proposed.task.output == "4"
    seed = next(iter(made.buffers[D])).id
    assert proposed.references == (seed, seed), "shown as a reference, and to be called"
    assert proposed.traits.lines == 2, "what it calls is not its own"
    # Off: nobody is given anything, and g1 is not defined.
    (alone,) = deduction(executor, calls).play().proposed[D]
    assert alone.functions == () and alone.refusal == "raised"


def test_a_composite_that_does_not_call_what_it_was_given_is_refused(executor):
    made = deduction(executor, programs("x"), tasks__composite_probability="1", tasks__composite_most="1")
    (proposed,) = made.play().proposed[D]
    assert proposed.refusal == "does not call the functions given" and proposed.reward == -0.5


def test_how_often_and_how_many_functions(executor):
    made = deduction(executor, batch_size="64", tasks__composite_probability="0.5", tasks__composite_most="2")
    for number in range(6):
        made.put(D, f"def f(x):\n    return x + {number}", "1")
    counts = [len(proposed.functions) for proposed in made.play().proposed[D]]
    assert 20 <= counts.count(0) <= 44  # 32 of 64 on average, deviation 4
    assert all(counts.count(many) >= 5 for many in (1, 2)) and max(counts) == 2  # about 16 of each


@acts("tasks.novelty_gate")
def test_the_gate_refuses_what_is_near_to_anything_ever_kept(executor):
    kept = "def f(x):\n    total = 0\n    for y in x:\n        if y > 2:\n            total += y\n    return total"
    near = kept.removeprefix("def f(").replace("2", "3") + "\n```\n```input\n[4]\n```"
    for gate, refusal, reward in (("0", "", 0.0), ("0.5", "not novel", -0.5)):
        made = deduction(executor, [near], {"total": ["4" + END]}, tasks__novelty_gate=gate, buffer__capacity="2")
        made.put(D, kept, "[4]")
        (proposed,) = made.play().proposed[D]
        assert 0.0 < proposed.traits.nearest < 0.5
        assert (proposed.refusal, proposed.reward, len(proposed.attempts)) == (refusal, reward, 0 if refusal else 2)
        assert made.numbers.get("propose/deduction/refused/not novel", 0.0) == float(bool(refusal))


def test_the_gate_sees_copies_within_a_batch(executor):
    # The engine answers the latest first; the earliest is the one that counts as new.
    bodies = ["x ** 5 - 1", "x ** 5 - 2", "max({str(x): 1}) or not x", "x ** 5 - 1"]
    made = deduction(executor, programs(*bodies), {"": ["31" + END]}, tasks__novelty_gate="0.4", batch_size="4")
    played = made.play().proposed[D]
    assert [p.refusal for p in played] == ["", "not novel", "", "not novel"]
    assert [p.reward for p in played[1::2]] == [-0.5, -0.5] and len(made.buffers[D]) == 3


def test_the_gate_sees_induction_by_its_inputs(executor):
    def written(*given: int) -> str:
        return "m\n```" + "".join(f"\n```input\n{n}\n```" for n in given)

    proposals = [written(1, 2, 3, 4), written(4, 3, 2, 1), written(5, 6, 7, 8)]
    for gate, refusals in (("0", ["", "", ""]), ("0.3", ["", "not novel", ""])):
        made = Stage(
            executor, Cast({D: [ADD], I: proposals}, ANSWERS), tasks__kinds=f"{D},{I}", batch_size="3",
            tasks__novelty_gate=gate,
        )  # fmt: skip
        made.put(D, SEED, "'one'")
        played = made.play().proposed[I]
        assert [p.refusal for p in played] == refusals
        assert (played[1].kept == Unkept.DUPLICATE) == (gate == "0") and played[1].reward == -0.5


def test_the_gate_remembers_what_was_evicted(executor):
    made = deduction(
        executor, programs("x ** 5 - 1"), {"": ["31" + END]}, tasks__novelty_gate="0.3", buffer__capacity="2"
    )
    made.put(D, "def f(x):\n    return x ** 5 - 1", "9", seed=False)
    made.put(D, "def f(x):\n    return {x: str(x)}", "9", seed=False)  # evicts it
    assert "x ** 5" not in "".join(entry.task.program for entry in made.buffers[D])
    (proposed,) = made.play().proposed[D]
    assert proposed.refusal == "not novel"


# --- seeding


def seeds(count: int = 40) -> list[str]:
    return programs(*(f"x * {number}" for number in range(2, 2 + count)))


@acts("seeding.factor")
@pytest.mark.parametrize("factor", [1, 3])
def test_the_model_fills_its_buffers_to_s_times_b(executor, tmp_path, factor):
    flags = {"tasks__kinds": f"{D},{A}", "batch_size": "2", "seeding__factor": str(factor), "rollout__slots": "4"}
    made = Stage(executor, Cast({D: seeds(), A: seeds()}, {}), tmp_path, **flags)
    assert made.seeding().fill()
    assert [len(made.buffers[kind]) for kind in (D, A)] == [2 * factor, 2 * factor]
    assert all(entry.seed and entry.iteration == 0 for entry in made.buffers[D])


@acts("seeding.max_rounds")
def test_a_model_that_writes_nothing_valid_is_stopped_and_told_why(executor, tmp_path):
    made = Stage(
        executor, Cast({D: ["no blocks", *programs("1 / 0")]}, {}), tmp_path, tasks__kinds=D, seeding__max_rounds="2"
    )
    with pytest.raises(SeedingFailed) as stopped:
        made.seeding().fill()
    text = str(stopped.value)
    # Two rounds of four slots, half of each sort; the identity triplet is the one task there is.
    assert "seeding of deduction gave up after 2 rounds with 1 of 4 tasks" in text
    assert "    4  block not closed" in text
    assert "    4  raised" in text
    assert text.count("--- a proposal of the model ---") == 3 and "1 / 0" in text and "tasks.prompt_style" in text


def test_a_model_that_only_repeats_itself_is_told_so(executor, tmp_path):
    made = Stage(executor, Cast({D: programs("x * 2")}, {}), tmp_path, tasks__kinds=D, seeding__max_rounds="2")
    with pytest.raises(SeedingFailed, match=r"with 2 of 4 tasks(.|\n)*  7  already kept"):
        made.seeding().fill()


@acts("seeding.strip")
@pytest.mark.parametrize(
    ("strip", "kept"), [("true", "def f(x):\n    return x + 2"), ("false", "def f(x):\n    return x + 2  # two\nN = 3")]
)
def test_what_seed_programs_lose(executor, tmp_path, strip, kept):
    written = "x):\n    return x + 2  # two\nN = 3\n```\n```input\n1\n```"
    made = Stage(
        executor, Cast({D: [written, *seeds()]}, {}), tmp_path, tasks__kinds=D, batch_size="2", seeding__strip=strip
    )
    assert made.seeding().fill()
    assert [entry.task.program for entry in made.buffers[D]] == ["def f(x):\n    return x", kept]
    # After seeding programs stay as they are written.
    (*_, played) = made.play().proposed[D][:1]
    assert played.task.program.endswith("# two\nN = 3")


@acts("seeding.import_from")
def test_an_imported_file_is_validated_row_by_row_and_refusals_are_listed(executor, tmp_path):
    rows = [
        {"snippet": "def f(x):\n    # kept as it is\n    return x * 2", "input": "4", "output": "a lie"},
        {"snippet": "def f(x):\n    return y", "input": "1", "output": "1"},
        {"snippet": "def f(x):\n    return x", "inputs": ["1", "2", "3", "4"], "outputs": [], "message": "m"},
        {"snippet": "def f(x):\n    return 'long' * 1100", "input": "1", "output": "1"},
    ]
    (tmp_path / "seeds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = Stage(
        executor, Cast({D: seeds()}, {}), tmp_path, tasks__kinds=D, batch_size="3",
        seeding__import_from=str(tmp_path / "seeds.jsonl"), rollout__max_prompt_tokens="4000",
    )  # fmt: skip
    seeding = made.seeding()
    assert seeding.fill()
    first, second, third = (entry.task for entry in made.buffers[D])
    assert third.program == "def f(x):\n    return x * 2", "the model's own; what is in the file is kept as it is"
    assert first.program == "def f(x):\n    return x" and second.program == rows[0]["snippet"]
    assert second.output == "8", "the executor's word, not the file's"
    assert dict(seeding.refused_reasons()) == {"raised": 1, "of a kind that is not played": 1, "output too long": 1}


def test_a_file_of_which_nothing_can_be_played_is_refused(executor, tmp_path):
    (tmp_path / "seeds.jsonl").write_text(json.dumps({"snippet": "def f(x):\n    return y", "input": "1"}))
    made = Stage(
        executor, Cast({D: seeds()}, {}), tmp_path, tasks__kinds=D, seeding__import_from=str(tmp_path / "seeds.jsonl")
    )
    with pytest.raises(SeedingFailed, match=r"none of its 1 rows is a task(.|\n)*  1  raised"):
        made.seeding().fill()


def test_a_prompt_that_cannot_fit_stops_seeding_with_the_field(executor, tmp_path):
    made = Stage(executor, Cast({D: seeds()}, {}), tmp_path, tasks__kinds=D, rollout__max_prompt_tokens="20")
    with pytest.raises(SeedingFailed, match=r"rollout\.max_prompt_tokens=20: the prompt has \d+ tokens"):
        made.seeding().fill()


def test_seeding_goes_on_where_it_was_stopped(executor, tmp_path):
    def contents(made: Stage) -> list:
        return [(entry.id, entry.task) for kind in (D, A) for entry in made.buffers[kind]]

    flags = {"tasks__kinds": f"{D},{A}", "batch_size": "5", "seeding__factor": "2", "rollout__slots": "2"}
    made = Stage(executor, Cast({D: seeds(), A: seeds(60)}, {}), tmp_path / "whole", **flags)
    (tmp_path / "whole").mkdir()
    assert made.seeding().fill()
    (tmp_path / "halves").mkdir()
    for stop_after in (2, 99):
        half = Stage(executor, Cast({D: seeds(), A: seeds(60)}, {}), tmp_path / "halves", **flags)
        seeding, looks = half.seeding(), itertools.count(1)
        seeding.stop_asked = lambda looks=looks, last=stop_after: next(looks) > last
        assert seeding.fill() == (stop_after == 99)
    assert contents(half) == contents(made)


# --- buffer


@acts("buffer.capacity", "buffer.evict")
@pytest.mark.parametrize(
    ("flags", "kept", "full"),
    [
        ({"buffer__capacity": "9"}, [SEED, "x + 1", "x + 2", "a + b"], 0.0),
        ({"buffer__capacity": "3"}, [SEED, "x + 2", "a + b"], 0.0),
        ({"buffer__capacity": "3", "preset": "reference"}, [SEED, "x + 1", "x + 2"], 1.0),
        ({"buffer__capacity": "3", "buffer__evict": "keep_oldest"}, [SEED, "x + 1", "x + 2"], 1.0),
    ],
)
def test_who_goes_when_a_buffer_is_full(executor, flags, kept, full):
    made = deduction(executor, **flags)
    for number in (1, 2):
        made.put(D, f"def f(x):\n    return x + {number}", "1", seed=False)
    (proposed,) = made.play().proposed[D]
    there = sorted(entry.task.program for entry in made.buffers[D])
    assert len(there) == len(kept) and all(any(body in program for program in there) for body in kept)
    # A full buffer that keeps its oldest refuses what is new: that is no duplicate.
    assert (made.numbers["propose/deduction/full_rate"], made.numbers["propose/deduction/duplicate_rate"]) == (
        full,
        0.0,
    )
    assert (proposed.kept == Unkept.FULL) == bool(full) and proposed.reward == 0.5


@acts("buffer.reference_sampling")
def test_which_references_are_shown(executor):
    def shown(how: str) -> list[int]:
        made = deduction(executor, buffer__reference_sampling=how, batch_size="40", buffer__capacity="1000")
        entries = [made.know(D, f"def f(x):\n    return x + {n}", "1", 1 + n) for n in range(300)]
        for place, entry in enumerate(entries):
            made.buffers[D].set_solve_rate(entry.id, 0.5 if place < 30 else 1.0)
        first = entries[0].id
        return [(p.references[0] - first) // len(Kind) for p in made.play().proposed[D]]

    uniform, recent, learnability = shown("uniform"), shown("recent"), shown("learnability")
    assert min(recent) >= 300 - 256 and min(uniform) < 300 - 256  # the chance of no such draw in 40 is 0.2 %
    # 30 entries of weight 1 and 270 of weight 0.05: about 27 of 40; uniformly 4 of 40.
    assert sum(place < 30 for place in learnability) > 17 > sum(place < 30 for place in uniform)


@acts("buffer.solve_sampling")
@pytest.mark.parametrize(("how", "least", "most"), [("max_new", 4, 4), ("half_new", 2, 4), ("uniform", 0, 2)])
def test_which_tasks_are_solved(executor, how, least, most):
    new = programs("x + 1", "x + 2", "x + 3", "x + 4")
    made = deduction(executor, new, {}, batch_size="4", buffer__solve_sampling=how)
    for number in range(200):
        made.know(D, f"def f(x):\n    return x * {number}", "1", number)
    solved = made.play().solved[D]
    assert len(solved) == 4 and least <= sum("x + " in s.task.program for s in solved) <= most


def bodies(solved) -> list[str]:
    return [s.task.program.partition("return ")[2] for s in solved]


@acts("buffer.solve_sampling", "buffer.frontier_low", "buffer.frontier_high")
@pytest.mark.parametrize(
    ("flags", "first"),
    [
        ({"buffer__solve_sampling": "max_new"}, set()),
        ({}, {"x * 3", "x * 4", "x * 5"}),
        ({"buffer__frontier_low": "0.5", "buffer__frontier_high": "1"}, {"x * 4", "x * 5", "x * 6"}),
    ],
)
def test_the_frontier_is_what_was_measured_between_two_solve_rates(executor, flags, first):
    several = {"batch_size": "5", "tasks__estimate_attempts": "4", "buffer__solve_sampling": "frontier"} | flags
    answers = {f"* {n}": [f"{2 * n}{END}"] * (n - 2) + ["no" + END] for n in range(2, 7)}
    made = deduction(executor, programs(*(f"x * {n}" for n in range(2, 7))), answers, **several)
    played = made.play(1)
    assert [p.solve_rate for p in played.proposed[D]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert all("x * " in body for body in bodies(played.solved[D])), "where nothing is measured yet, new tasks"
    made.engine.proposals = {D: programs(*(f"x + {n}" for n in range(5)))}
    asked = bodies(made.play(2).solved[D])
    assert set(asked[: len(first)]) == first
    assert len(asked) == 5 and all("x + " in body for body in asked[len(first) :]), "filled up with new tasks"


def test_mistakes_are_what_was_failed_last_and_can_be_solved(executor):
    # Estimates are right, wrong, ...; a solution is what the first attempt says: x * 2 and x * 3 are failed, x * 4 is
    # solved, and nobody ever solved x * 5.
    answers = {"* 2": ["no", "4"], "* 3": ["no", "6"], "* 4": ["8", "no"], "* 5": ["no"]}
    answers = {piece: [text + END for text in texts] for piece, texts in answers.items()}
    flags = {"batch_size": "4", "buffer__solve_sampling": "mistakes"}
    made = deduction(executor, programs("x * 2", "x * 3", "x * 4", "x * 5"), answers, **flags)
    made.play(1)
    made.engine.proposals = {D: programs(*(f"x + {n}" for n in range(4)))}
    made.engine.answers = {"* 2": ["4" + END], "* 3": ["no" + END], "+ ": ["no" + END]}
    asked = bodies(made.play(2).solved[D])
    assert set(asked[:2]) == {"x * 2", "x * 3"} and all("x + " in body for body in asked[2:])
    made.engine.proposals = {D: programs(*(f"x - {n}" for n in range(4)))}
    # Now x * 2 is solved; x + n is failed too, but no attempt had solved it.
    asked = bodies(made.play(3).solved[D])
    assert asked[0] == "x * 3" and all("x - " in body for body in asked[1:])


@acts("buffer.valid_program_filter")
@pytest.mark.parametrize(
    ("which", "kept"), [("all", "right wrong some"), ("non_one", "wrong some"), ("non_extremes", "some")]
)
def test_which_valid_tasks_are_kept_by_their_solve_rate(executor, which, kept):
    """Whatever the filter, all are paid alike: what is nothing to learn from is priced by its reward alone."""
    bodies = {"right": "x * 7", "wrong": "x * 8", "some": "x * 9"}
    answers = {
        "x * 7": ["14" + END],
        "x * 8": ["no" + END],
        "x * 9": ["18" + END, "no" + END],
        "[x]": ["['one']" + END],
    }
    made = deduction(executor, programs(*bodies.values()), answers, batch_size="3", buffer__valid_program_filter=which)
    played = made.play()
    rates = dict(zip(bodies, [p.solve_rate for p in played.proposed[D]], strict=True))
    assert rates == {"right": 1.0, "wrong": 0.0, "some": 0.5}
    assert [p.reward for p in played.proposed[D]] == [0.0, 0.0, 0.5]
    there = "".join(entry.task.program for entry in made.buffers[D])
    assert [name for name, body in bodies.items() if body in there] == kept.split()
    assert made.numbers["propose/deduction/filtered_rate"] == (3 - len(kept.split())) / 3
    assert len(played.solved[D]) == 3, "what is left of the buffer fills the solve batch"


# --- the learner's baselines


@acts("learner.advantage", "learner.rae_decay")
def test_a_moving_baseline_remembers_the_iterations_before(executor):
    # A proposal worth 1/2 each time; the baseline starts there, is put to 0, and moves half of the way, or a tenth.
    for decay, baselines in (("0.5", [0.25, 0.375]), ("0.9", [0.05, 0.095])):
        made = deduction(executor, learner__advantage="rae", learner__rae_decay=decay, rewards__duplicate="full")
        (proposed,) = made.play(1).proposed[D]
        assert proposed.reward == 0.5 and proposed.advantage == 0.0
        made.self_play.baselines.values["propose/deduction"] = 0.0
        advantages = [made.play(number).proposed[D][0].advantage for number in (2, 3)]
        assert advantages == pytest.approx([0.5, 0.5 - baselines[0]])
        assert made.numbers["propose/deduction/advantage/baseline"] == pytest.approx(baselines[1])


def test_dr_grpo_does_not_divide_by_the_deviation(executor):
    made = deduction(executor, [ADD, "no"], batch_size="2", learner__policy_loss="dr_grpo")
    rewards = [proposed.reward for proposed in made.play().proposed[D]]
    advantages = [proposed.advantage for _, proposed in made.chosen[:2]]
    assert advantages == pytest.approx([reward - sum(rewards) / 2 for reward in rewards]) and advantages[0] > 0


# --- rewards


@acts("preset", "rewards.zero_learnability")
@pytest.mark.parametrize(
    ("flags", "worth"),
    [({}, 0.0), ({"preset": "reference"}, -0.5), ({"rewards__zero_learnability": "0.25"}, 0.25)],
)
def test_a_task_that_everybody_solves(executor, flags, worth):
    (proposed,) = deduction(executor, answers={"a + b": ["3" + END]}, **flags).play().proposed[D]
    assert proposed.solve_rate == 1.0 and proposed.reward == worth


@acts("rewards.learnability", "rewards.peak_power", "rewards.peak_at")
@pytest.mark.parametrize(
    ("flags", "worth"),
    [
        ({}, 0.75),
        ({"rewards__learnability": "peak"}, 0.75),  # 4 x 1/4 x 3/4
        ({"rewards__learnability": "peak", "rewards__peak_power": "2"}, 0.5625),
        ({"rewards__learnability": "peak", "rewards__peak_at": "0.25"}, 1.0),
    ],
)
def test_learnability_at_a_solve_rate_of_a_quarter(executor, flags, worth):
    answers = {"a + b": ["3" + END, "4" + END]}
    (proposed,) = deduction(executor, answers=answers, tasks__estimate_attempts="4", **flags).play().proposed[D]
    assert proposed.solve_rate == 0.25 and proposed.reward == worth


def test_paper_and_peak_differ_off_the_middle(executor):
    answers = {"a + b": ["4" + END, "3" + END]}
    for name, worth in (("paper", 0.25), ("peak", 0.75)):
        made = deduction(executor, answers=answers, tasks__estimate_attempts="4", rewards__learnability=name)
        (proposed,) = made.play().proposed[D]
        assert proposed.solve_rate == 0.75 and proposed.reward == worth


@acts("rewards.duplicate")
@pytest.mark.parametrize(
    ("flags", "worth"),
    [({}, -0.5), ({"preset": "reference"}, 0.75), ({"rewards__duplicate": "-0.1"}, -0.1),
     ({"rewards__duplicate": "full"}, 0.75)],
)  # fmt: skip
def test_a_copy_is_known_by_what_was_asked_first_whatever_comes_first(executor, flags, worth):
    """Of five proposals two are new. The engine answers the last one first, so copies are valid before these are."""
    seed, new = "x):\n    return [x]\n```\n```input\n'one'\n```", programs("[x] + [x]")[0]
    copies = {
        "of a seed, commented": seed.replace("[x]", "[x]  # a list"),
        "new": new,
        "of its batch, renamed": new.replace("x", "given"),
        "new too": new.replace("2\n", "3\n"),
        "of its batch, with what is never used": new.replace("    return", "    pass\n    y = 1\n    return"),
    }
    each = (("'one'", "['one']"), ("\n3\n", "[3, 3]"), ("", "[2, 2]"))
    answers = {piece: [right + END, "no" + END] for piece, right in each}
    many = {"batch_size": "5", "tasks__estimate_attempts": "4"} | flags
    made = deduction(executor, list(copies.values()), answers, **many)
    played = made.play().proposed[D]
    assert {name for name, p in zip(copies, played, strict=True) if p.entry_id is not None} == {"new", "new too"}
    assert [p.kept == Unkept.DUPLICATE for p in played] == [True, False, True, False, True]
    assert [p.reward for p in played] == [worth, 0.75, worth, 0.75, worth]
    # Of the batch's copies it is known too late; nobody asks about a copy of a seed unless it is paid for.
    assert [len(p.attempts) for p in played] == [4 if worth > 0 else 0, 4, 4, 4, 4]
    n = made.numbers
    assert (n["propose/deduction/duplicate_rate"], n["propose/deduction/duplicates_paid"]) == (0.6, float(worth > 0))
    assert n.get("propose/deduction/reward/duplicate", 0.0) == pytest.approx(min(worth, 0.0) * 0.6)


def test_the_solver_learns_from_attempts_at_copies_where_it_learns_from_estimates(executor):
    made = deduction(executor, ["x):\n    return [x]\n```\n```input\n'one'\n```"], tasks__train_on_estimates="true")
    (proposed,) = made.play().proposed[D]
    assert (len(proposed.attempts), proposed.kept, proposed.reward) == (2, Unkept.DUPLICATE, -0.5)


@acts("rewards.invalid", "rewards.wrong", "rewards.format_error")
def test_prices_of_failure(executor):
    flags = {"rewards__invalid": "-0.4", "rewards__wrong": "-0.2", "rewards__format_error": "-3", "batch_size": "2"}
    made = deduction(executor, ["x):\n    return x\n```", *programs("1 / 0")], {"": ["7" + END]}, **flags)
    played = made.play()
    assert isinstance(played.proposed[D][0].proposal, FormatError)
    assert [p.reward for p in played.proposed[D]] == [-3.0, -0.4]
    assert {s.reward for s in played.solved[D]} == {-0.2}


TERMS = ("complexity", "halstead", "ast_distance", "answer_diversity")


@acts(*(f"rewards.intrinsic.{term}" for term in TERMS), "rewards.intrinsic_cap", "rewards.combine")
@pytest.mark.parametrize("term", TERMS)
def test_each_intrinsic_term_adds_its_weight_times_what_was_measured(executor, term):
    branch = "x):\n    return 1 if x else 2\n```\n```input\n5\n```"
    answers = {"if x": ["1" + END, "2" + END]}
    (plain,) = deduction(executor, [branch], answers).play().proposed[D]
    made = deduction(executor, [branch], answers, **{f"rewards__intrinsic__{term}": "0.5"})
    (paid,) = made.play().proposed[D]
    measured = plain.traits.terms(D)[term]
    assert plain.reward == 0.5 and 0.0 < measured <= 1.0
    assert paid.reward == pytest.approx(0.5 + 0.5 * measured)
    assert made.numbers["propose/deduction/reward/intrinsic"] == pytest.approx(0.5 * measured)
    assert made.numbers["propose/deduction/reward/learnability"] == 0.5
    if term == "complexity":
        assert measured == 1 / (1 + 3)
        capped = {f"rewards__intrinsic__{term}": "4", "rewards__intrinsic_cap": "0.75"}
        assert [p.reward for p in deduction(executor, [branch], answers, **capped).play().proposed[D]] == [1.25]
        times = {f"rewards__intrinsic__{term}": "0.5", "rewards__combine": "multiply"}
        (multiplied,) = deduction(executor, [branch], answers, **times).play().proposed[D]
        assert multiplied.reward == pytest.approx(0.5 * 0.5 * 0.25)


@acts("rewards.memory.nearest", "rewards.memory.mean")
def test_what_is_like_the_history_loses_some_of_what_it_earned(executor):
    """Four proposals of learnability 1/2. Nothing is like the first; the others follow one another, request by request.

    `x ** 5 - 2` is near to the first one, in its batch, and `{x: str(x)}` is not; the last is a task that all solve.
    """
    written = programs("x ** 5 - 1", "x ** 5 - 2", "{x: str(x)}", "x ** 5 - 3")
    answers = {"- 1": ["31", "no"], "- 2": ["30", "no"], "str": ["{2: '2'}", "no"], "- 3": ["29"]}
    answers = {piece: [text + END for text in texts] for piece, texts in answers.items()}

    def played(**flags):
        made = deduction(executor, written, answers, batch_size="4", **flags)
        return made.play().proposed[D], made.numbers

    plain, _ = played()
    nearest, mean = ([p.traits.familiarity[name] for p in plain] for name in ("nearest", "mean"))
    assert [p.reward for p in plain] == [0.5, 0.5, 0.5, 0.0]
    assert nearest[1] > 0.6 > nearest[2] and mean[1] < nearest[1] < nearest[3] + 0.2
    for flags, lost in (
        ({"nearest": "0.5"}, [0.5 * near for near in nearest]),
        ({"mean": "0.5"}, [0.5 * near for near in mean]),
        (
            {"nearest": "0.2", "mean": "0.3"},
            [0.2 * near + 0.3 * all_ for near, all_ in zip(nearest, mean, strict=True)],
        ),
        ({"nearest": "10"}, [min(10 * near, 0.5) for near in nearest]),
    ):
        paid, numbers = played(**{f"rewards__memory__{name}": weight for name, weight in flags.items()})
        wanted = [0.5 - loss for loss in lost[:3]] + [0.0]
        assert [p.reward for p in paid] == pytest.approx(wanted), "never below what teaches nothing"
        assert numbers["propose/deduction/reward/memory"] == pytest.approx(-sum(lost[:3]) / 4)


@acts("rewards.control")
def test_control_experiments_spoil_what_the_update_is_told_and_nothing_else(executor):
    (honest, flipped) = (
        deduction(executor, [ADD, "no"], batch_size="2", rewards__control=c) for c in ("none", "flipped")
    )
    told = []
    for made in (honest, flipped):
        assert [p.reward for p in made.play().proposed[D]] == [0.5, -1.0]
        told.append([item.advantage for role, item in made.chosen if role == Role.PROPOSE])
    assert told[0] == [1.0, -1.0] and told[1] == [-1.0, 1.0]
    # Shuffled: of 64 groups of two about half are dealt the wrong way round.
    from azr_jax.learner.advantages import rewards_told
    from azr_jax.selfplay.proposing import draw

    rewards, groups = zip(*[(item.reward, (role, item.kind)) for role, item in honest.chosen])
    dealt = [rewards_told(rewards, groups, "shuffled", draw(0, n, "control"))[:2] for n in range(64)]
    assert 16 <= dealt.count([-1.0, 0.5]) <= 48 and all(sorted(two) == [-1.0, 0.5] for two in dealt)


def test_no_field_of_these_groups_is_without_a_test():
    groups = ("tasks.", "seeding.", "buffer.", "rewards.")
    assert {field for field in RULES if field.startswith(groups)} <= TESTED


@acts("tasks.examples")
def test_which_worked_examples_are_shown(executor):
    for how, times in (("one", 1), ("several", 3), ("none", 0)):
        asked_by = deduction(
            executor, tasks__prompt_style="completion", tasks__examples=how
        ).self_play.proposer.prompter
        assert asked_by.solve(D, Triplet(SEED, "1", "[1]", "int:1")).prompt.text.count("```output") == times
