"""Samples of any length into dense rows: best fit, longest first, each sample a segment of its own.

A batch is a stack of microbatches of rows. Its shape depends on the number of samples and the row length alone, never
on how well they packed, so that the step is compiled once for each length: microbatches at the end may be empty, and
the step skips those. Where several rows go side by side, the last microbatch may be far from full; shorter rows help,
so a few lengths may be allowed.

Completion tokens stand a second time in arrays of their own, gathered to the front of their row, because only they need
the unembedding.

With `share`, what samples of a row have in common at the beginning of their prompts stands in it once (prefixes.py).
Left out on purpose: a sample is never split.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import jax
import numpy as np
from numpy.typing import DTypeLike

from azr_jax.learner import prefixes

LITTLE_PADDING = 0.05
TILE = 128  # shorter rows are multiples of this, as some attention kernels want them


@dataclass(frozen=True)
class TrainingSample:
    """One prompt and what was sampled after it, with the sampler's log-probabilities of the completion's tokens."""

    prompt: Sequence[int]
    completion: Sequence[int]
    sampler_logprobs: Sequence[float]
    advantage: float
    limited: bool = False  # sampled without the dropped tokens: for it they do not exist here either
    group: int = 0  # which of the learner's groups it belongs to, for what is measured of each
    ages: Sequence[int] = ()  # of each token: updates made since the weights that drew it

    @property
    def inputs(self) -> int:
        """Tokens the model reads: the last one is only predicted, never read."""
        return len(self.prompt) + len(self.completion) - 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """M microbatches of R rows of T tokens: on the host NumPy's arrays. All but `dropped` are [M, R, T]."""

    tokens: jax.Array
    positions: jax.Array  # of a token in its sample
    segments: jax.Array  # 1, 2, ... in a row; 0 is padding
    # The n-th completion token of a row, for n < T. `lengths` is 0 where there is none.
    index: jax.Array  # the position in the row whose hidden state predicts it
    targets: jax.Array
    owners: jax.Array  # the segment it belongs to
    lengths: jax.Array  # tokens of the completion it belongs to
    groups: jax.Array  # the group of its sample
    advantages: jax.Array
    sampler_logprobs: jax.Array
    # Filled by the learner where an option needs them.
    old_logprobs: jax.Array | None = None  # before the first of several steps on this batch, or the sampler's
    reference_logprobs: jax.Array | None = None  # under the start policy
    # Where some samples were limited.
    limited: jax.Array | None = None  # whether its sample was
    dropped: jax.Array | None = None  # [M, V], the same for every microbatch: the tokens those samples did without
    # Where tokens may be stale.
    ages: jax.Array | None = None  # updates made since the weights that drew it
    # Where prompts are shared.
    ends: jax.Array | None = None  # the last segment that sees the token; it stands in the first one


def pack(
    samples: Sequence[TrainingSample],
    row_tokens: int,
    *,
    rows: int = 1,
    row_lengths: int = 1,
    dropped_V: np.ndarray | None = None,
    share: bool = False,
    ages: bool = False,
) -> Batch:
    """Rows of `row_tokens`, `rows` of them side by side in a microbatch. Samples with an empty completion are left out.

    With `row_lengths` = n, rows may be shorter, by n-ths of `row_tokens`. `dropped_V` are the tokens that limited
    samples did without. With `ages`, those of the tokens are there. With `share`, rows stay as long as they may be, and
    prompts that begin alike go together.
    Rows that go side by side have about the same attention cost, so that no device waits for another.
    """
    used = [sample for sample in samples if len(sample.completion)]
    _check(samples, used, row_tokens)
    lengths = [sample.inputs for sample in used]
    if share:
        bins = prefixes.rows([(sample.prompt, sample.completion) for sample in used], row_tokens)
    else:
        row_tokens = row_length(lengths, row_tokens, rows, row_lengths)
        bins = best_fit(lengths, row_tokens)
    bins.sort(key=lambda bin: -sum(used[index].inputs ** 2 for index in bin))
    # There are never more rows than samples: this bound, rounded up, keeps the shape the same from batch to batch.
    microbatches = _power_of_two(math.ceil(len(samples) / rows))

    def zeros(dtype: DTypeLike) -> jax.Array:
        return cast("jax.Array", np.zeros((microbatches, rows, row_tokens), dtype))

    dropped = None if dropped_V is None else np.broadcast_to(dropped_V, (microbatches, len(dropped_V)))
    batch = Batch(
        *(zeros(np.int32) for _ in range(8)),
        *(zeros(np.float32) for _ in range(2)),
        limited=None if dropped_V is None else zeros(bool),
        dropped=cast("jax.Array | None", dropped),
        ages=zeros(np.int32) if ages else None,
        ends=zeros(np.int32) if share else None,
    )
    for number, bin in enumerate(bins):
        _fill_row(batch, divmod(number, rows), [used[index] for index in bin])
    return batch


