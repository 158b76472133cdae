"""The folder a run lives in: opened once, checked before anything is computed.

config.json        the resolved config; a run only goes on with the same one
config_diff.txt    what differs from configs/base.py
config_changes.jsonl   what a later start did otherwise, and from which iteration on
owner.json         who writes here now (lease.py)
buffers/           the tasks, one append-only file per kind
seeding.json       how far seeding got
checkpoints/       weights, optimizer, cursors (learner/checkpoint.py)
metrics.jsonl, timings.jsonl, tensorboard/, records.jsonl, heldout.jsonl, report.html   (monitor/)
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from azr_jax.config import flags as configs
from azr_jax.config.schema import Config, ConfigError
from azr_jax.models.folder import BadFolder, run_config
from azr_jax.models.source import canonical
from azr_jax.monitor import jsonl
from azr_jax.monitor.console import stop_logging_to
from azr_jax.run.lease import FILE as OWNER
from azr_jax.run.lease import Lease

BEGUN = ("seeding.json", "metrics.jsonl")  # one of them is there as soon as anything has been played
# What a start makes before that.
MADE = (
    OWNER, "config.json", "config.tmp", "config_diff.txt", "config_diff.tmp", "logs", "buffers", "compiled",
    "tensorboard", "watchdog*.txt", ".seen_by_all",
)  # fmt: skip
CHANGES = "config_changes.jsonl"
# What may change between two starts of one run, because it changes nothing that is learned but by rounding: how long,
# how often, on which devices and how many at a time. With a point: all inside.
MAY_CHANGE = (
    "iterations", "checkpoint.", "monitor.", "watchdog.", "profile.", "mesh.", "executor.workers",
    "eval.every", "eval.rows", "eval.attempts", "model.cache_dir", "model.remat", "model.attention",
    "rollout.slots", "rollout.pages", "rollout.page_size", "rollout.decode_steps",
    "rollout.prefill_tokens", "rollout.prefill_rows", "rollout.draft_tokens", "rollout.attention", "pipeline.follow",
    "pipeline.kv_cache", "learner.microbatch", "learner.chunk", "learner.row_lengths", "learner.share_prompts",
    "seeding.max_rounds",
)  # fmt: skip


def names_in(workdir: Path) -> list[str]:
    return [found.name for found in workdir.iterdir()] if workdir.exists() else []


def absent(workdir: Path) -> tuple[Path, ...]:
    """The folders that have to be made for it, the innermost first."""
    try:
        return tuple(folder for folder in (workdir, *workdir.parents) if not folder.exists())
    except OSError:  # opening it says what is wrong
        return ()


def has_begun(names: Collection[str]) -> bool:
    """By the names of what stands in the workdir."""
    return not {*BEGUN, "checkpoints"}.isdisjoint(names)


def is_made_by_a_start(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in MADE)


def check_is_run(path: str, names: Collection[str]) -> None:
    """Raises ConfigError where something else stands there: a model has a config.json, too."""
    begun = has_begun(names) and "config.json" in names
    waits = not names or (OWNER in names and all(map(is_made_by_a_start, names)))
    if not begun and not waits:
        raise ConfigError([f"--workdir={path}: not empty and not a run of this program; give another folder"])


def take_back(workdir: Path) -> None:
    """What a start has made where nothing has been played, but the owner's name."""
    stop_logging_to(workdir)
    for name in names_in(workdir):
        if is_made_by_a_start(name) and name != OWNER:
            found = workdir / name
            shutil.rmtree(found) if found.is_dir() else found.unlink()


def open_workdir(path: str, config: Config, base: Config) -> Lease:
    """Makes the folder, or checks that what is there is the same run; whoever gets the lease may write there.

    Raises ConfigError, having written nothing. A run that was refused before it began (for its model, or what the model
    allows) may be corrected in its place.
    """
    workdir = Path(path).resolve()  # checkpoints want absolute paths
    try:
        check_is_run(path, names_in(workdir))
        _changed(path, workdir, config, base)
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir) as probe:
            probe.write(b"writable")
        lease = Lease(workdir)
    except OSError as error:
        raise ConfigError(
            [f"--workdir={path}: cannot write there: {error.strerror}; give a folder that can be written"]
        ) from error
    try:
        open_folder_of_run(path, workdir, config, base)
    except BaseException:
        lease.release()
        raise
    return lease


