"""What `python -m azr_jax.evaluate` does once its flags are read: one model after the other, then the tables."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from azr_jax.evals import table
from azr_jax.evals.code import BrokenTest, Runner
from azr_jax.evals.datasets import DataProblem
from azr_jax.evals.harness import SAME_SUITE, Harness, NoTemplate, SampleSettings, Tokenizing, fit
from azr_jax.evals.harness import Asked as Request
from azr_jax.evals.mathematics import MathJudge
from azr_jax.evals.models import Found, NoModel, find
from azr_jax.evals.records import JUDGE_FAILED, OtherSettings, Results
from azr_jax.evals.suites import SUITES, Item, Judges, Suite, UnknownSuite, named
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.monitor.console import Console


class CannotEvaluate(ValueError):
    """Something in the request is wrong; the message says what would be right."""


@dataclass(frozen=True)
class Asked:
    suites: tuple[str, ...]
    style: str
    n: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    dtype: str
    slots: int
    limit: int
    shard: tuple[int, int]
    data_dir: str | None
    out: Path
    timeout_s: float
    memory_mb: int
    allow_weak: bool
    since: str = ""  # dates; without one there is no end on that side
    until: str = ""
    examples: str = "one"  # worked ones, of the reasoning tasks

    def sampling(self) -> SampleSettings:
        names = SampleSettings.__dataclass_fields__
        return SampleSettings(**{name: getattr(self, name) for name in names})

    @property
    def all_rows(self) -> bool:
        """Of every suite: what averages as the paper's need."""
        return not (self.limit or self.since or self.until)

    def folder(self, model: Found) -> Path:
        examples = "" if self.examples == "one" else f"-{self.examples}"
        how = f"{self.style}{examples}-n{self.n}-t{self.temperature:g}-{self.max_new_tokens}"
        return self.out / model.slug / how


def evaluate(model: str, compare: str | None, asked: Asked) -> dict[str, Any]:
    """Prints tables; returns the same figures. Raises CannotEvaluate before anything is sampled."""
    console = Console()
    try:
        suites = named(asked.suites, asked.style, asked.examples)
        models = [find(name) for name in (model, compare) if name]
        executor = Executor(
            ExecutorSettings(timeout_s=asked.timeout_s, memory_mb=asked.memory_mb, allow_weak=asked.allow_weak)
        )
    except (UnknownSuite, NoModel, RuntimeError) as error:
        raise CannotEvaluate(str(error)) from error
    mathematics = MathJudge(2)
    ready: list[_Ready] = []
    try:
        if any(suite.area == "math" for suite in suites):
            mathematics.start()
        judges = Judges(Runner(executor, asked.timeout_s), mathematics)
        rows = {suite.name: suite.items(asked.data_dir, asked.style, judges) for suite in suites}
        check_window(asked.since, asked.until, {name: items for name, (items, _) in rows.items()})
        for each in {model.identity: model for model in models}.values():  # compared with itself it is sampled once
            ready.append(_get_ready(each, suites, rows, asked, console))
        found = {each.model.identity: _sample_and_judge(each, asked, console) for each in ready}
    except OSError as error:
        raise CannotEvaluate(f"{error} (--out={asked.out}; what was judged is kept)") from error
    except (DataProblem, OtherSettings, NoTemplate, BrokenTest, NoModel, RuntimeError) as error:
        raise CannotEvaluate(str(error)) from error
    finally:
        for each in ready:
            each.harness.results.close()
        mathematics.close()
        executor.close()
    numbers = {each.name: _tell(each, found[each.identity], console, asked.all_rows) for each in models}
    if compare:
        _tell_difference(models, [found[each.identity] for each in models], console, numbers)
    return numbers


def inside(date: str, since: str, until: str) -> bool:
    """Whether a row's date is within the window, both ends included. Dates compare as text; without an end all do."""
    return (not since or date >= since) and (not until or date <= until)


def check_window(since: str, until: str, rows: Mapping[str, Sequence[Item]]) -> None:
    """Refuses dates that are none, suites that have no dates, and windows in which nothing was."""
    for flag, value in (("since", since), ("until", until)):
        try:
            right = not value or date.fromisoformat(value).isoformat() == value
        except ValueError:
            right = False
        if not right:
            raise CannotEvaluate(f"--{flag}={value}: should be a date as 2024-08-01")
    if since and until and since > until:
        raise CannotEvaluate(f"--since={since}: should not be after --until={until}")
    for name, items in rows.items() if since or until else ():
        if not all(item.date for item in items):
            raise CannotEvaluate(f"--since={since} --until={until}: the rows of {name} have no dates; ask it without")
        if not any(inside(item.date, since, until) for item in items):
            first, last = min(item.date for item in items), max(item.date for item in items)
            raise CannotEvaluate(
                f"--since={since} --until={until}: {name} has rows from {first} to {last}, none within"
            )


