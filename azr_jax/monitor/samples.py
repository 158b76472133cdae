"""Which tasks the report shows: a bounded sample of records.jsonl, with the ancestors that its tasks came from.

A file of gigabytes is read once, line by line; only chosen lines are parsed. A line's chance depends on a hash of its
place, so the same tasks stay in the report as the run grows, and every iteration is represented. Accepted tasks are
preferred to refusals. The full text stays in records.jsonl: long texts are cut here, and say so.
"""

from __future__ import annotations

import heapq
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

HEAD = re.compile(rb'\{"iteration": (\d+), "role": "(propose|solve)"')
# Inside a JSON string a quote is escaped, so this can only be the record's own field.
TASK_ID = re.compile(rb'"task_id": (\d+)')
BUFFER_LINE = re.compile(rb'"record":\{"id":(\d+),')
ACCEPTED_WEIGHT = 3.0  # an accepted task is this much more likely to be shown than a refusal
SOLVED_LATER = 4  # solutions kept per task, beside its estimate attempts
LINEAGE_DEPTH = 4
PROGRAM_CHARS, COMPLETION_CHARS, ATTEMPT_CHARS, STUB_CHARS, REASON_CHARS = 6_000, 4_000, 800, 500, 200


@dataclass
class Index:
    """Where things are in one records.jsonl: byte offsets, by task."""

    chosen: list[tuple[float, int]] = field(default_factory=list)  # (minus rank, offset), a heap of the best ranks
    proposed: dict[int, int] = field(default_factory=dict)
    solved: dict[int, list[int]] = field(default_factory=dict)
    proposals: int = 0
    solutions: int = 0


def sample(workdir: Path, *, tasks: int, max_bytes: int) -> dict[str, Any]:
    """{"tasks": [...], "ancestors": {id: stub}, "proposals": n, "solutions": n} of one run."""
    path = workdir / "records.jsonl"
    if not path.is_file():
        return {"tasks": [], "ancestors": {}, "proposals": 0, "solutions": 0}
    index = _scan(path, tasks)
    shown: list[dict[str, Any]] = []
    size = 0
    with path.open("rb") as file:
        for _, offset in sorted(index.chosen, reverse=True):
            item = _item(_parse(file, offset))
            item["solved"] = [_solution(_parse(file, at)) for at in index.solved.get(item.get("task_id") or -1, ())]
            size += size_in_page(item)
            if size > max_bytes:
                break
            shown.append(item)
        ancestors = _ancestors(shown, index, file, workdir / "buffers", max_bytes // 4)
    shown.sort(key=lambda item: (item["iteration"], item["kind"], item.get("index", 0)))
    return {"tasks": shown, "ancestors": ancestors, "proposals": index.proposals, "solutions": index.solutions}


def size_in_page(value: object) -> int:
    """Bytes of this value in the report, where `<`, `>` and `&` take six each (report.py)."""
    text = json.dumps(value)
    return len(text) + 5 * sum(text.count(c) for c in "<>&")


def _scan(path: Path, tasks: int) -> Index:
    index = Index()
    for offset, line in _lines(path):
        head = HEAD.match(line)
        if head is None:
            continue
        found = TASK_ID.search(line)
        task_id = int(found[1]) if found else None
        if head[2] == b"solve":
            index.solutions += 1
            places = index.solved.setdefault(task_id if task_id is not None else -1, [])
            if len(places) < SOLVED_LATER:
                places.append(offset)
            continue
        index.proposals += 1
        if task_id is not None:
            index.proposed[task_id] = offset
        rank = zlib.crc32(b"%d" % offset) / (ACCEPTED_WEIGHT if b'"task": null' not in line else 1.0)
        if len(index.chosen) < tasks:
            heapq.heappush(index.chosen, (-rank, offset))
        elif -rank > index.chosen[0][0]:
            heapq.heapreplace(index.chosen, (-rank, offset))
    return index


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of every whole line: the last one may be torn, or be written just now."""
    offset = 0
    with path.open("rb", buffering=1 << 20) as file:
        for line in file:
            if line.endswith(b"\n"):
                yield offset, line
            offset += len(line)


def _parse(file: BinaryIO, offset: int) -> dict[str, Any]:
    file.seek(offset)
    # NaN is no JSON, but Python writes it: an advantage that could not be computed is shown as missing.
    return json.loads(file.readline(), parse_constant=lambda name: None)


def _item(record: dict[str, Any]) -> dict[str, Any]:
    task = record.get("task")
    return {
        **{name: record.get(name) for name in ("iteration", "kind", "index", "task_id", "finish", "tokens")},
        **{name: record.get(name) for name in ("solve_rate", "reward", "advantage")},
        "refused": cut(record.get("refused") or "", REASON_CHARS),
        "detail": cut(record.get("detail") or "", ATTEMPT_CHARS),
        "references": record.get("references") or [],
        "completion": cut(record.get("completion") or "", COMPLETION_CHARS),
        "task": {name: _short(value) for name, value in task.items()} if task else None,
        "attempts": [_attempt(attempt) for attempt in record.get("attempts") or ()],
    }


def _attempt(record: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: record.get(name) for name in ("correct", "reward", "advantage", "tokens")},
        "reason": cut(record.get("reason") or "", REASON_CHARS),
        "answer": None if record.get("answer") is None else cut(record["answer"], ATTEMPT_CHARS),
        "completion": cut(record.get("completion") or "", ATTEMPT_CHARS),
    }


def _solution(record: dict[str, Any]) -> dict[str, Any]:
    return {"iteration": record["iteration"], **_attempt(record)}


def _short(value: object) -> object:
    if isinstance(value, list):
        return [_short(part) for part in value[:20]]
    return cut(value, PROGRAM_CHARS) if isinstance(value, str) else value


def cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}\n[... cut: {len(text)} characters in records.jsonl]"


def _ancestors(
    shown: Iterable[dict[str, Any]], index: Index, file: BinaryIO, buffers: Path, max_bytes: int
) -> dict[int, dict[str, Any]]:
    """Stubs of the tasks the shown ones came from, and those came from, some generations back."""
    stubs: dict[int, dict[str, Any]] = {}
    wanted = {reference for item in shown for reference in item["references"]}
    size = 0
    for _ in range(LINEAGE_DEPTH):
        # Tasks of the run are in its records; seeds, and what a fork brought along, only in the buffers.
        found = {i: _stub(_parse(file, index.proposed[i])) for i in sorted(wanted) if i in index.proposed}
        found |= _from_buffers(buffers, wanted - set(found))
        size += size_in_page(found)
        if size > max_bytes:
            break
        stubs |= found
        wanted = {reference for stub in found.values() for reference in stub["references"]} - set(stubs)
    return stubs


def _stub(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": record["kind"],
        "iteration": record["iteration"],
        "solve_rate": record.get("solve_rate"),
        "references": record.get("references") or [],
        "program": cut((record.get("task") or {}).get("program", ""), STUB_CHARS),
    }


def _from_buffers(folder: Path, wanted: set[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.jsonl")) if wanted else ():
        for _, line in _lines(path):
            head = BUFFER_LINE.search(line)
            if head and int(head[1]) in wanted:
                record = json.loads(line)["record"]
                found[record["id"]] = _stub({**record, "kind": path.stem}) | {"seed": bool(record.get("seed"))}
    return found
