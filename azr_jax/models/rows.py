"""Some rows of a tensor at a time, in order: read by this process alone, or by several, each its part, for all.

A layout that splits the columns of a matrix, as the learner's does, needs a part of every row of it in every process,
and a row is the least that one request can read. So no process reads for itself alone: each reads whole blocks of
rows, another one than the others, and what it read travels over the network of the devices (parallel/exchange.py).
Whoever reads looks at the numbers, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from azr_jax.models import tensors
from azr_jax.models.tensors import TYPES, BadWeights, Tensor
from azr_jax.parallel.exchange import exchanged

EXPONENTS = {  # all of its bits are set in infinities and NaN, and in nothing else
    TYPES["F32"]: np.uint32(0x7F800000),
    TYPES["F16"]: np.uint16(0x7C00),
    TYPES["BF16"]: np.uint16(0x7F80),
}
AT_ONCE = 2**18  # numbers: they stay in the cache of a core
ROUND_BYTES = 512 * 2**20  # at most so much is on its way at one time, all processes together


@dataclass(frozen=True)
class RowBlock:
    name: str
    tensor: Tensor
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        return (self.stop - self.start) * self.tensor.row_bytes

    def read(self) -> np.ndarray:
        found = self.tensor.rows(self.start, self.stop)
        if kind := _no_number(found):
            raise BadWeights(
                f"{self.tensor.file}: {self.name} holds {kind}: nothing computed with it would be a number"
            )
        return found


def _no_number(found: np.ndarray) -> str:
    """What is among the numbers and is none. By their bits, some at a time: five times as fast as by their values."""
    mask = EXPONENTS[found.dtype]
    bits = found.reshape(-1).view(mask.dtype)
    for start in range(0, bits.size, AT_ONCE):
        if (bits[start : start + AT_ONCE] & mask).max() == mask:
            return "NaN" if np.isnan(found.astype(np.float32)).any() else "infinity"
    return ""


def in_order(
    wanted: Iterable[tuple[str, Tensor]], readers: Sequence[int] | None
) -> Iterator[tuple[RowBlock, np.ndarray]]:
    """The rows of these tensors, one tensor after the other. `readers`: the processes that read them for all; None:
    this one, for itself.
    """
    most = tensors.READ_BYTES if readers is None else min(tensors.READ_BYTES, ROUND_BYTES // jax.process_count())
    blocks = [rows for name, tensor in wanted for rows in _blocks(name, tensor, most)]
    if readers is None:
        for rows in blocks:
            yield rows, rows.read()
        return
    for rows, data in exchanged(blocks, readers):
        tensor = rows.tensor
        yield rows, data.view(tensor.dtype).reshape(rows.stop - rows.start, *tensor.shape[1:])


def _blocks(name: str, tensor: Tensor, most: int) -> Iterator[RowBlock]:
    step = max(1, most // tensor.row_bytes)
    for start in range(0, tensor.shape[0], step):
        yield RowBlock(name, tensor, start, min(start + step, tensor.shape[0]))
