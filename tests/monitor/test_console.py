"""What is printed: live on a terminal, plain elsewhere, and never what the model wants the terminal to do."""

import io
import logging

from rich.console import Console as RichConsole

from azr_jax.monitor.console import Console, clean, log_to_file

HOSTILE = "[bold red]\x1b[2J\x07\x00\u202egnp.exe</script>[/not a tag]\r"


def printed(action, *, terminal=False, width=100):
    out = io.StringIO()
    action(Console(RichConsole(file=out, force_terminal=terminal, width=width, highlight=False, soft_wrap=True)))
    return out.getvalue()


def test_text_of_the_model_cannot_steer_the_terminal():
    for action in (
        lambda c: c.message(HOSTILE),
        lambda c: c.table(HOSTILE, ["kind", HOSTILE], [["deduction", HOSTILE]]),
        lambda c: c.task(HOSTILE, [("input", HOSTILE), (HOSTILE, "x")], f"def f(x):\n    return {HOSTILE}"),
        lambda c: c.alarm("valid_falling", HOSTILE),
    ):
        text = printed(action, width=300)
        assert "[bold red]?[2J???gnp.exe</script>[/not a tag]?" in text
        assert not set("\x1b\x07\x00\u202e\r") & set(text)


def test_a_megabyte_on_one_line_is_cut_and_says_so():
    text = printed(lambda c: c.task("t", [("input", "x" * 1_000_000)], "y" * 1_000_000), width=300)
    assert len(text) < 5_000
    assert "(1000000 characters)" in text


def test_long_programs_say_how_many_lines_are_missing():
    assert "... 84 more lines" in printed(lambda c: c.task("t", [], "\n".join(f"line {n}" for n in range(100))))


def test_without_a_terminal_a_stage_leaves_one_plain_line():
    def stage(console):
        with console.stages("iteration 3") as show:
            for done in range(5):
                show("propose", done, 4)
            show("solve", 2, 4)

    text = printed(stage)
    assert text.startswith("iteration 3: propose 4/4, solve 2/4 in 0.")
    assert text.count("\n") == 1


def test_on_a_terminal_the_bars_show_count_and_rate_and_vanish():
    def stage(console):
        with console.stages("iteration 3") as show:
            show("propose", 3, 4)

    text = printed(stage, terminal=True)
    assert "propose" in text
    assert "3/4" in text
    assert "/s" in text
    assert "iteration 3:" not in text


def test_a_quiet_console_prints_nothing(capsys):
    console = Console(quiet=True)
    console.message("hello")
    console.table("t", ["a"], [["b"]])
    assert capsys.readouterr() == ("", "")


def test_clean_keeps_what_people_write():
    assert clean("x = 'ä漢'\n\ty") == "x = 'ä漢'\n y"


def test_each_process_logs_to_its_own_file(tmp_path):
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    try:
        path = log_to_file(tmp_path, process=3)
        logging.getLogger("orbax").warning("saved \ud800 late")
        assert path.name == "process_3.log"
        assert "WARNING orbax: saved \\ud800 late" in path.read_text()
    finally:
        for handler in set(root.handlers) - set(before):
            root.removeHandler(handler)
            handler.close()
