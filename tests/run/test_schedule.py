"""What holds overlapping back, and lets it go on again; whose schedule a run may follow."""

import pytest

from azr_jax.config.schema import ConfigError, PipelineConfig
from azr_jax.parallel.hosts import Hosts
from azr_jax.run.schedule import Bound, Schedule, followed

MEAN, GAP, ESS = "learner/staleness/mean", "learner/staleness/1/gap", "learner/importance/ess"


def test_an_update_for_which_nothing_was_begun_early_is_within_the_bound_whatever_its_weights_are():
    """Else weights that vary by themselves would switch overlapping off for good."""
    bound = Bound(PipelineConfig(mode="overlapped", least_ess=0.8, most_gap=0.1), {})
    seen = [{MEAN: 0.4, GAP: 0.01, ESS: 0.7}, {MEAN: 0.0, ESS: 0.7}, {MEAN: 0.4, GAP: 0.2, ESS: 0.9}]
    for numbers, within in zip(seen, (False, True, False), strict=True):
        assert bound.note(numbers, Hosts()) == {"pipeline/within_bound": float(within)}
        assert bound.within == within == bound.to_keep()["within_bound"]


def test_a_schedule_begins_where_its_run_was_started(tmp_path):
    schedule = Schedule(tmp_path, begun_after=0, cursor=0)
    schedule.write(1, [[0, 1], []])
    schedule.write(2, [[2]])
    path = str(tmp_path / "schedule.jsonl")
    assert followed(path, 0) == [[0, 1], [], [2]]
    assert followed("", 5) == []
    with pytest.raises(ConfigError, match="no run in it was started after iteration 5; leave it out to go on"):
        followed(path, 5)
