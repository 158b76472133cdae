"""What `python -m azr_jax.evaluate` does once its flags are read: one model after the other, then the tables."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from azr_jax.evals import published, table
from azr_jax.evals.asked import Asked
from azr_jax.evals.code import BrokenTest, Runner
from azr_jax.evals.datasets import DataProblem
from azr_jax.evals.harness import SAME_SUITE, AskedRow, Harness, NoTemplate, Weights, fit
from azr_jax.evals.mathematics import MathJudge
from azr_jax.evals.models import Found, NoModel, find
from azr_jax.evals.records import JUDGE_FAILED, OtherSettings, Results
from azr_jax.evals.suites import SUITES, Item, Judges, UnknownSuite, named
from azr_jax.executor.installed import NotInstalled
from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.monitor.console import Console
from azr_jax.selfplay.prompting import PromptCodec
from azr_jax.storage.errors import StorageError


class CannotEvaluate(ValueError):
    """Something in the request is wrong; the message says what would be right."""


def evaluate(model: str, compare: str | None, *parts: Asked) -> dict[str, Any]:
    """Prints tables; returns the same figures. Raises CannotEvaluate before anything is sampled.

    Parts differ in their suites and in how these are sampled, and in nothing else.
    """
    console, asked = Console(), parts[0]
    try:
        suites = [suite for part in parts for suite in named(part.suites, part.style, part.examples)]
        models = [find(name) for name in (model, compare) if name]
        executor = Executor(
            ExecutorSettings(
                timeout_s=asked.timeout_s,
                memory_mb=asked.memory_mb,
                allow_weak=asked.allow_weak,
                packages=asked.packages,
            )
        )
    except NotInstalled as error:
        raise CannotEvaluate(str(error).replace("executor.packages", "--packages")) from error
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
            ready += [_get_ready(each, rows, part, console) for part in parts]
        found = _sample_and_judge(ready, judges, console)
    except OSError as error:
        raise CannotEvaluate(f"{error} (--out={asked.out}; what was judged is kept)") from error
    except StorageError as error:
        raise CannotEvaluate(f"--out={error}") from error
    except (DataProblem, OtherSettings, NoTemplate, BrokenTest, NoModel, RuntimeError) as error:
        raise CannotEvaluate(str(error)) from error
    finally:
        for each in ready:
            each.harness.results.close()
        mathematics.close()
        executor.close()
    numbers = {each.name: _tell(each, found[each.identity], console) for each in models}
    if compare:
        _tell_difference(models, [found[each.identity] for each in models], console, numbers)
    return numbers


def inside(date: str, since: str, until: str) -> bool:
    """Whether a row's date is within the window, both ends included. Dates compare as text; without an end all do."""
    return (not since or date >= since) and (not until or date <= until)


def check_window(since: str, until: str, rows: Mapping[str, Sequence[Item]]) -> None:
    """Refuses dates that are none, windows of suites that all have no dates, and those in which nothing was."""
    for flag, value in (("since", since), ("until", until)):
        try:
            right = not value or date.fromisoformat(value).isoformat() == value
        except ValueError:
            right = False
        if not right:
            raise CannotEvaluate(f"--{flag}={value}: should be a date as 2024-08-01")
    if since and until and since > until:
        raise CannotEvaluate(f"--since={since}: should not be after --until={until}")
    if not (since or until):
        return
    dated = {name: items for name, items in rows.items() if all(item.date for item in items)}
    if not dated:
        names = ", ".join(rows)
        raise CannotEvaluate(f"--since={since} --until={until}: the rows of {names} have no dates; ask it without")
    for name, items in dated.items():
        if not any(inside(item.date, since, until) for item in items):
            first, last = min(item.date for item in items), max(item.date for item in items)
            raise CannotEvaluate(
                f"--since={since} --until={until}: {name} has rows from {first} to {last}, none within"
            )


@dataclass(frozen=True)
class _Ready:
    """A model's evaluation before anything is sampled."""

    model: Found
    asked: Asked
    harness: Harness
    requests: list[AskedRow]
    wanted: dict[str, list[str]]  # the rows of each suite, also those of other shards
    windows: dict[str, str]  # of each suite whose rows are not all asked


def _get_ready(model: Found, rows: dict[str, tuple[list[Item], str]], asked: Asked, console: Console) -> _Ready:
    """Whatever can be found wrong is found here."""
    settings = asdict(asked.sampling()) | {
        "model": model.identity, "weights": model.fingerprint, "timeout_s": asked.timeout_s
    }  # fmt: skip
    if asked.packages:  # what was judged without any says nothing of them
        settings["packages"] = list(asked.packages)
    if asked.matmul_dtype == "same":  # as all were before there was a choice
        del settings["matmul_dtype"]
    del settings["slots"]  # which changes nothing that is sampled
    results = Results.at(asked.folder(model), asked.shard)
    try:
        return _asked_of(model, rows, asked, results, settings, console)
    except BaseException:
        results.close()
        raise


