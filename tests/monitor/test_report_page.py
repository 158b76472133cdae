"""The report in a real browser: it opens from disk, draws, filters, follows lineages, and obeys no model.

With AZR_PICTURES=<folder> the pictures taken here are kept there, to be looked at.
"""

import os
import threading
from pathlib import Path

import chromium
import made_up_run
import pytest

from azr_jax.monitor.report import build
from azr_jax.monitor.serve import LiveReport

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium on this machine")]

HOSTILE = (
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"
    "<!--<script>\x00\x1b[31m\u202e\u2028\ud800&lt;{{ 7 * 7 }}"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = chromium.Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = Path(os.environ.get("AZR_PICTURES") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    long = made_up_run.write(folder / "paper", 80)
    other = made_up_run.write(folder / "no references", 50, seed=5, config={"tasks": {"references": 0}})
    return build([long, other], folder / "report.html")


def opened(browser, path, **how):
    browser.errors.clear()
    browser.requests.clear()
    browser.open(path, **how)
    browser.until("document.querySelectorAll('.chart').length > 0")
    return browser


def set_field(browser, field, value):
    browser.run(
        f"(() => {{ const f = document.getElementById('{field}'); f.value = {value!r};"
        " f.dispatchEvent(new Event('input')); f.dispatchEvent(new Event('change')); })()"
    )


def listed(browser):
    return browser.run("[...document.querySelectorAll('#list button:not(.more)')].map(b => b.textContent)")


def test_it_opens_without_network_or_errors_and_every_chart_draws(browser, page):
    opened(browser, page)
    # Charts draw when they come into view.
    empty = browser.run(
        "(async () => { const empty = [];"
        " for (const chart of document.querySelectorAll('.chart')) {"
        "  chart.scrollIntoView();"
        "  for (let wait = 0; wait < 500 && !chart.querySelector('svg'); wait++)"
        "   await new Promise(r => setTimeout(r, 20));"
        "  if (!chart.querySelector('svg path[d^=M], svg rect, svg circle')) empty.push(chart.textContent);"
        " } return empty; })()"
    )
    assert empty == []
    assert browser.run("document.querySelectorAll('.chart svg').length") > 40
    assert browser.run("document.querySelectorAll('[d*=NaN], [width*=NaN], [y*=NaN]').length") == 0
    titles = browser.run("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert titles == [
        "Overview", "Comparison", "Rewards", "Difficulty", "Lengths", "Novelty", "Refusals", "Buffers", "Learner",
        "Time", "System", "Evaluations", "Tasks", "Every metric", "Config",
    ]  # fmt: skip
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


def test_the_viewer_filters_by_kind_verdict_solve_rate_iteration_and_text(browser, page):
    opened(browser, page)
    everything = len(browser.run("document.getElementById('count').textContent").split())
    assert everything
    set_field(browser, "f-kind", "induction")
    rows = listed(browser)
    assert rows and all(row.startswith("induction") for row in rows)
    assert "solver sees it" in browser.run("document.getElementById('detail').textContent")
    set_field(browser, "f-state", "r:timeout")
    rows = listed(browser)
    assert rows and all("timeout" in row for row in rows)
    set_field(browser, "f-state", "ok")
    set_field(browser, "f-low", "0.5")
    set_field(browser, "f-high", "0.5")
    rows = listed(browser)
    assert rows and all("solve rate 0.5 " in row for row in rows)
    set_field(browser, "f-from", "10")
    set_field(browser, "f-to", "12")
    rows = listed(browser)
    assert all(int(row.split("iteration ")[1].split()[0]) in (10, 11, 12) for row in rows)
    set_field(browser, "f-text", "no such text anywhere")
    assert listed(browser) == []
    assert "No sampled proposal fits" in browser.run("document.getElementById('detail').textContent")
    assert browser.errors == []


def test_a_click_shows_the_task_with_attempts_and_its_lineage_leads_to_its_parents(browser, page):
    opened(browser, page)
    set_field(browser, "f-state", "ok")
    browser.run("document.querySelectorAll('#list button')[3].click()")
    text = browser.run("document.getElementById('detail').textContent")
    for part in ("Program", "4 attempts that measured", "Solved as a task", "What the proposer wrote", "Where it came"):
        assert part in text, part
    assert browser.run("document.querySelectorAll('#detail .k').length") > 0  # highlighted keywords
    before = browser.run("document.querySelector('#detail h3').textContent")
    browser.run("document.querySelector('#detail .tree button').click()")
    assert browser.run("document.querySelector('#detail h3').textContent") != before
    assert browser.errors == []


def test_runs_can_be_switched_and_any_metric_found(browser, page):
    opened(browser, page)
    assert "tasks.references" in browser.run("document.querySelector('#comparison').parentNode.textContent")
    set_field(browser, "run", "1")
    browser.until("document.querySelector('.head:last-child').textContent.includes('all 50 iterations')")
    set_field(browser, "metric", "gradient")
    browser.until("document.querySelectorAll('#every-metric ~ div .chart').length === 1")
    assert browser.errors == []


def test_nothing_the_model_wrote_runs_or_breaks_the_page(browser, tmp_path):
    run = made_up_run.write(tmp_path / "<b>evil & run", 6, text=HOSTILE)
    with (run / "records.jsonl").open("a") as file:
        file.write('{"iteration": 7, "role": "propose", "kind": "ded')  # torn
    opened(browser, build([run], tmp_path / "report.html"))
    for button in range(6):
        browser.run(f"document.querySelectorAll('#list button')[{button}].click()")
        browser.run("document.querySelectorAll('#detail details').forEach(d => { d.open = true; })")
    assert browser.run("window.pwned === undefined")
    assert browser.run("document.querySelectorAll('main script, main img, header b').length") == 0
    shown = browser.run("document.getElementById('detail').textContent")
    assert "</script><script>window.pwned = 1</script>" in shown
    assert "\\x00\\x1b[31m\\x202e" in shown
    assert "{{ 7 * 7 }}" in shown
    assert not set("\x00\x1b\u202e\u2028") & set(shown)
    assert browser.errors == []


def test_a_megabyte_on_one_line_neither_widens_nor_slows_the_page(browser, tmp_path):
    run = made_up_run.write(tmp_path / "long", 1, per_kind=1, text="\u202e" + "y" * 1_000_000)
    page = build([run], tmp_path / "report.html")
    assert page.stat().st_size < 1_000_000
    opened(browser, page, width=390)
    for button in range(len(listed(browser))):
        browser.run(f"document.querySelectorAll('#list button')[{button}].click()")
        browser.run("document.querySelectorAll('#detail details').forEach(d => { d.open = true; })")
        assert browser.run("document.documentElement.scrollWidth") <= 390
    shown = browser.run("document.getElementById('detail').textContent")
    assert "\\x202e" + "y" * 100 in shown and "characters in records.jsonl" in shown
    assert browser.errors == []


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_width_in_light_and_dark(browser, page, pictures, width, dark):
    opened(browser, page, width=width, height=1600, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    name = f"{'phone' if width < 600 else 'desktop'}_{'dark' if dark else 'light'}"
    for section in ("overview", "difficulty", "refusals", "time", "tasks"):
        browser.run(f"document.getElementById('{section}').scrollIntoView()")
        browser.run("new Promise(r => setTimeout(r, 400))")
        browser.picture(pictures / f"{name}_{section}.png")
    assert browser.errors == []


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_the_first_screen_says_whether_it_learned_is_healthy_and_how_long_to_go(browser, page, pictures, width, height):
    opened(browser, page, width=width, height=height)
    heads = browser.run(
        "[...document.querySelectorAll('.head')].map(h => [h.querySelector('h3').textContent,"
        " h.getBoundingClientRect().bottom, h.scrollWidth <= h.clientWidth])"
    )
    assert [question for question, _, _ in heads] == ["Did it learn?", "Was it healthy at the end?", "How long to go?"]
    assert all(bottom <= height and fits for _, bottom, fits in heads), heads
    browser.picture(pictures / f"first_{width}.png")


def test_seeds_are_one_curve_with_a_band(browser, tmp_path, pictures):
    runs = [
        made_up_run.write(tmp_path / f"{name}-{seed}", 30, seed=9 * seed + references, config=config)
        for name, references in (("full", 6), ("alone", 0))
        for seed in (0, 1)
        for config in ({"seed": seed, "tasks": {"references": references}},)
    ]
    opened(browser, build(runs, tmp_path / "report.html"))
    browser.run("document.getElementById('comparison').scrollIntoView()")
    text = browser.run("document.getElementById('comparison').parentElement.textContent")
    assert "full (2 seeds)" in text and "alone minus full" in text
    browser.run("document.querySelector('#comparison ~ .rows .chart').scrollIntoView()")
    browser.until("document.querySelector('#comparison ~ .rows .chart svg') !== null")
    browser.picture(pictures / "seeds.png")
    assert browser.run("document.querySelectorAll('[d*=NaN]').length") == 0
    assert browser.errors == []


def test_a_live_page_shows_what_the_run_wrote_and_keeps_what_was_chosen(browser, tmp_path):
    run = made_up_run.write(tmp_path / "run", 3)
    live = LiveReport(run, port=0)
    thread = threading.Thread(target=live.serve)
    thread.start()
    try:
        browser.errors.clear()
        browser.visit(live.url)
        browser.until("document.querySelector('.head:last-child').textContent.includes('all 3')")
        set_field(browser, "smooth", "5")
        (run / "config.json").write_text(
            (run / "config.json").read_text().replace('"iterations": 3', '"iterations": 9')
        )
        browser.until("document.querySelector('.head:last-child').textContent.includes('iteration 3 of 9')")
        assert browser.run("document.getElementById('smooth').value") == "5"
        assert browser.errors == []
    finally:
        live.stop()
        thread.join()
        live.close()
    browser.until("document.getElementById('live').textContent.includes('no longer served')")
