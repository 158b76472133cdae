"""Numbers on disk: one line per iteration, the same bytes however often the run was killed."""

import json
import math
import random
import re
import struct
import sys
import time
import types

import made_up_run
import pytest
from tensorboardX.proto import event_pb2

from azr_jax.monitor.jsonl import JsonLines, read
from azr_jax.monitor.metrics import MetricsWriter, SinkProblem, check_sinks
from azr_jax.monitor.records import RecordWriter

FILES = ("metrics.jsonl", "timings.jsonl", "records.jsonl")


def play(workdir, first, last, cursor=None):
    """Iterations first to last; what they compute follows from their number alone. Returns the cursors at the end."""
    workdir.mkdir(exist_ok=True)
    cursor = cursor or {}
    metrics, records = (
        MetricsWriter(workdir, (), cursor.get("metrics")),
        RecordWriter(workdir, cursor.get("records", 0)),
    )
    for iteration in range(first, last + 1):
        rng = random.Random(iteration)
        metrics.write(iteration, *made_up_run.numbers(iteration, rng))
        records.write(iteration, [made_up_run.proposal(iteration, "deduction", 0, iteration, rng)])
    metrics.close()
    return {"metrics": metrics.cursor(), "records": records.cursor()}


def test_a_killed_and_resumed_run_leaves_the_bytes_of_one_that_was_never_killed(tmp_path):
    play(tmp_path / "whole", 1, 12)

    saved = play(tmp_path / "killed", 1, 5)  # the checkpoint
    play(tmp_path / "killed", 6, 8, saved)  # killed three iterations later, with nothing saved
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 9, "propo')  # in the middle of a line
    play(tmp_path / "killed", 6, 12, saved)

    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert [row["iteration"] for row in read(tmp_path / "killed" / "metrics.jsonl")] == list(range(1, 13))


def test_a_run_killed_before_its_first_checkpoint_starts_clean(tmp_path):
    play(tmp_path / "run", 1, 3)
    play(tmp_path / "run", 1, 2)
    assert [row["iteration"] for row in read(tmp_path / "run" / "metrics.jsonl")] == [1, 2]


def test_a_file_shorter_than_the_checkpoint_remembers_is_an_error_with_its_name(tmp_path):
    saved = play(tmp_path / "run", 1, 3)
    (tmp_path / "run" / "timings.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"timings\.jsonl: has 0 bytes, the checkpoint was made at \d+"):
        play(tmp_path / "run", 4, 5, saved)


def test_a_step_is_never_written_twice(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"a": 1.0}, {})
    with pytest.raises(ValueError, match="iteration 1 is written already"):
        writer.write(1, {"a": 1.0}, {})


def test_what_could_not_be_measured_is_left_out(tmp_path):
    MetricsWriter(tmp_path).write(1, {"a": 1.5, "b": math.nan, "c": math.inf}, {"time/play": 2.0})
    assert list(read(tmp_path / "metrics.jsonl")) == [{"iteration": 1, "a": 1.5}]
    assert list(read(tmp_path / "timings.jsonl")) == [{"iteration": 1, "time/play": 2.0}]


def events(folder):
    """What is in TensorBoard's files, oldest first: framed protocol buffers, read without TensorBoard."""
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_tensorboard_has_every_step_once_after_a_resume(tmp_path):
    first = MetricsWriter(tmp_path, ["tensorboard"])
    for iteration in (1, 2, 3, 4, 5):  # 3 to 5 are lost by the kill
        first.write(iteration, {"solve/deduction/reward/mean": float(iteration)}, {})
        if iteration == 2:
            saved = first.cursor()
    first.close()
    time.sleep(1.1)  # the files are named by the second
    second = MetricsWriter(tmp_path, ["tensorboard"], saved)
    for iteration in (3, 4):
        second.write(iteration, {"solve/deduction/reward/mean": float(iteration) + 10}, {})
    second.close()

    points = {}
    for event in events(tmp_path / "tensorboard"):
        if event.HasField("session_log") and event.session_log.status == event_pb2.SessionLog.START:
            points = {step: value for step, value in points.items() if step < event.step}  # as TensorBoard purges
        for value in event.summary.value:
            assert value.tag == "solve/deduction/reward/mean"
            points[event.step] = value.simple_value
    assert points == {1: 1.0, 2: 2.0, 3: 13.0, 4: 14.0}


