"""The table of bad inputs and faults names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| \d+ \|", line)
]


@cache
def names_in(file: str) -> set[str]:
    """Return the names of a file's tests; none where there is no such file."""
    if not (ROOT / file).is_file():
        return set()
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_rows_are_numbered_and_complete() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) > 60
    assert all(len(row) == 4 and all(row) for row in ROWS)


def test_every_named_test_exists() -> None:
    problems = []
    for number, _, _, tests in ROWS:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        if len(named) != tests.count("::"):
            problems.append(f"row {number}: not of the form `tests/FILE.py::NAME`: {tests}")
        if not named:
            problems.append(f"row {number} names no test")
        problems += [f"row {number}: {file} has no {name}" for file, name in named if name not in names_in(file)]
    assert not problems, "\n".join(problems)
