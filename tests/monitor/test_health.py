"""Each alarm: a made-up run that must raise it, and one, worse than usual but not wrong, that must not."""

import random

import made_up_run
import pytest

from azr_jax.monitor.health import Alarm, Health, HealthSettings, replayed, settings_from
from azr_jax.monitor.rules import RULES, repeats

LENGTH = 60


def replay(rows: list[dict[str, float]], settings: HealthSettings) -> list[Alarm]:
    return replayed(rows, settings)[0]


def steady(value, scatter=0.0, seed=0):
    rng = random.Random(seed)
    return [value + rng.gauss(0, scatter) for _ in range(LENGTH)]


def then(before, after, at=30, scatter=0.0, seed=0):
    """`before` for some iterations, `after` from then on."""
    return [(before if i < at else after) + noise for i, noise in enumerate(steady(0.0, scatter, seed))]


def ramp(first, last):
    return [first + (last - first) * i / (LENGTH - 1) for i in range(LENGTH)]


GROUPS = {"propose/deduction/reward/mean": steady(0.1), "solve/deduction/reward/mean": steady(0.1)}
PLAY = {"time/play": steady(60.0)}
LOST = [  # of a run whose rewards were shuffled
    ("deduction", "gain", -0.04), ("deduction", "gain_se", 0.015), ("abduction", "gain", -0.03),
    ("abduction", "gain_se", 0.015),
]  # fmt: skip
# rule -> (must raise it, must not): columns of metrics.
RUNS = {
    "valid_falling": (
        {"propose/deduction/valid_rate": then(0.5, 0.1, scatter=0.05)},
        {"propose/deduction/valid_rate": then(0.5, 0.35, scatter=0.05)},
    ),
    "solve_rates_agree": (
        {"estimate/deduction/agree_rate": then(0.5, 1.0), "estimate/deduction/tasks": steady(32)},
        {"estimate/deduction/agree_rate": then(0.5, 0.95), "estimate/deduction/tasks": steady(32)},
    ),
    "old_tasks": (
        {"propose/induction/duplicate_rate": then(0.2, 1.0)},
        {"propose/induction/duplicate_rate": then(0.2, 0.8)},
    ),
    "flat_groups": (
        {"advantage/flat_groups": then(0.0, 2.0), **GROUPS},
        {"advantage/flat_groups": then(0.0, 1.0), **GROUPS},
    ),
    "entropy_collapse": ({"learner/entropy": ramp(1.0, 0.02)}, {"learner/entropy": ramp(1.0, 0.4)}),
    "entropy_explosion": ({"learner/entropy": ramp(1.0, 6.0)}, {"learner/entropy": ramp(1.0, 2.0)}),
    "length_collapse": (
        {"propose/induction/length/mean": then(100.0, 5.0)},
        {"propose/induction/length/mean": then(100.0, 40.0)},
    ),
    "length_explosion": (
        {"solve/abduction/length/clipped": then(0.05, 0.9)},
        {"solve/abduction/length/clipped": steady(0.6, 0.02)},  # short limit, but always so
    ),
    "novelty_falling": (
        {"novelty/deduction/nearest": then(0.6, 0.2, scatter=0.03)},
        {"novelty/deduction/nearest": then(0.6, 0.5, scatter=0.03)},
    ),
    "repeated_text": ({"solve/deduction/repeats": then(0.0, 0.5)}, {"solve/deduction/repeats": then(0.0, 0.1)}),
    "format_plateau": (
        {"propose/deduction/format_error_rate": steady(0.99, 0.003)},
        {"propose/deduction/format_error_rate": ramp(0.99, 0.5)[:20]},  # learning, from the same beginning
    ),
    "sampler_gap": ({"learner/gap/mean": then(0.01, 0.3)}, {"learner/gap/mean": then(0.01, 0.05)}),
    "kills_rising": (
        {"propose/deduction/refused/timeout": then(0.02, 0.5)},
        {"propose/deduction/refused/no program block": then(0.02, 0.5)},  # not a kill
    ),
    "device_waits": (
        {"time/waiting_for_executor": then(1.0, 30.0), **PLAY},
        {"time/waiting_for_executor": then(1.0, 6.0), **PLAY},
    ),
    "memory_creep": ({"system/rss_mb": ramp(2_000, 4_000)}, {"system/rss_mb": then(2_000, 2_900, at=8)}),
    "throughput_drop": (
        {"engine/tokens_per_s": then(900.0, 200.0, at=45)},
        {"engine/tokens_per_s": then(900.0, 600.0, at=45)},
    ),
    "held_out_falls": (
        {f"eval/cruxeval/{kind}/{name}": then(0.0, value) for kind, name, value in LOST},
        {f"eval/cruxeval/{kind}/{name}": then(0.0, value) for kind, name, value in LOST[:3]}
        | {"eval/cruxeval/abduction/gain_se": steady(0.03)},
    ),
    "stale_tokens": ({"learner/importance/ess": then(0.9, 0.3)}, {"learner/importance/ess": then(0.9, 0.7)}),
    "bad_updates": ({"learner/steps/bad_in_row": then(0.0, 1.0)}, {"learner/steps/bad_in_row": steady(0.0)}),
}


