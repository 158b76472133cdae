"""A policy without a network: a function from prompt to completions, and a tokenizer of one token per character.

`Stage` is self-play as a run builds it, from the flags of the command line, with such a policy in place of the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from azr_jax.config import flags as configs
from azr_jax.config.schema import Config, RolloutConfig, TasksConfig
from azr_jax.executor.jobs import Validate
from azr_jax.executor.pool import Executor
from azr_jax.executor.values import encode
from azr_jax.learner.packing import TrainingSample
from azr_jax.parallel.hosts import Hosts
from azr_jax.rollout.engine import Request, Rollout
from azr_jax.run.build import self_play
from azr_jax.run.iteration_metrics import measure
from azr_jax.run.settings import buffer_settings, played_kinds
from azr_jax.selfplay import scoring
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.selfplay.event_loop import Stage as IterationStage
from azr_jax.selfplay.prompting import Prompter
from azr_jax.selfplay.results import Played
from azr_jax.selfplay.seeding import Seeding
from azr_jax.tasks.buffers import Buffers, Entry
from azr_jax.tasks.types import Kind, Proposal, Triplet

END = 0
CUT = "\x03"  # at the end of a scripted text: it was cut at the token limit


class Characters:
    eos_token_id = END

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, tokens) -> str:
        return "".join(chr(t) for t in tokens if t != END)


class ScriptedEngine:
    """Answers each request at the next step, the latest first: nothing may depend on the order of arrival."""

    def __init__(self, script: Callable[[str, int], str]):
        self.script, self.waiting, self.seen = script, deque[Request](), []

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def step(self) -> list[Rollout]:
        request = self.waiting.pop()
        prompt = Characters().decode(request.prompt)
        self.seen.append(prompt)
        done = []
        for sample in reversed(range(request.n)):
            text = self.text(request, prompt, sample)
            cut = text.endswith(CUT)
            tokens = (*Characters().encode(text.removesuffix(CUT)), *([] if cut else [END]))
            zeros = (0.0,) * len(tokens)
            done.append(Rollout(request, sample, tokens, zeros, zeros, "length" if cut else "stop"))
        return done

    def text(self, request: Request, prompt: str, sample: int) -> str:
        return self.script(prompt, sample)


class Cast(ScriptedEngine):
    """Proposals by their index, `proposals[kind][index]`; answers by what the prompt holds, one for each attempt.

    `answers` maps a piece of text to the attempts at the task whose prompt holds it; the last one goes on for ever.
    """

    def __init__(self, proposals: dict[Kind, Sequence[str]], answers: dict[str, Sequence[str]]):
        super().__init__(lambda prompt, sample: "")
        self.proposals, self.answers = proposals, answers

    def text(self, request: Request, prompt: str, sample: int) -> str:
        if request.id.stage == IterationStage.PROPOSE:
            kind = next(kind for kind in self.proposals if kind.number == request.id.group)
            return self.proposals[kind][request.id.index % len(self.proposals[kind])]
        asked = prompt[prompt.rfind("###") :]  # what stands before is the worked example
        for piece, attempts in self.answers.items():
            if piece in asked:
                return attempts[min(sample, len(attempts) - 1)]
        return "nothing was written for this"


BASE = str(Path(__file__).parents[2] / "configs" / "base.py")
SMALL = {
    "batch_size": "4", "tasks.estimate_attempts": "4", "tasks.prompt_style": "completion", "tasks.references": "1",
    "tasks.induction_inputs": "4", "tasks.induction_shown": "2", "seeding.factor": "1", "rollout.slots": "4",
    "rollout.max_prompt_tokens": "8000",
    "tasks.copies": "exact",  # most of these worlds are one program with other constants, and one input
}  # fmt: skip


class Stage:
    def __init__(
        self,
        executor: Executor,
        engine: ScriptedEngine,
        folder: Path | None = None,
        hosts: Hosts | None = None,
        **flags: str,
    ):
        """Flags are those of the command line, with __ for the dots; `hosts` the processes, if there are several."""
        given = SMALL | {name.replace("__", "."): value for name, value in flags.items()}
        self.config, problems = configs.load(BASE, given)
        assert not problems, problems
        self.executor, self.engine, self.folder = executor, engine, folder
        prompter = Prompter(Characters(), Path(), self.config)
        writes = hosts is None or hosts.first
        self.buffers = Buffers(played_kinds(self.config), buffer_settings(self.config), folder, writes=writes)
        self.loop = EventLoop(engine, executor, hosts)  # type: ignore[arg-type]
        self.self_play = self_play(self.config, self.loop, prompter, self.buffers)

    def put(self, kind: Kind, program: str, *inputs: str, message: str = "", seed: bool = True) -> Entry:
        """A task into its buffer, as seeding does it."""
        job = Validate(Proposal(kind, program, inputs, message), shown=self.config.tasks.induction_shown)
        task = self.executor.submit(job).result().task
        assert task is not None
        entry = self.buffers[kind].append(task, iteration=0, seed=seed)
        assert isinstance(entry, Entry)
        return entry

    def know(self, kind: Kind, program: str, given: str, output: int) -> Entry:
        """The same for a task nobody has to run: where a test needs many."""
        entry = self.buffers[kind].append(Triplet(program, given, str(output), encode(output)), iteration=0)
        assert isinstance(entry, Entry)
        return entry

    def seeding(self) -> Seeding:
        assert self.folder is not None
        return Seeding(
            self.config, self.config.rollout.slots, self.loop, self.self_play.proposer, self.folder / "seeding.json"
        )

    def play(self, number: int = 1) -> Played:
        """One iteration with its rewards and advantages; what it measured is in `numbers`."""
        played, learned = self.self_play.iteration(number, self._update, lambda name: nullcontext())
        self.chosen = scoring.learned_from(played, self.config)
        self.numbers = measure(played, self.buffers) | learned
        return played

    def _update(self, number: int, samples: Sequence[TrainingSample]) -> dict[str, float]:
        self.learned = samples
        return {}


def small(**tasks) -> Config:
    """The paper's, with a short prompt style; `tasks` are fields of that section."""
    fields = {"prompt_style": "completion", "references": 1, "induction_inputs": 4, "induction_shown": 2} | tasks
    return Config(tasks=TasksConfig(**fields), rollout=RolloutConfig(max_prompt_tokens=8000, max_new_tokens=500))


def prompter() -> Prompter:
    return Prompter(Characters(), Path(), small())
