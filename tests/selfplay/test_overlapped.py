"""Iterations that overlap, played by a script: what is begun before its turn, what waits for it, and what it counts."""

import random
import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest

from azr_jax.config.schema import ConfigError
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.run import presenting
from azr_jax.selfplay.event_loop import EventLoop, Start
from azr_jax.selfplay.event_loop import Stage as Asked
from azr_jax.tasks.buffers import Unkept
from azr_jax.tasks.types import Kind, Role
from tests.selfplay.scripted import Cast, Rollout, Stage

D, A = Kind.DEDUCTION, Kind.ABDUCTION
SEED = "def f(x):\n    return [x]"
# Two proposals an iteration, a good one and another: a + b in the first, a * b in the second, a - b in the third.
PROPOSALS = [f"a, b):\n    return a {sign} b\n```\n```input\n1, 2\n```" for sign in "+*-"]
ANSWERS = {
    "a + b": ["3\n```", "4\n```"],
    "a * b": ["4\n```", "2\n```"],
    "a - b": ["-1\n```"],
    "[x]": ["['one']\n```"],
}


class FewSlots(Cast):
    """So many slots; weights of a version that the test names."""

    def __init__(self, slots: int = 2):
        super().__init__({}, ANSWERS)
        self.slots, self.version, self.asked = slots, 1, []

    @property
    def has_room(self) -> bool:
        return len(self.waiting) < self.slots

    def submit(self, request) -> None:
        self.asked.append((request.iteration, request.id.stage))
        super().submit(request)

    def step(self) -> list[Rollout]:
        return [replace(rollout, versions=(self.version,) * len(rollout.tokens)) for rollout in super().step()]

    def text(self, request, prompt, sample):
        if request.id.stage == Asked.PROPOSE:
            return PROPOSALS[request.iteration - 1] if request.id.index else "no"
        return super().text(request, prompt, sample)


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


class AtOnce:
    """An executor whose verdict is there when it is asked: what comes first is the script's word alone."""

    def __init__(self, executor):
        self.executor = executor

    def submit(self, job) -> Future:
        answered = Future()
        answered.set_result(self.executor.submit(job).result())
        return answered


def stage(executor, **flags) -> Stage:
    few = {"tasks__kinds": D, "batch_size": "2", "tasks__estimate_attempts": "2", "iterations": "3"}
    made = Stage(executor, FewSlots(), **(few | {"pipeline__mode": "overlapped"} | flags))
    made.put(D, SEED, "'one'")
    return made


def play(made: Stage, number: int):
    made.engine.version = number
    return made.play(number)


def test_while_one_iteration_drains_the_next_one_proposes_and_estimates_and_nothing_more(executor):
    made = stage(executor)
    play(made, 1)
    early = {stage for iteration, stage in made.engine.asked if iteration == 2}
    assert Asked.PROPOSE in early, "a slot had fallen free"
    assert Asked.SOLVE not in early, "it is solved when it was kept, and kept in its turn"
    assert [entry.iteration for entry in made.buffers[D]] == [0, 1], "the buffer is that of the iteration's end"
    asked = len(made.engine.asked)
    play(made, 2)
    assert [entry.iteration for entry in made.buffers[D]] == [0, 1, 2]
    assert (2, Asked.PROPOSE) not in made.engine.asked[asked:], "and not asked again"


def test_synchronous_and_staleness_0_begin_nothing_before_its_turn(executor):
    for flags in ({"pipeline__mode": "synchronous"}, {"pipeline__staleness": "0"}):
        made = stage(executor, **flags)
        made.engine.__class__ = type("AsItWas", (FewSlots,), {"has_room": property(lambda self: 1 / 0)})
        for number in (1, 2, 3):
            play(made, number)
            assert {iteration for iteration, _ in made.engine.asked} == set(range(1, number + 1))
            assert not made.loop.to_come


def test_nothing_is_begun_before_its_turn_while_it_must_not(executor):
    made, may = stage(executor), [True, False, True]
    made.engine.slots = 100
    made.self_play = replace(made.self_play, may_begin=lambda: may[0])
    begun = []
    for number in (1, 2, 3):
        play(made, number)
        begun.append(max(iteration for iteration, _ in made.engine.asked))
        may.pop(0)
    assert begun == [2, 2, 3], "the third waited for its turn"


