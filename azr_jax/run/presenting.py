"""What a run says to people: the opening, the closing, and what happened in an iteration as plain records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from azr_jax.config.schema import Config
from azr_jax.monitor.means import mean_and_error
from azr_jax.run.workdir import diff_text
from azr_jax.selfplay.results import Played, Proposed, Scored, Solved
from azr_jax.tasks.types import Answer, FormatError, InductionTask, Kind, Task

EXAMPLE_ATTEMPTS = 4


def opening(config: Config, base: Config, recipe: str, workdir: str) -> str:
    changed = diff_text(config, base)
    indented = "".join(f"  {line}\n" for line in changed.splitlines())
    return f"{recipe} in {workdir}; what differs from configs/base.py:\n{indented}"


def closing(workdir: str, iteration: int, iterations: int, again: str) -> str:
    more = f", which is more than iterations={iterations}: nothing is taken back" if iteration > iterations else ""
    lines = [
        f"{'finished' if iteration >= iterations else 'stopped'} after iteration {iteration}"
        + (more or f" of {iterations}"),
        f"  checkpoint  {workdir}/checkpoints/{iteration}",
        f"  metrics     {workdir}/metrics.jsonl",
        f"  report      {workdir}/report.html",
        f"  export      python -m azr_jax.export --workdir={workdir} --out={workdir}/hf",
    ]
    if iteration < iterations:
        lines.append(f"  resume      {again}")
    return "\n".join(lines)


SPAN = 10  # iterations at each end that are compared


def progress(rows: Sequence[Mapping[str, float]]) -> str:
    """What the first iterations were like and what the last: means, with standard errors over iterations."""
    shown = (("valid proposals", "propose/valid_rate"), ("policy entropy", "learner/entropy"))
    lines = []
    for label, name in shown:
        values = [row[name] for row in rows if name in row]
        if len(values) >= 2 * SPAN:
            (early, early_error), (late, late_error) = (mean_and_error(v) for v in (values[:SPAN], values[-SPAN:]))
            spans = (
                f"first {SPAN} iterations {early:.3f} +- {early_error:.3f}, last {SPAN} {late:.3f} +- {late_error:.3f}"
            )
            lines.append(f"{label}: {spans}")
    return "\n".join(lines)


def records(played: Played) -> list[dict[str, Any]]:
    """One record per proposal, with its task and attempts, and one per solution."""
    t = played.iteration
    everything = [_proposal_record(p, t) for proposals in played.proposed.values() for p in proposals]
    return everything + [
        {"role": "solve", "kind": s.kind, "task_id": s.task_id, **_attempt_record(s), **_versions(s, t)}
        for solutions in played.solved.values()
        for s in solutions
    ]


def _versions(one: Scored, iteration: int) -> dict[str, Any]:
    """Where other weights than those of its own iteration drew some of its tokens: [whose, how many], in order."""
    versions = one.completion.rollout.versions
    if all(version == iteration for version in versions):
        return {}
    return {"versions": [[version, len(list(some))] for version, some in groupby(versions)]}


def _proposal_record(proposed: Proposed, iteration: int) -> dict[str, Any]:
    return {
        "role": "propose",
        "kind": proposed.kind,
        "index": proposed.index,
        "references": list(proposed.references),
        "completion": proposed.completion.text,
        "finish": proposed.completion.rollout.finish,
        "tokens": len(proposed.completion.rollout.tokens),
        "task_id": proposed.entry_id,
        "task": task_record(proposed.task) if proposed.task is not None else None,
        "refused": proposed.refusal,
        "detail": proposed.validation.detail if proposed.validation else "",
        "solve_rate": proposed.solve_rate,
        "attempts": [_attempt_record(attempt) | _versions(attempt, iteration) for attempt in proposed.attempts],
        "reward": proposed.reward,
        "advantage": proposed.advantage,
        **_versions(proposed, iteration),
    }


def _attempt_record(solved: Solved) -> dict[str, Any]:
    return {
        "completion": solved.completion.text,
        "tokens": len(solved.completion.rollout.tokens),
        "answer": solved.answer.text if isinstance(solved.answer, Answer) else None,
        "correct": solved.correct,
        "reason": solved.verdict.reason if solved.verdict else _format_reason(solved.answer),
        "reward": solved.reward,
        "advantage": solved.advantage,
    }


def _format_reason(answer: Answer | FormatError) -> str:
    return answer.reason if isinstance(answer, FormatError) else ""


def task_record(task: Task) -> dict[str, Any]:
    if isinstance(task, InductionTask):
        return {
            "program": task.program,
            "inputs": list(task.inputs),
            "outputs": list(task.outputs),
            "message": task.message,
            "shown": task.shown,
        }
    return {"program": task.program, "input": task.input, "output": task.output}


def example(played: Played) -> tuple[str, list[tuple[str, str]], str] | None:
    """(title, facts, program) of the proposal most worth looking at: valid, its solve rate as near one half as any."""
    valid = [p for proposals in played.proposed.values() for p in proposals if p.task is not None]
    if not valid:
        return None
    best = min(valid, key=lambda p: abs((p.solve_rate if p.solve_rate is not None else 1.0) - 0.5))
    task = best.task
    if isinstance(task, InductionTask):
        facts = [("input", task.inputs[0]), ("output", task.outputs[0]), ("message", task.message)]
    else:
        assert task is not None
        facts = [("input", task.input), ("output", task.output)]
    for attempt in best.attempts[:EXAMPLE_ATTEMPTS]:
        answer = attempt.answer.text if isinstance(attempt.answer, Answer) else ""
        verdict = "right" if attempt.correct else _attempt_record(attempt)["reason"]
        facts.append(("attempt", f"{verdict}: {answer}" if answer else verdict))
    rate = "not measured" if best.solve_rate is None else f"{best.solve_rate:.2f}"
    which = "proposal, not kept" if best.entry_id is None else f"task {best.entry_id}"
    return f"{best.kind} {which}, solve rate {rate}, reward {best.reward:+.2f}", facts, task.program


def iteration_table(
    played: Played, iterations: int, numbers: Mapping[str, float], timings: Mapping[str, float]
) -> tuple[str, tuple[str, ...], list[list[str]]]:
    """(title, columns, rows): one row per kind, the clock in the title."""
    tokens = sum(len(one.completion.rollout.tokens) for one in played)
    title = (
        f"iteration {played.iteration}/{iterations}: {timings['time/play']:.1f} s playing "
        f"({tokens / timings['time/play']:.0f} tokens/s, {played.waited_s:.1f} s waiting for verdicts), "
        f"{timings['time/update']:.1f} s update, gradient {numbers['learner/gradient/norm']:.2f}"
    )
    columns = ("kind", "valid", "solve rate", "propose reward", "solve reward", "solved", "tokens", "buffer")
    rows = [
        [kind]
        + [
            cell(numbers.get(name, math.nan), form)
            for name, form in (
                (f"propose/{kind}/valid_rate", ".2f"),
                (f"estimate/{kind}/solve_rate/mean", ".2f"),
                (f"propose/{kind}/reward/mean", "+.2f"),
                (f"solve/{kind}/reward/mean", "+.2f"),
                (f"solve/{kind}/accuracy", ".2f"),
                (f"propose/{kind}/length/mean", ".0f"),
                (f"buffer/{kind}/size", ".0f"),
            )
        ]
        for kind in played.proposed
    ]
    return title, columns, rows


def iteration_row(kinds: Iterable[Kind], numbers: Mapping[str, float], timings: Mapping[str, float]) -> dict[str, str]:
    """One line about an iteration; of several kinds the values stand beside each other, in the order of the kinds."""
    kinds = tuple(kinds)

    def each(pattern: str) -> str:
        return " ".join(cell(numbers.get(pattern.replace("*", kind), math.nan), ".2f") for kind in kinds)

    initials = "/".join(kind[:3] for kind in kinds)
    return {
        "valid": cell(numbers.get("propose/valid_rate", math.nan), ".2f"),
        f"solve rate\n{initials}": each("estimate/*/solve_rate/mean"),
        f"solved\n{initials}": each("solve/*/accuracy"),
        "entropy": cell(numbers.get("learner/entropy", math.nan), ".3f"),
        "gradient": cell(numbers.get("learner/gradient/norm", math.nan), ".2f"),
        "tokens/s": cell(timings.get("engine/tokens_per_s", math.nan), ".0f"),
        "seconds": cell(timings.get("time/play", math.nan) + timings.get("time/update", math.nan), ".1f"),
    }


def evaluation(iteration: int, numbers: Mapping[str, float]) -> str:
    """`held out after iteration 10: nano/deduction 41.2 % +- 2.0 (gained 5.3 +- 1.6), ...`"""
    found = []
    for name in (name.removesuffix("/accuracy") for name in numbers if name.endswith("/accuracy")):
        percent, error = 100 * numbers[f"{name}/accuracy"], 100 * numbers[f"{name}/accuracy_se"]
        text = f"{name.removeprefix('eval/')} {percent:.1f} % +- {error:.1f}"
        if f"{name}/gain" in numbers:
            text += f" (gained {100 * numbers[f'{name}/gain']:.1f} +- {100 * numbers[f'{name}/gain_se']:.1f})"
        found.append(text)
    return f"held out {f'after iteration {iteration}' if iteration else 'before training'}: {', '.join(found)}"


def cell(number: float, form: str) -> str:
    return "-" if math.isnan(number) else format(number, form)
