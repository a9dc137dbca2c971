"""The option ``--help-settings`` and what it prints."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_settings() -> None:
    """Print every key of the configuration, one table for each section."""
    from anchordetr.config.table import section_titles, settings_table

    for section, title in section_titles().items():
        table = Table("key", "meaning", title=f"{section}: {title}", title_justify="left", show_lines=True)
        table.columns[0].no_wrap = True
        for setting in settings_table(section):
            meaning = f"{setting.description}\n{setting.values}; default {setting.default}"
            table.add_row(setting.key, Text(meaning.replace("`", "")))
        Console().print(table)


def _print_and_exit(asked: bool) -> None:
    if asked:
        print_settings()
        raise typer.Exit


HelpSettings = Annotated[
    bool,
    typer.Option(
        "--help-settings",
        is_eager=True,
        callback=_print_and_exit,
        help="Print all keys of --set and --config with their meaning, and exit.",
    ),
]
