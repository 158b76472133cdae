"""Programs that belong to an evaluation and must not be trained on: told by their text, or by what they compute.

Two programs are the same here when they differ only in comments, docstrings, layout, quotes and the names of variables,
parameters, functions, imports and caught exceptions. Left out on purpose: programs rewritten beyond that, which no
comparison finds for certain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from azr_jax.tasks.sameness import normal_form


class Reserved:
    """`program in reserved`: whether it is one of them."""

    def __init__(self, programs: Iterable[str] = ()):
        self._marks = {mark for program in programs for mark in _marks(program)}

    def __contains__(self, program: str) -> bool:
        return bool(self._marks) and not self._marks.isdisjoint(_marks(program))

    def __len__(self) -> int:
        return len(self._marks)


def _marks(program: str) -> list[bytes]:
    forms = {program.strip(), normal_form(program, entry="")}
    return [_hash(form) for form in forms if form]


def _hash(form: str) -> bytes:
    return hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=16).digest()
