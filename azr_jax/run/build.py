"""From a checked config to the parts of a run, each made from its own small settings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from azr_jax.config.schema import Config, ConfigError
from azr_jax.evals.datasets import DataProblem
from azr_jax.executor.http_judge import HttpJudge
from azr_jax.executor.judge import Judge
from azr_jax.executor.pool import Executor
from azr_jax.learner.advantages import Baselines
from azr_jax.learner.checkpoint import Checkpointer, CheckpointError, iterations_in, written_bytes
from azr_jax.learner.lora import merged
from azr_jax.learner.step import LearnerSettings, TrainState, Update, init_state, make_update
from azr_jax.models import hf
from azr_jax.models.endings import HfTokenizer
from azr_jax.models.folder import ModelFolder
from azr_jax.models.sharding import LearnerRules, RolloutRules, abstract_params, check_divides
from azr_jax.models.slice_layout import Layout
from azr_jax.models.spec import ModelSpec
from azr_jax.models.spelling import CannotSpell, spell_out
from azr_jax.monitor.metrics import SinkProblem, check_sinks
from azr_jax.parallel.chips import chip_of
from azr_jax.parallel.exchange import ReadElsewhere
from azr_jax.parallel.hosts import Hosts
from azr_jax.parallel.mesh import bytes_per_device, make_mesh, regrouped, sharing_a_copy, slices_of
from azr_jax.rollout.attention import KERNELS, CannotAttend, no_int8, why_not
from azr_jax.rollout.attention_check import AttentionDiffers, check_attention
from azr_jax.rollout.engine import Engine, EngineSettings
from azr_jax.run.device_stats import memory_of_one
from azr_jax.run.find_model import find_model, telling_of
from azr_jax.run.heldout_eval import Evaluation
from azr_jax.run.memory_plan import lay_out, with_pages
from azr_jax.run.place import Place
from azr_jax.run.process_checks import together
from azr_jax.run.settings import (
    buffer_settings,
    engine_settings,
    executor_settings,
    learner_settings,
    played_kinds,
    reward_settings,
    row_tokens,
)
from azr_jax.run.vocabulary_dropout import Dropout, droppable
from azr_jax.run.workdir import check_space
from azr_jax.selfplay.attempting import Solver
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.selfplay.iteration import SelfPlay
from azr_jax.selfplay.prompting import Prompter
from azr_jax.selfplay.proposing import Proposer
from azr_jax.tasks.buffers import Buffers, DamagedJournal
from azr_jax.tasks.contamination import Reserved


@dataclass
class RunParts:
    """Everything a run is made of."""

    config: Config
    hosts: Hosts
    place: Place
    folder: Path
    spec: ModelSpec
    layout: Layout
    mesh: Mesh  # the learner's programs run inside jax.set_mesh(mesh); the engine sees to itself
    executor: Judge
    engine: Engine
    start_state: TrainState | None  # until training takes it over
    learner: LearnerSettings
    update: Update
    for_sampling: Callable[[TrainState], nnx.State]  # the learner's weights, merged, as the engine takes them
    row_tokens: int
    rows: int
    checkpointer: Checkpointer
    buffers: Buffers
    self_play: SelfPlay
    evaluation: Evaluation
    dropout: Dropout | None  # of the proposer's vocabulary

    @property
    def workdir(self) -> Path:
        return self.place.folder

    def fork(self, source: str, like: TrainState) -> TrainState:
        """The latest state of another run, and a copy of the tasks it had then."""
        if not iterations_in(source):
            raise ConfigError([f"--fork_from={source}: holds no checkpoints; give the workdir of a run"])
        other = Checkpointer(source, hosts=self.hosts)
        try:
            restored = other.restore(like)
        except CheckpointError as error:
            raise ConfigError([f"--fork_from={source}: {error}"]) from error
        finally:
            other.close()
        self.hosts.from_first(lambda: self.place.copy_tasks(source))
        self.place.follow()
        try:
            self.buffers.load(restored.extra["buffers"])
        except DamagedJournal as error:
            raise ConfigError([f"--fork_from={source}: {self.place.told(error, source)}"]) from error
        reserved = self.evaluation.reserved
        spoiled = sum(entry.task.program in reserved for buffer in self.buffers.values() for entry in buffer)
        if spoiled:
            raise ConfigError(
                [
                    f"--fork_from={source}: {spoiled} of its tasks are programs of eval.suites="
                    f"{','.join(self.config.eval.suites)}, which must not be trained on; give another run or suite"
                ]
            )
        return restored.state

    def close(self) -> None:
        self.checkpointer.close()
        self.engine.close()
        self.executor.close()


def spelled_out(config: Config, tokenizer: HfTokenizer) -> tuple[int, ...]:
    """The tokenizer writes these out from now on; their ids."""
    try:
        return spell_out(tokenizer, config.model.spell_out)
    except CannotSpell as error:
        raise ConfigError([f"model.spell_out={','.join(config.model.spell_out)}: {error}"]) from error


def layout_here(c: Config, spec: ModelSpec) -> Layout:
    devices = jax.devices()
    return lay_out(c, spec, len(devices), memory_of_one(), chip_of(devices[0]), slices_of(devices))


def mesh_of(layout: Layout) -> Mesh:
    """The learner's."""
    return make_mesh(layout.fsdp, layout.tensor, data=layout.data)


