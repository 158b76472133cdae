"""The whole command on made-up benchmarks and a tiny random model: resumed, shared, refused where it cannot work."""

import json
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest

from azr_jax.evals import harness
from azr_jax.evals.command import Asked, CannotEvaluate, evaluate
from azr_jax.evals.harness import fit
from azr_jax.evals.mathematics import Compare, MathJudge
from azr_jax.evals.models import Found
from azr_jax.evals.records import OtherSettings, Results
from azr_jax.evals.sources import DATASETS, Dataset, File
from azr_jax.evals.suites import Graded, Item
from azr_jax.evals.table import result
from azr_jax.selfplay.event_loop import EventLoop
from azr_jax.tasks.prompts import Prompt
from tests.evals.at_once import finished

MODEL = "random:tiny"
ROWS = 6


@pytest.fixture(autouse=True)
def made_up(monkeypatch, tmp_path):
    """GSM8K of six rows."""
    file = File("gsm8k.jsonl", "https://made-up.invalid", "v1", ROWS)
    monkeypatch.setitem(DATASETS, "gsm8k", Dataset("gsm8k", "", ((file,),)))
    monkeypatch.setattr("azr_jax.evals.datasets.load.__defaults__", (None, tmp_path / "cache"))
    lines = [json.dumps({"question": f"{n} + {n}?", "answer": f"#### {2 * n}"}) for n in range(ROWS)]
    (tmp_path / "gsm8k.jsonl").write_text("\n".join(lines))


def asked(tmp_path: Path, **changes) -> Asked:
    usual = {
        "suites": ("gsm8k",), "style": "completion", "n": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 4,
        "seed": 0, "dtype": "float32", "slots": 4, "limit": 0, "shard": (0, 1), "data_dir": str(tmp_path),
        "out": tmp_path / "out", "timeout_s": 2.0, "memory_mb": 256, "allow_weak": True,
    }  # fmt: skip
    return Asked(**usual | changes)


