"""What the package needs, read where it is written: requirements.txt, and requirements-dev.txt for the extra `dev`."""

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

EXTRAS = {"tpu": ["jax[tpu]"], "cuda": ["jax[cuda13]"]}


def listed(file: Path) -> list[str]:
    """One requirement a line; comments, and the other file that requirements-dev.txt begins with, are left out."""
    lines = [line.split("#")[0].strip() for line in file.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


class Requirements(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        metadata["dependencies"] = listed(root / "requirements.txt")
        metadata["optional-dependencies"] = {**EXTRAS, "dev": listed(root / "requirements-dev.txt")}
