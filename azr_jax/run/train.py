"""The loop: open the workdir, restore or seed, then iteration after iteration: play, learn, write down.

A run is stopped by Ctrl-C at the end of an iteration, by SIGTERM at once (signals.py), and goes on by the same command
from its last checkpoint: weights, optimizer and the cursors of every file, which are cut back to that moment. What is
drawn and sampled depends on seed and iteration alone, so the run that goes on is the run that was never stopped
(but for rounding by paged_gpu.py, whose sums depend on who is decoded beside).

Of several processes each does all of this, on its own devices and its share of the programs to be judged; the first one
alone writes and speaks (run_log.py), and checkpoints are written by all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import jax

from azr_jax.config.schema import Config, ConfigError
from azr_jax.learner.checkpoint import CheckpointError
from azr_jax.learner.flops import throughput
from azr_jax.learner.measures import over_steps
from azr_jax.learner.packing import TrainingSample, minibatches, pack, padding_share
from azr_jax.learner.step import GradientsNotFinite, TrainState, stop_if_stuck
from azr_jax.monitor.console import Console, log_to_file, quiet_libraries
from azr_jax.monitor.system import system_metrics
from azr_jax.parallel.hosts import Hosts
from azr_jax.run import presenting
from azr_jax.run.build import RunParts, build
from azr_jax.run.device_stats import compilations, device_memory
from azr_jax.run.heldout_eval import accuracies
from azr_jax.run.place import open_place, settled
from azr_jax.run.process_checks import check_same, together
from azr_jax.run.profiling import keep_compiled, traced
from azr_jax.run.rollback import Returns
from azr_jax.run.run_log import Ledger
from azr_jax.run.schedule import Bound, followed
from azr_jax.run.signals import Preempted, Stop
from azr_jax.run.stage_deadlines import Watch
from azr_jax.run.workdir import changes_from
from azr_jax.selfplay.results import Played
from azr_jax.selfplay.seeding import SEEDING, Seeding, SeedingFailed
from azr_jax.tasks.buffers import DamagedJournal
from azr_jax.tasks.kind import KindFailed

BRING_BACK = "without it the run cannot go on: bring it back, or give another folder"


def train(
    config: Config,
    workdir: str,
    *,
    recipe: str,
    again: str,
    fork_from: str | None = None,
    hosts: Hosts | None = None,
) -> None:
    """Runs to the last iteration, or to where it was asked to stop.

    `recipe` and `again`, the command that resumes this run, are told to the user.
    """
    base = Config()
    hosts = hosts or Hosts()
    check_same(hosts, config, workdir=workdir, fork_from=fork_from)
    with ExitStack() as held:
        with together(hosts):
            place = held.enter_context(open_place(workdir, config, base, hosts))
        folder = place.folder
        place.join(hosts)
        quiet_libraries()
        log_to_file(folder, hosts.index)
        keep_compiled(place.home)
        console = Console(quiet=not hosts.first)
        console.message(presenting.opening(config, base, recipe, place.home))
        if hosts.count > 1:
            console.message(f"{hosts.count} processes: {', '.join(hosts.names)}")
        returns = Returns(folder, config.monitor.health.returns, hosts, place.home)
        done = False
        while not done:
            place.follow()
            run = build(returns.reseeded(config), place, hosts)
            done = _train(run, console, returns, again, fork_from)
            place.publish()
        hosts.gather()  # who is done waits here for who writes the report


def _train(run: RunParts, console: Console, returns: Returns, again: str, fork_from: str | None) -> bool:
    """False where updates went bad and the run is to go on from a checkpoint before them."""
    try:
        play = run.self_play
        watched = Watch(run.config.watchdog, run.workdir, play.loop, run.engine, run.executor, play.kinds).on()
        with Stop(run.hosts) as stop, watched as watch, jax.set_mesh(run.mesh):
            if run.mesh.size > 1:
                console.message(f"{run.mesh.size} devices: {run.layout}")
            training = Training(run, console, stop, watch, fork_from)
            try:
                with console.live(run.config.iterations):
                    said = training.go(again)
                console.message(said)
            except GradientsNotFinite as error:
                training.close()
                run.checkpointer.wait()
                run.hosts.from_first(run.place.check)
                first_bad = training.iteration + 2 - run.config.learner.max_bad_steps
                if not returns.go_back(first_bad):
                    raise
                console.alarm("bad_updates", f"{error}. Goes back to iteration {returns.target}, with other draws")
                return False
        return True
    finally:
        run.close()


class Training:
    def __init__(self, run: RunParts, console: Console, stop: Stop, watch: Watch, fork_from: str | None):
        self.run, self.console, self.stop, self.watch = run, console, stop, watch
        self.iteration = self.saved = 0  # the last one finished, and the last one saved
        self.learned_from: Sequence[TrainingSample] = ()  # by the last update
        assert run.start_state is not None
        self.state, run.start_state = run.start_state, None  # the first step consumes it
        extra = self._restore(fork_from)
        self.follow = followed(run.config.pipeline.follow, self.iteration)
        self.bound = bound = Bound(run.config.pipeline, extra)
        # Not by `self`: in a circle, a run that is over would keep its weights until somebody collects garbage.
        run.self_play = replace(run.self_play, may_begin=lambda: bound.within)
        with together(run.hosts):
            self.ledger = Ledger(run, console, extra, self.iteration) if run.hosts.first else None
        run.place.going_on(self.iteration + 1)  # and what was cut back is cut back in a bucket too
        if self.iteration:
            otherwise = changes_from(run.workdir, self.iteration + 1)
            console.message(f"resumed after iteration {self.iteration}{otherwise and f', with {otherwise}'}")

    def go(self, again: str) -> str:
        """Returns what to tell the user in the end."""
        if not self.iteration:
            self._hand_weights_over(SEEDING)
            if not self._seed():
                return f"stopped while seeding; go on with\n  {again}"
        if self.run.config.pipeline.ahead:
            self.run.self_play.loop.log(self.follow)
        self._hand_weights_over(self.iteration + 1)
        if not self.iteration and self.run.evaluation.settings.every:
            timings: dict[str, float] = {}
            numbers = self._evaluate(timings)
            if self.ledger:
                self.ledger.before_training(numbers, timings)
                self.run.place.publish()
        last = self.run.config.iterations
        while self.iteration < last and not self.stop.asked:
            try:
                with traced(self.iteration + 1, self.run.config.profile.steps if self.ledger else (), self.run.workdir):
                    self._one(self.iteration + 1)
            except Preempted:
                if self.iteration > self.saved:
                    self._save()
        with self.watch.stage("save"):
            self.run.checkpointer.wait()
        self.close()
        if self.ledger and self.iteration:
            with self.watch.stage("report"):
                self.ledger.last_report()
        if self.ledger and (learned := self.ledger.progress()):
            self.console.message(learned)
        return presenting.closing(self.run.place.home, self.iteration, last, again)

    def close(self) -> None:
        if self.ledger:
            self.ledger.close()

    # --- one iteration

    def _one(self, number: int) -> None:
        loop = self.run.self_play.loop
        with (
            self.console.stages(f"iteration {number}") as show,
            loop.shown(show),
            loop.checked(self.stop.leave_if_preempted),
        ):
            played, learned = self.run.self_play.iteration(number, self._update, self.watch.stage)
        self.iteration = number
        timings = self._timings(played)
        self._hand_weights_over(number + 1)
        if self.run.evaluation.due(number, self.run.config.iterations):
            learned |= self._evaluate(timings)
        self._write_down(played, learned, timings)
        c = self.run.config
        if number % c.checkpoint.every == 0 or number == c.iterations or self.stop.asked:
            self._save()
        if self.ledger:
            self.ledger.report_when_due(number)

    def _update(self, number: int, samples: Sequence[TrainingSample]) -> dict[str, float]:
        """One optimizer step on everything the iteration produced, or several (learner.epochs, learner.minibatches)."""
        learner, self.learned_from = self.run.config.learner, samples
        self.run.engine.release_memory()  # on a full chip there is no room for its cache beside the backward pass
        parts = minibatches(samples, learner.minibatches)
        dropped_V = self.run.dropout.of(number) if self.run.dropout else None
        how = {"rows": self.run.rows, "row_lengths": learner.row_lengths, "share": learner.share_prompts}
        how |= {"ages": self.run.learner.oldest > 0}
        batches = [pack(part, self.run.row_tokens, dropped_V=dropped_V, **how) for part in parts]
        self.state, steps = self.run.update(self.state, batches)
        for measured, batch in zip(steps, batches * learner.epochs, strict=True):
            stop_if_stuck(measured, batch, self.run.learner, self.run.workdir)
        numbers = {f"learner/{name}": value for name, value in over_steps(steps).items()}
        numbers |= self.bound.note(numbers, self.run.hosts)
        return numbers | {"learner/padding_share": statistics.fmean(map(padding_share, batches))}

    def _hand_weights_over(self, iteration: int) -> None:
        """The sampler's weights are the learner's, laid out and typed for sampling: devices to devices.

        What is sampled with them has the randomness of `iteration`: requests of two iterations may have the same ids.
        """
        with self.watch.stage("weights"):
            dropped_V = self.run.dropout.of(iteration) if self.run.dropout else None
            self.run.engine.load_weights(self.run.for_sampling(self.state), iteration, dropped_V)

    def _evaluate(self, timings: dict[str, float]) -> dict[str, float]:
        """The weights just learned, on tasks that are never trained on."""
        started = time.perf_counter()
        shown = self.run.self_play.loop.shown
        with self.watch.stage("evaluate"), self.console.stages("held-out tasks") as show, shown(show):
            scores = self.run.evaluation.measure()
        numbers = accuracies(scores) | (self.ledger.held_out(self.iteration, scores) if self.ledger else {})
        timings["time/evaluate"] = time.perf_counter() - started
        self.console.message(presenting.evaluation(self.iteration, numbers))
        self._hand_weights_over(self.iteration + 1)  # what the engine counts from here on belongs to the next iteration
        return numbers

    def _timings(self, played: Played) -> dict[str, float]:
        timings = self.watch.taken("play", "update") | {"time/waiting_for_executor": played.waited_s}
        devices, epochs = list(self.run.mesh.devices.flat), self.run.config.learner.epochs
        timings |= throughput(self.run.spec, self.learned_from, epochs, timings["time/update"], devices)
        timings |= {f"engine/{name}": value for name, value in self.run.engine.metrics().items()}
        timings["engine/tokens_per_s_per_device"] = timings["engine/tokens_per_s"] / len(devices)
        timings |= {f"executor/{name}": value for name, value in self.run.executor.stats().items()}
        # A checkpoint is written after its iteration's line: its time stands in the next one.
        timings |= self.watch.taken("weights", "save")
        return timings | system_metrics() | compilations().taken() | device_memory()

    def _write_down(self, played: Played, learned: Mapping[str, float], timings: dict[str, float]) -> None:
        written: dict[str, Any] = {}
        self.run.buffers.flush()
        if self.ledger:
            alarm = self.ledger.iteration(played, learned, timings)
            written = self.ledger.cursors()
            if alarm:
                self.console.message(f"monitor.health.stop_on: {alarm} asks to end the run")
                self.stop.ask()
        if delivered := self.run.self_play.loop.delivered:
            delivered.clear()
        self.run.place.publish()
        self._stay_together(written)

    def _stay_together(self, written: dict[str, Any]) -> None:
        """All learn who asked to stop, and that they hold the same tasks: else they would train different models."""
        hosts, kept = self.run.hosts, self.run.buffers.position()
        told = hosts.gather({"buffers": kept, **written})
        for name, other in zip(hosts.names, told, strict=True):
            if other["buffers"] != kept:
                raise RuntimeError(
                    f"{hosts.names[hosts.index]} and {name} hold different tasks after iteration {self.iteration}, "
                    f"{kept} and {other['buffers']}; do they run the same code and read the same files?"
                )
        # Where every file stands at the end of the iteration; the next one writes on while it is played.
        self.cursors: dict[str, Any] = told[0]

    # --- before and after

    def _seed(self) -> bool:
        self.console.message(self.run.executor.layers)
        with self.console.stages("seeding") as show, self.run.self_play.loop.shown(show):
            seeding = Seeding(
                self.run.config,
                self.run.engine.slots,
                self.run.self_play.loop,
                self.run.self_play.proposer,
                self.run.workdir / "seeding.json",
                on_progress=show,
                stop_asked=lambda: self.stop.asked,
                on_written=self.run.place.publish,
            )
            try:
                with self.watch.stage("seed"):
                    full = seeding.fill()
            except (SeedingFailed, KindFailed) as error:
                raise ConfigError([str(error)]) from error
            except DamagedJournal as error:
                place = self.run.place
                raise ConfigError([f"--workdir={place.home}: {place.told(error)}; {BRING_BACK}"]) from error
        for reason, count in seeding.refused_reasons().items():
            self.console.message(f"seed file: {count} rows refused: {reason}")
        return full

    def _restore(self, fork_from: str | None) -> dict[str, Any]:
        """Brings weights, optimizer and buffers back, and returns where the other files stood."""
        if self.run.hosts.from_first(self.run.checkpointer.iterations):
            place = self.run.place
            try:
                restored = self.run.checkpointer.restore(self._set_aside())
                self.run.buffers.load(restored.extra["buffers"])
            except (CheckpointError, DamagedJournal) as error:
                raise ConfigError([f"--workdir={place.home}: {place.told(error)}; {BRING_BACK}"]) from error
            self.state, self.iteration, self.saved = restored.state, restored.iteration, restored.iteration
            if self.run.self_play.baselines:
                self.run.self_play.baselines.values = dict(restored.extra.get("baselines", {}))
            return restored.extra
        if fork_from:
            fork_from = settled(fork_from)
            self.state = self.run.fork(fork_from, self._set_aside())
            self.console.message(f"forked from {fork_from}: its latest weights and tasks")
        return {}

    def _set_aside(self) -> TrainState:
        """The shapes of the state, which itself makes room for what is read: a chip may not hold two."""
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), self.state)
        del self.state
        return shapes

    def _save(self) -> None:
        with self.watch.stage("save"):
            self.run.hosts.from_first(self.run.place.check)  # it may have been asleep since it wrote last
            baselines = self.run.self_play.baselines
            kept = self.cursors | ({"baselines": baselines.values} if baselines else {}) | self.bound.to_keep()
            self.run.checkpointer.save(self.iteration, self.state, kept)
        self.saved = self.iteration
