"""Trains: flags -> validated config -> selfplay. Nothing else.

    python -m azr_jax.main [--config=configs/smollm2.py] [--workdir=runs/smollm2] [--config.<field>=<value> ...]

The same command resumes. `--fork_from=<workdir>` starts a new run from another run's latest weights and buffers.
Exit codes: 0 finished or stopped by request, 2 something in the request is wrong (nothing was started).
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from absl import app, flags

from azr_jax.config import ConfigError, load

CONFIG = flags.DEFINE_string("config", "configs/smollm2.py", "The recipe: a Python file with get_config().")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives. Default: runs/<name of the recipe>.")
FORK_FROM = flags.DEFINE_string("fork_from", None, "Start a new run from the latest checkpoint of this workdir.")

PREFIX = "--config."


def parse_flags(argv: list[str]) -> list[str]:
    """Absl parses its own flags; the `--config.<field>=<value>` ones are left in argv for main()."""
    try:
        rest = flags.FLAGS([word for word in argv if not word.startswith(PREFIX)])
    except flags.Error as error:
        fail([str(error)])
    return rest + [word for word in argv if word.startswith(PREFIX)]


def read_overrides(words: list[str]) -> dict[str, str]:
    overrides, problems = {}, []
    for word in words:
        if not word.startswith(PREFIX):
            problems.append(f"{word}: not a flag; fields are set as --config.<field>=<value>")
        elif "=" not in word:
            problems.append(f"{word}: write it as {word}=<value>")
        else:
            field, _, value = word.removeprefix(PREFIX).partition("=")
            overrides[field] = value
    if problems:
        raise ConfigError(problems)
    return overrides


def fail(problems: list[str]) -> NoReturn:
    """One line each, then exit code 2: nothing has been started."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)


def main(argv: list[str]) -> None:
    try:
        config, problems = load(CONFIG.value, read_overrides(argv[1:]))
        if problems:
            raise ConfigError(problems)
        # Only now: importing the loop starts JAX, and wrong flags should not have to wait for that.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it would advise to install torch
        from azr_jax.selfplay.train import train

        workdir = WORKDIR.value or f"runs/{Path(CONFIG.value).stem}"
        again = shlex.join(["python", "-m", "azr_jax.main", *sys.argv[1:]])
        train(config, workdir, recipe=CONFIG.value, again=again, fork_from=FORK_FROM.value)
    except ConfigError as error:
        fail(error.problems)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
