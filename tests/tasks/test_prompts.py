"""Prompts: who sees what, what is left out when the room is short, and that the asked-for form reads back."""

import re
import string

import pytest

from azr_jax.kinds import induction, triplets
from azr_jax.tasks import wording, worked
from azr_jax.tasks.parsing import parse_answer, parse_proposal, whole_answer, whole_proposal
from azr_jax.tasks.prompts import (
    PROGRAM_PLACE,
    STYLES,
    Prompt,
    PromptRules,
    PromptTooLong,
    block,
    fill,
    propose,
    render_answer,
    render_proposal,
    solve,
)
from azr_jax.tasks.types import Answer, InductionTask, Kind, Proposal, Triplet

TRIPLET_KINDS = (Kind.DEDUCTION, Kind.ABDUCTION, Kind.ERROR)


def reference(number: int) -> Triplet:
    return Triplet(f"def f(x):\n    return x - {number}", f"{number}{number}", f"{10 * number}", f"int:{10 * number}")


TASK = Triplet("def f(secret):\n    return secret[::-1]", "'stressed'", "'desserts'", "str:desserts")
INDUCTION = InductionTask(
    "def f(hidden):\n    return hidden * 7",
    ("11", "12", "13", "14"),
    ("77", "84", "91", "98"),
    ("int:77", "int:84", "int:91", "int:98"),
    "Weeks and days.",
    shown=2,
)


def words(prompt: Prompt) -> int:
    return len(everything(prompt).split())


def everything(prompt: Prompt) -> str:
    return prompt.render(
        lambda messages: "\n".join(f"<{m['role']}>\n{m['content']}" for m in messages) + "\n<assistant>\n"
    )


# --- who sees what ---


def test_a_solver_is_told_that_an_answer_is_written_out():
    """It was asked for "a Python expression", and `'x' * 100`, which is one, is wrong by default."""
    for kind in (Kind.DEDUCTION, Kind.ABDUCTION):
        asked = everything(solve(kind, TASK, style="think"))
        assert "nothing left to compute" in " ".join(asked.split()) and "expression" not in asked


@pytest.mark.parametrize("style", STYLES)
def test_a_solver_sees_the_task_and_never_the_answer(style):
    deduction = everything(solve(Kind.DEDUCTION, TASK, style=style))
    assert TASK.program in deduction and TASK.input in deduction and "desserts" not in deduction
    abduction = everything(solve(Kind.ABDUCTION, TASK, style=style))
    assert TASK.program in abduction and TASK.output in abduction and "stressed" not in abduction
    error = everything(solve(Kind.ERROR, TASK, style=style))
    assert TASK.program in error and TASK.input in error and "desserts" not in error
    induction = everything(solve(Kind.INDUCTION, INDUCTION, style=style))
    assert all(text in induction for text in ("11", "77", "12", "84", "Weeks and days."))
    assert not any(text in induction for text in ("hidden * 7", "13", "91", "14", "98"))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", TRIPLET_KINDS)
def test_a_proposer_sees_every_reference_once(style, kind):
    text = everything(propose(kind, [reference(n) for n in range(1, 7)], style=style))
    assert all(text.count(reference(n).program) == 1 and text.count(reference(n).input) == 1 for n in range(1, 7))
    without = propose(kind, [], style=style)
    assert without.references == without.dropped == 0
    assert "return x -" not in everything(without)


@pytest.mark.parametrize("style", STYLES)
def test_an_induction_proposer_sees_one_program_and_the_number_of_inputs(style):
    prompt = propose(Kind.INDUCTION, [TASK], style=style, inputs=7)
    text = everything(prompt)
    assert TASK.program in text and "7 " in text and "stressed" not in text and "desserts" not in text
    with pytest.raises(ValueError, match="2 given, a proposal of induction is made of exactly one program"):
        propose(Kind.INDUCTION, [TASK, TASK], style=style)


@pytest.mark.parametrize("style", STYLES)
def test_functions_that_must_be_called_are_shown(style):
    text = everything(propose(Kind.DEDUCTION, [reference(1)], style=style, functions=["def g1(x):\n    return -x"]))
    assert "def g1(x):\n    return -x" in text and "return x - 1" in text


@pytest.mark.parametrize("kind", Kind)
def test_what_the_kinds_ask_for_differs(kind):
    others = [k for k in Kind if k != kind]
    material = [TASK] if kind == Kind.INDUCTION else []
    asked = everything(propose(kind, material, style="think"))
    assert all(everything(propose(k, [TASK] if k == Kind.INDUCTION else [], style="think")) != asked for k in others)


def test_an_unknown_style_is_named():
    with pytest.raises(ValueError, match=r"tasks\.prompt_style='verse': should be think, think_chat, chat, completion"):
        propose(Kind.DEDUCTION, [], style="verse")


# --- the form of a prompt ---


