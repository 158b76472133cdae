"""records.jsonl: what was proposed and solved, in full: one line per proposal or solution, as plain dicts.

Nothing is sampled here; the report picks what it shows (samples.py). A record begins with its iteration, role and
kind, in this order, which is what lets the report skip a line without reading all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from azr_jax.monitor.jsonl import JsonLines


class RecordWriter:
    def __init__(self, workdir: Path, cursor: int = 0):
        self._file = JsonLines(workdir / "records.jsonl")
        self._file.cut(cursor)

    def write(self, iteration: int, records: Iterable[Mapping[str, Any]]) -> None:
        self._file.extend(
            {"iteration": iteration, "role": record["role"], "kind": record["kind"]} | dict(record)
            for record in records
        )

    def cursor(self) -> int:
        return self._file.position()
