"""How good a model is in the small world: its answers to the held-out tasks, and how many of its proposals are valid.

    python -m azr_jax.nano.measure --model=azr_jax/nano/base

Asked and judged the way self-play does it: the same prompts, engine and executor. Standard errors are over tasks, the
attempts at one task being averaged first.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from flax import nnx
from transformers import AutoTokenizer

from azr_jax.config.schema import Config, RolloutConfig, TasksConfig
from azr_jax.evals.held import attempted
from azr_jax.executor.jobs import Validate
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.models import hf
from azr_jax.models.spec import load_spec
from azr_jax.monitor.means import Mean
from azr_jax.nano.heldout import HeldOut, load
from azr_jax.nano.texts import INDUCTION_INPUTS, INDUCTION_SHOWN, KINDS, REFERENCES, STYLE
from azr_jax.rollout.engine import Engine, EngineSettings
from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.event_loop import EventLoop, Job, RequestId, Sample, Stage
from azr_jax.selfplay.prompting import Prompter
from azr_jax.tasks.types import FormatError, Kind, Task, Validation

FLAGS = flags.FLAGS
MAX_PROMPT_TOKENS = 256
MAX_NEW_TOKENS = 160


def proposing(prompter: Prompter, tasks: Sequence[HeldOut], kind: Kind, count: int) -> Job[list[str]]:
    """What became of `count` proposals: empty where valid, else why not. The references are held-out tasks."""
    rng = random.Random(f"proposals/{kind}")
    triplets = [held.task for held in tasks if held.kind == Kind.DEDUCTION]

    def proposed(number: int, references: list[Task]) -> Job[str]:
        question = prompter.propose(kind, references)
        (rollout,) = yield Sample(prompter.request(RequestId(Stage.PROPOSE, kind.number, number), question, 1))
        program = references[0].program if kind == Kind.INDUCTION else ""
        proposal = prompter.read_proposal(kind, prompter.text(question.prompt, rollout), rollout, program)
        if isinstance(proposal, FormatError):
            return proposal.reason
        validation: Validation = yield Validate(proposal, shown=INDUCTION_SHOWN)
        return validation.reason

    shown = 1 if kind == Kind.INDUCTION else REFERENCES
    reasons: list[str] = yield [proposed(number, rng.sample(triplets, shown)) for number in range(count)]
    return reasons


def measure(
    folder: Path, executor: Executor, *, attempts: int, proposals: int, tasks: Sequence[HeldOut]
) -> dict[str, Mean]:
    """Accuracies greedy and at temperature 1, by kind and for deduction by level, and the share of valid proposals."""
    spec, tokenizer = load_spec(folder), AutoTokenizer.from_pretrained(folder)
    graphdef, params = nnx.split(hf.load(folder))
    settings = EngineSettings(
        slots=64, max_prompt_tokens=MAX_PROMPT_TOKENS, max_new_tokens=MAX_NEW_TOKENS, decode_steps=8
    )
    engine = Engine(graphdef, spec, settings, seed=0, decode_text=tokenizer.decode)
    loop = EventLoop(engine, executor)
    prompter = Prompter(tokenizer, folder, played_at(temperature=1.0))
    sampled, greedy = Solver(prompter), Solver(Prompter(tokenizer, folder, played_at(temperature=0.0)))
    found: dict[str, Mean] = {}
    engine.load_weights(params, 0)
    for kind in KINDS:
        of_kind = [held for held in tasks if held.kind == kind]
        asked = [(held.kind, held.task) for held in of_kind]
        scores = loop.run(attempted(sampled, asked, attempts))
        each = [sum(one) / len(one) for one in scores]
        found[f"{kind}/sampled"] = Mean.of(each)
        found[f"{kind}/best_of_{attempts}"] = Mean.of([max(one) for one in scores])
        once = loop.run(attempted(greedy, asked, 1))
        found[f"{kind}/greedy"] = Mean.of([one[0] for one in once])
        for level in sorted({held.level for held in of_kind}):
            here = [mean for held, mean in zip(of_kind, each, strict=True) if held.level == level]
            found[f"{kind}/sampled/level_{level}"] = Mean.of(here)
    for kind in KINDS:
        reasons = loop.run(proposing(prompter, tasks, kind, proposals))
        found[f"valid/{kind}"] = Mean.of([float(not reason) for reason in reasons])
    engine.close()
    return found


def played_at(temperature: float) -> Config:
    tasks = TasksConfig(prompt_style=STYLE, induction_inputs=INDUCTION_INPUTS)
    rollout = RolloutConfig(MAX_PROMPT_TOKENS, MAX_NEW_TOKENS, temperature=temperature, stop_at_answer=True)
    return Config(tasks=tasks, rollout=rollout)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"arguments are flags, found {argv[1:]}")
    with Executor(ExecutorSettings(timeout_s=2.0, workers=FLAGS.workers)) as executor:
        tasks = [held for number, held in enumerate(load()) if number < FLAGS.tasks * len(KINDS)]
        found = measure(Path(FLAGS.model), executor, attempts=FLAGS.attempts, proposals=FLAGS.proposals, tasks=tasks)
    for name, mean in found.items():
        print(f"{name:32} {100 * mean.value:5.1f} % +- {100 * mean.error:.1f}  (n = {mean.count})")
    print(json.dumps({name: [round(mean.value, 4), round(mean.error, 4)] for name, mean in found.items()}))


if __name__ == "__main__":
    flags.DEFINE_string("model", "azr_jax/nano/base", "folder of the model")
    flags.DEFINE_integer("tasks", 200, "held-out tasks of each kind")
    flags.DEFINE_integer("attempts", 4, "at each task, at temperature 1")
    flags.DEFINE_integer("proposals", 100, "of each kind, at temperature 1")
    flags.DEFINE_integer("workers", 1, "programs run side by side")
    app.run(main)
