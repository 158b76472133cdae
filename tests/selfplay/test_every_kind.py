"""Whole iterations of each kind in both presets, played by a script: every number is worked out by hand.

Four proposals of a kind. 0 lacks its blocks. 1 becomes a task X that one of four attempts solves. 2 is refused by the
executor. 3 becomes a task Y that every attempt solves. Two seeds are in the buffer, so the solve batch is X, Y and the
seeds: X and Y are solved, the first seed is answered wrongly, the second without a block.
"""

import pytest

from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.tasks.types import FormatError, Kind
from tests.selfplay.scripted import Cast, Stage

END = "\n```"
X_DEDUCTION = "a, b):\n    return a + b\n```\n```input\n1, 2\n```"
Y_DEDUCTION = "a, b):\n    return a * b\n```\n```input\n3, 4\n```"
BANNED = "x):\n    import random\n    return x\n```\n```input\n1\n```"
NO_BLOCKS = "x):\n    return x\n```"


class Script:
    """One kind: seeds, proposals, what X and Y are, and the attempts at each task."""

    def __init__(self, seeds, proposals, kept, answers):
        self.seeds, self.proposals, self.kept, self.answers = seeds, proposals, kept, answers


SCRIPTS = {
    Kind.DEDUCTION: Script(
        seeds=[("def f(x):\n    return [x]", ("'one'",)), ("def f(x):\n    return (x, x)", ("'two'",))],
        proposals=[NO_BLOCKS, X_DEDUCTION, BANNED, Y_DEDUCTION],
        kept=[("def f(a, b):\n    return a + b", "1, 2", "3"), ("def f(a, b):\n    return a * b", "3, 4", "12")],
        answers={
            "a + b": ["3" + END, "4" + END, "", "five" + END],
            "a * b": ["12" + END],
            "[x]": ["'one'" + END],
            "(x, x)": [""],
        },
    ),
    Kind.ABDUCTION: Script(
        seeds=[("def f(x):\n    return [x]", ("'one'",)), ("def f(x):\n    return (x, x)", ("'two'",))],
        proposals=[NO_BLOCKS, X_DEDUCTION, BANNED, Y_DEDUCTION],
        kept=[("def f(a, b):\n    return a + b", "1, 2", "3"), ("def f(a, b):\n    return a * b", "3, 4", "12")],
        answers={
            "a + b": ["0, 3" + END, "1, 1" + END, "", "'1', '2'" + END],  # any input that gives 3 is right
            "a * b": ["2, 6" + END],
            "[x]": ["'two'" + END],
            "(x, x)": [""],
        },
    ),
    Kind.INDUCTION: Script(
        seeds=[
            ("def f(x):\n    return x * x", ("1", "2", "3", "4"), "seed one"),
            ("def f(x):\n    return x * x", ("5", "6", "7", "8"), "seed two"),
        ],
        proposals=[
            "only words\n```",
            "task X\n```" + "".join(f"\n```input\n{given}\n```" for given in ("0", "1", "2", "-3")),
            "task Z\n```" + "".join(f"\n```input\n{given}\n```" for given in ("'a'", "'b'", "'c'", "'d'")),  # all raise
            "task Y\n```" + "".join(f"\n```input\n{given}\n```" for given in ("9", "1.5", "-1", "10")),
        ],
        kept=[
            ("def f(x):\n    return x * x", ("0", "1", "2", "-3"), ("0", "1", "4", "9"), "task X"),
            ("def f(x):\n    return x * x", ("9", "1.5", "-1", "10"), ("81", "2.25", "1", "100"), "task Y"),
        ],
        answers={
            # The second is right on what is shown, f(0) = 0 and f(1) = 1, and wrong on what is hidden.
            "task X": ["x):\n    return x ** 2" + END, "x):\n    return x" + END, "", "x):\n    return 1 / 0" + END],
            "task Y": ["x):\n    return x * x" + END],
            "seed one": ["x):\n    return 2 * x" + END],
            "seed two": [""],
        },
    ),
    Kind.ERROR: Script(
        seeds=[("def f(x):\n    return [x]", ("'one'",)), ("def f(x):\n    return (x, x)", ("'two'",))],
        proposals=[
            NO_BLOCKS,
            "a, b):\n    return a + b\n```\n```input\n'1', 2\n```",
            BANNED,
            "a, b):\n    return [a][b]\n```\n```input\n3, 0\n```",
        ],
        kept=[
            ("def f(a, b):\n    return a + b", "'1', 2", "TypeError"),
            ("def f(a, b):\n    return [a][b]", "3, 0", "NoError"),
        ],
        answers={
            "a + b": ["TypeError" + END, "ValueError" + END, "", "NoError" + END],
            "[a][b]": ["NoError" + END],
            "[x]": ["KeyError" + END],
            "(x, x)": [""],
        },
    ),
}
REFUSED = {Kind.INDUCTION: "raised"}  # of proposal 2; every other kind's holds a module that is not allowed
# Of what the two new tasks have to be answered with, how rare that is among the answers of the seeds. Induction: three
# of the four outputs of X, and one of Y, were one of the eight so far. Error: TypeError never was, NoError always.
DIVERSITY = {Kind.INDUCTION: 1 - (3 / 32 + 1 / 32) / 2, Kind.ERROR: 0.5}


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