def check_fits(config: Config, spec: ModelSpec) -> None:
    """What the model's shape and the devices say about the config."""
    c, problems, layout = config, [], None
    try:
        layout = layout_here(c, spec)
        mesh = mesh_of(layout)
        for rules in (LearnerRules(), RolloutRules()):
            check_divides(spec, mesh, rules)
    except ValueError as error:  # ImpossibleLayout is one
        problems.append(str(error))
    problems += _of_attention(c, spec, layout)
    if layout and c.learner.microbatch % (over := layout.data * layout.fsdp):
        right = f"0 (a row on each) or a multiple of {over}, the devices that rows are split over"
        problems.append(f"learner.microbatch={c.learner.microbatch}: should be {right}")
    weights = {".".join(weight.path) for weight in spec.weights()}
    absent = [prefix for prefix in c.learner.freeze if not any(name.startswith(prefix) for name in weights)]
    if absent or all(name.startswith(tuple(c.learner.freeze)) for name in weights):
        what = f"this model has no {' or '.join(absent)}" if absent else "nothing is left to train"
        problems.append(
            f"learner.freeze={','.join(c.learner.freeze)}: {what}; its weights are {', '.join(sorted(weights))}"
        )
    if spec.windowed and c.model.attention not in ("auto", "xla"):
        problems.append(f"model.attention={c.model.attention}: a model with windows needs xla, or auto")
    longest = c.rollout.max_prompt_tokens + c.rollout.max_new_tokens
    if longest > spec.max_positions:
        problems.append(
            f"rollout.max_prompt_tokens + rollout.max_new_tokens = {longest}: should be at most {spec.max_positions}, "
            "the model's context"
        )
    if problems:
        raise ConfigError(problems)


def check_watchers(c: Config) -> None:
    try:
        check_sinks(c.monitor.sinks)
    except SinkProblem as error:
        raise ConfigError([str(error)]) from error


def _of_attention(c: Config, spec: ModelSpec, layout: Layout | None) -> list[str]:
    """Why the kernel that was asked for cannot look at the sampler's cache; found before any weight is read. Without a
    layout it can only be said that this is no TPU.
    """
    reason, name, int8 = "", c.rollout.attention, c.rollout.kv_cache_dtype == "int8"
    on_tpu = jax.default_backend() == "tpu"
    if name in KERNELS and not on_tpu:
        reason = f"this is {jax.default_backend()}"
    elif name in KERNELS and layout is not None:
        reason = why_not(name, spec, engine_settings(c, layout.slots), layout.rollout_tensor)
    elif name == "auto" and int8 and on_tpu and layout is not None:
        reason = why_not("tpu_fused", spec, engine_settings(c, layout.slots), layout.rollout_tensor)
        return [f"rollout.{no_int8(reason)}"] if reason else []
    return [f"rollout.attention={name}: {reason}; should be xla, or auto"] if reason else []


def open_judge(c: Config) -> Judge:
    """Who runs and judges programs. Before anything dear: what it lacks is the user's to mend."""
    settings = executor_settings(c)
    try:
        return HttpJudge(settings, c.executor.url) if c.executor.judge == "http" else Executor(settings)
    except (RuntimeError, ValueError) as error:  # too little isolation, no such package, or no farm there
        raise ConfigError([f"executor: {error}"]) from error


def checkpoint_bytes(c: Config, spec: ModelSpec) -> int:
    """Of one checkpoint of a run, by arithmetic: whatever is trained of the model, with whatever moments."""
    state = jax.eval_shape(lambda params: init_state(params, learner_settings(c)), abstract_params(spec))
    return written_bytes(state, c.checkpoint.moments)


def build(config: Config, place: Place, hosts: Hosts) -> RunParts:
    """Called by all processes, which wait for each other only between what one of them alone may find wrong."""
    with together(hosts):
        if jax.process_count() != hosts.count:
            raise ConfigError(
                [f"{jax.process_count()} processes have devices, but {hosts.count} joined: see tpu/README.md"]
            )
        check_watchers(config)
    model = find_model(config, hosts)
    with together(hosts):
        check_fits(config, model.spec)
        if place.mirror is None:  # a bucket is never full
            check_space(place.folder, checkpoint_bytes(config, model.spec), config.checkpoint.keep)
        never = spelled_out(config, model.tokenizer)
        executor = open_judge(config)
        mesh = mesh_of(layout_here(config, model.spec))
    graphdef, params = load(hosts, model, mesh, config.model.name)
    with together(hosts):
        return _parts(config, place, hosts, model, mesh, graphdef, params, executor, never)


def load(hosts: Hosts, model: ModelFolder, mesh: Mesh, name: str) -> tuple[nnx.GraphDef[Any], nnx.State]:
    """The weights in the learner's layout. Called by all."""
    found = None
    with together(hosts), telling_of(name), contextlib.suppress(ReadElsewhere):  # whoever could not read says why
        rules, readers = LearnerRules(), model.readers
        found = nnx.split(hf.load_weights(model.spec, model.tensors, mesh=mesh, rules=rules, readers=readers))
    assert found is not None, "somebody could not read, and said nothing"
    return found


