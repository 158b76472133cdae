"""How often the judges of letters and of mathematics agree with what a reader decided, and with two others' rules.

    python benchmarks/judges.py [--show]

The answers (tests/fixtures/judged_*.jsonl.gz) are what Qwen2.5-Coder-0.5B-Instruct and SmolLM2-135M-Instruct wrote to
questions of MMLU-Pro, MATH-500 and GSM8K, greedy, cut at 288 tokens, and others made up by hand. `decided` is the
verdict by eye, `why` its reason. The others: the three expressions by which MMLU-Pro reads an answer ("answer is (X)",
"Answer: X", the last letter that stands alone), and math-verify's own reading and comparison of the whole text; their
verdicts are stored, and asked for again where math-verify is installed. `--show` prints each case on which two differ.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import re
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from azr_jax.evals.datasets import Row
from azr_jax.evals.letters import letter_in
from azr_jax.evals.mathematics import MathJudge
from azr_jax.evals.suites import SUITES
from azr_jax.selfplay.event_loop import EventLoop

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures"


def cases(name: str) -> list[dict[str, Any]]:
    with gzip.open(FIXTURES / f"judged_{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def by_mmlu_pro(text: str) -> str | None:
    """The letter that MMLU-Pro's three expressions find, one after the other."""
    for expression in (r"answer is \(?([A-J])\)?", r".*[aA]nswer:\s*([A-J])", r"(?s)\b([A-J])\b(?!.*\b[A-J]\b)"):
        if found := re.search(expression, text):
            return found[1]
    return None


def by_math_verify(gold: str, text: str) -> bool:
    from math_verify import parse, verify

    try:
        return bool(verify(parse(f"${gold}$"), parse(text)))
    except Exception:  # sympy raises whatever there is
        return False


def graded(case: dict[str, Any], judge: MathJudge) -> bool:
    """Whether our suite takes the text for right."""
    gold, suite = case["gold"], SUITES[case["suite"]]
    if suite.name == "gsm8k":
        fields = {"question": "?", "answer": f"#### {gold}"}
    else:
        fields = {"problem": "?", "solution": rf"\boxed{{{gold}}}"}
    item = suite.make(suite, Row("0", fields), "boxed", SimpleNamespace(mathematics=judge))  # type: ignore[arg-type]
    assert item is not None
    return EventLoop(None, judge).run(item.grade(case["text"])).score == 1


def compare(name: str, ours: list[Any], theirs: list[Any], other: str, show: bool) -> dict[str, Any]:
    """Prints the table of one judge."""
    counts: dict[str, Counter[str]] = {"models": Counter(), "by hand": Counter()}
    for case, our, their in zip(cases(name), ours, theirs, strict=True):
        count, decided = counts["by hand" if case["from"] == "by hand" else "models"], case["decided"]
        count.update(
            {"answers": 1, "ours right": our == decided, f"{other} right": their == decided, "both agree": our == their}
        )
        if show and not our == their == decided:
            print(f"  decided {decided}, ours {our}, {other} {their}: {case['text'][-60:]!r} ({case['why']})")
    for source, count in counts.items():
        print(f"{name:12} {source:8}", *(f"{count[key]:4} {key}" for key in count))
    return {source: dict(count) for source, count in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--show", action="store_true")
    show = parser.parse_args().show
    letters = cases("letters")
    found = {
        "letters": compare(
            "letters",
            [letter_in(case["text"], "boxed") for case in letters],
            [by_mmlu_pro(case["text"]) for case in letters],
            "MMLU-Pro",
            show,
        )
    }
    mathematics, judge = cases("mathematics"), MathJudge(1)
    try:
        judge.start()
    except RuntimeError as error:
        print(error)
    else:
        logging.disable(logging.CRITICAL)
        theirs = [by_math_verify(case["gold"], case["text"]) for case in mathematics]
        ours = [graded(case, judge) for case in mathematics]
        found["mathematics"] = compare("mathematics", ours, theirs, "math-verify", show)
        changed = sum(case["math_verify"] != their for case, their in zip(mathematics, theirs))
        print(f"math-verify: {changed} verdicts are other than those stored")
    finally:
        judge.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