def stage(executor, kind, **flags) -> Stage:
    script = SCRIPTS[kind]
    made = Stage(
        executor, Cast({kind: script.proposals}, script.answers), tasks__kinds=kind, **import_for(kind), **flags
    )
    for program, inputs, *message in script.seeds:
        made.put(kind, program, *inputs, message="".join(message))
    return made


def import_for(kind) -> dict[str, str]:
    """Induction alone has no source of programs but a file; these tests put its tasks in themselves."""
    if kind != Kind.INDUCTION:
        return {}
    from tests.run.test_whole_loop import SEEDS

    return {"seeding__import_from": str(SEEDS)}


def contents(task) -> tuple:
    if hasattr(task, "inputs"):
        return task.program, task.inputs, task.outputs, task.message
    return task.program, task.input, task.output


def by_tokens(rewards, lengths) -> list[float]:
    """Standardised with every token counting once: what the public code does."""
    total = sum(lengths)
    mean = sum(r * n for r, n in zip(rewards, lengths, strict=True)) / total
    std = (sum(n * (r - mean) ** 2 for r, n in zip(rewards, lengths, strict=True)) / total) ** 0.5
    return [(r - mean) / std for r in rewards]


@pytest.mark.parametrize("preset", ["paper", "reference"])
@pytest.mark.parametrize("kind", list(Kind))
def test_an_iteration_by_hand(executor, kind, preset):
    made = stage(executor, kind, preset=preset)
    played = made.play()
    proposed, solved = played.proposed[kind], played.solved[kind]

    # Tasks accepted, and what the buffer holds afterwards.
    assert isinstance(proposed[0].proposal, FormatError) and proposed[0].refusal == "no input block"
    assert proposed[2].task is None and proposed[2].refusal == REFUSED.get(kind, "banned import")
    assert [contents(p.task) for p in (proposed[1], proposed[3])] == SCRIPTS[kind].kept
    kept = list(made.buffers[kind])
    assert [contents(entry.task) for entry in kept[2:]] == SCRIPTS[kind].kept
    assert [(entry.iteration, entry.seed, entry.solve_rate) for entry in kept] == [
        (0, True, None), (0, True, None), (1, False, 0.25), (1, False, 1.0),
    ]  # fmt: skip
    assert [proposed[1].entry_id, proposed[3].entry_id] == [entry.id for entry in kept[2:]]

    # Rewards: 1 - 1/4 for X. The presets differ in what was refused, and in Y, from which nothing can be learned.
    refused, nothing = {"paper": (-0.5, 0.0), "reference": (-1.0, -0.5)}[preset]
    assert [a.correct for a in proposed[1].attempts] == [True, False, False, False]
    assert [a.reward for a in proposed[1].attempts] == [1.0, -0.5, -1.0, -0.5], "an opened block alone is no answer"
    assert [p.reward for p in proposed] == [-1.0, 0.75, refused, nothing]
    by_task = {s.task_id: s for s in solved}
    assert [by_task[entry.id].reward for entry in kept] == [-0.5, -1.0, 1.0, 1.0]

    # Advantages. Paper: of the proposer mean -3/16 and variance 0.41796875, of the solver mean 1/8 and variance
    # 0.796875.
    found = [p.advantage for p in proposed], [by_task[entry.id].advantage for entry in kept]
    if preset == "paper":
        expected = [-1.256754, 1.450101, -0.483367, 0.290020], [-0.700140, -1.260252, 0.980196, 0.980196]
    else:
        tokens = [len(p.completion.rollout.tokens) for p in proposed]
        answered = [len(by_task[entry.id].completion.rollout.tokens) for entry in kept]
        assert tokens[0] == len(SCRIPTS[kind].proposals[0]) + 1, "the end-of-text token counts"
        expected = by_tokens([-1.0, 0.75, -1.0, -0.5], tokens), by_tokens([-0.5, -1.0, 1.0, 1.0], answered)
    assert found[0] == pytest.approx(expected[0], abs=1e-5)
    assert found[1] == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_measured_by_hand(executor, kind):
    made = stage(executor, kind)
    played = made.play()
    n, script = made.numbers, SCRIPTS[kind]
    p, e, s = f"propose/{kind}", f"estimate/{kind}", f"solve/{kind}"
    assert (n[f"{p}/valid_rate"], n[f"{p}/format_error_rate"], n["propose/valid_rate"]) == (0.5, 0.25, 0.5)
    assert sum(value for name, value in n.items() if name.startswith(f"{p}/refused/")) == 0.5
    assert n[f"{p}/refused/no input block"] == 0.25
    assert (n[f"{p}/duplicate_rate"], n[f"{p}/full_rate"]) == (0.0, 0.0)
    assert n[f"{p}/duplicates_paid"] == 0.0
    # Solve rates 1/4 and 1: the third and the last of nine bins.
    assert [n[f"{e}/solve_rate/hist_{b}"] for b in range(9)] == [0, 0, 0.5, 0, 0, 0, 0, 0, 0.5]
    assert (n[f"{e}/solve_rate/mean"], n[f"{e}/agree_rate"]) == (0.625, 0.5)
    # X was answered differently by every attempt that answered, Y alike by all four.
    assert n[f"{e}/disagreement"] == 0.5
    # Rewards -1, 3/4, -1/2, 0 and their parts, which sum to the mean.
    assert n[f"{p}/reward/mean"] == -0.1875 and n[f"{p}/reward/std"] == pytest.approx(0.41796875**0.5)
    parts = {"format_error": -0.25, "learnability": 0.1875, "invalid": -0.125, "nothing_learned": 0.0}
    assert {name: n[f"{p}/reward/{name}"] for name in parts} == parts
    parts = {"format_error": -0.25, "wrong": -0.125, "score": 0.5}
    assert {name: n[f"{s}/reward/{name}"] for name in parts} == parts
    assert n[f"{s}/reward/mean"] == (2.0 - 0.5 - 1.0) / 4 and n[f"{s}/accuracy"] == 0.5
    assert n[f"{s}/format_error_rate"] == 0.25
    lengths = [len(text) + 1 for text in script.proposals]
    assert n[f"{p}/length/mean"] == sum(lengths) / 4 and n[f"{p}/length/p95"] == max(lengths)
    assert (
        n[f"{p}/length/good"] == (lengths[1] + lengths[3]) / 2 and n[f"{p}/length/bad"] == (lengths[0] + lengths[2]) / 2
    )
    assert (n[f"{p}/length/clipped"], n[f"{p}/repeats"], n[f"{s}/repeats"]) == (0.0, 0.0, 0.0)
    assert (n[f"{p}/advantage/zero"], n[f"{s}/advantage/zero"], n["advantage/flat_share"]) == (0.0, 0.0, 0.0)
    assert (n[f"buffer/{kind}/size"], n[f"buffer/{kind}/age"]) == (4.0, 0.5)  # two of iteration 0, two of this one
    assert 0.0 <= n[f"novelty/{kind}/nearest"] <= 1.0
    if kind == Kind.INDUCTION:  # about a program that was there already with other inputs, and solved as it is
        assert n[f"novelty/{kind}/nearest"] > 0.0 and n[f"novelty/{kind}/complexity_gap"] == 0.0
    else:
        assert 0.0 < n[f"novelty/{kind}/ast_distance"] < 1.0
    assert n[f"novelty/{kind}/distinct_inputs"] == 1.0 and n[f"novelty/{kind}/diversity"] == DIVERSITY.get(kind, 1.0)
    assert n[f"novelty/{kind}/lines"] == 2.0 and n[f"novelty/{kind}/complexity"] == 0.0
    assert n[f"novelty/{kind}/distinct_input_types"] == {Kind.INDUCTION: 2.0, Kind.ERROR: 2.0}.get(kind, 1.0)
    assert all(isinstance(value, float) for value in n.values())
    assert played.waited_s >= 0.0


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("preset", "rewards", "paid", "attempts"),
    [("paper", [-1.0, -0.5, -0.5, -0.5], 0.0, 0), ("reference", [-1.0, 0.75, -1.0, -0.5], 0.5, 4)],
)
def test_the_same_proposals_again_are_copies_and_are_not_kept(executor, kind, preset, rewards, paid, attempts):
    """A copy once earned what the new task had: 3/4 for nothing. Now nobody even asks how hard it is."""
    made = stage(executor, kind, preset=preset)
    made.play(1)
    before = [(entry.id, entry.solve_rate) for entry in made.buffers[kind]]
    played = made.play(2)
    assert [(entry.id, entry.solve_rate) for entry in made.buffers[kind]] == before
    assert [p.reward for p in played.proposed[kind]] == rewards
    assert [len(p.attempts) for p in played.proposed[kind]] == [0, attempts, 0, attempts]
    assert made.numbers[f"propose/{kind}/duplicate_rate"] == 0.5
    assert made.numbers[f"propose/{kind}/duplicates_paid"] == paid
    assert made.numbers[f"novelty/{kind}/nearest"] == 0.0
    assert made.numbers[f"buffer/{kind}/age"] == 1.5  # 2, 2, 1, 1


