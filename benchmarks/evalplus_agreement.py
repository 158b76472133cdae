"""Verdict by verdict: this project's HumanEval+ or MBPP+ of a chat model beside the EvalPlus package's own.

    python benchmarks/evalplus_agreement.py --model=<name or folder> --evalplus=<python> --out=<folder> [--limit=40]

`--evalplus` names an interpreter with evalplus 0.3.1, torch and transformers. That package asks the model itself, with
transformers, and judges what it says; `python -m azr_jax.evaluate --style=evalplus` does the same here. Both are
greedy, in float32, on the same folder and rows, and go on where they were interrupted. Last line: one JSON object.

One fault of the package is mended on the way: it hangs the stop criterion of each task on those of all before, which
count from where their own prompts ended, so that an answer behind a shorter prompt may end at its first word.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.models.source import resolve
from azr_jax.monitor.means import Mean

ROOT = Path(__file__).resolve().parents[1]
MENDED = """
from evalplus.evaluate import main
from evalplus.provider.hf import HuggingFaceDecoder

def alone(self, *given, codegen=HuggingFaceDecoder.codegen, **named):
    vars(self.model).pop("_get_stopping_criteria", None)
    return codegen(self, *given, **named)

HuggingFaceDecoder.codegen = alone
main()
"""
DATASETS = {"humaneval_plus": "humaneval", "mbpp_plus": "mbpp"}


def first_rows(options: argparse.Namespace) -> Path:
    """The rows that both are given, where the package looks for them."""
    rows = options.out / f"{options.suite}.jsonl"
    with gzip.open(options.data / "code" / f"{options.suite}.jsonl.gz", "rt") as file:
        lines = file.readlines()[: options.limit or None]
    rows.write_text("".join(lines))
    return rows


def theirs(options: argparse.Namespace, folder: Path) -> dict[str, tuple[bool, bool]]:
    """(base, base and plus) of each row, as the package has them."""
    dataset, root = DATASETS[options.suite], options.out / "evalplus"
    told = {f"{dataset.upper()}_OVERRIDE_PATH": str(first_rows(options)), "HF_HUB_OFFLINE": "1"}
    command = [options.evalplus, "-c", MENDED, "--model", folder, "--dataset", dataset, "--backend", "hf"]
    command += ["--greedy", "--dtype", "float32", "--root", root]
    subprocess.run(list(map(str, command)), env=os.environ | told, check=True, stdin=subprocess.DEVNULL)
    (found,) = (root / dataset).glob("*_eval_results.json")
    judged = {name: each for name, (each,) in json.loads(found.read_text())["eval"].items()}
    return {
        name: (each["base_status"] == "pass", each["base_status"] == each["plus_status"] == "pass")
        for name, each in judged.items()
    }


def ours(options: argparse.Namespace, folder: Path) -> dict[str, tuple[bool, bool]]:
    out = options.out / "azr_jax"
    command = [sys.executable, "-m", "azr_jax.evaluate", f"--model={folder}", f"--suite={options.suite}"]
    command += [f"--data_dir={options.data}", f"--limit={options.limit}", f"--out={out}", "--dtype=float32"]
    subprocess.run([*command, "--style=evalplus", "--max_new_tokens=768"], cwd=ROOT, check=True)
    lines = [json.loads(line) for file in out.rglob(f"{options.suite}.*.jsonl") for line in file.open()]
    return {line["id"]: (line["base"], line["score"] == 1) for line in lines}


def share(verdicts: list[bool]) -> str:
    mean = Mean.of([float(verdict) for verdict in verdicts])
    return f"{100 * mean.value:.1f} +- {100 * mean.error:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--evalplus", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--suite", choices=DATASETS, default="humaneval_plus")
    parser.add_argument("--limit", type=int, default=40, help="the first rows; 0: all")
    parser.add_argument("--data", type=Path, default=os.environ.get("AZR_DATA", ROOT.parent / "shared" / "data"))
    options = parser.parse_args()
    options.out, options.data = options.out.absolute(), options.data.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    folder = resolve(options.model)
    mine, other = ours(options, folder), theirs(options, folder)
    if mine.keys() != other.keys():
        raise SystemExit(f"not the same rows: {sorted(mine.keys() ^ other.keys())}")
    report: dict[str, object] = {"suite": options.suite, "rows": len(mine)}
    for at, tests in enumerate(("base", "base and plus")):
        differ = sorted(name for name in mine if mine[name][at] != other[name][at])
        print(f"{tests}: here {share([each[at] for each in mine.values()])} %, ", end="")
        print(f"EvalPlus {share([each[at] for each in other.values()])} %; verdicts that differ: {differ or 'none'}")
        report[tests] = {
            "here": sum(each[at] for each in mine.values()),
            "evalplus": sum(each[at] for each in other.values()),
            "differ": differ,
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
