"""The command ``anchordetr config``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anchordetr.cli import options
from anchordetr.cli.settings import HelpSettings
from anchordetr.cli.tables import print_json

if TYPE_CHECKING:
    from anchordetr.config import Config


def _print_page(asked: bool) -> None:
    if asked:
        from anchordetr.config.table import settings_page

        print(settings_page(), end="")
        raise typer.Exit


def show_config(
    model: Annotated[str, typer.Argument(help="A preset (see list-models), or the folder of a saved model or a run.")],
    recipe: options.Recipe = None,
    config: options.Config = None,
    set_: options.Set = None,
    plugin: options.Plugin = None,
    changes_only: Annotated[
        bool, typer.Option("--changes-only", help="Print only what differs from the preset anchordetr_r50_c5.")
    ] = False,
    json: options.Json = False,
    help_settings: HelpSettings = False,
    markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", is_eager=True, callback=_print_page, help="Print the page docs/settings.md, and exit."
        ),
    ] = False,
) -> None:
    """Print the complete configuration that train would use with the same options, as YAML for --config."""
    from anchordetr.config import to_yaml

    effective = _find(model).updated(options.changes(recipe, config, set_))
    values = effective.model_dump(mode="json", exclude_defaults=changes_only)
    print_json(values) if json else print(to_yaml(values), end="")


def _find(model: str) -> Config:
    """Return the configuration of a preset or of a folder.

    Raises:
        UsageError: there is no such preset or folder.
        InputError: the folder holds no model, or it is damaged.
    """
    from anchordetr.models.presets import PRESETS, preset

    if model not in PRESETS and Path(model).is_dir():
        from anchordetr.weights.pretrained import load_pretrained

        return load_pretrained(model).config
    return preset(model)
