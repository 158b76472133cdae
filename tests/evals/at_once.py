"""Judges whose jobs are done where they are asked, for tests that sample nothing."""

from concurrent.futures import Future

from azr_jax.evals import code
from azr_jax.evals.suites import Graded, Item, Judges
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


def finished(result) -> Future:
    future = Future()
    future.set_result(result)
    return future
