"""Whole iterations played by a script, with the real executor and the real buffers; every number derived by hand."""

import math
import random
from dataclasses import replace

import pytest

from azr_jax.executor.jobs import Validate
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.rollout.engine import Request
from azr_jax.run.iteration_metrics import measure
from azr_jax.selfplay import scoring
from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.event_loop import EventLoop, RequestId, Sample, Stage, Start
from azr_jax.selfplay.iteration import SelfPlay
from azr_jax.selfplay.proposing import Proposer
from azr_jax.tasks.buffers import Buffers
from azr_jax.tasks.rewards import RewardSettings
from azr_jax.tasks.types import FormatError, Kind, Proposal, Role
from tests.selfplay.scripted import ScriptedEngine, prompter, small

ADD = "def f(a, b):\n    return a + b"
HELLO = "def f(x):\n    return x"


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


def play(executor, kinds, script, *, batch=2, estimates=2, seeds=((HELLO, "'Hello'"),), pairs=()):
    buffers = Buffers(kinds)
    for program, given in seeds:
        for kind in kinds:
            if kind != Kind.INDUCTION:
                task = executor.submit(Validate(Proposal(kind, program, (given,)))).result().task
                buffers[kind].append(task, iteration=0, seed=True)
    for program, inputs in pairs:
        task = executor.submit(Validate(Proposal(Kind.INDUCTION, program, inputs, "m"), shown=2)).result().task
        buffers[Kind.INDUCTION].append(task, iteration=0, seed=True)
    engine = ScriptedEngine(script)
    asked = small(estimate_attempts=max(estimates, 2), train_proposer=estimates > 0)
    return played_with(engine, executor, buffers, replace(asked, batch_size=batch)), buffers, engine


def played_with(engine, executor, buffers, config):
    loop, asked = EventLoop(engine, executor), prompter()
    self_play = SelfPlay(config, loop, Proposer(asked, buffers, config), Solver(asked), RewardSettings())
    return loop.run(self_play.play(1))


def deduction_script(prompt: str, sample: int) -> str:
    """Two proposals, told apart by nothing but their order; attempts at ADD are right for sample 0 alone."""
    if prompt.endswith("```python\ndef f("):
        return next(deduction_script.proposals)
    if "return a + b" in prompt:
        return "3\n```" if sample == 0 else "4\n```"
    return "no block here" if "```output" not in prompt[-12:] else "'Hello'\n```"


def test_deduction_rewards_and_advantages_are_those_of_the_paper(executor):
    # The scripted engine answers the latest request first: proposal 1 is the valid one, proposal 0 is not.
    deduction_script.proposals = iter(["a, b):\n    return a + b\n```\n```input\n1, 2\n```", "x):\n    return x\n```"])
    played, buffers, _ = play(executor, [Kind.DEDUCTION], deduction_script)
    bad, good = played.proposed[Kind.DEDUCTION]
    assert isinstance(bad.proposal, FormatError) and good.task.program == ADD and good.task.output == "3"
    assert [attempt.correct for attempt in good.attempts] == [True, False] and good.solve_rate == 0.5
    assert [entry.task.program for entry in buffers[Kind.DEDUCTION]] == [HELLO, ADD]
    assert next(e for e in buffers[Kind.DEDUCTION] if e.id == good.entry_id).solve_rate == 0.5

    played = scoring.with_rewards(played, RewardSettings())
    # Proposer: -1 without an input block; 1 - 0.5 for the other. Solver: one answer each, both right.
    assert [p.reward for p in played.proposed[Kind.DEDUCTION]] == [-1.0, 0.5]
    assert sorted(s.reward for s in played.solved[Kind.DEDUCTION]) == [1.0, 1.0]

    credit = small()
    chosen = scoring.learned_from(played, credit)
    assert [role for role, _ in chosen] == [Role.PROPOSE] * 2 + [Role.SOLVE] * 2
    # Proposer: mean -0.25, deviation 0.75. Solver: no variance, so nothing to learn, and it is counted.
    advantages, shares = scoring.compute_advantages(chosen, credit, random.Random(0))
    assert shares["advantage/flat_groups"] == 1
    assert [advantages[item.key] for _, item in chosen] == pytest.approx([-1.0, 1.0, 0.0, 0.0])
    with_both = scoring.with_advantages(played, advantages)
    assert [p.advantage for p in with_both.proposed[Kind.DEDUCTION]] == pytest.approx([-1.0, 1.0])

    numbers = measure(played, buffers)
    assert numbers["propose/deduction/valid_rate"] == 0.5
    assert numbers["propose/deduction/refused/no input block"] == 0.5
    assert numbers["estimate/deduction/solve_rate/hist_4"] == 1.0  # 0.5 is the middle of nine bins
    assert numbers["solve/deduction/accuracy"] == 1.0
    assert numbers["buffer/deduction/size"] == 2.0


@pytest.mark.parametrize("worth", [0.0, -0.5])
def test_a_task_that_every_attempt_solves_is_worth_what_the_settings_say(executor, worth):
    def script(prompt, sample):
        if prompt.endswith("```python\ndef f("):
            return "a, b):\n    return a + b\n```\n```input\n1, 2\n```"
        return "3\n```" if "return a + b" in prompt else "'Hello'\n```"

    played, buffers, _ = play(executor, [Kind.DEDUCTION], script)
    played = scoring.with_rewards(played, RewardSettings(zero_learnability=worth))
    first, second = played.proposed[Kind.DEDUCTION]
    # The same task twice: one is kept. The other is a copy: refused, or paid all the same.
    assert (first.solve_rate, first.reward, second.reward) == (1.0, worth, -0.5)
    assert first.entry_id is not None and second.entry_id is None and len(buffers[Kind.DEDUCTION]) == 2