def minibatches(samples: Sequence[TrainingSample], count: int) -> list[list[TrainingSample]]:
    """Every count-th sample in each, so that neighbours (of one role and kind) are spread over all of them.

    There are fewer where there are not enough samples with a completion to go round.
    """
    used = [sample for sample in samples if len(sample.completion)]
    count = min(count, max(1, len(used)))
    return [used[start::count] for start in range(count)] if count > 1 else [list(samples)]


def row_length(lengths: Sequence[int], row_tokens: int, rows: int, choices: int) -> int:
    """The coarsest fraction (all, then halves, quarters, ...) of `row_tokens` that leaves little padding, or the least.

    Coarse ones first, so that batches of about the same size meet in the same few lengths.
    """
    parts = sorted(range(1, choices + 1), key=lambda part: (choices // math.gcd(part, choices), -part))
    allowed = [min(row_tokens, -(-row_tokens * part // choices // TILE) * TILE) for part in parts]
    allowed = [length for length in dict.fromkeys(allowed) if length >= max(lengths)]

    def padding(length: int) -> float:
        microbatches = math.ceil(len(best_fit(lengths, length)) / rows)
        return 1.0 - sum(lengths) / (microbatches * rows * length)

    shares = {}
    for length in allowed:
        shares[length] = padding(length) if choices > 1 else 0.0
        if shares[length] <= LITTLE_PADDING:
            return length
    return min(shares, key=lambda length: shares[length])


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best fit decreasing: each item, longest first, goes where it leaves the least room. Indices per bin."""
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (what is left, bin), sorted
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        slot = bisect_left(room, (lengths[index], -1))
        left, bin = room.pop(slot) if slot < len(room) else (capacity, len(bins))
        if bin == len(bins):
            bins.append([])
        bins[bin].append(index)
        insort(room, (left - lengths[index], bin))
    return bins


def padding_share(batch: Batch) -> float:
    """Share of padding among the tokens computed: rows of microbatches that hold at least one sample."""
    filled_MxRxT = np.asarray(batch.segments) > 0
    computed = filled_MxRxT.any(axis=(1, 2)).sum() * filled_MxRxT[0].size
    return 1.0 - float(filled_MxRxT.sum()) / float(computed)


def _fill_row(batch: Batch, row: tuple[int, int], samples: Sequence[TrainingSample]) -> None:
    start = done = 0
    path = np.zeros(0, np.int64)  # where in the row the tokens stand that a sample reads
    for segment, sample in enumerate(samples, 1):
        before = samples[segment - 2].prompt if batch.ends is not None and segment > 1 else ()
        shared = prefixes.common(before, sample.prompt)
        stop, count = start + sample.inputs - shared, len(sample.completion)
        path = np.concatenate([path[:shared], np.arange(start, stop)])
        here, there = (*row, slice(start, stop)), (*row, slice(done, done + count))
        batch.tokens[here] = [*sample.prompt, *sample.completion][shared:-1]
        batch.positions[here] = np.arange(shared, sample.inputs)
        batch.segments[here] = segment
        if batch.ends is not None:
            batch.ends[*row, path] = segment
        batch.index[there] = path[len(sample.prompt) - 1 :]
        batch.targets[there] = sample.completion
        batch.owners[there] = segment
        batch.lengths[there] = count
        batch.groups[there] = sample.group
        batch.advantages[there] = sample.advantage
        batch.sampler_logprobs[there] = sample.sampler_logprobs
        if batch.limited is not None:
            batch.limited[there] = sample.limited
        if batch.ages is not None:
            batch.ages[there] = sample.ages
        start, done = stop, done + count


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _check(samples: Sequence[TrainingSample], used: Sequence[TrainingSample], row_tokens: int) -> None:
    if not samples:
        raise ValueError("samples: none given; a step needs at least one")
    if not used:
        raise ValueError(f"samples: all {len(samples)} completions are empty; a step needs at least one token to train")
    for number, sample in enumerate(samples):
        name = f"samples[{number}]"
        if not len(sample.prompt):
            raise ValueError(f"{name}.prompt is empty; it needs at least one token to predict the first one from")
        if len(sample.sampler_logprobs) != len(sample.completion):
            raise ValueError(
                f"{name}.sampler_logprobs: {len(sample.sampler_logprobs)} for {len(sample.completion)} completion "
                "tokens; should be one each"
            )
        if len(sample.completion) and sample.inputs > row_tokens:
            raise ValueError(
                f"{name}: {len(sample.prompt)} prompt and {len(sample.completion)} completion tokens do not fit a row "
                f"of row_tokens={row_tokens}; it should be at least {sample.inputs}"
            )
        if not math.isfinite(sample.advantage):
            raise ValueError(f"{name}.advantage={sample.advantage}: should be finite")
        if not np.isfinite(np.asarray(sample.sampler_logprobs, np.float64)).all():
            raise ValueError(f"{name}.sampler_logprobs: should all be finite")
