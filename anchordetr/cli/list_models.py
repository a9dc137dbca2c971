"""The command ``anchordetr list-models``."""

from __future__ import annotations

from typing import Any

from anchordetr.cli import options
from anchordetr.cli.tables import print_json

_LEGEND = """
size     millions of weights, with 80 classes
GFLOPs   for one image of these pixels, height x width; a multiplication and an
         addition are two operations
CPU      time for an image on two cores: fast is up to a tenth of that of
         anchordetr_r50_dc5, medium up to its time, slow is more
COCO AP  of the weights that --weights downloads by this name, * once they are
         in the cache; - where there are none"""


def list_models(json: options.Json = False) -> None:
    """List the presets: size, operations, speed, COCO weights that --weights downloads by name, and what suits what."""
    from anchordetr.models.facts import FACTS
    from anchordetr.models.presets import PRESETS
    from anchordetr.weights.published import PUBLISHED, is_cached

    rows: list[dict[str, Any]] = []
    for name, preset in sorted(PRESETS.items()):
        facts, published = FACTS[name], PUBLISHED.get(name)
        rows.append(
            {
                "name": name,
                "backbone": preset.model.backbone,
                "features": preset.model.features,
                "parameters": facts.parameters,
                "flops": facts.flops,
                "height": preset.data.short_side,
                "width": preset.data.long_side,
                "latency": facts.latency,
                "relative_latency": facts.relative_latency,
                "coco_ap": published.ap if published else None,
                "weights": published.url if published else None,
                "cached": published is not None and is_cached(name),
                "best_for": facts.best_for,
            }
        )
    print_json(rows) if json else _print_table(rows)


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for title in ("name", "size", "GFLOPs", "pixels", "CPU", "COCO AP"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("size", "GFLOPs", "pixels") else "left")
    table.add_column("best for")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.1f}",
            f"{row['flops'] / 1e9:.{0 if row['flops'] >= 1e10 else 1}f}",
            f"{row['height']}x{row['width']}",
            row["latency"],
            f"{row['coco_ap']:.3f}{'*' if row['cached'] else ''}" if row["weights"] else "-",
            row["best_for"],
        )
    Console().print(table)
    print(_LEGEND)
