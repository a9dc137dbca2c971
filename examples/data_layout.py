"""Read a data set in a layout of your own: one CSV file of boxes in the folder of each split.

python examples/data_layout.py path/to/pets --epochs 20

    pets/
      train/
        1.jpg  2.jpg ...
        _annotations.csv    filename,width,height,class,xmin,ymin,xmax,ymax
      valid/
        ...

Checks, messages, the doctor, held-out images and skipping of broken ones come with the base class. To use the layout
on the command line, put the class into an installed package (docs/extending.md): it is detected like any other.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from anchordetr import Detector
from anchordetr.config import parse_assignments
from anchordetr.data.layouts.base import FolderDataset, choose_split
from anchordetr.data.layouts.raw import RawSplit
from anchordetr.data.layouts.records import LabelledBox, LabelledImage, raw_split
from anchordetr.errors import InputError
from anchordetr.files import MEBIBYTE, read_text
from anchordetr.models.presets import preset
from anchordetr.registry import DATA_LAYOUTS

FILE = "_annotations.csv"


@DATA_LAYOUTS.register("csv")
class CsvDataset(FolderDataset):
    """One CSV file of boxes for each split, beside its images; classes are 1, 2, ... in alphabetical order."""

    @staticmethod
    def missing(path: Path) -> str | None:
        """Return what ``path`` lacks to be of this layout, or None: this is how the layout is detected."""
        return None if CsvDataset.splits(path) else f"no train/{FILE}"

    @classmethod
    def splits(cls, path: Path) -> dict[str, Path]:
        """Return the name of each split, with whatever :meth:`read` needs."""
        return {file.parent.name: file for file in sorted(path.glob(f"*/{FILE}"))}

    @classmethod
    def read(cls, path: Path, split: str) -> RawSplit:
        """Return the annotations of a split as they are written; the base class checks them."""
        files = cls.splits(path)
        file = choose_split(path, split, files)
        rows = {each: read_rows(each) for each in files.values()}
        names = sorted({row["class"] for of_file in rows.values() for row in of_file})  # the same ones for all splits
        ids = {name: number for number, name in enumerate(names, start=1)}
        boxes: dict[str, list[LabelledBox]] = {}
        for line, row in enumerate(rows[file], start=2):
            x1, y1, x2, y2 = (number(row[corner]) for corner in ("xmin", "ymin", "xmax", "ymax"))
            box = LabelledBox(ids[row["class"]], (x1, y1, x2 - x1, y2 - y1), f"{file.name} line {line}")
            boxes.setdefault(row["filename"], []).append(box)
        images = [LabelledImage(name, of_image) for name, of_image in boxes.items()]
        return raw_split(file, file.parent, {number: name for name, number in ids.items()}, images)


def read_rows(file: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file by column."""
    rows = list(csv.DictReader(io.StringIO(read_text(file, 1024 * MEBIBYTE))))
    if any(None in (*row, *row.values()) for row in rows) or not rows or "xmin" not in rows[0]:
        raise InputError(f"{file} must have the columns filename, class, xmin, ymin, xmax, ymax in every line.")
    return rows


def number(text: str) -> float:
    """Return a number, NaN for any other text: the base class names the annotation."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data set folder")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/csv"))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the configuration")
    arguments = parser.parse_args()

    config = preset("anchordetr_tiny").updated(parse_assignments(arguments.set))
    metrics = Detector(config).train(arguments.data, arguments.output_dir, overwrite=True, epochs=arguments.epochs)
    print(f"AP {metrics.ap:.3f}, classes: {', '.join(metrics.per_class)}")


if __name__ == "__main__":
    main()
