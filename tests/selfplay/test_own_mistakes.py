"""A mistake of ours that one program finds costs that one proposal, is counted and logged, and the run goes on."""

from azr_jax.executor.pool import Executor, ExecutorSettings
from azr_jax.selfplay import proposing
from azr_jax.tasks.types import Kind
from tests.selfplay.scripted import Cast, Stage

PROPOSALS = {
    kind: ["x):\n    return x + 1\n```\n```input\n1\n```", "x):\n    return x * 3\n```\n```input\n2\n```"]
    for kind in (Kind.DEDUCTION, Kind.ABDUCTION)
}


def test_a_reader_that_fails_refuses_the_one_proposal(monkeypatch, caplog):
    real = proposing.traits

    def fails_on_one(task, written, shown, history):
        if "* 3" in written:
            raise IndexError("a mistake of ours")
        return real(task, written, shown, history)

    monkeypatch.setattr(proposing, "traits", fails_on_one)
    with Executor(ExecutorSettings(workers=1, timeout_s=3.0)) as running:
        stage = Stage(running, Cast(PROPOSALS, {}), tasks__kinds="deduction,abduction")
        for kind in PROPOSALS:
            stage.put(kind, "def f(x):\n    return x", "5")
        played = stage.play()
    reasons = [p.validation.reason for p in played.proposed[Kind.DEDUCTION] if p.validation is not None]
    assert reasons == ["", "judging failed", "", "judging failed"]
    assert stage.numbers["propose/deduction/refused/judging failed"] == 0.5
    assert "a mistake of ours" in caplog.text and "Traceback" in caplog.text
