"""Compiles every program of a run for a named TPU slice, without one, and says whether it fits and what it costs.

    python -m azr_jax.dryrun --config=configs/qwen7b.py --topology=v5e:4x4 [--json] [--config.<field>=<value> ...]

Needs `pip install "jax[tpu]"`, no TPU, no weights, no network. Minutes per program of a large model.
Exit codes: 0 it fits, 1 it does not, 2 something in the request is wrong (nothing was compiled).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from absl import app, flags

from azr_jax.config.flags import load
from azr_jax.config.schema import ConfigError
from azr_jax.dryrun import topology as slices
from azr_jax.main import CONFIG, fail, parse_flags, read_overrides

slices.prepare()  # before anything imports JAX

TOPOLOGY = flags.DEFINE_string("topology", None, "The slice, as v5e:4x4, or slices: v5e:4x4:2 are two.", required=True)
JSON = flags.DEFINE_bool("json", False, "Also print one line of JSON, the last one.")
ONLY = flags.DEFINE_enum("only", "all", ["all", "train", "engine"], "Which programs to compile.")
SEQUENCES = flags.DEFINE_integer("sequences", 0, "Trained on per iteration; 0: the recipe's own number.", lower_bound=0)
TEXT = flags.DEFINE_string("text", None, "A folder for the compiled text of each program.")


def main(argv: list[str]) -> None:
    try:
        topology = slices.find(TOPOLOGY.value)
        config, problems = load(CONFIG.value, read_overrides(argv[1:]))
    except slices.UnknownTopology as error:
        fail([str(error)])
    except ConfigError as error:
        fail(error.problems)
    if problems:
        fail(problems)
    # Only now: these import JAX, and wrong flags should not have to wait for that.
    from azr_jax.dryrun.account import take
    from azr_jax.dryrun.report import as_json, table
    from azr_jax.models.slice_layout import ImpossibleLayout
    from azr_jax.models.source import ModelNotFound
    from azr_jax.models.spec import UnsupportedModel
    from azr_jax.rollout.attention import CannotAttend

    say = (lambda text: print(text, file=sys.stderr, flush=True)) if sys.stderr.isatty() else lambda text: None
    try:
        account, texts = take(config, Path(CONFIG.value).stem, topology, ONLY.value, SEQUENCES.value, say)
    except (slices.LibtpuMissing, ImpossibleLayout, ModelNotFound, UnsupportedModel) as error:
        fail([str(error)])
    except CannotAttend as error:
        fail([f"rollout.{error}"])
    _write(texts)
    print(table(account))
    if JSON.value:
        print(json.dumps(as_json(account)))
    sys.exit(0 if account.fits else 1)


def _write(texts: dict[str, Any]) -> None:
    if TEXT.value is None:
        return
    folder = Path(TEXT.value)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name.replace(' ', '_').replace('>', '')}.txt").write_text(text)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
