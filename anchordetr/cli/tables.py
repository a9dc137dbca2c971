"""Tables and JSON that commands print on stdout, and JSON that they write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from anchordetr.console import CONTROLS, plain, table_text
from anchordetr.disk import make_writable_folder
from anchordetr.files import require_replaceable, write_json

if TYPE_CHECKING:
    from anchordetr.metrics import Metrics

_ROWS = (
    ("AP", "0.50:0.95", "all", "100", "ap"),
    ("AP", "0.50", "all", "100", "ap50"),
    ("AP", "0.75", "all", "100", "ap75"),
    ("AP", "0.50:0.95", "small", "100", "ap_small"),
    ("AP", "0.50:0.95", "medium", "100", "ap_medium"),
    ("AP", "0.50:0.95", "large", "100", "ap_large"),
    ("AR", "0.50:0.95", "all", "1", "ar_1"),
    ("AR", "0.50:0.95", "all", "10", "ar_10"),
    ("AR", "0.50:0.95", "all", "100", "ar_100"),
    ("AR", "0.50:0.95", "small", "100", "ar_small"),
    ("AR", "0.50:0.95", "medium", "100", "ar_medium"),
    ("AR", "0.50:0.95", "large", "100", "ar_large"),
)


def print_metrics(metrics: Metrics, as_json: bool, most_classes: int = 100) -> None:
    """Print COCO's metrics, and AP and best threshold of each class; '-' where there are no objects."""
    values = metrics.to_dict()
    if as_json:
        print_json(values)
        return
    table = Table("metric", "IoU", "area", "max. detections", "value")
    for name, iou, area, limit, key in _ROWS:
        table.add_row(name, iou, area, limit, fraction(values[key]))
    shown, note = metrics.shown_classes(most_classes)
    classes = Table("class", "AP", "threshold", caption=note or None)
    for name, value in shown.items():
        classes.add_row(table_text(name), fraction(value), f"{metrics.class_thresholds.get(name, '-')}")
    console = Console()
    console.print(table)
    console.print(classes)
    best = f"{metrics.f1:.3f}, at a threshold of {metrics.threshold:g}" if metrics.f1 else "0, no object was found"
    print(f"Highest F1 of all classes together: {best}.")


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print a table with one fact per row."""
    table = Table("name", "value")
    for name, value in facts.items():
        table.add_row(table_text(name), f"{value:,}" if isinstance(value, int) else plain(str(value)))
    Console().print(table)


def print_json(content: Any) -> None:
    """Print indented JSON; control characters, which would act on the terminal, are escapes of JSON."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    print("\n".join(CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", line) for line in text.split("\n")))


def require_output(file: Path | None) -> None:
    """Check that ``--output`` can be written, before anything is measured; create its folder.

    Raises:
        WriteError: it cannot.
    """
    if file is not None:
        make_writable_folder(file.parent)
        require_replaceable(file)


def write_output(file: Path | None, content: Any) -> None:
    """Write JSON to ``--output``, if it was given; an existing file is replaced."""
    if file is not None:
        write_json(file, content)


def fraction(value: float) -> str:
    """Return a value with three decimals, or '-' if it is negative, which means undefined."""
    return "-" if value < 0 else f"{value:.3f}"