def _parts(
    c: Config,
    place: Place,
    hosts: Hosts,
    model: ModelFolder,
    mesh: Mesh,
    graphdef: nnx.GraphDef[Any],
    params: nnx.State,
    executor: Judge,
    never: tuple[int, ...],
) -> RunParts:
    """Computes nothing in which processes wait for each other."""
    folder, spec, tokenizer = model.path, model.spec, model.tokenizer
    workdir, lease = place.folder, place.lease
    prompter = Prompter(tokenizer, folder, c)
    buffers = Buffers(
        played_kinds(c),
        buffer_settings(c),
        workdir / "buffers",
        writes=hosts.first,
        may_write=lease.check if lease else lambda: None,
    )
    learner = learner_settings(c, never)
    with jax.set_mesh(mesh):
        reference, start = start_policy(params, learner), init_state(params, learner)
    layout, held = layout_here(c, spec), bytes_per_device((reference, start))
    settings = engine_settings(c, layout.slots, never)
    engine = _engine(
        graphdef,
        spec,
        with_pages(settings, spec, layout.rollout_tensor, memory_of_one(), held, sharing_a_copy(mesh)),
        seed=c.seed,
        decode_text=tokenizer.decode,
        mesh=regrouped(mesh, layout.rollout_tensor),
    )
    loop = EventLoop(engine, executor, hosts)
    evaluation = _evaluation(c, prompter, loop)
    return RunParts(
        config=c,
        hosts=hosts,
        place=place,
        folder=folder,
        spec=spec,
        layout=layout,
        mesh=mesh,
        executor=executor,
        engine=engine,
        start_state=start,
        learner=learner,
        update=make_update(graphdef, learner, reference=reference),
        for_sampling=_for_sampling(learner),
        row_tokens=row_tokens(c, jax.default_backend()),
        rows=c.learner.microbatch or jax.device_count() // c.mesh.tensor,
        checkpointer=_checkpointer(c, place.home, hosts),
        buffers=buffers,
        self_play=self_play(c, loop, prompter, buffers, evaluation.reserved),
        evaluation=evaluation,
        dropout=_dropout(c, tokenizer, spec),
    )


def _engine(graphdef: nnx.GraphDef[Any], spec: ModelSpec, settings: EngineSettings, **rest: Any) -> Engine:
    """The engine, after its attention was looked at on this process's device."""
    try:
        engine = Engine(graphdef, spec, settings, **rest)
        check_attention(engine.programs)
    except (CannotAttend, AttentionDiffers) as error:
        raise ConfigError([f"rollout.{error}"]) from error
    return engine


def self_play(
    c: Config, loop: EventLoop, prompter: Prompter, buffers: Buffers, reserved: Reserved | None = None
) -> SelfPlay:
    """`reserved`: programs of the run's evaluations."""
    proposer = Proposer(prompter, buffers, c, reserved or Reserved())
    solver = Solver(prompter, c.tasks.induction_reward, c.tasks.deduction_answer, c.tasks.abduction_answer)
    baselines = Baselines(c.learner.rae_decay) if c.learner.advantage == "rae" else None
    return SelfPlay(c, loop, proposer, solver, reward_settings(c), baselines)


def _checkpointer(c: Config, home: str, hosts: Hosts) -> Checkpointer:
    kept = c.checkpoint
    return Checkpointer(home, keep=kept.keep, keep_every=kept.keep_every, moments=kept.moments, hosts=hosts)


def _dropout(c: Config, tokenizer: HfTokenizer, spec: ModelSpec) -> Dropout | None:
    share = c.rollout.propose_vocab_dropout
    return Dropout(droppable(tokenizer, spec.vocab), share, c.seed) if share else None


def start_policy(params: nnx.State, settings: LearnerSettings) -> nnx.State | None:
    """A copy of the weights that the divergence is measured from; None where none is, or the base serves."""
    return _cast(params, settings.dtype, copy=True) if settings.objective.kl and not settings.trained.rank else None


def _for_sampling(settings: LearnerSettings) -> Callable[[TrainState], nnx.State]:
    """Only corrections have to be added first: the engine casts and lays out what it gets, in one program."""
    if settings.trained.rank:
        return jax.jit(lambda state: _cast(merged(state.params, state.base), settings.rounded_to))
    return lambda state: merged(state.params, state.base)


def _cast(params: nnx.State, dtype: DTypeLike, *, copy: bool = False) -> nnx.State:
    return jax.tree.map(lambda p: jnp.array(p, dtype, copy=copy), params)


def _evaluation(c: Config, prompter: Prompter, loop: EventLoop) -> Evaluation:
    try:
        return Evaluation(c.eval, prompter, loop)
    except DataProblem as error:
        hint = "(here: eval.data_dir; eval.every=0 measures nothing)"
        raise ConfigError([f"eval.suites={','.join(c.eval.suites)}: {error} {hint}"]) from error
