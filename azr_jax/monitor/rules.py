"""The rules of health.py: each finds (subject, what was seen) in the history of a run's numbers.

Thresholds are about clear cases: a rule that cries at noise is switched off by its users within a day. Where a fall is
judged, it must be large beside the scatter of the numbers themselves, too.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import fmean, median

Found = Iterator[tuple[str, str]]
KEPT = 1_000  # iterations the rules can look back on
WINDOW = 10  # iterations a rule takes the mean of
KILLS = ("timeout", "memory", "crashed", "killed", "too much cpu", "too many processes")
EVIDENCE = 100  # tasks to look at before saying that their solve rates are all 0 or 1
SIGMAS = 4.5  # a fall or growth must stand this many standard errors out of the scatter


class MetricHistory:
    """What was measured so far, by iteration and by metric: the latest KEPT iterations, oldest first."""

    def __init__(self) -> None:
        self.rows: deque[Mapping[str, float]] = deque(maxlen=KEPT)
        self._columns: dict[str, deque[float]] = {}
        self._names: list[str] = []

    def add(self, row: Mapping[str, float]) -> None:
        self.rows.append(row)
        for name, value in row.items():
            self._columns.setdefault(name, deque(maxlen=KEPT)).append(value)
        self._names = sorted({name for near in islice(reversed(self.rows), WINDOW) for name in near})

    def names(self, start: str, end: str = "") -> list[str]:
        """The metrics of the latest iterations with this beginning and end."""
        return [name for name in self._names if name.startswith(start) and name.endswith(end)]

    def ever(self, start: str, end: str) -> list[str]:
        """Also those of earlier iterations, as what is measured now and then."""
        return sorted(name for name in self._columns if name.startswith(start) and name.endswith(end))

    def values(self, name: str) -> list[float]:
        return list(self._columns.get(name, ()))

    def latest(self, name: str, count: int = WINDOW) -> list[float]:
        """The last `count` values, or nothing while there are fewer."""
        values = self.values(name)[-count:]
        return values if len(values) == count else []

    def first_and_latest(self, name: str) -> tuple[list[float], list[float]]:
        """The first and the last ten, once they do not overlap."""
        values = self.values(name)
        return (values[:WINDOW], values[-WINDOW:]) if len(values) >= 2 * WINDOW else ([], [])


Find = Callable[[MetricHistory, float], Found]


@dataclass(frozen=True)
class AlarmRule:
    name: str
    threshold: float
    advice: str
    find: Find


RULES: list[AlarmRule] = []


def rule(threshold: float, advice: str) -> Callable[[Find], Find]:
    """The function's name is the rule's."""

    def register(find: Find) -> Find:
        RULES.append(AlarmRule(find.__name__, threshold, advice, find))
        return find

    return register


def repeats(text: str) -> bool:
    """Whether a completion ends in one character or phrase over and over, as a model that fell apart writes."""
    tail = text[-400:].encode(errors="replace")
    return len(tail) >= 200 and len(zlib.compress(tail)) < 0.12 * len(tail)


def _sumproduct(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _deviation(values: Sequence[float]) -> float:
    # statistics.pstdev reckons in exact fractions: right, and a hundred times slower.
    mean = fmean(values)
    return math.sqrt(fmean((value - mean) ** 2 for value in values))


def _fell(history: MetricHistory, name: str, share: float) -> str:
    """What was seen, if the latest mean lies a `share` below the best earlier one, and clearly so."""
    values = history.values(name)
    earlier = [values[i : i + WINDOW] for i in range(0, len(values) - 2 * WINDOW + 1, WINDOW // 2)]
    if not earlier:
        return ""
    best, now = max(earlier, key=fmean), values[-WINDOW:]
    # Of all windows: the best one was picked for being high, its own scatter says too little.
    error = fmean(_deviation(window) for window in [*earlier, now]) * math.sqrt(2 / WINDOW)
    drop = fmean(best) - fmean(now)
    clear = fmean(best) > 0 and drop > share * fmean(best) and drop > SIGMAS * error
    return f"fell from {fmean(best):.3g} to {fmean(now):.3g}, means of {WINDOW} iterations" if clear else ""


@rule(0.5, "Look at the refusal reasons; a proposer that forgets the format needs a lower lr.")
def valid_falling(history: MetricHistory, threshold: float) -> Found:
    for name in history.names("propose/", "valid_rate"):
        if seen := _fell(history, name, threshold):
            yield name, seen


@rule(
    0.99,
    "The proposer learns nothing from this kind: its tasks are all too easy or too hard; check the "
    "temperature and the attempts.",
)
def solve_rates_agree(history: MetricHistory, threshold: float) -> Found:
    for name in history.names("estimate/", "/agree_rate"):
        # A small batch gives few tasks at a time: it takes many of them to say that none is in between.
        counts = [row.get(name.replace("agree_rate", "tasks"), 1.0) for row in history.rows if name in row]
        width = next((w for w in range(WINDOW, len(counts) + 1) if sum(counts[-w:]) >= EVIDENCE), 0)
        if not width:
            continue
        share = _sumproduct(counts[-width:], history.values(name)[-width:]) / sum(counts[-width:])
        if share > threshold:
            yield name, f"for {share:.1%} of {sum(counts[-width:]):.0f} tasks all attempts agree"


@rule(0.9, "The proposer says what it said before: try more tasks.references, a higher temperature or a novelty gate.")
def old_tasks(history: MetricHistory, threshold: float) -> Found:
    for name in history.names("propose/", "/duplicate_rate"):
        values = history.latest(name)
        if values and fmean(values) > threshold:
            yield name, f"{fmean(values):.0%} of the proposals were in the buffer already"


@rule(0.6, "Most groups teach nothing; raise batch_size or look at which rewards are constant.")
def flat_groups(history: MetricHistory, threshold: float) -> Found:
    name = "advantage/flat_groups"
    groups = len([n for n in history.names("", "/reward/mean") if n.startswith(("propose/", "solve/"))])
    values = history.latest(name)
    if groups and values and fmean(values) / groups > threshold:
        yield name, f"{fmean(values):.1f} of {groups} groups have no variance in their rewards"


@rule(0.2, "Raise learner.entropy or lower learner.lr, and go back to an earlier checkpoint.")
def entropy_collapse(history: MetricHistory, threshold: float) -> Found:
    # A proposer that collapses hides in the mean with the solver, which writes as much as it does or more.
    for name in ("learner/entropy", *history.names("learner/propose/", "/entropy")):
        first, now = history.first_and_latest(name)
        if first and fmean(now) < threshold * fmean(first):
            yield name, f"{fmean(now):.3g}, it began at {fmean(first):.3g}"


@rule(3.0, "The policy falls apart: lower learner.lr, lower learner.entropy, go back to an earlier checkpoint.")
def entropy_explosion(history: MetricHistory, threshold: float) -> Found:
    first, now = history.first_and_latest("learner/entropy")
    if first and fmean(now) > threshold * max(fmean(first), 0.05):
        yield "learner/entropy", f"{fmean(now):.3g}, it began at {fmean(first):.3g}"


@rule(0.2, "Completions became very short: read some in the task viewer, the reward may be hacked.")
def length_collapse(history: MetricHistory, threshold: float) -> Found:
    for name in history.names("", "/length/mean"):
        first, now = history.first_and_latest(name)
        if first and fmean(now) < threshold * fmean(first):
            yield name, f"{fmean(now):.0f} tokens, it began at {fmean(first):.0f}"


@rule(0.5, "Completions are cut off before they answer: raise rollout.max_new_tokens or look for endless text.")
def length_explosion(history: MetricHistory, threshold: float) -> Found:
    for name in history.names("", "/length/clipped"):
        first, now = history.first_and_latest(name)
        if first and fmean(now) > threshold and fmean(now) - fmean(first) > 0.25:
            yield name, f"{fmean(now):.0%} of completions hit the limit, at first {fmean(first):.0%}"


@rule(0.3, "New tasks repeat old ones: try buffer.reference_sampling or a novelty gate.")
def novelty_falling(history: MetricHistory, threshold: float) -> Found:
    for name in history.names("novelty/"):
        if any(word in name for word in ("nearest", "distance", "diversity")) and (
            seen := _fell(history, name, threshold)
        ):
            yield name, seen


@rule(0.2, "The model writes the same thing over and over: go back to an earlier checkpoint and lower learner.lr.")
def repeated_text(history: MetricHistory, threshold: float) -> Found:
    for name in history.names("", "/repeats"):
        values = history.latest(name)
        if values and fmean(values) > threshold:
            yield name, f"{fmean(values):.0%} of completions end in repeated characters"


@rule(0.95, "The format is not being learned: try tasks.prompt_style=completion or chat, or a lower temperature.")
def format_plateau(history: MetricHistory, threshold: float) -> Found:
    for name in history.names("", "/format_error_rate"):
        values = history.latest(name, 2 * WINDOW)
        if values and min(fmean(values[:WINDOW]), fmean(values[WINDOW:])) > threshold:
            yield name, f"{fmean(values):.0%} of completions lack the blocks asked for, over {2 * WINDOW} iterations"


@rule(0.1, "Sampler and learner disagree: check model.dtype, or set learner.importance=token.")
def sampler_gap(history: MetricHistory, threshold: float) -> Found:
    values = history.latest("learner/gap/mean")
    if values and fmean(values) > threshold:
        yield "learner/gap/mean", f"{fmean(values):.3g} nats per token between sampler and learner"


@rule(
    0.2,
    "Programs are being killed: see their records; raise executor.timeout_s or memory_mb only if they are honest.",
)
def kills_rising(history: MetricHistory, threshold: float) -> Found:
    for name in history.names(""):
        if ("/refused/" not in name and "/wrong/" not in name) or not name.rsplit("/", 1)[1].startswith(KILLS):
            continue
        # An iteration in which nothing was killed has no such metric: there it is zero.
        values = [row.get(name, 0.0) for row in history.rows]
        first, now = fmean(values[:WINDOW]), fmean(values[-WINDOW:])
        if len(values) >= 2 * WINDOW and now > threshold and now > 2 * first:
            yield name, f"{now:.0%} of programs, at first {first:.0%}"


@rule(0.2, "Verdicts come too slowly: raise executor.workers or lower executor.timeout_s.")
def device_waits(history: MetricHistory, threshold: float) -> Found:
    waited, play = history.latest("time/waiting_for_executor"), history.latest("time/play")
    # Of the window's middle iteration: a program that never ends makes one iteration wait, not most of them.
    shares = [w / p for w, p in zip(waited, play, strict=True) if p] if waited and play else []
    if shares and median(shares) > threshold:
        yield "time/waiting_for_executor", f"{median(shares):.0%} of the playing time, in the middle one of {WINDOW}"


@rule(0.25, "Something is kept that should not be: resume from the checkpoint before memory runs out, and report it.")
def memory_creep(history: MetricHistory, threshold: float) -> Found:
    # The first iterations compile and warm caches up; creeping shows in every later quarter.
    values = history.values("system/rss_mb")[WINDOW:]
    quarter = len(values) // 4
    if quarter < WINDOW // 2:
        return
    means = [fmean(values[k * quarter : (k + 1) * quarter]) for k in range(4)]
    rising = all(b > a for a, b in pairwise(means))
    if rising and means[3] > (1 + threshold) * means[0]:
        yield "system/rss_mb", f"grew from {means[0]:.0f} to {means[3]:.0f} MB without a pause"


@rule(0.5, "Look at lengths, compilations and other users of the machine.")
def throughput_drop(history: MetricHistory, threshold: float) -> Found:
    # An overlapped iteration that was played whole before its turn samples nothing in it.
    values = [value for value in history.values("engine/tokens_per_s") if value]
    if len(values) >= 2 * WINDOW and median(values[-WINDOW:]) < threshold * median(values):
        yield "engine/tokens_per_s", f"{median(values[-WINDOW:]):.0f}, the run's median is {median(values):.0f}"


@rule(
    3.0,
    "It unlearns: go back to an earlier checkpoint, lower learner.lr, read in the task viewer what is paid.",
)
def held_out_falls(history: MetricHistory, threshold: float) -> Found:
    # A suite's kinds together, as of the latest measurement: what one kind lost another may have gained.
    suites: dict[str, list[str]] = {}
    for name in history.ever("eval/", "/gain"):
        suites.setdefault(name.rsplit("/", 2)[0], []).append(name)
    for suite, names in suites.items():
        gain = sum(history.values(name)[-1] for name in names)
        error = math.hypot(*(history.values(f"{name}_se")[-1] for name in names))
        if gain < -threshold * error:
            lost = 100 * gain / len(names)
            yield suite, f"{lost:+.1f} ± {100 * error / len(names):.1f} points since the first measurement"


@rule(0.5, "Tokens are too old for what their weights have to make up: lower pipeline.staleness or learner.lr.")
def stale_tokens(history: MetricHistory, threshold: float) -> Found:
    values = history.latest("learner/importance/ess")
    if values and fmean(values) < threshold:
        yield (
            "learner/importance/ess",
            f"{fmean(values):.2f} of the tokens' number is left, mean of {WINDOW} iterations",
        )


@rule(1.0, "They were skipped; if it goes on, return to the last checkpoint with a lower learner.lr.")
def bad_updates(history: MetricHistory, threshold: float) -> Found:
    values = history.latest("learner/steps/bad_in_row", 1)
    if values and values[0] >= threshold:
        yield "learner/steps/bad_in_row", f"{values[0]:.0f} updates in a row had gradients that are not finite"