def test_nothing_is_begun_that_would_be_too_old_when_it_is_used_nor_beyond_the_last_iteration(executor):
    for staleness, most in (("1", 2), ("2", 3), ("8", 3)):
        made = stage(executor, pipeline__staleness=staleness)
        made.engine.slots = 100  # there is always room
        play(made, 1)
        assert max(iteration for iteration, _ in made.engine.asked) == most
        for number in (2, 3):
            play(made, number)
        assert not made.loop.to_come and not made.self_play.begun


def test_a_copy_that_was_proposed_before_its_turn_stays_one_when_the_other_has_left_a_full_buffer(executor):
    """Iteration 2 proposes what is kept while 1 is played; 1 keeps another in its place."""
    made = Stage(
        executor, FewSlots(100), tasks__kinds=D, batch_size="2", tasks__estimate_attempts="2", iterations="2",
        pipeline__mode="overlapped", buffer__capacity="4",
    )  # fmt: skip
    for program in (SEED, f"{SEED}, x", f"{SEED}, x, x", f"{SEED} * 2"):
        made.put(D, program, "'one'", seed=False)
    text = made.engine.text
    copy = f"{SEED.removeprefix('def f(')}\n```\n```input\n'one'\n```"
    made.engine.text = lambda request, prompt, sample: (
        copy if request.id.stage == Asked.PROPOSE and request.iteration == 2 else text(request, prompt, sample)
    )
    play(made, 1)
    assert sorted(entry.iteration for entry in made.buffers[D]) == [0, 0, 0, 1]
    assert SEED not in [entry.task.program for entry in made.buffers[D]]
    proposed = play(made, 2).proposed[D]
    assert [(one.kept, one.reward_parts) for one in proposed] == [(Unkept.DUPLICATE, {"duplicate": -0.5})] * 2


def test_every_token_counts_the_updates_since_the_weights_that_drew_it(executor):
    """What iteration 2 proposed while 1 was played is one update old when it is used; what it solves in its turn, 0."""
    made = stage(executor)
    made.engine.slots = 100
    play(made, 1)
    assert {age for sample in made.learned for age in sample.ages} == {0}
    played = play(made, 2)
    ages = {(role, age) for (role, _), sample in zip(made.chosen, made.learned) for age in sample.ages}
    assert ages == {(Role.PROPOSE, 1), (Role.SOLVE, 0)}
    proposals = [record for record in presenting.records(played) if record["role"] == "propose"]
    assert [record["versions"] for record in proposals] == [[[1, record["tokens"]]] for record in proposals]
    assert not any("versions" in record for record in presenting.records(played) if record["role"] == "solve")


def test_a_task_proposed_before_its_turn_is_solved_and_rewarded_and_grouped_with_its_own_iteration(executor):
    made = stage(executor)
    made.engine.slots = 100
    play(made, 1)
    played = play(made, 2)
    bad, good = played.proposed[D]
    assert good.task is not None and "a * b" in good.task.program and good.kept.iteration == 2
    assert (good.solve_rate, good.reward, bad.reward) == (0.5, 0.5, -1.0)
    solved = {solution.task_id: solution for solution in played.solved[D]}
    assert good.entry_id in solved and len(solved) == 2
    # The baseline of proposals is that of this iteration's two: -1/4, deviation 3/4.
    assert [p.advantage for p in played.proposed[D]] == pytest.approx([-1.0, 1.0])


def test_a_share_of_the_proposals_is_enough_to_solve_what_came_also_before_its_turn(executor):
    """The first of two proposals to come in is the good one: its task is solved before it is kept, and known after."""
    made = stage(AtOnce(executor), pipeline__solve_after="0.5")
    made.engine.slots = 100
    play(made, 1)
    assert (2, Asked.SOLVE) in made.engine.asked
    assert [entry.iteration for entry in made.buffers[D]] == [0, 1], "the buffer is that of the iteration's end"
    played = play(made, 2)
    _, good = played.proposed[D]
    assert good.entry_id is not None and good.entry_id in {solution.task_id for solution in played.solved[D]}
    assert {attempt.task_id for attempt in good.attempts} == {good.entry_id}
    ages = {(role, age) for (role, _), sample in zip(made.chosen, made.learned, strict=True) for age in sample.ages}
    assert ages == {(Role.PROPOSE, 1), (Role.SOLVE, 1)}
    assert len(played.solved[D]) == 2 == made.engine.asked.count((2, Asked.SOLVE)), "and not asked again"
    play(made, 3)
    assert not made.loop.to_come and not (made.self_play.begun or made.self_play.came or made.self_play.solving)


