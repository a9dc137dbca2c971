"""The command ``anchordetr list-models``."""

from __future__ import annotations

from typing import Any

from anchordetr.cli import options
from anchordetr.cli.tables import print_json


def list_models(json: options.Json = False) -> None:
    """List the presets and their published COCO weights, which --weights downloads by name."""
    from rich.console import Console
    from rich.table import Table

    from anchordetr.models.presets import PRESETS
    from anchordetr.weights.zoo import PUBLISHED, is_cached

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "backbone": preset.model.backbone,
            "features": preset.model.features,
            "coco_ap": PUBLISHED[name].ap if name in PUBLISHED else None,
            "weights": PUBLISHED[name].url if name in PUBLISHED else None,
            "cached": name in PUBLISHED and is_cached(name),
        }
        for name, preset in sorted(PRESETS.items())
    ]
    if json:
        print_json(rows)
        return
    table = Table("name", "backbone", "features", "COCO AP", "weights")
    table.columns[0].no_wrap = True
    for row in rows:
        weights = "cached" if row["cached"] else "by name" if row["weights"] else "-"
        table.add_row(row["name"], row["backbone"], row["features"], str(row["coco_ap"] or "-"), weights)
    Console().print(table)