@dataclass(frozen=True)
class _Ready:
    """A model's evaluation before anything is sampled."""

    model: Found
    harness: Harness
    requests: list[Request]
    wanted: dict[str, list[str]]  # the rows of each suite, also those of other shards


def _get_ready(
    model: Found, suites: Sequence[Suite], rows: dict[str, tuple[list[Item], str]], asked: Asked, console: Console
) -> _Ready:
    """Whatever can be found wrong is found here."""
    settings = asdict(asked.sampling()) | {
        "model": model.identity, "weights": model.fingerprint, "timeout_s": asked.timeout_s
    }  # fmt: skip
    del settings["slots"]  # which changes nothing that is sampled
    tokenizing = Tokenizing(model.tokenizer, model)
    results = Results(asked.folder(model), asked.shard)
    results.open(settings)
    mine: list[tuple[int, Item]] = []
    wanted: dict[str, list[str]] = {}
    for suite in suites:
        items, digest = rows[suite.name]
        results.open_suite(suite.name, digest)
        first = list(SUITES).index(suite.name) * SAME_SUITE
        numbered = [pair for pair in enumerate(items, first) if inside(pair[1].date, asked.since, asked.until)]
        numbered = numbered[: asked.limit or None]
        wanted[suite.name] = [item.id for _, item in numbered]
        mine += [pair for pair in numbered if pair[0] % asked.shard[1] == asked.shard[0]]
    requests, told = fit(mine, tokenizing, model.spec.max_positions, asked.max_new_tokens)
    for line in told:
        console.message(line)
    digests = {name: digest for name, (_, digest) in rows.items()}
    return _Ready(model, Harness(asked.sampling(), results, tokenizing, digests), requests, wanted)


def _sample_and_judge(ready: _Ready, asked: Asked, console: Console) -> list[table.SuiteResult]:
    """What is not there yet; all results are read back."""
    model, harness = ready.model, ready.harness
    todo = harness.to_do(ready.requests)
    console.message(
        f"{model.name}: {len(ready.requests)} rows, {len(ready.requests) - len(todo)} of them done already; results in "
        f"{harness.results.folder}"
    )
    with console.stages(f"evaluating {model.slug}") as show:
        harness.run(model, todo, 2 * (os.cpu_count() or 1), show)
    if harness.figures:
        e = harness.figures
        console.message(
            f"engine: {e['tokens']:.0f} tokens, {e['tokens_per_s']:.1f} a second, slots busy while rows waited "
            f"{e['occupancy_queued']:.1%}, over all {e['occupancy']:.1%}; the last verdict "
            f"{e['judging_after_sampling_s']:.1f} s after the last sample"
        )
    found = [table.result(name, harness.results.lines(name), asked.n, wanted) for name, wanted in ready.wanted.items()]
    failed = sum(line["reason"] == JUDGE_FAILED for each in found for line in each.lines)
    if failed:
        console.message(f"{failed} samples could not be judged: the same command tries them again")
    return found


def _tell(model: Found, results: Sequence[table.SuiteResult], console: Console, all_rows: bool) -> dict[str, Any]:
    console.table(model.name, *table.rows_of_table(results))
    numbers: dict[str, Any] = {}
    for each in results:
        if each.rows:
            one = each.pass_at(1)
            numbers[each.suite] = {"rows": each.rows, "pass@1": one.value, "error": _finite(one.error)}
        subjects = each.by_category()
        if subjects:
            rows = [[name, str(one.problems), table.percent(one)] for name, one in subjects.items()]
            console.table(f"{each.suite} by subject", ["subject", "rows", "accuracy"], rows)
    means = table.averages({each.suite: numbers[each.suite]["pass@1"] for each in results if each.whole})
    if means and all_rows:
        console.table("averages, as in the paper", list(means), [[f"{100 * value:.1f}" for value in means.values()]])
    return numbers | ({"averages": means} if means else {})


def _tell_difference(
    models: Sequence[Found], found: Sequence[Sequence[table.SuiteResult]], console: Console, numbers: dict[str, Any]
) -> None:
    """The first model against the one it is compared with, row by row."""
    pairs = list(zip(found[1], found[0], strict=True))
    head, rows = table.comparison_table(pairs)
    head[2:4] = [models[1].name, models[0].name]
    console.table("difference, paired by row", head, rows)
    numbers["differences"] = {
        base.suite: {
            "difference": each.difference,
            "error": _finite(each.error),
            "p": _finite(each.p),
            "rows": each.problems,
        }
        for base, other in pairs
        if (each := table.compared(base, other)) is not None
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
