"""What the package needs is what it declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted(ROOT.joinpath("anchordetr").rglob("*.py"))
COMES_WITH = {"triton": "torch"}  # on Linux with a GPU; imported with a guard


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    """Return the normal names of all dependencies, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    return {normal(requirement.split(">=")[0]) for requirement in [*project["dependencies"], *optional]}


def imported(file: Path) -> set[str]:
    """Return the top-level modules that a file imports, also inside of functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_everything_imported_is_declared() -> None:
    used = set().union(*map(imported, FILES)) - set(sys.stdlib_module_names) - {"anchordetr"}
    distributions = packages_distributions()
    for name in used:
        known_as = {normal(each) for each in (*distributions.get(name, []), COMES_WITH.get(name, name))}
        assert known_as & declared(), f"anchordetr imports {name}, which pyproject.toml does not declare"
