"""Who holds which page of the key/value cache: counting on the host, no arrays and no JAX.

A page is held once by every sequence that reads it, and once by the index while its content may be found again. The
index maps the beginning of a prompt to the pages that hold its keys and values: the samples of one request share them,
and so do prompts that begin alike. A chunk that only the index holds is given up when pages run short, the one
that was not used for longest first. New weights make every chunk worthless: `forget`.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b


@dataclass(frozen=True)
class PrefillChunk:
    """A stretch of a prompt that is found again as a whole, read in a call of `shape` rows.

    `key` stands for all tokens from the prompt's beginning to the chunk's end, and for `shape`: what is computed for a
    chunk is bitwise a function of its key.
    """

    key: Hashable
    start: int
    length: int
    shape: int

    @property
    def end(self) -> int:
        return self.start + self.length


@lru_cache(maxsize=64)  # the samples of a request enter one after the other
def prefill_chunks(prompt: tuple[int, ...], chunk: int, shapes: tuple[int, ...]) -> tuple[PrefillChunk, ...]:
    """Whole chunks and a last one, each in the smallest of these shapes that holds it, or in the largest bit by bit.

    The prompt's last token is left out: decoding begins with it. Keys are digests, so that one costs its own chunk and
    not the whole prompt.
    """
    tokens, out, so_far = array("q", prompt[:-1]), [], blake2b(digest_size=16)
    for start in range(0, len(tokens), chunk):
        length = min(chunk, len(tokens) - start)
        shape = next((shape for shape in shapes if shape >= length), shapes[-1])
        so_far.update(tokens[start : start + length])
        out.append(PrefillChunk((so_far.digest(), shape), start, length, shape))
    return tuple(out)


@lru_cache(maxsize=8)
def chunk_shapes(chunk: int, page_size: int) -> tuple[int, ...]:
    """Rows of calls that read one chunk each: the chunk, and down by halves to an eighth, in whole pages."""
    return tuple(sorted({-(-chunk // (part * page_size)) * page_size for part in (1, 2, 4, 8)}))


class Pages:
    """Allocation, sharing and release of `count` pages."""

    def __init__(self, count: int):
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._holders = [0] * count
        self._index: OrderedDict[Hashable, tuple[int, ...]] = OrderedDict()
        self._indexed: set[int] = set()
        self._idle = 0  # pages that only the index holds

    @property
    def in_use(self) -> int:
        """Pages that some sequence holds; what only the index holds can be had at any time."""
        return self.count - len(self._free) - self._idle

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
            self._idle -= self._holders[page] == 1 and page in self._indexed
            self._holders[page] += 1

    def release(self, pages: Sequence[int]) -> None:
        for page in pages:
            assert self._holders[page] > 0, f"page {page} was released twice"
            self._holders[page] -= 1
            self._idle += self._holders[page] == 1 and page in self._indexed
            if not self._holders[page]:
                self._free.append(page)

    def find(self, key: Hashable) -> tuple[int, ...] | None:
        """The pages of a chunk computed before."""
        return self._index.get(key)

    def remember(self, key: Hashable, pages: Sequence[int]) -> None:
        """From now on the chunk can be found. Its pages stay until they are needed elsewhere."""
        assert key not in self._index
        self.hold(pages)
        self._index[key] = tuple(pages)
        self._indexed.update(pages)

    def used(self, keys: Sequence[Hashable]) -> None:
        """Marks chunks as just used; a later one counts as older, for it is of no use without those before."""
        for key in reversed(keys):
            self._index.move_to_end(key)

    def drop(self, key: Hashable) -> None:
        """Forgets one chunk, if it is known."""
        pages = self._index.pop(key, ())
        self._idle -= sum(self._holders[page] == 1 for page in pages)
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
