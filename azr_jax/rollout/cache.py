"""Who holds which page of the key/value cache: counting on the host, no arrays and no JAX.

A page is held once by every sequence that reads it, and once by the index while its content may be found again. The
index maps the beginning of a prompt to the pages that hold its keys and values: the samples of one request share them,
and so do prompts that begin alike. A piece that only the index holds is given up when pages run short, the one
that was not used for longest first. New weights make every piece worthless: `forget`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt that is prefilled at once, in `shape` tokens of which `length` count.

    `key` stands for all tokens from the prompt's beginning to the piece's end, and for `shape`: what is computed for a
    piece is bitwise a function of its key.
    """

    key: Hashable
    start: int
    length: int
    shape: int


def pieces(prompt: Sequence[int], chunk: int, page_size: int) -> list[Piece]:
    """Whole chunks, and a last piece padded to a power of two of pages (one of few shapes).

    The prompt's last token is left out: decoding begins with it.
    """
    tokens, out = tuple(prompt[:-1]), []
    for start in range(0, len(tokens), chunk):
        length = min(chunk, len(tokens) - start)
        shape = next(shape for shape in piece_shapes(chunk, page_size) if shape >= length)
        out.append(Piece((tokens[: start + length], shape), start, length, shape))
    return out


def piece_shapes(chunk: int, page_size: int) -> list[int]:
    """The lengths that prefill is compiled for: the chunk, and down by halves to an eighth, in whole pages."""
    return sorted({-(-chunk // (part * page_size)) * page_size for part in (1, 2, 4, 8)})


class Pages:
    """Allocation, sharing and release of `count` pages."""

    def __init__(self, count: int):
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._holders = [0] * count
        self._index: OrderedDict[Hashable, tuple[int, ...]] = OrderedDict()
        self._indexed: set[int] = set()

    @property
    def in_use(self) -> int:
        """Pages that some sequence holds; what only the index holds can be had at any time."""
        idle = sum(self._holders[page] == 1 for page in self._indexed)
        return self.count - len(self._free) - idle

    def allocate(self, wanted: int) -> list[int] | None:
        """Pages held once each, or None, and nothing changed but the index, where there are too few."""
        if wanted > len(self._free):
            self._give_up(wanted - len(self._free))
        if wanted > len(self._free):
            return None
        pages = [self._free.pop() for _ in range(wanted)]
        for page in pages:
            self._holders[page] = 1
        return pages

    def hold(self, pages: Sequence[int]) -> None:
        for page in pages:
            assert self._holders[page] > 0, f"page {page} is free and cannot be shared"
            self._holders[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        for page in pages:
            assert self._holders[page] > 0, f"page {page} was released twice"
            self._holders[page] -= 1
            if not self._holders[page]:
                self._free.append(page)

    def find(self, key: Hashable) -> tuple[int, ...] | None:
        """The pages of a piece computed before."""
        return self._index.get(key)

    def remember(self, key: Hashable, pages: Sequence[int]) -> None:
        """From now on the piece can be found. Its pages stay until they are needed elsewhere."""
        assert key not in self._index
        self.hold(pages)
        self._index[key] = tuple(pages)
        self._indexed.update(pages)

    def used(self, keys: Sequence[Hashable]) -> None:
        """Marks pieces as just used; a later one counts as older, for it is of no use without those before."""
        for key in reversed(keys):
            self._index.move_to_end(key)

    def drop(self, key: Hashable) -> None:
        """Forgets one piece, if it is known."""
        pages = self._index.pop(key, ())
        self._indexed.difference_update(pages)
        self.release(pages)

    def forget(self) -> None:
        for key in list(self._index):
            self.drop(key)

    def _give_up(self, wanted: int) -> None:
        for key in list(self._index):
            if wanted <= 0:
                return
            if all(self._holders[page] == 1 for page in self._index[key]):
                wanted -= len(self._index[key])
                self.drop(key)