def test_all_kinds_in_one_iteration_play_side_by_side_and_have_baselines_of_their_own(executor):
    kinds = list(Kind)
    proposals = {kind: SCRIPTS[kind].proposals for kind in kinds}

    class All(Cast):
        """Answers depend on the kind that asks: the same program is another task there."""

        def text(self, request, prompt, sample):
            self.answers = SCRIPTS[kinds[request.id.group]].answers
            return super().text(request, prompt, sample)

    made = Stage(executor, All(proposals, {}), tasks__kinds=",".join(kinds))
    for kind in kinds:
        for program, inputs, *message in SCRIPTS[kind].seeds:
            if kind == Kind.INDUCTION or len(inputs) == 1:
                made.put(kind, program, *inputs, message="".join(message))
    # Induction draws its programs from the others' seeds: say what each of them is asked about.
    played = made.play()
    for kind in kinds:
        if kind != Kind.INDUCTION:
            assert [p.reward for p in played.proposed[kind]] == [-1.0, 0.75, -0.5, 0.0]
            advantages = [p.advantage for p in played.proposed[kind]]
            assert advantages == pytest.approx([-1.256754, 1.450101, -0.483367, 0.290020], abs=1e-5)
    assert len(made.chosen) == 2 * 4 * len(kinds)
    assert len({entry.id for buffer in made.buffers.values() for entry in buffer}) == sum(
        map(len, made.buffers.values())
    )
    asked = {p.program for p in played.proposed[Kind.INDUCTION]}
    assert asked <= {program for program, *_ in SCRIPTS[Kind.DEDUCTION].seeds}
