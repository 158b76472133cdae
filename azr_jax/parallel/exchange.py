"""What one process has read, given to all over the network of the devices: nothing has to be read by each of them.

    for piece, data in exchanged(pieces, readers=(0, 1, 2, 3)):     # called by all, with the same pieces
        ...

In every round each reader reads one piece while the one before travels, so of P readers each reads about a P-th. A
piece that cannot be read ends it in all processes after the same round: in its reader with what was wrong, in the
others with ReadElsewhere. Processes are told apart by their devices' own numbers, for nothing says that `jax.devices()`
has those of one process side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

WORD = np.dtype(np.uint32)
READ, FAILED, NOTHING = range(3)  # the first word of what a process gives


class ReadElsewhere(Exception):
    """Another process could not read its part, and says why."""


class Piece(Protocol):
    @property
    def nbytes(self) -> int: ...
    def read(self) -> np.ndarray:
        """Its bytes, as numbers of whatever type."""
        ...


AnyPiece = TypeVar("AnyPiece", bound=Piece)


def exchanged(pieces: Sequence[AnyPiece], readers: Sequence[int]) -> Iterator[tuple[AnyPiece, np.ndarray]]:
    """(piece, its bytes), in order, in every process. `readers`: the processes that can read."""
    me, count = jax.process_index(), len(readers)
    with ThreadPoolExecutor(1, "reads its part") as ahead:

        def begun(first: int) -> Future[np.ndarray] | None:
            mine = first + readers.index(me) if me in readers else len(pieces)
            return ahead.submit(pieces[mine].read) if mine < len(pieces) else None

        reading = begun(0)
        for first in range(0, len(pieces), count):
            together = pieces[first : first + count]
            words = _room(max(piece.nbytes for piece in together))
            given, problem = np.zeros(1 + words, WORD), None
            given[0] = NOTHING
            if reading is not None:
                try:
                    data = reading.result()
                    given[0], given[1:].view(np.uint8)[: data.nbytes] = READ, data.reshape(-1).view(np.uint8)
                except Exception as error:  # whatever it is: the others wait for this round
                    given[0], problem = FAILED, error
            reading = None if problem else begun(first + count)
            told = gathered(given)
            if problem is not None:
                raise problem
            failed = [reader for reader in readers if told[reader, 0] == FAILED]
            if failed:
                raise ReadElsewhere(f"process {failed[0]} could not read its part")
            for piece, reader in zip(together, readers):
                yield piece, told[reader, 1:].view(np.uint8)[: piece.nbytes]


def gathered(mine: np.ndarray) -> np.ndarray:
    """Everyone's `mine`, of one shape and type, stacked in the order of the processes. Called by all."""
    processes = jax.process_count()
    devices = np.array(sorted(jax.devices(), key=lambda device: (device.process_index, device.id)))
    mesh = Mesh(devices.reshape(processes, -1), ("process", "device"))
    sharding = NamedSharding(mesh, P("process"))
    shards = [jax.device_put(mine[None], device) for device in jax.local_devices()]
    stacked = jax.make_array_from_single_device_arrays((processes, *mine.shape), sharding, shards)
    with jax.set_mesh(mesh):
        whole = jax.jit(_same, out_shardings=NamedSharding(mesh, P()))(stacked)
    return np.asarray(whole.addressable_data(0))


def _same(array: jax.Array) -> jax.Array:
    return array


def _room(nbytes: int) -> int:
    """Words for so many bytes, one of few numbers: every other one would be another program to compile."""
    return 1 << max(0, -(-nbytes // WORD.itemsize) - 1).bit_length()