def open_folder_of_run(path: str, workdir: Path, config: Config, base: Config) -> None:
    """Checks it, now that nobody else writes there: another run may have begun and ended meanwhile.

    A run that has begun keeps the config it has until this start can no longer be refused: `go_on_with`.
    """
    _changed(path, workdir, config, base)
    if not has_begun(names_in(workdir)):
        _write_config(workdir, config, base)


def go_on_with(path: str, workdir: Path, config: Config, base: Config, first: int) -> None:
    """Writes down what this start does otherwise than the last one, from iteration `first` on."""
    if changed := _changed(path, workdir, config, base):
        line = {"from": first, "changes": {field: [before, now] for field, before, now in changed}}
        lines = [*jsonl.read(workdir / CHANGES), line]
        _write(workdir / CHANGES, "".join(json.dumps(each) + "\n" for each in lines))
    _write_config(workdir, config, base)


def _write_config(workdir: Path, config: Config, base: Config) -> None:
    _write(workdir / "config.json", configs.to_json(config))
    _write(workdir / "config_diff.txt", diff_text(config, base))


Changed = list[tuple[str, Any, Any]]  # field, before, now


def _changed(path: str, workdir: Path, config: Config, base: Config) -> Changed:
    """What this start of a run does otherwise than the last one, and may."""
    return _same_run(workdir, _read(path, workdir), config, base) if has_begun(names_in(workdir)) else []


def _read(path: str, workdir: Path) -> dict[str, Any]:
    """The config of the run that is there."""
    try:
        run_config(workdir)
    except BadFolder as error:
        raise ConfigError(
            [f"--workdir={path}: {error}; without it the run cannot go on: bring it back, or give another folder"]
        ) from error
    return configs.from_json((workdir / "config.json").read_text())


def changes_from(workdir: Path, iteration: int) -> str:
    """What differs from this iteration on, for people; empty where nothing does."""
    last = next(reversed(list(jsonl.read(workdir / CHANGES))), None)
    if last is None or last["from"] != iteration:
        return ""
    return ", ".join(f"{field} {_show(before)} -> {_show(now)}" for field, (before, now) in last["changes"].items())


def check_space(workdir: Path, checkpoint_bytes: int, keep: int) -> None:
    """For `keep` checkpoints, and the one being written."""
    needed = checkpoint_bytes * (keep + 1)
    free = shutil.disk_usage(workdir).free
    if free < needed:
        raise ConfigError(
            [
                f"--workdir={workdir}: {free / 1e9:.1f} GB free, but checkpoint.keep={keep} + 1 checkpoints of this "
                f"model take {needed / 1e9:.1f} GB; free some space or give another folder"
            ]
        )


def diff_text(config: Config, base: Config) -> str:
    """What this run changes, one field a line."""
    rows = configs.diff(config, base)
    width = max((len(field) for field, _, _ in rows), default=0)
    return "".join(f"{field:{width}}  {_show(old)} -> {_show(new)}\n" for field, old, new in rows)


def _same_run(workdir: Path, old: dict[str, Any], new: Config, base: Config) -> Changed:
    """A field that came into being after the run began must have the value that means what was done before."""
    known, usual = configs.flatten(old), configs.flatten(base)
    # A falling learning rate ends at the last iteration, which then is part of what is learned.
    falls = new.learner.schedule != "constant"
    changed = [
        (field, before, now)
        for field, before, now in configs.diff(new, old)
        if (field in known or now != usual[field])
        and not (field == "model.name" and canonical(before) == canonical(now))
    ]
    other = [one for one in changed if not one[0].startswith(MAY_CHANGE) or (falls and one[0] == "iterations")]
    if other:
        because = {"iterations": f" (learner.schedule={new.learner.schedule} falls to its end in the last of them)"}
        raise ConfigError(
            [
                f"--workdir={workdir}: holds a run with another config; these fields differ (there -> asked for):",
                *(f"    {field}: {_show(was)} -> {_show(now)}{because.get(field, '')}" for field, was, now in other),
                f"start anew with another --workdir, or carry its weights and buffers over with --fork_from={workdir} "
                "--workdir=<a new folder>",
            ]
        )
    return changed


def _show(value: object) -> str:
    return json.dumps(value)


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
