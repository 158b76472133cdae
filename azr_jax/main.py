"""Trains: flags -> validated config -> selfplay. Nothing else.

    python -m azr_jax.main [--config=configs/nano.py] [--workdir=runs/nano] [--config.<field>=<value> ...]

A recipe that does not stand here is looked for among those that come with the package. The same command resumes.
`--fork_from=<workdir>` starts a new run from another run's latest weights and buffers.
On a TPU slice the same command on every worker is one run; elsewhere each process is told where the first one is:

    --coordinator=<host of the first>:<port> --processes=<how many> --process=<which of them, from 0>

Exit codes: 0 finished or stopped by request, 2 something in the request is wrong (nothing was started), 86 another
process is gone, or a stage took too long (watchdog.on_expiry=end): start it again.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from absl import app, flags

from azr_jax.commands import started_as
from azr_jax.config import recipes
from azr_jax.config.flags import load
from azr_jax.config.schema import ConfigError
from azr_jax.storage.errors import StorageError


def fail(problems: list[str]) -> NoReturn:
    """One line each, then exit code 2: nothing has been started."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)


def number(variable: str) -> int | None:
    """Of the environment; None where it is not set."""
    text = os.environ.get(variable, "")
    if text and not text.isdigit():
        fail([f"{variable}={text} in the environment: should be a whole number from 0 up"])
    return int(text) if text else None


CONFIG = flags.DEFINE_string("config", "configs/nano.py", "The recipe: a Python file with get_config().")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives. Default: runs/<name of the recipe>.")
FORK_FROM = flags.DEFINE_string("fork_from", None, "Start a new run from the latest checkpoint of this workdir.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", os.environ.get("JAX_COORDINATOR_ADDRESS"), "Of several processes: <host>:<port> of the first."
)
PROCESSES = flags.DEFINE_integer("processes", number("JAX_NUM_PROCESSES"), "How many processes the run has.")
PROCESS = flags.DEFINE_integer("process", number("JAX_PROCESS_ID"), "Which of them this one is, from 0.")
JOIN_TIMEOUT_S = flags.DEFINE_integer("join_timeout_s", 300, "How long processes wait for each other at the start.", 1)

PREFIX = "--config."
ASK_AGAIN = 86  # as of a watchdog: the same command may well work later


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


def code_of(error: BaseException) -> int | None:
    if isinstance(error, StorageError):
        return ASK_AGAIN if error.passing else 2
    return None


def main(argv: list[str]) -> None:
    try:
        config, problems = load(CONFIG.value, read_overrides(argv[1:]))
        if problems:
            raise ConfigError(problems)
        # Only now: importing the loop starts JAX, and wrong flags should not have to wait for that.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it would advise to install torch
        from azr_jax.parallel.hosts import CannotJoin, joined
        from azr_jax.run.train import train

        workdir = WORKDIR.value or f"runs/{Path(CONFIG.value).stem}"
        again = shlex.join([*started_as("azr-train", "azr_jax.main"), *sys.argv[1:]])
        try:
            with joined(
                COORDINATOR.value,
                PROCESSES.value,
                PROCESS.value,
                join_timeout_s=JOIN_TIMEOUT_S.value,
                dead_after_s=config.watchdog.process_s,
                alike=ConfigError,
                code_of=code_of,
            ) as hosts:
                recipe = recipes.told(CONFIG.value)
                train(config, workdir, recipe=recipe, again=again, fork_from=FORK_FROM.value, hosts=hosts)
        except CannotJoin as error:
            fail(str(error).splitlines())
    except ConfigError as error:
        fail(error.problems)
    except StorageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(code_of(error))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
