"""The handcrafted and published methods, one program per file. Copy one to write your own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def controller_files() -> dict[str, Path]:
    """The file of every shipped controller, by name."""
    folder = resources.files(__name__)
    names = sorted(entry.name for entry in folder.iterdir())
    return {n.removesuffix(".py"): Path(str(folder / n)) for n in names if n.endswith(".py") and n != "__init__.py"}