@pytest.mark.parametrize(("share", "good"), [("0.5", {"a + b"}), ("0.99", {"a + b", "a * b"})])
def test_who_comes_late_is_kept_and_rewarded_and_not_solved(executor, share, good):
    """Four proposals, the last request answered first; two tasks. Half of them: the second task came too late."""

    class Two(FewSlots):
        def text(self, request, prompt, sample):
            if request.id.stage == Asked.PROPOSE:
                return ["no", PROPOSALS[1], "no", PROPOSALS[0]][request.id.index]
            return super().text(request, prompt, sample)

    made = stage(AtOnce(executor), pipeline__solve_after=share, batch_size="4", iterations="1")
    made.engine.__class__ = Two
    played = play(made, 1)
    assert [p.entry_id is not None for p in played.proposed[D]] == [False, True, False, True]
    assert [p.reward for p in played.proposed[D]] == [-1.0, 0.5, -1.0, 0.5]
    assert {s.task.program.partition("return ")[2] for s in played.solved[D]} - {"[x]"} == good


def test_what_was_solved_before_it_was_kept_may_be_a_copy_of_what_was_kept_meanwhile(executor):
    """Both iterations propose a + b. The second one's is solved before the first one's is kept."""

    class Again(FewSlots):
        def text(self, request, prompt, sample):
            if request.id.stage == Asked.PROPOSE:
                return PROPOSALS[0] if request.id.index else "no"
            return super().text(request, prompt, sample)

    made = stage(AtOnce(executor), pipeline__solve_after="0.5", iterations="2")
    made.engine.__class__, made.engine.slots = Again, 100
    play(made, 1)
    _, copy = (played := play(made, 2)).proposed[D]
    assert copy.entry_id is None and copy.reward == -0.5
    strange = [s for s in played.solved[D] if s.task_id == copy.key[0]]
    assert len(strange) == 1 and strange[0].reward == 1.0, "it was solved all the same, under its request's id"
    assert [entry.iteration for entry in made.buffers[D]] == [0, 1]


def test_console_counts_what_was_begun_before(executor):
    made = stage(executor)
    made.engine.slots = 100
    play(made, 1)
    told = []
    with made.loop.shown(lambda stage, done, total: told.append((stage, done, total))):
        play(made, 2)
    assert told and all(done <= total for _, done, total in told)


class Late:
    """An executor whose verdicts come when they like."""

    def __init__(self, executor, seed: int):
        self.executor, self.random = executor, random.Random(seed)

    def submit(self, job) -> Future:
        late, verdict = Future(), self.executor.submit(job).result()
        threading.Timer(self.random.uniform(0, 0.01), late.set_result, [verdict]).start()
        return late


@pytest.mark.parametrize("share", ["1", "0.5"])
def test_told_when_verdicts_came_another_run_asks_the_same_in_the_same_order(executor, share):
    found, schedule = [], ()
    for seed in (1, 2, 3):
        made = stage(Late(executor, seed), batch_size="4", pipeline__solve_after=share)
        made.loop.log(schedule)
        records = [presenting.records(play(made, number)) for number in (1, 2, 3)]
        found.append((made.engine.asked, records, made.loop.delivered))
        schedule = found[0][2]
    assert found[0] == found[1] == found[2]
    assert sum(map(len, schedule)) > 20


def test_behind_the_last_round_of_a_schedule_what_came_before_is_handed_over():
    class Instant:
        def submit(self, job) -> Future:
            verdict = Future()
            verdict.set_result(job)
            return verdict

    def first():
        late = yield Start("the second question")
        return (yield "never answered before it"), late

    loop = EventLoop(None, Instant())
    loop.log([[1]])  # so the answer to the second question, 0, waits beside it
    _, late = loop.run(first())

    def second():
        return (yield late)

    assert loop.run(second()) == "the second question"


def test_a_schedule_of_another_run_is_noticed(executor):
    made = stage(executor)
    made.loop.log([[99]])
    with pytest.raises(ConfigError, match="is of another run"):
        play(made, 1)
