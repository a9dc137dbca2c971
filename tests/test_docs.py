"""Pages link to files and headings that exist, and name scripts and commands that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from anchordetr.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "anchordetr" / "rcda" / "README.md"]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", without_code(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            yield f"{page.relative_to(ROOT)} links to {target}, which does not exist"
        elif heading and heading not in headings(file):
            yield f"{page.relative_to(ROOT)} links to {target}, but the page has no such heading"


def test_links_lead_somewhere() -> None:
    broken = [problem for page in PAGES for problem in broken_links(page)]
    assert not broken, "\n".join(broken)


def test_named_scripts_exist() -> None:
    named = {
        (page, script)
        for page in PAGES
        for script in re.findall(r"\b(?:examples|benchmarks|tests)/[\w/]+\.py\b", text_of(page))
    }
    missing = [f"{page.relative_to(ROOT)} names {script}" for page, script in named if not (ROOT / script).is_file()]
    assert not missing, "\n".join(sorted(missing))


def test_the_index_lists_every_page() -> None:
    index = text_of(ROOT / "docs" / "index.md")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()


def commands(page: Path) -> Iterator[str]:
    """Yield the commands of a page's code blocks, and those in the text that have arguments, without comments."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith(("anchordetr ", "python -m anchordetr ")) and not line.startswith("anchordetr: "):
                yield line
    yield from re.findall(r"`(anchordetr [\w-]+ [^`\n]+)`", without_code(page))


def problem_of(line: str) -> str | None:
    """Return what the parser of the command line says against a command, which is not run."""
    arguments = shlex.split(re.sub(r"\[(--[^\]]*)\]", r"\1", line), comments=True)
    arguments = arguments[arguments.index("anchordetr") + 1 :]
    end = next((place for place, part in enumerate(arguments) if part in ("|", ">", "2>", "&&")), None)
    command = typer.main.get_command(app)
    try:
        arguments = arguments[:end]
        while hasattr(command, "commands"):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        command.make_context("anchordetr", arguments)
    except Exception as error:  # of the parser, whose class depends on typer's version
        kind = type(error).__name__
        return None if kind in ("MissingParameter", "Exit") else f"{kind}: {error}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_parts.py").touch()
    monkeypatch.chdir(tmp_path)
    problems = [f"{line}\n    {problem}" for line in commands(page) if (problem := problem_of(line))]
    assert not problems, "\n".join(problems)