def rows(columns):
    length = min(len(values) for values in columns.values())
    return [{"iteration": i + 1} | {name: values[i] for name, values in columns.items()} for i in range(length)]


def test_every_rule_has_its_two_runs_and_advice_in_a_sentence():
    assert set(RUNS) == {rule.name for rule in RULES}
    assert all(rule.advice.endswith(".") for rule in RULES)


@pytest.mark.parametrize("name", RUNS)
def test_the_alarm_is_raised_once_and_only_where_something_is_wrong(name):
    wrong, fine = RUNS[name]
    raised = replay(rows(wrong), HealthSettings())
    assert [alarm.rule for alarm in raised] == [name]
    assert any(column.startswith(raised[0].subject) for column in wrong)
    assert replay(rows(fine), HealthSettings()) == []


def test_what_is_measured_now_and_then_stays_an_alarm_until_it_is_measured_again():
    def row(iteration, gain):
        return {"iteration": iteration, "eval/nano/deduction/gain": gain, "eval/nano/deduction/gain_se": 0.01}

    quiet = [{"iteration": i, "learner/entropy": 1.0} for i in range(2, 40)]
    health = Health(past=[row(1, -0.05), *quiet])
    assert health.metrics() == {"health/active": 1.0, "health/held_out_falls": 1.0}
    assert health.check(40, row(40, 0.01)) == [] and not health.active
    (alarm,) = health.check(80, row(80, -0.04))
    assert alarm.subject == "eval/nano" and alarm.seen == "-4.0 ± 1.0 points since the first measurement"


def test_iterations_that_were_played_before_their_turn_are_no_drop_in_throughput():
    """Overlapped, an iteration may sample nothing in its turn: at last two of three."""
    rates = [900.0] * (LENGTH - 9) + [900.0, 0.0, 0.0] * 3
    assert replay(rows({"engine/tokens_per_s": rates}), HealthSettings()) == []


def test_one_program_that_never_ends_does_not_call_the_executor_slow():
    """Iterations of 1.5 s, one of which waits 4 of its 5.5 s: 21 % of the window's time, in one of its ten."""
    wait, play = [0.0] * LENGTH, [1.5] * LENGTH
    wait[30], play[30] = 4.0, 5.5
    assert replay(rows({"time/waiting_for_executor": wait, "time/play": play}), HealthSettings()) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_raises_nothing(seed):
    rng = random.Random(seed)
    run = [{"iteration": i} | a | b for i in range(1, 121) for a, b in [made_up_run.numbers(i, rng)]]
    assert replay(run, HealthSettings()) == []


def test_small_batches_scatter_without_alarm():
    """B = 8: a valid rate of 0.3 is anything from 0 to 0.8 in one iteration."""
    for seed in range(60):
        rng = random.Random(seed)
        valid = [sum(rng.random() < 0.3 for _ in range(8)) / 8 for _ in range(LENGTH)]
        assert replay(rows({"propose/deduction/valid_rate": valid}), HealthSettings()) == []