def lines(tmp_path: Path) -> list[dict]:
    files = sorted((tmp_path / "out").rglob("gsm8k.*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def without_clock(found: list[dict]) -> list[dict]:
    kept = [{name: value for name, value in line.items() if name != "judged_s"} for line in found]
    return sorted(kept, key=lambda line: (line["id"], line["sample"]))


def test_every_row_and_sample_once_also_after_an_interruption(tmp_path, monkeypatch):
    """Stopped after three samples, one line torn; going on gives what an evaluation that was never stopped gives."""
    evaluate(MODEL, None, asked(tmp_path))
    whole = without_clock(lines(tmp_path))
    assert [(line["id"], line["sample"]) for line in whole] == [(str(row), s) for row in range(ROWS) for s in (0, 1)]

    (file,) = (tmp_path / "out").rglob("gsm8k.*.jsonl")
    kept = file.read_text().splitlines(keepends=True)[:3]
    file.write_text("".join(kept) + '{"id": "5", "sam')
    evaluate(MODEL, None, asked(tmp_path))
    assert without_clock(lines(tmp_path)) == whole

    monkeypatch.setattr(harness.Harness, "_engine", lambda *_: pytest.fail("nothing is left to sample"))
    assert evaluate(MODEL, None, asked(tmp_path))[MODEL]["gsm8k"]["rows"] == ROWS


def test_an_interruption_keeps_what_was_judged(tmp_path, monkeypatch):
    before = Results.add

    def add(self, suite, line):
        before(self, suite, line)
        if len(lines(tmp_path)) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Results, "add", add)
    with pytest.raises(KeyboardInterrupt):
        evaluate(MODEL, None, asked(tmp_path))
    monkeypatch.setattr(Results, "add", before)
    assert len(lines(tmp_path)) == 3
    evaluate(MODEL, None, asked(tmp_path))
    found = [(line["id"], line["sample"]) for line in lines(tmp_path)]
    assert len(found) == len(set(found)) == 2 * ROWS


def test_judging_goes_beside_sampling(tmp_path, monkeypatch):
    """The first verdict waits for the last completion, which would never come were judging in the way of sampling."""
    late = Future()

    def first_verdict_is_late(self, item, text):
        if not lines(tmp_path):
            yield Compare("1", "1")
        return Graded(0.0, "no answer")

    def run(self, model, weights, todo, judges, show):
        def seen(name, done, total):
            if name == "sampled" and done == total:
                late.set_result(None)
            show(name, done, total)

        whole_run(self, model, weights, todo, judges, seen)

    whole_run = harness.Harness.run
    monkeypatch.setattr(MathJudge, "submit", lambda self, asked: late)
    monkeypatch.setattr(harness.Harness, "_graded", first_verdict_is_late)
    monkeypatch.setattr(harness.Harness, "run", run)
    evaluate(MODEL, None, asked(tmp_path))
    assert late.done()
    assert len(lines(tmp_path)) == 2 * ROWS
    assert max(line["judged_s"] for line in lines(tmp_path)) < 60


def test_as_many_are_judged_at_once_as_there_is_room_for(monkeypatch):
    """The tests of every finished sample at once would fill the memory."""
    monkeypatch.setattr(harness, "AT_ONCE", 2)
    at_work, most, written = [], [], []

    def grade(text):
        at_work.append(text)
        most.append(len(at_work))
        yield Compare(text, text)
        at_work.remove(text)
        return Graded(1.0, "correct")

    class Later:
        def __init__(self):
            self.asked = []

        def submit(self, asked):
            self.asked.append(Future())
            if len(self.asked) == 2:
                while self.asked:
                    self.asked.pop().set_result(None)
            return self.asked[-1] if self.asked else finished(None)

    settings = harness.SampleSettings("boxed", 1, 0.0, 1.0, 9, 0, "float32", 1)
    made = harness.Harness(settings, None, SimpleNamespace(text=lambda prompt, rollout: rollout.text), {})
    monkeypatch.setattr(made, "_write", lambda each, sample, graded, more: written.append(more["text"]))
    row = SimpleNamespace(item=SimpleNamespace(prompt=None, grade=grade))
    rollouts = [SimpleNamespace(text=text, sample=0, finish="stop", tokens=()) for text in "abcdef"]
    EventLoop(None, Later()).run([made._judge(row, rollout) for rollout in rollouts])
    assert sorted(written) == list("abcdef") and max(most) == 2


def test_two_processes_share_the_rows(tmp_path):
    evaluate(MODEL, None, asked(tmp_path, shard=(0, 2)))
    assert {line["id"] for line in lines(tmp_path)} == {"0", "2", "4"}
    numbers = evaluate(MODEL, None, asked(tmp_path, shard=(1, 2)))
    assert numbers[MODEL]["gsm8k"]["rows"] == ROWS
    assert len(lines(tmp_path)) == 2 * ROWS


def test_other_settings_want_another_folder(tmp_path):
    evaluate(MODEL, None, asked(tmp_path, limit=1))
    with pytest.raises(CannotEvaluate, match=r"seed: 0 there, 1 asked for.*another --out"):
        evaluate(MODEL, None, asked(tmp_path, limit=1, seed=1))


def test_what_was_judged_without_packages_is_not_mixed_with_what_was_judged_with_them(tmp_path):
    evaluate(MODEL, None, asked(tmp_path, limit=1))
    with pytest.raises(CannotEvaluate, match=r"packages: None there, \['numpy'\] asked for.*another --out"):
        evaluate(MODEL, None, asked(tmp_path, limit=1, packages=("numpy",)))


def test_suites_sampled_in_different_ways_are_one_evaluation(tmp_path, monkeypatch, capsys):
    """Two parts: two rows in a folder each, the weights read once, one table."""
    file = File("math500.jsonl", "https://made-up.invalid", "v1", 1)
    monkeypatch.setitem(DATASETS, "math500", Dataset("math500", "", ((file,),)))
    (tmp_path / "math500.jsonl").write_text(json.dumps({"problem": "1?", "solution": "\\boxed{1}"}) + "\n")
    read, weights = [], Found.weights
    monkeypatch.setattr(Found, "weights", lambda self, dtype: read.append(dtype) or weights(self, dtype))
    parts = asked(tmp_path, limit=1), asked(tmp_path, suites=("math500",), n=1, temperature=0.0)
    numbers = evaluate(MODEL, None, *parts)[MODEL]
    assert {suite: (each["samples"], each["measure"]) for suite, each in numbers.items()} == {
        "gsm8k": (2, "avg@2"),
        "math500": (1, "greedy"),
    }
    assert read == ["float32"]
    assert "avg@2, the first 1" in capsys.readouterr().out
    assert len(list((tmp_path / "out").rglob("settings.json"))) == 2


def test_other_data_wants_another_folder(tmp_path):
    evaluate(MODEL, None, asked(tmp_path, limit=1))
    (tmp_path / "gsm8k.jsonl").write_text('{"question": "?", "answer": "#### 1"}\n' * ROWS)
    with pytest.raises(CannotEvaluate, match="measured on other data"):
        evaluate(MODEL, None, asked(tmp_path, limit=1))


def test_a_model_compared_with_itself_does_not_differ(tmp_path):
    numbers = evaluate(MODEL, MODEL, asked(tmp_path))
    assert numbers["differences"]["gsm8k"] == {"difference": 0.0, "error": 0.0, "p": 1.0, "rows": ROWS}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"suites": ("gsm9k",)}, r"gsm9k: should be of paper.*gsm8k"),
        ({"data_dir": "nowhere"}, r"nowhere does not hold gsm8k.jsonl.*made-up.invalid.*--data_dir"),
        ({"packages": ("numppy",)}, r"^--packages: numppy is not installed beside .*; install it"),
        ({"style": "boxed"}, r"no chat template; --style=completion"),
    ],
)
def test_what_cannot_be_evaluated_is_said(tmp_path, changes, said):
    with pytest.raises(CannotEvaluate, match=said):
        evaluate(MODEL, None, asked(tmp_path, **changes))


