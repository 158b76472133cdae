"""What a preempted host would have to write, reckoned by benchmarks/preemption.py, against numbers reckoned by hand."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from preemption import asked

from azr_jax.config.flags import load
from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import find

PARAMETERS = 7_615_616_512  # of Qwen2.5-7B, by its model card


def reckoned(slice_, moments, notice_s=30.0, **flags):
    c, problems = load("configs/qwen7b.py", {name.replace("__", "."): value for name, value in flags.items()})
    assert not problems
    return asked(c, spec_of(c.model.name), find(slice_), moments, notice_s)


@pytest.mark.parametrize(("moments", "each"), [("same", 4 + 4 + 4), ("bfloat16", 4 + 2 + 2)])
@pytest.mark.parametrize(("slice_", "hosts"), [("v5e:4x4", 4), ("v6e:2x4", 1)])
def test_a_host_writes_its_share_of_weights_and_two_moments(slice_, hosts, moments, each):
    a = reckoned(slice_, moments)
    assert a.hosts == hosts
    assert a.checkpoint_bytes == each * PARAMETERS + 5 * 4  # five counters
    assert a.host_bytes == pytest.approx(each * PARAMETERS / hosts, rel=1e-8)
    # A round of sampling goes before the signal is seen: some tenths of a second.
    assert 28 < a.notice_s < 30
    assert a.in_notice == pytest.approx(a.host_bytes / a.notice_s)
    assert a.in_iteration < a.in_notice / 5  # an iteration takes minutes


def test_low_rank_corrections_and_another_optimizer_are_reckoned_as_they_are_saved():
    whole, factored = (reckoned("v5e:4x4", "same", learner__optimizer=name) for name in ("adamw", "adamw_bf16"))
    assert whole.checkpoint_bytes - factored.checkpoint_bytes == 2 * PARAMETERS
    lora = reckoned("v5e:4x4", "same", learner__lora__rank="8")
    assert 4 * PARAMETERS < lora.checkpoint_bytes < 4.2 * PARAMETERS  # all weights, and next to nothing beside


def test_hosts_are_counted_as_the_scripts_count_workers():
    known = {"v5e:1x1": 1, "v5e:2x4": 1, "v6e:2x4": 1, "v5p:2x2x1": 1, "v5p:2x2x2": 2, "v5e:8x8": 16}
    assert {name: find(name).hosts for name in known} == known
