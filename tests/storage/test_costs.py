"""What 500 iterations at the paper's batch ask of a bucket: requests and bytes of each, and that they do not grow.

Real: the writers of metrics, records and tasks, TensorBoard's, the mirror, the lease, Orbax. Small: what a record says,
and the arrays. `-s` shows the table that stands in docs/RESULTS.md.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import jax
import jax.numpy as jnp
import pytest

from azr_jax.learner.checkpoint import Checkpointer
from azr_jax.learner.step import LearnerSettings, init_state
from azr_jax.models.sharding import abstract_params
from azr_jax.models.spec import PRESETS
from azr_jax.monitor.metrics import MetricsWriter
from azr_jax.monitor.records import RecordWriter
from azr_jax.storage.bucket import Bucket
from azr_jax.storage.lease import BucketLease
from azr_jax.storage.mirror import Mirror
from azr_jax.tasks.buffers import Buffers, BufferSettings
from azr_jax.tasks.types import InductionTask, Kind, Task, Triplet
from tests.storage.proxy import Proxy, Seen

KINDS = (Kind.DEDUCTION, Kind.ABDUCTION, Kind.INDUCTION)
BATCH, VALID, EVERY = 64, 48, 10  # of each kind: proposals, and as many solutions; tasks that are new; checkpoints
ITERATIONS = 500
NAMES = [f"solve/deduction/some/number/{n}" for n in range(200)]  # the tiny run has 190


def kind_of(asked: Seen) -> str:
    """By how Google counts them: A is written or listed, B is read or looked up, a deletion is free."""
    if asked.method == "DELETE":
        return "free"
    listed = asked.method == "GET" and asked.path.split("?")[0].endswith("/o")
    return "A" if listed or asked.method in ("POST", "PUT", "PATCH") else "B"


def tasks(kind: Kind) -> Iterator[Task]:
    for n in itertools.count():
        program = f"def f(x):\n    return x + {n}"
        if kind == Kind.INDUCTION:
            yield InductionTask(program, (str(n), "1"), (str(2 * n), str(n + 1)), ("", ""), "Adds.", 1)
        else:
            yield Triplet(program, str(n), str(2 * n), "")


class Run:
    """What run/train.py does to its workdir in an iteration, and nothing else."""

    def __init__(self, bucket: Bucket):
        self.lease = BucketLease(bucket, alive_every_s=3600)  # counted by hand: one write every ten seconds
        self.mirror = Mirror(bucket, term=self.lease.term, may_write=self.lease.check)
        folder = self.mirror.folder
        (folder / "buffers").mkdir()
        self.metrics, self.records = MetricsWriter(folder, ("tensorboard",)), RecordWriter(folder)
        self.buffers = Buffers(KINDS, BufferSettings(), folder / "buffers")
        self.checkpointer = Checkpointer(bucket.url)
        params = jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), abstract_params(PRESETS["tiny"]))
        self.state, self.tasks = init_state(params, LearnerSettings()), {kind: tasks(kind) for kind in KINDS}

    def iteration(self, number: int) -> None:
        for kind in KINDS:
            for task in islice(self.tasks[kind], VALID):
                self.buffers[kind].append(task, iteration=number)
        self.buffers.flush()
        self.metrics.write(number, {name: math.sin(number) for name in NAMES}, {"time/play": 1.0})
        record = {"role": "solve", "completion": "the answer is 42"}
        self.records.write(number, [record | {"kind": kind} for kind in KINDS for _ in range(2 * BATCH)])
        if number % 10 == 0:
            (self.mirror.folder / "report.html").write_text(f"after iteration {number}")
        self.mirror.publish()

    def save(self, number: int) -> None:
        self.checkpointer.save(number, self.state, {"buffers": self.buffers.position()})
        self.checkpointer.wait()


def spent(proxy: Proxy, since: int) -> Counter[str]:
    seen = proxy.seen[since:]
    return Counter(map(kind_of, seen)) + Counter({"sent": sum(one.sent for one in seen)})


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_iteration_costs_what_it_wrote_and_the_500th_no_more_than_the_20th(bucket: Bucket, proxy: Proxy):
    run, plain, saved = Run(bucket), dict[int, Counter[str]](), dict[int, Counter[str]]()
    for number in range(1, ITERATIONS + 1):
        since = len(proxy.seen)
        run.iteration(number)
        plain[number] = spent(proxy, since)
        if number % EVERY == 0:
            since = len(proxy.seen)
            run.save(number)
            saved[number] = spent(proxy, since)
    run.checkpointer.close()
    since = len(proxy.seen)
    Mirror(bucket).pull(lambda name: name.startswith(("metrics", "timings", "records", "buffers/")))
    resumed = spent(proxy, since)
    for what, found in (("iteration", plain), ("checkpoint", saved)):
        middle, last = found[ITERATIONS // 2], found[ITERATIONS]
        print(f"{what}: of iteration {ITERATIONS // 2} {dict(middle)}, of {ITERATIONS} {dict(last)}")
    print(f"resumed after {ITERATIONS}: {dict(resumed)}")
    # Metrics, timings, records, three buffers, events of TensorBoard: a write each, no list. Looked at is the lease.
    usual = [plain[number] for number in plain if number > 1 and number % 10]
    assert {(each["A"], each["free"]) for each in usual} == {(7, 0)}
    assert max(each["B"] for each in usual) <= 3
    assert {plain[number]["A"] for number in plain if number > 1 and not number % 10} == {8}  # and the report
    first, last = ([plain[n]["sent"] for n in numbers] for numbers in (range(101, 110), range(491, 500)))
    assert sum(last) < 1.02 * sum(first)  # numbers of three digits
    settled = [saved[number] for number in saved if number > 5 * EVERY]  # from where an old one goes for each new one
    for what in ("A", "B", "free", "sent"):
        assert max(each[what] for each in settled) <= 1.1 * min(each[what] for each in settled), what
    assert resumed["B"] < 7 * ITERATIONS + 20 and resumed["A"] < 20
