"""The watchdog as a run wires it: whatever hangs is named, by request and by program, within its deadline.

What hangs is real where it can be: a real executor with a program that never ends, a callback that never returns.
Deadlines are a fraction of a second; how long the test waits for the report is generous, for a busy machine.
"""

import json
import re
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from azr_jax.config import flags as configs
from azr_jax.config.schema import Config, WatchdogConfig
from azr_jax.executor.jobs import Run, Verify
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.monitor.jsonl import read
from azr_jax.rollout.engine import Request, Rollout
from azr_jax.run import build
from azr_jax.run.rollback import APART, Returns
from azr_jax.run.stage_deadlines import STAGES, Watch, request_name
from azr_jax.run.train import train
from azr_jax.selfplay.event_loop import EventLoop, RequestId, Sample, Stage
from azr_jax.tasks.types import Answer, Kind, Triplet

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


class OneAtATime:
    """An engine whose only round hands out the one request it was given."""

    def __init__(self):
        self.request = None

    def submit(self, request):
        self.request = request

    def under_way(self):
        return [(self.request.id, 0, 17)] if self.request else []

    def step(self):
        return [Rollout(self.request, 0, (1,), (0.0,), (0.0,), "stop")]


class Silent:
    """An executor that never answers."""

    def __init__(self):
        self.future = Future()

    def submit(self, job):
        return self.future

    def pending(self):
        return ["#1 verify deduction: running, 0.1 s old"]


def settings(**given):
    return WatchdogConfig(**({f"{name}_s": 3600.0 for name in (*STAGES, "process")} | given))


def told(watch, text):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = watch.dog.path.read_text()
        if text in found and found.endswith("\n"):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{text!r} did not come: {watch.dog.path.read_text()}")


def in_background(work):
    thread = threading.Thread(target=work, name="the run", daemon=True)
    thread.start()
    return thread


def until_closed(loop, job):
    with pytest.raises(RuntimeError, match="executor was closed"):
        loop.run(job)


def test_a_silent_executor_is_named_with_kind_program_and_answer(tmp_path):
    executor = Silent()
    loop = EventLoop(OneAtATime(), executor)
    watch = Watch(settings(verdict_s=0.3), tmp_path, loop, loop.engine, loop.executor, poll_s=0.05)
    verdicts = []
    with watch.on():
        task = Triplet("def f(x):\n    return x * 3", "4", "12", "12")
        job = Verify(Kind.DEDUCTION, task, Answer(Kind.DEDUCTION, "12\x1b[2J"))
        run = in_background(lambda: verdicts.append(loop.run(job)))
        text = told(watch, "stage verdict has taken")
        executor.future.set_result("right")
        run.join(PATIENCE_S)
    assert verdicts == ["right"]
    assert re.search(r"stage verdict has taken \d+\.\d s, its deadline is 0\.3 s", text)
    assert "waiting for executor: 2\n  #1 verify deduction: running" in text
    assert "Verify 0 (deduction): 'def f(x):\\n    return x * 3', answer '12\\x1b[2J'" in text
    assert "thread the run:" in text and "_judged.get(" in text
    assert "\x1b" not in text


def test_a_program_that_never_ends_is_named_by_the_real_executor(tmp_path):
    with Executor(ExecutorSettings(workers=1, timeout_s=120.0)) as executor:
        loop = EventLoop(OneAtATime(), executor)
        watch = Watch(settings(verdict_s=1.0), tmp_path, loop, loop.engine, loop.executor, poll_s=0.05)
        with watch.on():
            in_background(lambda: until_closed(loop, Run("def f(x):\n    while True:\n        pass", ("1",))))
            text = told(watch, "stage verdict has taken")
    assert "#1 run: running" in text
    assert "Run 0: 'def f(x):\\n    while True:\\n        pass'" in text
    assert re.search(r"process \d+ \(.*\): alive", text)  # the executor's own processes are listed


def test_a_job_that_never_goes_on_is_named_with_its_request(tmp_path):
    loop, release = EventLoop(OneAtATime(), Silent()), threading.Event()
    watch = Watch(settings(round_s=0.3), tmp_path, loop, loop.engine, loop.executor, poll_s=0.05)

    number = RequestId(Stage.ESTIMATE, Kind.INDUCTION.number, 5)

    def job_that_hangs():
        yield Sample(Request(number, (1, 2), 10))
        release.wait(PATIENCE_S)

    with watch.on():
        run = in_background(lambda: loop.run(job_that_hangs()))
        text = told(watch, "stage round has taken")
        release.set()
        run.join(PATIENCE_S)
    assert f"waiting for job: 1\n  request {number}, sample 0" in text
    assert "estimate induction/5, sample 0: 17 tokens so far" in text
    assert "job_that_hangs" in text


