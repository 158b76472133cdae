"""Judged samples -> the figures of each suite, the paper's averages, and the comparison of two models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from azr_jax.evals import passing
from azr_jax.evals.passing import Comparison, Estimate
from azr_jax.evals.records import JUDGE_FAILED
from azr_jax.evals.suites import GROUPS, SUITES


@dataclass(frozen=True)
class SuiteResult:
    """Of the rows that have all their samples."""

    suite: str
    n: int
    wanted: int  # rows there should be
    scores: Mapping[str, Sequence[float]]  # row -> its samples
    answers: Mapping[str, Sequence[str | None]]
    lines: Sequence[Mapping[str, Any]]
    measure: str = ""  # what pass@1 is a mean of: avg@n, greedy, one sample
    window: str = ""  # in words, where not all rows of the suite are wanted

    @property
    def rows(self) -> int:
        return len(self.scores)

    @property
    def whole(self) -> bool:
        return self.rows == self.wanted

    def pass_at(self, k: int) -> Estimate:
        return passing.pass_at(list(self.scores.values()), k)

    def maj_at(self, k: int) -> Estimate | None:
        """None where answers are nothing to vote on."""
        if not any(answer is not None for each in self.answers.values() for answer in each):
            return None
        return passing.maj_at(list(self.answers.values()), list(self.scores.values()), k)

    def base(self) -> Estimate | None:
        """HumanEval+ and MBPP+: pass@1 on the tests of the first form alone."""
        if not self.suite.endswith("_plus"):
            return None
        passed: dict[str, list[float]] = {}
        for line in self.lines:
            passed.setdefault(line["id"], []).append(float(line["score"] == 1.0 or line.get("base") is True))
        return passing.mean([sum(each) / len(each) for each in passed.values()])

    def by_category(self) -> dict[str, Estimate]:
        each: dict[str, dict[str, list[float]]] = {}
        for line in self.lines:
            if line["category"]:
                each.setdefault(line["category"], {}).setdefault(line["id"], []).append(line["score"])
        return {name: passing.pass_at(list(rows.values()), 1) for name, rows in sorted(each.items())}


def result(
    suite: str,
    lines: Sequence[Mapping[str, Any]],
    n: int,
    wanted: Sequence[str],
    measure: str = "",
    window: str = "",
) -> SuiteResult:
    """Of the rows wanted, those that are there with all samples."""
    rows: dict[str, list[Mapping[str, Any]]] = {row: [] for row in wanted}
    for line in lines:
        if line["id"] in rows:
            rows[line["id"]].append(line)
    whole = {row: sorted(each, key=lambda line: line["sample"]) for row, each in rows.items() if len(each) == n}
    return SuiteResult(
        suite,
        n,
        len(wanted),
        {row: [line["score"] for line in each] for row, each in whole.items()},
        {row: [line["answer"] for line in each] for row, each in whole.items()},
        [line for each in whole.values() for line in each],
        measure,
        window,
    )


def averages(values: Mapping[str, float]) -> dict[str, float]:
    """Code, mathematics, and their mean, as the paper has them; only where all its suites of an area are there."""
    found = {}
    for area in ("code", "math"):
        wanted = [name for name in GROUPS["paper"] if SUITES[name].area == area]
        if all(name in values for name in wanted):
            found[area] = math.fsum(values[name] for name in wanted) / len(wanted)
    if len(found) == 2:
        found["overall"] = (found["code"] + found["math"]) / 2
    return found


def rows_of_table(results: Sequence[SuiteResult]) -> tuple[list[str], list[list[str]]]:
    """Percent, with standard errors over problems. Suites may differ in their samples: pass@1 says of how many."""
    n = max((each.n for each in results), default=1)
    ks = sorted({k for each in results for k in passing.powers(each.n) if k > 1})
    head = ["suite", "rows", "measure", "pass@1", *(f"pass@{k}" for k in ks), *(["maj@n"] if n > 1 else [])]
    head += ["base tests", "no answer", "cut", "not judged"]
    table = []
    for each in results:
        if not each.rows:
            continue
        maj, base = each.maj_at(each.n) if each.n > 1 else None, each.base()
        cut = sum(line.get("finish") == "length" for line in each.lines) / len(each.lines)
        missing = sum(map(_unanswered, each.lines)) / len(each.lines)
        table.append(
            [
                each.suite,
                f"{each.rows}" if each.whole else f"{each.rows} of {each.wanted}",
                ", ".join(filter(None, (each.measure, each.window))),
                percent(each.pass_at(1)),
                *(percent(each.pass_at(k) if k <= each.n else None) for k in ks),
            ]
            + ([percent(maj)] if n > 1 else [])
            + [percent(base), f"{missing:.1%}", f"{cut:.1%}", str(sum(map(_not_judged, each.lines)))]
        )
    return head, table


def _unanswered(line: Mapping[str, Any]) -> bool:
    """Nothing to judge was found in the completion."""
    reason = line["reason"]
    blockless = reason.endswith(" block") and reason.startswith(("no ", "empty "))
    return blockless or reason in ("no answer", "no program", "reasoning not finished")


def _not_judged(line: Mapping[str, Any]) -> bool:
    return line["reason"] in ("cannot be judged", JUDGE_FAILED)


def percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    error = "" if math.isnan(estimate.error) else f" ± {100 * estimate.error:.1f}"
    return f"{100 * estimate.value:.1f}{error}"


def compared(base: SuiteResult, other: SuiteResult) -> Comparison | None:
    """The rows both have, each model's mean over its samples of a row."""
    both = [row for row in base.scores if row in other.scores]
    if not both:
        return None
    means = [[sum(each.scores[row]) / each.n for row in both] for each in (base, other)]
    return passing.compare(*means)


def comparison_table(
    pairs: Sequence[tuple[SuiteResult, SuiteResult]],
) -> tuple[list[str], list[list[str]]]:
    table = []
    for base, other in pairs:
        found = compared(base, other)
        if found is not None:
            difference = percent(Estimate(found.difference, found.error, found.problems))
            sign = "+" if found.difference > 0 else ""
            means = [percent(each.pass_at(1)) for each in (base, other)]
            table.append([base.suite, str(found.problems), *means, sign + difference, f"{found.p:.3g}"])
    return ["suite", "rows", "first", "second", "difference", "p"], table
