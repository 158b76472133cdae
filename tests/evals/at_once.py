"""Judges whose jobs are done where they are asked, for tests that sample nothing."""

from concurrent.futures import Future
from types import SimpleNamespace

from azr_jax.evals import code
from azr_jax.evals.datasets import Row
from azr_jax.evals.suites import SUITES, Graded, Item, Judges
from azr_jax.selfplay.event_loop import EventLoop


class Calls(code.Calls):
    def judge(self, program):
        return self.runner.result(super().judge(program))


class CheckFunction(code.CheckFunction):
    def judge(self, program):
        return self.runner.result(super().judge(program))


class Scripts(code.Scripts):
    def judge(self, program):
        return self.runner.result(super().judge(program))


def graded(item: Item, text: str, judges: Judges) -> Graded:
    found = item.grade(text)
    return found if isinstance(found, Graded) else EventLoop(None, judges).run(found)


def is_right(judge, suite: str, gold: str, text: str) -> bool:
    """What the judge of mathematics says of this text as an answer to a row with this gold."""
    asked = {"question": "?", "answer": f"#### {gold}"}
    boxed = {"problem": "?", "solution": rf"\boxed{{{gold}}}"}
    row = Row("0", asked if suite == "gsm8k" else boxed)
    item = SUITES[suite].make(SUITES[suite], row, "boxed", SimpleNamespace(mathematics=judge))  # type: ignore
    assert item is not None
    return graded(item, text, judge).score == 1


def finished(result) -> Future:
    future = Future()
    future.set_result(result)
    return future
