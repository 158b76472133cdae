"""Seeding beside the iterations that follow: what it draws is not drawn again, and a round fills the whole sampler."""

import random
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.parallel.hosts import Hosts
from azr_jax.run.place import Place
from azr_jax.run.train import Training
from azr_jax.tasks.buffers import Unkept
from azr_jax.tasks.types import Kind
from tests.selfplay.scripted import ScriptedEngine, Stage

D, A = Kind.DEDUCTION, Kind.ABDUCTION


@pytest.fixture(scope="module")
def executor():
    with Executor(ExecutorSettings(workers=1, timeout_s=5.0)) as running:
        yield running


class Dice(ScriptedEngine):
    """Randomness as the engine has it: of the run's seed, the iteration, the request and the sample, nothing else."""

    def __init__(self, seed: int):
        super().__init__(lambda prompt, sample: "")
        self.seed, self.iteration = seed, -1

    def load_weights(self, params, iteration: int, dropped_V=None) -> None:
        self.iteration = iteration

    def text(self, request, prompt, sample):
        number = random.Random(f"{self.seed}/{self.iteration}/{request.id}/{sample}").randrange(10**12)
        return f"x):\n    return x + {number}\n```\n```input\n{number}\n```"


def before_the_first_iteration(made: Stage, folder) -> Training:
    """A run as train.py makes it, with a scripted engine for its model; it has seeded, and is about to play."""

    class Silent(Hosts):
        first = False  # it writes no files but the seeds'

    config = replace(made.config, iterations=0)  # the test plays the first one itself
    made.engine.slots = config.rollout.slots
    console = SimpleNamespace(message=print, stages=lambda name: nullcontext(lambda stage, done, total: None))
    stop = SimpleNamespace(asked=False, leave_if_preempted=lambda: None)
    run = SimpleNamespace(
        config=config, hosts=Silent(), workdir=folder, place=Place(folder, str(folder)), executor=made.executor,
        engine=made.engine, start_state=object(),
        for_sampling=lambda state: None, dropout=None, checkpointer=SimpleNamespace(iterations=list, wait=lambda: None),
        buffers=made.buffers, self_play=made.self_play,
        evaluation=SimpleNamespace(settings=SimpleNamespace(every=0)),
    )  # fmt: skip
    training = Training(run, console, stop, SimpleNamespace(stage=lambda name: nullcontext()), None)  # type: ignore[arg-type]
    training.go("the same command")
    return training


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("references", ["0", "2"])
def test_iteration_1_proposes_nothing_that_seeding_proposed(executor, tmp_path, seed, references):
    """Both asked with the same request ids under the same iteration: the first proposals were the seeds once more."""
    flags = {"tasks__kinds": f"{D},{A}", "batch_size": "4", "seeding__factor": "2", "tasks__references": references}
    made = Stage(executor, Dice(seed), tmp_path, seed=str(seed), tasks__estimate_attempts="2", **flags)
    before_the_first_iteration(made, tmp_path)
    assert [len(made.buffers[kind]) for kind in (D, A)] == [8, 8] and made.engine.iteration == 1
    proposed = [p for of_kind in made.play(1).proposed.values() for p in of_kind]
    assert len(proposed) == 8 and all(p.task is not None for p in proposed)
    assert sum(p.kept == Unkept.DUPLICATE for p in proposed) == 0
    assert len({p.completion.text for p in proposed}) == 8


def test_a_round_asks_for_as_many_proposals_as_all_replicas_have_slots(executor, tmp_path):
    made = Stage(executor, Dice(0), tmp_path, tasks__kinds=f"{D},{A}", batch_size="4", rollout__slots="4")
    seeding = made.seeding()
    seeding.slots = 3 * made.config.rollout.slots  # of three replicas
    rounds = []
    with made.loop.shown(lambda name, done, total: rounds.append(total) if name == "propose" and done == 12 else None):
        assert seeding.fill() and rounds == [12]
