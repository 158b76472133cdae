"""The EvalPlus package's verdicts, for the comparison in test_gold.py. Runs in a Python that has `evalplus`.

    python evalplus_verdicts.py <HumanEvalPlus.jsonl.gz> < solutions.jsonl > verdicts.jsonl

Input lines {"id": ..., "solution": whole program}; output lines {"id": ..., "base": bool, "plus": bool}.
"""

import contextlib
import gzip
import json
import os
import sys


def main() -> None:
    with gzip.open(sys.argv[1], "rt") as file:
        problems = {row["task_id"]: row for row in map(json.loads, file)}
    with contextlib.redirect_stdout(sys.stderr):
        from evalplus.eval import untrusted_check
        from evalplus.gen.util import trusted_exec

    out = os.fdopen(os.dup(1), "w")
    known: dict[tuple[str, str], tuple[list, list[float]]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        problem = problems[asked["id"]]
        found = {}
        for part in ("base", "plus"):
            inputs = problem[f"{part}_input"]
            canonical = problem["prompt"] + problem["canonical_solution"]
            if (asked["id"], part) not in known:
                known[asked["id"], part] = trusted_exec(canonical, inputs, problem["entry_point"], record_time=True)
            expected, seconds = known[asked["id"], part]
            status, _ = untrusted_check(
                "humaneval",
                asked["solution"],
                inputs,
                problem["entry_point"],
                expected=expected,
                atol=problem["atol"],
                ref_time=seconds,
                fast_check=True,
                min_time_limit=10,
                gt_time_limit_factor=8,
            )
            found[part] = status == "pass"
        out.write(json.dumps({"id": asked["id"], "n": asked["n"]} | found) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
