"""Held-out curves of a run: tasks it never trains on, asked and judged like everything else it plays.

A suite is a list of tasks of the kinds that self-play knows. Before the first update and after every `eval.every`-th
one, each task is attempted `attempts` times at the run's own sampling settings. Standard errors are over tasks, the
attempts at one task being averaged first. Whole benchmarks, with prompts and scoring of their own, are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from azr_jax.config.schema import EvalConfig
from azr_jax.evals.datasets import DataProblem
from azr_jax.evals.held import attempted, cruxeval
from azr_jax.monitor.heldout import Scores
from azr_jax.monitor.means import Mean
from azr_jax.nano import heldout
from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.selfplay.prompting import Prompter
from azr_jax.tasks.contamination import Reserved
from azr_jax.tasks.types import Kind, Task

Held = tuple[Kind, Task]
Suite = tuple[list[Held], list[str]]  # its tasks, and all its programs


def _nano(data_dir: str) -> Suite:
    tasks = [(held.kind, held.task) for held in heldout.load()]
    return tasks, [task.program for _, task in tasks]


SUITES: dict[str, Callable[[str], Suite]] = {"nano": _nano, "cruxeval": cruxeval}  # each is given eval.data_dir


class Evaluation:
    def __init__(self, settings: EvalConfig, prompter: Prompter, loop: EventLoop):
        """Suites are read at once, so that a missing file is found before training.

        A kind that the run does not play is measured too: what it learns may carry over. Tasks longer than a prompt
        may be are left out. `reserved` are the programs of the whole suites, asked or not: they are no tasks.
        """
        self.settings, self.solver, self.loop = settings, Solver(prompter), loop
        self.tasks: dict[str, list[Held]] = {}
        whole = {name: SUITES[name](settings.data_dir) for name in (settings.suites if settings.every else ())}
        for name, (tasks, _) in whole.items():
            some = first_of_each_kind(tasks, settings.rows)
            self.tasks[name] = [held for held in some if not prompter.why_not(*held)]
            if not self.tasks[name]:
                raise DataProblem(f"{name}: none of its {len(some)} tasks fits rollout.max_prompt_tokens")
        self.reserved = Reserved(program for _, programs in whole.values() for program in programs)

    def due(self, iteration: int, last: int) -> bool:
        return bool(self.settings.every) and (iteration % self.settings.every == 0 or iteration == last)

    def measure(self) -> Scores:
        """The weights are those the engine holds."""
        found: dict[tuple[str, str], list[float]] = {}
        for number, (name, tasks) in enumerate(self.tasks.items()):
            scores = self.loop.run(attempted(self.solver, tasks, self.settings.attempts, number))
            for (kind, _), of_task in zip(tasks, scores, strict=True):
                found.setdefault((name, kind), []).append(sum(of_task) / len(of_task))
        return found


def first_of_each_kind(tasks: Sequence[Held], rows: int) -> list[Held]:
    kept: list[Held] = []
    for kind in dict.fromkeys(kind for kind, _ in tasks):
        of_kind = [held for held in tasks if held[0] == kind]
        kept += of_kind[: rows or len(of_kind)]
    return kept


def accuracies(scores: Scores) -> dict[str, float]:
    """`eval/<suite>/<kind>/accuracy` with its standard error."""
    numbers: dict[str, float] = {}
    for (suite, kind), of_tasks in scores.items():
        mean = Mean.of(of_tasks)
        numbers |= {f"eval/{suite}/{kind}/accuracy": mean.value, f"eval/{suite}/{kind}/accuracy_se": mean.error}
    return numbers