def test_think_opens_the_reasoning_and_ends_with_the_answer():
    prompt = propose(Kind.DEDUCTION, [], style="think")
    assert (
        prompt.prefix == "<think>" and prompt.render().endswith("Assistant: <think>") and prompt.stop == ("</answer>",)
    )


TAGGED = ("think", "think_chat")
FILLED = {
    PROGRAM_PLACE: "def f(a, b):\n    return a", wording.INPUT_PLACE: "1, 2",
    **dict(zip((place for _, place in Kind.INDUCTION.proposal_form), ("1", "2", "3", "adds"), strict=True)),
    **{kind.answer_place: "4" for kind in TRIPLET_KINDS},
}  # fmt: skip


def shown_form(prompt: Prompt) -> str:
    """The answer as the request lays it out, filled in."""
    text = everything(prompt)
    start = text.index("<answer>\n```")
    form = text[start : text.index("</answer>", start) + len("</answer>")]
    for place, content in FILLED.items():
        form = form.replace(f"\n{place}\n", f"\n{content}\n")
    return f"{prompt.prefix}hm</think>\n{form}"


@pytest.mark.parametrize("style", TAGGED)
@pytest.mark.parametrize("kind", Kind)
def test_the_form_that_is_shown_is_the_form_that_is_read(style, kind):
    material = [TASK] if kind == Kind.INDUCTION else [reference(1)]
    form = shown_form(propose(kind, material, style=style))
    found = whole_proposal(kind, form, style=style, ended=True, program=TASK.program)
    assert isinstance(found, Proposal) and found.inputs == (("1", "2", "3") if kind == Kind.INDUCTION else ("1, 2",))
    task = INDUCTION if kind == Kind.INDUCTION else TASK
    assert isinstance(whole_answer(kind, shown_form(solve(kind, task, style=style)), style=style, ended=True), Answer)


@pytest.mark.parametrize("style", TAGGED)
def test_nothing_a_base_model_would_go_on_to_number(style):
    """Headings `Puzzle 1` to `Puzzle 6` made it write `Puzzle 7`, and on to 200."""
    text = everything(propose(Kind.DEDUCTION, [reference(n) for n in range(1, 7)], style=style))
    assert not re.search(r"(?im)^\W*puzzle \d", text)
    assert text.count("```output") == 0, "a result in a block of its own looks like a part of the form"
    assert all(f"returns {10 * n}" in text for n in range(1, 7))


@pytest.mark.parametrize("style", TAGGED)
def test_proposers_are_told_what_is_refused_and_what_their_programs_lose(style):
    told, plain = (
        everything(propose(Kind.DEDUCTION, [], style=style, rules=rules))
        for rules in (PromptRules(banned=("hashlib", "os.environ"), stripped=True), PromptRules())
    )
    assert "hashlib, os.environ" in told and "hashlib" not in plain
    assert "at the top level" in told and "at the top level" not in plain
    assert all(word in plain for word in ("classes", "recursion", "trees", "dynamic programming"))


def test_the_induction_message_is_a_question_or_a_hint():
    question, hint = (
        everything(propose(Kind.INDUCTION, [TASK], style="think", rules=PromptRules(message=how)))
        for how in ("question", "hint")
    )
    assert "a coding question or an instruction" in question and "nor the rule" not in question
    assert "a coding question" not in hint and "neither the code nor the rule" in hint


def test_think_chat_opens_the_reasoning_unless_the_template_does():
    prompt = solve(Kind.DEDUCTION, TASK, style="think_chat")
    assert len(prompt.messages) == 1 and prompt.stop_after == "</think>"
    for opened in ("<assistant>\n", "<assistant>\n<think>\n", "<assistant><think>"):
        rendered = prompt.render(lambda messages, end=opened: "asked\n" + end)
        assert rendered.count("<think>") == 1 and rendered.rstrip().endswith("<think>")


def test_chat_is_messages_that_take_turns_and_end_with_the_user():
    prompt = propose(Kind.DEDUCTION, [reference(1), reference(2), reference(3)], style="chat")
    assert prompt.text == ""
    assert [message["role"] for message in prompt.messages] == ["user", "assistant"] * 3 + ["user"]
    assert prompt.render(lambda messages: f"<{len(messages)}>") == "<7>" + prompt.prefix
    with pytest.raises(ValueError, match="needs the model's chat template"):
        prompt.render()


def test_chat_has_worked_proposals_for_turns_where_references_are_too_few():
    alone = propose(Kind.DEDUCTION, [reference(1)], style="chat").messages
    assert [message["role"] for message in alone] == ["user", "assistant"] * 3 + ["user"]
    assert reference(1).program in alone[1]["content"] and worked.REPEATED.program in alone[3]["content"]


@pytest.mark.parametrize("kind", TRIPLET_KINDS)
@pytest.mark.parametrize("style", ["chat", "completion"])
def test_references_show_the_form_that_is_read(style, kind):
    """A model that only imitates the reference it was shown makes a well-formed proposal."""
    text = everything(propose(kind, [reference(3)], style=style))
    assert parse_proposal(kind, text[: text.index(reference(3).input) + 10]) == Proposal(
        kind, reference(3).program, (reference(3).input,)
    )