def test_abduction_takes_any_input_that_leads_there(executor):
    def script(prompt, sample):
        if prompt.endswith("```python\ndef f("):
            return "a, b):\n    return a + b\n```\n```input\n1, 2\n```"
        return ("0, 3\n```" if sample == 0 else "1, 1\n```") if "return a + b" in prompt else "'Hello'\n```"

    played, _, engine = play(executor, [Kind.ABDUCTION], script, batch=1)
    (proposed,) = played.proposed[Kind.ABDUCTION]
    assert [attempt.correct for attempt in proposed.attempts] == [True, False]
    asked = [prompt for prompt in engine.seen if "return a + b" in prompt and prompt.endswith("```input\n")]
    assert asked and all("1, 2" not in prompt.split("return a + b")[1] for prompt in asked), (
        "the gold input stays hidden"
    )


def test_induction_is_asked_about_a_program_of_the_others_and_judged_on_what_is_hidden(executor):
    def script(prompt, sample):
        if prompt.endswith("```message\n"):
            inputs = "".join(f"\n```input\n{given}\n```" for given in ("1", "2", "3", "4"))
            return f"it gives back what it gets\n```{inputs}"
        if prompt.endswith("```python\ndef f("):
            # Right on the two shown inputs; on the hidden ones only the first is.
            return "x):\n    return x\n```" if sample == 0 else "x):\n    return min(x, 3)\n```"
        return "nothing"

    played, _, engine = play(executor, [Kind.DEDUCTION, Kind.INDUCTION], script, batch=1)
    (proposed,) = played.proposed[Kind.INDUCTION]
    assert proposed.task.inputs == ("1", "2", "3", "4") and proposed.task.shown == 2
    assert [attempt.verdict.score for attempt in proposed.attempts] == [1.0, 0.0]
    solver_prompts = [p for p in engine.seen if p.endswith("```python\ndef f(") and "it gives back what it gets" in p]
    assert solver_prompts and all("\n4\n" not in prompt.split("it gives back")[0][-80:] for prompt in solver_prompts)


def test_only_the_solver_is_trained_when_asked_and_nobody_is_asked_how_hard_tasks_are(executor):
    deduction_script.proposals = iter(["a, b):\n    return a + b\n```\n```input\n1, 2\n```", "x):\n    return x\n```"])
    played, _, _ = play(executor, [Kind.DEDUCTION], deduction_script, estimates=0)
    assert all(not p.attempts for p in played.proposed[Kind.DEDUCTION])
    chosen = scoring.learned_from(played, small(train_proposer=False))
    assert {role for role, _ in chosen} == {Role.SOLVE} and len(chosen) == 2


def test_what_is_drawn_does_not_depend_on_the_order_of_arrival(executor):
    def script(prompt, sample):
        if prompt.endswith("```python\ndef f("):
            return "a, b):\n    return a * b\n```\n```input\n2, 3\n```"
        return "6\n```"

    class InOrder(ScriptedEngine):
        def step(self):
            self.waiting.rotate(1)
            return super().step()

    def tokens(engine_class):
        buffers = Buffers([Kind.DEDUCTION])
        for given in ("'a'", "'b'", "'c'", "'d'"):
            task = executor.submit(Validate(Proposal(Kind.DEDUCTION, HELLO, (given,)))).result().task
            buffers[Kind.DEDUCTION].append(task, iteration=0, seed=True)
        config = replace(small(estimate_attempts=2, references=2), seed=7, batch_size=3)
        played = scoring.with_rewards(played_with(engine_class(script), executor, buffers, config), RewardSettings())
        credit = small(train_on_estimates=True)
        chosen = scoring.learned_from(played, credit)
        advantages, _ = scoring.compute_advantages(chosen, credit, random.Random(0))
        return [
            (item.completion.prompt, item.completion.rollout.tokens, item.reward, advantages[item.key])
            for _, item in chosen
        ]

    assert tokens(ScriptedEngine) == tokens(InOrder)
    assert all(math.isfinite(advantage) for *_, advantage in tokens(InOrder))


def test_a_last_completion_that_nobody_has_to_judge_ends_the_run(executor):
    """Once it waited for a verdict when none was out."""
    loop = EventLoop(ScriptedEngine(lambda prompt, sample: "words"), executor)  # type: ignore[arg-type]
    rollouts = loop.run(Sample(Request(RequestId(Stage.SOLVE, 0, 0), (65,), 10, n=2)))
    assert [rollout.sample for rollout in rollouts] == [0, 1]


def test_jobs_are_resumed_in_the_order_of_their_requests_and_what_was_started_goes_on_beside(executor):
    """The engine answers the latest first; a round's completions are handed out by request and sample number."""

    class AllAtOnce(ScriptedEngine):
        def step(self):
            return [rollout for _ in range(len(self.waiting)) for rollout in super(AllAtOnce, self).step()]

    heard = []

    def sampled(number, n):
        def each(rollout):
            heard.append((number, rollout.sample))
            return rollout.sample
            yield

        return (yield Sample(Request(RequestId(Stage.SOLVE, 0, number), (65,), 10, n=n), each))

    def both():
        beside = yield Start(sampled(2, 1))
        first = yield [sampled(1, 2), sampled(0, 1), []]
        return first, (yield beside), (yield beside)

    loop = EventLoop(AllAtOnce(lambda prompt, sample: "words"), executor)  # type: ignore[arg-type]
    assert loop.run(both()) == ([[0, 1], [0], []], [0], [0])
    assert heard == [(0, 0), (1, 0), (1, 1), (2, 0)]