class Service(types.ModuleType):
    """What wandb and trackio look like from here: init, log, finish; it may go down."""

    def __init__(self, name):
        super().__init__(name)
        self.runs, self.logged, self.finished, self.down = [], [], 0, False

    def init(self, **given):
        self.runs.append(given)

    def log(self, numbers, step):
        if self.down:
            raise ConnectionError("service unavailable")
        self.logged.append((step, numbers))

    def finish(self):
        self.finished += 1


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_hosted_services_see_a_resumed_run_as_the_same_run(tmp_path, monkeypatch, name):
    service = Service(name)
    monkeypatch.setitem(sys.modules, name, service)
    first = MetricsWriter(tmp_path, [name])
    first.write(1, {"a": 1.0}, {"time/play": 3.0})
    first.close()
    MetricsWriter(tmp_path, [name], first.cursor()).write(2, {"a": 2.0}, {})
    assert service.logged == [(1, {"a": 1.0, "time/play": 3.0}), (2, {"a": 2.0})]
    assert service.runs[0] == service.runs[1]
    assert service.runs[0]["resume"] == "allow"
    assert service.finished == 1


def test_a_run_in_a_bucket_is_the_same_run_to_them_on_another_machine(tmp_path, monkeypatch):
    """It was known by the folder of its files, which each start makes anew: every resume began new curves."""
    service = Service("wandb")
    monkeypatch.setitem(sys.modules, "wandb", service)
    for machine in ("one", "two"):
        (tmp_path / machine).mkdir()
        MetricsWriter(tmp_path / machine, ["wandb"], home="gs://bucket/runs/first")
    assert service.runs[0] == service.runs[1] and service.runs[0]["id"].startswith("first-")


def test_an_id_is_one_that_wandb_takes(tmp_path, monkeypatch):
    service = Service("wandb")
    monkeypatch.setitem(sys.modules, "wandb", service)
    for name in ("plain", r"50%: a\b?#2", "long" * 50):
        MetricsWriter(tmp_path, ["wandb"], home=f"/runs/{name}")
    plain, odd, long = (run["id"] for run in service.runs)
    assert (
        re.fullmatch(r"plain-[0-9a-f]{8}", plain) and re.fullmatch("50__ a_b__2-[0-9a-f]{8}", odd) and len(long) < 128
    )


def test_a_service_that_does_not_start_is_told_at_first_and_left_out_later(tmp_path, monkeypatch, caplog):
    """Nobody sits by when a run goes on after a preemption."""
    service = Service("wandb")
    service.init = lambda **given: 1 / 0
    monkeypatch.setitem(sys.modules, "wandb", service)
    with pytest.raises(SinkProblem, match=r"monitor.sinks=wandb: does not start: division by zero; mend it or drop it"):
        MetricsWriter(tmp_path, ["wandb"])
    writer = MetricsWriter(tmp_path, ["wandb"], {"metrics": 0, "timings": 0, "iteration": 0})
    writer.write(1, {"a": 1.0}, {})
    assert caplog.text.count("sink wandb failed") == 1


def test_a_service_that_goes_down_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    service = Service("wandb")
    monkeypatch.setitem(sys.modules, "wandb", service)
    writer = MetricsWriter(tmp_path, ["wandb"])
    service.down = True
    for iteration in (1, 2):
        writer.write(iteration, {"a": 1.0}, {})
    assert len(list(read(tmp_path / "metrics.jsonl"))) == 2
    assert caplog.text.count("sink wandb failed") == 1


def test_unknown_and_missing_sinks_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"monitor\.sinks=wnadb: should be one of tensorboard, wandb, trackio"):
        MetricsWriter(tmp_path, ["wnadb"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"monitor\.sinks=wandb: not installed; `pip install wandb`"):
        MetricsWriter(tmp_path, ["wandb"])
    # W&B's own folder, beside which a run is started, looks like a package.
    (tmp_path / "wandb").mkdir()
    with monkeypatch.context() as elsewhere:
        elsewhere.delitem(sys.modules, "wandb")
        elsewhere.setattr(sys, "path", [str(tmp_path)])
        with pytest.raises(SinkProblem, match=r"monitor\.sinks=wandb: not installed"):
            check_sinks(["wandb"])


def test_any_text_makes_exactly_one_line(tmp_path):
    hostile = "\x00\x1b[2J\u2028\ud800\n\r</script>\u202e" + "a" * 1_000_000
    file = JsonLines(tmp_path / "x.jsonl")
    file.append({"text": hostile})
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 1
    assert next(read(tmp_path / "x.jsonl")) == {"text": hostile}
    assert json.loads((tmp_path / "x.jsonl").read_text())["text"] == hostile