def test_rows_of_another_form_are_named_before_anything_is_sampled(tmp_path, monkeypatch):
    """Files without a known checksum may be another's of the same length; a row without its fields was a traceback."""
    monkeypatch.setattr(harness.Harness, "_engine", lambda *_: pytest.fail("nothing should be sampled"))
    for row, said in (
        ('{"q": "?", "answer": "#### 1"}', "KeyError: 'question'"),
        ('{"question": "?", "answer": 1}', "'int'"),
    ):
        (tmp_path / "gsm8k.jsonl").write_text(f"{row}\n" * ROWS)
        with pytest.raises(
            CannotEvaluate, match=rf"gsm8k: row 0 is not what it should be .*{said}.* gsm8k\.jsonl should"
        ):
            evaluate(MODEL, None, asked(tmp_path))


def test_a_part_of_the_rows_is_told_apart_from_all(tmp_path, capsys):
    evaluate(MODEL, None, asked(tmp_path))
    assert evaluate(MODEL, None, asked(tmp_path, limit=2))[MODEL]["gsm8k"]["rows"] == 2
    for file in (tmp_path / "out").rglob("gsm8k.*.jsonl"):
        file.unlink()
    capsys.readouterr()
    evaluate(MODEL, None, asked(tmp_path, shard=(0, 2)))
    assert "3 of 6" in capsys.readouterr().out


def test_a_judge_that_fails_is_asked_again_the_next_time(tmp_path, monkeypatch, capsys):
    judge = MathJudge.judge
    monkeypatch.setattr(MathJudge, "judge", lambda *_: 1 // 0)
    monkeypatch.setattr("azr_jax.evals.suites.final_answer", lambda text, numbers: "1")
    evaluate(MODEL, None, asked(tmp_path))
    assert {line["reason"] for line in lines(tmp_path)} == {"judge failed"}
    assert "12 samples could not be judged" in capsys.readouterr().out
    monkeypatch.setattr(MathJudge, "judge", judge)
    evaluate(MODEL, None, asked(tmp_path))
    assert "could not be judged" not in capsys.readouterr().out
    assert {line["reason"] for line in lines(tmp_path)[12:]} <= {"correct", "wrong value"}
    monkeypatch.setattr(harness.Harness, "_engine", lambda *_: pytest.fail("nothing is left to sample"))
    evaluate(MODEL, None, asked(tmp_path))


def test_trouble_with_the_second_model_is_said_before_the_first_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(harness.Harness, "_engine", lambda *_: pytest.fail("nothing should be sampled"))
    with pytest.raises(CannotEvaluate, match="no_such_model"):
        evaluate(MODEL, str(tmp_path / "no_such_model"), asked(tmp_path))


def test_one_process_for_each_shard(tmp_path, monkeypatch):
    run = harness.Harness.run

    def run_and_try_another(self, *arguments):
        with pytest.raises(CannotEvaluate, match="another process is at work on shard 0/1"):
            evaluate(MODEL, None, asked(tmp_path))
        run(self, *arguments)

    monkeypatch.setattr(harness.Harness, "run", run_and_try_another)
    evaluate(MODEL, None, asked(tmp_path))
    assert len(lines(tmp_path)) == 2 * ROWS


def test_other_weights_under_the_same_name_want_another_folder(tmp_path, monkeypatch):
    evaluate(MODEL, None, asked(tmp_path, limit=1))
    monkeypatch.setattr(Found, "fingerprint", "made anew")
    with pytest.raises(CannotEvaluate, match=r"weights: .* 'made anew' asked for"):
        evaluate(MODEL, None, asked(tmp_path, limit=1))


def test_results_that_cannot_be_written_or_read_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotEvaluate, match=rf"--out={tmp_path / 'file'}"):
        evaluate(MODEL, None, asked(tmp_path, out=tmp_path / "file"))
    evaluate(MODEL, None, asked(tmp_path, limit=1))
    (file,) = (tmp_path / "out").rglob("gsm8k.*.jsonl")
    file.write_text("garbage\n" + file.read_text())
    with pytest.raises(CannotEvaluate, match=rf"{file.name}: holds what is no result"):
        evaluate(MODEL, None, asked(tmp_path, limit=1))


