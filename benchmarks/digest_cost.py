"""Time of loading a ResNet-50 model of random weights, with and without the check of its digests.

python benchmarks/digest_cost.py    # half a minute
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from anchordetr import Detector
from anchordetr.models.presets import preset
from anchordetr.weights import tensor_file


def load_seconds(folder: Path) -> float:
    """Return the time of one load."""
    start = time.perf_counter()
    Detector.from_pretrained(folder, device="cpu")
    return time.perf_counter() - start


def load_seconds_unchecked(folder: Path) -> float:
    """Return the time of one load without the check."""
    with patch.multiple(tensor_file, _digests=lambda *_: {}, _check_digests=lambda *_: None):
        return load_seconds(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="anchordetr_r50_dc5")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    config = preset(options.model).updated({"model.pretrained_backbone": False})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Detector(config, device="cpu").save_pretrained(folder)
        load_seconds(folder)
        times = [(load_seconds(folder), load_seconds_unchecked(folder)) for _ in range(options.rounds)]
    checked, unchecked = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
    print(f"with the check {checked:.0f} ms, without {unchecked:.0f} ms (medians of {options.rounds})")


if __name__ == "__main__":
    main()