def _asked_of(
    model: Found,
    rows: dict[str, tuple[list[Item], str]],
    asked: Asked,
    results: Results,
    settings: dict[str, Any],
    console: Console,
) -> _Ready:
    """What is there already, and what is left to ask."""
    results.open(settings)
    mine: list[tuple[int, Item]] = []
    wanted: dict[str, list[str]] = {}
    windows: dict[str, str] = {}
    for suite in (each.name for each in named(asked.suites)):
        items, digest = rows[suite]
        results.open_suite(suite, digest)
        numbered = list(enumerate(items, list(SUITES).index(suite) * SAME_SUITE))
        if any(item.date for item in items) and (asked.since or asked.until):
            numbered = [pair for pair in numbered if inside(pair[1].date, asked.since, asked.until)]
            windows[suite] = f"{asked.since} to {asked.until}"
        if asked.limit:
            numbered = numbered[: asked.limit]
            windows[suite] = f"{windows.get(suite, '')} the first {asked.limit}".strip()
        wanted[suite] = [item.id for _, item in numbered]
        mine += [pair for pair in numbered if pair[0] % asked.shard[1] == asked.shard[0]]
    codec = PromptCodec(model.tokenizer, model.folder)
    requests, told = fit(mine, codec, model.spec.max_positions, asked.max_new_tokens)
    for line in told:
        console.message(line)
    digests = {name: rows[name][1] for name in wanted}
    return _Ready(model, asked, Harness(asked.sampling(), results, codec, digests), requests, wanted, windows)


def _sample_and_judge(ready: Sequence[_Ready], judges: Judges, console: Console) -> dict[str, list[table.SuiteResult]]:
    """Of each model; its weights are read once, and only where something is left to sample."""
    found: dict[str, list[table.SuiteResult]] = {}
    for identity in dict.fromkeys(each.model.identity for each in ready):
        parts = [each for each in ready if each.model.identity == identity]
        weights = functools.cache(parts[0].model.weights)
        found[identity] = [result for part in parts for result in _part(part, weights, judges, console)]
    return found


def _part(ready: _Ready, weights: Weights, judges: Judges, console: Console) -> list[table.SuiteResult]:
    """What is not there yet; all results are read back."""
    model, harness, asked = ready.model, ready.harness, ready.asked
    todo = harness.to_do(ready.requests)
    console.message(
        f"{model.name}: {len(ready.requests)} rows, {len(ready.requests) - len(todo)} of them done already; results in "
        f"{harness.results.place}"
    )
    with console.stages(f"evaluating {model.slug}") as show:
        harness.run(model, weights, todo, judges, show)
    harness.results.send()
    if harness.figures:
        e = harness.figures
        console.message(
            f"engine: {e['tokens']:.0f} tokens, {e['tokens_per_s']:.1f} a second, slots busy while rows waited "
            f"{e['occupancy_queued']:.1%}, over all {e['occupancy']:.1%}; the last verdict "
            f"{e['judging_after_sampling_s']:.1f} s after the last sample"
        )
    found = [
        table.result(name, harness.results.lines(name), asked.n, wanted, asked.measure, ready.windows.get(name, ""))
        for name, wanted in ready.wanted.items()
    ]
    failed = sum(line["reason"] == JUDGE_FAILED for each in found for line in each.lines)
    if failed:
        console.message(f"{failed} samples could not be judged: the same command tries them again")
    return found


def _tell(model: Found, results: Sequence[table.SuiteResult], console: Console) -> dict[str, Any]:
    console.table(model.name, *table.rows_of_table(results))
    numbers: dict[str, Any] = {}
    for each in results:
        if each.rows:
            one = each.pass_at(1)
            numbers[each.suite] = {
                "rows": each.rows,
                "samples": each.n,
                "measure": each.measure,
                "pass@1": one.value,
                "error": _finite(one.error),
            }
        subjects = each.by_category()
        if subjects:
            rows = [[name, str(one.problems), table.percent(one)] for name, one in subjects.items()]
            console.table(f"{each.suite} by subject", ["subject", "rows", "accuracy"], rows)
    every_row = [each.suite for each in results if each.whole and not each.window]
    shares = {suite: numbers[suite]["pass@1"] for suite in every_row}
    known = None if model.home else published.beside(model.path, shares)
    if known:
        console.table("beside the paper's figures of this model", *known)
    means = table.averages(shares)
    if means:
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
