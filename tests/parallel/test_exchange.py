"""Pieces that are read by some for all; several real processes: tests/run/test_shared_model.py."""

from dataclasses import dataclass

import numpy as np
import pytest

from azr_jax.parallel.exchange import _room, exchanged, gathered


@dataclass
class Numbers:
    values: np.ndarray
    wrong: str = ""

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def read(self) -> np.ndarray:
        if self.wrong:
            raise ValueError(self.wrong)
        return self.values


def test_one_process_gets_its_own_pieces_back_in_order_whatever_their_length():
    pieces = [Numbers(np.arange(count, dtype=np.uint8)) for count in (1, 3, 4, 5, 1000, 0)]
    found = list(exchanged(pieces, readers=(0,)))
    assert [piece for piece, _ in found] == pieces
    assert all(data.tobytes() == piece.values.tobytes() for piece, data in found)


def test_what_the_reader_met_is_raised_after_what_was_read_before_it():
    found = []
    with pytest.raises(ValueError, match="the disk is gone"):
        for _, data in exchanged([Numbers(np.ones(3)), Numbers(np.ones(3), "the disk is gone")], readers=(0,)):
            found.append(data)
    assert len(found) == 1


def test_lengths_are_rounded_up_so_that_few_programs_are_compiled():
    assert [_room(nbytes) for nbytes in (0, 1, 4, 5, 8, 9, 4_096, 4_097)] == [1, 1, 1, 2, 2, 4, 1024, 2048]
    assert gathered(np.arange(3)).tolist() == [[0, 1, 2]]
