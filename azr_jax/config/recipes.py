"""Where a recipe is: the file that was named, or the one of that name that came with the package.

In a checkout `configs/` stands beside `azr_jax/`; a wheel carries it as `azr_jax/carried/configs/` (pyproject.toml).
So `--config=configs/nano.py` means the same recipe from an empty folder, and a recipe of one's own, wherever it
lies, still says `from configs import base`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import azr_jax

PACKAGE = Path(azr_jax.__file__).parent


def home() -> Path:
    """The folder in which our own `configs/` stands."""
    carried = PACKAGE / "carried"
    return carried if carried.is_dir() else PACKAGE.parent


def find(path: str) -> Path | None:
    """What stands here goes before what came with the package."""
    for file in (Path(path), home() / path):
        if file.is_file():
            return file
    return None


def told(path: str) -> str:
    """For people: the recipe, and that it came with the package where it does not stand here."""
    return path if Path(path).is_file() else f"{path} of azr_jax {azr_jax.__version__}"


def known() -> list[str]:
    """What can be given as --config without a file of one's own."""
    return sorted(f"configs/{file.name}" for file in (home() / "configs").glob("*.py"))


def make_importable(recipe: Path) -> None:
    """Recipes import `configs.base`: beside the recipe, else ours (`configs` has no __init__.py, so both count)."""
    for place, root in ((0, recipe.resolve().parent.parent), (len(sys.path), home())):
        if str(root) not in sys.path:
            sys.path.insert(place, str(root))
