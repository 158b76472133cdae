"""What is printed: live on a terminal, plain elsewhere, and never what the model wants the terminal to do."""

import io
import logging
import types

import absl.logging
from rich.console import Console as RichConsole
from rich.text import Text

from azr_jax.monitor import live
from azr_jax.monitor.console import Console, clean, log_to_file, quiet_libraries

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


def live_screen(action, width=100, height=30):
    """What a terminal of this size shows in the end, and everything that was written to it."""
    out = io.StringIO()
    rich = RichConsole(file=out, force_terminal=True, width=width, height=height, highlight=False, soft_wrap=True)
    console = Console(rich)
    with console.live(iterations=10):
        action(console)
    return "\n".join(line.rstrip() for line in Text.from_ansi(out.getvalue()).plain.splitlines()[-height:])


def test_the_live_view_shows_stages_alarms_the_last_iterations_and_a_task():
    def run(console):
        for number in range(1, 11):
            with console.stages(f"iteration {number}") as show:
                show("propose", 3, 4)
                show("execute", 5, 9)
            console.table("not printed beside the view", ["kind"], [["deduction"]])
            console.iteration(number, {"valid": f"0.{number}", "entropy": "1.5"})
        console.alarm("entropy_collapse", "0.02, it began at 1")
        console.task("abduction task 7", [("input", "'x'")], "def f(x):\n    return x")

    screen = live_screen(run)
    assert "iteration 10   10 of 10 done" in screen
    assert "propose" in screen and "3/4" in screen and "5/9" in screen
    assert "ALARM entropy_collapse: 0.02, it began at 1" in screen
    assert "not printed" not in screen
    rows = [line.split() for line in screen.splitlines() if line.strip().endswith("1.5")]
    assert [row[0] for row in rows[-8:]] == ["3", "4", "5", "6", "7", "8", "9", "10"]
    assert "abduction task 7" in screen and "return x" in screen


def test_the_live_view_says_how_long_the_rest_will_take(monkeypatch):
    def run(console):
        clock.now = 500.0  # seeding and compiling: no measure of what is to come
        console.iteration(3, {"valid": "0.5"})
        clock.now = 560.0
        console.iteration(4, {"valid": "0.5"})

    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(live, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    assert "4 of 10 done, 0:09:20 so far, about 0:06:00 left" in live_screen(run)


def test_text_of_the_model_cannot_steer_the_live_view():
    def run(console):
        with console.stages(HOSTILE) as show:
            show(HOSTILE, 1, 2)
        console.iteration(1, {HOSTILE: HOSTILE})
        console.alarm(HOSTILE, HOSTILE)
        console.task(HOSTILE, [(HOSTILE, HOSTILE * 100_000)], HOSTILE * 100_000)
        console.message(HOSTILE)

    out = io.StringIO()
    rich = RichConsole(file=out, force_terminal=True, width=300, height=60, highlight=False, soft_wrap=True)
    console = Console(rich)
    with console.live(iterations=10):
        run(console)
    written = out.getvalue()
    assert "[bold red]?[2J???gnp.exe</script>[/not a tag]?" in written
    assert not set("\x07\x00\u202e") & set(written)
    assert "\x1b[2J" not in written
    assert len(written) < 100_000


def test_a_table_in_a_log_is_not_cut_at_the_width_of_a_terminal():
    file = io.StringIO()
    columns = [f"column {number} " + "x" * 8 for number in range(7)]
    Console(RichConsole(file=file)).table("wide", columns, [[f"cell {number} ± 0.1" for number in range(7)]])
    assert all(column in file.getvalue() for column in columns)
    assert all(f"cell {number} ± 0.1" in file.getvalue() for number in range(7))


def test_other_packages_speak_on_the_terminal_only_of_errors(capsys):
    """Orbax told of every step of a restore: 35 lines around the one of an export."""
    absl.logging.use_absl_handler()
    handler = absl.logging.get_absl_handler()
    before = handler.level, handler.filters[:]
    try:
        quiet_libraries()
        for name in ("absl", "orbax.checkpoint", "azr_jax.models.hf", "jax._src.xla_bridge"):
            for level in (logging.INFO, logging.WARNING, logging.ERROR):
                logger = logging.getLogger(name)
                record = logger.makeRecord(name, level, __file__, 1, f"{name} {level}", (), None)
                if record.levelno >= handler.level and handler.filter(record):
                    print(record.getMessage())
    finally:
        handler.setLevel(before[0])
        handler.filters[:] = before[1]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "absl 40", "orbax.checkpoint 40", "azr_jax.models.hf 30", "azr_jax.models.hf 40",
        "jax._src.xla_bridge 30", "jax._src.xla_bridge 40",
    ]  # fmt: skip