def test_small_batches_still_raise_when_everything_is_lost():
    raised = 0
    for seed in range(20):
        rng = random.Random(seed)
        valid = [sum(rng.random() < (0.3 if i < 30 else 0.0) for _ in range(8)) / 8 for i in range(LENGTH)]
        raised += bool(replay(rows({"propose/deduction/valid_rate": valid}), HealthSettings()))
    assert raised == 20


def test_it_takes_a_hundred_tasks_to_say_that_no_solve_rate_is_in_between():
    """Three tasks an iteration: ten iterations of agreement are 30 tasks, which chance makes; 34 iterations are 102."""
    agreeing = {"estimate/deduction/agree_rate": [1.0] * LENGTH, "estimate/deduction/tasks": [3.0] * LENGTH}
    (alarm,) = replay(rows(agreeing), HealthSettings())
    assert (alarm.iteration, alarm.seen) == (34, "for 100.0% of 102 tasks all attempts agree")


def test_a_proposer_that_collapses_does_not_hide_behind_the_solver():
    fine, gone = ramp(1.0, 0.7), ramp(1.0, 0.02)
    columns = {
        "learner/entropy": fine,
        "learner/solve/deduction/entropy": fine,
        "learner/propose/deduction/entropy": gone,
    }
    (alarm,) = replay(rows(columns), HealthSettings())
    assert (alarm.rule, alarm.subject) == ("entropy_collapse", "learner/propose/deduction/entropy")


def test_an_alarm_speaks_again_only_after_it_cleared():
    gap = [0.01] * 20 + [1.0] * 20 + [0.01] * 20 + [1.0] * 20
    raised = replay([{"iteration": i, "learner/gap/mean": value} for i, value in enumerate(gap)], HealthSettings())
    assert [alarm.rule for alarm in raised] == ["sampler_gap"] * 2
    assert 20 <= raised[0].iteration < 30
    assert 60 <= raised[1].iteration < 70


def test_thresholds_and_the_rules_that_end_a_run_come_from_the_settings():
    wrong = rows(RUNS["sampler_gap"][0])
    assert replay(wrong, HealthSettings(thresholds={"sampler_gap": 0.5})) == []
    for stop_on, stops in (
        ((), ""),
        (("bad_updates",), ""),
        (("sampler_gap",), "sampler_gap"),
        (("any",), "sampler_gap"),
    ):
        health = Health(HealthSettings(stop_on=stop_on))
        for row in wrong:
            health.check(row["iteration"], row)
        assert health.stop == stops
    assert health.metrics() == {"health/active": 1.0, "health/sampler_gap": 1.0}


def test_after_a_resume_known_alarms_are_not_given_again_and_do_not_stop_it_again():
    wrong = rows(RUNS["sampler_gap"][0])
    health = Health(HealthSettings(stop_on=("any",)), past=wrong[:50])
    assert health.check(51, wrong[50]) == []
    assert not health.stop
    assert ("sampler_gap", "learner/gap/mean") in health.active


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="no rule is called 'entropy'; should be one of valid_falling"):
        settings_from({"monitor": {"health": {"stop_on": ["entropy"]}}})
    assert settings_from({"monitor": {}}) == HealthSettings()
    given = {"thresholds": ("sampler_gap=0.5", "entropy_collapse=0.1"), "stop_on": ("any",)}
    wanted = HealthSettings({"sampler_gap": 0.5, "entropy_collapse": 0.1}, ("any",))
    assert settings_from({"monitor": {"health": given}}) == wanted


def test_repeated_characters_are_told_from_code():
    program = (
        "def f(x):\n    total = 0\n    for v in range(x):\n        if v % 3 == 1:\n            total += v * v - 7\n"
    )
    assert repeats("sure!" + "!" * 500)
    assert repeats(program + "and so on " * 60)
    assert not repeats(
        program * 2 + "    return [total, str(x), {'a': total // 2}, (x, 17), 'nothing', 3.5, b'u', None]"
    )
    assert not repeats("!!!!")
