"""Self-play by several processes, here threads: shares of the programs, one decision, what they refuse together."""

from pathlib import Path

import pytest

from azr_jax.config import flags as configs
from azr_jax.config.schema import ConfigError
from azr_jax.executor.jobs import Outcome
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.executor.verdict_codec import from_plain, to_plain
from azr_jax.run import process_checks
from azr_jax.run.process_checks import check_same, check_seen_by_all, together
from azr_jax.run.signals import Preempted, Stop, Wish
from azr_jax.tasks.types import InductionTask, Kind, Triplet, Validation, Verdict
from tests.parallel.one_store import in_each
from tests.selfplay.scripted import Cast, Stage
from tests.selfplay.test_every_kind import SCRIPTS

KIND = Kind.DEDUCTION
ROOT = Path(__file__).parents[2]


def play(hosts, folder):
    """Two iterations: what came of them, and how many programs this process's own executor was asked about."""
    script, asked = SCRIPTS[KIND], []
    with Executor(ExecutorSettings(workers=1, timeout_s=20.0)) as executor:
        cast = Cast({KIND: script.proposals}, script.answers)
        stage = Stage(executor, cast, folder, hosts, tasks__kinds=KIND)
        for program, inputs in script.seeds:
            stage.put(KIND, program, *inputs)
        submit = executor.submit
        executor.submit = lambda job: asked.append(job) or submit(job)
        numbers = [stage.play(number) and stage.numbers for number in (1, 2)]
        cursor = stage.buffers.cursor()
        stage.buffers.close()
    return numbers, cursor, cast.seen, len(asked)


def test_three_processes_play_as_one_each_with_its_share_of_the_programs_and_one_writes(tmp_path):
    [alone] = in_each(1, lambda hosts: play(hosts, tmp_path / "alone"))
    each = in_each(3, lambda hosts: play(hosts, tmp_path / "together"))
    assert all(one[:3] == each[0][:3] for one in each), "the engine was asked the same in the same order"
    assert each[0][:2] == alone[:2] and sorted(each[0][2]) == sorted(alone[2])
    assert sum(one[3] for one in each) == alone[3] and all(one[3] >= alone[3] // 3 for one in each)
    file = f"{KIND}.jsonl"
    assert (tmp_path / "together" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()


def test_a_process_that_does_not_write_comes_back_to_the_same_tasks(tmp_path):
    def again(hosts):
        _, cursor, _, _ = play(hosts, tmp_path)
        hosts.gather()  # the file is whole
        with Executor(ExecutorSettings(workers=1)) as executor:
            stage = Stage(executor, Cast({}, {}), tmp_path, hosts, tasks__kinds=KIND)
            stage.buffers.load(cursor)
            return [entry.task for entry in stage.buffers[KIND]], stage.buffers.position()

    one, other = in_each(2, again)
    assert one == other and len(one[0]) == 4


def test_a_signal_to_one_makes_all_give_up_the_iteration_after_the_same_round():
    def work(hosts):
        stop = Stop(hosts)
        for number in range(10):
            try:
                stop.leave_if_preempted()
            except Preempted:
                return number, stop.asked
            if hosts.index == 1 and number == 3:
                stop.ask(Wish.LEAVE_NOW)
            hosts.gather()
        return None

    assert in_each(2, work) == [(4, True)] * 2


@pytest.mark.parametrize(
    "answer",
    [
        Verdict(1.0, "correct"),
        Verdict(0.5, "partly correct", "\ud800 a lone surrogate"),
        Validation(None, "raised", "ValueError: no"),
        Validation(Triplet("def f(x):\n    return x", "'a'", "'a'", '["s","a"]')),
        Validation(InductionTask("def f(x):\n    return x", ("1", "2"), ("1", "2"), ("1", "2"), "the same", 1)),
        (Outcome("ok", "1"), Outcome("raised", error="KeyError")),
    ],
)
def test_what_the_executor_answers_arrives_as_it_left(answer):
    def tell(hosts):
        return [from_plain(plain, type(getattr(answer, "task", None))) for plain in hosts.gather(to_plain(answer))]

    assert in_each(2, tell) == [[answer, answer]] * 2


def test_processes_started_with_different_flags_are_refused_and_the_field_is_named():
    def work(hosts):
        given = {"learner.lr": "0.5", "tasks.kinds": "deduction"} if hosts.index else {}
        config, _ = configs.load(str(ROOT / "configs/tiny.py"), given)
        check_same(hosts, config, workdir=f"runs/{hosts.index}", fork_from=None)

    for error in in_each(2, work):
        assert isinstance(error, ConfigError)
        assert len(error.problems) == 3
        assert "--workdir: process 0 (" in error.problems[0]
        assert "learner.lr: process 0 (" in error.problems[1] and ") has 0.5; should be the same" in error.problems[1]
        assert "has ['deduction', 'abduction', 'induction'], process 1" in error.problems[2]


def test_what_one_process_cannot_do_is_refused_by_all_with_its_name():
    def work(hosts):
        with together(hosts):
            if hosts.index == 1:
                raise ConfigError(["model.name=x: not found"])

    for error in in_each(2, work):
        assert isinstance(error, ConfigError)
        assert len(error.problems) == 1 and error.problems[0].startswith("process 1 (")
        assert error.problems[0].endswith("): model.name=x: not found")


def test_what_all_find_wrong_is_said_once():
    def work(hosts):
        with together(hosts):
            raise ConfigError(["mesh.tensor=3: no"])

    assert [error.problems for error in in_each(2, work)] == [["mesh.tensor=3: no"]] * 2


def test_a_workdir_that_one_process_does_not_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(process_checks, "SEEN_WITHIN_S", 0.3)
    for name in "01":
        (tmp_path / name).mkdir()
    for error in in_each(2, lambda hosts: check_seen_by_all(hosts, tmp_path / str(hosts.index))):
        assert isinstance(error, ConfigError)
        assert "process 1 (" in str(error) and "does not see what process 0" in str(error)
    assert in_each(2, lambda hosts: check_seen_by_all(hosts, tmp_path / "0")) == [None, None]
    assert list((tmp_path / "0").iterdir()) == []
