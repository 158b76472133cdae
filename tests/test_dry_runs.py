"""The table of dry runs in tpu/README.md: which compiler made a row is asked, not believed; the page is the file's."""

import json
import stat
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import dry_runs
from packaging.requirements import Requirement

# In place of an environment's Python: says what is installed, what jax pins, and what a dry run says.
PYTHON = """#!/bin/bash
case "$*" in
  *json.dumps*) echo '{{"jax": "{jax}", "jaxlib": "{jax}", "libtpu": "{libtpu}"}}' ;;
  *requires*) echo 'libtpu==0.0.42.*; extra == "tpu"' ;;
  *azr_jax.dryrun*) echo "$*" >> {here}/calls; echo "a table"; cat {here}/said; exit {code} ;;
esac
"""
SAID = {
    "fits": True, "chip_gb": 15.75, "largest_gb": 15.0, "too_large": {}, "kv_pages": 7,
    "programs": {
        "train step, 4 x 1 rows": {"peak_gb": 14.0, "beside_gb": 0.0, "flops_ratio": 1.0},
        "decode": {"peak_gb": 10.0, "beside_gb": 5.0, "flops_ratio": 1.0},
    },
}  # fmt: skip


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment that says what a test wants, and a page of its own."""
    monkeypatch.setattr(dry_runs, "LINES", tmp_path / "compiled.jsonl")
    monkeypatch.setattr(dry_runs, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"before\n{dry_runs.BEGIN}\nold\n{dry_runs.END}\nafter\n")
    (tmp_path / "said").write_text(json.dumps(SAID))

    def make(jax="0.10.2", libtpu="0.0.42.1", code=0):
        python = tmp_path / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(PYTHON.format(jax=jax, libtpu=libtpu, here=tmp_path, code=code))
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        return tmp_path / "venv"

    return make


def call(monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["dry_runs.py", *flags])
    with pytest.raises(SystemExit) as ended:
        dry_runs.main()
    return ended.value.code


def test_a_row_says_who_compiled_it_and_is_not_compiled_twice(environment, tmp_path, monkeypatch, capsys):
    flags = ["--releases=0.10.2", "--recipes=qwen7b", "--slices=v5e:4x4", f"--environment=0.10.2={environment()}"]
    assert call(monkeypatch, *flags) == 0
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page
    row = "| `qwen7b` | v5e:4x4 | 0.10.2 | 0.0.42.1 | decode | 16,106,127,360 | 16,911,433,728 | 14.00 | yes |"
    assert row in page
    assert "Not compiled with JAX 0.12.0.1: `qwen05b_coder` on v6e:1x1," in page
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["dry_runs"][0]["fits"]
    assert call(monkeypatch, *flags) == 0
    assert call(monkeypatch, *flags, "--again") == 0
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_what_does_not_fit_is_told_by_name_and_exit_code(environment, tmp_path, monkeypatch):
    (tmp_path / "said").write_text(
        json.dumps(SAID | {"fits": False, "too_large": {"decode": 17.0}, "largest_gb": 17.0})
    )
    flags = ["--releases=0.10.2", "--recipes=llama8b", f"--environment=0.10.2={environment(code=1)}"]
    assert call(monkeypatch, *flags) == 1
    assert "| decode | 18,253,611,008 | 16,911,433,728 | 14.00 | **NO** |" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        ({"jax": "0.12.0.1"}, "has jax 0.12.0.1, should be 0.10.2"),
        ({"libtpu": "0.0.52"}, "has libtpu 0.0.52, and jax 0.10.2 installs libtpu==0.0.42.*"),
        ({"libtpu": "0.0.421"}, "has libtpu 0.0.421"),
    ],
)
def test_a_compiler_that_the_release_does_not_install_makes_no_row(
    environment, tmp_path, monkeypatch, installed, words
):
    """The table was made with 0.0.52 once, which no `tpu` extra installs."""
    assert words in call(monkeypatch, "--releases=0.10.2", f"--environment=0.10.2={environment(**installed)}")
    assert not (tmp_path / "calls").exists()


def test_a_dry_run_that_breaks_is_no_row(environment, tmp_path, monkeypatch):
    flags = ["--releases=0.10.2", "--recipes=qwen7b", f"--environment=0.10.2={environment(code=2)}"]
    assert "ended with 2" in call(monkeypatch, *flags)
    assert not (tmp_path / "compiled.jsonl").exists()


def test_the_page_of_this_checkout_holds_the_lines_of_its_file_and_all_of_them_fit():
    page, lines = dry_runs.README.read_text(), dry_runs.read()
    assert dry_runs.written(page, lines) == page
    assert lines and all(line["fits"] for line in lines)


def test_the_releases_are_those_that_requirements_allow():
    (jax,) = (line for line in (dry_runs.ROOT / "requirements.txt").read_text().splitlines() if line.startswith("jax"))
    allowed = Requirement(jax).specifier
    assert all(allowed.contains(release) for release in dry_runs.RELEASES)
