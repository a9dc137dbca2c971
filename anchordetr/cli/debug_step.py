"""The command ``anchordetr debug-step``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anchordetr.cli import options
from anchordetr.cli.tables import print_facts, print_json


def debug_step(
    file: Annotated[
        Path, typer.Argument(help="The bad_step.pt of a run that stopped because a loss or gradient was not finite.")
    ],
    plugin: options.Plugin = None,
    json: options.Json = False,
) -> None:
    """Run a saved training step again, and show the first module whose output is not finite."""
    from anchordetr.files import require_regular_file
    from anchordetr.training.debug_step import debug_step as run_again

    require_regular_file(file)
    steps = run_again(file)
    if json:
        print_json(steps)
        return
    for step in steps:
        print_facts({name: value if value else "none" for name, value in step.items()})
