"""From samples to figures: unbiased pass@k, majority of k, standard errors over problems, and paired comparisons.

The samples of one problem are not independent of each other, so every standard error is taken over problems: first one
figure per problem, then the mean of them and its error. Left out: weights for problems of different kinds.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from scipy import stats

MOST_SUBSETS = 2_000  # enumerated for maj@k; beyond, as many are drawn


@dataclass(frozen=True)
class Estimate:
    value: float
    error: float  # standard error over problems; NaN for a single problem
    problems: int


@dataclass(frozen=True)
class Comparison:
    difference: float  # second minus first, mean over problems
    error: float
    p: float  # two-sided: exact sign test where every problem is 0 or 1, else Student's t on the differences
    problems: int


def mean(values: Sequence[float]) -> Estimate:
    n = len(values)
    if not n:
        return Estimate(math.nan, math.nan, 0)
    middle = math.fsum(values) / n
    spread = math.fsum((value - middle) ** 2 for value in values)
    return Estimate(middle, math.sqrt(spread / (n - 1) / n) if n > 1 else math.nan, n)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The chance that k different samples out of these hold a correct one."""
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@k: k={k}, {correct} of {samples} correct: should be 1 <= k <= samples >= correct >= 0")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def pass_at(scores: Sequence[Sequence[float]], k: int) -> Estimate:
    """`scores`: of each problem, those of its samples; a sample counts as correct when its score is 1."""
    return mean([pass_at_k(len(each), sum(score == 1.0 for score in each), k) for each in scores])


def maj_at_k(answers: Sequence[Hashable | None], scores: Sequence[float], k: int, seed: int = 0) -> float:
    """The chance that the most frequent answer of k samples is correct; ties are broken by lot, None never wins."""
    subsets = itertools.combinations(range(len(answers)), k)
    if math.comb(len(answers), k) > MOST_SUBSETS:
        draw = random.Random(seed)
        subsets = iter([tuple(draw.sample(range(len(answers)), k)) for _ in range(MOST_SUBSETS)])
    right: dict[Hashable, float] = {}
    for answer, score in zip(answers, scores, strict=True):
        if answer is not None:
            right.setdefault(answer, float(score == 1.0))
    won = []
    for subset in subsets:
        counts = Counter(answer for number in subset if (answer := answers[number]) is not None)
        most = max(counts.values(), default=0)
        leaders = [right[answer] for answer, count in counts.items() if count == most]
        won.append(math.fsum(leaders) / len(leaders) if leaders else 0.0)
    return math.fsum(won) / len(won)


def maj_at(answers: Sequence[Sequence[Hashable | None]], scores: Sequence[Sequence[float]], k: int) -> Estimate:
    return mean([maj_at_k(given, scored, k) for given, scored in zip(answers, scores, strict=True)])


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """The same problems by two models, one figure for each problem and model."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    found = mean(differences)
    if all(value in (0.0, 1.0) for value in (*first, *second)):
        better, changed = sum(d > 0 for d in differences), sum(d != 0 for d in differences)
        p = float(stats.binomtest(better, changed).pvalue) if changed else 1.0
    elif not found.error:
        p = 1.0 if found.value == 0 else 0.0
    else:
        p = float(2 * stats.t.sf(abs(found.value / found.error), found.problems - 1))
    return Comparison(found.value, found.error, p, found.problems)


def powers(n: int) -> list[int]:
    """1, 2, 4, ... up to n, and n: the k that tables show."""
    return sorted({*(2**i for i in range(n.bit_length()) if 2**i <= n), n})
