"""Which file a --config means: what stands here, else what came with the package; and what the package asks for."""

import importlib.util
import sys
from pathlib import Path

import pytest

from azr_jax.config import recipes
from azr_jax.config.flags import read_recipe
from azr_jax.config.schema import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in; what recipes add to the import path is taken away again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_from_an_empty_folder_a_recipe_is_the_one_that_came_along(nowhere: Path):
    assert read_recipe("configs/nano.py").model.name == "nano:base"
    assert recipes.told("configs/nano.py").startswith("configs/nano.py of azr_jax ")


def test_what_stands_here_goes_first(nowhere: Path):
    (nowhere / "configs").mkdir()
    own = "from configs import base\ndef get_config():\n    c = base.get_config()\n    c.seed = 7\n    return c\n"
    (nowhere / "configs/nano.py").write_text(own)  # it builds on the base that came along
    assert read_recipe("configs/nano.py").seed == 7
    assert recipes.told("configs/nano.py") == "configs/nano.py"


def test_a_recipe_that_is_nowhere_is_one_line_with_those_there_are(nowhere: Path):
    with pytest.raises(ConfigError) as refused:
        read_recipe("configs/nono.py")
    (line,) = refused.value.problems
    assert line.startswith("--config=configs/nono.py: no such file here, nor among the recipes of azr_jax: configs/")
    assert "configs/qwen7b.py" in line


def test_the_package_asks_for_what_the_requirements_say():
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked: dict[str, object] = {}
    module.Requirements(str(ROOT), {}).update(asked)
    extras = asked["optional-dependencies"]
    assert "importlib_resources>=6.5,<8" in asked["dependencies"]
    assert "ruff>=0.17,<0.18" in extras["dev"] and not any(line.startswith(("-", "#")) for line in extras["dev"])
