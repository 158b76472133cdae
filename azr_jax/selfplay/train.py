"""The loop: open the workdir, restore or seed, then iteration after iteration: play, learn, write down.

A run is stopped by Ctrl-C at the end of an iteration, by SIGTERM at once (stopping.py), and goes on by the same command
from its last checkpoint: weights, optimizer and the cursors of every file, which are cut back to that moment. What is
drawn and sampled depends on seed and iteration alone, so the run that goes on is the run that was never stopped.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import absl.logging
import jax

from azr_jax import config as configs
from azr_jax.config import Config, ConfigError
from azr_jax.learner.packing import minibatches, pack, padding_share
from azr_jax.learner.update import GradientsNotFinite, over_steps, stop_if_stuck
from azr_jax.monitor.console import Console, Stderr, log_to_file
from azr_jax.monitor.health import Health, settings_from
from azr_jax.monitor.metrics import MetricsWriter
from azr_jax.monitor.records import RecordWriter
from azr_jax.monitor.report import build as build_report
from azr_jax.monitor.report import build_in_background
from azr_jax.monitor.rundata import read_rows
from azr_jax.monitor.system import system_metrics
from azr_jax.selfplay import scoring, telling
from azr_jax.selfplay.build import Run, build
from azr_jax.selfplay.devices import compilations, device_memory
from azr_jax.selfplay.iteration import Iteration
from azr_jax.selfplay.measures import measure
from azr_jax.selfplay.played import Played
from azr_jax.selfplay.profiling import keep_compiled, traced
from azr_jax.selfplay.proposing import draw
from azr_jax.selfplay.returning import Returns
from azr_jax.selfplay.seeding import Seeding, SeedingFailed
from azr_jax.selfplay.stopping import Preempted, Stop
from azr_jax.selfplay.watching import Watch
from azr_jax.selfplay.workdir import open_workdir

BASE = Path(__file__).parents[2] / "configs" / "base.py"


def train(config: Config, workdir: str, *, recipe: str, again: str, fork_from: str | None = None) -> None:
    """Runs to the last iteration, or to where it was asked to stop.

    `recipe` and `again`, the command that resumes this run, are told to the user.
    """
    base, _ = configs.load(str(BASE), {})
    folder = open_workdir(workdir, config, base)
    absl.logging.get_absl_handler().setLevel(logging.WARNING)  # the console is for people; the rest goes to logs/
    absl.logging.get_absl_handler().python_handler.setStream(Stderr())
    log_to_file(folder)
    keep_compiled(folder)
    console = Console()
    console.message(telling.opening(config, base, recipe, folder))
    returns = Returns(folder, config.monitor.health.returns)
    while not _train(build(returns.reseeded(config), folder), console, returns, again, fork_from):
        pass


def _train(run: Run, console: Console, returns: Returns, again: str, fork_from: str | None) -> bool:
    """False where updates went bad and the run is to go on from a checkpoint before them."""
    try:
        watched = Watch(run.config.watchdog, run.workdir, run.proposer.streams).on()
        with Stop() as stop, watched as watch, jax.set_mesh(run.mesh):
            training = Training(run, console, stop, watch, fork_from)
            try:
                with console.live(run.config.iterations):
                    said = training.go(again)
                console.message(said)
            except GradientsNotFinite as error:
                training.metrics.close()
                run.checkpointer.wait()
                first_bad = training.iteration + 2 - run.config.learner.max_bad_steps
                if not returns.go_back(first_bad):
                    raise
                console.alarm("bad_updates", f"{error}. Goes back to iteration {returns.target}, with other draws")
                return False
        return True
    finally:
        run.close()


class Training:
    def __init__(self, run: Run, console: Console, stop: Stop, watch: Watch, fork_from: str | None):
        self.run, self.console, self.stop, self.watch = run, console, stop, watch
        self.iteration = self.saved = 0  # the last one finished, and the last one saved
        self.state = run.start_state
        extra = self._restore(Path(fork_from).resolve() if fork_from else None)
        self.metrics = MetricsWriter(run.workdir, run.config.monitor.sinks, extra.get("metrics"))
        self.records = RecordWriter(run.workdir, extra.get("records", 0))
        self.health = Health(settings_from(run.config), past=read_rows(run.workdir))

    def go(self, again: str) -> str:
        """Returns what to tell the user in the end."""
        self._hand_weights_over()
        if not self.iteration and not self._seed():
            return f"stopped while seeding; go on with\n  {again}"
        if not self.iteration and self.run.evaluation.settings.every:
            timings: dict[str, float] = {}
            self.metrics.write(0, self._evaluate(timings), timings)
        last = self.run.config.iterations
        while self.iteration < last and not self.stop.asked:
            try:
                with traced(self.iteration + 1, self.run.config.profile.steps, self.run.workdir):
                    self._one(self.iteration + 1)
            except Preempted:
                if self.iteration > self.saved:
                    self._save()
        with self.watch.stage("save"):
            self.run.checkpointer.wait()
        self.metrics.close()
        if self.iteration:
            with self.watch.stage("report"):
                build_report([self.run.workdir], self.run.workdir / "report.html")
        learned = telling.progress(read_rows(self.run.workdir))
        if learned:
            self.console.message(learned)
        return telling.closing(self.run.workdir, self.iteration, last, again)

    # --- one iteration

    def _one(self, number: int) -> None:
        clock = [time.perf_counter()]
        with self.watch.stage("play"):
            played = self._play(number)
        scoring.reward(played, self.run.rewards)
        clock.append(time.perf_counter())
        with self.watch.stage("update"):
            learned = self._learn(played)
        clock.append(time.perf_counter())
        self.iteration = number
        timings = self._timings(played, {"play": clock[1] - clock[0], "update": clock[2] - clock[1]})
        self._hand_weights_over()
        if self.run.evaluation.due(number, self.run.config.iterations):
            learned |= self._evaluate(timings)
        self._write_down(played, learned, timings)
        self.cursors = self._cursors()
        c = self.run.config
        if number % c.checkpoint.every == 0 or number == c.iterations or self.stop.asked:
            self._save()
        if c.monitor.report_every and number % c.monitor.report_every == 0:
            build_in_background(self.run.workdir)

    def _play(self, number: int) -> Played:
        streams = self.run.proposer.streams
        with (
            self.console.stages(f"iteration {number}") as show,
            streams.shown(show),
            streams.checked(self.stop.leave_if_preempted),
        ):
            return Iteration(
                number,
                self.run.play,
                self.run.proposer,
                lambda stage, done, total: show(stage.name.lower(), done, total),
            ).play()

    def _learn(self, played: Played) -> dict[str, float]:
        """One optimizer step on everything the iteration produced, or several (learner.epochs, learner.minibatches)."""
        c = self.run.config
        chosen = scoring.trained_on(played, proposer=c.tasks.train_proposer, estimates=c.tasks.train_on_estimates)
        rewards = scoring.spoiled(chosen, c.rewards.control, draw(c.seed, played.iteration, "control"))
        advised = scoring.advise(chosen, c.learner.advantage, c.learner.weighting, rewards)
        parts = minibatches(scoring.samples(chosen), c.learner.minibatches)
        shape = {"rows": self.run.rows, "row_lengths": c.learner.row_lengths}
        batches = [pack(part, self.run.row_tokens, **shape) for part in parts]
        self.state, steps = self.run.update(self.state, batches)
        for measured, batch in zip(steps, batches * c.learner.epochs, strict=True):
            stop_if_stuck(measured, batch, self.run.learner, self.run.workdir)
        numbers = {f"learner/{name}": value for name, value in over_steps(steps).items()}
        return numbers | advised | {"learner/padding_share": statistics.fmean(map(padding_share, batches))}

    def _hand_weights_over(self) -> None:
        """The sampler's weights are the learner's, laid out and typed for sampling: devices to devices."""
        with self.watch.stage("weights"):
            self.weights = self.run.for_sampling(self.state)
            self._begin()

    def _begin(self) -> None:
        self.run.engine.begin(self.weights, self.iteration + 1)

    def _evaluate(self, timings: dict[str, float]) -> dict[str, float]:
        """The weights just learned, on tasks that are never trained on."""
        started = time.perf_counter()
        shown = self.run.proposer.streams.shown
        with self.watch.stage("evaluate"), self.console.stages("held-out tasks") as show, shown(show):
            numbers = self.run.evaluation.measure()
        timings["time/evaluate"] = time.perf_counter() - started
        self.console.message(telling.evaluation(self.iteration, numbers))
        self._begin()  # what the engine counts from here on belongs to the next iteration
        return numbers

    def _timings(self, played: Played, seconds: Mapping[str, float]) -> dict[str, float]:
        timings = {f"time/{name}": value for name, value in seconds.items()}
        timings["time/waiting_for_executor"] = played.waited_s
        timings |= {f"engine/{name}": value for name, value in self.run.engine.metrics().items()}
        timings |= {f"executor/{name}": value for name, value in self.run.executor.stats().items()}
        # A checkpoint is written after its iteration's line: its time stands in the next one.
        timings |= self.watch.taken("weights", "save")
        return timings | system_metrics() | compilations().taken() | device_memory()

    def _write_down(self, played: Played, learned: Mapping[str, float], timings: dict[str, float]) -> None:
        numbers = measure(played, self.run.buffers) | dict(learned)
        alarms = self.health.check(played.iteration, numbers | timings)
        timings |= self.health.metrics()
        self.metrics.write(played.iteration, numbers, timings)
        self.records.write(played.iteration, telling.records(played))
        self.console.iteration(played.iteration, telling.iteration_row(played.proposed, numbers, timings))
        self.console.table(*telling.iteration_table(played, self.run.config.iterations, numbers, timings))
        example = telling.example(played)
        if example:
            self.console.task(*example)
        for alarm in alarms:
            self.console.alarm(alarm.rule, str(alarm))
        if self.health.stop:
            self.console.message(f"monitor.health.stop_on: {self.health.stop} asks to end the run")
            self.stop.asked = True

    # --- before and after

    def _seed(self) -> bool:
        self.console.message(self.run.executor.layers)
        with self.console.stages("seeding") as show, self.run.proposer.streams.shown(show):
            seeding = Seeding(
                self.run.seeding,
                self.run.proposer,
                self.run.workdir / "seeding.json",
                on_progress=show,
                stop_asked=lambda: self.stop.asked,
            )
            try:
                with self.watch.stage("seed"):
                    full = seeding.fill()
            except SeedingFailed as error:
                raise ConfigError([str(error)]) from error
        for reason, count in seeding.refused_reasons().items():
            self.console.message(f"seed file: {count} rows refused: {reason}")
        return full

    def _restore(self, fork_from: Path | None) -> dict[str, Any]:
        """Brings weights, optimizer and buffers back, and returns where the other files stood."""
        if self.run.checkpointer.iterations():
            restored = self.run.checkpointer.restore(self.state)
            self.state, self.iteration, self.saved = restored.state, restored.iteration, restored.iteration
            self.run.buffers.load(restored.extra["buffers"])
            self.console.message(f"resumed after iteration {self.iteration}")
            return restored.extra
        if fork_from is not None:
            self.state = self.run.fork(fork_from, self.state)
            self.console.message(f"forked from {fork_from}: its latest weights and tasks")
        return {}

    def _cursors(self) -> dict[str, Any]:
        """Where every file stands at the end of an iteration; the next one writes on while it is played."""
        return {
            "buffers": self.run.buffers.position(),
            "metrics": self.metrics.cursor(),
            "records": self.records.cursor(),
        }

    def _save(self) -> None:
        with self.watch.stage("save"):
            self.run.buffers.flush()
            self.run.checkpointer.save(self.iteration, self.state, self.cursors)
        self.saved = self.iteration
