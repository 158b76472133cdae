"""The simulated iteration of benchmarks/pod_model.py against cases reckoned by hand, and what no workload may break."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from pod_costs import Assumptions, Slice, calibrated
from pod_model import Mode, Simulation, Work, modes, on_slice

from azr_jax.dryrun.shapes import spec_of
from azr_jax.dryrun.topology import find
from azr_jax.models import sampling_time

SPEC = spec_of("Qwen/Qwen2.5-7B")
ONE = Work(batch=1, kinds=1, attempts=0, median=0, sigma=0, at_limit=0, limit=8096, valid=1.0, lengths=(64,))
WORK = Work(batch=16, kinds=2, attempts=4, median=400, sigma=0.7, at_limit=0.02, limit=2048, valid=0.75)


def simulated(work, mode, *, slots=64, a=None, slice_="v5e:4x4"):
    on = on_slice(SPEC, find(slice_), mode, 0, a or Assumptions(), {})
    return on, Simulation(work, on, slots, mode).run()


class Clockwork(Slice):
    """A second for a step, ten for a prompt, a hundred for an update, however much there is to do."""

    step = lambda self, rows, context: 1.0  # noqa: E731
    reading = lambda self, prompts: 10.0 * len(prompts)  # noqa: E731
    update = lambda self, sequences, tokens: 100.0  # noqa: E731


def clockwork(work, mode, slots):
    plain = on_slice(SPEC, find("v5e:4x4"), mode, 0, replace(Assumptions(), gap_s=0.0, gap_each_s=0.0), {})
    on = Clockwork(plain.spec, plain.chip, plain.chips, replace(plain.layout, replicas=1), plain.a)
    return Simulation(work, on, slots, mode).run()


def test_one_proposal_and_its_solution_take_their_tokens_one_after_the_other():
    found = clockwork(ONE, Mode("synchronous"), slots=4)
    assert found["seconds"] == pytest.approx(10 + 64 + 10 + 64 + 100)
    assert found["busy"] == pytest.approx((64 + 64) / 4 / (10 + 64 + 10 + 64))
    assert found["reading"] == pytest.approx(20 / 248) and found["updating"] == pytest.approx(100 / 248)


def test_attempts_share_one_reading_of_the_prompt_and_run_beside_the_solution():
    found = clockwork(replace(ONE, attempts=3), Mode("synchronous"), slots=4)
    assert found["seconds"] == pytest.approx(10 + 64 + 2 * 10 + 64 + 100)


def test_with_one_slot_everything_stands_in_a_row():
    found = clockwork(replace(ONE, attempts=3), Mode("synchronous"), slots=1)
    assert found["seconds"] == pytest.approx(3 * 10 + 5 * 64 + 100)
    assert found["busy"] == pytest.approx(5 * 64 / (3 * 10 + 5 * 64))


def test_one_update_of_staleness_hides_at_most_half_of_a_chain():
    synchronous = clockwork(ONE, Mode("synchronous"), slots=8)["seconds"]
    overlapped = clockwork(ONE, Mode("overlapped", 1), slots=8)["seconds"]
    assert 100 + 148 / 2 <= overlapped < synchronous
    more = [clockwork(ONE, Mode("overlapped", n), slots=64)["seconds"] for n in (1, 2, 4, 8)]
    assert more == sorted(more, reverse=True) and more[-1] >= 100, "the updates themselves take turns"


@pytest.mark.parametrize("slice_", ["v5e:4x4", "v6e:2x4", "v5p:2x2x1", "v5e:8x8"])
def test_overlapping_is_never_slower_and_no_share_is_more_than_all(slice_):
    rows = {mode: simulated(WORK, mode, slice_=slice_)[1] for mode in modes(find(slice_).chips)}
    synchronous = rows[Mode("synchronous")]["seconds"]
    for mode, row in rows.items():
        assert 0 < row["busy"] <= 1 and row["updating"] + row["reading"] + row["gaps"] < 1
        if mode.name == "overlapped":
            assert row["seconds"] <= 1.02 * synchronous
    assert simulated(WORK, Mode("overlapped", 0), slice_=slice_)[1] == rows[Mode("synchronous")]


def test_the_fit_gives_back_the_steps_it_was_made_of():
    fitted, said = calibrated(Assumptions())
    assert fitted.row_s > 0 and fitted.step_s > 0
    for line in said:
        step, again = (float(line.split(" ms")[0].split()[-1]), float(line.split()[-1]))
        assert again == pytest.approx(step, rel=0.05), line


def test_lengths_of_a_file_are_drawn_as_they_are_and_none_passes_the_limit():
    rng = np.random.default_rng(0)
    assert set(replace(WORK, lengths=(7, 9)).draw(rng, 100)) == {7, 9}
    assert WORK.draw(rng, 10_000).max() == WORK.limit


def test_the_planner_reckons_with_the_fit_to_published_steps():
    fitted, _ = calibrated(Assumptions())
    assert fitted.step_s == pytest.approx(sampling_time.STEP_S, rel=0.05)
    assert fitted.row_s == pytest.approx(sampling_time.ROW_S, rel=0.02)
    on = on_slice(SPEC, find("v6e:2x4"), Mode("synchronous"), 2, fitted, {})
    planned = sampling_time.step_seconds(SPEC, on.chip, 2, 48, 96_000)
    assert planned == pytest.approx(on.step(48, 96_000), rel=0.01)


def test_a_learner_apart_is_simulated_with_the_shares_that_are_asked_for():
    assert [(mode.learner_share, mode.staleness) for mode in modes(16, (0.25, 0.375))] == [
        (0.0, 2), (0.0, 4), (0.25, 2), (0.25, 4), (0.375, 2), (0.375, 4)
    ]  # fmt: skip
    assert not any(mode.learner_share for mode in modes(16))
