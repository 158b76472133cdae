"""A run's tasks as one file in the public seed-buffer format, for `seeding.import_from` of another run.

    python -m azr_jax.export_tasks --workdir=runs/first --out=tasks.jsonl.gz

What is in the buffers now, each task once: deduction and abduction are both played from a row with one input. Error
tasks are left out, because the format has no place for them; those of a kind of your own say which one (`kind`). The
run may be going on meanwhile: its files are copied first and read in the copy.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import app, flags

from azr_jax.config.flags import from_json, resolve
from azr_jax.tasks.buffers import Buffers, BufferSettings, DamagedJournal
from azr_jax.tasks.kind import UnknownKind, named
from azr_jax.tasks.seedfile import write_seed_file

FLAGS = flags.FLAGS


class NoTasks(ValueError):
    """The run's folder or the flags are not what an export needs."""


def export_tasks(workdir: Path, out: Path) -> int:
    """How many tasks were written."""
    written = workdir / "config.json"
    if not written.is_file() or not (workdir / "buffers").is_dir():
        raise NoTasks(f"--workdir={workdir}: holds no config.json and buffers, so it is not the folder of a run")
    if out.exists():
        raise NoTasks(f"--out={out}: is there already; give another name or move it away")
    config = resolve(from_json(written.read_text()))
    try:
        kinds = named(config.tasks.kinds)
    except UnknownKind as error:
        raise NoTasks(f"--workdir={workdir}: tasks.kinds={error}") from error
    with tempfile.TemporaryDirectory() as copy:
        for file in (workdir / "buffers").glob("*.jsonl"):
            shutil.copy(file, copy)
        buffers = Buffers(kinds, BufferSettings(config.buffer.capacity, config.buffer.evict), Path(copy))
        buffers.load()
        return write_seed_file(out, _each_once(buffers))


def _each_once(buffers: Buffers) -> Iterator[dict[str, Any]]:
    seen: set[tuple[Any, ...]] = set()
    for kind, buffer in buffers.items():
        for entry in buffer:
            if (row := kind.row(entry.task)) is None:
                continue
            mark = (row.get("kind"), row["snippet"], row.get("input") or row.get("inputs"))
            if mark not in seen:
                seen.add(mark)
                yield row


def main(argv: list[str]) -> None:
    """Flags to `export_tasks`; what is wrong with them is one line and exit code 2."""
    if len(argv) > 1:
        sys.exit(f"{argv[1]}: not understood; flags look like --workdir=...")
    try:
        count = export_tasks(Path(FLAGS.workdir), Path(FLAGS.out))
    except (NoTasks, DamagedJournal, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(f"{FLAGS.out}: {count} tasks")
    if FLAGS.json:
        print(json.dumps({"out": FLAGS.out, "tasks": count}))


if __name__ == "__main__":  # only here: other programs have flags of the same names
    flags.DEFINE_string("workdir", None, "The run's folder, with config.json and buffers.", required=True)
    flags.DEFINE_string("out", None, "The file to write; compressed where its name ends in .gz.", required=True)
    flags.DEFINE_bool("json", False, "End with one line of JSON.")
    app.run(main)
