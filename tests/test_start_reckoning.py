"""What a start costs, reckoned by benchmarks/start_reckoning.py, against numbers reckoned by hand."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from pod_costs import Assumptions, calibrated
from pod_model import Mode, Work, on_slice
from start_reckoning import Bytes, Rates, bytes_of, loading, seeding

from azr_jax.config.flags import load
from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import find

MODEL = 2 * 7_615_616_512 / 1e9  # GB of Qwen2.5-7B in bfloat16, by its model card
O_AND_DOWN = 2 * 28 * (3584 * 3584 + 3584 * 18944) / 1e9  # the matrices whose rows are the model's width
RATES = Rates(hub=0.5, bucket=1.0, disk=0.25, chip=10.0, cached=4.0, checked=20.0, cast=2.0)


def test_before_a_host_read_most_of_the_model_for_each_of_its_chips_and_now_its_share():
    b = bytes_of(spec_of("Qwen/Qwen2.5-7B"), find("v5e:4x4"))
    assert b.model == pytest.approx(MODEL)
    assert b.share == pytest.approx(MODEL / 4) == pytest.approx(b.shards, rel=1e-3)
    # Four chips, each all of the matrices that are split by columns; of the other two its sixteenth.
    assert b.before == pytest.approx(4 * (MODEL - O_AND_DOWN) + O_AND_DOWN / 4, rel=1e-3)


def test_seconds_are_bytes_over_the_slowest_of_what_is_on_the_way():
    b, slice_ = Bytes(16.0, 40.0, 4.0, 4.0), find("v5e:4x4")
    to_chips = 4.0 * 2 / 4 / 10  # float32, a quarter of it to each of four chips
    before = loading(b, RATES, slice_, "bucket", now=False)
    assert before["fetched"] == 16 / 0.25
    assert before["loaded"] == pytest.approx(40 / 4 + 4 / 20 + 4 / 2 + to_chips)
    now = loading(b, RATES, slice_, "bucket", now=True)
    assert now == {"fetched": 0.0, "loaded": pytest.approx(4 / 1 + 4 / 20 + to_chips)}  # reading takes longest
    fast = loading(b, replace(RATES, bucket=12.5), slice_, "bucket", now=True)
    assert fast["loaded"] == pytest.approx(4 / 10 + 16 / 140 + 16 / 10 + 4 / 2 + to_chips)  # telling does
    hub = loading(b, RATES, slice_, "hub", now=True)
    assert hub["fetched"] == 16 / 0.25 and hub["loaded"] == pytest.approx(
        16 / 10 + 16 / 140 + 16 / 10 + 4 / 2 + to_chips
    )


def test_rounds_that_fill_every_replica_are_a_third_of_those_that_fill_one():
    c, problems = load("configs/qwen7b.py", {})
    assert not problems
    assumptions, _ = calibrated(Assumptions())
    on = on_slice(spec_of(c.model.name), find("v5e:4x4"), Mode("synchronous"), 0, assumptions, {}, 64)
    work = Work(64, 3, 8, 1000, 0.7, 0.02, 8096, 0.75)
    few, many = (seeding(c, on, work, size) for size in (64, 256))
    assert (few[0], many[0]) == (12, 4)  # 256 of each group, at about 47 and 188 a round
    assert 2 < few[1] / many[1] < 3