def test_settings_without_results_bind_nobody(tmp_path):
    evaluate(MODEL, None, asked(tmp_path, limit=1))
    (file,) = (tmp_path / "out").rglob("gsm8k.*.jsonl")
    file.unlink()
    evaluate(MODEL, None, asked(tmp_path, limit=1, seed=1))


def test_an_unknown_model_is_said(tmp_path):
    with pytest.raises(CannotEvaluate, match=r"--model=.*no_such_model"):
        evaluate(str(tmp_path / "no_such_model"), None, asked(tmp_path))


class ByCharacter:
    stop_ids = ()

    def tokens(self, prompt):
        return tuple(map(ord, prompt.text))


def test_rows_too_long_for_the_model_are_told_and_counted_as_wrong():
    """Context 100, 40 new tokens: 50 fit whole, 70 leave 30, 90 leave less than the least an answer needs."""
    items = [Item("math500", str(n), Prompt(text="x" * n), lambda text: pytest.fail("not asked")) for n in (50, 70, 90)]
    found, told = fit(list(enumerate(items)), ByCharacter(), context=100, new=40)  # type: ignore[arg-type]
    assert [each.max_new_tokens for each in found] == [40, 30, 0]
    assert "1 of 3 prompts leave less than --max_new_tokens=40" in told[0] and "30 tokens at the least" in told[0]
    assert "1 of 3 prompts do not fit" in told[1] and "count as wrong" in told[1]


def test_rows_that_do_not_fit_are_written_down_once_without_sampling(tmp_path, monkeypatch):
    monkeypatch.setattr(harness.Harness, "_engine", lambda *_: pytest.fail("there is nothing to sample"))
    row = json.dumps({"question": "x" * 40_000, "answer": "#### 1"}) + "\n"
    (tmp_path / "gsm8k.jsonl").write_text(row * ROWS)
    for _ in range(2):
        assert evaluate(MODEL, None, asked(tmp_path))[MODEL]["gsm8k"]["rows"] == ROWS
    assert [line["reason"] for line in lines(tmp_path)] == ["prompt too long"] * 2 * ROWS


def test_only_rows_with_all_their_samples_count():
    def line(row, sample, score):
        return {"id": row, "sample": sample, "score": score, "answer": None, "category": "", "reason": "", "detail": ""}

    lines = [line("a", 1, 0.0), line("a", 0, 1.0), line("b", 0, 1.0), line("c", 0, 1.0), line("c", 1, 1.0)]
    found = result("gsm8k", lines, 2, ["a", "b"])
    assert (found.rows, found.wanted, found.whole) == (1, 2, False)
    assert found.scores == {"a": [1.0, 0.0]}
    assert found.pass_at(2).value == 1.0


def test_results_of_one_sample_are_kept_once(tmp_path):
    results = Results(tmp_path)
    results.open({"n": 1})
    results.open_suite("gsm8k", "d")
    for score in (1.0, 0.0):
        results.add("gsm8k", {"id": "a", "sample": 0, "score": score, "data": "d"})
    assert [line["score"] for line in results.lines("gsm8k")] == [1.0]
    with pytest.raises(OtherSettings, match="n: 1 there, 2 asked for"):
        results.open({"n": 2})


def test_rounded_products_are_another_measurement_and_said_so(tmp_path):
    """Without the flag the settings are those of results that were made before there was one."""
    evaluate(MODEL, None, asked(tmp_path))
    with pytest.raises(CannotEvaluate, match="matmul_dtype"):
        evaluate(MODEL, None, asked(tmp_path, matmul_dtype="bfloat16"))
    evaluate(MODEL, None, asked(tmp_path, matmul_dtype="bfloat16", out=tmp_path / "rounded"))
    written = json.loads(next((tmp_path / "out").rglob("settings.json")).read_text())
    assert "matmul_dtype" not in written
