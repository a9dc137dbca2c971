"""Who may import whom, what is public, what an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anchordetr

PACKAGE = Path(anchordetr.__file__).parent
RANKS = {
    name: rank
    for rank, names in enumerate(
        (
            "errors types detections drawing metrics registry files finite locks temporary disk documents device "
            "distributed machine console progress prediction_options config feature_levels grouping markdown seeding "
            "web rcda",
            "layers",
            "optimize criterion postprocess data",
            "models",
            "training evaluation weights export runtime profiling visualize",
            "predictor",
            "detector",
            "cli",
            "__main__",
        )
    )
    for name in names.split()
}
FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]
# rooms of one rank that must not see each other either
STRANGERS = {("criterion", "models"), ("postprocess", "models"), ("criterion", "layers"), ("postprocess", "layers")}


def room(module: str) -> str:
    return module.split(".")[1]


def module_name(file: Path) -> str:
    parts = ("anchordetr", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> Iterator[str]:
    """Yield every anchordetr module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "anchordetr":
            candidates = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if is_module(name) else node.module for name in candidates)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "anchordetr")


def is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").exists() or path.is_dir()


def violation(own: str, name: str) -> str | None:
    """Return why a file of the room ``own`` must not import the module ``name``, or None where it may."""
    if name == "anchordetr":
        return "import from the module that defines the name, not from the package"
    other = room(name)
    if other == own:
        return None
    if unranked := {own, other} - RANKS.keys():
        return f"{unranked.pop()} has no rank; give it one in tests/test_architecture.py"
    if own == "rcda":
        return "rcda imports nothing of anchordetr"
    if (own, other) in STRANGERS:
        return f"{own} must not see {other}"
    if RANKS[other] < RANKS[own] or RANKS[other] == RANKS[own] == 0:
        return None
    return f"{other} is of no lower rank than {own}"


def test_files_import_from_lower_ranks_or_their_own_room() -> None:
    violations = [
        f"{file.relative_to(PACKAGE)} imports {name}: {reason}"
        for file in FILES
        for name in sorted(set(imports(file)))
        if (reason := violation(room(module_name(file)), name))
    ]
    assert not violations, "\n".join(violations)


def test_imports_have_no_cycle() -> None:
    graph = {module_name(file): set(imports(file)) for file in FILES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name in done:
            return
        for other in graph.get(name, set()):
            visit(other, (*path, name))
        done.add(name)

    for name in graph:
        if not name.endswith("rcda"):
            visit(name, ())


def test_public_names() -> None:
    assert anchordetr.__all__ == [
        "AnchorDETR",
        "Config",
        "Detections",
        "Detector",
        "ImageBatch",
        "Predictions",
        "Target",
        "create_model",
        "list_models",
        "preset",
        "recipe",
    ]
    assert all(getattr(anchordetr, name).__name__ == name for name in anchordetr.__all__)
    assert anchordetr.rcda.__all__ == ["BACKENDS", "RowColumnAttention", "explain", "rcda"]


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, anchordetr, anchordetr.cli.main; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