@pytest.mark.parametrize("style", ["chat", "completion"])
@pytest.mark.parametrize("kind", TRIPLET_KINDS)
def test_a_completion_after_the_prefix_reads_as_a_proposal(style, kind):
    prompt = propose(kind, [reference(1)], style=style)
    wanted = Proposal(kind, "def f(a, b):\n    return a + b", ("1, 2",))
    rendered = render_proposal(wanted)
    assert rendered.startswith(prompt.prefix)
    assert not any(stop in rendered for stop in prompt.stop), "it would be cut off"
    assert parse_proposal(kind, prompt.prefix + rendered.removeprefix(prompt.prefix)) == wanted


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_a_completion_after_the_prefix_reads_as_an_induction_proposal(style):
    prompt = propose(Kind.INDUCTION, [TASK], style=style)
    wanted = Proposal(Kind.INDUCTION, TASK.program, ("'a'", "'b'"), "Turns it round.")
    rendered = render_proposal(wanted)
    assert rendered.startswith(prompt.prefix) and not any(stop in rendered for stop in prompt.stop)
    assert parse_proposal(Kind.INDUCTION, rendered, program=TASK.program) == wanted


@pytest.mark.parametrize("style", ["chat", "completion"])
@pytest.mark.parametrize(
    "answer",
    [
        Answer(Kind.DEDUCTION, "[1, 2]"),
        Answer(Kind.ABDUCTION, "1, 'b'"),
        Answer(Kind.INDUCTION, "def f(x):\n    return x"),
        Answer(Kind.ERROR, "KeyError"),
    ],
    ids=lambda answer: answer.kind,
)
def test_an_answer_ends_where_its_block_does(style, answer):
    prompt = solve(answer.kind, INDUCTION if answer.kind == Kind.INDUCTION else TASK, style=style)
    rendered = render_answer(answer)
    assert rendered.startswith(prompt.prefix)
    completion = rendered.removeprefix(prompt.prefix)
    stopped = completion[: completion.index(prompt.stop[0])]
    for text in (stopped, stopped + prompt.stop[0], completion + "\n\nand so on"):
        assert parse_answer(answer.kind, prompt.prefix + text) == answer


def test_a_block_survives_backticks():
    assert block("python", "x = '```'") == "````python\nx = '```'\n````"
    assert block("input", "``") == "```input\n``\n```"


# --- too long ---


def test_references_are_left_out_from_the_last_and_counted_and_never_cut():
    references = [reference(n) for n in range(1, 7)]
    full = propose(Kind.DEDUCTION, references, style="completion", max_tokens=10**6, count_tokens=words)
    assert (full.references, full.dropped) == (6, 0)
    asked = []

    def counted(prompt: Prompt) -> int:
        asked.append(prompt)
        return words(prompt)

    room = words(propose(Kind.DEDUCTION, references[:3], style="completion"))
    prompt = propose(Kind.DEDUCTION, references, style="completion", max_tokens=room, count_tokens=counted)
    assert (prompt.references, prompt.dropped) == (3, 3) and len(asked) == 4
    assert prompt.text == propose(Kind.DEDUCTION, references[:3], style="completion").text


@pytest.mark.parametrize("style", STYLES)
def test_nothing_left_to_leave_out(style):
    short = {"style": style, "max_tokens": 3, "count_tokens": words}
    with pytest.raises(PromptTooLong, match="tokens with nothing left to leave out; at most 3 fit"):
        propose(Kind.DEDUCTION, [reference(1)], **short)
    with pytest.raises(PromptTooLong):
        propose(Kind.INDUCTION, [TASK], **short)
    with pytest.raises(PromptTooLong):
        solve(Kind.DEDUCTION, TASK, **short)


# --- the words ---


def templates() -> dict[str, str]:
    found = {}
    for module in (wording, induction):
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str | dict):
                found |= {f"{name}[{k}]": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    for kind in Kind:
        words = {"to_proposer": kind.to_proposer, "heading": kind.heading, **kind.to_solver._asdict()}
        found |= {f"{kind}: {name}": value for name, value in words.items()}
    return found | {"triplets.PROPOSE": triplets.PROPOSE}


@pytest.mark.parametrize("name", templates())
def test_every_template_can_be_filled_and_is_tidy(name):
    template = templates()[name]
    fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
    assert "" not in fields
    filled = fill(template, **dict.fromkeys(fields, "X"))
    assert "{" not in filled and "  " not in filled.replace("\n", "")


def test_a_placeholder_too_many_or_too_few_is_an_error():
    with pytest.raises(KeyError, match="template wants"):
        fill("{a}", a="1", b="2")
    with pytest.raises(KeyError, match="template wants"):
        fill("{a}{b}", a="1")
    assert fill("{a}", a="{b}") == "{b}", "what is filled in is never a template itself"