def test_nothing_is_said_of_a_run_that_keeps_its_deadlines(tmp_path):
    loop = EventLoop(OneAtATime(), Silent())

    def slow():
        yield Sample(Request(RequestId(Stage.SOLVE, 0, 1), (1, 2), 10))
        time.sleep(0.2)

    watch = Watch(settings(round_s=PATIENCE_S), tmp_path, loop, loop.engine, loop.executor, poll_s=0.02)
    with watch.on(), watch.stage("play"):
        loop.run(slow())
    assert watch.dog.path.read_text() == ""


@pytest.mark.parametrize("stage", [Stage.PROPOSE, Stage.ESTIMATE, Stage.SOLVE])
@pytest.mark.parametrize("kind", list(Kind))
def test_the_name_of_a_request_is_what_it_was_made_of(stage, kind):
    number = RequestId(stage, kind.number, 777)
    assert (number.stage, number.group, number.index) == (stage, kind.number, 777)
    assert request_name(number) == f"{stage.name.lower()} {kind}/777"
    assert request_name(RequestId(Stage.HELD_OUT, 1, 5)) == "held-out task 5 of suite 1"


def test_every_stage_has_its_deadline_in_the_config():
    base, problems = configs.load(str(ROOT / "configs/base.py"), {})
    assert not problems
    assert {f"{name}_s" for name in (*STAGES, "process")} | {"on_expiry"} == set(vars(base.watchdog))
    for flag, value in (("watchdog.on_expiry", "stop"), ("watchdog.play_s", "0"), ("watchdog.round_s", "soon")):
        _, problems = configs.load(str(ROOT / "configs/base.py"), {flag: value})
        assert len(problems) == 1 and f"{flag}={value}"[:16] in problems[0], problems


def test_thresholds_are_given_by_name_and_wrong_ones_are_named():
    given = {"monitor.health.thresholds": "entropy_collapse=0.1,sampler_gap=0.5"}
    config, problems = configs.load(str(ROOT / "configs/base.py"), given)
    assert not problems
    assert config.monitor.health.thresholds == ("entropy_collapse=0.1", "sampler_gap=0.5")
    for wrong in ("entropy=0.1", "entropy_collapse", "entropy_collapse=low", "sampler_gap=1,sampler_gap=2"):
        _, problems = configs.load(str(ROOT / "configs/base.py"), {"monitor.health.thresholds": wrong})
        assert len(problems) == 1 and "name=number, joined by commas" in problems[0], wrong


def checkpoints(workdir, *iterations):
    for iteration in iterations:
        (workdir / "checkpoints" / str(iteration)).mkdir(parents=True)


def test_going_back_drops_later_checkpoints_and_draws_otherwise_also_after_a_resume(tmp_path):
    config = Config(seed=7)
    checkpoints(tmp_path, 5, 10, 15)
    returns = Returns(tmp_path, most=1)
    assert returns.reseeded(config).seed == 7
    assert returns.go_back(first_bad=11)
    assert returns.target == 10
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "5"]
    assert Returns(tmp_path, most=1).reseeded(config).seed == 7 + APART
    assert config.seed == 7
    assert not returns.go_back(first_bad=10)  # once was allowed
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "5"]


@pytest.mark.slow
def test_a_run_whose_updates_go_bad_goes_on_from_before_them_with_other_draws(tmp_path, monkeypatch):
    """Updates 3, 4 and 5 are not finite: with three allowed, the run goes back to iteration 2 and gets to 6."""
    calls, before = [], []

    def update(state, batches):
        calls.append(len(calls) + 1)
        bad = max(0, calls[-1] - 2) if calls[-1] <= 5 else 0
        if calls[-1] == 5:
            before.extend(read(workdir / "records.jsonl"))
        return state, [{"loss": 0.0, "gradient/norm": 1.0, "steps/bad_in_row": float(bad)}]

    workdir = tmp_path / "run"
    monkeypatch.setattr(build, "make_update", lambda graphdef, settings, *, reference: update)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = {"iterations": "6", "checkpoint.keep": "5", "monitor.health.returns": "1"}
    given["seeding.import_from"] = str(ROOT / "tests/fixtures/seeds.jsonl")
    config, problems = configs.load(str(ROOT / "configs/tiny.py"), given)
    assert not problems
    train(config, str(workdir), recipe="tiny", again="the same")
    assert [row["iteration"] for row in read(workdir / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert json.loads((workdir / "returns.json").read_text()) == [{"from": 3, "to": 2}]

    def written(records, iteration):
        return [record["completion"] for record in records if record["iteration"] == iteration]

    after = list(read(workdir / "records.jsonl"))
    assert written(after, 2) == written(before, 2)
    assert written(after, 3) != written(before, 3)
    assert len(calls) == 9


def test_without_a_checkpoint_before_the_trouble_there_is_no_way_back(tmp_path):
    checkpoints(tmp_path, 10)
    assert not Returns(tmp_path, most=3).go_back(first_bad=10)
    assert not (tmp_path / "returns.json").exists()
